"""What is on a card after its power was cut: whether the file system is whole, and what Mien left."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.virtual_pi.base import make
from benchmarks.virtual_pi.machine import copy_card

PLACES = {"state": "/var/lib/mien", "log": "/var/log/mien"}


@dataclass(frozen=True, slots=True)
class Card:
    """What was found.

    Attributes:
        clean: whether e2fsck finds nothing to mend once the journal is replayed.
        complaint: what it says where it is not.
        ids: of the events in the log, in its order, old files first.
        broken: lines of the log that do not parse, but for the last.
        torn: bytes behind the last whole line, and those that were put aside at an earlier start.
        outbox: what SQLite's integrity check says; `ok`, or `none` where there is no outbox yet.
        waiting: events in the outbox.
        starts: the count of starts; -1 where there is none yet.
    """

    clean: bool
    complaint: str = ""
    ids: list[str] = field(default_factory=list)
    broken: int = 0
    torn: int = 0
    outbox: str = "none"
    waiting: int = 0
    starts: int = -1


def look_at(disk: Path, folder: Path) -> Card:
    """Check a copy of a card, so that the machine itself has to mend it at its next start.

    Args:
        disk: an ext4 file system that nobody uses.
        folder: a new one, for the copy and what is taken from it.
    """
    folder.mkdir(parents=True)
    copy = folder / "card"
    copy_card(disk, copy)
    try:
        return check(copy, folder)
    finally:
        copy.unlink()


def check(copy: Path, folder: Path) -> Card:
    """Replay a card's journal, as mounting it does, and see what is there.

    Args:
        copy: an ext4 file system; it is changed.
        folder: for what is taken from it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # 1: something was replayed. It mends nothing else.
    make(["bash", "-c", 'e2fsck -y -E journal_only "$1" || [ $? -eq 1 ]', "replay", copy])
    checked = subprocess.run(["/usr/sbin/e2fsck", "-fn", copy], check=False, capture_output=True, text=True)
    for name, place in PLACES.items():
        (folder / name).mkdir()
        make(["debugfs", "-c", "-R", f"rdump {place} {folder / name}", copy])
    complaint = "" if checked.returncode == 0 else checked.stdout
    state = folder / "state/mien"
    found = [_read_outbox(path) for path in sorted(state.glob("outbox-*.sqlite"))]
    outbox, waiting = found[0] if found else ("none", 0)
    starts = state / "starts"
    count = int(starts.read_text(encoding="ascii")) if starts.exists() else -1
    ids, broken, torn = _read_log(folder / "log/mien/mien.jsonl")
    return Card(not complaint, complaint, ids, broken, torn, outbox, waiting, count)


def _read_log(path: Path) -> tuple[list[str], int, int]:
    aside = path.with_name(path.name + ".torn")
    torn = aside.stat().st_size if aside.exists() else 0
    if not path.exists():
        return [], 0, torn
    *lines, rest = path.read_bytes().split(b"\n")
    ids, broken = [], 0
    for line in lines:
        try:
            ids.append(str(json.loads(line)["id"]))
        except ValueError:
            broken += 1
    return ids, broken, torn + len(rest)


def _read_outbox(path: Path) -> tuple[str, int]:
    database = sqlite3.connect(path)
    try:
        told = str(database.execute("PRAGMA integrity_check").fetchone()[0])
        # Cut off while it was made, it has no table yet, and gets one at the next start.
        made = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        return told, int(database.execute("SELECT count(*) FROM event").fetchone()[0]) if made else 0
    except sqlite3.DatabaseError as error:
        return str(error), 0
    finally:
        database.close()
