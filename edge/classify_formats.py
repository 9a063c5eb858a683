"""How `mien classify` prints its results: a table for people, JSON Lines and CSV for programs."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from edge.commandline import printable
from edge.events import round_scores

if TYPE_CHECKING:
    from edge.classify import Result
    from edge.frame import Box
    from edge.smoothing import Reading

Writer = Callable[["Result"], None]

COLUMNS = ("path", "time", "face", "x", "y", "width", "height", "expression", "confidence")
"""Of the CSV, before one column for each label and the last one, `error`."""


def make_writer(kind: str, labels: Sequence[str], stream: TextIO) -> Writer:
    """A function that prints one result and flushes it.

    Args:
        kind: "table", "json" or "csv".
        labels: the model's.
        stream: where to; what it raises goes through.
    """
    rows = {"table": _table, "json": _json, "csv": _csv}[kind](labels, stream)

    def write(result: Result) -> None:
        rows(result)
        stream.flush()

    return write


def _json(labels: Sequence[str], stream: TextIO) -> Writer:
    def write(result: Result) -> None:
        values: dict[str, Any] = {"path": str(result.path)}
        if result.video and result.frame is not None:
            values["time"] = round(result.frame.time, 3)
        if result.error is None:
            values["faces"] = [_face(labels, box, reading) for box, reading in result.faces]
        else:
            values["error"] = str(result.error)
        stream.write(json.dumps(values, ensure_ascii=False, allow_nan=False) + "\n")

    return write


def _face(labels: Sequence[str], box: Box, reading: Reading) -> dict[str, Any]:
    scores = round_scores(reading.scores.tolist())
    return {
        "box": list(box.as_tuple()),
        "expression": reading.expression,
        "confidence": max(scores),
        "scores": dict(zip(labels, scores, strict=True)),
    }


def _csv(labels: Sequence[str], stream: TextIO) -> Writer:
    table = csv.writer(stream, lineterminator="\n")
    table.writerow([*COLUMNS, *labels, "error"])
    blank = [""] * (len(COLUMNS) - 2 + len(labels))

    def write(result: Result) -> None:
        time = f"{result.frame.time:.3f}" if result.video and result.frame is not None else ""
        if result.error is not None:
            table.writerow([result.path, time, *blank, result.error])
        elif not result.faces:
            table.writerow([result.path, time, *blank, ""])
        for number, (box, reading) in enumerate(result.faces, start=1):
            face = _face(labels, box, reading)
            head = [result.path, time, number, *box.as_tuple(), face["expression"], face["confidence"]]
            table.writerow([*head, *face["scores"].values(), ""])

    return write


def _table(labels: Sequence[str], stream: TextIO) -> Writer:
    wide = max(len("EXPRESSION"), *(len(label) for label in labels))

    def line(expression: str, score: str, box: str, time: str, path: str) -> None:
        # The path is last, so that the lines before it need not know the longest.
        stream.write(f"{expression:<{wide}}  {score:>5}  {box:<20}  {time:>9}  {path}\n")

    def write(result: Result) -> None:
        path = printable(str(result.path))
        time = f"{result.frame.time:.3f} s" if result.video and result.frame is not None else ""
        if result.error is not None:
            line("failed", "", "", time, path)
        elif not result.faces:
            line("no face", "", "", time, path)
        for box, reading in result.faces:
            place = f"{box.x},{box.y} {box.width}x{box.height}"
            line(reading.expression, f"{reading.confidence:.0%}", place, time, path)

    line("EXPRESSION", "SCORE", "BOX", "TIME", "PATH")
    return write
