"""How Mien uses OpenCV's library: quietly. Import this before opening a picture, a video or a camera.

OpenCV and the FFmpeg in it write to standard error by themselves, also addresses with passwords in them. Mien says in
its own errors what went wrong. Set `OPENCV_LOG_LEVEL` or `OPENCV_FFMPEG_LOGLEVEL` to hear them again, but of a camera
with a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

FFMPEG_QUIET = "-8"
"""FFmpeg's AV_LOG_QUIET."""

SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT, which not every version names."""


def keep_silent() -> None:
    """Have neither be heard, whatever the environment asks for; call it before the first video is opened."""
    os.environ["OPENCV_FFMPEG_LOGLEVEL"] = FFMPEG_QUIET  # read when the first video is opened
    _silence_opencv()


def _silence_opencv() -> None:
    # 4.6 to 4.12 have it at the top, 4.13 and later in a module of its own, and their stubs know one alone.
    holder = cv2 if hasattr(cv2, "setLogLevel") else cv2.utils.logging
    getattr(holder, "setLogLevel")(SILENT)  # noqa: B009


os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)
if "OPENCV_LOG_LEVEL" not in os.environ:
    _silence_opencv()


def file_name(path: Path) -> str:
    """A path as OpenCV takes it, which takes the process down where a name is no UTF-8.

    Raises:
        ValueError: it is none; what to say of it depends on what the file is for.
    """
    name = str(path.absolute())
    name.encode()
    return name


@contextmanager
def one_thread() -> Iterator[None]:
    """Let OpenCV work in the thread that calls it, without helpers.

    Vision asks it for small pieces, which are done before the helpers are awake: they wait for work in a loop that
    burns a tenth and more of what vision itself takes.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
