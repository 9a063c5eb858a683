"""How good a network is, in the field's terms; numbers only, pictures are `trainer.report`'s."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from edge.crop import scale_pixels
from edge.errors import BadDataError
from trainer import keras_file
from trainer.datasets import Split
from trainer.readers import Progress

if TYPE_CHECKING:
    from edge.model import Model


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One network's answers on one split, counted.

    Attributes:
        labels: class names.
        count: number of images.
        accuracy, macro_f1: 0 to 1.
        interval: half width of the accuracy's 95 % interval at this count, Wilson's (1927): not 0 where all is right.
        accuracy_without_copies: on the images that have no exact copy in the training split, or None where not asked.
        precision, recall, f1: `float[n_labels]`; support: `int[n_labels]`, images of each class.
        confusion: `int[n_labels, n_labels]`, rows are the truth.
    """

    labels: tuple[str, ...]
    count: int
    accuracy: float
    macro_f1: float
    interval: float
    accuracy_without_copies: float | None
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]
    confusion: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "count": self.count,
            "accuracy": round(self.accuracy, 5),
            "interval_95": round(self.interval, 5),
            "accuracy_without_copies": None
            if self.accuracy_without_copies is None
            else round(self.accuracy_without_copies, 5),
            "macro_f1": round(self.macro_f1, 5),
            "classes": {
                label: {
                    "precision": round(float(self.precision[i]), 5),
                    "recall": round(float(self.recall[i]), 5),
                    "f1": round(float(self.f1[i]), 5),
                    "support": int(self.support[i]),
                }
                for i, label in enumerate(self.labels)
            },
            "confusion": self.confusion.tolist(),
        }


@dataclass(frozen=True, eq=False)
class Classifier:
    """An opened `.keras` or `.tflite` network.

    Attributes:
        path: its file.
        labels: in the order of its outputs.
        arithmetic: `int8`, or whatever else it computes in.
        temperature: what the file itself says its logits are to be divided by; None where it does not.
        thresholds: from which calibrated confidence on it names each label; None where the file does not say.
        card: `mien.json`; empty for a foreign model.
        logits: `(images uint8[n, size, size], progress) -> float32[n, n_labels]`; `progress` is told of faces done and
            their number, of a `.keras` network's only at the end.
    """

    path: Path
    labels: tuple[str, ...]
    arithmetic: str
    temperature: float | None
    thresholds: Mapping[str, float] | None
    card: Mapping[str, Any]
    logits: Callable[[NDArray[np.uint8], Progress | None], NDArray[np.float32]]


def open_classifier(path: Path, labels: tuple[str, ...], size: int) -> Classifier:
    """Open a network for faces of `size` pixels with these `labels`.

    Raises:
        InputNotFoundError: there is no such file, or it cannot be read.
        BadDataError: it is no network, or its labels or size are not the data set's.
        UnavailableError: a `.tflite` without an interpreter.
    """
    if path.suffix == ".tflite":
        from edge.model import open_model  # an interpreter is not needed to train

        model = open_model(path)
        refuse_mismatch(path, model.labels, labels, model.input_size, size, len(model.labels))
        arithmetic = model.raw(np.zeros((size, size), np.uint8)).dtype.name
        card = model.card
        return Classifier(
            path,
            labels,
            arithmetic,
            None if card is None else card.temperature,
            None if card is None else {label: card.thresholds.get(label, 0.0) for label in labels},
            {} if card is None else card.content,
            lambda images, progress: _tflite_logits(model, images, progress),
        )
    network, known = keras_file.load_network(path)
    refuse_mismatch(
        path, tuple(known.get("labels", labels)), labels, network.input_shape[1], size, network.output_shape[-1]
    )

    def logits(images: NDArray[np.uint8], progress: Progress | None) -> NDArray[np.float32]:
        found = _keras_logits(network, images)
        if progress:
            progress(len(images), len(images))
        return found

    return Classifier(path, labels, "float", None, None, known, logits)


def network_logits(
    path: Path, split: Split, labels: tuple[str, ...], *, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Logits `float32[n, n_labels]` of a `.keras` or `.tflite` network on `split`.

    `progress` is told of faces done and their number; of a `.keras` network's only at the end.

    Raises:
        MienError: see `open_classifier`.
    """
    return open_classifier(path, labels, split.images.shape[1]).logits(split.images, progress)


def predict(network: Any, split: Split) -> NDArray[np.float32]:
    """Logits `float32[n, n_labels]` of an opened Keras network."""
    return _keras_logits(network, split.images)


def _keras_logits(network: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    faces = scale_pixels(images)[..., np.newaxis]
    return np.asarray(network.predict(faces, batch_size=256, verbose=0), dtype=np.float32)


def tflite_logits(model: Model, split: Split) -> NDArray[np.float32]:
    """Logits `float32[n, n_labels]` of an opened TFLite model, one face after the other as on the Pi."""
    return _tflite_logits(model, split.images, None)


def _tflite_logits(model: Model, images: NDArray[np.uint8], progress: Progress | None) -> NDArray[np.float32]:
    logits = []
    for number, image in enumerate(images, start=1):
        logits.append(model.logits(image))
        if progress and (number % 32 == 0 or number == len(images)):
            progress(number, len(images))
    return np.stack(logits)


def refuse_mismatch(
    path: Path, known: tuple[str, ...], labels: tuple[str, ...], size: int, images: int, outputs: int
) -> None:
    """Raise BadDataError where a network and a data set do not go together."""
    if known != labels or outputs != len(labels):
        extra = [label for label in labels if label not in known]
        fits = outputs == len(known) and known == tuple(label for label in labels if label in known)
        advice = f"; give --drop {','.join(extra)}" if extra and fits else ""
        if set(labels) < set(known):
            advice = "; leave --drop out, or name a network that was trained with it"
        raise BadDataError(f"{path}: knows the labels {', '.join(known)}; the data set has {', '.join(labels)}{advice}")
    if size != images:
        raise BadDataError(f"{path}: wants faces of {size} px, the data set was read at {images}; give --size {size}")


def evaluate(
    logits: NDArray[np.float32],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    *,
    copied: NDArray[np.bool_] | None = None,
) -> Evaluation:
    """Count `logits` `float32[n, n_labels]` against `truth` `int64[n]`."""
    guess = logits.argmax(axis=1)
    right = guess == truth
    numbers = np.arange(len(labels))
    precision, recall, f1, _ = precision_recall_fscore_support(truth, guess, labels=numbers, zero_division=0)
    accuracy = float(right.mean())
    limits = binomtest(int(right.sum()), len(right)).proportion_ci(method="wilson")
    return Evaluation(
        labels=labels,
        count=len(truth),
        accuracy=accuracy,
        macro_f1=float(f1.mean()),
        interval=(limits.high - limits.low) / 2,
        accuracy_without_copies=None if copied is None or copied.all() else float(right[~copied].mean()),
        precision=precision,
        recall=recall,
        f1=f1,
        support=np.bincount(truth, minlength=len(labels)),  # scikit-learn's are floats where nothing is right
        confusion=confusion_matrix(truth, guess, labels=numbers),
    )
