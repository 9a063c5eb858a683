"""Painting on pictures with soft edges: frames, filled rectangles with round corners, text."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box

Color = tuple[int, int, int]
"""B, G, R."""

RIM: Color = (32, 28, 26)
RIM_OPACITY = 0.35
"""What lies around a frame, so that it is seen on any ground."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 22.0
"""Height of a capital in FONT at scale 1, in pixels."""

FINER = 4
"""Text and corners are drawn this much larger and averaged down: OpenCV's own small letters are ragged."""


def outline(picture: NDArray[np.uint8], box: Box, color: Color, thickness: int) -> None:
    """A rounded frame around a box, `thickness` pixels wide, with a dark rim."""
    radius = max(2, round(0.06 * box.width))
    for rim, stroke, opacity in ((thickness + 2, RIM, RIM_OPACITY), (thickness, color, 1.0)):
        around = (thickness + rim) // 2 - thickness // 2
        outer = Box(box.x - around, box.y - around, box.width + 2 * around, box.height + 2 * around)
        mask = _rounded(outer.width, outer.height, radius + around)
        inner_width, inner_height = outer.width - 2 * rim, outer.height - 2 * rim
        if inner_width > 0 and inner_height > 0:
            mask[rim:-rim, rim:-rim] -= _rounded(inner_width, inner_height, max(1, radius - thickness // 2))
        _blend(picture, outer.x, outer.y, mask, stroke, opacity)


def fill(picture: NDArray[np.uint8], box: Box, color: Color, *, radius: int, opacity: float = 1.0) -> None:
    """A filled rectangle with round corners."""
    _blend(picture, box.x, box.y, _rounded(box.width, box.height, radius), color, opacity)


def _rounded(width: int, height: int, radius: int) -> NDArray[np.uint8]:
    """A rectangle with round corners, `uint8[height, width]`, 255 inside, softly 0 outside."""
    mask = np.zeros((height, width), np.uint8)
    radius = max(0, min(radius, width // 2, height // 2))
    if radius == 0:
        mask[:] = 255
        return mask
    fine = np.full((radius * FINER, radius * FINER), 0, np.uint8)
    cv2.circle(fine, (radius * FINER, radius * FINER), radius * FINER, 255, cv2.FILLED)
    corner = cv2.resize(fine, (radius, radius), interpolation=cv2.INTER_AREA)
    mask[:] = 255
    mask[:radius, :radius] = corner
    mask[:radius, -radius:] = corner[:, ::-1]
    mask[-radius:, :radius] = corner[::-1]
    mask[-radius:, -radius:] = corner[::-1, ::-1]
    return mask


def write(picture: NDArray[np.uint8], x: int, y: int, text: str, height: int, color: Color) -> None:
    """Write text whose capitals have their top left corner at x, y."""
    mask, rise = _letters(text, height)
    _blend(picture, x, y - rise, mask, color, 1.0)


def text_width(text: str, height: int) -> int:
    """Pixels that a text takes at a height of its capitals."""
    mask, _ = _letters(text, height)
    return int(mask.shape[1])


@lru_cache(maxsize=512)
def _letters(text: str, height: int) -> tuple[NDArray[np.uint8], int]:
    """Text as `uint8[H, W]`, and how far it rises above its capitals. What the font lacks is shown as `?`."""
    scale, stroke = height * FINER / FONT_HEIGHT, max(1, round(0.14 * height * FINER))
    (width, _), _ = cv2.getTextSize(text, FONT, scale, stroke)
    rise = max(1, round(0.3 * height))
    rows, columns = height + 2 * rise + round(0.2 * height), -(-width // FINER) + 1
    fine = np.zeros((rows * FINER, columns * FINER), np.uint8)
    cv2.putText(fine, text, (stroke // 2, (height + rise) * FINER), FONT, scale, 255, stroke, cv2.LINE_AA)
    mask: NDArray[np.uint8] = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
    return mask, rise


def _blend(picture: NDArray[np.uint8], x: int, y: int, mask: NDArray[np.uint8], color: Color, opacity: float) -> None:
    """Paint a colour through a mask; what lies outside the picture is left out."""
    rows, columns = picture.shape[:2]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(columns, x + mask.shape[1]), min(rows, y + mask.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    weight = mask[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) * np.float32(opacity / 255)
    under = picture[y0:y1, x0:x1]
    under[:] = np.rint(under + (np.array(color, np.float32) - under) * weight)
