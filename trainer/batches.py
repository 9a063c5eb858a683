"""Training batches: which faces, which views of them, which targets.

The faces themselves lie on the device once, in a `FaceTable` inside the compiled model; a batch carries their numbers
and two dozen more for each.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.augmentation import draw_views, mix_targets
from trainer.datasets import Split
from trainer.settings import NO_VIEW, Recipe
from trainer.votes import VOTED

Batch = tuple[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[np.float32]]


class FaceBatches(keras.utils.PyDataset):
    """Batches of face numbers with the views that the step is to make of them.

    Yields `({"number", "votes", "counts", and views}, label shares, sample weights)`; order and views follow from the
    seed and the epoch alone.
    """

    def __init__(
        self,
        split: Split,
        *,
        labels: int,
        batch: int,
        first: int = 0,
        recipe: Recipe | None = None,
        seed: int = 0,
        epoch: int = 0,
        label_weights: NDArray[np.float32] | None = None,
        votes: NDArray[np.float32] | None = None,
        devices: int = 1,
    ) -> None:
        """Batches of `split`.

        Args:
            split: the faces.
            labels: number of classes.
            batch: faces in a batch.
            first: the number that the split's first face has in the `FaceTable`.
            recipe: None keeps the order and the faces as they are, for evaluation.
            seed: with the epoch, where order and views come from.
            epoch: the first one's number.
            label_weights: `float32[labels]`, weight of each label's faces in the loss.
            votes: `float32[n, voted]`, shares of each face's votes; none where not given.
            devices: that share a batch: a last one that they cannot share evenly is filled up with faces that count in
                no loss; batch norm sees them.
        """
        super().__init__()
        self._size = split.images.shape[1]
        self._first = first
        self._targets = np.eye(labels, dtype=np.float32)[split.labels]
        self._weights = np.ones(labels, np.float32) if label_weights is None else label_weights
        self._votes = np.zeros((len(split), len(VOTED)), np.float32) if votes is None else votes
        self._batch, self._recipe, self._seed, self._epoch, self._devices = batch, recipe, seed, epoch, devices
        self._order = self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self._targets) / self._batch)

    def __getitem__(self, index: int) -> Batch:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        real = len(chosen)
        chosen = np.resize(chosen, real + -real % self._devices)
        rng = np.random.default_rng((self._seed, self._epoch, index))
        views = draw_views(rng, len(chosen), self._size, self._recipe or NO_VIEW)
        targets = mix_targets(self._targets[chosen], views["own"])
        counts: NDArray[np.float32] = (np.arange(len(chosen)) < real).astype(np.float32)
        inputs = {
            "number": (self._first + chosen).astype(np.int32),
            **views,
            "votes": mix_targets(self._votes[chosen], views["own"]),
            "counts": counts,
        }
        return inputs, targets, targets @ self._weights * counts

    def on_epoch_end(self) -> None:
        """Move on to the next epoch's order and views."""
        self._epoch += 1
        self._order = self._draw_order()

    def _draw_order(self) -> NDArray[np.int64]:
        count = len(self._targets)
        if self._recipe is None:
            return np.arange(count)
        return np.random.default_rng((self._seed, self._epoch)).permutation(count)


def batch_inputs() -> dict[str, Any]:
    """Keras inputs for what `FaceBatches` yields, by name."""
    return {
        "number": keras.Input((), dtype="int32", name="number"),
        "affine": keras.Input((8,), name="affine"),
        "tone": keras.Input((2,), name="tone"),
        "erase": keras.Input((5,), name="erase"),
        "own": keras.Input((1,), name="own"),
        "blur": keras.Input((2,), name="blur"),
        "noise": keras.Input((2,), name="noise"),
        "votes": keras.Input((len(VOTED),), name="votes"),
        "counts": keras.Input((), name="counts"),
    }


class FaceTable(keras.layers.Layer):
    """Faces by their numbers: `int32[n]` to `float32[n, size, size, 1]` in -1..1, scaled as `edge.crop` does."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        """Args: `images` `uint8[faces, size, size]`, copied to the device once."""
        super().__init__(name="faces")
        self._faces = self.add_weight(shape=images.shape, dtype="uint8", initializer="zeros", trainable=False)
        self._faces.assign(images)

    def call(self, numbers: Any) -> Any:
        """Look the faces up and scale them."""
        faces = ops.cast(ops.take(self._faces, numbers, axis=0), "float32")
        # As edge.crop.scale_pixels, within the compiled step.
        return ops.expand_dims(faces / 127.5 - 1.0, axis=-1)

    def save_own_variables(self, store: Any) -> None:
        """Keep the data out of checkpoints."""

    def load_own_variables(self, store: Any) -> None:
        """Nothing was kept."""
