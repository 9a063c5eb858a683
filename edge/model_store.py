"""The models that people have installed: files in a folder, and a small one that says which of them is used.

`models` in the state folder holds `NAME@SHA256.tflite` for each and `choice.json`. Each change is one rename of what is
on the disk already, so a kill or a power cut leaves what was there before or what is there now. The model that comes
with Mien is no file here: nothing here can take it away.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from edge.control import locked, read_small, sync_folder, table, write_small
from edge.errors import InputNotFoundError, UsageError
from edge.modelcard import NAME_PATTERN

SHIPPED = "shipped"
"""Stands for the model that comes with Mien, whichever that is."""

TRIES = 3
"""So many starts may end before a model on trial has come up."""

FOLDER, CHOICE = "models", "choice.json"

SHORT = 8
"""Digits of a SHA-256 that are shown, as in events."""

_ENTRY = re.compile(rf"{NAME_PATTERN}@[0-9a-f]{{64}}")
_INCOMING = ".incoming-"
_LONGEST_WHY = 500


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model is used. Models are `SHIPPED` or `NAME@SHA256`.

    Attributes:
        current: the one that the next start uses.
        previous: the one that is used again where `current` does not come up. It has come up before.
        starts: how many starts with `current` have begun and not come up; None: it is on trial no more.
        refused: the one that was given up last, until somebody chooses anew.
        why: why it was.
    """

    current: str = SHIPPED
    previous: str = SHIPPED
    starts: int | None = None
    refused: str | None = None
    why: str = ""

    def given_up(self, why: str) -> Choice:
        """The one before is used again."""
        back = self.previous if self.previous != self.current else SHIPPED
        return Choice(current=back, refused=self.current, why=why[:_LONGEST_WHY])


def entry_of(name: str, sha256: str) -> str:
    """What a model is called here."""
    return f"{name}@{sha256}"


def short(entry: str) -> str:
    """The same for people, and as events have it: `NAME@` and the first digits of the SHA-256, or `SHIPPED`."""
    name, at, digest = entry.rpartition("@")
    return f"{name}@{digest[:SHORT]}" if at else entry


def path_of(folder: Path, entry: str) -> Path:
    """Where an installed model lies."""
    return folder / f"{entry}.tflite"


def is_model(path: Path) -> bool:
    """Whether a file lies there: reading a pipe would never end, and a link leads to what nobody has installed."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def stored(folder: Path) -> list[str]:
    """The models that are installed, in order of their names. Links, pipes and folders are none."""
    try:
        names = [path.stem for path in folder.glob("*.tflite") if is_model(path)]
    except OSError:
        return []
    return sorted(name for name in names if _ENTRY.fullmatch(name))


def read_choice(folder: Path) -> Choice:
    """Which model is used. Where that cannot be read it is the one that comes with Mien, and `why` says so."""
    try:
        text = read_small(folder / CHOICE)
    except OSError as error:
        return Choice(why=f"{folder / CHOICE} cannot be read ({error.strerror})")
    if text is None:
        return Choice()
    values = table(text) or {}
    current, previous, starts = (values.get(name) for name in ("current", "previous", "starts"))
    refused, why = values.get("refused"), values.get("why")
    count = starts if type(starts) is int and starts >= 0 else None
    if not (_is_entry(current) and _is_entry(previous)) or (starts is not None and count is None):
        return Choice(why=f"{folder / CHOICE} is damaged")
    return Choice(
        current=str(current),
        previous=str(previous),
        starts=count,
        refused=str(refused) if _is_entry(refused) else None,
        why=why[:_LONGEST_WHY] if isinstance(why, str) else "",
    )


# What people do


@contextmanager
def incoming(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file to be filled; it is gone in the end unless `keep` has taken it.

    Raises:
        OSError: it cannot be made.
    """
    path = folder / f"{_INCOMING}{os.getpid()}-{secrets.token_hex(4)}"
    with locked(folder):  # nobody tidies up between these two steps
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        fcntl.flock(handle, fcntl.LOCK_EX)
        os.fchmod(handle, 0o644)  # whatever the umask: the folder alone says who may read, and others tidy up
    try:
        with os.fdopen(handle, "w+b") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def keep(folder: Path, path: Path, file: BinaryIO, entry: str) -> None:
    """Give what has come in its name, for good.

    Args:
        folder: the models' folder.
        path: of the incoming file.
        file: the same, open.
        entry: what it is called from now on; its name and its SHA-256, which the caller has checked.

    Raises:
        OSError: it cannot be kept.
    """
    file.flush()
    os.fsync(file.fileno())
    with locked(folder):
        path.replace(path_of(folder, entry))
        sync_folder(folder)


def use(folder: Path, entry: str) -> Choice:
    """Have a model used from the next start on, at first on trial.

    Raises:
        InputNotFoundError: it is not installed.
        OSError: that cannot be written.
    """
    with locked(folder):
        if entry != SHIPPED and not is_model(path_of(folder, entry)):
            raise InputNotFoundError(f"{short(entry)} is not installed; 'mien model list' shows what is")
        before = read_choice(folder)
        if entry == before.current and before.refused is None and not before.why:
            return before
        proven = before.current if before.starts is None else before.previous
        return _write(folder, Choice(current=entry, previous=SHIPPED if proven == entry else proven, starts=0))


def find_previous(folder: Path) -> str:
    """The model that was used before the current one.

    Raises:
        UsageError: there was none.
    """
    choice = read_choice(folder)
    if choice.previous == choice.current:
        raise UsageError("no other model was used before this one; 'mien model list' shows those that are installed")
    return choice.previous


def remove(folder: Path, entry: str) -> None:
    """Remove an installed model. Where it was kept to fall back to, the one that comes with Mien takes its place there.

    Raises:
        UsageError: it is used, or the one that comes with Mien.
        OSError: it cannot be removed.
    """
    with locked(folder):
        choice = read_choice(folder)
        if entry == SHIPPED:
            raise UsageError("the model that comes with Mien stays: it is what all others fall back to")
        if entry == choice.current:
            raise UsageError(f"{short(entry)} is in use; use another one first, such as mien model use {SHIPPED}")
        if entry == choice.previous:
            _write(folder, replace(choice, previous=SHIPPED))
        path_of(folder, entry).unlink(missing_ok=True)
        sync_folder(folder)


def tidy(folder: Path) -> None:
    """Remove what commands have left that were cut off; what another one is filling just now stays."""
    with locked(folder):
        for path in folder.glob(f".{CHOICE}.*"):  # only written under the lock
            with suppress(OSError):
                path.unlink()
        for path in folder.glob(f"{_INCOMING}*"):
            with suppress(OSError):  # whatever else somebody has laid here must keep nobody from his models
                handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(handle)


def find(folder: Path, wanted: str, shipped: str) -> str:
    """The one model that a person means.

    Args:
        folder: the models' folder.
        wanted: `SHIPPED`, a name, `NAME@` with the first digits of the SHA-256, or four or more of these alone.
        shipped: what the model that comes with Mien is called.

    Raises:
        InputNotFoundError: there is none.
        UsageError: there are several.
    """
    if wanted in {SHIPPED, short(shipped), shipped}:
        return SHIPPED
    entries = stored(folder)
    found = [entry for entry in entries if _means(wanted, entry)] or [SHIPPED] * _means(wanted, shipped)
    if not found:
        known = ", ".join(map(short, [SHIPPED, *entries]))
        raise InputNotFoundError(f"there is no model {wanted!r}; expected one of {known}, or 'mien model install FILE'")
    if len(found) > 1:
        raise UsageError(f"{wanted!r} may be {' or '.join(map(short, found))}; say which")
    return found[0]


# What the daemon does


def begin(folder: Path) -> Choice:
    """Count a start where a model is on trial, and end the trial where too many have not come up.

    Raises:
        OSError: that cannot be written; whoever cannot count does not try.
    """
    with locked(folder):
        choice = read_choice(folder)
        if choice.starts is None:
            return choice
        if choice.starts < TRIES:
            return _write(folder, replace(choice, starts=choice.starts + 1))
        return _write(folder, choice.given_up(f"{choice.starts} starts with it ended before a picture was looked at"))


def confirm(folder: Path, entry: str) -> bool:
    """A model has come up; whether it was on trial until now."""
    return _change(folder, entry, lambda choice: replace(choice, starts=None))


def excuse(folder: Path, entry: str) -> bool:
    """The start that was counted last has ended for a reason of its own, which says nothing of the model."""
    return _change(folder, entry, lambda choice: replace(choice, starts=max(0, (choice.starts or 0) - 1)))


def give_up(folder: Path, entry: str, why: str) -> Choice:
    """A model cannot be used: the one before is used again, now and from now on."""
    with locked(folder):
        choice = read_choice(folder)
        return _write(folder, choice.given_up(why)) if choice.current == entry else choice


def _change(folder: Path, entry: str, change: Callable[[Choice], Choice]) -> bool:
    with locked(folder):
        choice = read_choice(folder)
        if choice.current != entry or choice.starts is None:  # somebody has chosen anew meanwhile
            return False
        _write(folder, change(choice))
        return True


def _write(folder: Path, choice: Choice) -> Choice:
    write_small(folder / CHOICE, json.dumps(asdict(choice)) + "\n")
    return choice


def _is_entry(value: object) -> bool:
    return isinstance(value, str) and (value == SHIPPED or _ENTRY.fullmatch(value) is not None)


def _means(wanted: str, entry: str) -> bool:
    name, _, digest = entry.rpartition("@")
    if "@" in wanted:
        return entry.startswith(wanted) and wanted.partition("@")[0] == name
    return wanted == name or (len(wanted) >= 4 and digest.startswith(wanted.lower()))
