"""Annotated pictures on disk: a video, or a folder of JPEGs. Only ever where somebody asked for it by name.

What lies there already is replaced only where Mien wrote it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import OutputError, UsageError
from edge.frame import Frame
from edge.mark import MARK, check_folder, check_replaceable, unfinished
from edge.opencv import file_name
from edge.pictures import write_picture

LIVE_FPS = 25.0
"""Of a live source's recording: its frames come as vision gets through them, so they are repeated to keep time."""

MAX_REPEATS = 250
"""Of one frame: a longer gap in time is shortened rather than filled."""


class Recording(Protocol):
    """Where annotated pictures go."""

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Add `picture`, `uint8[H, W, 3]` (BGR), drawn from `frame`; raises OutputError."""

    def close(self) -> None:
        """Finish; raises OutputError where what was written is not whole."""


def open_recording(path: Path, *, live: bool) -> Recording:
    """A video where the path ends in `.mp4`, otherwise a folder that is made if need be.

    Raises:
        UsageError: the path is a file of another kind.
        OutputError: the folder cannot be made, or holds what Mien did not write.
    """
    if path.suffix.lower() == ".mp4":
        return VideoRecording(path, live=live)
    if path.suffix and not path.is_dir():
        raise UsageError(f"{path}: annotated frames go to a video that ends in .mp4, or to a folder")
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file; annotated frames go to a video that ends in .mp4, or to a folder")
    check_folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {path} cannot be made ({error.strerror}); choose another") from None
    return FolderRecording(path)


class FolderRecording:
    """One JPEG a frame: `000012.jpg`, or `000012_party.jpg` where the frame has a name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Write one picture; raises OutputError."""
        stem = f"{frame.number:06d}" + (f"_{Path(frame.name).stem}" if frame.name else "")
        write_marked(self._folder / f"{stem}.jpg", picture)

    def close(self) -> None:
        """Every picture is written already."""


class VideoRecording:
    """An MPEG-4 video that plays at the speed of life.

    The first two frames tell the rate. A frame that another follows late is repeated until that one is due. Pictures
    of another size than the first are fitted into it. Until it is whole, the video lies beside its place under a name
    of its own, so that a run that is killed leaves an earlier video alone and a later run nothing to stumble over.
    """

    def __init__(self, path: Path, *, live: bool) -> None:
        self._path = path
        self._partial = unfinished(path).absolute()
        try:
            file_name(self._partial)
        except UnicodeEncodeError:
            raise OutputError(
                f"{path}: its name or a folder's is no UTF-8; OpenCV writes none such, rename it"
            ) from None
        self._live = live
        self._writer: cv2.VideoWriter | None = None
        self._first: Frame | None = None
        self._last: NDArray[np.uint8] | None = None
        self._size = (0, 0)
        self._fps = LIVE_FPS
        self._written = 0
        check_replaceable(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {path.parent} cannot be made ({error.strerror}); choose another") from None

    def write(self, frame: Frame, picture: NDArray[np.uint8]) -> None:
        """Add a picture."""
        if self._first is None or self._last is None:
            self._first, self._last = frame, picture
            self._size = (picture.shape[1], picture.shape[0])
            return
        elapsed = frame.time - self._first.time
        if self._writer is None:
            if not self._live and elapsed > 0:
                self._fps = min(max(1 / elapsed, 0.1), 240.0)
            self._writer = self._open()
        due = round(elapsed * self._fps)
        self._put(self._last, min(max(1, due - self._written), MAX_REPEATS))
        self._last = picture

    def close(self) -> None:
        """Write the last picture, and look whether the file can be read: OpenCV does not tell of a full disk."""
        if self._last is None:
            return
        if self._writer is None:
            self._writer = self._open()
        self._put(self._last, 1)
        self._writer.release()
        self._last = None
        if not self._partial.exists():
            raise OutputError(f"{self._path}: was removed while it was being recorded, as 'mien erase' does")
        check = cv2.VideoCapture(str(self._partial), cv2.CAP_FFMPEG)
        found = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if found < self._written:
            self._discard()
            raise OutputError(
                f"{self._path}: only {found} of {self._written} frames could be written; make room for it"
            )
        self._finish()

    def _open(self) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._partial), cv2.CAP_FFMPEG, codec, self._fps, self._size)
        if not writer.isOpened():
            raise OutputError(f"the video {self._path} cannot be written; check that its folder may be written to")
        return writer

    def _finish(self) -> None:
        try:
            with self._partial.open("ab") as file:
                file.write(MARK)
            self._partial.replace(self._path)
        except OSError as error:
            self._discard()
            raise OutputError(f"{self._path}: cannot be finished ({error.strerror}); make room for it") from None

    def _discard(self) -> None:
        """Give the room back of what has come to nothing: on a full disk it is the last there is."""
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)

    def _put(self, picture: NDArray[np.uint8], times: int) -> None:
        assert self._writer is not None  # noqa: S101  # both callers have opened it
        fitted = fit(picture, self._size)
        for _ in range(times):
            self._writer.write(fitted)
        self._written += times


def write_marked(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write `uint8[H, W, 3]` (BGR) as the kind that the path's suffix names.

    Raises:
        OutputError: it cannot be written, or something that Mien did not write lies there.
    """
    check_replaceable(path)
    write_picture(path, picture, tail=MARK)


def fit(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring `uint8[H, W, 3]` to `size` (width, height) without distorting it; what is left over is black."""
    width, height = size
    if picture.shape[:2] == (height, width):
        return picture
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - inner[0]) // 2, (height - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return canvas
