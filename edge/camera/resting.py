"""A camera that is let go of while nobody may look, and need not be there before somebody does."""

from __future__ import annotations

from collections.abc import Callable

from edge.camera.base import LIMITS, Camera, Limits
from edge.frame import Frame


class RestingCamera(Camera):
    """A live camera that `rest()` closes, and the next `read()` opens again.

    One that has a better way to rest (a Raspberry Pi's own) stays open and takes it. Until the first `read()` or
    `wake()` the device is not touched.

    Args:
        spec: what the camera is opened with, fit for a message.
        open_camera: opens it; raises what `edge.camera.open_camera` raises.
        limits: how long opening, and later each `read()`, may take.
    """

    live = True

    def __init__(self, spec: str, open_camera: Callable[[], Camera], *, limits: Limits = LIMITS) -> None:
        self.spec = spec
        self.limits = limits
        self.resting = True
        """Whether nothing is read from the device."""
        self.delivering = False
        """Whether a frame has come since it was opened or woken last."""
        self._open_camera = open_camera
        self._camera: Camera | None = None
        self._closed = False

    @property
    def patience(self) -> float:
        """The camera's own; before its first frame the time that opening and that frame may take."""
        if self._camera is None or not self.delivering:
            return 2 * self.limits.opening
        return self._camera.patience

    def wake(self) -> None:
        """Open the camera, unless it is open; raises what opening raises."""
        if self._camera is None and not self._closed:
            self._camera = self._open_camera()
            self.limits = self._camera.limits
        self.resting = False

    def read(self) -> Frame | None:
        """The camera's next frame; raises what opening and reading raise."""
        self.wake()
        frame = None if self._camera is None else self._camera.read()
        self.delivering = self.delivering or frame is not None
        return frame

    def rest(self) -> bool:
        """Take no picture until the next `read()`; raises `CameraError` where the camera does not answer."""
        self.delivering = False
        if self._camera is not None and not self._camera.rest():
            self._camera.close()
            self._camera = None
        self.resting = True
        return True

    def close(self) -> None:
        """Close the camera for good."""
        self._closed = True
        if self._camera is not None:
            self._camera.close()
