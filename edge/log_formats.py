"""How `mien log` prints events: a table for people, the log's own lines, or CSV with a column for each score."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TextIO

from edge.commandline import printable
from edge.log_reader import Line

FORMATS = ("table", "json", "csv")

COLUMNS = (
    "id",
    "device",
    "ts",
    "clock_synced",
    "type",
    "track",
    "x",
    "y",
    "width",
    "height",
    "frame_width",
    "frame_height",
    "expression",
    "confidence",
    "previous",
    "since",
    "model",
)
"""Of the CSV, before `scores.<label>` for each label."""

LONGEST_TEXT = 40
"""Signs of a name in the table; the rest is in the other formats."""

Writer = Callable[[Line], None]


def make_writer(kind: str, stream: TextIO, labels: Sequence[str] | None) -> Writer:
    """A function that prints one line of the log; whoever calls it flushes `stream`.

    Args:
        kind: of `FORMATS`.
        stream: where to; what it raises goes through.
        labels: whose scores get a column of the CSV; None: those of the first event, which the header waits for.
    """
    if kind == "json":
        return _json(stream)
    return _csv(stream, labels) if kind == "csv" else _table(stream)


def _json(stream: TextIO) -> Writer:
    if not stream.isatty():
        # Byte for byte, whatever the terminal's encoding would be.
        return lambda line: _write_bytes(stream, line.raw)
    return lambda line: _write_bytes(stream, "".join(map(_json_sign, line.raw.decode())).encode())


def _write_bytes(stream: TextIO, raw: bytes) -> None:
    stream.buffer.write(raw + b"\n")


def _json_sign(sign: str) -> str:
    """A sign that a terminal may see; in JSON an escape is the same sign."""
    if sign.isprintable():
        return sign
    units = sign.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _csv(stream: TextIO, labels: Sequence[str] | None) -> Writer:
    table = csv.writer(stream, lineterminator="\n")
    columns: list[str] = []
    told: set[str] = set()

    def begin(labels: Iterable[str]) -> None:
        columns.extend(labels)
        table.writerow([*COLUMNS, *(printable(f"scores.{label}") for label in columns)])

    def write(line: Line) -> None:
        event = line.event
        if labels is None and not columns:
            begin(event["scores"])
        cells = [*(_cell(event, key) for key in COLUMNS[:6]), *event["box"], *event["frame"]]
        cells += [_cell(event, key) for key in COLUMNS[12:]]
        table.writerow([*cells, *(event["scores"].get(label, "") for label in columns)])
        for label in event["scores"].keys() - set(columns) - told:
            told.add(label)
            print(
                f"mien log: scores of {printable(label)!r} have no column: the model was changed; "
                "begin anew, or use --format json",
                file=sys.stderr,
            )

    if labels is not None:
        begin(labels)
    return write


def _cell(event: dict[str, Any], key: str) -> object:
    value = event.get(key)
    if isinstance(value, bool):
        return str(value).lower()
    return printable(value) if isinstance(value, str) else value


def _table(stream: TextIO) -> Writer:
    # The device is last, and the one column with names of any length grows with them.
    wide = len("EXPRESSION")

    def show(time: str, face: str, kind: str, expression: str, score: str, before: str, device: str) -> None:
        nonlocal wide
        wide = max(wide, len(expression))
        text = f"{time:<20} {face:>6}  {kind:<8}  {expression:<{wide}} {score:>5}  {before:<18}  {device}"
        stream.write(text.rstrip() + "\n")

    def write(line: Line) -> None:
        event = line.event
        before = f"{_short(event['previous'])} {event.get('since') or 0:.1f} s" if event.get("previous") else ""
        show(
            _local(event["ts"]) + ("" if event["clock_synced"] else "?"),
            _short(str(event["track"])),
            _short(event["type"]),
            _short(event["expression"]),
            f"{event['confidence']:.0%}",
            before,
            _short(event["device"], 63),
        )

    show("TIME", "FACE", "TYPE", "EXPRESSION", "SCORE", "BEFORE", "DEVICE")
    return write


def _short(text: str, longest: int = LONGEST_TEXT) -> str:
    shown = printable(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _local(ts: str) -> str:
    try:
        return datetime.fromisoformat(ts).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return ts[:19].replace("T", " ")
