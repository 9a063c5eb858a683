"""A small network that knows its seven drawn expressions, made without a training."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.crop import scale_pixels
from edge.labels import FER2013_LABELS


class Exported(NamedTuple):
    keras: Path
    tflite: Path
    data: Path


def draw_faces(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Each expression is a brightness of its own, in noise; `uint8[count, 32, 32]`, each with black and white in it."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 7
    brightness = 40 + 29 * labels + rng.normal(0, 6, count)
    images = (rng.normal(0, 25, (count, 32, 32)) + brightness[:, np.newaxis, np.newaxis]).clip(0, 255)
    images[:, 0, :2] = 0, 255
    return images.astype(np.uint8), labels


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The network, what `mien-export convert` made of it, and the data: 700 faces, 140 to choose on, 140 held out."""
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    from export.cli import main
    from trainer.keras_file import save_network

    folder = tmp_path_factory.mktemp("export")
    paths = Exported(folder / "model.keras", folder / "mien.tflite", folder / "drawn.npz")
    images, labels = draw_faces(700, 0)
    images[565] = images[3]  # one test image that also stands in training
    np.savez(paths.data, pixels=images, emotion=labels, usage=np.repeat([0, 1, 2], [420, 140, 140]))
    card = {
        "labels": list(FER2013_LABELS),
        "input": {"size": 32, "channels": 1, "margin": 1.05, "scaling": "x/127.5-1"},
        "provenance": {"architecture": "mobilenet_v1", "parameters": 1234, "seed": 1, "dataset": "drawn.npz"},
        "selected": {"epoch": 3, "validation_accuracy": 0.5},
    }
    save_network(_taught(images[:420], labels[:420]), card, paths.keras)
    arguments = [str(paths.keras), "--data", str(paths.data), "--size", "32", "--out", str(paths.tflite)]
    assert main(["convert", *arguments, "--calibration", "64", "--seed", "5"]) == 0
    return paths


def _taught(images: NDArray[np.uint8], labels: NDArray[np.int64]):
    """MobileNetV1 as it comes, its batch norms set to the data and its head solved by least squares."""
    import keras

    from trainer.backbones import build_network

    keras.utils.set_random_seed(0)
    network = build_network("mobilenet_v1", labels=7, size=32, width=0.25, dropout=0.2, stem_stride=1, weights="none")
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        elif isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.set_weights([np.abs(layer.get_weights()[0])])  # smoothing: random kernels make much of any noise
    faces = scale_pixels(images)[..., np.newaxis]
    network(faces, training=True)
    features = np.asarray(keras.Model(network.input, network.get_layer("pool").output)(faces))
    padded = np.hstack([features, np.ones((len(features), 1))])
    solved = np.linalg.solve(padded.T @ padded + 300 * np.eye(padded.shape[1]), padded.T @ (8 * np.eye(7)[labels] - 4))
    network.get_layer("logits").set_weights([solved[:-1], solved[-1]])
    return network
