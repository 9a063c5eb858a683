"""Batch norm by one kernel is the batch norm that Keras writes out."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs mien[trainer]")

import keras
import tensorflow as tf

from trainer.fused_norm import fuse
from trainer.keras_file import load_network, save_network

pytestmark = pytest.mark.trainer


def network():
    keras.utils.set_random_seed(4)
    face = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(6, 3, use_bias=False)(face)
    inner = keras.Input((6, 6, 6))
    norm = keras.layers.BatchNormalization(name="norm", momentum=0.7)
    x = keras.Model(inner, keras.layers.ReLU(6.0)(norm(inner)), name="inner")(x)
    made = keras.Model(face, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))
    rng = np.random.default_rng(5)
    norm.set_weights([rng.uniform(0.5, 1.5, 6).astype(np.float32) for _ in range(4)])
    return made


def norm_of(made):
    return made.get_layer("inner").get_layer("norm")


@pytest.fixture
def faces():
    return np.random.default_rng(6).uniform(-1, 1, (16, 8, 8, 1)).astype(np.float32)


@pytest.fixture
def pair():
    plain, fused = network(), network()
    fuse(fused)
    assert "call" in vars(norm_of(fused)), "without it the rest compares a network with itself"
    return plain, fused


@pytest.mark.parametrize("training", [True, False])
def test_answers_gradients_and_kept_statistics_are_the_same(pair, faces, training):
    found = []
    for made in pair:
        with tf.GradientTape() as tape:
            answers = made(faces, training=training)
            loss = keras.ops.mean(answers**2)
        gradients = tape.gradient(loss, made.trainable_variables)
        found.append([answers, *gradients, *norm_of(made).get_weights()])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-6)


def test_a_frozen_one_keeps_its_statistics(pair, faces):
    for made in pair:
        made.trainable = False
    before = norm_of(pair[1]).get_weights()
    np.testing.assert_allclose(pair[1](faces, training=True), pair[0](faces, training=True), rtol=1e-4, atol=1e-6)
    for one, other in zip(norm_of(pair[1]).get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_saved_is_keras_s_own_layer(pair, faces, tmp_path):
    save_network(pair[1], {}, tmp_path / "model.keras")
    loaded, _ = load_network(tmp_path / "model.keras")
    assert type(norm_of(loaded)) is keras.layers.BatchNormalization
    assert "call" not in vars(norm_of(loaded))
    np.testing.assert_allclose(loaded(faces), pair[1](faces), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "options"),
    [((5,), {}), ((4, 4, 5), {"scale": False}), ((4, 4, 5), {"center": False}), ((4, 4, 5), {"axis": 1})],
)
def test_norms_of_other_kinds_stay_as_they_are(shape, options):
    values = keras.Input(shape)
    made = keras.Model(values, keras.layers.BatchNormalization(name="norm", **options)(values))
    fuse(made)
    assert "call" not in vars(made.get_layer("norm"))
