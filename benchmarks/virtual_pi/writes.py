"""What a card may hold whose own cache is lost with the power, from QEMU's record of every write and flush.

The record has the format of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a sector
that says how many entries there are, then for each entry a sector that describes it and the data that was written.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SECTOR = 512
MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4

_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")


@dataclass(frozen=True, slots=True)
class Entry:
    """A write, or a flush.

    Attributes:
        position: of its data on the card, in bytes.
        size: of its data, in bytes.
        flags: `FLUSH`, `DISCARD`.
        place: of its data in the record, in bytes.
    """

    position: int
    size: int
    flags: int
    place: int


def read_record(path: Path) -> Iterator[Entry]:
    """What happened, in order; up to the last flush where QEMU was killed.

    Raises:
        ValueError: that is no such record.
    """
    with path.open("rb") as file:
        magic, _, count, sector = _SUPER.unpack(file.read(_SUPER.size))
        if magic != MAGIC or sector != SECTOR:
            raise ValueError(f"{path} is no record of writes to sectors of {SECTOR} bytes")
        place = SECTOR
        for _ in range(count):
            file.seek(place)
            first, sectors, flags, _ = _ENTRY.unpack(file.read(_ENTRY.size))
            size = sectors * SECTOR
            yield Entry(first * SECTOR, size, flags, place + SECTOR)
            place += SECTOR + (0 if flags & DISCARD else size)


class Card:
    """A card to which a record is applied up to one moment after the other.

    Args:
        disk: what it held when the record began; it is changed.
        record: see `read_record`.
    """

    def __init__(self, disk: Path, record: Path) -> None:
        self.disk, self._record = disk, record
        self.entries = list(read_record(record))
        self._flushed = 0

    def advance(self, moment: int) -> Sequence[Entry]:
        """Write all that was flushed before the entry of this number; the writes behind that, which may be lost."""
        flushes = (number + 1 for number in range(moment) if self.entries[number].flags & FLUSH)
        last = max(flushes, default=0)
        with self.disk.open("r+b") as disk, self._record.open("rb") as record:
            for entry in self.entries[self._flushed : last]:
                _write(disk, record, entry, entry.size)
        self._flushed = max(self._flushed, last)
        return [entry for entry in self.entries[last:moment] if entry.size]

    def apply(self, copy: Path, entries: Sequence[Entry], chance: random.Random) -> int:
        """Write some of the entries to a copy of the card, each wholly, partly or not; how many were lost or cut."""
        lost = 0
        with copy.open("r+b") as disk, self._record.open("rb") as record:
            for entry in entries:
                kept = chance.choice((entry.size, entry.size, 0, chance.randrange(entry.size // SECTOR) * SECTOR))
                lost += kept < entry.size
                _write(disk, record, entry, kept)
        return lost


def _write(disk: BinaryIO, record: BinaryIO, entry: Entry, size: int) -> None:
    disk.seek(entry.position)
    if entry.flags & DISCARD:
        disk.write(bytes(size))
        return
    record.seek(entry.place)
    disk.write(record.read(size))
