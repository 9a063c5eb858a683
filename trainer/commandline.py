"""What the commands of the trainer and of the exporter share: reading a data set, progress, types of options."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.chatter import without_chatter
from edge.errors import UnavailableError
from edge.labels import FER2013_LABELS

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.readers import Progress

_CHATTER = (b"WARNING: All log messages before absl::InitializeLog()", b"I0000 ")
"""What TensorFlow's libraries say while they are loaded, whatever TF_CPP_MIN_LOG_LEVEL is."""

DATA_HELP = "fer2013.csv, icml_face_data.csv, an .npz, or a folder of images (train/angry/*.png or angry/*.png)"
NO_CACHE_HELP = "parse a CSV anew; its images are else kept for the next time, for you alone, in ~/.cache/mien"


def add_drop(parser: Any) -> None:
    """Add `--drop` to a parser or a group of its options."""
    parser.add_argument(
        "--drop", type=_label_names, default=(), metavar="LABELS",
        help="leave classes out, for instance disgust,fear; the others are numbered anew",
    )  # fmt: skip


def load(
    source: Path, *, size: int, cache: bool = True, drop: Sequence[str] = (), network: Path | None = None
) -> Dataset:
    """Read a data set with a progress bar, and what is strange about it, on stderr; leave out the labels `drop`.

    Args:
        source: see `trainer.datasets.load_dataset`, as for `size` and `cache`.
        size: of the faces.
        cache: whether a parsed CSV is kept.
        drop: labels to leave out.
        network: what it is for, whose labels it gets; None: one that is yet to be trained.
    """
    from trainer import datasets

    with progress_bar(f"reading {source.name}") as progress:
        dataset = datasets.load_dataset(source, size=size, cache=cache, progress=progress)
    if dataset.warning:
        print(f"warning: {dataset.warning}", file=sys.stderr)
    dataset = datasets.drop_labels(dataset, drop)
    dataset = datasets.labelled_for(dataset, _known_labels(network) if network else None)
    if unseen := [label for number, label in enumerate(dataset.labels) if number not in dataset.train.labels]:
        leave_out = f": --drop {','.join([*drop, *unseen])} leaves {'it' if len(unseen) == 1 else 'them'} out"
        print(
            f"note: {dataset.name}: there is no training image of {', '.join(unseen)}"
            + (leave_out if len(dataset.labels) - len(unseen) >= 2 else ""),
            file=sys.stderr,
        )
    return dataset


def _known_labels(network: Path) -> Sequence[str]:
    """The labels of a network's file; FER2013's where it tells none."""
    if network.suffix == ".tflite":
        from edge.modelfile import read_model_file

        return read_model_file(network).labels or FER2013_LABELS
    from trainer import keras_file

    return keras_file.read_card(network).get("labels") or FER2013_LABELS


@contextlib.contextmanager
def progress_bar(what: str, *, at_once: bool = False) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal, gone when done.

    Args:
        what: is being done.
        at_once: show it from the start, moving without a measure, and not only with the first report.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    # A stderr of its own: TensorFlow's converter has the process's turned away meanwhile.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", errors="backslashreplace") as terminal:
        bar = Bar(console=Console(file=terminal), transient=True)
        task = bar.add_task(what, total=None)

        def report(done: int, total: int) -> None:
            bar.start()
            bar.update(task, completed=done, total=total)

        if at_once:
            bar.start()
        try:
            yield report
        finally:
            bar.stop()


def require_keras() -> None:
    """Raise UnavailableError, with the command that helps, where the trainer extra is not installed."""
    import importlib.util

    missing = [name for name in ("keras", "sklearn", "rich") if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(f"{missing[0]} is not installed here; the trainer needs: pip install 'mien[trainer]'")
    try:
        with without_chatter(*_CHATTER):
            import keras  # noqa: F401  # finds its backend, or not
    except ImportError as error:
        raise UnavailableError(
            f"Keras finds no backend ({error}); pip install 'mien[trainer]', or set KERAS_BACKEND to jax or torch"
        ) from error


def _label_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r}, expected labels with commas between them")
    return names


def whole(low: int, high: int) -> Any:
    """A type for argparse: a whole number within bounds."""
    return _bounded(int, "whole number", low, high)


def number(low: float, high: float) -> Any:
    """A type for argparse: a number within bounds."""
    return _bounded(float, "number", low, high)


def _bounded(kind: type[int | float], name: str, low: float, high: float) -> Any:
    def parse(text: str) -> float:
        value = kind(text)
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} is not within {low} to {high}")
        return value

    parse.__name__ = name  # argparse says "invalid whole number value"
    return parse
