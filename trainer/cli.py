"""`mien-train`: fine-tune a MobileNet on face data, and say how good it is."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.commandline import Parser, guarded
from edge.errors import UnavailableError

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.readers import Progress
    from trainer.training import Settings

EPILOG = """examples:
  mien-train fit fer2013.csv --weights mobilenet_1_0_224_tf_no_top.h5 --out runs/first
  mien-train fit fer2013.csv --out runs/first            # the same command again goes on after a kill
  mien-train fit my_faces/ --backbone mobilenet_v2 --width 0.5 --weights none
  mien-train evaluate runs/first/model.keras fer2013.csv # PublicTest, the split to choose on
  mien-export convert runs/first/model.keras --data fer2013.csv --out mien.tflite

The backend is Keras's choice: KERAS_BACKEND=tensorflow (default), jax or torch."""

DATA_HELP = "fer2013.csv, icml_face_data.csv, an .npz, or a folder of images (train/angry/*.png or angry/*.png)"
NO_CACHE_HELP = "parse a CSV anew; its images are else kept for the next time, for you alone, in ~/.cache/mien"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mien-train`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("mien-train", lambda: _run(arguments), arguments)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    # TensorFlow's own start-up notes would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    command: int = args.command(args)
    return command


def _parser() -> Parser:
    parser = Parser(
        "mien-train",
        description="Fine-tunes a MobileNet on facial expressions and says how good it is. Runs on a workstation.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"mien {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_fit(commands)
    _add_evaluate(commands)
    return parser


def _add_fit(commands: Any) -> None:
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
    data.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy, macro F1, per-class table, confusion matrix",
        description="Says how good a .keras or .tflite network is on one split of a data set.",
    )
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("model", type=Path, help="a .keras or .tflite file")
    evaluate.add_argument("data", type=Path, help=DATA_HELP)
    evaluate.add_argument(
        "--split", choices=["train", "validation", "test"], default="validation",
        help="PublicTest is validation, to choose on; PrivateTest is test, to look at once (default: %(default)s)",
    )  # fmt: skip
    evaluate.add_argument(
        "--size", type=whole(32, 512), default=48, help="side of the faces in pixels (default: %(default)s)"
    )
    evaluate.add_argument("--png", type=Path, help="write the confusion matrix as a picture")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of text")
    evaluate.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)


def _fit(args: argparse.Namespace) -> int:
    require_keras()
    from trainer import datasets, keras_file, training

    dataset = load(args.data, size=args.size, cache=not args.no_cache)
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


def _evaluate(args: argparse.Namespace) -> int:
    require_keras()
    from trainer import evaluation, report

    dataset = load(args.data, size=args.size, cache=not args.no_cache)
    split = dataset.split(args.split)
    logits = evaluation.network_logits(args.model, split, dataset.labels)
    copied = dataset.test_copied if args.split == "test" else None
    result = evaluation.evaluate(logits, split.labels, dataset.labels, copied=copied)
    title = f"{args.model} on the {args.split} split of {dataset.name}"
    print(
        json.dumps({"model": str(args.model), "data": dataset.name, "split": args.split, **result.to_dict()})
        if args.json
        else report.as_text(result, title)
    )
    if args.png:
        report.draw_confusion(result, f"{args.model.name}, {args.split} split of {dataset.name}", args.png)
        if not args.json:
            print(f"\n  picture   {args.png}")
    return 0


def _settings(args: argparse.Namespace) -> Settings:
    from trainer.augmentation import NO_VIEW, Recipe
    from trainer.training import Settings

    given = {key: value for key, value in vars(args).items() if key in {field.name for field in fields(Settings)}}
    return Settings(**given, augmentation=NO_VIEW if args.no_augmentation else Recipe())


def _repeatable(args: argparse.Namespace) -> str:
    """The command that repeats this run, with file names instead of this machine's paths."""
    parser = Parser("mien-train")
    _add_fit(parser.add_subparsers())
    defaults = vars(parser.parse_args(["fit", str(args.data)]))
    words = ["mien-train", "fit", args.data.name]
    for key, value in vars(args).items():
        if key in {"data", "command", "out", "no_cache", "debug"} or value == defaults.get(key):
            continue
        option = "--" + key.replace("_", "-")
        words += [option] if value is True else [option, Path(value).name if key == "weights" else str(value)]
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


def load(source: Path, *, size: int, cache: bool = True) -> Dataset:
    """Read a data set with a progress bar, and what is strange about it, on stderr.

    Who tests and who trains never depends on a run's seed: evaluation and export must find the same split again.
    """
    from trainer import datasets

    with progress_bar(f"reading {source.name}") as progress:
        dataset = datasets.load_dataset(source, size=size, cache=cache, progress=progress)
    if dataset.warning:
        print(f"warning: {dataset.warning}", file=sys.stderr)
    return dataset


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
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as terminal:
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
        import keras  # noqa: F401  # finds its backend, or not
    except ImportError as error:
        raise UnavailableError(
            f"Keras finds no backend ({error}); pip install 'mien[trainer]', or set KERAS_BACKEND to jax or torch"
        ) from error


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


if __name__ == "__main__":
    sys.exit(main())
