"""Random views of training faces.

The random numbers are drawn on the host from `(seed, epoch, batch)` alone, a dozen per image, so a resumed training
sees the views that an uninterrupted one would have seen; the pixels are moved inside the compiled training step, on
whatever device and backend that runs.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from trainer.settings import Recipe

Views = dict[str, NDArray[np.float32]]
"""One batch's views: `affine` `[n, 8]`, `tone` `[n, 2]`, `erase` `[n, 5]`, `own` `[n, 1]`, see `Augment`; `blur`
`[n, 2]`, `noise` `[n, 2]`, see `Degrade`."""

BLURS = (1.0, 2.25)
"""Standard deviations in pixels, of which `Degrade` makes all between none and the larger."""

GRAINS = 512
"""Pictures of noise to draw from."""


def draw_views(rng: np.random.Generator, count: int, size: int, recipe: Recipe) -> Views:
    """Random numbers for `count` images of `size` x `size` pixels."""
    mirror = np.where(rng.random(count) < recipe.flip, -1.0, 1.0)
    # Two standard deviations bound every draw: a rare face at half its size teaches nothing.
    angle = np.deg2rad(_bounded(rng, count, recipe.rotation))
    size_of_box = _bounded(rng, count, 1.0)
    zoom = np.exp(size_of_box * np.where(size_of_box < 0, recipe.closer, recipe.scale))
    shift = np.stack([_bounded(rng, count, recipe.shift), _bounded(rng, count, recipe.shift)]) * size
    middle = (size - 1) / 2
    a, b = zoom * np.cos(angle) * mirror, -zoom * np.sin(angle)
    c, d = zoom * np.sin(angle) * mirror, zoom * np.cos(angle)
    x = middle + shift[0] - (a + b) * middle
    y = middle + shift[1] - (c + d) * middle
    nothing = np.zeros(count)
    affine = np.stack([a, b, x, c, d, y, nothing, nothing], axis=1)
    tone = np.stack([np.exp(_bounded(rng, count, recipe.gain)), _bounded(rng, count, recipe.offset)], axis=1)
    sides = rng.uniform(0.15, 0.40, (count, 2)) * size * (rng.random((count, 1)) < recipe.erase)
    corner = rng.uniform(0, 1, (count, 2)) * (size - sides)
    grey = rng.uniform(-1, 1, (count, 1))
    erase = np.concatenate([corner, corner + sides, grey], axis=1)
    # The larger share is a face's own: the order of a batch is random anyway, so each mixture would come up twice.
    share = rng.beta(recipe.mixup, recipe.mixup, (count, 1)) if recipe.mixup else np.ones((count, 1))
    own = np.maximum(share, 1 - share)
    blur = rng.dirichlet((1, 1, 1), count)[:, 1:] * (rng.random((count, 1)) < recipe.blur)
    deviation = rng.uniform(0, 25 / 127.5, count) * (rng.random(count) < recipe.noise)
    noise = np.stack([deviation, rng.integers(0, GRAINS, count)], axis=1)
    drawn = {"affine": affine, "tone": tone, "erase": erase, "own": own, "blur": blur, "noise": noise}
    return {name: values.astype(np.float32) for name, values in drawn.items()}


def mix_targets(targets: NDArray[np.float32], own: NDArray[np.float32]) -> NDArray[np.float32]:
    """Targets `float32[n, …]` of a batch whose faces `Augment` mixes by the shares `own` `float32[n, 1]`."""
    return own * targets + (1 - own) * np.roll(targets, 1, axis=0)


def _bounded(rng: np.random.Generator, count: int, deviation: float) -> NDArray[np.float64]:
    return np.clip(rng.normal(0.0, 1.0, count), -2.0, 2.0) * deviation


class Augment(keras.layers.Layer):
    """Moves, tones, erases and mixes scaled faces while training; hands them through untouched otherwise.

    Inputs: `image` `float32[n, size, size, 1]` in -1..1; `affine` `float32[n, 8]` maps a pixel of the result to a pixel
    of the image as `keras.ops.image.affine_transform` has it; `tone` `float32[n, 2]` contrast and brightness; `erase`
    `float32[n, 5]` left, top, right, bottom and grey of a rectangle; `own` `float32[n, 1]` a face's share in its
    mixture with the one before it in the batch. Returns `float32[n, size, size, 1]` in -1..1.
    """

    def __init__(self) -> None:
        super().__init__()
        # XLA has no kernel for TensorFlow's affine transform; a model with this layer is then compiled without it.
        self.supports_jit = keras.backend.backend() != "tensorflow"

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Apply the views."""
        image = inputs["image"]
        if not training:
            return image
        # "nearest" repeats the border, as `edge.crop` does where a crop reaches over the frame's edge.
        image = ops.image.affine_transform(image, inputs["affine"], interpolation="bilinear", fill_mode="nearest")
        tone = ops.reshape(inputs["tone"], (-1, 2, 1, 1))
        image = image * tone[:, 0:1] + tone[:, 1:2]
        side = image.shape[1]
        along = ops.cast(ops.arange(side), "float32")
        column, row = ops.reshape(along, (1, 1, side, 1)), ops.reshape(along, (1, side, 1, 1))
        left, top, right, bottom, grey = (ops.reshape(inputs["erase"][:, i], (-1, 1, 1, 1)) for i in range(5))
        inside = (column >= left) & (column < right) & (row >= top) & (row < bottom)
        view = ops.clip(ops.where(inside, grey, image), -1.0, 1.0)
        own = ops.reshape(inputs["own"], (-1, 1, 1, 1))
        return own * view + (1 - own) * ops.roll(view, 1, axis=0)


class Degrade(keras.layers.Layer):
    """Puts faces out of focus and adds a sensor's noise while training; hands them through untouched otherwise.

    Teachers do not see this: a network that never learned to read bad pictures has nothing to teach about them.

    Inputs: `image` `float32[n, size, size, 1]` in -1..1; `blur` `float32[n, 2]` the shares of the picture blurred by
    each of `BLURS`, the sharp one having the rest; `noise` `float32[n, 2]` standard deviation in -1..1's units and
    which picture of noise. Returns `float32[n, size, size, 1]` in -1..1.
    """

    def __init__(self, size: int) -> None:
        super().__init__(name="degrade")
        # Drawn once and kept on the device: fresh noise for each view would be most of what a batch has to carry.
        grains = np.random.default_rng(0).normal(size=(GRAINS, size, size, 1)).astype(np.float32)
        self._grains = self.add_weight(shape=grains.shape, initializer="zeros", trainable=False)
        self._grains.assign(grains)

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """Apply both."""
        image = inputs["image"]
        if not training:
            return image
        shares = ops.reshape(inputs["blur"], (-1, 2, 1, 1))
        seen = image * (1 - shares[:, 0:1] - shares[:, 1:2])
        for number, deviation in enumerate(BLURS):
            seen = seen + shares[:, number : number + 1] * _blurred(image, deviation)
        deviation, which = inputs["noise"][:, 0], ops.cast(inputs["noise"][:, 1], "int32")
        noise = ops.reshape(deviation, (-1, 1, 1, 1)) * ops.take(self._grains, which, axis=0)
        return ops.clip(seen + noise, -1.0, 1.0)

    def save_own_variables(self, store: Any) -> None:
        """Keep the noise out of checkpoints: it is the same every time."""

    def load_own_variables(self, store: Any) -> None:
        """Nothing was kept."""


def _blurred(image: Any, deviation: float) -> Any:
    """A Gaussian blur, borders repeated."""
    reach = round(3 * deviation)
    weights = np.exp(-((np.arange(-reach, reach + 1) / deviation) ** 2) / 2)
    weights = (weights / weights.sum()).astype(np.float32)
    image = _pad(image, reach)
    image = ops.conv(image, weights.reshape(-1, 1, 1, 1), padding="valid")
    return ops.conv(image, weights.reshape(1, -1, 1, 1), padding="valid")


def _pad(image: Any, reach: int) -> Any:
    """Repeat the border; every backend has that for an axis at a time only in this way."""
    top, bottom = ops.repeat(image[:, :1], reach, axis=1), ops.repeat(image[:, -1:], reach, axis=1)
    image = ops.concatenate([top, image, bottom], axis=1)
    left, right = ops.repeat(image[:, :, :1], reach, axis=2), ops.repeat(image[:, :, -1:], reach, axis=2)
    return ops.concatenate([left, image, right], axis=2)
