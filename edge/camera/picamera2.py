"""The Raspberry Pi's own camera through picamera2, which comes from the system (apt), never from pip."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

import edge.opencv  # noqa: F401  # silences OpenCV
from edge.camera.base import Camera
from edge.errors import CameraError
from edge.frame import Frame

DEFAULT_SIZE = (640, 480)
DEFAULT_FPS = 30.0
CLOSE_WITHIN = 2.0
"""Seconds that closing waits for libcamera, which hangs for ever with a camera that is lost (picamera2 #1065)."""

INSTALL_ADVICE = (
    "sudo apt install python3-picamera2, and make the virtual environment with: python3 -m venv --system-site-packages"
)

NUMPY_ADVICE = "on Bookworm, install Mien with the extra that fits apt's numpy 1: pip install '.[tflite-runtime]'"


class PiCamera(Camera):
    """A camera on the Pi's ribbon cable.

    The grey picture is the Y plane of the small (`lores`) YUV420 stream, so nothing is converted. A camera that
    times out is dead for good: it is not opened again in this process, as that runs the Pi out of contiguous memory
    (picamera2 #887, #958). End the process and let systemd start it again.

    Args:
        spec: what the camera was opened with.
        index: which camera, 0 for the first.
        color: whether frames carry colour, from the `main` stream of the same exposure.
        size: width and height in pixels, even; 640x480 unless told.
        fps: frames per second; 30 unless told.
        timeout: seconds that each `read()` waits at most.

    Raises:
        CameraError: picamera2 is not installed, there is no such camera, or it is busy.
    """

    live = True

    def __init__(
        self,
        spec: str = "picamera2",
        *,
        index: int = 0,
        color: bool = False,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        timeout: float = 5.0,
    ) -> None:
        self.spec = spec
        self._color = color
        self._timeout = timeout
        self._width, self._height = size or DEFAULT_SIZE
        self._number = 0
        self._died = ""
        self._closed = False
        self._camera = _open(spec, index)
        try:
            self._start(fps or DEFAULT_FPS)
        except Exception as error:  # libcamera's errors are of many kinds
            self.close()
            raise CameraError(
                f"{spec}: does not start at {self._width}x{self._height} ({error}); try another size"
            ) from None

    def _start(self, fps: float) -> None:
        size = (self._width, self._height)
        self._camera.configure(
            self._camera.create_video_configuration(
                main={"size": size, "format": "RGB888"},  # B, G, R in memory (picamera2 #848)
                lores={"size": size, "format": "YUV420"},
                controls={"FrameRate": fps},
                queue=False,  # else a capture may be older than the call
            )
        )
        self._camera.start()

    def read(self) -> Frame | None:
        """The next picture, exposed when `Frame.time` says.

        Returns:
            None once the camera is closed.

        Raises:
            CameraError: none came within the timeout; from then on every call raises.
        """
        if self._closed:
            return None
        if self._died:
            raise CameraError(self._died)
        try:
            request = self._camera.capture_request(wait=False).get_result(timeout=self._timeout)
        except TimeoutError:
            self._died = (
                f"{self.spec}: no picture for {self._timeout:g} s, the camera is lost; check its cable and power and "
                "start mien again"
            )
            raise CameraError(self._died) from None
        except Exception as error:  # libcamera's errors are of many kinds
            self._died = f"{self.spec}: the capture failed ({error}); check the camera's cable and start mien again"
            raise CameraError(self._died) from None
        try:
            planes = request.make_array("lores")
            color = (
                np.ascontiguousarray(request.make_array("main")[: self._height, : self._width]) if self._color else None
            )
            stamp = request.get_metadata().get("SensorTimestamp")
        finally:
            request.release()
        frame = Frame(
            # Rows are padded to the hardware's stride, and the colour planes lie below (picamera2 #645).
            gray=np.ascontiguousarray(planes[: self._height, : self._width]),
            time=_monotonic(stamp),
            number=self._number,
            color=color,
        )
        self._number += 1
        return frame

    def close(self) -> None:
        """Stop the camera, in a thread of its own because a lost one never answers."""
        if self._closed:
            return
        self._closed = True
        closer = threading.Thread(target=self._camera.close, name=f"close {self.spec}", daemon=True)
        closer.start()
        closer.join(CLOSE_WITHIN)


def _open(spec: str, index: int) -> Any:  # picamera2 has no types
    try:
        from picamera2 import Picamera2
    except ModuleNotFoundError as error:
        raise CameraError(f"{spec}: the system's picamera2 is not there ({error}); {INSTALL_ADVICE}") from None
    except (ImportError, ValueError) as error:  # ValueError: built against another numpy
        raise CameraError(
            f"{spec}: the system's picamera2 does not load ({error}); the usual cause is a numpy from pip that "
            f"is newer than apt's; {NUMPY_ADVICE}"
        ) from None
    try:
        found = len(Picamera2.global_camera_info())
        if index >= found:
            raise CameraError(
                f"{spec}: no such camera, {found} found; check the ribbon cable on both ends, then: "
                "rpicam-hello --list-cameras"
            )
        return Picamera2(index)
    except CameraError:
        raise
    except Exception as error:  # libcamera's errors are of many kinds
        raise CameraError(
            f"{spec}: cannot be opened ({error}); another program may be using it, or the user is not in group video"
        ) from None


def _monotonic(stamp: int | None) -> float:
    """When the sensor exposed: its time stamp, nanoseconds since boot, on the monotonic clock, in seconds."""
    now = time.monotonic()
    if stamp is None:
        return now
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - stamp / 1e9
    # Emulated cameras stamp with garbage.
    return now - age if 0.0 <= age < 10.0 else now
