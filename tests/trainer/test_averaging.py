"""Averaged weights: validation and saving see statistics that fit them, training goes on with its own."""

from typing import Any

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from edge.crop import scale_pixels
from trainer.averaging import AveragedWeights
from trainer.batch_norm import read_statistics

pytestmark = pytest.mark.trainer


class Watch(keras.callbacks.Callback):
    """Notes the network's weights and statistics when it is told to."""

    def __init__(self, network: keras.Model, *moments: str) -> None:
        super().__init__()
        self.seen: dict[str, list[tuple[list[np.ndarray], list[np.ndarray]]]] = {moment: [] for moment in moments}
        for moment in moments:
            setattr(self, moment, lambda *args, moment=moment, **kwargs: self.seen[moment].append(self._look(network)))

    def _look(self, network: keras.Model) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [np.array(value) for value in network.trainable_variables], read_statistics(network)


@pytest.fixture
def run(drawn) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    face = keras.Input((32, 32, 1))
    # Statistics that move far slower than the weights: left alone, they belong to none of them.
    x = keras.layers.BatchNormalization(momentum=0.99)(keras.layers.Conv2D(4, 3, strides=4)(face))
    network = keras.Model(face, keras.layers.Dense(7)(keras.layers.Flatten()(x)))
    network.compile(
        keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    faces = scale_pixels(drawn.train.images)[..., np.newaxis]
    before = Watch(network, "on_epoch_end")
    after = Watch(network, "on_epoch_end", "on_test_begin", "on_train_batch_begin")
    network.fit(
        faces, drawn.train.labels, batch_size=10, epochs=3, verbose=0, validation_data=(faces, drawn.train.labels),
        callbacks=[before, AveragedWeights(network, drawn.train.images, seed=1), after],
    )  # fmt: skip
    inner = keras.Model(network.input, network.layers[1].output)
    return {"before": before.seen, "after": after.seen, "inner": inner, "faces": faces}


def assert_fitting(weights: list[np.ndarray], statistics: list[np.ndarray], run: dict[str, Any]) -> None:
    convolution = run["inner"].layers[1]
    convolution.kernel.assign(weights[0])
    convolution.bias.assign(weights[1])
    response = np.asarray(run["inner"](run["faces"]))
    np.testing.assert_allclose(statistics[0], response.mean(axis=(0, 1, 2)), atol=1e-4)
    np.testing.assert_allclose(statistics[1], response.var(axis=(0, 1, 2)), atol=1e-3)


@pytest.mark.parametrize("moment", ["on_test_begin", "on_epoch_end"])
def test_averaged_weights_are_seen_with_statistics_of_their_own(run, moment):
    for (weights, statistics), (training, _) in zip(run["after"][moment], run["before"]["on_epoch_end"], strict=True):
        assert_fitting(weights, statistics, run)
        assert not np.allclose(weights[0], training[0], atol=1e-5), "these are the averaged ones"


def test_training_goes_on_from_where_it_was(run):
    steps = run["after"]["on_train_batch_begin"]
    for left, found in zip(run["before"]["on_epoch_end"][:2], (steps[7], steps[14]), strict=True):
        for one, two in zip(left[0] + left[1], found[0] + found[1], strict=True):
            np.testing.assert_allclose(one, two, atol=1e-6)
