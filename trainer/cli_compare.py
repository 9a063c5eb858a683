"""`mien-train compare`: the literature's networks trained here, and their reported figures beside those measured."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shlex
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commandline import Parser
from edge.errors import UsageError
from trainer.cli_evaluate import FINAL_HELP, LOG_HELP, refuse_log_without_final
from trainer.commandline import DATA_HELP, NO_CACHE_HELP, add_drop, load, progress_bar, require_keras, whole

if TYPE_CHECKING:
    from trainer.compare_plan import Job
    from trainer.datasets import Dataset

DESCRIPTION = """Trains and scores what the literature reports on FER2013, and prints its figures beside those measured.

Each training has a folder of its own in --out. The same command again goes on where a killed one stopped and
trains nothing twice; they come in the order of their cost, so the cheap rows are there first. They are scored on
the validation split; with --final on the test split, as the papers' are, which may be given later."""

EPILOG = """presets, from cheap to costly, with what their papers report:
  cnn2 37.8 % · cnn3 36.2 % · cnn3-dropout 24.9 % · vgg16 21.9 % · mobilenet-75-25 58.82 %
  mobilenet-5class about 69 % · pfems 66 % · cnn4 63.2 % · mobilenet-224 90 %
  docs/papers.md tells how many minutes each took with FER2013 on two cores.

splits:
  official  the data's own: FER2013's Training, PublicTest (validation) and PrivateTest (test)
  paper     dealt at random as the paper did, 75:25 or 80:20; presets without a split of their own take the official one

examples:
  mien-train compare fer2013.csv --presets cnn2,cnn3 --epochs 1                 # a quick look: minutes
  mien-train compare fer2013.csv --mobilenet-weights mobilenet_1_0_224_tf_no_top.h5
  mien-train compare fer2013.csv --final --model mien.tflite --markdown docs/papers.md --png docs/papers.png
  mien-train compare my_faces/ --presets cnn2,cnn4 --split official"""


def add_compare(commands: Any) -> None:
    """Add `compare` to the parser's commands."""
    compare = commands.add_parser(
        "compare",
        help="the literature's networks, trained here: reported beside measured",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    compare.set_defaults(command=_compare)
    compare.add_argument("data", type=Path, help=DATA_HELP)
    compare.add_argument(
        "--out", type=Path, default=Path("runs/compare"), help="the trainings' folders (default: %(default)s)"
    )
    what = compare.add_argument_group("what is trained")
    what.add_argument(
        "--presets", type=_names, default=[], metavar="NAMES",
        help="with commas between them; default: all that fit the labels, see below",
    )  # fmt: skip
    what.add_argument(
        "--split", choices=["official", "paper", "both"], default="both", help="see below (default: %(default)s)"
    )
    what.add_argument(
        "--epochs",
        type=whole(1, 10_000),
        metavar="N",
        help="at most so many, for a quick look; the results say so (default: each preset's own)",
    )
    what.add_argument(
        "--seed",
        type=whole(0, 2**31 - 1),
        default=1,
        help="of the random splits and first weights (default: %(default)s)",
    )
    what.add_argument(
        "--mobilenet-weights", default="imagenet", metavar="FILE",
        help="a no_top .h5, a folder with it, 'imagenet' to download it, 'none' for random weights (default: "
        "%(default)s)",
    )  # fmt: skip
    what.add_argument(
        "--vgg16-weights", default="imagenet", metavar="FILE",
        help="the same for VGG16, which is trained from scratch where they cannot be downloaded (default: %(default)s)",
    )  # fmt: skip
    what.add_argument(
        "--model", type=Path, action="append", default=[], metavar="FILE",
        help="add a row for a .keras or .tflite of your own, on the official test split and so with --final alone; may "
        "be repeated",
    )  # fmt: skip
    what.add_argument(
        "--final", action="store_true", help=f"{FINAL_HELP}; networks that were scored there before add none"
    )
    what.add_argument("--log", type=Path, help=LOG_HELP)
    data = compare.add_argument_group("data")
    data.add_argument(
        "--size", type=whole(32, 512), default=48, help="side of the faces in pixels (default: %(default)s)"
    )
    add_drop(data)
    data.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)
    result = compare.add_argument_group("result")
    result.add_argument("--json", action="store_true", help="print JSON instead of a table")
    result.add_argument("--markdown", type=Path, metavar="FILE", help="write the whole comparison as a page")
    result.add_argument("--png", type=Path, metavar="FILE", help="draw it")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _compare(args: argparse.Namespace) -> int:
    refuse_log_without_final(args)
    if args.model and not args.final:
        raise UsageError(
            "--model is scored on the test split, to which nothing is to be fitted: give --final with it, which adds a "
            "line to the model log"
        )
    require_keras()
    from trainer import baselines, compare, compare_plan, model_log
    from trainer.backbones import find_weights
    from trainer.datasets import copied_in
    from trainer.output_file import refuse_overwriting, refuse_unwritable

    # TensorFlow warns that it traces anew, as it must for every network.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    presets = baselines.find_presets(args.presets)
    log = args.log or model_log.DEFAULT
    mobilenet = find_weights(args.mobilenet_weights, "mobilenet_v1", 1.0)
    weights = (Path(mobilenet), Path(args.vgg16_weights))
    outputs = {"--log": log if args.final else None, "--markdown": args.markdown, "--png": args.png}
    refuse_overwriting(outputs, (args.data, *args.model, *weights))
    for path in filter(None, (args.markdown, args.png)):
        refuse_unwritable(path)
    if args.final:
        model_log.refuse_unusable(log)
    own_network = next(iter(args.model), None)
    dataset = load(args.data, size=args.size, cache=not args.no_cache, drop=args.drop, network=own_network)
    # Anew, as each training's are: an image's copy under a label that was left out is not trained on.
    dataset = replace(dataset, test_copied=copied_in(dataset.train, dataset.test))
    if not args.presets:
        for preset in presets:
            if not compare_plan.fits(preset, dataset, args.drop):
                missing = [label for label in preset.drop if label not in (*dataset.labels, *args.drop)]
                why = "not among the labels" if missing else "fewer than two labels would stay"
                left_out = " and ".join(missing or preset.drop)
                print(f"note: without {preset.name}: it leaves out {left_out}: {why}", file=sys.stderr)
        presets = [preset for preset in presets if compare_plan.fits(preset, dataset, args.drop)]
    jobs = compare_plan.plan(
        presets,
        dataset,
        args.out,
        split=args.split,
        seed=args.seed,
        epochs=args.epochs,
        weights={"mobilenet": mobilenet, "vgg16": args.vgg16_weights},
        dropped=args.drop,
    )
    own = [compare.evaluate_model(path, dataset) for path in args.model]
    if own:
        model_log.append(log, [entry for _, entry in own])
    with contextlib.redirect_stdout(sys.stderr):  # Keras tells of its downloads
        compare_plan.begin(jobs, args.size)
        results = [
            _finish(
                job, dataset, f"{number} of {len(jobs)}, {job.name}", _alone(args, job), log if args.final else None
            )
            for number, job in enumerate(jobs, start=1)
        ]
    data = compare.describe_data(dataset)
    if not data["is_the_papers"]:
        print(f"note: {dataset.name} is not FER2013 as the papers have it; no difference is shown", file=sys.stderr)
    _present(args, results, [row for row, _ in own], data)
    return 0


def _alone(args: argparse.Namespace, job: Job) -> str:
    """The command that repeats one training of a comparison."""
    one = {"presets": [job.preset.name], "split": job.split, "model": [], "markdown": None, "png": None}
    return _repeatable(argparse.Namespace(**vars(args) | one))


def _finish(job: Job, dataset: Dataset, title: str, command: str, log: Path | None) -> dict[str, Any]:
    """A training's result: read where it is there, else worked for; and on stderr what is to be known of it.

    Args:
        job: the training.
        dataset: as it was read.
        title: says which one it is.
        command: repeats it.
        log: where a look at the test split is noted; None: the result is without that split.
    """
    from trainer import compare, model_log

    look = None if log is None else lambda entry: model_log.append(log, [entry])
    before = job.result
    if before and log and "test" not in before:
        before = None
    bar = partial(progress_bar, at_once=True)
    result = before or compare.run(job, dataset, bar=bar, say=_say, look=look, command=command)
    if log is None:
        result.pop("test", None)  # an earlier look's
    name, scored = ("test", result["test"]) if log else ("validation", result["validation"])
    print(
        f"{title}: {scored['accuracy']:.2%} ± {100 * scored['interval_95']:.2f} on {scored['count']:,} {name} images"
        + (", finished before" if before else f", {result['seconds'] / 60:.1f} minutes of training"),
        *(f"  {note}" for note in result["notes"]),
        sep="\n",
        file=sys.stderr,
    )
    return result


def _say(line: str) -> None:
    """A line an epoch for logs; a terminal has the bar."""
    if not sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def _present(
    args: argparse.Namespace, results: list[dict[str, Any]], models: list[dict[str, Any]], data: dict[str, Any]
) -> None:
    from rich.console import Console

    from trainer import compare_report
    from trainer.output_file import write_whole

    if args.png:
        write_whole(args.png, compare_report.draw(results, models, data))
    if args.markdown:
        picture = os.path.relpath(args.png, args.markdown.parent) if args.png else ""
        page = compare_report.as_markdown(results, models, data, command=_repeatable(args), picture=picture)
        write_whole(args.markdown, page.encode(errors="backslashreplace"))
    if args.json:
        print(json.dumps({"data": data, "results": results, "models": models}))
        return
    console = Console() if sys.stdout.isatty() else Console(width=compare_report.WIDE)
    console.print(compare_report.as_table(results, models, data, console.width))
    if results and not args.final:
        print("\nThe test split stays shut; --final opens it, for the figures that stand beside the papers'.")
    for path in filter(None, (args.markdown, args.png)):
        print(f"written: {path}")


def _repeatable(args: argparse.Namespace) -> str:
    """The command that repeats this comparison, with file names instead of this machine's paths."""
    parser = Parser("mien-train")
    add_compare(parser.add_subparsers())
    defaults = vars(parser.parse_args(["compare", str(args.data)]))
    words = ["mien-train", "compare", args.data.name]
    for key in ("presets", "split", "epochs", "seed", "size", "drop"):
        value = vars(args)[key]
        if value != defaults[key]:
            words += [f"--{key}", ",".join(value) if key in {"presets", "drop"} else str(value)]
    for key in ("mobilenet_weights", "vgg16_weights", "markdown", "png"):
        value = vars(args)[key]
        if value != defaults[key]:
            words += ["--" + key.replace("_", "-"), Path(value).name]
    for path in args.model:
        words += ["--model", path.name]
    words += ["--final"] if args.final else []
    return shlex.join(words)
