"""How Mien uses OpenCV's library: quietly. Import this before opening a picture, a video or a camera.

OpenCV and the FFmpeg in it write to standard error by themselves, also addresses with passwords in them. Mien says in
its own errors what went wrong. Set `OPENCV_LOG_LEVEL` or `OPENCV_FFMPEG_LOGLEVEL` to hear them again.
"""

from __future__ import annotations

import os

import cv2

FFMPEG_QUIET = "-8"
"""FFmpeg's AV_LOG_QUIET."""

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", FFMPEG_QUIET)  # read when the first video is opened
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
