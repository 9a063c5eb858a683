"""How annotated files are known: by a mark when they are whole, by their names until then.

So nothing is ever replaced that Mien did not write, and nothing that it wrote outlasts its erasing.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from edge.errors import OutputError
from edge.pictures import is_picture, is_video

_TEXT = b"annotated by Mien"

MARK = struct.pack(">I4s", 8 + len(_TEXT), b"free") + _TEXT
"""Ends every annotated file: in an MP4 a box that players skip (ISO 14496-12, 8.1.2), after a picture no part of it."""


_UNFINISHED = re.compile(r"\.(\d+\.part|.+\.part\.mp4)", re.IGNORECASE)
"""A picture that `write_picture` was writing, or a video that a recording was, when the process was killed."""


def unfinished(video: Path) -> Path:
    """Where a video lies until it is whole: beside its place, hidden."""
    return video.with_name(f".{video.stem}.part{video.suffix}")


def is_unfinished(path: Path) -> bool:
    """Whether the name says that this was to become an annotated file, and that its process was killed or goes on."""
    return _UNFINISHED.fullmatch(path.name) is not None


def check_replaceable(path: Path) -> None:
    """Make sure that writing to a path replaces nothing but an earlier annotated file.

    Raises:
        OutputError: something else lies there, or what lies there cannot be read.
    """
    try:
        if not path.exists() or (path.is_file() and _is_marked(path)):
            return
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); check the path and its permissions") from None
    raise OutputError(
        f"{path} is there already, and Mien did not write it; it stays as it is: choose another name or "
        "folder for what is annotated, or move it away"
    )


def check_folder(folder: Path) -> None:
    """Make sure that a folder, where it is there, holds no pictures or videos but annotated ones.

    Raises:
        OutputError: it holds another, or cannot be read.
    """
    try:
        files = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read ({error.strerror}); choose another folder") from None
    for file in files:
        if is_picture(file) or is_video(file):
            check_replaceable(file)


def _is_marked(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(MARK)))
        return file.read() == MARK
