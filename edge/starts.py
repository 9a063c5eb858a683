"""A count of starts that survives everything, so that an event's id is never used twice."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edge.errors import BadDataError, OutputError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NUMBER = re.compile(rb"[0-9]{1,9}\n?")


def state_folder(environ: Mapping[str, str]) -> Path:
    """Where what must outlive a run lies: systemd's `STATE_DIRECTORY`, else the user's own state folder."""
    if given := environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "mien"


def count_start(path: Path) -> int:
    """Raise the count in a file by one and return it, once it is safely on disk.

    The number is written to a new file, synced and moved over the old one, so that a power cut leaves either; two
    processes that start at once get two numbers. On a full disk it is written over the old one, which needs no room:
    these few bytes lie in one sector, which a power cut leaves old or new.

    Args:
        path: the file; it and its folder are made where they are missing, and the first count is 1.

    Raises:
        BadDataError: the file holds something else than a number.
        OutputError: the file cannot be read or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent) as folder:
            number = _read(path) + 1
            try:
                _write(path.with_name(path.name + ".new"), number)
                path.with_name(path.name + ".new").replace(path)
            except OSError as error:
                if error.errno not in _FULL or number == 1:
                    raise
                _write(path, number, over=True)
            os.fsync(folder)
    except OSError as error:
        advice = "make room there" if error.errno in _FULL else "make that folder writable for the user that runs mien"
        raise OutputError(
            f"the count of starts in {path} cannot be kept ({error.strerror}); event ids would repeat, so {advice}"
        ) from None
    return number


def _write(path: Path, number: int, *, over: bool = False) -> None:
    """Write a number to a new file, or over what stands in an old one, and wait until it is on the disk."""
    try:
        with path.open("r+b" if over else "wb") as file:
            file.write(b"%d\n" % number)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        if not over:
            path.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            content = file.read(64)
    except FileNotFoundError:
        return 0
    if not _NUMBER.fullmatch(content):
        raise BadDataError(
            f"{path} should hold the count of starts, a number, and does not; write into it a number higher than "
            "the middle part of any event id so far (device-NUMBER-sequence)"
        )
    return int(content)
