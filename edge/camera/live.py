"""A camera behind OpenCV that a thread of its own empties, so that nobody ever waits on a dead device for ever."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

import edge.opencv  # noqa: F401  # silences OpenCV
from edge.camera.base import LIMITS, Camera, Limits, frame_of
from edge.camera.garbage import Stillness, find_fault, told_frozen
from edge.errors import CameraError, CameraSoughtError
from edge.frame import Frame

LOG = logging.getLogger(__name__)

CLOSE_WITHIN = 2.0
"""Seconds that closing waits for the thread; one that is stuck in a driver is left behind as a daemon thread."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def grab(self) -> bool:
        """Wait for the next picture."""

    def retrieve(self) -> tuple[bool, NDArray[np.uint8]]:
        """Decode it."""

    def release(self) -> None:
        """Close the device."""


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a lost camera is sought again: a pause before each attempt that doubles from `first` up to `longest`.

    Attributes:
        within: seconds after the last picture at which it is given up. 0: at once.
        first: seconds before the first attempt.
        longest: seconds between two attempts at most.
    """

    within: float = 0.0
    first: float = 0.5
    longest: float = 8.0


class LiveCamera(Camera):
    """The newest picture of a device or stream.

    A thread opens the device, takes pictures as they come and keeps the newest; pictures that nobody took leave a
    gap in `Frame.number`. `Frame.time` is the monotonic clock when the picture arrived, before it was decoded, and
    never runs backwards. Pictures may change their size. What is no picture is passed over (`edge.camera.garbage`);
    a device that delivers nothing else, or one picture for ever, counts as lost.

    Args:
        spec: what the camera was opened with, fit for a message.
        open_capture: opens the device; raises `CameraError` where it cannot. Called in the camera's thread.
        color: whether frames carry colour.
        limits: how long opening, and later each `read()`, waits at most.
        reconnect: what to do when a device that has worked is lost.
        clock: seconds that never run backwards, on the monotonic clock but in tests.

    Raises:
        CameraError: the device cannot be opened in time.
    """

    live = True

    def __init__(
        self,
        spec: str,
        open_capture: Callable[[], Capture],
        *,
        color: bool = False,
        limits: Limits = LIMITS,
        reconnect: Reconnect = Reconnect(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self._open_capture = open_capture
        self._color = color
        self.limits = limits
        self._reconnect = reconnect
        self._clock = clock
        self._last = clock()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._opened = False
        self._newest: tuple[NDArray[np.uint8], float, int] | None = None
        self._count = 0
        self._died = ""
        self._fault = ""
        self._thread = threading.Thread(target=self._work, name=f"camera {spec}", daemon=True)
        self._thread.start()
        self._wait_until_open()

    def read(self) -> Frame | None:
        """The newest picture that was not delivered yet; waits for one.

        Returns:
            None once the camera is closed.

        Raises:
            CameraSoughtError: none came in time, but the camera is sought again and may be back at a later call. Never
                later than `Reconnect.within` after the last picture, even where the driver hangs.
            CameraError: none came in time, or the camera is gone for good.
        """
        patience = self._patience()
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._died or self._stopping.is_set(), patience)
            newest, self._newest = self._newest, None
            if self._stopping.is_set():
                return None
        if newest is None:
            self._explain(patience)
        image, taken, number = newest
        return frame_of(image, time=taken, number=number, color=self._color)

    @property
    def patience(self) -> float:
        """Seconds without a picture until this camera is given up; longer where it is sought again."""
        return max(self.limits.silent, self._reconnect.within)

    def _patience(self) -> float:
        """Seconds to wait for a picture: longer for the first one."""
        return self.limits.silent if self._count else self.limits.opening

    def _explain(self, waited: float) -> NoReturn:
        if self._died:
            raise CameraError(self._died)
        away, within = self._clock() - self._last, self._reconnect.within
        if within and away <= within:
            raise CameraSoughtError(f"{self.spec}: no picture for {waited:g} s; it is sought for {within:g} s")
        # Also where the thread is stuck in a driver and can give up nothing.
        seconds, fault = within or waited, self._fault
        if fault:
            raise CameraError(
                f"{self.spec}: for {seconds:g} s every picture {fault}; check its cable, power and format"
            )
        raise CameraError(f"{self.spec}: no picture for {seconds:g} s; is it still connected?")

    def close(self) -> None:
        """Stop the thread, which closes the device."""
        with self._changed:
            self._stopping.set()
            self._changed.notify_all()
        self._thread.join(CLOSE_WITHIN)

    def _wait_until_open(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._opened or self._died, self.limits.opening)
        if self._opened:
            return
        # Not close(): a driver that hangs in open must not make the caller wait once more.
        self._stopping.set()
        seconds = self.limits.opening
        raise CameraError(self._died or f"{self.spec}: does not answer within {seconds:g} s; is it connected?")

    def _work(self) -> None:
        try:
            self._deliver_all()
        except Exception as error:  # whatever it is, read() must hear of it
            told = (
                str(error) if isinstance(error, CameraError) else f"{self.spec}: {type(error).__name__} in its driver"
            )
            with self._changed:
                self._died = told
                self._changed.notify_all()

    def _deliver_all(self) -> None:
        pause = self._reconnect.first
        while not self._stopping.is_set():
            why = ""
            try:
                capture = self._open_capture()
            except CameraError:
                if not self._opened or self._clock() - self._last > self._reconnect.within:
                    raise
            else:
                before = self._count
                why = self._deliver_from(capture)
                if self._count > before:
                    pause = self._reconnect.first
            if self._clock() + pause - self._last > self._reconnect.within and not self._stopping.is_set():
                raise CameraError(
                    f"{self.spec}: {why or 'the camera stopped delivering; check its cable, power and network'}"
                )
            if why:
                LOG.warning("%s: %s; connecting again", self.spec, why)
            self._stopping.wait(pause)
            pause = min(2 * pause, self._reconnect.longest)

    def _deliver_from(self, capture: Capture) -> str:
        """Keep the newest picture until the device ends; why it counts as lost, where it did not end by itself."""
        with self._changed:
            self._opened = True
            self._changed.notify_all()
        began, still = self._clock(), Stillness()
        try:
            while not self._stopping.is_set() and capture.grab():
                taken = max(self._clock(), self._last)
                done, image = capture.retrieve()
                self._fault = find_fault(image) if done else "cannot be decoded"
                if self._fault:
                    if taken - max(self._last, began) > self._patience():
                        return f"every picture {self._fault}; check its cable, power and format"
                    continue
                frozen = still.seconds(image, taken)
                if 0 < self.limits.frozen <= frozen:
                    return told_frozen(frozen)
                with self._changed:
                    self._newest = (image, taken, self._count)
                    self._last = taken
                    self._count += 1
                    self._changed.notify_all()
        except cv2.error:
            return ""  # a damaged stream: as good as an ended one
        finally:
            capture.release()
        return ""
