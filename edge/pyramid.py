"""A frame at ever halved resolutions, made only as far as somebody asks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box


class Pyramid:
    """A grey picture and its halvings, and pieces of it at any scale.

    Halving by areas has a fast path in OpenCV (a few microseconds for 640x480) and leaves no aliasing, so a piece at
    any smaller scale is best cut out of the halving just above it.
    """

    def __init__(self, gray: NDArray[np.uint8]) -> None:
        """Take a picture `uint8[H, W]`; nothing is computed yet."""
        self._levels = [gray]

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)` of the full picture in pixels."""
        height, width = self._levels[0].shape
        return (width, height)

    def level(self, number: int) -> NDArray[np.uint8]:
        """The picture halved `number` times, `uint8[H >> number, W >> number]` or 1 pixel; odd rests are left out."""
        while len(self._levels) <= number:
            last = self._levels[-1]
            height, width = (max(1, side // 2) for side in last.shape)
            self._levels.append(
                cv2.resize(last[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[arg-type]  # OpenCV's stubs widen uint8 to any number
            )
        return self._levels[number]

    def piece(self, region: Box, scale: float) -> NDArray[np.uint8]:
        """A part of the picture at another resolution.

        Args:
            region: the part, inside the picture and not empty.
            scale: pixels of the result per pixel of the picture; above 1 enlarges.

        Returns:
            `uint8[h, w]`, at least 1x1.
        """
        number, step = 0, 1
        shortest = min(region.width, region.height)
        while scale * step <= 0.5 and shortest >= 4 * step:
            number, step = number + 1, 2 * step
        level = self.level(number)
        left, top = region.x // step, region.y // step
        part = level[top : (region.y + region.height) // step, left : (region.x + region.width) // step]
        size = (max(1, round(region.width * scale)), max(1, round(region.height * scale)))
        if part.shape == size[::-1]:
            return part
        # Exact: the plain one rounds differently on ARM, and what differs by a grey level ends as another event.
        return cv2.resize(part, size, interpolation=cv2.INTER_LINEAR_EXACT)  # type: ignore[return-value]  # as above
