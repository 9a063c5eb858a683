"""Lessons beside the labels: teachers that see the student's own view, and a head for votes."""

from pathlib import Path

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from edge.errors import BadDataError, InputNotFoundError
from trainer import distillation, keras_file
from trainer.distillation import Distillation, Panel, VotesHead, open_panel

pytestmark = pytest.mark.trainer

LABELS = ("sad", "happy", "neutral")
ALL = np.ones(5, np.float32)
"""Every face counts."""


def teacher(size: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    face = keras.Input((size, size, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, strides=4)(face))
    return keras.Model(face, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


@pytest.fixture
def view() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 1)).astype(np.float32)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_teachers_are_asked_together_about_the_very_view(view):
    networks = [teacher(16, 1), teacher(16, 2)]
    expected = np.mean([softmax(np.asarray(network(view)) / 2.0) for network in networks], axis=0)
    np.testing.assert_allclose(np.asarray(Panel(networks).shares(view, 2.0)), expected, atol=1e-6)


def test_a_teacher_that_wants_larger_faces_gets_the_view_enlarged(view):
    network = teacher(32, 1)
    larger = keras.ops.image.resize(view, (32, 32))
    np.testing.assert_allclose(
        np.asarray(Panel([network]).shares(view, 1.0)), softmax(np.asarray(network(larger))), atol=1e-6
    )


def test_distillation_adds_its_loss_while_training_and_nothing_else(view):
    panel = Panel([teacher(16, 1)])
    layer = Distillation(panel, weight=0.5, temperature=2.0)
    logits = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(layer([logits, view, ALL], training=True)), logits)
    taught, answer = np.asarray(panel.shares(view, 2.0)), softmax(logits / 2.0)
    surprise = -(taught * np.log(answer)).sum(axis=1)
    assert float(layer.losses[0]) == pytest.approx(0.5 * 4.0 * surprise.mean(), rel=1e-5)
    layer([logits, view, np.array([1, 1, 1, 0, 0], np.float32)], training=True)
    assert float(layer.losses[-1]) == pytest.approx(0.5 * 4.0 * surprise[:3].mean(), rel=1e-5)
    layer([logits, view, ALL], training=False)
    assert not layer.losses
    assert not layer.weights, "teachers are in no checkpoint and do not learn"


def test_the_second_head_learns_votes_and_passes_over_faces_without_any():
    layer = VotesHead(0.5)
    rng = np.random.default_rng(1)
    logits, features = (rng.normal(size=(4, wide)).astype(np.float32) for wide in (3, 6))
    votes = np.zeros((4, 8), np.float32)
    np.testing.assert_array_equal(np.asarray(layer([logits, features, votes, ALL[:4]], training=True)), logits)
    assert float(layer.losses[0]) == 0.0
    votes[1, 2] = 1.0
    layer([logits, features, votes, ALL[:4]], training=True)
    kernel, bias = (np.asarray(value) for value in layer.weights)
    expected = -np.log(softmax(features @ kernel + bias)[1, 2]) / 4 * 0.5
    assert float(layer.losses[0]) == pytest.approx(float(expected), rel=1e-5)
    layer([logits, features, votes, np.array([1, 1, 0, 0], np.float32)], training=True)
    assert float(layer.losses[-1]) == pytest.approx(2 * float(expected), rel=1e-5)


def save(folder: Path, labels: tuple[str, ...]) -> str:
    path = folder / "teacher.keras"
    keras_file.save_network(teacher(16, 1), {"labels": list(labels)}, path)
    return str(path)


def test_teachers_are_opened_from_their_files(tmp_path, view, monkeypatch):
    monkeypatch.setattr(distillation, "fast_dtype", lambda: "float32")
    panel = open_panel([save(tmp_path, LABELS)], LABELS)
    np.testing.assert_allclose(
        np.asarray(panel.shares(view, 1.0)), np.asarray(Panel([teacher(16, 1)]).shares(view, 1.0)), atol=1e-6
    )


def test_they_are_opened_in_what_counts_fastest_here(tmp_path, view, monkeypatch):
    monkeypatch.setattr(distillation, "fast_dtype", lambda: "bfloat16")
    [share] = np.asarray(open_panel([save(tmp_path, LABELS)], LABELS).shares(view[:1], 1.0))
    [exact] = np.asarray(Panel([teacher(16, 1)]).shares(view[:1], 1.0))
    np.testing.assert_allclose(share, exact, atol=0.02)
    assert not np.array_equal(share, exact)


def test_a_teacher_of_other_labels_is_refused_by_name(tmp_path):
    with pytest.raises(BadDataError, match=r"teacher\.keras: this teacher knows the labels sad, happy, neutral; the"):
        open_panel([save(tmp_path, LABELS)], ("sad", "happy"))
    with pytest.raises(InputNotFoundError, match=r"gone\.keras"):
        open_panel([str(tmp_path / "gone.keras")], LABELS)
