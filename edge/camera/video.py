"""A video file as a camera: every frame, in order, with its own time."""

from __future__ import annotations

import stat
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera, frame_of
from edge.camera.garbage import find_fault
from edge.errors import BadDataError, InputNotFoundError
from edge.frame import Frame
from edge.opencv import file_name
from edge.pictures import MAX_PIXELS

ASSUMED_FPS = 25.0
"""Where neither the container nor the caller tells."""

EXACT = frozenset({".mp4", ".m4v", ".mov", ".avi"})
"""Containers that count their frames. Others tell a duration, which the sound may outlast the pictures by."""

BROKEN_FRAMES = 250
"""So many frames in a row that cannot be decoded are read over to find what comes after them; more are the end."""

SLACK_FRAMES, SLACK_SHARE, SLACK_SECONDS = 2, 0.02, 1.0


class VideoCamera(Camera):
    """All frames of a video file.

    Every frame that can be decoded is delivered, and times never run backwards, whatever the container says. Frames
    that cannot be decoded leave a gap in `Frame.number`; what a decoder makes of half a frame is a frame. After the
    last one a damaged file raises `BadDataError` once, with the number of the first frame broken or missing.

    Args:
        path: the file.
        color: whether frames carry colour.
        fps: used for `Frame.time` only where the file itself tells none.

    Raises:
        InputNotFoundError: the file is not there or cannot be read.
        BadDataError: it is no video, is cut short before its first frame, or its frames are too large.
    """

    live = False

    def __init__(self, path: Path, *, color: bool = False, fps: float | None = None) -> None:
        self.spec = str(path)
        self._path = path
        self._color = color
        _check_readable(path)
        try:
            # Absolute, so that no file name is taken for one of FFmpeg's protocols.
            self._capture = cv2.VideoCapture(file_name(path), cv2.CAP_FFMPEG)
        except UnicodeEncodeError:
            raise BadDataError(
                f"{path}: its name or a folder's is no UTF-8; OpenCV opens none such, rename it"
            ) from None
        if not self._capture.isOpened():
            raise BadDataError(f"{path}: not a video, or cut short; check that it plays, or copy it again")
        told = self._capture.get(cv2.CAP_PROP_FPS)
        self._fps = told if np.isfinite(told) and told > 0 else fps or ASSUMED_FPS
        count = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self._promised = int(count) if np.isfinite(count) and 0 < count < 1e9 else 0
        width, height = (int(self._capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            self.close()
            raise BadDataError(f"{path}: frames of {width:,} x {height:,} pixels are more than Mien takes into memory")
        self._number = 0
        self._time = -1.0 / self._fps
        self._broken = 0
        self._first_broken = 0
        self._ended = False

    @property
    def promised(self) -> int:
        """How many frames the container promises, 0 where it does not tell."""
        return self._promised

    def read(self) -> Frame | None:
        """The next frame.

        Raises:
            BadDataError: there is none, and the file broke off before its end or had broken frames.
        """
        if self._ended:
            return None
        image = self._find_next()
        if image is None:
            self._ended = True
            self._check_complete()
            return None
        self._time = self._media_time()
        frame = frame_of(image, time=self._time, number=self._number, color=self._color)
        self._number += 1
        return frame

    def _find_next(self) -> NDArray[np.uint8] | None:
        """The next picture after frames that are broken; None at the end."""
        for failed in range(BROKEN_FRAMES + 1):
            image = self._decode()
            if image is not None:
                if failed and not self._broken:
                    self._first_broken = self._number
                self._broken += failed
                self._number += failed
                return image
        return None

    def _decode(self) -> NDArray[np.uint8] | None:
        try:
            done, image = self._capture.read()
        except cv2.error:
            return None
        return image if done and not find_fault(image) else None  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number

    def _media_time(self) -> float:
        told = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
        # Some containers hold no times, or times that run backwards.
        return told if np.isfinite(told) and told > self._time else self._time + 1.0 / self._fps

    def _check_complete(self) -> None:
        if self._number == 0:
            raise BadDataError(f"{self.spec}: breaks off at frame 0: nothing in this video can be decoded")
        lacking = self._promised - self._number
        # A variable frame rate makes the count a guess, so the time must fall short as well.
        end = self._time + 1.0 / self._fps
        short = self._promised / self._fps - end
        slack = float(SLACK_FRAMES)
        seconds = slack / self._fps
        if self._path.suffix.lower() not in EXACT:
            slack = max(slack, SLACK_SHARE * self._promised)
            seconds = max(slack / self._fps, SLACK_SECONDS)
        if lacking > slack and short > seconds:
            raise BadDataError(
                f"{self.spec}: breaks off at frame {self._number} of {self._promised} ({end:.1f} s); what came before "
                "it was processed; copy the file again"
            )
        if self._broken:
            raise BadDataError(
                f"{self.spec}: {self._broken} of {self._number} frames cannot be decoded, the first of them frame "
                f"{self._first_broken}; the others were processed; copy the file again"
            )

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._capture.release()


def _check_readable(path: Path) -> None:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadDataError(f"{path}: not a regular file, where a video was expected")
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise InputNotFoundError(f"{path}: not there; check the path") from None
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if empty:
        raise BadDataError(f"{path}: the file is empty, where a video was expected")
