"""USB cameras and other V4L2 devices: `v4l2:/dev/video0`, `v4l2:0`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import cv2

from edge.camera.base import LIMITS, Limits
from edge.camera.live import Capture, LiveCamera
from edge.errors import CameraError

FORMATS = ("MJPG", "YUYV")
"""Compressed, which lets a USB 2 camera keep its frame rate at larger sizes, and plain, which every camera has."""

GROUP_ADVICE = "add the user to the group that may use cameras: sudo usermod -aG video $USER, then log in again"


def open_v4l2(
    spec: str,
    device: Path,
    *,
    color: bool = False,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    pixel_format: str = "",
    limits: Limits = LIMITS,
) -> LiveCamera:
    """Open a V4L2 device.

    Args:
        spec: what the camera was opened with.
        device: such as `/dev/video0`.
        color: whether frames carry colour.
        size: width and height in pixels to ask for; the camera answers with the nearest that it can.
        fps: frames per second to ask for.
        pixel_format: one of `FORMATS`; empty: the first of them that the camera delivers, else its own.
        limits: how long opening, and later each `read()`, waits at most.

    Raises:
        CameraError: it is not there, is no camera, may not be used, is busy, does not answer or does not deliver the
            pixel format.
    """
    check_device(device)

    def open_capture() -> Capture:
        capture = cv2.VideoCapture(str(device), cv2.CAP_V4L2)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"{device}: does not open as a camera; another program may be using it (see: fuser -v {device}), or it "
                "is not a capture device (see: v4l2-ctl --list-devices)"
            )
        for wanted in (pixel_format,) if pixel_format else FORMATS:
            capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted))
            # Not what set() answers: where a camera refuses, OpenCV takes another format and reports success.
            if _format_of(capture) == wanted:
                break
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        if fps is not None:
            capture.set(cv2.CAP_PROP_FPS, fps)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        found = _format_of(capture)
        if pixel_format and found != pixel_format:
            capture.release()
            raise CameraError(
                f"{device}: does not deliver {pixel_format} but {found or 'a format of its own'}; leave source.format "
                "empty, or see what it has: v4l2-ctl --list-formats-ext"
            )
        return capture  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number

    return LiveCamera(spec, open_capture, color=color, limits=limits)


def _format_of(capture: cv2.VideoCapture) -> str:
    """The four characters of the pixel format in use, empty where OpenCV does not tell."""
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return code.to_bytes(4, "little").decode("ascii", "replace").strip("\0 ") if code > 0 else ""


def check_device(device: Path) -> None:
    """Say early and exactly what is wrong with a device file.

    Raises:
        CameraError: it is not there, is no device, or may not be used.
    """
    try:
        mode = device.stat().st_mode
    except FileNotFoundError:
        # Numbers may change with every boot and plug.
        named, numbered = Path("/dev/v4l/by-id").glob("*"), Path("/dev").glob("video*")
        there = ", ".join(map(str, [*sorted(named), *sorted(numbered)])) or "none"
        raise CameraError(
            f"{device}: no such camera; video devices here: {there}. Check that it is plugged in; in a container or a "
            "hardened service, that the device is let in"
        ) from None
    except OSError as error:
        raise CameraError(f"{device}: cannot be looked at ({error.strerror}); {GROUP_ADVICE}") from None
    if not stat.S_ISCHR(mode):
        raise CameraError(f"{device}: not a camera device; name one such as v4l2:/dev/video0")
    if not os.access(device, os.R_OK | os.W_OK):
        raise CameraError(f"{device}: no permission to use it; {GROUP_ADVICE}")
