"""The Raspberry Pi's own camera through picamera2, which comes from the system (apt), never from pip."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

import edge.opencv  # noqa: F401  # silences OpenCV
from edge.camera.base import LIMITS, Camera, Limits
from edge.camera.garbage import Stillness, told_frozen
from edge.errors import CameraError, ConfigError
from edge.frame import Frame
from edge.leaving import hold

DEFAULT_SIZE = (640, 480)
DEFAULT_FPS = 30.0
CLOSE_WITHIN = 2.0
"""Seconds that closing waits for libcamera, which may hang for ever (picamera2 #1065)."""

INSTALL_ADVICE = (
    "sudo apt install python3-picamera2, and make the virtual environment with: python3 -m venv --system-site-packages"
)

RESTART_ADVICE = "check its cable and power and start mien again"

NUMPY_ADVICE = "on Bookworm, install Mien with the extra that fits apt's numpy 1: pip install '.[tflite-runtime]'"


class PiCamera(Camera):
    """A camera on the Pi's ribbon cable.

    The grey picture is the Y plane of the `lores` YUV420 stream, so nothing is converted. The `main` stream, which
    picamera2 insists on and which must not be smaller, carries colour where somebody asks for it and else as few bytes
    as it can. A camera that is silent, freezes or delivers what is no picture is dead for good: it is not opened again
    in this process, as that runs the Pi out of contiguous memory (picamera2 #887, #958). End the process and let
    systemd start it again. For the same reason a camera that rests stays open with its memory, but its stream is
    stopped: the sensor sleeps, and no picture is taken. A camera that does not answer is not even closed: libcamera
    waits for it for ever, with the interpreter's lock, so that no other thread could say what happened or end the
    process (`edge.leaving`).

    Args:
        spec: what the camera was opened with.
        index: which camera, 0 for the first.
        color: whether frames carry colour, from the `main` stream of the same exposure.
        size: width and height in pixels, even; 640x480 unless told.
        fps: frames per second; 30 unless told.
        limits: how long opening, and later each `read()`, waits at most.

    Raises:
        CameraError: picamera2 is not installed, there is no such camera, it is busy or does not answer.
        ConfigError: the size is odd.
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
        limits: Limits = LIMITS,
    ) -> None:
        self.spec = spec
        self._color = color
        self.limits = limits
        self._width, self._height = size or DEFAULT_SIZE
        if self._width % 2 or self._height % 2:
            raise ConfigError(
                f"{spec}: {self._width}x{self._height} is asked for, but this camera has even sizes alone; set "
                "source.width and source.height to even numbers"
            )
        self._number = 0
        self._last = 0.0
        self._still = Stillness()
        self._died = ""
        self._closed = self._resting = self._silent = False
        self._camera: Any = None  # picamera2 has no types
        opened = _within(limits.opening, lambda: self._open(index, fps or DEFAULT_FPS), f"open {spec}")
        if not opened:
            self._closed = True
            hold(self)
            raise CameraError(f"{spec}: does not open within {limits.opening:g} s; {RESTART_ADVICE}")

    def _open(self, index: int, fps: float) -> None:
        self._camera = _find(self.spec, index)
        size = (self._width, self._height)
        try:
            from libcamera import ColorSpace  # comes with picamera2

            self._camera.configure(
                self._camera.create_video_configuration(
                    # RGB888 is B, G, R in memory (picamera2 #848).
                    main={"size": size, "format": "RGB888" if self._color else "YUV420"},
                    lores={"size": size, "format": "YUV420"},
                    # Grey levels 0 to 255, as in every other source and in training; a video's usual are 16 to 235.
                    colour_space=ColorSpace.Sycc(),
                    controls={"FrameRate": fps},
                    queue=False,  # else a capture may be older than the call
                )
            )
            self._camera.start()
        except Exception as error:  # libcamera's errors are of many kinds
            self.close()
            raise CameraError(
                f"{self.spec}: does not start at {self._width}x{self._height} ({error}); try another size"
            ) from None

    def read(self) -> Frame | None:
        """The next picture, exposed when `Frame.time` says.

        Returns:
            None once the camera is closed.

        Raises:
            CameraError: none came in time, or what came is none; from then on every call raises.
        """
        if self._closed:
            return None
        if self._died:
            raise CameraError(self._died)
        patience = self.limits.silent if self._number and not self._resting else self.limits.opening
        if self._resting:
            self._command(self._camera.start, "start")
            self._resting = False
        try:
            request = self._camera.capture_request(wait=False).get_result(timeout=patience)
        except TimeoutError:
            self._die(f"no picture for {patience:g} s, the camera is lost; {RESTART_ADVICE}", silent=True)
        except Exception as error:  # libcamera's errors are of many kinds
            self._die(f"the capture failed ({error}); {RESTART_ADVICE}")
        try:
            planes = request.make_array("lores")
            color = request.make_array("main") if self._color else None
            stamp = request.get_metadata().get("SensorTimestamp")
        except Exception as error:  # as above
            self._die(f"a picture cannot be read ({error}); {RESTART_ADVICE}")
        finally:
            request.release()
        # Rows are padded to the hardware's stride, and the colour planes lie below (picamera2 #645).
        gray = self._cut(planes)
        self._last = max(_monotonic(stamp), self._last)
        frozen = self._still.seconds(gray, self._last)
        if 0 < self.limits.frozen <= frozen:
            self._die(told_frozen(frozen))
        number, self._number = self._number, self._number + 1
        return Frame(gray, self._last, number, color=None if color is None else self._cut(color))

    def _cut(self, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if array.dtype != np.uint8 or array.shape[0] < self._height or array.shape[1] < self._width:
            found = f"{array.dtype} {'x'.join(map(str, array.shape))}"
            self._die(f"garbage ({found}) where a picture was due; {RESTART_ADVICE}")
        return np.ascontiguousarray(array[: self._height, : self._width])

    def rest(self) -> bool:
        """Stop the stream; the next `read()` starts it again."""
        if not (self._resting or self._closed or self._died):
            self._command(self._camera.stop, "stop")
            self._resting, self._still = True, Stillness()
        return True

    def _command(self, command: Callable[[], object], name: str) -> None:
        try:
            done = _within(self.limits.opening if name == "start" else CLOSE_WITHIN, command, f"{name} {self.spec}")
        except Exception as error:  # libcamera's errors are of many kinds
            self._die(f"does not {name} ({error}); {RESTART_ADVICE}")
        if not done:
            self._die(f"does not {name}, the camera is lost; {RESTART_ADVICE}", silent=True)

    def _die(self, why: str, *, silent: bool = False) -> NoReturn:
        self._died = f"{self.spec}: {why}"
        if silent:
            self._silent = True
            hold(self._camera)
        raise CameraError(self._died) from None

    def close(self) -> None:
        """Stop the camera, in a thread of its own because it may never answer; one that is known not to is left."""
        if not self._closed:
            self._closed = True
            if not (self._silent or _within(CLOSE_WITHIN, self._camera.close, f"close {self.spec}")):
                hold(self._camera)


def _within(seconds: float, work: Callable[[], object], name: str) -> bool:
    """Do something in a thread that is left behind where libcamera hangs; whether it was done in time.

    Raises:
        Exception: what the work raises in time.
    """
    raised: list[Exception] = []

    def attempt() -> None:
        try:
            work()
        except Exception as error:  # raised again below
            raised.append(error)

    thread = threading.Thread(target=attempt, name=name, daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return not thread.is_alive()


def _find(spec: str, index: int) -> Any:
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
