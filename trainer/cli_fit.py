"""`mien-train fit`: its options, and the run that they describe."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commandline import Parser
from trainer.commandline import DATA_HELP, NO_CACHE_HELP, add_drop, load, number, require_keras, whole

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.training import Settings


def add_fit(commands: Any) -> None:
    """Add `fit` to the parser's commands."""
    fit = commands.add_parser(
        "fit",
        help="train, or go on training",
        description="Trains in a folder of its own and goes on there when the same command is given again.",
    )
    fit.set_defaults(command=_fit)
    fit.add_argument("data", type=Path, help=DATA_HELP)
    fit.add_argument("--out", type=Path, default=Path("runs/mien"), help="the run's folder (default: %(default)s)")
    net = fit.add_argument_group("network")
    net.add_argument(
        "--backbone", choices=["mobilenet_v1", "mobilenet_v2"], default="mobilenet_v1", help="(default: %(default)s)"
    )
    net.add_argument(
        "--weights", default="imagenet", metavar="FILE",
        help="no_top weights: a file, 'imagenet' to download them, 'none' for random ones (default: %(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--size", type=whole(32, 512), default=48, help="side of the input in pixels (default: %(default)s)"
    )
    net.add_argument("--width", type=number(0.1, 2), default=1.0, help="width multiplier (default: %(default)s)")
    net.add_argument(
        "--stem-stride", type=int, choices=[1, 2], default=1, help="1 for small faces (default: %(default)s)"
    )
    net.add_argument("--dropout", type=number(0, 0.9), default=0.2, help="(default: %(default)s)")
    how = fit.add_argument_group("training")
    how.add_argument(
        "--epochs", type=whole(1, 10_000), default=15, help="epochs over all layers (default: %(default)s)"
    )
    how.add_argument(
        "--head-epochs",
        type=whole(0, 1_000),
        default=1,
        help="epochs with the backbone frozen, first (default: %(default)s)",
    )
    how.add_argument("--batch", type=whole(2, 65_536), default=128, help="(default: %(default)s)")
    how.add_argument(
        "--learning-rate",
        type=number(1e-7, 10),
        default=1e-3,
        help="peak of the cosine schedule (default: %(default)s)",
    )
    how.add_argument("--head-learning-rate", type=number(1e-7, 10), default=3e-3, help="(default: %(default)s)")
    how.add_argument("--warmup-steps", type=whole(0, 10**6), default=200, help="(default: %(default)s)")
    how.add_argument("--weight-decay", type=number(0, 10), default=0.02, help="AdamW's (default: %(default)s)")
    how.add_argument("--label-smoothing", type=number(0, 0.9), default=0.1, help="(default: %(default)s)")
    how.add_argument(
        "--ema",
        type=number(0, 0.99999),
        default=0.998,
        help="momentum of averaged weights, 0 for none (default: %(default)s)",
    )
    how.add_argument(
        "--class-weight",
        choices=["none", "balanced"],
        default="none",
        help="weigh rare expressions up (default: %(default)s)",
    )
    how.add_argument("--no-augmentation", action="store_true", help="show every image as it is")
    how.add_argument(
        "--patience",
        type=whole(0, 10_000),
        default=6,
        help="stop after so many epochs without a gain on the validation split, 0: never (default: %(default)s)",
    )
    how.add_argument("--seed", type=whole(0, 2**31 - 1), default=1, help="(default: %(default)s)")
    data = fit.add_argument_group("data")
    data.add_argument(
        "--keep-copies", action="store_true",
        help="do not clean: keep blank images, duplicates and images of the test splits (the literature's protocol)",
    )  # fmt: skip
    add_drop(data)
    data.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)


def _fit(args: argparse.Namespace) -> int:
    require_keras()
    from trainer import datasets, keras_file, training

    dataset = load(args.data, size=args.size, cache=not args.no_cache, drop=args.drop)
    if not args.keep_copies:
        dataset = datasets.clean(dataset)
    print(_describe(dataset))
    best = training.fit(
        dataset,
        _settings(args),
        args.out,
        source=dataset.name,
        command=_repeatable(args),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    epochs = len(json.loads((args.out / "history.json").read_text(encoding="utf-8")))
    chosen = keras_file.read_card(best)["selected"]
    print(
        f"{best}: best of {epochs} epochs is epoch {chosen['epoch']}, batch norm "
        f"{chosen.get('batch_norm', 'as trained')}, validation accuracy {chosen['validation_accuracy']:.2%}"
    )
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from trainer.augmentation import NO_VIEW, Recipe
    from trainer.training import Settings

    given = {key: value for key, value in vars(args).items() if key in {field.name for field in fields(Settings)}}
    return Settings(**given, augmentation=NO_VIEW if args.no_augmentation else Recipe())


def _repeatable(args: argparse.Namespace) -> str:
    """The command that repeats this run, with file names instead of this machine's paths."""
    parser = Parser("mien-train")
    add_fit(parser.add_subparsers())
    defaults = vars(parser.parse_args(["fit", str(args.data)]))
    words = ["mien-train", "fit", args.data.name]
    for key, value in vars(args).items():
        if key in {"data", "command", "out", "no_cache", "debug"} or value == defaults.get(key):
            continue
        option = "--" + key.replace("_", "-")
        value = Path(value).name if key == "weights" else ",".join(value) if key == "drop" else value
        words += [option] if value is True else [option, str(value)]
    return shlex.join(words)


def _describe(dataset: Dataset) -> str:
    counts = f"{len(dataset.train)} to train on, {len(dataset.validation)} to choose on, {len(dataset.test)} held out"
    lines = [f"{dataset.name}: {counts}; labels {', '.join(dataset.labels)}"]
    if dataset.left_out:
        lines.append(
            "  left out of training: " + ", ".join(f"{count} {reason}" for reason, count in dataset.left_out.items())
        )
        lines.append(
            f"  {int(dataset.test_copied.sum())} test images have a copy in the training rows as they were read"
        )
    return "\n".join(lines)
