"""What a face looked like, to find it again in the next frame without asking Haar.

Normalised cross-correlation (OpenCV's `TM_CCOEFF_NORMED`): brighter and darker light change nothing. At the low
resolution at which it is done it takes some 20 microseconds, a fortieth of a search with Haar.
"""

from __future__ import annotations

from math import ceil

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.pyramid import Pyramid

SIDE = 16
"""Side in pixels, to a factor of 1.4, of the picture that is kept."""

MIDDLE = 0.8
"""Share of a box's side that is kept: the wall beside a face does not come along."""

FLAT = 3.0
"""Standard deviation in grey levels below which there is nothing to be recognised."""

ALIKE = 0.75
"""Correlation from which it is the same face."""


class Looks:
    """The middle of a face, from the frame in which Haar found it."""

    def __init__(self, pyramid: Pyramid, box: Box) -> None:
        """Remember a face.

        Args:
            pyramid: the frame.
            box: the face in it.
        """
        wide = box.width * MIDDLE
        # The halving nearest to SIDE, by ratio.
        self._level = max(0, round(np.log2(wide / SIDE)))
        side = max(1, round(wide) >> self._level)
        picture = pyramid.level(self._level)
        x, y = (at / (1 << self._level) for at in box.middle)
        left, top = (max(0, round(at - side / 2)) for at in (x, y))
        kept = picture[top : top + side, left : left + side]
        # Where the face's middle lies in it, to a fraction of a pixel: rounding must not move the face.
        self._middle = (x - left, y - top)
        # Copied, so that it does not keep the whole frame in memory.
        self._kept: NDArray[np.uint8] | None = None if kept.std() < FLAT else kept.copy()

    def find(self, pyramid: Pyramid, middle: tuple[float, float], far: float) -> tuple[float, float] | None:
        """Look for the face.

        Args:
            pyramid: another frame of the same size.
            middle: where its middle should be, in pixels.
            far: how far off it may be, over its side.

        Returns:
            Where its middle is, in pixels; None where nothing there looks like it.
        """
        if self._kept is None:
            return None
        picture, step = pyramid.level(self._level), 1 << self._level
        height, width = self._kept.shape
        room = max(2, ceil(far * width / MIDDLE))
        left, top = (round(at / step - off) - room for at, off in zip(middle, self._middle, strict=True))
        right, bottom = left + width + 2 * room, top + height + 2 * room
        left, top = max(0, left), max(0, top)
        part = picture[top : max(0, bottom), left : max(0, right)]
        if part.shape[0] < height or part.shape[1] < width:
            return None
        _, likeness, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(part, self._kept, cv2.TM_CCOEFF_NORMED))
        if not likeness >= ALIKE:
            return None
        return ((left + x + self._middle[0]) * step, (top + y + self._middle[1]) * step)
