"""A folded network answers as the trained one does."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs mien[trainer]")

import keras
from keras import layers

from trainer import folding
from trainer.backbones import build_network
from trainer.folding import fast_dtype, fold

pytestmark = pytest.mark.trainer


def trained(network):
    """With weights of a training's kind: no scale, offset or statistic is where it began."""
    rng = np.random.default_rng(3)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
        elif getattr(layer, "bias", None) is not None:
            kernel, bias = layer.get_weights()
            layer.set_weights([kernel, rng.normal(size=bias.shape)])
    return network


def norms(network):
    return [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]


@pytest.fixture
def faces():
    return np.random.default_rng(6).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)


@pytest.fixture(params=["mobilenet_v1", "mobilenet_v2", "vgg"])
def network(request):
    return trained(
        build_network(request.param, labels=7, size=32, width=0.35, dropout=0.2, stem_stride=1, weights="none")
    )


def test_without_batch_norms_it_answers_the_same(network, faces):
    folded = fold(network)
    assert norms(network)
    assert not norms(folded)
    np.testing.assert_allclose(folded(faces), network(faces), rtol=1e-3, atol=1e-5)


def test_in_bfloat16_it_answers_nearly_the_same_in_float32(network, faces):
    answers = fold(network, "bfloat16")(faces)
    assert answers.dtype == "float32"
    exact = np.asarray(network(faces))
    error = np.abs(np.asarray(answers) - exact).max()
    assert 0 < error < 0.05 * np.abs(exact).max()


def test_it_does_not_learn_and_the_trained_one_stays_as_it_was(network, faces):
    before = network.get_weights()
    folded = fold(network)
    assert folded.trainable_variables == []
    assert network.trainable_variables != []
    for one, other in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def branching():
    face = keras.Input((32, 32, 1))
    shared = layers.Conv2D(4, 3, name="shared")(face)
    return keras.Model(face, layers.Add()([shared, layers.BatchNormalization()(shared)]))


def twice():
    face = keras.Input((32, 32, 1))
    conv = layers.Conv2D(4, 3, padding="same", name="twice")
    return keras.Model(face, layers.Add()([conv(face), layers.BatchNormalization()(conv(face))]))


def twice_the_other_way_round():
    face = keras.Input((32, 32, 1))
    conv = layers.Conv2D(4, 3, padding="same", name="twice")
    return keras.Model(face, layers.Add()([layers.BatchNormalization()(conv(face)), conv(face)]))


def one_norm_for_two():
    face = keras.Input((32, 32, 1))
    norm = layers.BatchNormalization()
    return keras.Model(face, layers.Add()([norm(layers.Conv2D(4, 3)(face)), norm(layers.Conv2D(4, 3)(face))]))


def with_another_taker():
    face = keras.Input((32, 32, 1))
    sums, relu = layers.Conv2D(4, 3)(face), layers.ReLU()
    return keras.Model(face, layers.Add()([relu(layers.BatchNormalization()(sums)), relu(sums)]))


def with_a_network_as_taker():
    face = keras.Input((32, 32, 1))
    sums, inner = layers.Conv2D(4, 3)(face), keras.Input((30, 30, 4))
    within = keras.Model(inner, layers.ReLU()(inner))
    return keras.Model(face, layers.Add()([layers.BatchNormalization()(sums), within(sums)]))


def active():
    face = keras.Input((32, 32, 1))
    return keras.Model(face, layers.BatchNormalization()(layers.Conv2D(4, 3, activation="relu")(face)))


def first():
    face = keras.Input((32, 32, 1))
    return keras.Model(face, layers.Conv2D(4, 3)(layers.BatchNormalization()(face)))


def handed_out():
    face = keras.Input((32, 32, 1))
    sums = layers.Conv2D(4, 3)(face)
    return keras.Model(face, [sums, layers.BatchNormalization()(sums)])


@pytest.mark.parametrize(
    "build",
    [
        branching, twice, twice_the_other_way_round, one_norm_for_two, with_another_taker, with_a_network_as_taker,
        active, first, handed_out,
    ],
)  # fmt: skip
def test_a_norm_that_no_convolution_alone_comes_before_stays(build, faces):
    network = trained(build())
    folded = fold(network)
    assert len(norms(folded)) == 1
    for one, other in zip(keras.tree.flatten(folded(faces)), keras.tree.flatten(network(faces)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def with_bias_and_multiplier():
    return [layers.DepthwiseConv2D(3, depth_multiplier=3), layers.BatchNormalization(), layers.Conv2D(2, 1)]


def without_scale_and_offset():
    return [layers.Conv2D(5, 3, use_bias=False), layers.BatchNormalization(scale=False, center=False)]


@pytest.mark.parametrize("build", [with_bias_and_multiplier, without_scale_and_offset])
def test_a_convolution_of_any_kind_takes_its_norm_in_from_a_file_too(build, faces, tmp_path):
    trained(keras.Sequential([keras.Input((32, 32, 1)), *build()], name="mine")).save(tmp_path / "mine.keras")
    network = keras.models.load_model(tmp_path / "mine.keras")
    folded = fold(network)
    assert norms(network)
    assert not norms(folded)
    assert folded.name == "mine"
    np.testing.assert_allclose(folded(faces), network(faces), rtol=1e-3, atol=1e-5)


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Makes a machine; returns its cpuinfo."""

    def make(flags="avx512f avx512_bf16", backend="tensorflow", gpus=(), onednn="1"):
        monkeypatch.setattr(folding.keras.backend, "backend", lambda: backend)
        monkeypatch.setattr(folding.keras.distribution, "list_devices", lambda _: list(gpus))
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
        told = tmp_path / "cpuinfo"
        told.write_text(f"processor : 0\nflags : {flags}\n")
        return told

    return make


@pytest.mark.parametrize("flags", ["avx512f avx512_bf16", "avx2 amx_bf16 fma"])
def test_bfloat16_is_for_processors_that_multiply_it(machine, flags):
    assert fast_dtype(machine(flags)) == "bfloat16"


@pytest.mark.parametrize(
    "other", [{"flags": "avx2 avx512f"}, {"flags": ""}, {"backend": "jax"}, {"gpus": ["gpu:0"]}, {"onednn": "0"}]
)
def test_elsewhere_it_is_float32(machine, other):
    assert fast_dtype(machine(**other)) == "float32"


def test_where_no_processor_is_told_of_it_is_float32(machine):
    assert fast_dtype(machine().with_name("missing")) == "float32"
