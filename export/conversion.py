"""From a trained `.keras` to the one file that the daemon opens: quantised, calibrated, self-tested, described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.model import Model
from edge.modelcard import provenance_of
from edge.modelfile import parse_model_file
from export.metadata import add_self_test, pack
from export.quantization import quantize, representative_faces
from trainer import keras_file
from trainer.calibration import fit_temperature, probabilities
from trainer.datasets import Dataset
from trainer.evaluation import refuse_mismatch, tflite_logits
from trainer.thresholds import PRECISION, fit_thresholds, name_sure


def convert(
    keras_path: Path,
    dataset: Dataset,
    *,
    name: str | None = None,
    calibration: int = 512,
    seed: int = 0,
    precision: float = PRECISION,
    command: str,
) -> bytes:
    """Quantise `keras_path`, fit temperature and thresholds on the validation split, add self-test and card.

    Args:
        keras_path: a network that `mien-train fit` wrote.
        dataset: calibration faces come from its training split, temperature and thresholds from its validation split.
        name: what the model is called; made from architecture and size where not given.
        calibration: number of representative faces; all where there are fewer.
        seed: chooses them.
        precision: see `trainer.thresholds.fit_thresholds`.
        command: the command that repeats this, for the card.

    Returns:
        The model file's bytes.

    Raises:
        InputNotFoundError, BadDataError: the network is not there, is damaged, or does not fit the data set.
    """
    network, trained = keras_file.load_network(keras_path)
    labels = tuple(trained.get("labels", dataset.labels))
    size = int(network.input_shape[1])
    refuse_mismatch(keras_path, labels, dataset.labels, size, dataset.train.images.shape[1], network.output_shape[-1])
    representative = representative_faces(dataset.train.images, calibration, seed)
    flatbuffer = quantize(network, representative)
    provenance = provenance_of(trained)
    provenance |= {"selected": trained["selected"]} if "selected" in trained else {}
    card: dict[str, Any] = {
        "name": name or _name(provenance, size),
        "labels": list(labels),
        "input": trained.get("input", {"size": size, "channels": 1, "margin": dataset.margin, "scaling": "x/127.5-1"}),
        "output": {"kind": "logits", "temperature": 1.0},
        "thresholds": {},
        "provenance": provenance | {"export_command": command, "calibration_faces": len(representative)},
        "accuracy": {},
    }
    bare = Model(parse_model_file(pack(flatbuffer, card), str(keras_path)))
    logits, truth = tflite_logits(bare, dataset.validation), dataset.validation.labels
    card["output"]["temperature"] = fit_temperature(logits, truth)
    shares = probabilities(logits, card["output"]["temperature"])
    card["thresholds"] = fit_thresholds(shares, truth, labels, precision=precision)
    card["provenance"]["thresholds"] = {
        "precision": precision,
        **name_sure(shares, truth, card["thresholds"]).to_dict(),
    }
    return pack(flatbuffer, add_self_test(flatbuffer, card))


def _name(provenance: dict[str, Any], size: int) -> str:
    short = {"mobilenet_v1": "v1", "mobilenet_v2": "v2"}.get(str(provenance.get("architecture")), "custom")
    return f"mien-{short}-{size}"
