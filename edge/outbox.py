"""A durable queue for events whose broker is away: SQLite, in first-in, first-out order.

Events wait in memory first and reach the disk only when they have waited for almost a second, with at most one commit a
second: what the broker acknowledges sooner is never written, and SD cards live longer. So a kill or a power cut costs
the events of the last second, and no other; and what was acknowledged in that second may be sent a second time.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC
from itertools import islice
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import NoReturn

from edge.device import clock_is_synced
from edge.erasure import Erasure, remove_outbox
from edge.errors import OutputError

LOG = logging.getLogger(__name__)

SAVE_EVERY = 1.0
"""Seconds between two commits at the least."""

WAIT = 0.95
"""Seconds that an event waits in memory before it is written; with one tick of its owner it stays under a second."""

AGE_EVERY = 60.0
"""Seconds between two looks for events that are too old."""

IN_MEMORY = 10_000
"""Events that are held while the disk takes none."""

# Small pages, since each commit writes whole ones: a fifth less than with SQLite's usual 4096 bytes.
_SCHEMA = (
    # Alone, SQLite needs no shared memory beside the file, and a second daemon is noticed.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA page_size = 1024",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA journal_size_limit = 1000000",
    "CREATE TABLE IF NOT EXISTS event (number INTEGER PRIMARY KEY, stamp REAL, payload TEXT NOT NULL)",
    # Written at once: it takes the lock, and a disk that is read-only is told now.
    "PRAGMA user_version = 1",
)

_CHUNK = 50
"""Events that are given up at once."""

_STILL_READABLE = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE}
"""SQLite's codes for a disk, or a quota, that is full."""


class FullDiskError(OutputError):
    """There is no room for the outbox now."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event on its way.

    Attributes:
        number: its place in the queue.
        payload: its JSON.
        since: monotonic seconds when it came in; 0.0 for one from the disk.
        stamp: Unix seconds when it came in; None where the clock could not be believed.
    """

    number: int
    payload: str
    since: float = 0.0
    stamp: float | None = None


class Outbox:
    """Keeps events until they are forgotten. Not to be shared between threads.

    Attributes:
        path: the database; None: memory alone.
        dropped: events given up because the caps were reached, oldest first.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        max_bytes: int = 200_000_000,
        max_age: float = 7 * 86400.0,
        clock: Callable[[], float] = monotonic,
        calendar: Callable[[], float] = time,
        clock_synced: Callable[[], bool] = clock_is_synced,
    ) -> None:
        """Open or make the database, and see what waits in it; a damaged one is set aside.

        Args:
            path: see the class.
            max_bytes: of the database, at most.
            max_age: seconds after which an event is given up. A clock that is not believed ages nothing, and one that
                jumps ages nothing that came in since this start, which cannot be older than that.
            clock: monotonic seconds.
            calendar: Unix seconds.
            clock_synced: whether `calendar` can be believed.

        Raises:
            OutputError: it cannot be written, or another process has it. A full disk alone is no reason: events wait in
                memory until there is room, and what waits on it is read.
        """
        self.path = path
        self.dropped = 0
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._calendar = calendar
        self._fresh: dict[int, Waiting] = {}
        self._gone: set[int] = set()
        self._stored = 0
        self._newest_stored = 0
        self._began = clock()
        self._saved = self._began - SAVE_EVERY
        self._clock_synced = clock_synced
        self._looked = -inf
        self._database: sqlite3.Connection | None = None
        if path is not None:
            try:
                self._database = self._open(path)
            except FullDiskError as error:
                if path.exists() and path.stat().st_size:  # whose numbers are to be gone on from
                    raise
                LOG.warning("%s; events wait in memory meanwhile", error)
        self._next = self._first = self._newest_stored + 1
        if self._stored:  # what has become too old while nothing ran is never sent
            with suppress(OutputError):  # as above, and told with the first event
                self.save()

    def __len__(self) -> int:
        """Events that wait."""
        return max(0, self._stored - len(self._gone)) + len(self._fresh)

    @property
    def unsaved(self) -> int:
        """Events that would be lost with the process."""
        return len(self._fresh)

    def put(self, payload: str) -> None:
        """Take an event in: one line."""
        now = self._clock()
        stamp = self._calendar() if self._clock_synced() else None
        self._fresh[self._next] = Waiting(self._next, payload, now, stamp)
        self._next += 1
        if len(self._fresh) > IN_MEMORY:
            del self._fresh[next(iter(self._fresh))]
            self.dropped += 1

    def after(self, number: int, most: int) -> list[Waiting]:
        """The oldest events after a place in the queue, 0 being its beginning.

        Raises:
            OutputError: the disk cannot be read.
        """
        found = self._read(number, most) if self._stored and number < self._newest_stored else []
        if len(found) < most:
            newer = (event for event in self._fresh.values() if event.number > number)
            found += islice(newer, most - len(found))
        return found

    def forget(self, number: int) -> None:
        """It has arrived."""
        if self._fresh.pop(number, None) is None and 0 < number <= self._newest_stored:
            self._gone.add(number)

    def save_in(self) -> float | None:
        """Seconds until `save` has something to do, 0 or less when it is time; None: nothing waits for it."""
        shut = self._stored and self._database is None
        if self.path is None:
            return None
        now = self._clock()
        rest = self._saved + SAVE_EVERY - now
        if not (self._fresh or self._gone or shut):
            return max(rest, self._looked + AGE_EVERY - now) if self._stored else None
        if self._gone or not self._fresh:
            return rest
        return max(rest, next(iter(self._fresh.values())).since + WAIT - now)

    def save(self) -> None:
        """Write what waits and strike out what has arrived, in one commit, and keep to the caps.

        Raises:
            OutputError: the disk does not take it. Nothing is lost, and the next call tries again.
        """
        if self.path is None:
            return
        self._saved = self._clock()
        try:
            database = self._opened()
            fresh = list(self._fresh.values())
            with database:
                struck = _change(database, "DELETE FROM event WHERE number = ?", ((number,) for number in self._gone))
                rows = ((event.number, event.stamp, event.payload) for event in fresh)
                added = _change(database, "INSERT INTO event VALUES (?, ?, ?)", rows)
                dropped = self._keep_to_caps(database)
            # What has arrived may have been given up before, so only SQLite knows how many there are.
            self._stored += added - struck - dropped
            self.dropped += dropped
            self._newest_stored = fresh[-1].number if fresh else self._newest_stored
            self._fresh.clear()
            self._gone.clear()
            if not self._stored:
                _shrink(database)
        except sqlite3.Error as error:
            self._fail(error)

    def erase(self) -> Erasure:
        """Remove all events with the files that hold them, and begin anew; numbers go on."""
        self._disconnect()
        erasure = Erasure() if self.path is None else remove_outbox(self.path)
        self._fresh.clear()
        self._gone.clear()
        self._stored, self._newest_stored = 0, self._next - 1
        if self.path is not None:
            try:
                self._opened()
            except OutputError as error:  # tried again when there is an event
                erasure.problems.append(str(error))
        return erasure

    def close(self) -> None:
        """Save and close; a second time does nothing.

        Raises:
            OutputError: what waits could not be written.
        """
        if self._database is None and not self._fresh:
            return
        try:
            self.save()
        finally:
            if self._database is not None:
                self._database.close()
                self._database = None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            if self.path is None:
                raise ValueError("an outbox in memory has no database")
            self._database = self._open(self.path)
        return self._database

    def _open(self, path: Path) -> sqlite3.Connection:
        try:
            try:
                return self._connect(path)
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # a busy or full disk is no damage
                    raise
                self._set_aside(path, error)
                return self._connect(path)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def _connect(self, path: Path) -> sqlite3.Connection:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        database = sqlite3.connect(path, timeout=0.0, check_same_thread=False)
        try:
            _prepare(database)
            if (told := database.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(told)
            self._stored, newest = database.execute("SELECT count(*), max(number) FROM event").fetchone()
        except BaseException:
            database.close()
            raise
        self._newest_stored = newest or self._newest_stored
        # A commit that was told to have failed may have come through.
        self._fresh = {number: event for number, event in self._fresh.items() if number > self._newest_stored}
        return database

    def _set_aside(self, path: Path, error: Exception) -> None:
        aside = path.with_name(f"{path.name}.damaged")
        LOG.warning("the outbox %s is damaged (%s); it is kept as %s, and a new one begun", path, error, aside)
        path.replace(aside)
        self.dropped += max(0, self._stored - len(self._gone))
        self._gone.clear()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def _read(self, number: int, most: int) -> list[Waiting]:
        if self._database is None:  # `save` opens it again; here it would be tried for each event
            raise OutputError(f"the outbox {self.path} cannot be read; events wait until it can")
        try:
            rows = self._database.execute(
                "SELECT number, payload, stamp FROM event WHERE number > ? ORDER BY number", (number,)
            )
            found = list(islice((row for row in rows if row[0] not in self._gone), most))
            rows.close()
        except sqlite3.Error as error:
            self._fail(error)
        return [Waiting(number, payload, stamp=stamp) for number, payload, stamp in found]

    def _keep_to_caps(self, database: sqlite3.Connection) -> int:
        """Give up the oldest, while they take too much room or are too old; how many."""
        dropped = 0
        is_time = self._clock() >= self._looked + AGE_EVERY
        if is_time:
            self._looked = self._clock()
        if is_time and self._clock_synced():
            younger = self._first if self._clock() - self._began < self._max_age else inf
            limits = (self._calendar() - self._max_age, younger)
            dropped += _change(database, "DELETE FROM event WHERE stamp < ? AND number < ?", [limits])
        while _used_bytes(database) > self._max_bytes:
            oldest = "DELETE FROM event WHERE number IN (SELECT number FROM event ORDER BY number LIMIT ?)"
            if not (given_up := _change(database, oldest, [(_CHUNK,)])):
                break
            dropped += given_up
        return dropped

    def _disconnect(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _fail(self, error: Exception) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", 0)
        if code not in _STILL_READABLE:
            self._disconnect()
        if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise OutputError(
                f"another process has the outbox {self.path}; stop it, or give this one a folder"
            ) from None
        if code in _STILL_READABLE or getattr(error, "errno", 0) in {ENOSPC, EDQUOT}:
            raise FullDiskError(f"the outbox {self.path} cannot be written ({error}); make room for it") from None
        raise OutputError(
            f"the outbox {self.path} cannot be written ({error}); look at its folder, and whose that is"
        ) from None


def _prepare(database: sqlite3.Connection) -> None:
    """Make what is not there yet. Where there is no room, what was made before can be read all the same."""
    full: sqlite3.Error | None = None
    for statement in _SCHEMA:
        try:
            database.execute(statement).fetchall()
        except sqlite3.Error as error:
            if error.sqlite_errorcode not in _STILL_READABLE:
                raise
            full = error
    if full is not None and not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise full


def _change(database: sqlite3.Connection, statement: str, values: Iterable[tuple[object, ...]]) -> int:
    """Run a statement for each of the values; how many rows that changed."""
    before = database.total_changes
    database.executemany(statement, values)
    return database.total_changes - before


def _pragma(database: sqlite3.Connection, name: str) -> int:
    return int(database.execute(f"PRAGMA {name}").fetchone()[0])


def _used_bytes(database: sqlite3.Connection) -> int:
    return (_pragma(database, "page_count") - _pragma(database, "freelist_count")) * _pragma(database, "page_size")


def _shrink(database: sqlite3.Connection) -> None:
    """Give the room of a long outage back."""
    if _pragma(database, "freelist_count") > 16:
        # Not by `execute`, which takes one step of it and so gives back one page.
        database.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE)")
