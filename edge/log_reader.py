"""Reads the local log back: over all its files, each line once, also while it grows and is rotated.

Light on purpose: neither numpy nor OpenCV is needed to read events.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Self

from edge.errors import BadDataError, InputNotFoundError
from edge.rotation import LONGEST_LINE, old_files, real_path

TYPES = ("appeared", "changed", "updated", "gone")
"""Those of `edge.events`, which would bring numpy in."""

_SCHEMA = "mien/event/1"
_BLOCK = 256 * 1024
_HEAD_BYTES = 256
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z")
# How the daemon begins a line: enough to tell its time without reading all of it.
_BEGINNING = re.compile(rb'\{"schema":"mien/event/1","id":"[^"\\]*","device":"[^"\\]*","ts":"([0-9TZ:.-]{24})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which events. What is empty selects all; of several names any will do.

    Attributes:
        since: the first time, as events have it: UTC with milliseconds and `Z`.
        until: the time from which on events are left out.
        types: of `TYPES`.
        expressions: labels, or `uncertain`.
        tracks: numbers of faces.
        devices: names.
    """

    since: str = ""
    until: str = ""
    types: frozenset[str] = frozenset()
    expressions: frozenset[str] = frozenset()
    tracks: frozenset[int] = frozenset()
    devices: frozenset[str] = frozenset()

    def in_time(self, ts: str) -> bool:
        """Whether an event of this time can be selected."""
        return ts >= self.since and (not self.until or ts < self.until)

    def wants(self, event: dict[str, Any]) -> bool:
        """Whether an event is selected."""
        return (
            self.in_time(event["ts"])
            and (not self.types or event["type"] in self.types)
            and (not self.expressions or event["expression"] in self.expressions)
            and (not self.tracks or event["track"] in self.tracks)
            and (not self.devices or event["device"] in self.devices)
        )


class Line(NamedTuple):
    """One line of the log, without its break, and the event in it."""

    raw: bytes
    event: dict[str, Any]


class _Known(NamedTuple):
    """A file that was seen. An inode's number alone is used again once a file is deleted; its first event is not."""

    place: Path
    inode: tuple[int, int]
    head: bytes
    size: int

    @property
    def key(self) -> tuple[tuple[int, int], bytes]:
        return self.inode, self.head


class LogReader:
    """Goes through a log from its oldest line on. Memory is bounded, whatever the files hold."""

    def __init__(self, path: Path, selection: Selection | None = None, *, tail: int | None = None) -> None:
        """Begin at the oldest line, or with the last `tail` bytes of all files together."""
        self.path = path
        self.events = 0
        """Lines that were events, selected or not."""
        self.broken = 0
        """Lines that were none."""
        self.first_broken = ""
        """Where the first of those is."""
        self.whole = True
        """Whether it has begun at the oldest line."""
        self._selection = selection or Selection()
        self._place = real_path(path)
        self._tail = tail
        self._file = -1
        self._name = path
        self._inode = (0, 0)
        self._offset = 0
        self._last = (0, b"")
        self._overlong = False
        self._read: set[tuple[tuple[int, int], bytes]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; a second time does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def exists(self) -> bool:
        """Whether there is a file of this log."""
        return bool(self._survey())

    def lines(self, *, final: bool = False) -> Iterator[Line]:
        """The selected lines that there are; called again, those that have come since.

        Args:
            final: whether what stands after the last line break is a line, too: nobody will finish it.

        Raises:
            InputNotFoundError: a file cannot be read.
            BadDataError: it is no file, but a folder or a device.
        """
        while self._file >= 0 or self._start():
            # Looked for before reading on: once there is a later file, nobody writes to this one.
            later = self._later()
            yield from self._whole_lines(to_the_end=final or later is not None)
            if later is None:
                return
            self._read.add((self._inode, os.pread(self._file, _HEAD_BYTES, 0)))
            self._open(later)

    def _start(self) -> bool:
        while files := self._survey():
            number = 0
            offset = 0
            if self._tail is not None:
                rest = self._tail
                number = len(files) - 1
                while number and rest > files[number].size:
                    rest -= files[number].size
                    number -= 1
                offset = max(files[number].size - rest, 0)
            if self._open(files[number]):
                self._read = {known.key for known in files[:number]}
                self.whole = not (number or offset)
                self._offset = self._line_from(offset) if offset else 0
                return True
        return False

    def _line_from(self, offset: int) -> int:
        """Where the first line begins that begins at `offset` or after it."""
        position = offset - 1
        while block := os.pread(self._file, _BLOCK, position):
            if (found := block.find(b"\n")) >= 0:
                return position + found + 1
            position += len(block)
        return position

    def _later(self) -> _Known | None:
        """The file that follows the one that is open."""
        about = _stat(self._place)
        if about is not None and (about.st_dev, about.st_ino) == self._inode:
            return None
        files = self._survey()
        inodes = [known.inode for known in files]
        if self._inode in inodes:
            files = files[inodes.index(self._inode) + 1 :]
        else:
            files = [known for known in files if known.key not in self._read]
        return files[0] if files else None

    def _survey(self) -> list[_Known]:
        """The files that there are, oldest first, as they all were at one moment."""
        before = None
        while True:
            try:
                places = [*(place for _, place in reversed(old_files(self._place))), self._place]
            except OSError as error:
                self._refuse(error)
            files = [known for known in map(self._know, places) if known is not None]
            names = [(known.place, known.key) for known in files]
            if names == before:
                self._read &= {known.key for known in files}
                return files
            before = names

    def _know(self, place: Path) -> _Known | None:
        handle = self._try_to_open(place)
        if handle is None:
            return None
        try:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise BadDataError(f"{self.path} is no file that could be a log; name the file, such as mien.jsonl")
            head = os.pread(handle, _HEAD_BYTES, 0)
        except OSError as error:
            self._refuse(error)
        finally:
            os.close(handle)
        return _Known(place, (about.st_dev, about.st_ino), head, about.st_size)

    def _open(self, known: _Known) -> bool:
        """Go over to another file; false where it has got another name meanwhile."""
        handle = self._try_to_open(known.place)
        if handle is None:
            return False
        about = os.fstat(handle)
        if (about.st_dev, about.st_ino) != known.inode:
            os.close(handle)
            return False
        self.close()
        self._file, self._inode, self._name = handle, known.inode, known.place
        self._offset, self._last, self._overlong = 0, (0, b""), False
        return True

    def _try_to_open(self, place: Path) -> int | None:
        try:
            # A pipe without a writer would be waited for.
            return os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return None
            self._refuse(error)

    def _refuse(self, error: OSError) -> NoReturn:
        raise InputNotFoundError(
            f"the log {self.path} cannot be read ({error.strerror}); read it as a user or with a group that may"
        ) from None

    def _whole_lines(self, *, to_the_end: bool) -> Iterator[Line]:
        self._notice_truncation()
        position, rest = self._offset, b""
        while block := os.pread(self._file, _BLOCK, position):
            position += len(block)
            *lines, rest = (rest + block).split(b"\n")
            for raw in lines:
                yield from self._pass(raw, len(raw) + 1)
            if len(rest) > LONGEST_LINE:
                self._overlong, self._offset, rest = True, position, b""
        if to_the_end and (rest or self._overlong):
            yield from self._pass(rest, len(rest))

    def _pass(self, raw: bytes, length: int) -> Iterator[Line]:
        """One line, if it is wanted; the position moves past it first, so that it never comes twice."""
        start = self._offset
        self._offset += length
        self._last = (start, raw) if not self._overlong else (0, b"")
        event = None
        if not self._overlong:
            if not raw.strip():
                return
            beginning = _BEGINNING.match(raw)
            if beginning and raw.endswith(b"}") and not self._selection.in_time(beginning[1].decode()):
                self.events += 1
                return
            event = parse_event(raw)
        self._overlong = False
        if event is None:
            self.broken += 1
            self.first_broken = self.first_broken or f"{self._name}, line {self._number_of(start)}"
            return
        self.events += 1
        if self._selection.wants(event):
            yield Line(raw, event)

    def _notice_truncation(self) -> None:
        """Begin anew where the file does not hold what was read from it any more."""
        start, last = self._last
        if os.fstat(self._file).st_size < self._offset or os.pread(self._file, len(last), start) != last:
            self._offset, self._last, self._overlong = 0, (0, b""), False

    def _number_of(self, offset: int) -> int:
        """The number, from 1, of the line that begins at `offset`."""
        number, position = 1, 0
        while position < offset and (block := os.pread(self._file, min(_BLOCK, offset - position), position)):
            number += block.count(b"\n")
            position += len(block)
        return number


def read_last(path: Path, selection: Selection, count: int, *, final: bool = False) -> tuple[LogReader, list[Line]]:
    """The last `count` lines that are selected, and the reader, which stands after them.

    Args:
        path: the log.
        selection: which lines.
        count: how many at the most; those alone are held in memory.
        final: as for `LogReader.lines`.

    Raises:
        InputNotFoundError, BadDataError: as `LogReader.lines`.
    """
    tail = _BLOCK + 1024 * count
    while True:
        reader = LogReader(path, selection, tail=tail)
        lines = deque(reader.lines(final=final), maxlen=count)
        if len(lines) == count or reader.whole:
            return reader, list(lines)
        reader.close()
        tail *= 8


def parse_event(raw: bytes) -> dict[str, Any] | None:
    """The event in a line; None where it is none that this version understands."""
    try:
        event = _DECODER.decode(raw.decode())
        datetime.fromisoformat(event["ts"])
        return event if _is_event(event) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _is_event(event: dict[str, Any]) -> bool:
    """Whether all that is shown or selected by is there and of its type."""
    scores, places = event["scores"], [*event["box"], *event["frame"]]
    previous, since = event.get("previous"), event.get("since")
    return (
        event["schema"] == _SCHEMA
        and all(isinstance(event[key], str) for key in ("id", "device", "ts", "type", "expression", "model"))
        and _TIME.fullmatch(event["ts"]) is not None
        and isinstance(event["clock_synced"], bool)
        and type(event["track"]) is int
        and len(event["box"]) == 4
        and len(places) == 6
        and all(type(place) is int for place in places)
        and isinstance(scores, dict)
        and all(_is_number(score) and score <= 1 for score in [event["confidence"], *scores.values()])
        and (previous is None or isinstance(previous, str))
        and (since is None or _is_number(since))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e12


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _stat(place: Path) -> os.stat_result | None:
    try:
        return place.stat()
    except OSError:
        return None
