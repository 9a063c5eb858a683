"""FER+ (Barsoum et al. 2016): what ten people called each image of FER2013, as shares of their votes.

They are no better FER2013 labels: their plurality agrees with FER2013's own on 63 % of the training rows. So they never
replace a label; a second head learns them beside it and is left out of the finished network.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadDataError, InputNotFoundError
from trainer.datasets import Split

VOTED = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
"""What could be voted for; votes for "unknown" and "NF" (no face) count for nothing."""


def read_votes(path: Path) -> NDArray[np.float32]:
    """Shares of votes `float32[rows, len(VOTED)]` in the order of `fer2013.csv`; a row is 0 where nobody voted.

    Raises:
        InputNotFoundError: there is no such file.
        BadDataError: it is not FER+'s CSV; the message names the row.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in VOTED if name not in (reader.fieldnames or ())]
            if missing:
                raise BadDataError(f"{path}: no column {missing[0]!r}; expected FER+'s fer2013new.csv")
            counts = [_counts(row, path, reader.line_num) for row in reader]
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); name FER+'s fer2013new.csv") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path}: not a CSV ({error}); expected FER+'s fer2013new.csv") from error
    if not counts:
        raise BadDataError(f"{path}: holds no row; download it again")
    votes = np.array(counts, dtype=np.float32)
    return votes / np.maximum(votes.sum(axis=1, keepdims=True), 1)


def _counts(row: dict[str, str], path: Path, line: int) -> list[int]:
    try:
        counts = [int(row[name]) for name in VOTED]
    except (TypeError, ValueError) as error:
        raise BadDataError(f"{path}: line {line}: votes must be whole numbers ({error})") from error
    if min(counts) < 0:
        raise BadDataError(f"{path}: line {line}: votes must not be negative")
    return counts


def votes_of(votes: NDArray[np.float32], split: Split, path: str, expected: int) -> NDArray[np.float32]:
    """The votes on `split`'s faces, joined by row position.

    Args:
        votes: what `read_votes` gave.
        split: rows of the data set that the votes are about.
        path: the votes' file, for the message.
        expected: how many rows the data set's file has; 0: it is a folder.

    Raises:
        BadDataError: there are not as many votes as rows, so that they are about something else; or no rows at all.
    """
    if not expected:
        raise BadDataError(
            f"{path}: votes go with the rows of fer2013.csv, and a folder's pictures have none; name FER2013 as a CSV "
            "or an npz, or do without votes"
        )
    if len(votes) != expected:
        raise BadDataError(
            f"{path}: holds votes on {len(votes):,} images, the data set has {expected:,} rows; FER+'s votes go with "
            "FER2013 as it was published, row by row"
        )
    return votes[split.rows]
