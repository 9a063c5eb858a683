"""Where frames come from: one function opens every kind of camera."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from edge.camera.base import LIMITS, Camera, Limits
from edge.camera.images import DEFAULT_FPS, ImagesCamera
from edge.camera.picamera2 import PiCamera
from edge.camera.resting import RestingCamera
from edge.camera.rtsp import open_rtsp
from edge.camera.synthetic import Scene, SyntheticCamera, parse_scene
from edge.camera.v4l2 import open_v4l2
from edge.camera.video import VideoCamera
from edge.camera.view import UNTOUCHED, View, ViewedCamera
from edge.credentials import hide_password
from edge.errors import InputNotFoundError, UsageError
from edge.pictures import find_pictures, is_picture
from edge.rules import is_device

__all__ = ["KINDS", "Camera", "Limits", "RestingCamera", "View", "is_live", "open_camera"]

KINDS = """\
  picamera2, picamera2:1           the Raspberry Pi's own camera, or its second one
  v4l2:/dev/video0, v4l2:0         a USB camera; of several, one by its name: v4l2:/dev/v4l/by-id/…
  rtsp://user@192.168.1.20/stream  a network camera (rtsps:// too); the password comes from source.password_file
  party.mp4                        a video file
  images:photos, photos, face.jpg  a folder of pictures, or one picture
  synthetic, synthetic:faces=2     faces that need no camera"""
"""The kinds of sources with an example of each, for help texts and messages."""

LATE_FRAMES = 3
"""A camera that was asked for few frames a second may be late by this many before it counts as silent."""

# A word and a colon: a kind of source, rather than a file whose name holds a colon further on.
_KIND = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)


def open_camera(
    spec: str,
    *,
    color: bool = False,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    pixel_format: str = "",
    limits: Limits = LIMITS,
    password: str | None = None,
    view: View = UNTOUCHED,
) -> Camera:
    """Open a source of frames.

    Args:
        spec: one of the kinds in `KINDS`; a path to a folder stands for `images:`.
        color: whether frames carry colour too (`Frame.color`).
        size: width and height in pixels to ask a camera for; files keep their own.
        fps: frames per second to ask a camera for; for folders the time between pictures (1 a second unless told).
        pixel_format: "MJPG" or "YUYV" to ask a USB camera for; empty: what it has of them.
        limits: how long a live camera may take to open, be silent or stand still; a slow `fps` stretches them.
        password: for `rtsp://user@…`; goes into no message.
        view: how frames are turned, and which part of them is looked at.

    Raises:
        UsageError: no such kind of source, or a URL with a password in it.
        InputNotFoundError: the file or folder is not there, or the folder holds no picture.
        BadDataError: the file is no video.
        CameraError: the camera is not there, busy or silent.
        ConfigError: the camera cannot have this size.
    """
    if fps:
        pause = LATE_FRAMES / fps
        frozen = max(limits.frozen, pause) if limits.frozen else 0.0
        limits = replace(limits, silent=max(limits.silent, pause), frozen=frozen)
    camera = _open(spec, color, size, fps, pixel_format, limits, password)
    return camera if view == UNTOUCHED else ViewedCamera(camera, view)


def _open(
    spec: str,
    color: bool,
    size: tuple[int, int] | None,
    fps: float | None,
    pixel_format: str,
    limits: Limits,
    password: str | None,
) -> Camera:
    kind, _, rest = spec.partition(":")
    match kind.lower():
        case "synthetic":
            scene = parse_scene(rest, Scene(size=size or Scene().size, fps=fps or Scene().fps))
            return SyntheticCamera(spec, scene, color=color, timeout=limits.silent)
        case "picamera2":
            return PiCamera(spec, index=_index(spec, rest or "0"), color=color, size=size, fps=fps, limits=limits)
        case "v4l2":
            device = Path(rest) if rest.startswith("/") else Path(f"/dev/video{_index(spec, rest)}")
            return open_v4l2(spec, device, color=color, size=size, fps=fps, pixel_format=pixel_format, limits=limits)
        case "rtsp" | "rtsps":
            return open_rtsp(spec, password=password, color=color, limits=limits)
        case "images":
            if not rest:
                raise UsageError(f"{spec}: no folder named; expected images:FOLDER, and images:. for the current one")
            return _open_folder(spec, Path(rest), color, fps)
    path = Path(spec)
    try:
        if is_device(spec):
            return open_v4l2(spec, path, color=color, size=size, fps=fps, pixel_format=pixel_format, limits=limits)
        return _open_path(spec, path, color, fps)
    except PermissionError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def is_live(spec: str) -> bool:
    """Whether a source's frames come in their own time; asks no device.

    Raises:
        UsageError: the scene of a synthetic camera makes no sense.
    """
    kind, _, rest = spec.partition(":")
    match kind.lower():
        case "synthetic":
            return parse_scene(rest, Scene()).realtime
        case "picamera2" | "v4l2" | "rtsp" | "rtsps":
            return True
    try:
        return is_device(spec)
    except OSError:
        return False


def _index(spec: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,3}", text):
        raise UsageError(f"{spec}: expected a camera's number, as in {spec.partition(':')[0]}:0")
    return int(text)


def _open_folder(spec: str, folder: Path, color: bool, fps: float | None) -> ImagesCamera:
    return ImagesCamera(spec, find_pictures(folder), color=color, fps=fps or DEFAULT_FPS)


def _open_path(spec: str, path: Path, color: bool, fps: float | None) -> Camera:
    if spec and path.is_dir():
        return _open_folder(spec, path, color, fps)
    if spec and path.exists():
        if is_picture(path):
            return ImagesCamera(spec, [path], color=color, fps=fps or DEFAULT_FPS)
        return VideoCamera(path, color=color, fps=fps)
    if not spec or _KIND.match(spec) or not (path.suffix or "/" in spec):
        raise UsageError(f"{hide_password(spec)!r}: no such kind of source; the kinds are:\n{KINDS}")
    raise InputNotFoundError(f"{path}: not there; check the path")
