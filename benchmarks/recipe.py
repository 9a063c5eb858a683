r"""What each piece of the training recipe gives on PublicTest: one added at a time, or one left out of the whole.

    python -m benchmarks.recipe fer2013.csv --weights no_top_weights/ --votes fer2013new.csv \
        --teacher runs/teacher-v1-48/model.keras --teacher runs/teacher-v2-48/model.keras --ladder 4 --changes 10
    python -m benchmarks.recipe --finished runs/mien-v1-48 runs/teacher-v1-48

Every row is a resumable run of its own; given again, the command goes on where it was killed. A row that is finished
stands in docs/recipe.json, and docs/recipe.md is made of that, so that neither needs the runs again. A short schedule
is kind to what learns fast and unkind to what needs time (averaging, mixing): so that is also left out of the whole
recipe, a piece at a time and for more epochs, and a last table lists whole trainings.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge.commandline import guarded
from edge.errors import UsageError
from trainer import keras_file, training
from trainer.backbones import SCRATCH, TRAINED, find_weights
from trainer.datasets import clean, load_dataset
from trainer.identity import data_identity, file_identity
from trainer.output_file import write_whole
from trainer.presets import PRESETS, TEACHER, Preset
from trainer.settings import NO_VIEW, V1_BLOCKS, Recipe, Settings
from trainer.trained import name_of

LADDER = """\
MobileNetV1, {size} px, {epochs} epochs over all layers, batch norm re-estimated at the end; accuracy on PublicTest, \
on which 1.5 points are the 95 % interval of one figure. Each row adds one piece to the row above it. The seeds are \
listed so that a gain can be held against their spread."""

UNBOUND = """\
It was measured before a record held the digests of its data, weights and teachers: given again, the command begins anew
in another `--record`."""

CHANGED = """\
All that the ladder adds, for {epochs} epochs, and the same with one thing changed; means of {seeds}, so that a point
either way may be chance."""

TRAININGS = "By their presets (`mien-train fit --help`); minutes on two cores that did other things too."


def rungs(start: Settings, votes: str, teachers: tuple[str, ...]) -> list[tuple[str, Settings]]:
    """What is measured, each rung the one before it and one thing more."""
    bare = replace(start, augmentation=NO_VIEW, label_smoothing=0.0, ema=0.0)
    ladder = [("from random weights, faces as they are", replace(bare, weights="none"))]
    for name, change in (
        ("ImageNet's weights", {"weights": start.weights}),
        ("flips, Haar-like jitter, tone", {"augmentation": Recipe(erase=0.0, blur=0.0, noise=0.0)}),
        ("random erasing", {"augmentation": Recipe(blur=0.0, noise=0.0)}),
        ("blur and noise", {"augmentation": Recipe()}),
        ("label smoothing 0.1", {"label_smoothing": 0.1}),
        ("averaged weights (EMA 0.998)", {"ema": 0.998}),
        ("FER+'s votes as a second head", {"votes": votes}),
        ("mixup 0.2", {"augmentation": Recipe(mixup=0.2)}),
        (f"distillation from {len(teachers)} teachers", {"teachers": teachers}),
    ):
        ladder.append((name, replace(ladder[-1][1] if len(ladder) > 1 else bare, **change)))
    return ladder


def changes(whole: Settings) -> list[tuple[str, Settings]]:
    """The whole recipe, then the same with one thing changed, where the ladder's few epochs show no gain."""
    views = whole.augmentation
    return [
        ("nothing", whole),
        ("no mixup", replace(whole, augmentation=replace(views, mixup=0.0))),
        ("no label smoothing", replace(whole, label_smoothing=0.0)),
        ("no averaged weights", replace(whole, ema=0.0)),
        ("no blur and noise", replace(whole, augmentation=replace(views, blur=0.0, noise=0.0))),
        ("views as close as Haar's boxes", replace(whole, augmentation=replace(views, closer=0.17))),
        ("without the last block, on a map of 6x6", replace(whole, blocks=V1_BLOCKS - 1, last_stride=1)),
        ("without the last two blocks", replace(whole, blocks=V1_BLOCKS - 2)),
    ]


def describe(folder: Path) -> tuple[str, ...]:
    """A training in its folder: what it was, parameters, epochs, minutes, accuracy on PublicTest."""
    card = keras_file.read_card(folder / "model.keras")
    told, settings = card["provenance"], Settings.complete(card["provenance"]["settings"])
    augmentation, closer = settings["augmentation"], settings["augmentation"]["closer"]
    pieces = [
        f"{told['architecture']} {settings['width']:g}"
        + (f" to block {settings['blocks']}" if settings["blocks"] < V1_BLOCKS else "")
        + (" with its last stride 1" if settings["last_stride"] == 1 else ""),
        _start(settings),
        "" if told["left_out_of_training"] else "all Training rows",
        "blurred and noisy faces" if augmentation["blur"] else "",
        f"mixup {augmentation['mixup']:g}" if augmentation["mixup"] else "",
        f"views closer by {closer:g} (log s.d.)" if closer > augmentation["scale"] else "",
        "FER+'s votes" if settings["votes"] else "",
        f"taught by {' and '.join(settings['teachers'])}" if settings["teachers"] else "",
        f"seed {settings['seed']}",
    ]
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    planned = settings["head_epochs"] + settings["epochs"]
    name = preset_of(settings)
    return (
        f"`{name or folder.name}`{'' if name in ('', folder.name) else f' ({folder.name})'}: "
        + ", ".join(filter(None, pieces)),
        f"{told['parameters']:,}",
        str(planned) if len(history) == planned else f"{len(history)} of {planned}",
        f"{sum(epoch['seconds'] for epoch in history) / 60:.0f}",
        f"{card['selected']['validation_accuracy']:.2%}",
    )


def _start(settings: dict[str, Any]) -> str:
    weights: str = settings["weights"]
    if weights == SCRATCH:
        return "from nothing"
    cut = weights.endswith(TRAINED) and settings["width"] < 1
    return "cut out of its teacher" if cut else f"from {weights.removesuffix('.h5')}"


def preset_of(settings: dict[str, Any]) -> str:
    """The preset that a card's whole settings are of, whatever their seed; empty where there is none."""
    return next((name for name, preset in PRESETS.items() if _essence(_asked(preset)) == _essence(settings)), "")


def _asked(preset: Preset) -> dict[str, Any]:
    """A preset's whole settings, as a card has them."""
    return asdict(Settings.of_options(preset.options)) | {"teachers": preset.teachers, "votes": preset.votes}


def _essence(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without names of files, the seed, and the patience, which ended none of these trainings."""
    start = settings["weights"]
    kind = start if start == SCRATCH else TEACHER if start.endswith((TEACHER, *TRAINED)) else "ImageNet's or a file's"
    plain = {"teachers": len(settings["teachers"]), "votes": bool(settings["votes"])}
    return settings | plain | {"weights": kind, "seed": 0, "patience": 0}


Record = dict[str, dict[str, Any]]
"""What was measured: `ladder` and `changes` with `asked`, `command` and `rows`, and `trainings` by their folders; each
with a `remark` where there is one."""


def read_record(path: Path) -> Record:
    """What was measured before; empty where there is no such file."""
    content: Record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def measure(
    section: dict[str, Any], plan: Sequence[tuple[str, Settings]], train: Callable[[str, Settings, int], float]
) -> Iterator[str]:
    """Train what a section has no row of yet, from each of its seeds; yields each row's name once it is there."""
    for name, settings in plan:
        if name not in section["rows"]:
            section["rows"][name] = [
                train(name, replace(settings, seed=seed), seed) for seed in section["asked"]["seeds"]
            ]
            yield name


def open_section(record: Record, part: str, asked: dict[str, Any], command: str) -> dict[str, Any]:
    """A section to add rows to.

    Raises:
        UsageError: its rows were measured otherwise, and cannot stand beside new ones.
    """
    section = record.setdefault(part, {"asked": asked, "command": command, "rows": {}})
    if different := sorted(key for key in asked if section["asked"].get(key) != asked[key]):
        raise UsageError(
            f"{part}: measured before with {different[0]} {section['asked'].get(different[0])}, not "
            f"{asked[different[0]]}; ask for the same, or name another --record"
        )
    return section


def as_markdown(record: Record) -> str:
    """The page: each rung's gain over the one before it, what a change of the whole costs, and whole trainings."""
    lines = ["# What each piece of the recipe gives", ""]
    if ladder := record.get("ladder"):
        asked, before = ladder["asked"], None
        lines += [LADDER.format(**asked), "", f"`{ladder['command']}`", ""]
        lines += ["| piece | PublicTest | gain | seeds |", "| --- | --- | --- | --- |"]
        for name, scores in ladder["rows"].items():
            mean = statistics.mean(scores)
            gain = "" if before is None else f"{100 * (mean - before):+.2f}"
            each = ", ".join(f"{score:.2%}" for score in scores)
            lines.append(f"| {'+ ' if before is not None else ''}{name} | {mean:.2%} | {gain} | {each} |")
            before = mean
        lines += ["", *_remark(ladder)]
        lines += [] if "files" in asked else [UNBOUND, ""]
    if (changed := record.get("changes")) and changed["rows"]:
        seeds = _count(len(changed["asked"]["seeds"]), "seed")
        lines += ["## One thing changed", "", CHANGED.format(epochs=changed["asked"]["epochs"], seeds=seeds), ""]
        lines += [f"`{changed['command']}`", "", "| what | PublicTest | difference |", "| --- | --- | --- |"]
        means = {name: statistics.mean(scores) for name, scores in changed["rows"].items()}
        whole = next(iter(means.values()))
        for number, (name, mean) in enumerate(means.items()):
            lines.append(f"| {name} | {mean:.2%} | {f'{100 * (mean - whole):+.2f}' if number else ''} |")
        lines += ["", *_remark(changed)]
    if trainings := record.get("trainings"):
        lines += ["## Whole trainings", "", TRAININGS, ""]
        lines += ["| training | parameters | epochs | minutes | PublicTest |", "| --- | ---: | ---: | ---: | ---: |"]
        lines += [f"| {' | '.join(cells)} |" for cells in trainings["rows"].values()]
        lines += ["", *_remark(trainings)]
    return "\n".join(lines)


def _remark(section: dict[str, Any]) -> list[str]:
    """What somebody has concluded from a section's rows and written beside them; new rows may say otherwise."""
    return [section["remark"], ""] if "remark" in section else []


def _count(number: int, what: str) -> str:
    return f"{'one' if number == 1 else number} {what}{'' if number == 1 else 's'}"


def _repeatable(args: argparse.Namespace, part: str) -> str:
    """The command that measures a section again, with file names instead of this machine's paths."""
    words = ["python", "-m", "benchmarks.recipe", args.data.name, "--weights", Path(args.weights).name]
    words += ["--votes", Path(args.votes).name]
    for teacher in map(Path, args.teacher):
        words += ["--teacher", name_of(teacher)]
    words += ["--size", str(args.size), "--seeds", *map(str, args.seeds), f"--{part}", str(vars(args)[part])]
    return shlex.join(words)


def _measure(args: argparse.Namespace, record: Record, save: Callable[[], None]) -> None:
    dataset = clean(load_dataset(args.data, size=args.size))
    start = Settings(weights=find_weights(args.weights, "mobilenet_v1", 1.0), size=args.size, patience=0)
    for part in ("ladder", "changes"):
        epochs = vars(args)[part]
        if not epochs:
            continue
        ladder = rungs(replace(start, epochs=epochs), args.votes, tuple(args.teacher))
        teachers = [name_of(Path(teacher)) for teacher in args.teacher]
        asked = {
            "size": args.size,
            "epochs": epochs,
            "seeds": args.seeds,
            "teachers": teachers,
            # Names stay where what they name changes, and rows that were measured otherwise compare with nothing.
            "files": [file_identity(name) for name in (start.weights, args.votes, *args.teacher)],
            "data": data_identity([dataset.train, dataset.validation]),
        }
        section = open_section(record, part, asked, _repeatable(args, part))

        def train(name: str, settings: Settings, seed: int, part: str = part) -> float:
            folder = args.out / f"{part}-{settings.size}px-{settings.epochs}-{name.replace(' ', '-')}-seed{seed}"
            path = training.fit(dataset, settings, folder, source=dataset.name, command=name, verbose=2)
            return float(keras_file.read_card(path)["selected"]["validation_accuracy"])

        for name in measure(section, ladder if part == "ladder" else changes(ladder[-1][1]), train):
            print(json.dumps({part: name, "seeds": args.seeds, "PublicTest": section["rows"][name]}), flush=True)
            save()


def main() -> int:
    """Climb the ladder, change the whole, list what is finished, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", help="FER2013; needed to measure")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--votes", help="FER+'s fer2013new.csv; needed to measure")
    parser.add_argument("--teacher", action="append", default=[], help="a .keras or .tflite; needed to measure")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--ladder", type=int, default=0, metavar="EPOCHS", help="one piece more in each row")
    parser.add_argument("--changes", type=int, default=0, metavar="EPOCHS", help="the whole with one thing changed")
    parser.add_argument("--finished", type=Path, nargs="+", default=[], help="folders of whole trainings to list")
    parser.add_argument("--out", type=Path, default=Path("runs/recipe"), help="the runs' folder (default: %(default)s)")
    parser.add_argument("--record", type=Path, default=Path("docs/recipe.json"), help="(default: %(default)s)")
    parser.add_argument("--write", type=Path, default=Path("docs/recipe.md"), help="(default: %(default)s)")
    args = parser.parse_args()
    if (args.ladder or args.changes) and not (args.data and args.votes and args.teacher):
        parser.error("to measure, name the data, --votes and at least one --teacher")
    record = read_record(args.record)

    def save() -> None:
        write_whole(args.record, (json.dumps(record, indent=1) + "\n").encode())
        write_whole(args.write, as_markdown(record).encode())

    for folder in args.finished:
        record.setdefault("trainings", {"rows": {}})["rows"][folder.name] = list(describe(folder))
    if args.ladder or args.changes:
        _measure(args, record, save)
    save()
    print(as_markdown(record))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("recipe", main))
