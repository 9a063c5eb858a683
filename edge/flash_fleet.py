"""A fleet's cards from a CSV: one row a card, all of them checked before anything is written."""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.errors import BadDataError, InputNotFoundError, MienError
from edge.flash_settings import OPTIONS, Card, make_card

MAX_FILE_BYTES = 4 * 1024 * 1024

MOST_TOLD = 100
"""Wrong rows that a message names."""


def read_fleet(
    path: Path, common: Mapping[str, str], *, default_config: Path, ask: Callable[[str], str] | None = None
) -> list[Card]:
    """Read and check every row.

    Args:
        path: a CSV in UTF-8 whose first row names the columns: those of `OPTIONS`, or keys of mien.toml. Files that a
            cell names are relative to the CSV's folder. Empty rows and rows that begin with `#` are passed over.
        common: what holds for all cards; a cell that is not empty wins.
        default_config: see `make_card`.
        ask: see `make_card`.

    Raises:
        InputNotFoundError: the CSV cannot be read.
        BadDataError: it is no CSV, or rows are wrong: all of them are told, by number, as a text editor counts, and
            column.
    """
    rows = _rows(path)
    if not rows:
        raise BadDataError(f"{path} is empty; expected a row with the columns' names, then one for each card")
    columns = [name.strip() for name in rows[0][1]]
    _check_columns(path, columns)
    cards: list[Card] = []
    wrong: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for number, cells in rows[1:]:
        if len(cells) != len(columns):
            wrong.append(f"{path}, row {number}: it has {len(cells)} cells, and there are {len(columns)} columns")
            continue
        row = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
        try:
            # What is the same for all was given as options, and its files lie where those say.
            options = {**common, **{name: _placed(path, name, cell) for name, cell in row.items() if cell}}
            card = make_card(
                options,
                default_config=default_config,
                ask=ask,
                where=lambda name, number=number: (  # type: ignore[misc]  # mypy knows no types of lambdas' defaults
                    f"{path}, row {number}, column {name}" if name in columns or name not in common else f"--{name}"
                ),
            )
        except MienError as error:
            wrong.append(str(error))
            continue
        device = tomllib.loads(card.config).get("device", {}).get("name", "")
        for what, name in (("hostname", card.hostname), ("device", device)):
            first = seen.setdefault((what, name.lower()), number)
            if name and first != number:
                wrong.append(
                    f"{path}, row {number}, column {what}: {name} is that of row {first} too; each card needs its own"
                )
        cards.append(card)
    if wrong:
        more = [f"and {len(wrong) - MOST_TOLD} more"] if len(wrong) > MOST_TOLD else []
        raise BadDataError("\n".join([*wrong[:MOST_TOLD], *more, "nothing was written; mend these and run it again"]))
    if not cards:
        raise BadDataError(f"{path} names columns, but no card; add a row for each")
    return cards


def _placed(path: Path, name: str, cell: str) -> str:
    is_file = name in {"config", "ssh-key"} or name.endswith("-file")
    return str(path.parent.absolute() / Path(cell).expanduser()) if is_file else cell


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputNotFoundError(f"--fleet: {path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise BadDataError(f"{path} is larger than {MAX_FILE_BYTES} bytes; is it the right file?")
    try:
        reader = csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True)
        return [
            (reader.line_num, cells) for cells in reader if any(map(str.strip, cells)) and not cells[0].startswith("#")
        ]
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise BadDataError(f"{path}, row {line}: expected UTF-8 text; save the table as CSV UTF-8") from None
    except csv.Error as error:
        raise BadDataError(f"{path}, row {reader.line_num}: it is no CSV: {error}") from None


def _check_columns(path: Path, columns: list[str]) -> None:
    for name in columns:
        if name not in OPTIONS and "." not in name:
            raise BadDataError(
                f"{path}, row 1: there is no column {name!r}; expected {', '.join(OPTIONS)}, or keys of mien.toml "
                "such as source.rotate (separated by commas)"
            )
        if columns.count(name) > 1:
            raise BadDataError(f"{path}, row 1: column {name} is there twice")
    if "hostname" not in columns:
        raise BadDataError(f"{path}, row 1: column hostname is missing; each card needs a host name of its own")
