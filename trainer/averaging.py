"""Validation and saving with averaged weights, whose batch norm fits them.

Keras averages what is trained and nothing else: under averaged weights the batch norm statistics are another
network's, and early epochs then read 20 to 40 % where the network is at 60. So each epoch's statistics are gathered
anew, on plain training faces, before validation; what trains on keeps its own.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from trainer.batch_norm import read_statistics, reestimate, write_statistics

FACES = 1024
"""As many are enough to follow a run by; the finished network's statistics come from all of them."""


class AveragedWeights(keras.callbacks.SwapEMAWeights):
    """Swaps the optimizer's averaged weights and statistics that fit them in for validation and for what comes after.

    Stands after callbacks that want the weights that train on, and before those that want the averaged ones.
    """

    def __init__(self, network: keras.Model, images: NDArray[np.uint8], *, seed: int) -> None:
        """Args: `images` `uint8[n, size, size]`, plain training faces, of which some are drawn by `seed`."""
        super().__init__(swap_on_epoch=True)
        self._network = network
        self._images = images[np.random.default_rng(seed).permutation(len(images))[:FACES]]
        self._training: Any = None
        self._averaged: Any = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Swap in."""
        super().on_test_begin(logs)
        self._training = read_statistics(self._network)
        reestimate(self._network, self._images)
        self._averaged = read_statistics(self._network)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Swap back."""
        write_statistics(self._network, self._training)
        super().on_test_end(logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Swap in for the callbacks that come after."""
        super().on_epoch_end(epoch, logs)
        write_statistics(self._network, self._averaged)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Swap back."""
        super().on_epoch_begin(epoch, logs)
        if self._training is not None:
            write_statistics(self._network, self._training)
