"""The local log: JSON Lines, one event a line, rotated by size and by age."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from edge.control import sync_folder
from edge.device import clock_is_synced
from edge.erasure import Erasure, erase_log
from edge.errors import OutputError
from edge.events import Event
from edge.rotation import BEGINS, LONGEST_LINE, begin, expire, numbered, real_path, shift
from edge.sinks import NotStoredError

SYNC_EVERY = 1.0
"""Seconds between two fsyncs at the least: SD cards wear, and a power cut may cost no more than this."""

AGE_EVERY = 600.0
"""Seconds between two looks at how old lines are."""

_BLOCK = 64 * 1024


class JsonLinesLog:
    """Appends events to a file that any tool for JSON Lines reads.

    Every line is handed to the kernel at once and synced at most once a second. At `max_bytes`, and often enough for
    `max_age`, the file becomes `NAME.1`, that becomes `NAME.2` and so on; what would be older than `NAME.<keep>`, or
    holds lines older than `max_age`, is deleted. What a power cut has torn off the last line is moved to `NAME.torn`
    when the log is opened again; whole lines are never touched.

    A disk that is full or cannot be written costs the events of that time and no others. A file that somebody moves
    away, deletes or truncates is begun anew.
    """

    name = "log"

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 10_000_000,
        keep: int = 5,
        max_age: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        calendar: Callable[[], float] = time.time,
        clock_synced: Callable[[], bool] = clock_is_synced,
    ) -> None:
        """Open or make the file, and its folder, repair its end and delete what is too old.

        Args:
            path: the log; where it is a symbolic link, the old files lie beside what it points to.
            max_bytes: size of a file at the most, unless one event alone is larger.
            keep: how many old files stay.
            max_age: seconds that a line stays at the most; 0: for ever.
            clock: monotonic seconds.
            calendar: seconds since 1970.
            clock_synced: whether `calendar` can be believed.

        Raises:
            OutputError: it cannot be written, another process writes to it, or it is no log of events.
        """
        self.path = path
        self._place = real_path(path)
        self._max_bytes = max_bytes
        self._keep = keep
        self._max_age = max_age
        self._clock = clock
        self._calendar = calendar
        self._clock_synced = clock_synced
        self._synced = clock()
        self._looked = clock()
        self._unsynced = 0
        self._whole: int | None = None
        self._file = -1
        try:
            self._begin()
        except OSError as error:
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                f"the log {path} cannot be written ({error.strerror}); make room or set log.path to a file that "
                "the user that runs mien may write"
            ) from None

    def publish(self, event: Event) -> None:
        """Append one event.

        Raises:
            NotStoredError: the line could not be written; nothing of it stays behind, and the next one is tried
                afresh. Or the disk did not take what was written in the last second.
        """
        line = event.to_json().encode() + b"\n"
        try:
            size = self._find()
            if size and size + len(line) > self._max_bytes:
                self._rotate()
                size = 0
            self._append(line, size)
        except OSError as error:
            raise self._not_stored(error, 1 + getattr(error, "events", 0)) from None
        self._unsynced += 1
        self.idle()

    def idle(self) -> None:
        """Sync what was written, if the last time is a second ago, and let go what is too old.

        Raises:
            NotStoredError: the disk does not take it.
        """
        now = self._clock()
        if self._unsynced and now - self._synced >= SYNC_EVERY:
            self._sync()
        if self._max_age and now - self._looked >= AGE_EVERY:
            self._looked = now
            try:
                self._find()
                self._grow_old()
            except OSError as error:
                raise self._not_stored(error, getattr(error, "events", 0)) from None

    def erase(self, *, local: bool) -> Erasure:
        """Remove the file and all old ones, and begin anew."""
        erasure = erase_log(self._place)
        self._unsynced, self._whole = 0, None
        # Also where that fails the next event begins it.
        with contextlib.suppress(OSError):
            self._find()
        return erasure

    def close(self) -> None:
        """Sync and close; a second time does nothing."""
        if self._file < 0:
            return
        try:
            self._sync()
        finally:
            os.close(self._file)
            self._file = -1

    def _begin(self) -> None:
        """Open the file as it is now, in place of one that was open before."""
        folder = self._place.parent
        folder.mkdir(parents=True, exist_ok=True)
        handle = self._open(self._place)
        try:
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, f"its folder {folder} may not be written, where its old files go")
            self._repair(handle)
            sync_folder(folder)
        except OSError:
            os.close(handle)
            raise
        self._take(handle)
        self._grow_old()

    def _take(self, handle: int) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = handle
        self._whole = None
        about = os.fstat(handle)
        self._identity = about.st_dev, about.st_ino

    def _open(self, place: Path, extra: int = 0) -> int:
        handle = os.open(place, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | extra, 0o640)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise OutputError(
                f"another process is writing to the log {self.path}; stop it, or give this one another log.path"
            ) from None
        except OSError:
            os.close(handle)
            raise
        return handle

    def _find(self) -> int:
        """The file's size in bytes, once it is sure that the file lies in its place and ends with a whole line."""
        try:
            about = self._place.stat()
        except FileNotFoundError:
            about = None
        if about is None or (about.st_dev, about.st_ino) != self._identity:
            self._begin()
            return os.fstat(self._file).st_size
        if self._whole is None:
            return about.st_size
        if self._whole < about.st_size:
            os.ftruncate(self._file, self._whole)
        self._whole = None
        return os.fstat(self._file).st_size

    def _append(self, line: bytes, size: int) -> None:
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            if len(rest) < len(line):
                self._whole = size
                # Where even that fails, the next event tries it again.
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
                    self._whole = None
            raise

    def _sync(self) -> None:
        """Bring all lines to the disk. After a failure the kernel forgets them, so that trying again would not help."""
        self._synced = self._clock()
        events, self._unsynced = self._unsynced, 0
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._not_stored(error, events) from None

    def _rotate(self) -> None:
        """Begin a new file. It is made before any old one is moved, so that a failure leaves everything in place."""
        if self._unsynced:
            self._sync()
        fresh_place = numbered(self._place, "new")
        fresh_place.unlink(missing_ok=True)
        fresh = self._open(fresh_place, os.O_EXCL)
        try:
            shift(self._place, fresh_place, self._keep)
        except OSError:
            os.close(fresh)
            raise
        self._take(fresh)
        sync_folder(self._place.parent)

    def _grow_old(self) -> None:
        """Delete old files that are too many or too old, and begin a new one so that these lines can go in time."""
        now, synced = self._calendar(), self._clock_synced()
        if self._max_age:
            begun = begin(self._place, synced=synced)
            # With `keep` old files the last one is full of lines that are too old when the next would push it out.
            if begun is not None and now - begun >= self._max_age / (self._keep + 1):
                self._rotate()
            torn = numbered(self._place, "torn")
            if torn.exists() and now - torn.stat().st_mtime >= self._max_age:
                torn.unlink()
        expire(self._place, keep=self._keep, max_age=self._max_age, now=now, synced=synced)

    def _repair(self, handle: int) -> None:
        """Move what follows the last line break out of the way, or finish the line if only its break is missing."""
        size = os.lseek(handle, 0, os.SEEK_END)
        if os.pread(handle, 1, 0) not in BEGINS:
            raise OutputError(f"{self.path} is there and is no log of events; give log.path another name")
        end = size
        while end and (newline := _last_newline(handle, end)) is None:
            end = max(end - _BLOCK, 0)
        whole = newline + 1 if end and newline is not None else 0
        if whole == size:
            return
        if size - whole <= LONGEST_LINE and _is_object(os.pread(handle, size - whole, whole)):
            os.write(handle, b"\n")
        else:
            self._put_aside(whole, size)
            os.ftruncate(handle, whole)
        os.fsync(handle)

    def _put_aside(self, start: int, end: int) -> None:
        """Append what stands between two positions to `NAME.torn`, which is begun anew before it grows too large."""
        place = numbered(self._place, "torn")
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        with os.fdopen(handle, "ab") as torn, self._place.open("rb") as log:
            if torn.tell() + end - start > self._max_bytes:
                torn.truncate(0)
            log.seek(start)
            shutil.copyfileobj(log, torn)
            torn.write(b"\n")
            torn.flush()
            os.fsync(torn.fileno())

    def _not_stored(self, error: OSError, events: int) -> NotStoredError:
        if isinstance(error, NotStoredError):
            return NotStoredError(str(error), events)
        what = f"{'events could not be stored in' if events else 'old lines could not be deleted from'} the log"
        why = error if isinstance(error, OutputError) else error.strerror
        return NotStoredError(f"{what} {self.path} ({why}); once that is put right it goes on by itself", events)


def _last_newline(handle: int, end: int) -> int | None:
    """The position of the last line break in the block that ends at `end`."""
    start = max(end - _BLOCK, 0)
    found = os.pread(handle, end - start, start).rfind(b"\n")
    return start + found if found >= 0 else None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
