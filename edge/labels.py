"""The names of facial expressions, in the one order that dataset, model and events share."""

from collections.abc import Sequence

from edge.errors import BadDataError

FER2013_LABELS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""FER2013's seven classes; the position is the CSV's `emotion` number (Goodfellow et al. 2013)."""

UNCERTAIN = "uncertain"
"""Published instead of a label when no score is high enough. Never a class of a model."""

MAX_LABEL = 64
"""Characters in a label."""


def parse_labels(text: str, where: str) -> tuple[str, ...]:
    """One label a line, as `labels.txt` has them; blank lines at the end are ignored.

    Raises:
        BadDataError: no labels, one twice, or one that cannot be one.
    """
    return check_labels(text.rstrip().splitlines(), where)


def check_labels(labels: Sequence[str], where: str) -> tuple[str, ...]:
    """Labels without the spaces around them.

    Args:
        labels: in the order of the model's outputs.
        where: what messages call their origin.

    Raises:
        BadDataError: fewer than two, one twice, or one that cannot be one.
    """
    cleaned = tuple(label.strip() for label in labels)
    if len(cleaned) < 2:
        raise BadDataError(f"{where}: {len(cleaned)} labels; a classifier has at least two")
    for number, label in enumerate(cleaned, start=1):
        if not label or len(label) > MAX_LABEL or not label.isprintable():
            raise BadDataError(f"{where}: label {number} is empty, longer than {MAX_LABEL} characters or unprintable")
        if label == UNCERTAIN:
            raise BadDataError(f"{where}: label {number} is {UNCERTAIN!r}, which Mien itself says of unclear faces")
        if label in cleaned[: number - 1]:
            raise BadDataError(f"{where}: label {label!r} stands twice")
    return cleaned
