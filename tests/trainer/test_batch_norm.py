"""Batch norm is told once more what plain faces look like, with the weights that stay."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.crop import scale_pixels
from trainer import keras_file, training
from trainer.batch_norm import reestimate, restate
from trainer.datasets import Dataset, Split

pytestmark = pytest.mark.trainer


def small_network():
    keras.utils.set_random_seed(5)
    face = keras.Input((32, 32, 1))
    x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, strides=4, name="conv")(face))
    return keras.Model(face, keras.layers.Dense(7)(keras.layers.GlobalMaxPooling2D()(keras.layers.ReLU(6.0)(x))))


@pytest.fixture
def faces():
    return np.random.default_rng(6).integers(0, 256, (64, 32, 32), np.uint8)


def test_a_network_that_drops_nothing_has_no_masks_to_put_back(faces):
    plain = small_network()
    network = keras.Model(plain.input, keras.layers.Dropout(0.0)(plain.output))
    reestimate(network, faces)
    assert np.asarray(network.get_layer("norm").moving_mean).any()


@pytest.mark.parametrize("frozen", [False, True])
def test_mean_and_variance_become_those_of_the_faces(faces, frozen):
    network = small_network()
    norm = network.get_layer("norm")
    norm.trainable = not frozen
    norm.moving_mean.assign(np.full(4, 9.0))
    before = np.asarray(network.get_layer("conv").kernel)

    reestimate(network, faces, batch=16)

    seen = np.asarray(network.get_layer("conv")(scale_pixels(faces)[..., np.newaxis]))
    np.testing.assert_allclose(norm.moving_mean, seen.mean(axis=(0, 1, 2)), rtol=1e-4, atol=1e-5)
    by_batch = [seen[index].var(axis=(0, 1, 2)) for index in np.random.default_rng(0).permutation(64).reshape(4, 16)]
    np.testing.assert_allclose(norm.moving_variance, np.mean(by_batch, axis=0), rtol=1e-4)
    np.testing.assert_array_equal(network.get_layer("conv").kernel, before)
    assert (norm.momentum, norm.trainable) == (0.99, not frozen)


def test_fewer_faces_than_a_batch_are_one_batch(faces):
    network = small_network()
    reestimate(network, faces[:10])
    assert not np.array_equal(network.get_layer("norm").moving_mean, np.zeros(4))


def drawn(faces) -> Dataset:
    """Each image's class is its brightness, so that a network can be right about it."""
    labels = np.arange(len(faces), dtype=np.int64) % 7
    images = (faces // 8 + 30 * labels[:, None, None]).astype(np.uint8)
    split = Split(images, labels, np.arange(len(faces)))
    return Dataset("drawn", tuple("abcdefg"), split, split, split, np.ones(len(faces), bool), {})


def test_new_statistics_are_kept_where_the_validation_split_gains_and_the_card_says_so(faces, tmp_path):
    dataset = drawn(faces)
    network = small_network()
    path = tmp_path / "model.keras"
    keras_file.save_network(network, {"selected": {"epoch": 3, "validation_accuracy": -1.0}}, path)

    training._settle(path, dataset)

    chosen = keras_file.read_card(path)["selected"]
    assert chosen["batch_norm"] == "re-estimated on 64 plain training faces"
    assert (chosen["epoch"], chosen["validation_accuracy_before"]) == (3, -1.0)
    assert chosen["commit"]
    assert 0 <= chosen["validation_accuracy"] <= 1
    once = path.read_bytes()
    training._settle(path, dataset)
    assert path.read_bytes() == once


def test_a_network_that_would_lose_by_them_stays_as_it_is(faces, tmp_path):
    path = tmp_path / "model.keras"
    keras_file.save_network(small_network(), {"selected": {"epoch": 3, "validation_accuracy": 1.0}}, path)
    before = path.read_bytes()

    training._settle(path, drawn(faces))

    assert path.read_bytes() == before


def test_folded_norms_get_statistics_of_the_faces_and_compute_what_they_did(drawn):
    keras.utils.set_random_seed(2)
    face = keras.Input((32, 32, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(6, 3, strides=2)(face))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(keras.layers.ReLU(6.0)(x)))
    network = keras.Model(face, keras.layers.GlobalAveragePooling2D()(x))
    for norm in (network.layers[2], network.layers[5]):
        gamma, beta, mean, variance = norm.get_weights()
        norm.set_weights([gamma * 1.5, beta + 0.3, mean, variance])
    faces = scale_pixels(drawn.train.images)[..., np.newaxis]
    before = np.asarray(network(faces))
    restate(network, drawn.train.images, batch=32)
    np.testing.assert_allclose(np.asarray(network(faces)), before, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(np.asarray(network(faces, training=True)), before, rtol=1e-2, atol=1e-2)
