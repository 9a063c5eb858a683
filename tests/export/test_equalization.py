"""What is done to a network before it is rounded: the float network must not notice, int8 must gain."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
equalization = pytest.importorskip("export.equalization")
backbones = pytest.importorskip("trainer.backbones")
fold = pytest.importorskip("trainer.folding").fold

pytestmark = pytest.mark.trainer


def network(backbone):
    """A small network whose batch norms have statistics of their own, as after training."""
    keras.utils.set_random_seed(3)
    made = backbones.build_network(backbone, labels=7, size=32, width=0.35, dropout=0.0, stem_stride=1, weights="none")
    rng = np.random.default_rng(3)
    for layer in made.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            width = layer.moving_mean.shape[0]
            layer.set_weights(
                [
                    rng.uniform(0.2, 2.0, width),
                    rng.normal(0.0, 0.5, width),
                    rng.normal(0.0, 0.2, width),
                    rng.uniform(0.5, 2.0, width),
                ]
            )
    return made


@pytest.fixture(scope="module")
def faces():
    return np.random.default_rng(4).uniform(-1, 1, (24, 32, 32, 1)).astype(np.float32)


@pytest.mark.parametrize("backbone", ["mobilenet_v1", "mobilenet_v2"])
def test_equalising_widens_narrow_channels_and_changes_no_answer_on_the_faces_it_saw(backbone, faces):
    folded = fold(network(backbone))
    before = np.asarray(folded(faces))
    narrow = narrowest_share(folded, faces)

    equalization.equalize(folded, faces)

    np.testing.assert_allclose(folded(faces), before, rtol=1e-3, atol=1e-3)
    assert narrowest_share(folded, faces) > max(0.9, narrow)


def narrowest_share(folded, faces):
    """Range of the narrowest live channel that a depthwise convolution reads, as a share of the widest's."""
    name = next(
        layer.name
        for layer in folded.layers
        if isinstance(layer, keras.layers.ReLU) and not layer.name.endswith("dw_1_relu")
    )
    tops = np.asarray(keras.Model(folded.input, folded.get_layer(name).output)(faces)).max(axis=(0, 1, 2))
    live = tops[tops > tops.max() / 50]
    return float(live.min() / live.max())


def test_corrected_biases_make_up_for_the_rounding_of_the_kernels_on_average(faces):
    plain = fold(network("mobilenet_v1"))
    exact = np.asarray(plain(faces))
    corrected = fold(network("mobilenet_v1"))

    equalization.correct_biases(corrected, faces)

    shift_before = np.abs((np.asarray(round_kernels(plain)(faces)) - exact).mean(axis=0)).mean()
    shift_after = np.abs((np.asarray(round_kernels(corrected)(faces)) - exact).mean(axis=0)).mean()
    assert shift_after < shift_before / 2


def round_kernels(network, steps=127):
    """As the converter does: symmetric int8, one scale for each output channel."""
    for layer in network.layers:
        if layer.weights:
            kernel, *rest = layer.get_weights()
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            others = (0, 1, 3) if depthwise else tuple(range(kernel.ndim - 1))
            step = np.abs(kernel).max(axis=others, keepdims=True) / steps
            layer.set_weights([np.round(kernel / np.maximum(step, 1e-12)) * step, *rest])
    return network
