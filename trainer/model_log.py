"""The log of every look at a test split: one Markdown table to which a line is added for each, and none is taken away.

What is chosen by a test split is no longer tested by it; so whoever reads a final figure can count here how often
somebody looked.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edge.commandline import printable
from edge.errors import InputNotFoundError, MienError, OutputError
from edge.modelcard import provenance_of
from trainer.datasets import NEAR
from trainer.evaluation import Evaluation

DEFAULT = Path("docs/model-log.md")

HEADING = """\
# Model log

Looks at a test split (FER2013's PrivateTest), oldest first; nothing is chosen by these figures. `--final` of
`mien-train evaluate` and `compare`, of `mien-export verify`, and of `benchmarks.seeds`, `benchmarks.shipped_model` and
`benchmarks.near_copies` adds a line by itself.

"""
COLUMNS = (
    "date (UTC)", "model", "sha256", "arithmetic", "data", "images", "accuracy (95 %)", "without copies", "macro F1",
    "protocol", "seed", "trained by", "at commit",
)  # fmt: skip
TABLE = f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}\n"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        model: the network's file, by name.
        sha256: of that file, in hex.
        arithmetic: such as `int8` or `float`.
        data: the data set's name.
        result: on its test split.
        card: the network's `mien.json`; empty where it has none.
    """

    model: str
    sha256: str
    arithmetic: str
    data: str
    result: Evaluation
    card: Mapping[str, Any]


def digest(path: Path) -> str:
    """A file's SHA-256 in hex.

    Raises:
        InputNotFoundError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def protocol(card: Mapping[str, Any]) -> str:
    """Whether a network, and all that taught it and them, saw no images that are also in a test split, by its card."""
    told = [each.get("left_out_of_training") for each in _trainings(provenance_of(card))]
    left_out = [each for each in told if each is not None]
    if len(left_out) < len(told) or not told:
        return "not told"
    if all(NEAR in each for each in left_out):
        return "strictly clean"
    return "clean" if all(left_out) else "literature's"


def _trainings(told: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A network's training and all before it: what it went on from, what taught it, and theirs."""
    if told:
        yield told
        for before in (told.get("went_on_from") or {}, *told.get("teachers", [])):
            yield from _trainings(before)


def refuse_unusable(path: Path) -> None:
    """Try out, before anybody looks at a test split, whether `append` can add to the log; makes its folder.

    Raises:
        OutputError: it cannot, or the file is something else.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            # Asked, and not tried: taking a trial file away again could take another look's line with it.
            if not os.access(path.parent, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        with path.open("r+b") as file:
            text = file.read()
    except OSError as error:
        raise _refused(path, error) from error
    if text.strip() and TABLE.encode() not in text:
        raise OutputError(f"{path}: holds something else than a model log; name another file with --log")


def append(path: Path, entries: Sequence[Entry], *, now: datetime | None = None) -> str:
    """Add a line for each entry, heading and table first where they are missing.

    The lines go to the disk in one write at the file's end, with other writers kept out; where they do not all fit,
    the file is left as it was.

    Args:
        path: the log.
        entries: in their order.
        now: the time; None: this moment.

    Returns:
        The lines.

    Raises:
        OutputError: it cannot be written; the message holds the lines, lest a look go unnoted.
    """
    lines = "".join(f"| {' | '.join(_row(entry, now or datetime.now(UTC)))} |\n" for entry in entries)
    try:
        with path.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            _add(file.fileno(), file.readall(), lines)
    except OSError as error:
        raise OutputError(f"{_refused(path, error)}; add by hand what it lacks:\n{lines}") from error
    return lines


def _add(descriptor: int, before: bytes, lines: str) -> None:
    last = before.rstrip().rpartition(b"\n")[2]
    opening = "" if not before or before.endswith(b"\n") else "\n"
    if not before.strip():
        opening += HEADING + TABLE
    elif not last.startswith(b"|"):  # somebody wrote below the table
        opening += "\n" + TABLE
    content = (opening + lines).encode()
    try:
        written = os.write(descriptor, content)
        if written < len(content):
            os.write(descriptor, content[written:])  # raises what was in the way
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, len(before))
        raise


def _row(entry: Entry, now: datetime) -> list[str]:
    result, told = entry.result, provenance_of(entry.card)
    without = result.accuracy_without_copies
    cells = [
        f"{now:%Y-%m-%d %H:%M}",
        entry.model,
        entry.sha256[:8],
        entry.arithmetic,
        entry.data,
        f"{result.count:,}",
        f"{result.accuracy:.2%} ± {100 * result.interval:.2f}",
        "" if without is None else f"{without:.2%}",
        f"{result.macro_f1:.4f}",
        protocol(entry.card),
        str(told.get("seed", "not told")),
        str(told.get("command", "not told")),
        str(told.get("commit", "not told"))[:8],
    ]
    return [printable(cell).replace("|", "\\|") for cell in cells]


def _refused(path: Path, error: OSError) -> MienError:
    return OutputError(f"{path}: the model log cannot be written ({error.strerror}); name another with --log")
