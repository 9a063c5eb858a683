"""How a camera hangs and what of its picture matters: rotation, flip and region of interest, for all sources alike."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera
from edge.frame import Box, Frame

WHOLE = (0.0, 0.0, 1.0, 1.0)
"""The region that is all of the picture."""

_ROTATIONS = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
_FLIPS = {"horizontal": 1, "vertical": 0}
"""OpenCV's codes: around the vertical axis, around the horizontal one."""


@dataclass(frozen=True, slots=True)
class View:
    """What is done to every picture before anybody looks at it: first rotated, then flipped, then cut.

    Attributes:
        rotate: degrees clockwise: 0, 90, 180 or 270.
        flip: "horizontal" (left and right change places), "vertical" (top and bottom do) or empty.
        region: x, y, width and height of what is looked at, as fractions of the picture once it is upright, so that
            it means the same at every resolution.
    """

    rotate: int = 0
    flip: str = ""
    region: tuple[float, float, float, float] = WHOLE

    def apply(self, frame: Frame) -> Frame:
        """Turn a frame upright and cut its region out.

        Args:
            frame: as the source delivered it, whole.

        Returns:
            A frame whose pixels are contiguous, with `origin` and `whole` set; the same frame where nothing is asked.
            Only the region's pixels are ever touched.
        """
        if self == UNTOUCHED:
            return frame
        whole = frame.size[::-1] if self.rotate in (90, 270) else frame.size
        region = self._pixels(whole)
        source = self._before(region, whole)
        return replace(
            frame,
            gray=self._cut(frame.gray, source),
            color=None if frame.color is None else self._cut(frame.color, source),
            origin=(region.x, region.y),
            whole=whole,
        )

    def _pixels(self, whole: tuple[int, int]) -> Box:
        """The region in pixels of the upright picture; at least one, whatever the fractions."""
        x, y, width, height = self.region
        left, top = min(round(x * whole[0]), whole[0] - 1), min(round(y * whole[1]), whole[1] - 1)
        right, bottom = min(round((x + width) * whole[0]), whole[0]), min(round((y + height) * whole[1]), whole[1])
        return Box(left, top, max(right - left, 1), max(bottom - top, 1))

    def _before(self, box: Box, whole: tuple[int, int]) -> Box:
        """Where a box of the upright picture lay before flip and rotation."""
        x, y, width, height = box.as_tuple()
        if self.flip == "horizontal":
            x = whole[0] - x - width
        elif self.flip == "vertical":
            y = whole[1] - y - height
        right, below = whole[0] - x - width, whole[1] - y - height
        match self.rotate:
            case 90:
                return Box(y, right, height, width)
            case 180:
                return Box(right, below, width, height)
            case 270:
                return Box(below, x, height, width)
        return Box(x, y, width, height)

    def _cut(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
        image = image[box.y : box.y + box.height, box.x : box.x + box.width]
        if self.rotate:
            image = cv2.rotate(image, _ROTATIONS[self.rotate])  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
        if self.flip:
            image = cv2.flip(image, _FLIPS[self.flip])  # type: ignore[assignment]  # as above
        return np.ascontiguousarray(image)


UNTOUCHED = View()
"""The view that leaves frames as they are."""


class ViewedCamera(Camera):
    """A camera whose frames are all seen through a view.

    Args:
        camera: any; closed together with this one.
        view: what is done to its frames.
    """

    def __init__(self, camera: Camera, view: View) -> None:
        self.spec = camera.spec
        self.live = camera.live
        self.limits = camera.limits
        self._camera = camera
        self._view = view

    @property
    def promised(self) -> int:
        """How many frames the camera promises."""
        return self._camera.promised

    @property
    def patience(self) -> float:
        """The camera's own."""
        return self._camera.patience

    def read(self) -> Frame | None:
        """The camera's next frame, upright and cut; raises what the camera raises."""
        frame = self._camera.read()
        return None if frame is None else self._view.apply(frame)

    def rest(self) -> bool:
        """The camera's own."""
        return self._camera.rest()

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()
