"""Picture files: which there are, and safely from a file to arrays."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import edge.opencv  # noqa: F401  # silences OpenCV
from edge.chatter import without_chatter
from edge.errors import BadDataError, InputNotFoundError, OutputError
from edge.picture_header import KINDS, read_header

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".dib", ".tif", ".tiff"})
# fmt: off
VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".asf", ".flv",
    ".3gp", ".ogv", ".vob", ".h264", ".h265", ".hevc", ".mjpeg", ".mjpg", ".y4m", ".gif",
})
# fmt: on

MAX_PIXELS = 100_000_000
"""Larger pictures are refused: decoded, this many pixels take 400 MB."""

MAX_BYTES = 256 * 1024**2
"""Larger files are refused unread."""

_CHATTER = (b"libpng warning:", b"libpng error:")
"""What OpenCV before 4.12 lets libpng print, also about a colour profile that nobody here looks at."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture, upright.

    Attributes:
        gray: `uint8[H, W]`, luminance.
        color: `uint8[H, W, 3]` in OpenCV's order (B, G, R).
    """

    gray: NDArray[np.uint8]
    color: NDArray[np.uint8]


def read_picture(path: Path) -> Picture:
    """Read a JPEG, PNG, WebP, BMP or TIFF; EXIF rotation is applied, transparency dropped, 16 bits brought to 8.

    Args:
        path: the file.

    Raises:
        InputNotFoundError: the file is not there or cannot be read.
        BadDataError: it is no picture, is cut short, is damaged or is too large.
    """
    data = _read_bytes(path)
    header = read_header(data)
    if header is None:
        raise BadDataError(f"{path}: not a picture that Mien reads ({KINDS}), or cut short in its first bytes")
    if header.width * header.height > MAX_PIXELS:
        raise BadDataError(
            f"{path}: {header.width:,} x {header.height:,} pixels are more than the {MAX_PIXELS:,} that Mien takes "
            "into memory; make the picture smaller first"
        )
    if not header.whole:
        raise BadDataError(f"{path}: the {header.kind} is cut short, the file ends before the picture; copy it again")
    try:
        with without_chatter(*_CHATTER):
            color = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        color = None
    if color is None:
        raise BadDataError(f"{path}: the {header.kind} is damaged and cannot be decoded; copy or export it again")
    return Picture(gray=cv2.cvtColor(color, cv2.COLOR_BGR2GRAY), color=color)  # type: ignore[arg-type]  # OpenCV's stubs widen uint8 to any number


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise BadDataError(f"{path}: a folder, where a picture was expected")
        if not path.is_file():
            raise BadDataError(f"{path}: not a regular file, where a picture was expected")
        if size > MAX_BYTES:
            raise BadDataError(f"{path}: {size / 1e6:,.0f} MB are more than any picture Mien reads has")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputNotFoundError(f"{path}: not there; check the path") from None
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None


def write_picture(path: Path, image: NDArray[np.uint8], *, tail: bytes = b"") -> None:
    """Write an image as the kind that the path's suffix names; folders on the way are made.

    Args:
        path: where to; an existing file is replaced.
        image: `uint8[H, W]` or `uint8[H, W, 3]` (B, G, R).
        tail: stands in the file after the picture, where readers of pictures do not look.

    Raises:
        OutputError: no such kind, or the file cannot be written.
    """
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise OutputError(f"{path}: no picture's suffix; use one of {', '.join(sorted(PICTURE_SUFFIXES))}")
    try:
        done, encoded = cv2.imencode(path.suffix.lower(), image)
    except cv2.error:
        done = False
    if not done:
        raise OutputError(f"{path}: OpenCV cannot write {image.shape[1]} x {image.shape[0]} pixels as {path.suffix}")
    partial = path.with_name(f".{os.getpid()}.part")  # hidden: no picture to whoever looks for some
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(encoded.tobytes() + tail)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # of a full disk it would keep the last of its room
        raise OutputError(f"{path}: cannot be written ({error.strerror}); check the folder and its space") from None


def find_pictures(folder: Path) -> list[Path]:
    """The pictures directly in a folder, in the order of their names, numbers by value (`2.jpg` before `10.jpg`).

    Suffixes may be in upper case; hidden files are left out.

    Raises:
        InputNotFoundError: the folder is not there, cannot be read or holds no picture.
    """
    try:
        files = [entry for entry in folder.iterdir() if is_picture(entry) and entry.is_file()]
    except FileNotFoundError:
        raise InputNotFoundError(f"{folder}: not there; check the path") from None
    except OSError as error:
        raise InputNotFoundError(f"{folder}: not a folder that can be read ({error.strerror})") from None
    if not files:
        raise InputNotFoundError(f"{folder}: no picture in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
    return sorted(files, key=by_number)


def by_number(path: Path) -> tuple[list[tuple[int, str]], str]:
    """The key that sorts files by their names, numbers by value."""
    parts = re.findall(r"[0-9]+|[^0-9]+", path.name.lower())
    # Numbers sort before words; the name itself settles 1.jpg against 01.jpg.
    return [(int(part), "") if part.isdecimal() else (1 << 63, part) for part in parts], path.name


def is_picture(path: Path) -> bool:
    """Whether the name says that this is a picture which Mien reads."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def is_video(path: Path) -> bool:
    """Whether the name says that this is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")
