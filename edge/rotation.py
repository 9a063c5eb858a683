"""How a log is spread over files: NAME is written to, NAME.1 is the youngest of the old ones, NAME.2 is older."""

from __future__ import annotations

import json
import os
import re
from datetime import datetime
from functools import partial
from pathlib import Path

MOST = 1000
"""The highest number of an old file."""

LONGEST_LINE = 1024 * 1024
"""Bytes; no event is nearly as long, and nobody holds more of a broken file in memory."""

BEGINS = (b"", b"{", b"\0")
"""A log's first byte: none yet, an event's, or what a power cut leaves. What begins otherwise is somebody's file."""

_NUMBER = re.compile(r"[1-9][0-9]{0,3}")
_SYNCED = b'"clock_synced":true'


def real_path(path: Path) -> Path:
    """Where a log lies, symbolic links followed: its old files lie there beside it, not beside the link."""
    return Path(os.path.realpath(path))


def numbered(path: Path, suffix: int | str) -> Path:
    """`NAME.<suffix>` beside NAME."""
    return path.with_name(f"{path.name}.{suffix}")


def old_files(path: Path) -> list[tuple[int, Path]]:
    """The old files that there are with their numbers, youngest first; empty where the folder is missing."""
    prefix = path.name + "."
    try:
        files = [file for file in path.parent.iterdir() if file.name.startswith(prefix) and file.is_file()]
    except FileNotFoundError:
        return []
    endings = [file.name.removeprefix(prefix) for file in files]
    numbers = sorted(int(ending) for ending in endings if _NUMBER.fullmatch(ending) and int(ending) <= MOST)
    return [(number, numbered(path, number)) for number in numbers]


def shift(path: Path, fresh: Path, keep: int) -> None:
    """Put `fresh` in the log's place, the log's file in that of NAME.1 and so on; the last of `keep` old ones goes.

    Raises:
        OSError: something could not be moved; no file has been lost, and the next call finishes what this one began.
    """
    taken = {number for number, _ in old_files(path)}
    # A kill between two moves leaves a gap: what lies beyond it is moved already.
    last = next((number for number in range(1, keep + 1) if number not in taken), keep)
    for number in range(last, 0, -1):
        younger = numbered(path, number - 1) if number > 1 else path
        if younger.exists():
            younger.replace(numbered(path, number))
    fresh.replace(path)


def expire(path: Path, *, keep: int, max_age: float, now: float, synced: bool) -> None:
    """Delete old files with numbers above `keep`, and those that begin longer ago than `max_age` seconds.

    Args:
        path: the log.
        keep: how many old files may stay.
        max_age: seconds; 0: no limit.
        now: seconds since 1970.
        synced: whether `now` can be believed.

    Raises:
        OSError: a file cannot be read or deleted.
    """
    gone = False
    for number, file in old_files(path):
        begun = None if gone or not max_age else begin(file, synced=synced)
        # A file whose own lines tell no time is older than a younger one that is too old.
        gone = gone or number > keep or (begun is not None and now - begun >= max_age)
        if gone:
            file.unlink(missing_ok=True)


def begin(path: Path, *, synced: bool) -> float | None:
    """When the first line of a file was written whose clock can be compared with ours.

    Lines from before the clock was set say nothing about their age to a clock that is set, nor the other way round.

    Args:
        path: a file of the log.
        synced: whether our clock can be believed.

    Returns:
        Seconds since 1970; None where no line says so.
    """
    with path.open("rb") as file:
        for line in iter(partial(file.readline, LONGEST_LINE), b""):
            if (_SYNCED in line) == synced and (time := _time_of(line)) is not None:
                return time
    return None


def _time_of(line: bytes) -> float | None:
    try:
        return datetime.fromisoformat(json.loads(line)["ts"]).timestamp()
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
