"""`mien-train fit`: its options, and the run that they describe."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commandline import Parser
from edge.errors import UsageError
from trainer.commandline import DATA_HELP, NO_CACHE_HELP, add_drop, load, number, progress_bar, require_keras, whole
from trainer.presets import TEACHER, Preset, find_preset, list_presets
from trainer.settings import OTHERWISE, V1_BLOCKS, VIEWS, Settings

if TYPE_CHECKING:
    import keras

    from trainer.datasets import Dataset

SHIPPED, SMALL = "shipped", "small"
"""The models that come with Mien, as `--weights` and `--teacher`."""

_NOT_THE_RUN = {"data", "command", "out", "no_cache", "debug", "preset", "preset_parser"}
"""What a command is given that does not change what comes out."""


def add_fit(commands: Any) -> None:
    """Add `fit` to the parser's commands."""
    fit = commands.add_parser(
        "fit",
        help="train, or go on training",
        description="Trains in a folder of its own and goes on there when the same command is given again.",
        epilog=f"presets (docs/recipe.md tells how long they took and what they gave):\n{list_presets()}",
    )
    fit.set_defaults(command=_fit, preset_parser=fit)
    fit.add_argument("data", type=Path, help=DATA_HELP)
    fit.add_argument("--out", type=Path, help="the run's folder (default: runs/PRESET, else runs/mien)")
    fit.add_argument(
        "--preset", metavar="NAME",
        help="the options of a training below; options given beside it win. Its teachers are trained first, in folders "
        "beside --out and as their presets have it: of the options beside it they get --weights, --votes, --drop, "
        "--keep-copies, --strict and --no-cache alone",
    )  # fmt: skip
    _add_network(fit.add_argument_group("network"))
    _add_training(fit.add_argument_group("training"))
    _add_lessons(fit.add_argument_group("lessons beside the labels"))
    _add_data(fit.add_argument_group("data"))
    usual = asdict(Settings())
    fit.set_defaults(**{name: value for name, value in usual.items() if name not in OTHERWISE})
    fit.set_defaults(**{name: usual["augmentation"][name] for name in VIEWS})


def _add_network(net: Any) -> None:
    net.add_argument(
        "--backbone", choices=["mobilenet_v1", "mobilenet_v2", "vgg"],
        help="vgg is a teacher, too large for a Pi; nobody publishes weights of it (default: %(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--weights", type=_place, metavar="PLACE",
        help="no_top weights: a file, a folder with such files, 'imagenet' to download them, 'none' for random ones; "
        "'shipped' or 'small' for a model that comes with Mien, to go on from; a .keras or .tflite of your own, or "
        "'teacher' for the first teacher: where it is wider, its most important channels (default: %(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--weights-scaling", choices=["tf", "caffe"],
        help="what pixels those weights were trained on: tf, -1 to 1; caffe, blue, green and red minus ImageNet's "
        "mean, batch norm folded (default: %(default)s)",
    )  # fmt: skip
    net.add_argument("--size", type=whole(32, 512), help="side of the input in pixels (default: %(default)s)")
    net.add_argument("--width", type=number(0.1, 2), help="width multiplier (default: %(default)s)")
    net.add_argument(
        "--blocks", type=whole(1, V1_BLOCKS),
        help="of MobileNetV1's, how many are kept: the last two hold half of its weights (default: %(default)s, all)",
    )  # fmt: skip
    net.add_argument("--stem-stride", type=int, choices=[1, 2], help="1 for small faces (default: %(default)s)")
    net.add_argument(
        "--last-stride", type=int, choices=[1, 2],
        help="1 ends in a map of twice the side, at a greater cost (default: %(default)s)",
    )  # fmt: skip
    net.add_argument(
        "--dropout",
        type=number(0, 0.9),
        help="share of the features that each step does without (default: %(default)s)",
    )


def _add_training(how: Any) -> None:
    how.add_argument("--epochs", type=whole(1, 10_000), help="epochs over all layers (default: %(default)s)")
    how.add_argument(
        "--head-epochs",
        type=whole(0, 1_000),
        help="epochs with the backbone frozen, first (default: %(default)s)",
    )
    how.add_argument("--batch", type=whole(2, 65_536), help="images a step (default: %(default)s)")
    how.add_argument(
        "--learning-rate",
        type=number(1e-7, 10),
        help="peak of the cosine schedule (default: %(default)s)",
    )
    how.add_argument("--head-learning-rate", type=number(1e-7, 10), help="that of --head-epochs (default: %(default)s)")
    how.add_argument(
        "--warmup-steps", type=whole(0, 10**6), help="over which the rate rises from nothing (default: %(default)s)"
    )
    how.add_argument("--weight-decay", type=number(0, 10), help="AdamW's (default: %(default)s)")
    how.add_argument(
        "--label-smoothing", type=number(0, 0.9),
        help="share of its label that an image gives to all of them (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--ema",
        type=number(0, 0.99999),
        help="momentum of averaged weights, 0 for none (default: %(default)s)",
    )
    how.add_argument(
        "--class-weight",
        choices=["none", "balanced"],
        help="weigh rare expressions up (default: %(default)s)",
    )
    how.add_argument("--no-augmentation", action="store_true", help="show every image as it is")
    how.add_argument(
        "--mixup", type=number(0, 10),
        help="mix faces by shares from Beta(MIXUP, MIXUP), 0: never (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--closer", type=number(0, 1),
        help="how far views zoom in on a face: the standard deviation of the scale's logarithm; the boxes that Haar "
        "finds have 0.17 (default: %(default)s)",
    )  # fmt: skip
    how.add_argument("--blur", type=number(0, 1), help="share of views out of focus (default: %(default)s)")
    how.add_argument("--noise", type=number(0, 1), help="share of views with a sensor's noise (default: %(default)s)")
    how.add_argument(
        "--patience",
        type=whole(0, 10_000),
        help="stop after so many epochs without a gain on the validation split, 0: never (default: %(default)s)",
    )
    how.add_argument(
        "--seed", type=whole(0, 2**31 - 1), help="of first weights, order and views (default: %(default)s)"
    )


def _add_lessons(lessons: Any) -> None:
    lessons.add_argument(
        "--teacher", type=lambda text: Path(_place(text)), action="append", dest="teachers", metavar="FILE", default=[],
        help="a trained .keras or .tflite, or 'shipped', that teaches this one; again for more of them (default: the "
        "preset's, trained first)",
    )  # fmt: skip
    lessons.add_argument(
        "--distillation", type=number(0, 100),
        help="weight of the teachers beside the labels' 1 (default: %(default)s)",
    )  # fmt: skip
    lessons.add_argument(
        "--temperature", type=number(0.1, 100),
        help="softens both their answers and its own (default: %(default)s)",
    )  # fmt: skip
    lessons.add_argument(
        "--votes", metavar="FILE",
        help="FER+'s fer2013new.csv: a second head learns its votes; 'none' does without where a preset wants them",
    )  # fmt: skip
    lessons.add_argument("--votes-weight", type=number(0, 100), help="beside the labels' 1 (default: %(default)s)")


def _add_data(data: Any) -> None:
    cleaning = data.add_mutually_exclusive_group()
    cleaning.add_argument(
        "--keep-copies", action="store_true",
        help="do not clean: keep blank images, duplicates and images of the test splits (the literature's protocol)",
    )  # fmt: skip
    cleaning.add_argument(
        "--strict", action="store_true",
        help="clean more: leave out what is a photo of the test splits in another encoding, size or cut too; takes "
        "minutes",
    )  # fmt: skip
    add_drop(data)
    data.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)


def _place(text: str) -> str:
    """A path; `shipped` and `small` are the models that come with Mien, unless there is such a file here."""
    if text not in (SHIPPED, SMALL) or Path(text).exists():
        return text
    from edge import modelfile

    return str(modelfile.SHIPPED if text == SHIPPED else modelfile.SMALL)


def _told(place: str) -> str:
    """The word for one of Mien's own models; empty for any other place."""
    return next((word for word in (SHIPPED, SMALL) if place == _place(word) != word), "")


def with_preset(args: argparse.Namespace, parser: Parser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse `argv` again with the named preset's options as defaults.

    Raises:
        UsageError: there is no such preset.
    """
    args.preset_parser.set_defaults(**find_preset(args.preset).options)
    return parser.parse_args(argv)


def _fit(args: argparse.Namespace) -> int:
    _refuse_idle(args)
    require_keras()
    _refuse_missing(args)
    if len(chain := _chain(args)) > 1:
        print("trainings, each in a folder of its own:")
        for each in reversed(chain):
            print(f"  {_run_name(each)}: {each.head_epochs + each.epochs} epochs, in {_out(each)}")
    _train(args)
    return 0


def _refuse_idle(args: argparse.Namespace) -> None:
    """Raise UsageError for an option that somebody gave and that would do nothing."""
    taught = bool(args.teachers or _preset(args).teachers)
    idle = {
        "--no-augmentation leaves nothing for it to do": (VIEWS, args.no_augmentation),
        "there is no --teacher": (("distillation", "temperature"), not taught),
        "there are no --votes": (("votes_weight",), args.votes in (None, "none")),
        "--head-epochs is 0": (("head_learning_rate",), not args.head_epochs),
        "--weights none has seen no pixels": (("weights_scaling",), args.weights == "none"),
    }
    for why, (names, does_nothing) in idle.items():
        for name in names:
            if does_nothing and getattr(args, name) != args.preset_parser.get_default(name):
                raise UsageError(f"--{name.replace('_', '-')} would do nothing: {why}")


def _refuse_missing(args: argparse.Namespace) -> None:
    """Look for what a training and its teachers start from, before the first of them takes its hours.

    Raises:
        UsageError: votes are wanted and not named, or the weights cannot be what they are said to be.
        InputNotFoundError: a folder does not hold all weights.
        BadDataError: weights do not fit the network that is to start from them.
    """
    from trainer import trained, training
    from trainer.backbones import LAST_STRIDE_BLOCK, SCRATCH, TRAINED, refuse_missing
    from trainer.slimming import slim

    if _preset(args).votes and not args.votes:
        raise UsageError(
            f"--preset {args.preset} learns from FER+ too: name its fer2013new.csv with --votes, or --votes none"
        )
    if args.backbone != "mobilenet_v1" and args.blocks != V1_BLOCKS:
        raise UsageError(
            f"--blocks {args.blocks}: only mobilenet_v1 can be cut; {args.backbone} takes --blocks {V1_BLOCKS}"
        )
    if args.last_stride == 1 and (args.backbone == "vgg" or args.blocks < LAST_STRIDE_BLOCK):
        raise UsageError(
            f"--last-stride 1: there is no such stride in {args.backbone}"
            + (f" cut to --blocks {args.blocks}; keep {LAST_STRIDE_BLOCK} or more" if args.backbone != "vgg" else "")
        )
    if args.weights_scaling == "caffe" and args.weights.endswith(TRAINED):
        raise UsageError(
            f"--weights {args.weights}: a network of ours takes pixels as it did; give --weights-scaling tf"
        )
    if args.weights_scaling == "caffe" and args.weights != "none" and not Path(args.weights).is_file():
        raise UsageError(
            f"--weights {args.weights}: ImageNet's weights are of --weights-scaling tf; name the file of those that "
            "are caffe's"
        )
    chain = _chain(args)
    for each in chain:
        if (start := _weights(each)) != TEACHER:
            refuse_missing(start, each.backbone)
    starts = {(each.backbone, each.width, _weights(each)) for each in chain}
    if len({start for start in starts if start[2] == args.weights and Path(start[2]).is_file()}) > 1:
        raise UsageError(
            f"--weights {args.weights}: {args.preset} and its teachers are different networks, and a file fits one of "
            "them; name a folder with a file for each"
        )

    def first(each: argparse.Namespace, start: str) -> keras.Model:
        return training.first_network(Settings.of_options(vars(each), weights=start), labels=2)

    for each in chain if len(chain) > 1 else ():
        start = _weights(each)
        network = first(each, SCRATCH if start == TEACHER else start)
        if start == TEACHER:
            slim(first(_teachers(each)[0], SCRATCH), network)
        elif start.endswith(TRAINED):
            slim(trained.open_trained(Path(start))[0], network)


def _train(args: argparse.Namespace) -> Path:
    """Train, after the preset's teachers where none are named; returns the network's path."""
    from trainer import datasets, keras_file, training
    from trainer.votes import read_votes, votes_of

    teacher = next(iter(args.teachers), None)
    dataset = load(args.data, size=args.size, cache=not args.no_cache, drop=args.drop, network=teacher)
    if not args.keep_copies:
        with progress_bar("looking for near copies") as progress:
            dataset = datasets.clean(dataset, strictly=args.strict, progress=progress)
    votes = "" if args.votes in (None, "none") else args.votes
    if votes:  # teachers take hours, and only then would it be known that these are not there or do not fit
        votes_of(read_votes(Path(votes)), dataset.train, votes, dataset.rows)
    teachers = list(args.teachers)
    for teacher in _teachers(args):
        print(f"{args.preset} learns from {teacher.preset}:")
        teachers.append(_train(teacher))
    print(_describe(dataset))
    out = _out(args)
    weights = _weights(args)
    if weights == TEACHER:
        if not teachers:
            raise UsageError(f"--weights {TEACHER}: there is none; name one with --teacher, or a preset that has one")
        weights = str(teachers[0])
    try:
        best = training.fit(
            dataset,
            Settings.of_options(vars(args), weights=weights, votes=votes, teachers=tuple(map(str, teachers))),
            out,
            source=dataset.name,
            command=_repeatable(args),
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except KeyboardInterrupt:
        print(f"\nstopped; {out} keeps every finished epoch, and the same command goes on from there", file=sys.stderr)
        raise
    history = json.loads((out / "history.json").read_text(encoding="utf-8"))
    chosen = keras_file.read_card(best)["selected"]
    print(
        f"{best}: best of {len(history)} epochs is epoch {chosen['epoch']}, batch norm "
        f"{chosen.get('batch_norm', 'as trained')}, validation accuracy {chosen['validation_accuracy']:.2%}; "
        f"{history[-1]['images_per_second']:,.0f} images/s"
    )
    return best


def _preset(args: argparse.Namespace) -> Preset:
    return find_preset(args.preset) if args.preset else Preset("", {})


def _out(args: argparse.Namespace) -> Path:
    return args.out or Path("runs") / _run_name(args)


def _weights(args: argparse.Namespace) -> str:
    """What a training starts from. A folder is where to look for a preset that starts from a file."""
    from trainer.backbones import SCRATCH, find_weights

    preset = str(_preset(args).options.get("weights", ""))
    if preset in (SCRATCH, TEACHER) and Path(args.weights).is_dir():
        return preset
    if args.weights == TEACHER:
        return TEACHER
    return find_weights(args.weights, args.backbone, args.width)


def _chain(args: argparse.Namespace) -> list[argparse.Namespace]:
    """A training and all that go before it."""
    return [args, *(each for teacher in _teachers(args) for each in _chain(teacher))]


def _teachers(args: argparse.Namespace) -> list[argparse.Namespace]:
    """The trainings that teach this one, beside it: the preset's, where no files are named."""
    from trainer.backbones import SCRATCH, TRAINED

    teachers = []
    for name in () if args.teachers else _preset(args).teachers:
        parser = Parser("mien-train")
        add_fit(parser.add_subparsers())
        words = ["fit", str(args.data), "--preset", name]
        words += ["--seed", str(seed)] if (seed := _preset(args).seeds.get(name)) else []
        # A folder is for all of them; a file only for who would start from one; a network of ours only for this one.
        file = find_preset(name).options.get("weights") not in (SCRATCH, TEACHER)
        own = args.weights == TEACHER or args.weights.endswith(TRAINED)
        if args.weights != args.preset_parser.get_default("weights") and not own:
            words += ["--weights", args.weights] if file or Path(args.weights).is_dir() else []
        words += ["--votes", args.votes] if find_preset(name).votes else []
        words += ["--drop", ",".join(args.drop)] if args.drop else []
        words += [
            flag for flag in ("--keep-copies", "--strict", "--no-cache") if getattr(args, flag[2:].replace("-", "_"))
        ]
        teacher = with_preset(parser.parse_args(words), parser, words)
        teacher.out = _out(args).parent / _run_name(teacher)
        teachers.append(teacher)
    return teachers


def _run_name(args: argparse.Namespace) -> str:
    if not args.preset:
        return "mien"
    usual = args.preset_parser.get_default("seed")
    seed = "" if args.seed == usual else f"-seed{args.seed}"
    without = f"-without-{'-'.join(sorted(args.drop))}" if args.drop else ""
    protocol = "-all" if args.keep_copies else "-strict" if args.strict else ""
    return f"{args.preset}{seed}{protocol}{without}"


def _repeatable(args: argparse.Namespace) -> str:
    """The command that repeats this run, with file names instead of this machine's paths."""
    from trainer.trained import name_of

    words = ["mien-train", "fit", args.data.name] + (["--preset", args.preset] if args.preset else [])
    for key, value in vars(args).items():
        if key in _NOT_THE_RUN or value == args.preset_parser.get_default(key):
            continue
        if key == "teachers":
            words += [word for path in value for word in ("--teacher", _told(str(path)) or name_of(path))]
            continue
        option = "--" + key.replace("_", "-")
        if key in {"weights", "votes"}:
            value = _told(value) or Path(value).name
        elif key == "drop":
            value = ",".join(value)
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
