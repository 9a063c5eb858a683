"""Finds faces: OpenCV's Haar cascade for frontal faces, on one grey picture at a time.

The method is Viola and Jones, "Rapid object detection using a boosted cascade of simple features" (CVPR 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.cascade import find_cascade, load_cascade
from edge.frame import Box
from edge.pyramid import Pyramid

SMALLEST = 24
"""Side in pixels of the window that the cascade was trained on; it finds no smaller face."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What Haar took for a face.

    Attributes:
        box: where.
        support: how many of the positions and sizes that were tried there speak for it.
    """

    box: Box
    support: int


class Detector:
    """The cascade, loaded. Not to be shared between threads.

    Args:
        cascade: the XML; None: see `find_cascade`.
        scale_factor: step between two sizes that are searched, above 1; nearer to 1 finds more and takes longer.
        min_neighbors: how many overlapping hits make a face; more means fewer false ones.
        min_face: the smallest face to be found, as a fraction of the picture's height.

    Attributes:
        cascade: OpenCV's classifier; all searching goes through its `detectMultiScale`.
        path: the XML it came from.

    Raises:
        InputNotFoundError: the cascade is not there.
        BadDataError: the file is no cascade.
        UnavailableError: this OpenCV has no cascades any more.
    """

    def __init__(
        self,
        cascade: Path | None = None,
        *,
        scale_factor: float = 1.1,
        min_neighbors: int = 5,
        min_face: float = 0.08,
    ) -> None:
        if scale_factor <= 1.0:
            raise ValueError(f"scale_factor must be above 1, not {scale_factor}")
        self.path = find_cascade(cascade)
        self.cascade = load_cascade(self.path)
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors
        self.min_face = min_face

    def detect(self, gray: NDArray[np.uint8]) -> list[Box]:
        """Find the frontal faces.

        Args:
            gray: `uint8[H, W]`.

        Returns:
            Their boxes, square, inside the picture, from left to right and then from top to bottom.
        """
        height, width = gray.shape
        if min(height, width) < SMALLEST:
            return []
        side = max(SMALLEST, round(self.min_face * height))
        found = self.cascade.detectMultiScale(
            gray, scaleFactor=self.scale_factor, minNeighbors=self.min_neighbors, minSize=(side, side)
        )
        return sorted((Box(*map(int, box)) for box in found), key=Box.as_tuple)

    def search(
        self,
        pyramid: Pyramid,
        region: Box,
        *,
        scale: float,
        smallest: int,
        largest: int,
        step: float,
        neighbors: int,
        without: Sequence[Box] = (),
    ) -> list[Hit]:
        """Find faces of known sizes in a part of a picture, at another resolution.

        Args:
            pyramid: the picture.
            region: where to look; what reaches over the picture's edge is left out.
            scale: pixels searched per pixel of the picture. A face that is more than 48 px wide there is searched at
                every second pixel of its size and a smaller one at every fourth, as OpenCV has it, so a larger scale
                finds more and takes longer.
            smallest: side in pixels of the smallest face.
            largest: of the largest.
            step: between two sizes, above 1.
            neighbors: how many overlapping hits make a face.
            without: faces that are known already. They are painted over, as nothing costs Haar more than a face.

        Returns:
            Them in the picture's pixels, their boxes square, in no order.
        """
        width, height = pyramid.size
        x0, y0 = max(0, region.x), max(0, region.y)
        x1, y1 = min(width, region.x + region.width), min(height, region.y + region.height)
        low, high = max(SMALLEST, round(smallest * scale)), round(largest * scale)
        if min(x1 - x0, y1 - y0) * scale < low or high < low:
            return []
        piece = pyramid.piece(Box(x0, y0, x1 - x0, y1 - y0), scale)
        if without:
            piece = _paint_over(piece, [_scaled(box, x0, y0, scale) for box in without])
        found, supports = self.cascade.detectMultiScale2(
            piece, scaleFactor=step, minNeighbors=neighbors, minSize=(low, low), maxSize=(high, high)
        )
        hits = []
        for (x, y, side, _), support in zip(found, supports, strict=True):
            wide = round(side / scale)
            hits.append(Hit(Box(x0 + round(x / scale), y0 + round(y / scale), wide, wide), int(support)))
        return hits


def _scaled(box: Box, x0: int, y0: int, scale: float) -> Box:
    """A box in the pixels of a piece that begins at `x0`, `y0`."""
    return Box(*(round(value * scale) for value in (box.x - x0, box.y - y0, box.width, box.height)))


def _paint_over(piece: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """The piece with one grey in place of each box; the piece itself, which may be the frame, is left as it is."""
    inside = [part for box in boxes if (part := box.within(piece.shape[1], piece.shape[0])).area]
    if not inside:
        return piece
    painted = piece.copy()
    for box in inside:
        under = painted[box.y : box.y + box.height, box.x : box.x + box.width]
        under[:] = round(cv2.mean(under)[0])
    return painted
