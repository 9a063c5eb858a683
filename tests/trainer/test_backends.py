"""The same training, with a teacher, on every backend that Keras has and this machine has too."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.trainer

FIT = """
import sys
from dataclasses import replace
from pathlib import Path
import keras
from trainer import training
from trainer.datasets import load_dataset
from trainer.settings import Settings

def small_network(backbone, *, labels, size, dropout, **_):
    face = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(face)
    x = keras.layers.DepthwiseConv2D(3, strides=2, use_bias=False)(x)
    x = keras.layers.ReLU(6.0)(keras.layers.BatchNormalization(momentum=0.5)(x))
    x = keras.layers.Dropout(dropout, seed=0)(keras.layers.Flatten()(x))
    return keras.Model(face, keras.layers.Dense(labels, name="logits")(x))

training.build_network = small_network
data, *folders = sys.argv[1:]
dataset = load_dataset(Path(data), size=32)
settings = Settings(weights="none", size=32, epochs=4, batch=128, warmup_steps=1, learning_rate=0.01, ema=0.5)

def fit(folder, settings):
    return training.fit(dataset, settings, Path(folder), source="drawn", command="fit", verbose=0)

teacher = fit(folders[0] + "-teacher", replace(settings, epochs=1, head_epochs=0))
settings = replace(settings, teachers=(str(teacher),))

keep_weights = training.RunState.keep_weights
def stop_after_two(state, model):
    if len(state.history) == 2:
        raise KeyboardInterrupt
    keep_weights(state, model)

fit(folders[0], settings)
training.RunState.keep_weights = stop_after_two
try:
    fit(folders[1], settings)
except KeyboardInterrupt:
    training.RunState.keep_weights = keep_weights
fit(folders[1], settings)
"""


def train(backend: str, data: Path, folders: list[Path], **environment: str) -> str:
    """Train in the first folder, and in the second with a stop; returns what was said on stderr."""
    if importlib.util.find_spec("keras") is None or importlib.util.find_spec(backend) is None:
        pytest.skip(f"Keras with {backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", FIT, data, *folders],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
        env=os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_another_backend_trains_and_goes_on_after_a_stop(backend, drawn_npz, tmp_path):
    folders = [tmp_path / "through", tmp_path / "stopped"]
    train(backend, drawn_npz, folders)
    through, stopped = (json.loads((folder / "history.json").read_text()) for folder in folders)
    assert len(through) == len(stopped) == 5
    assert through[-1]["loss"] < through[0]["loss"]
    for one, two in zip(through, stopped, strict=True):
        for key in ("loss", "val_loss", "val_accuracy"):
            assert one[key] == pytest.approx(two[key], rel=1e-4), key
    assert all((folder / "model.keras").is_file() for folder in folders)


def test_several_devices_share_the_batches_and_come_to_the_same(drawn_npz, tmp_path):
    folders = [tmp_path / name for name in ("one", "one-stopped", "two", "two-stopped")]
    train("jax", drawn_npz, folders[:2])
    said = train("jax", drawn_npz, folders[2:], XLA_FLAGS="--xla_force_host_platform_device_count=2")
    assert "training on 2 devices" in said
    one, two = (json.loads((folders[index] / "history.json").read_text()) for index in (0, 2))
    for alone, together in zip(one, two, strict=True):
        assert together["loss"] == pytest.approx(alone["loss"], rel=1e-3)
        assert together["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-3)
