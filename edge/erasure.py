"""What erasing has brought: files that are gone, what could not be removed, and what there is to say."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from edge.rotation import numbered, old_files


@dataclass(slots=True)
class Erasure:
    """The account of one erasing.

    Attributes:
        removed: what is gone, with its bytes.
        problems: what could not be removed, and why.
        notes: what else a person should know.
    """

    removed: list[tuple[str, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def remove(self, path: Path) -> None:
        """Remove a file or a link, and note that; one that is not there is passed over, a device never removed."""
        try:
            about = path.lstat()
            if not (stat.S_ISREG(about.st_mode) or stat.S_ISLNK(about.st_mode)):
                self.problems.append(f"{path} cannot be removed (it is no file)")
                return
            path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            self.problems.append(f"{path} cannot be removed ({error.strerror})")
        else:
            self.removed.append((str(path), about.st_size))

    def add(self, other: Erasure) -> None:
        """Take another account over."""
        self.removed += other.removed
        self.problems += other.problems
        self.notes += other.notes

    def to_json(self) -> str:
        """For another process."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__})

    @staticmethod
    def from_json(text: str) -> Erasure:
        """What `to_json` gave.

        Raises:
            ValueError, TypeError, KeyError, OverflowError: it is something else.
        """
        values = json.loads(text)
        removed = [(str(what), int(size)) for what, size in values["removed"]]
        return Erasure(removed, [str(one) for one in values["problems"]], [str(one) for one in values["notes"]])


def erase_log(place: Path) -> Erasure:
    """Remove a log with its old files and what was torn off its lines; `place` is where it really lies."""
    erasure = Erasure()
    for old in [numbered(place, "torn"), numbered(place, "new"), *(file for _, file in reversed(old_files(place)))]:
        erasure.remove(old)
    erasure.remove(place)
    return erasure


def outboxes(folder: Path) -> list[Path]:
    """The outboxes of every device name that there was in a state folder, those that were damaged too."""
    found = {Path(str(path).removesuffix(".damaged")) for path in folder.glob("outbox-*.sqlite*")}
    return sorted(path for path in found if path.suffix == ".sqlite")


def remove_outbox(path: Path) -> Erasure:
    """Remove an outbox with all that SQLite keeps beside it. Nobody may have it open."""
    erasure = Erasure()
    for suffix in ("-wal", "-shm", "-journal", ".damaged", ""):
        erasure.remove(path.with_name(path.name + suffix))
    return erasure


def is_in_use(path: Path) -> bool:
    """Whether another process has an outbox open."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=rw", uri=True, timeout=0.0)) as database:
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as error:  # one that is damaged is in nobody's use
        return "locked" in str(error)
    return False
