"""Batch norm statistics for faces as they come, not as augmentation shows them.

Training leaves statistics of augmented faces, gathered under weights that were still moving; the daemon's faces are
neither augmented nor moving. Gathering them once more, with the final weights on plain training faces, costs one pass;
a model's card tells what it gave on the validation split. Averaged weights that had statistics of their own all along
(`trainer.averaging`) may have nothing left to gain by it.
See Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", sections 3 and 5.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.crop import scale_pixels


def reestimate(network: keras.Model, images: NDArray[np.uint8], *, batch: int = 128) -> None:
    """Set each batch norm's mean and variance to their averages over batches of `images`, in place.

    Args:
        network: takes scaled grey faces `float32[n, size, size, 1]`. Without batch norm it stays as it is.
        images: `uint8[n, size, size]`, training faces.
        batch: faces in a batch; a last, smaller one is left out unless it is the only one.
    """
    norms = _norms(network)
    order = np.random.default_rng(0).permutation(len(images))  # a folder's faces come one label after the other
    count = max(1, len(images) // batch)
    sums: list[list[Any]] = [[0.0, 0.0] for _ in norms]
    before = [(norm.momentum, norm.trainable) for norm in norms]
    dropouts = [layer for layer in network.layers if isinstance(layer, keras.layers.Dropout) and layer.rate > 0]
    masks = [layer.seed_generator.state for layer in dropouts]
    drawn = [keras.ops.convert_to_numpy(state) for state in masks]
    for norm in norms:
        # No memory, so that each batch leaves its own statistics; a frozen norm would not look at the batch at all.
        norm.momentum, norm.trainable = 0.0, True
    try:
        for number in range(count if norms else 0):
            chosen = images[order[number * batch : (number + 1) * batch]]
            network(scale_pixels(chosen)[..., np.newaxis], training=True)
            for total, norm in zip(sums, norms, strict=True):
                total[0] = total[0] + keras.ops.convert_to_numpy(norm.moving_mean)
                total[1] = total[1] + keras.ops.convert_to_numpy(norm.moving_variance)
        for (mean, variance), norm in zip(sums, norms, strict=True):
            norm.moving_mean.assign(mean / count)
            norm.moving_variance.assign(variance / count)
    finally:
        for (momentum, trainable), norm in zip(before, norms, strict=True):
            norm.momentum, norm.trainable = momentum, trainable
        for state, value in zip(masks, drawn, strict=True):
            state.assign(value)  # a run that is resumed does not come by here, and is to draw the same masks


def restate(network: keras.Model, images: NDArray[np.uint8], *, batch: int = 128) -> None:
    """Give folded batch norms statistics of their own without changing what the network computes.

    Where batch norm was folded into its convolution, mean 0 and variance 1 are not what comes in, and training with
    batch norm on would start from another network. Here mean and variance become those of `images`, and scale and
    offset make up for it.

    Args:
        network: takes scaled grey faces `float32[n, size, size, 1]`.
        images: `uint8[n, size, size]`; one or two thousand are enough.
        batch: faces in a batch.
    """
    norms = _norms(network)
    taps = keras.Model(network.input, [norm.input for norm in norms])
    sums = [np.zeros((2, norm.moving_mean.shape[0])) for norm in norms]
    pixels = np.zeros(len(norms))
    for start in range(0, len(images), batch):
        incoming = taps.predict_on_batch(scale_pixels(images[start : start + batch])[..., np.newaxis])
        for number, values in enumerate(incoming):
            flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
            sums[number] += flat.sum(axis=0), (flat**2).sum(axis=0)
            pixels[number] += len(flat)
    for norm, (total, squares), count in zip(norms, sums, pixels, strict=True):
        mean = total / count
        variance = np.maximum(squares / count - mean**2, 1e-6)
        gamma, beta, old_mean, old_variance = (keras.ops.convert_to_numpy(value) for value in norm.get_weights())
        slope = gamma / np.sqrt(old_variance + norm.epsilon)
        norm.set_weights([slope * np.sqrt(variance + norm.epsilon), beta + slope * (mean - old_mean), mean, variance])


def read_statistics(network: keras.Model) -> list[NDArray[np.float32]]:
    """Every batch norm's mean and variance, to be written back by `write_statistics`."""
    return [keras.ops.convert_to_numpy(value).copy() for value in _statistics(network)]


def write_statistics(network: keras.Model, values: list[NDArray[np.float32]]) -> None:
    """Set every batch norm's mean and variance."""
    for variable, value in zip(_statistics(network), values, strict=True):
        variable.assign(value)


def _statistics(network: keras.Model) -> list[Any]:
    return [value for norm in _norms(network) for value in (norm.moving_mean, norm.moving_variance)]


def _norms(network: keras.Model) -> list[Any]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
