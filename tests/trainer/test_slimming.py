import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="needs mien[trainer]")

import keras

from edge.errors import UsageError
from trainer.backbones import build_network
from trainer.slimming import slim

pytestmark = pytest.mark.trainer


def network(width, backbone="mobilenet_v1", labels=7, blocks=13):
    return build_network(
        backbone, labels=labels, size=32, width=width, dropout=0.0, stem_stride=1, weights="none", blocks=blocks
    )


@pytest.fixture
def wide():
    """A network at half width with batch norms of all kinds."""
    made, rng = network(0.5), np.random.default_rng(0)
    for layer in made.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return made


@pytest.fixture
def faces():
    return np.random.default_rng(1).uniform(-1, 1, (4, 32, 32, 1)).astype(np.float32)


def test_a_network_of_the_same_width_is_a_copy(wide, faces):
    same = network(0.5)
    slim(wide, same)
    np.testing.assert_allclose(same(faces), wide(faces), atol=1e-5)


def test_channels_that_say_nothing_are_left_out_and_no_answer_changes(wide, faces):
    narrow, rng = network(0.25), np.random.default_rng(2)
    for layer in wide.layers:
        if layer.name.endswith("_bn") and "dw" not in layer.name:
            gamma, beta, mean, variance = layer.get_weights()
            silent = rng.permutation(len(gamma))[len(gamma) // 2 :]
            gamma[silent] = beta[silent] = 0.0
            layer.set_weights([gamma, beta, mean, variance])
    # What a depthwise convolution makes of silence is silence too.
    for layer in wide.layers:
        if layer.name.endswith("_bn") and "dw" in layer.name:
            gamma, _, _, variance = layer.get_weights()
            layer.set_weights([gamma, 0 * gamma, 0 * gamma, variance])
    slim(wide, narrow)
    np.testing.assert_allclose(narrow(faces), wide(faces), atol=1e-4)
    assert np.std(wide(faces)) > 1e-6


def test_a_shorter_network_sees_what_the_same_block_of_the_longer_one_sees(wide, faces):
    short = network(0.5, blocks=11)
    before = short.get_layer("logits").get_weights()[0]
    slim(wide, short)
    seen = [keras.Model(each.input, each.get_layer("conv_pw_11_relu").output)(faces) for each in (wide, short)]
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-5)
    # What the last block's channels say is another thing than what the eleventh's do.
    np.testing.assert_array_equal(short.get_layer("logits").get_weights()[0], before)


def test_a_shorter_network_keeps_the_channels_that_the_longer_one_reads(wide, faces):
    deaf = np.arange(256) >= 128
    kernel = wide.get_layer("conv_dw_12").get_weights()[0]
    kernel[:, :, deaf] = 0.0
    wide.get_layer("conv_dw_12").set_weights([kernel])
    short = network(0.25, blocks=11)
    slim(wide, short)
    kept = short.get_layer("conv_pw_11_bn").get_weights()[0]
    np.testing.assert_array_equal(kept, wide.get_layer("conv_pw_11_bn").get_weights()[0][:128])


def test_other_labels_begin_anew(wide):
    narrow = network(0.25, labels=3)
    before = narrow.get_layer("logits").get_weights()[0]
    slim(wide, narrow)
    np.testing.assert_array_equal(narrow.get_layer("logits").get_weights()[0], before)


def test_the_same_labels_in_another_order_answer_the_same(wide, faces):
    same, narrow, ordered = network(0.5, labels=3), network(0.25, labels=3), network(0.25)
    slim(wide, same, [6, None, 0])
    np.testing.assert_allclose(same(faces)[:, ::2], np.asarray(wide(faces))[:, [6, 0]], atol=1e-5)
    slim(wide, narrow, [6, None, 0])
    slim(wide, ordered)
    np.testing.assert_allclose(narrow(faces)[:, ::2], np.asarray(ordered(faces))[:, [6, 0]], atol=1e-5)


def test_a_head_of_another_name_is_left_alone(wide, faces):
    other = keras.Model(wide.input, keras.layers.Dense(7, name="head")(wide.get_layer("pool").output))
    same = network(0.5)
    before = same.get_layer("logits").get_weights()[0]
    slim(other, same)
    np.testing.assert_array_equal(same.get_layer("logits").get_weights()[0], before)
    assert "conv1" in {layer.name for layer in same.layers}


def test_what_adds_channels_up_is_copied_and_never_cut():
    wide, same = network(0.5, "mobilenet_v2"), network(0.5, "mobilenet_v2")
    slim(wide, same)
    for one, other in zip(same.get_weights(), wide.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UsageError, match="can be cut out of"):
        slim(wide, network(0.35, "mobilenet_v2"))


@pytest.mark.parametrize("other", [network(0.25), network(0.35, "mobilenet_v2")], ids=["narrower", "another kind"])
def test_what_cannot_be_cut_out_is_refused(other):
    with pytest.raises(UsageError, match="can be cut out of"):
        slim(other, network(0.5))
