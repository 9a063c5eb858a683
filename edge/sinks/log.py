"""The local log: JSON Lines, one event a line, rotated by size."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from edge.errors import OutputError
from edge.events import Event

SYNC_EVERY = 1.0
"""Seconds between two fsyncs at the least: SD cards wear, and a power cut may cost no more than this."""

_BLOCK = 64 * 1024
_LONGEST_LINE = 1024 * 1024


class JsonLinesLog:
    """Appends events to a file that any tool for JSON Lines reads.

    Every line is handed to the kernel at once and synced at most once a second. At `max_bytes` the file becomes
    `NAME.1`, that becomes `NAME.2` and so on; what would be older than `NAME.<keep>` is deleted. What a power cut has
    torn off the last line is moved to `NAME.torn` when the log is opened again; whole lines are never touched.
    """

    name = "log"

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 10_000_000,
        keep: int = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open or make the file, and its folder, and repair its end.

        Raises:
            OutputError: it cannot be written, another process writes to it, or it is no log of events.
        """
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._clock = clock
        self._synced = clock()
        self._unsynced = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._open(path)
        except OSError as error:
            self._refuse(error)
        try:
            self._repair()
            self._size = os.lseek(self._file, 0, os.SEEK_END)
        except OSError as error:
            os.close(self._file)
            self._refuse(error)

    def publish(self, event: Event) -> None:
        """Append one event.

        Raises:
            OutputError: the line could not be written; nothing of it stays behind, and the next one is tried afresh.
        """
        line = event.to_json().encode() + b"\n"
        try:
            if self._size and self._size + len(line) > self._max_bytes:
                self._rotate()
            self._append(line)
        except OSError as error:
            self._refuse(error)
        self.idle()

    def idle(self) -> None:
        """Sync what was written, if the last time is a second ago.

        Raises:
            OutputError: the disk does not take it.
        """
        if self._unsynced and self._clock() - self._synced >= SYNC_EVERY:
            try:
                self._sync()
            except OSError as error:
                self._refuse(error)

    def close(self) -> None:
        """Sync and close; a second time does nothing."""
        if self._file < 0:
            return
        handle, self._file = self._file, -1
        try:
            os.fsync(handle)
        except OSError as error:
            self._refuse(error)
        finally:
            os.close(handle)

    def _open(self, path: Path, extra: int = 0) -> int:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | extra, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise OutputError(
                f"another process is writing to the log {self.path}; stop it, or give this one another log.path"
            ) from None
        return handle

    def _append(self, line: bytes) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)
        self._unsynced = True

    def _sync(self) -> None:
        os.fsync(self._file)
        self._synced = self._clock()
        self._unsynced = False

    def _rotate(self) -> None:
        """Begin a new file. It is made before any old one is moved, so that a failure leaves everything in place."""
        self._sync()
        fresh_path = self._numbered("new")
        fresh = self._open(fresh_path, os.O_TRUNC)
        try:
            for number in range(self._keep, 0, -1):
                younger = self._numbered(number - 1) if number > 1 else self.path
                if younger.exists():
                    younger.replace(self._numbered(number))
            fresh_path.replace(self.path)
        except OSError:
            os.close(fresh)
            raise
        os.close(self._file)
        self._file, self._size = fresh, 0
        _sync_folder(self.path.parent)

    def _numbered(self, suffix: int | str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")

    def _repair(self) -> None:
        """Move what follows the last line break out of the way, or finish the line if only its break is missing."""
        size = os.lseek(self._file, 0, os.SEEK_END)
        # What begins otherwise was named by mistake and is somebody's file; zeros are what a power cut leaves.
        if size and os.pread(self._file, 1, 0) not in (b"{", b"\0"):
            raise OutputError(f"{self.path} is there and is no log of events; give log.path another name")
        end = size
        while end and (newline := _last_newline(self._file, end)) is None:
            end = max(end - _BLOCK, 0)
        whole = newline + 1 if end and newline is not None else 0
        if whole == size:
            return
        if size - whole <= _LONGEST_LINE and _is_object(os.pread(self._file, size - whole, whole)):
            os.write(self._file, b"\n")
        else:
            with self._numbered("torn").open("ab") as torn, self.path.open("rb") as log:
                log.seek(whole)
                shutil.copyfileobj(log, torn)
                torn.write(b"\n")
                torn.flush()
                os.fsync(torn.fileno())
            os.ftruncate(self._file, whole)
        os.fsync(self._file)

    def _refuse(self, error: OSError) -> NoReturn:
        if isinstance(error, OutputError):
            raise error
        raise OutputError(
            f"the log {self.path} cannot be written ({error.strerror}); make room or set log.path to a file that "
            "the user that runs mien may write"
        ) from None


def _last_newline(handle: int, end: int) -> int | None:
    """The position of the last line break in the block that ends at `end`."""
    start = max(end - _BLOCK, 0)
    found = os.pread(handle, end - start, start).rfind(b"\n")
    return start + found if found >= 0 else None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
