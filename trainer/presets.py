"""Trainings by name: `mien-train fit --preset NAME` repeats one.

A preset is a name and data: the options of `mien-train fit` that differ from the defaults, and the presets whose
networks teach it. docs/recipe.md tells how long each took on two cores; what has no row there has not been run yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.errors import UsageError


@dataclass(frozen=True)
class Preset:
    """One training.

    Attributes:
        summary: what it is for, one line.
        options: `mien-train fit`'s, by the names that its parser keeps them under.
        teachers: presets that are trained first, beside it, and teach it.
        votes: true where it also learns FER+'s votes.
        seeds: of teachers that are not trained from their own seed.
    """

    summary: str
    options: Mapping[str, Any]
    teachers: tuple[str, ...] = ()
    votes: bool = False
    seeds: Mapping[str, int] = field(default_factory=dict)


TEACHER = "teacher"
"""As `--weights`: the first teacher's network, cut down where ours is narrower or shorter."""

_SHARP = {"blur": 0.0, "noise": 0.0}
_CLOSER = {"weights": TEACHER, "head_epochs": 0, "epochs": 20, "learning_rate": 5e-4, "closer": 0.17, "patience": 0}
_VGG = {
    "backbone": "vgg",
    "width": 0.75,
    "weights": "none",
    "head_epochs": 0,
    "epochs": 40,
    "dropout": 0.4,
    "mixup": 0.2,
    "patience": 0,
    **_SHARP,
}
_QUARTER = {"width": 0.25, "head_epochs": 0, "epochs": 60, "dropout": 0.1, "patience": 0}

PRESETS = {
    "teacher-v1-48": Preset(
        "MobileNetV1 on labels alone: the plain start, and the first teacher",
        {"epochs": 14, **_SHARP},
    ),
    "teacher-v2-48": Preset(
        "MobileNetV2 on labels alone: a teacher that errs elsewhere",
        {"backbone": "mobilenet_v2", "epochs": 10, "seed": 2, **_SHARP},
    ),
    "teacher-vgg-48": Preset("plain 3x3 convolutions from nothing: a teacher of another kind", _VGG, votes=True),
    "mien-v1-48": Preset(
        "MobileNetV1 taught by both, by FER+'s votes, on mixed, blurred and noisy faces",
        {"epochs": 30, "mixup": 0.2, "patience": 0},
        teachers=("teacher-v1-48", "teacher-v2-48"),
        votes=True,
    ),
    "mien-v1-48-closer": Preset(
        "what ships: mien-v1-48 taught once more, by itself alone, on views as close as Haar's boxes",
        {"mixup": 0.2, **_CLOSER},
        teachers=("mien-v1-48",),
        votes=True,
        seeds={"mien-v1-48": 2},
    ),
    "mien-v1-48-closer-unmixed": Preset(
        "the same without mixup and label smoothing, and no better",
        {"mixup": 0.0, "label_smoothing": 0.0, **_CLOSER},
        teachers=("mien-v1-48",),
        votes=True,
        seeds={"mien-v1-48": 2},
    ),
    "teacher-vgg-48-taught": Preset(
        "teacher-vgg-48 taught by what ships, and no better teacher than that",
        _VGG,
        teachers=("mien-v1-48-closer",),
        votes=True,
    ),
    "mien-v1-48-small": Preset(
        "half-width MobileNetV1 without its last two blocks, cut out of the full one and taught by it",
        {
            "width": 0.5,
            "blocks": 11,
            "weights": TEACHER,
            "head_epochs": 0,
            "epochs": 40,
            "learning_rate": 2e-3,
            "dropout": 0.1,
            "patience": 0,
        },
        teachers=("mien-v1-48",),
        votes=True,
    ),
    "quarter-v1-48": Preset(
        "a small one that was not good enough: a quarter as wide, from nothing",
        {**_QUARTER, "weights": "none"},
        teachers=("mien-v1-48",),
        votes=True,
    ),
    "quarter-cut-v1-48": Preset(
        "another: a quarter as wide, cut out of the full one",
        {**_QUARTER, "weights": TEACHER},
        teachers=("mien-v1-48",),
        votes=True,
    ),
    "teacher-v1-96": Preset(
        "MobileNetV1 on faces enlarged to 96 px, a 6x6 map: four times the sums, for a GPU",
        {"size": 96, "epochs": 60, "mixup": 0.2, "patience": 0},
        votes=True,
    ),
    "teacher-v2-96": Preset(
        "MobileNetV2 on faces enlarged to 96 px: another, for a GPU",
        {"backbone": "mobilenet_v2", "size": 96, "epochs": 60, "mixup": 0.2, "patience": 0, "seed": 2},
        votes=True,
    ),
    "teacher-vgg-48-wide": Preset(
        "teacher-vgg-48 at twice its width: a larger one of another kind, for a GPU",
        {**_VGG, "width": 1.5, "epochs": 80, "seed": 3},
        votes=True,
    ),
    "mien-v1-48-long": Preset(
        "mien-v1-48 from stronger teachers, five times as long, on views as close as Haar's boxes, for a GPU",
        {"epochs": 150, "mixup": 0.2, "label_smoothing": 0.0, "closer": 0.17, "patience": 0, "distillation": 2.0},
        teachers=("teacher-v1-96", "teacher-v2-96", "teacher-vgg-48-wide"),
        votes=True,
    ),
    "faces-v1-48": Preset(
        "teacher-v1-48 from VGGFace2's weights (name the file with --weights): for comparison, never shipped",
        {"epochs": 14, "weights_scaling": "caffe", **_SHARP},
    ),
}


def find_preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        UsageError: there is none; the message names those there are.
    """
    if name not in PRESETS:
        raise UsageError(f"--preset {name}: there is no such preset; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]


def list_presets() -> str:
    """Every preset's name and summary, what is trained before it and what it needs, for `--help`."""
    lines = []
    for name, preset in PRESETS.items():
        needs = [f"after {' and '.join(preset.teachers)}"] if preset.teachers else []
        needs += ["with --votes"] if preset.votes else []
        lines.append(f"  {name}" + (f" ({', '.join(needs)})" if needs else ""))
        lines.append(f"      {preset.summary}")
    return "\n".join(lines)
