"""Trained networks, to go on from or to learn from: `.keras` files and what `mien-export` makes of them.

What ships is a `.tflite` alone. Its batch norms are folded into its convolutions, and its kernels are rounded to int8;
so it is rebuilt with norms that pass everything on, which `trainer.batch_norm.restate` then gives statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face
from edge.errors import BadDataError, UsageError
from edge.frame import Box
from edge.interpreter import make_interpreter
from edge.modelcard import ModelCard, provenance_of
from edge.modelfile import read_model_file
from trainer import keras_file
from trainer.backbones import BACKBONES, SCRATCH, build_network
from trainer.batch_norm import reestimate, restate
from trainer.folding import norms_behind_convolutions
from trainer.settings import V1_BLOCKS
from trainer.slimming import slim

_SHAPE = ("width", "blocks", "stem_stride", "last_stride")
"""What of a training's settings makes its network's shape, beside the backbone."""
_LEAST = {"width": 0.1}
_LARGEST = {"width": 2.0, "blocks": V1_BLOCKS, "stem_stride": 2, "last_stride": 2}
_WEIGHTY = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_OPERATORS = {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}
_TO_KERAS = {2: (1, 0), 4: (1, 2, 3, 0)}
"""A kernel's axes: TensorFlow Lite's first one is Keras's last."""

Array = NDArray[np.float32]


def open_trained(path: Path) -> tuple[keras.Model, dict[str, Any]]:
    """A network and its card, as `trainer.keras_file.load_network` gives them.

    Raises:
        InputNotFoundError, BadDataError: it is not there, is damaged, or is a `.tflite` that `mien-export` did not
            write.
        UnavailableError: a `.tflite` without an interpreter.
    """
    return _rebuild(path) if path.suffix == ".tflite" else keras_file.load_network(path)


def name_of(path: Path) -> str:
    """What a network's file is called: `mien-train fit` calls all of its own alike, so with the run's folder."""
    return f"{path.resolve().parent.name}/{path.name}" if path.stem == "model" else path.name


def read_card(path: Path) -> dict[str, Any]:
    """The card alone, as a `.keras` file has it."""
    return _card(path, read_model_file(path).card) if path.suffix == ".tflite" else keras_file.read_card(path)


def start_from(path: Path, network: keras.Model, faces: NDArray[np.uint8], labels: Sequence[str]) -> None:
    """Give a network the weights of one that is trained: all of them, or where it is narrower the most important ones.

    Args:
        path: a `.keras` or `.tflite` file.
        network: gets the weights.
        faces: `uint8[n, size, size]` to set batch norms by; one or two thousand are enough.
        labels: in the order of the network's outputs. Those that the file does not know begin anew, and so do all
            behind another block.

    Raises:
        UsageError: the network is neither the same nor a narrower one.
        MienError: see `open_trained`.
    """
    wide, card = open_trained(path)
    if path.suffix == ".tflite":
        restate(wide, _resized(faces, wide.input_shape[1]))
    known = card.get("labels")
    try:
        slim(wide, network, known and [known.index(label) if label in known else None for label in labels])
    except UsageError as error:
        raise UsageError(f"{error}. {name_of(path)} is of {_options(provenance_of(card))}") from error
    reestimate(network, faces)  # where channels were left out, other sums come in


def _options(told: Mapping[str, Any]) -> str:
    """What to ask `mien-train fit` for to get a network of the same shape."""
    shape = told.get("settings", {})
    words = [f"--{name.replace('_', '-')} {shape[name]}" for name in _SHAPE if name in shape]
    return " ".join([f"--backbone {told.get('architecture', 'not told')}", *words])


def _resized(faces: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if faces.shape[1] == size:
        return faces
    return np.stack([crop_face(face, Box(0, 0, *face.shape[::-1]), size) for face in faces])


def _card(path: Path, card: ModelCard | None) -> dict[str, Any]:
    if card is None:
        raise BadDataError(
            f"{path}: does not tell what network it is; name a model that mien-export wrote, or a .keras file"
        )
    provenance = provenance_of(card.content)
    return {
        "labels": list(card.labels),
        "input": card.content.get("input", {}),
        "selected": provenance.pop("selected", {}),
        "provenance": provenance,
    }


def _rebuild(path: Path) -> tuple[keras.Model, dict[str, Any]]:
    file = read_model_file(path)
    card = _card(path, file.card)
    backbone, shape = card["provenance"].get("architecture"), _shape(card["provenance"].get("settings"))
    if backbone not in list(BACKBONES) or shape is None or card["input"].get("scaling") != "x/127.5-1":
        raise BadDataError(f"{path}: its card does not tell its network's shape; name the .keras file it was made of")
    try:
        network = build_network(
            backbone, labels=len(card["labels"]), size=card["input"]["size"], dropout=0.0, weights=SCRATCH, **shape
        )
        _fill(network, _read_weights(file.flatbuffer))
    except (ValueError, KeyError) as error:  # what Keras and the interpreter say of what they do not take
        raise BadDataError(
            f"{path}: its network is not the {backbone} that its card tells of ({' '.join(str(error).split())[:200]}); "
            "export it again"
        ) from error
    return network, card


def _fill(network: keras.Model, weights: list[tuple[Array, Array]]) -> None:
    """Set kernels, and biases where batch norms stand behind them."""
    layers = [layer for layer in network.layers if isinstance(layer, _WEIGHTY)]
    norms = norms_behind_convolutions(network)
    for layer, (kernel, bias) in zip(layers, weights, strict=True):
        if layer.use_bias:
            layer.set_weights([kernel, bias])
        else:
            layer.set_weights([kernel])
            norm = norms[layer.name]
            norm.set_weights([np.ones_like(bias), bias, np.zeros_like(bias), np.full_like(bias, 1 - norm.epsilon)])


def _shape(settings: Any) -> dict[str, Any] | None:
    """What `build_network` is to be told; None where the card does not tell or asks for something outlandish."""
    if not isinstance(settings, dict):
        return None
    shape = {key: settings[key] for key in _SHAPE if key in settings}
    plain = all(
        type(value) in ((int, float) if key == "width" else (int,)) and _LEAST.get(key, 1) <= value <= _LARGEST[key]
        for key, value in shape.items()
    )
    return shape if plain and {"width", "stem_stride"} <= shape.keys() else None


def _read_weights(flatbuffer: bytes) -> list[tuple[Array, Array]]:
    """Each layer's kernel and bias in the order in which they run, as Keras has them."""
    interpreter: Any = make_interpreter(flatbuffer)
    tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
    weights = []
    for operator in interpreter._get_ops_details():  # noqa: SLF001  # both interpreters have no public way
        if operator["op_name"] in _OPERATORS:
            _, *constants = operator["inputs"]
            kernel, bias = (_real(interpreter.get_tensor(index), tensors[index]) for index in constants)
            weights.append((kernel.transpose(_TO_KERAS[kernel.ndim]), bias))
    return weights


def _real(elements: NDArray[Any], details: Mapping[str, Any]) -> Array:
    """A constant's numbers: (element - zero point) * scale, each for its channel."""
    told = details["quantization_parameters"]
    scales, zeros, axis = told["scales"], told["zero_points"], told["quantized_dimension"]
    if not len(scales):  # a model in float
        return elements.astype(np.float32)
    shape = [-1 if number == axis else 1 for number in range(elements.ndim)] if len(scales) > 1 else [1]
    return ((elements.astype(np.float64) - zeros.reshape(shape)) * scales.reshape(shape)).astype(np.float32)
