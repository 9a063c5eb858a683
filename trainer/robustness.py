"""Faces as bad cameras, bad light and careless detectors give them, and how much of a network's accuracy they cost.

Every function here is pure, from `uint8[n, size, size]` to the same shape, and the same for the same seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face, resize_face
from edge.frame import Box

Faces = NDArray[np.uint8]

GAMMA = 2.2
"""Pixels to light: what sRGB's curve comes to on average."""

FACE_SIZES = (12, 16, 20, 24, 32, 40, 48)
"""Sides in pixels of a face in the camera's picture."""

JITTERS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Multiples of the spread of real boxes."""

# Box over FER2013's crop: 0.98 in the middle, 0.79 and 1.13 at the 10th and 90th percentile; each half is drawn as
# half a normal distribution of the logarithm, whose 90th percentile lies 1.2816 standard deviations out.
BOX_MIDDLE = np.log(0.98)
BOX_BELOW = np.log(0.98 / 0.79) / 1.2816
BOX_ABOVE = np.log(1.13 / 0.98) / 1.2816
BOX_SHIFT = 0.05
"""Standard deviation of the box's middle, as a share of the side (`python -m benchmarks.haar_boxes`)."""


@dataclass(frozen=True)
class Corruption:
    """One way in which pictures go wrong.

    Attributes:
        name: an adjective, such as "too dark".
        meaning: what a level is, with its unit; `{}` stands for it.
        levels: five, from mild to severe.
        apply: `(faces, level, seed) -> faces`.
    """

    name: str
    meaning: str
    levels: tuple[float, ...]
    apply: Callable[[Faces, float, int], Faces]

    def describe(self, severity: int) -> str:
        """What severity 1 to 5 means."""
        return self.meaning.format(f"{self.levels[severity - 1]:g}")


def expose(faces: Faces, stops: float, seed: int = 0) -> Faces:
    """Faces under `2 ** stops` times the light; what would be brighter than white is white, as on a sensor."""
    light = (np.arange(256) / 255.0) ** GAMMA * 2.0**stops
    table = np.rint(np.clip(light, 0.0, 1.0) ** (1 / GAMMA) * 255.0).astype(np.uint8)
    return np.asarray(table[faces])


def darken(faces: Faces, stops: float, seed: int = 0) -> Faces:
    """Faces under `2 ** stops` times less light; what few levels of grey remain stay few."""
    return expose(faces, -stops)


def blur(faces: Faces, percent: float, seed: int = 0) -> Faces:
    """Faces out of focus: a Gaussian whose standard deviation is `percent` of the face's side."""
    sigma = faces.shape[1] * percent / 100
    blurred = [cv2.GaussianBlur(face, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE) for face in faces]
    return np.asarray(np.stack(blurred), np.uint8)


def cover(faces: Faces, percent: float, seed: int) -> Faces:
    """Faces of which a square of one grey hides `percent`, anywhere within the picture, each of its own grey."""
    rng = np.random.default_rng(seed)
    size = faces.shape[1]
    side = round(size * (percent / 100) ** 0.5)
    corners = rng.integers(0, size - side + 1, (len(faces), 2))
    covered = faces.copy()
    for face, (left, top), grey in zip(covered, corners, rng.integers(0, 256, len(faces)), strict=True):
        face[top : top + side, left : left + side] = grey
    return covered


def add_noise(faces: Faces, deviation: float, seed: int) -> Faces:
    """Faces with Gaussian noise of `deviation` grey levels in every pixel, as a sensor at high gain has it."""
    noise = np.random.default_rng(seed).normal(0.0, deviation, faces.shape)
    return np.clip(np.rint(faces + noise), 0, 255).astype(np.uint8)


CORRUPTIONS = (
    Corruption("too bright", "{} EV more light", (0.5, 1.0, 1.5, 2.0, 2.5), expose),
    Corruption("too dark", "{} EV less light", (1.0, 2.0, 3.0, 4.0, 5.0), darken),
    Corruption("blurred", "blur of {} % of the side", (1.0, 1.5, 2.0, 3.0, 4.5), blur),
    Corruption("occluded", "a square over {} % of the face", (5.0, 10.0, 20.0, 30.0, 40.0), cover),
    Corruption("noisy", "noise of {} of 255 grey levels", (2.0, 5.0, 10.0, 15.0, 25.0), add_noise),
)


def shrink(faces: Faces, side: int) -> Faces:
    """Faces that were `side` pixels wide in the camera's picture, as `edge.crop` hands them on."""
    size = faces.shape[1]
    return np.stack([resize_face(resize_face(face, side), size) for face in faces])


def jitter(faces: Faces, times: float, seed: int) -> Faces:
    """Faces cut out as a detector does, its boxes `times` as far off as Haar's are; 0 leaves them as they are.

    What a larger box would show beside the face is not in the data: `edge.crop` repeats the border there.
    """
    rng = np.random.default_rng(seed)
    size = faces.shape[1]
    draws, shifts = rng.normal(size=len(faces)), rng.normal(scale=BOX_SHIFT, size=(len(faces), 2))
    scales = np.exp(times * (BOX_MIDDLE + draws * np.where(draws < 0, BOX_BELOW, BOX_ABOVE)))
    cut = []
    for face, scale, (across, down) in zip(faces, scales, np.clip(times * shifts, -0.4, 0.4), strict=True):
        side = max(1, round(size * scale))
        left, top = (round(size * (0.5 + shift) - side / 2) for shift in (across, down))
        cut.append(crop_face(face, Box(left, top, side, side), size))
    return np.stack(cut)


def face_sizes(size: int) -> Sequence[int]:
    """The sides to try for a network that takes `size` pixels: `FACE_SIZES` below it, and its own."""
    return (*(side for side in FACE_SIZES if side < size), size)


def sample(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Places `int64[count]`, ascending, of a random sample with each label's share kept; all where there are fewer."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    kept = min(count, len(labels))
    return np.sort(order[np.linspace(0, len(labels) - 1, kept).round().astype(np.int64)])
