"""What every camera is: something that yields frames, never hangs, and says why it died."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Frame


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a live camera is waited for, in seconds.

    Attributes:
        opening: until it is open, and then once more until its first picture is there.
        silent: from then on, without a picture that can be used.
        frozen: with one and the same picture, see `edge.camera.garbage.Stillness`; 0 waits for ever.
    """

    opening: float = 15.0
    silent: float = 2.0
    frozen: float = 2.0


LIMITS = Limits()
"""Those of a camera that nobody told otherwise. Importing picamera2 alone takes seconds from a slow card."""


class Camera(ABC):
    """A source of frames. Use it as a context manager; iterate over it for all frames.

    Attributes:
        spec: what it was opened with, fit for a message: never with a password in it.
        live: True where frames come in their own time and are lost if nobody takes them.
        limits: how long `read()` may take where it is live.
    """

    spec: str
    live: bool
    limits: Limits = LIMITS

    @property
    def promised(self) -> int:
        """How many frames a file source says that it has; 0 where it does not tell."""
        return 0

    @property
    def patience(self) -> float:
        """Seconds without a picture until a live camera that worked is given up."""
        return self.limits.silent

    @abstractmethod
    def read(self) -> Frame | None:
        """The next frame, for a live camera the newest; waits no longer than the camera's `Limits`.

        Returns:
            None when a file source has ended or the camera was closed.

        Raises:
            CameraSoughtError: no picture came in time, but the camera is still sought: call again.
            CameraError: no picture came in time, or the camera is gone.
            BadDataError: a file is damaged; the next call goes on after the damage where there is something.
        """

    def rest(self) -> bool:
        """Take no picture until the next `read()`. Not while another thread reads.

        Returns:
            False where this camera cannot: close it and open it again instead.

        Raises:
            CameraError: it does not answer.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Let go of the device or file. May be called twice."""

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def frame_of(image: NDArray[np.uint8], *, time: float, number: int, color: bool) -> Frame:
    """Make a frame of what OpenCV delivered.

    Args:
        image: `uint8[H, W]`, `uint8[H, W, 1]`, `uint8[H, W, 3]` (B, G, R) or `uint8[H, W, 4]` (B, G, R, alpha).
        time: seconds, see `Frame`.
        number: see `Frame`.
        color: whether the frame carries colour too; a grey image then stands in all three channels.
    """
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        gray = image.reshape(image.shape[:2])
        shown = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR) if color else None
    else:
        shown = image if channels == 3 else cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
        gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY if channels == 3 else cv2.COLOR_BGRA2GRAY)  # type: ignore[assignment]  # as above
    return Frame(gray=gray, time=time, number=number, color=shown if color else None)  # type: ignore[arg-type]  # OpenCV's stubs widen uint8 to any number
