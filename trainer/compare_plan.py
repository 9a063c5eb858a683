"""Which of the literature's networks are trained on which splits, and what of that is done already.

`RUN/run.json` holds what was asked for and `RUN/result.json` what came out; a training without the latter is yet to be
begun, or gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge.errors import BadDataError, UsageError
from trainer.backbones import SCRATCH
from trainer.baselines import PaperNetwork, obtain_weights
from trainer.datasets import SPLITS, Dataset, copied_in, drop_labels, resplit
from trainer.identity import data_identity, file_identity
from trainer.output_file import write_whole

OFFICIAL, PAPER = "official", "paper"

_SHOWN = (
    "preset", "split", "epochs", "preset_epochs", "seconds", "reported.text", "reported.unseen", "unsaid", "test_share",
    "drop", "pretrained", "pretraining", "images.test", "test_images_copied_in_training", "notes", "train.accuracy",
    "validation.count", "validation.accuracy", "validation.interval_95", "validation.accuracy_without_copies",
    "validation.macro_f1",
)  # fmt: skip
"""What a result is shown by."""

_TESTED = ("test.count", "test.accuracy", "test.interval_95", "test.accuracy_without_copies", "test.macro_f1")
"""And by these, once somebody has looked at the test split."""


@dataclass(frozen=True)
class Job:
    """One training: a preset on one kind of split.

    Attributes:
        preset: what to train.
        split: `official`, the data set's own, or `paper`, random as the paper has it.
        folder: where it happens.
        weights: what it is to start from: a file, `imagenet` to download, `none`.
        asked: all that its outcome depends on.
    """

    preset: PaperNetwork
    split: str
    folder: Path
    weights: str
    asked: dict[str, Any]

    @property
    def name(self) -> str:
        """Of the folder, and in messages."""
        return self.folder.name

    @property
    def begun(self) -> bool:
        """Whether there is something to go on with."""
        return self._run.exists()

    @property
    def from_scratch(self) -> bool:
        """Whether it starts from random weights, asked for or because no others could be had when it was begun."""
        return bool(read_json(self._run).get("from_scratch"))

    @property
    def result(self) -> dict[str, Any] | None:
        """What came out; None while it is not finished. BadDataError where the file does not hold all of it.

        `test` is in it once somebody has looked at the test split.
        """
        path = self.folder / "result.json"
        return _read_result(path) if path.exists() else None

    @property
    def _run(self) -> Path:
        return self.folder / "run.json"

    def note_begin(self, *, from_scratch: bool) -> None:
        """Write `run.json`; OutputError where the folder cannot be written."""
        content = {"asked": self.asked, "from_scratch": from_scratch}
        write_whole(self._run, json.dumps(content, indent=2).encode())

    def refuse_unusable(self) -> None:
        """Raise BadDataError where the folder holds a damaged result, or a training of other options or data."""
        _ = self.result
        if not self.begun:
            return
        before = read_json(self._run).get("asked", {})
        for key, value in self.asked.items():
            if before.get(key) != value:
                raise BadDataError(
                    f"{self._run}: this training was begun with {key} = {before.get(key)}, not {value}; go on with "
                    "the same options and data, or name another --out"
                )


def fits(preset: PaperNetwork, dataset: Dataset, dropped: Sequence[str] = ()) -> bool:
    """Whether the data set has, or had before `dropped`, the labels that a preset leaves out, and two besides."""
    return set(preset.drop) <= {*dataset.labels, *dropped} and len({*dataset.labels} - {*preset.drop}) >= 2


def plan(
    presets: Sequence[PaperNetwork],
    dataset: Dataset,
    out: Path,
    *,
    split: str,
    seed: int,
    epochs: int | None,
    weights: dict[str, str],
    dropped: Sequence[str] = (),
) -> list[Job]:
    """All trainings of a comparison, in the order of `presets`; nothing is trained or written yet.

    Args:
        presets: what to train.
        dataset: as it was read, not cleaned.
        out: each training gets a folder in it.
        split: `official`, `paper` or `both`. A preset whose paper has no split of its own takes the official one.
        seed: of the random splits and of the networks' first weights.
        epochs: at most so many, for a quick look; None: as many as the preset has.
        dropped: labels that were left out of `dataset` already.
        weights: where those of `mobilenet` and `vgg16` come from: a file, `imagenet` to download them, `none`.

    Raises:
        UsageError: the data set has not the labels that a preset leaves out.
        BadDataError: a folder holds a damaged result, or a training that was begun with other options or data.
    """
    data = data_identity([dataset.split(name) for name in SPLITS])
    jobs = []
    for preset in presets:
        _refuse_other_labels(preset, dataset, dropped)
        own = [PAPER] if preset.test_share is not None else []
        start = weights[preset.pretrained] if preset.pretrained else SCRATCH
        for kind in {"official": [OFFICIAL], "paper": own or [OFFICIAL], "both": [OFFICIAL, *own]}[split]:
            asked = {
                "preset": preset.name,
                "split": kind,
                "epochs": min(preset.epochs, epochs or preset.epochs),
                "seed": seed,
                "size": dataset.train.images.shape[1],
                "labels": list(dataset.labels),
                "data": data,
                "weights": file_identity(start),
            }
            jobs.append(Job(preset, kind, out / f"{preset.name}-{kind}", start, asked))
    for job in jobs:
        job.refuse_unusable()
    return jobs


def begin(jobs: Sequence[Job], size: int) -> None:
    """Try out every new training's weights and folder, before the first of them takes its hours.

    Raises:
        InputNotFoundError, BadDataError, UnavailableError: weights are missing or do not fit.
        OutputError: a folder cannot be written.
    """
    scratch: dict[str, bool] = {}
    new = [job for job in jobs if not job.begun]
    for job in new:
        if job.preset.name not in scratch:
            scratch[job.preset.name] = obtain_weights(job.preset, job.weights, size) == SCRATCH
    for job in new:
        job.note_begin(from_scratch=scratch[job.preset.name])


def divide(job: Job, dataset: Dataset) -> Dataset:
    """The data set in the splits and with the labels that a training has."""
    shares = job.preset.shares if job.split == PAPER else None
    if shares is not None:
        dataset = resplit(dataset, shares, job.asked["seed"])
    dataset = drop_labels(dataset, [label for label in job.preset.drop if label in dataset.labels])
    # Anew: an image's copy under a label that was left out is not trained on.
    return replace(dataset, test_copied=copied_in(dataset.train, dataset.test))


def read_json(path: Path) -> dict[str, Any]:
    """One of a training's files.

    Raises:
        BadDataError: it is damaged, or another program's.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError(f"holds a {type(content).__name__}")
    except (OSError, ValueError, TypeError) as error:
        raise BadDataError(
            f"{path}: not written by mien-train compare, or damaged ({error}); remove {path.parent} to start it again"
        ) from error
    return content


def _read_result(path: Path) -> dict[str, Any]:
    """A finished training's result, with all that `trainer.compare_report` shows of it."""
    content = read_json(path)
    for key in (*_SHOWN, *(_TESTED if "test" in content else ())):
        part: Any = content
        for name in key.split("."):
            if not isinstance(part, dict) or name not in part:
                raise BadDataError(
                    f"{path}: holds no {key!r}: damaged, or written by another version of mien-train compare; remove "
                    f"{path.parent} to start it again"
                )
            part = part[name]
    return content


def _refuse_other_labels(preset: PaperNetwork, dataset: Dataset, dropped: Sequence[str]) -> None:
    for label in preset.drop:
        if label not in (*dataset.labels, *dropped):
            raise UsageError(
                f"preset {preset.name} leaves out {label!r}, which is no label of {dataset.name} (it has "
                f"{', '.join(dataset.labels)}); name the other presets with --presets"
            )
    if not fits(preset, dataset, dropped):
        raise UsageError(
            f"preset {preset.name} leaves out {' and '.join(preset.drop)}, and then fewer than two of "
            f"{', '.join(dataset.labels)} stay; name the other presets with --presets"
        )
