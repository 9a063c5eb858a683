"""THE face crop and its scaling: what the network sees, in training, calibration and on the Pi alike.

Needs numpy and OpenCV alone, so that a GPU box without an MQTT client or an interpreter can train.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box

PADDING = cv2.BORDER_REPLICATE
"""How a crop that reaches over the frame's edge is filled. Augmentation fills its own borders the same way."""


def crop_face(image: NDArray[np.uint8], box: Box, size: int, margin: float = 1.0) -> NDArray[np.uint8]:
    """Cut a square around a face and bring it to the network's size.

    Args:
        image: `uint8[H, W]` or `uint8[H, W, C]`.
        box: the face; may reach over the image's edge but must overlap the image.
        size: side of the result in pixels.
        margin: side of the cut-out square over the longer side of `box`.

    Returns:
        `uint8[size, size]` or `uint8[size, size, C]`.

    Raises:
        ValueError: the box is empty or lies wholly outside the image.
    """
    height, width = image.shape[:2]
    side = max(1, round(max(box.width, box.height) * margin))
    left = round(box.x + (box.width - side) / 2)
    top = round(box.y + (box.height - side) / 2)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if box.width <= 0 or box.height <= 0 or x0 >= x1 or y0 >= y1:
        raise ValueError(f"{box} does not overlap the image of {width}x{height} pixels")
    face = image[y0:y1, x0:x1]
    if face.shape[:2] != (side, side):
        face = cv2.copyMakeBorder(  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
            face, y0 - top, top + side - y1, x0 - left, left + side - x1, PADDING
        )
    return resize_face(face, size)


def resize_face(face: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Bring a face that is already cut out to `size` x `size`; pictures that have that size are left untouched."""
    if face.shape[:2] == (size, size):
        return face
    # Averaging over areas keeps shrunk faces free of aliasing; it would make enlarged ones blocky. Exact: the plain
    # linear one rounds differently on ARM.
    shrink = face.shape[0] >= size and face.shape[1] >= size
    return cv2.resize(face, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR_EXACT)  # type: ignore[return-value]  # as above


def scale_pixels(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`uint8` 0..255 to `float32` -1..1 (`x / 127.5 - 1`), the scaling of the ImageNet MobileNets."""
    return pixels.astype(np.float32) / np.float32(127.5) - np.float32(1.0)
