"""One `.tflite` classifier: opened, tested, and asked what a face shows.

Mien's own models are int8, take one grey face and answer in logits; what they need to know stands in their `mien.json`.
A foreign classifier is read by its tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.commandline import printable
from edge.crop import crop_face, scale_pixels
from edge.errors import BadDataError, LabelsError
from edge.frame import Box
from edge.interpreter import Interpreter, make_interpreter
from edge.labels import check_labels
from edge.modelcard import MAX_SIZE, ModelCard, OutputKind, Scaling
from edge.modelfile import ModelFile, find_model, read_model_file

MAX_STEPS_OFF = 2
"""How far a logit may be from the self-test's, in steps of the output tensor: processors round differently."""

SUM_TOLERANCE = 0.05

MOST_POWER = 600.0
"""The exponential function's `float64` ends at 709."""

TYPES = ("uint8", "int8", "float32")


def open_model(path: Path | None = None, *, labels: Sequence[str] | None = None, threads: int = 1) -> Model:
    """Open a model file and run its self-test.

    Args:
        path: see `find_model`.
        labels: names of the outputs, for a foreign model that holds none or the wrong ones.
        threads: CPU threads for one inference.

    Raises:
        InputNotFoundError: the file is not there or cannot be read.
        BadDataError: it is cut short, altered, no face classifier, has no labels or the wrong number of them, or fails
            its self-test.
        UnavailableError: no interpreter is installed, or none works.
    """
    return Model(read_model_file(find_model(path)), labels=labels, threads=threads)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model.

    Attributes:
        index: its number in the interpreter.
        shape: all dimensions, the batch first.
        dtype: of its elements, one of `TYPES`.
        scale: real value = scale * (element - zero_point); 0.0 where the tensor is not quantised.
        zero_point: see scale.
    """

    index: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int

    def quantize(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Real values to the tensor's type, rounded half away from zero as TensorFlow Lite's QUANTIZE does."""
        if self.scale == 0.0:
            return values.astype(self.dtype)
        steps = values / np.float32(self.scale)
        limits = np.iinfo(self.dtype)
        rounded: NDArray[np.float32] = np.trunc(steps + np.copysign(np.float32(0.5), steps)) + self.zero_point
        return np.clip(rounded, limits.min, limits.max).astype(self.dtype)

    def dequantize(self, elements: NDArray[Any]) -> NDArray[np.float32]:
        """The tensor's elements to real values."""
        if self.scale == 0.0:
            return elements.astype(np.float32)
        return (elements.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)


class Model:
    """An opened classifier. Not to be shared between threads.

    Attributes:
        labels: in the order of the scores.
        name: the card's name, "@" and the first 8 digits of the file's SHA-256; a foreign model's file name.
        input_size: side in pixels of the face that goes in.
        channels: 1 (grey) or 3 (colour).
        margin: side of the face crop over the longer side of the face's box.
        thresholds: least score to name a label; labels without one are not in it.
        card: the checked `mien.json`; None for a foreign model.
    """

    def __init__(self, file: ModelFile, *, labels: Sequence[str] | None = None, threads: int = 1) -> None:
        """Build the interpreter and test it; see `open_model`.

        Args:
            file: the checked file.
            labels: see `open_model`.
            threads: CPU threads for one inference.
        """
        try:
            self._interpreter = make_interpreter(file.flatbuffer, threads)
        except ValueError as error:
            raise BadDataError(f"{file.name}: {error}; export the model again, or use another") from None
        self._input, self._output = _only_tensors(self._interpreter, file.name)
        card = file.card
        self.card: ModelCard | None = card
        self.input_size, self.channels = _face_shape(self._input, file.name)
        self.labels = _choose_labels(file, labels, math.prod(self._output.shape))
        self.name = printable(Path(file.name).stem) if card is None else f"{card.name}@{file.sha256[:8]}"
        self.margin = 1.0 if card is None else card.margin
        self.thresholds: Mapping[str, float] = {} if card is None else card.thresholds
        self._temperature = np.float32(1.0 if card is None else card.temperature)
        self._pixels = pixel_table(self._input, None if card is None else card.scaling)
        self._kind: OutputKind = self._guess_kind(file.name) if card is None else card.output
        # A quantised model knows 256 logits only; what softmax raises each to is looked up.
        self._powers = power_table(self._output, float(self._temperature)) if self._kind == "logits" else None
        if card is not None:
            self._check_card(card, file.name)

    def raw(self, face: NDArray[np.uint8]) -> NDArray[Any]:
        """What the output tensor holds for a face.

        Args:
            face: `uint8[S, S]` or `uint8[S, S, 3]` (B, G, R), S being `input_size`.

        Returns:
            `int8[n]`, `uint8[n]` or `float32[n]`, not dequantised.

        Raises:
            ValueError: another shape or type.
        """
        side = self.input_size
        if face.dtype != np.uint8 or face.shape not in {(side, side), (side, side, 3)}:
            raise ValueError(f"a face of uint8[{side}, {side}] or uint8[{side}, {side}, 3] is needed, not {face.shape}")
        if self.channels == 3:
            face = cv2.cvtColor(face, cv2.COLOR_GRAY2RGB if face.ndim == 2 else cv2.COLOR_BGR2RGB)  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
        elif face.ndim == 3:
            face = cv2.cvtColor(face, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]  # as above
        self._interpreter.set_tensor(self._input.index, self._pixels[face].reshape(self._input.shape))
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self._output.index).reshape(-1)

    def logits(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A face's logits `float32[n]`, dequantised; a model that answers in probabilities: their logarithms.

        Args:
            face: see `raw`.

        Raises:
            ValueError: another shape or type.
        """
        values = self._output.dequantize(self.raw(face))
        if self._kind == "probabilities":
            return np.log(np.maximum(values, np.finfo(np.float32).tiny))
        return values

    def classify_face(self, face: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A face's calibrated probabilities `float32[n]`, which sum to 1.

        Args:
            face: see `raw`.

        Raises:
            ValueError: another shape or type.
        """
        if self._powers is None:
            return softmax(self.logits(face) / self._temperature)
        raised = self._powers[self.raw(face).view(np.uint8)]
        return (raised / raised.sum()).astype(np.float32)  # type: ignore[no-any-return]  # numpy's sum is Any

    def classify(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        """Crop a face out of a picture and classify it.

        Args:
            image: `uint8[H, W]` or `uint8[H, W, 3]` (B, G, R).
            box: the face; must overlap the picture.

        Returns:
            `float32[n]`, calibrated probabilities that sum to 1.

        Raises:
            ValueError: the box lies outside the picture.
        """
        if self.channels == 1 and image.ndim == 3:
            # Before the crop, so that a frame gives the same scores whether or not it carries colour.
            image = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]  # as in raw
        return self.classify_face(crop_face(image, box, self.input_size, self.margin))

    def _check_card(self, card: ModelCard, name: str) -> None:
        if (card.size, card.channels) != (self.input_size, self.channels):
            raise BadDataError(
                f"{name}: mien.json speaks of {card.size} x {card.size} x {card.channels} and the model takes "
                f"{self.input_size} x {self.input_size} x {self.channels}; export the model again"
            )
        if card.self_test is None:
            return
        if self._output.scale == 0.0:
            raise BadDataError(f"{name}: mien.json: self_test: needs a quantised output; export the model in int8")
        shape = (card.size, card.size) if card.channels == 1 else (card.size, card.size, 3)
        got = self.raw(np.frombuffer(card.self_test.face, np.uint8).reshape(shape)).astype(int)
        off = np.abs(got - np.array(card.self_test.outputs))
        if off.max() > MAX_STEPS_OFF:
            worst = int(off.argmax())
            raise BadDataError(
                f"{name}: the self-test fails: {self.labels[worst]!r} comes out as {got[worst]} instead of "
                f"{card.self_test.outputs[worst]} (at most {MAX_STEPS_OFF} steps are rounding); copy the file again, "
                "or try the other interpreter"
            )

    def _guess_kind(self, name: str) -> OutputKind:
        """Probabilities where the outputs for a few test pictures all sum to 1."""
        side = self.input_size
        ramp = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
        noise = np.random.default_rng(0).integers(0, 256, (side, side), np.uint8)
        probes = [np.zeros_like(ramp), np.full_like(ramp, 255), ramp, ramp.T.copy(), noise]
        outputs = np.array([self._output.dequantize(self.raw(probe)) for probe in probes])
        if not np.isfinite(outputs).all():
            raise BadDataError(f"{name}: the model answers with values that are not finite; export it again")
        rounding = outputs.shape[1] * self._output.scale / 2
        slack = min(1e-3 + rounding, SUM_TOLERANCE)
        sums = bool((np.abs(outputs.sum(axis=1) - 1.0) <= slack).all())
        return "probabilities" if sums and bool((outputs >= -slack).all()) else "logits"


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """`float32[n]` to probabilities `float32[n]` that sum to 1, without overflow."""
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()  # type: ignore[no-any-return]  # numpy's sum is Any


def power_table(tensor: Tensor, temperature: float) -> NDArray[np.float64] | None:
    """What softmax raises each logit to, up to a common factor.

    Args:
        tensor: the output.
        temperature: the logits are divided by it.

    Returns:
        `float64[256]`, by the element's bits as `uint8`; None for a tensor that is not quantised, or in steps so large
        that the powers do not fit into a float.
    """
    step = tensor.scale / temperature
    if tensor.scale == 0.0 or 255 * step > MOST_POWER:
        return None
    elements = np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.float64)
    powers: NDArray[np.float64] = np.exp((elements - elements.max()) * step)
    return powers


def pixel_table(tensor: Tensor, scaling: Scaling | None) -> NDArray[Any]:
    """What each pixel value 0..255 becomes in the input tensor.

    Args:
        tensor: the input.
        scaling: how the network was trained; None: not told. Then float is `x/127.5-1`; uint8 takes pixels as they
            are, as TensorFlow Lite has it; int8 is `x/127.5-1` too unless its range holds no negative number.

    Returns:
        An array of 256 elements of the tensor's type.
    """
    pixels = np.arange(256, dtype=np.uint8)
    if scaling is None and tensor.dtype == np.uint8:
        return pixels
    if scaling is None and tensor.dtype == np.int8:
        low, high = tensor.dequantize(np.array([-128, 127], np.int8))
        scaling = "x/127.5-1" if low < -0.1 else "x/255" if high < 2.0 else "x"
    if scaling == "x/255":
        return tensor.quantize(pixels.astype(np.float32) / np.float32(255.0))
    if scaling == "x":
        return tensor.quantize(pixels.astype(np.float32))
    return tensor.quantize(scale_pixels(pixels))


def _only_tensors(interpreter: Interpreter, name: str) -> tuple[Tensor, Tensor]:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise BadDataError(
            f"{name}: {len(inputs)} inputs and {len(outputs)} outputs; a classifier of faces has one of each"
        )
    return _tensor(inputs[0], f"{name}: its input"), _tensor(outputs[0], f"{name}: its output")


def _tensor(details: Mapping[str, Any], what: str) -> Tensor:
    dtype = np.dtype(details["dtype"])
    if dtype.name not in TYPES:
        raise BadDataError(f"{what} is {dtype.name}; Mien runs {', '.join(TYPES)}")
    scale, zero_point = details["quantization"]
    if dtype == np.float32:
        scale, zero_point = 0.0, 0
    elif not (np.isfinite(scale) and scale > 0.0):
        raise BadDataError(f"{what} is {dtype.name} without a scale; export the model with full-integer quantisation")
    return Tensor(
        index=int(details["index"]),
        shape=tuple(int(side) for side in details["shape"]),
        dtype=dtype,
        scale=float(scale),
        zero_point=int(zero_point),
    )


def _face_shape(tensor: Tensor, name: str) -> tuple[int, int]:
    """Side and channels of the face that goes in."""
    shape = tensor.shape
    good = len(shape) == 4 and shape[0] == 1 and shape[1] == shape[2] and shape[3] in {1, 3} and shape[1] <= MAX_SIZE
    if not good:
        raise BadDataError(
            f"{name}: the input is {'x'.join(map(str, shape))}; one square face is needed, grey (1xSxSx1) or colour "
            f"(1xSxSx3), at most {MAX_SIZE} pixels wide"
        )
    return shape[1], shape[3]


def _choose_labels(file: ModelFile, given: Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    labels = check_labels(given, "the labels given") if given else file.labels
    if labels is None:
        raise BadDataError(
            f"{file.name}: the model holds no labels; give them in the order of its {outputs} outputs, with "
            "--labels angry,happy,… or model.labels in the configuration"
        )
    if file.card is not None and labels != file.card.labels:
        raise LabelsError(
            f"{file.name}: the model has labels of its own ({', '.join(file.card.labels)}); leave the given ones out"
        )
    if len(labels) != outputs:
        raise (LabelsError if given else BadDataError)(
            f"{file.name}: {len(labels)} labels for {outputs} outputs; give one for each output, in their order"
        )
    return labels
