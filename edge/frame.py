"""The values that flow from camera to sink. All are frozen; arrays inside them are not to be written to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned bounding box in whole pixels; `x`, `y` is its top left corner."""

    x: int
    y: int
    width: int
    height: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return self.width * self.height

    @property
    def middle(self) -> tuple[float, float]:
        """`(x, y)` in pixels."""
        return (self.x + self.width / 2, self.y + self.height / 2)

    def moved_to(self, x: float, y: float) -> Box:
        """The same box with its middle elsewhere."""
        return Box(round(x - self.width / 2), round(y - self.height / 2), self.width, self.height)

    def within(self, width: int, height: int) -> Box:
        """The part of it that lies in a picture; without any width or height where none does."""
        left, top = max(0, self.x), max(0, self.y)
        right, bottom = min(width, self.x + self.width), min(height, self.y + self.height)
        return Box(left, top, max(0, right - left), max(0, bottom - top))

    def iou(self, other: Box) -> float:
        """Intersection over union, 0.0 (apart) to 1.0 (the same)."""
        wide = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        high = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        if wide <= 0 or high <= 0:
            return 0.0
        shared = wide * high
        return shared / (self.area + other.area - shared)

    def as_tuple(self) -> tuple[int, int, int, int]:
        """`(x, y, width, height)`, as events and JSON carry it."""
        return (self.x, self.y, self.width, self.height)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture from a camera, upright as `edge.camera.view.View` turned it, and of it what is to be looked at.

    Attributes:
        gray: `uint8[H, W]`, luminance.
        time: seconds. Monotonic at capture for live sources, media time for files, number / fps for folders.
            Every duration is a difference of these. Never less than that of the frame before.
        number: counts the source's frames from 0; a gap means that frames were skipped.
        color: `uint8[H, W, 3]` in OpenCV's order (B, G, R), only where the source was asked for it.
        name: what the picture is called where it is a file of its own (`images:`), else empty.
        origin: where `gray`'s top left corner lies in the whole picture, `(x, y)` in pixels; not `(0, 0)` where a
            region of interest was cut out.
        whole: width and height of the whole picture in pixels; that of `gray` unless told.
    """

    gray: NDArray[np.uint8]
    time: float
    number: int
    color: NDArray[np.uint8] | None = None
    name: str = ""
    origin: tuple[int, int] = (0, 0)
    whole: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if self.whole == (0, 0):
            object.__setattr__(self, "whole", self.size)

    @property
    def size(self) -> tuple[int, int]:
        """`(width, height)` of `gray` in pixels."""
        height, width = self.gray.shape
        return (width, height)


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a frame.

    Attributes:
        box: where it is.
        track: the same number for the same face in every frame of one start.
        seen: False while the detector misses it for a moment; `box` is then where it was last seen.
    """

    box: Box
    track: int
    seen: bool = True
