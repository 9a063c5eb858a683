"""`mien-train evaluate`: how good a network is on one split of a data set, in a few lines or in a whole report."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.errors import UsageError
from edge.modelcard import provenance_of
from trainer.commandline import (
    DATA_HELP,
    NO_CACHE_HELP,
    add_drop,
    load,
    number,
    progress_bar,
    require_keras,
    whole,
)

if TYPE_CHECKING:
    from trainer.datasets import Dataset
    from trainer.evaluation import Classifier
    from trainer.examination import Examination

FINAL_HELP = (
    "look at the test split (PrivateTest), for the last figure and never to choose anything; adds a line to the model "
    "log by itself"
)
LOG_HELP = "the model log that --final adds to (default: docs/model-log.md)"


def add_evaluate(commands: Any) -> None:
    """Add `evaluate` to the parser's commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="accuracy, macro F1, per-class table, confusion matrix; a whole report",
        description="Says how good a .keras or .tflite network is on one split of a data set.",
    )
    evaluate.set_defaults(command=_evaluate)
    evaluate.add_argument("model", type=Path, help="a .keras or .tflite file")
    evaluate.add_argument("data", type=Path, help=DATA_HELP)
    which = evaluate.add_mutually_exclusive_group()
    which.add_argument(
        "--split", type=_split, choices=["train", "validation"], default="validation",
        help="validation is PublicTest, to choose on (default: %(default)s)",
    )  # fmt: skip
    which.add_argument("--final", action="store_true", help=FINAL_HELP)
    evaluate.add_argument("--log", type=Path, help=LOG_HELP)
    evaluate.add_argument(
        "--size", type=whole(32, 512), default=48, help="side of the faces in pixels (default: %(default)s)"
    )
    evaluate.add_argument("--png", type=Path, help="write the confusion matrix as a picture")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of text; with --report all of it")
    add_drop(evaluate)
    evaluate.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)
    report = evaluate.add_argument_group("report")
    report.add_argument(
        "--report", type=Path, metavar="HTML",
        help="write one HTML file: calibration, thresholds, bad pictures, small faces, parts of the face, mistakes",
    )  # fmt: skip
    report.add_argument(
        "--samples", type=whole(1, 1_000_000),
        help="faces that its costly parts use, with each label's share kept (default: 1000)",
    )  # fmt: skip
    report.add_argument(
        "--precision", type=number(0, 1),
        help="an answer is named, and not \"uncertain\", where at least so many such answers are right (default: 0.5)",
    )  # fmt: skip
    report.add_argument(
        "--show-faces",
        action="store_true",
        help="show the pictures of the worst mistakes in it, and what their files are called",
    )


def _split(text: str) -> str:
    if text == "test":
        raise argparse.ArgumentTypeError(
            "nothing is chosen on the test split; for the last figure give --final, which notes it in the model log"
        )
    return text


def _evaluate(args: argparse.Namespace) -> int:
    _refuse_odd(args)
    require_keras()
    from trainer import evaluation, model_log, output_file, report

    log = args.log or model_log.DEFAULT
    outputs = {"--log": log if args.final else None, "--report": args.report, "--png": args.png}
    output_file.refuse_overwriting(outputs, (args.model, args.data))
    for path in filter(None, (args.report, args.png)):
        output_file.refuse_unwritable(path)
    if args.final:
        model_log.refuse_unusable(log)
    dataset = load(args.data, size=args.size, cache=not args.no_cache, drop=args.drop, network=args.model)
    name = "test" if args.final else args.split
    split = dataset.split(name)
    classifier = evaluation.open_classifier(args.model, dataset.labels, args.size)
    cut = classifier.card.get("input", {}).get("margin", 1.0)
    if cut != dataset.margin:
        print(
            f"note: {args.model} expects faces cut out with --margin {cut:g}; those of {dataset.name} have "
            f"{dataset.margin:g}",
            file=sys.stderr,
        )
    sha256 = model_log.digest(args.model)
    copied = dataset.test_copied if args.final else None
    found = _examine(args, classifier, dataset, name) if args.report else None
    if found:
        result = found.evaluation
    else:
        with progress_bar(f"evaluating {args.model.name}") as progress:
            logits = classifier.logits(split.images, progress)
        result = evaluation.evaluate(logits, split.labels, dataset.labels, copied=copied)
    if args.final:  # before anybody sees the figure
        entry = model_log.Entry(args.model.name, sha256, classifier.arithmetic, dataset.name, result, classifier.card)
        model_log.append(log, [entry])
    if found:
        _write(args, found, classifier, dataset, name, sha256)
    told = {"model": str(args.model), "data": dataset.name, "split": name, **(found or result).to_dict()}
    print(
        json.dumps(told) if args.json else report.as_text(result, f"{args.model} on the {name} split of {dataset.name}")
    )
    if found and not args.json:
        print(f"\n{report.thresholds_as_text(found.naming, found.precision, found.own_naming)}")
        print(f"\n  report    {args.report}")
    if args.png:
        report.save_confusion(result, f"{args.model.name}, {name} split of {dataset.name}", args.png)
        if not args.json:
            print(f"\n  picture   {args.png}")
    if args.final:
        print(f"{log}: a line added", file=sys.stderr)
    return 0


def refuse_log_without_final(args: argparse.Namespace) -> None:
    """Raise UsageError where a log is named that nothing would be added to."""
    if args.log and not args.final:
        raise UsageError("--log names the log of --final; give --final too, or leave --log out")


def _refuse_odd(args: argparse.Namespace) -> None:
    refuse_log_without_final(args)
    if not args.report:
        for option in ("samples", "precision", "show_faces"):
            if getattr(args, option) not in (None, False):
                raise UsageError(f"--{option.replace('_', '-')} is about the report; name one with --report")


def _examine(args: argparse.Namespace, classifier: Classifier, dataset: Dataset, name: str) -> Examination:
    from trainer import examination, thresholds

    with progress_bar(f"examining {args.model.name}", at_once=True) as progress:
        return examination.examine(
            classifier,
            dataset.split(name),
            dataset.validation,
            copied=dataset.test_copied if name == "test" else None,
            files=dataset.files if args.show_faces else (),
            samples=examination.SAMPLES if args.samples is None else args.samples,
            precision=thresholds.PRECISION if args.precision is None else args.precision,
            progress=progress,
        )


def _write(
    args: argparse.Namespace, found: Examination, classifier: Classifier, dataset: Dataset, name: str, sha256: str
) -> None:
    from trainer import model_log, output_file, report_html

    told = provenance_of(classifier.card)
    what = {"train": "Training", "validation": "PublicTest", "test": "PrivateTest"}[name]
    facts = [
        ("model", f"{args.model.name}, {classifier.arithmetic}, SHA-256 {sha256[:8]}"),
        ("labels", ", ".join(dataset.labels)),
        ("data", f"{dataset.name}, {name} split (FER2013: {what}), {found.evaluation.count:,} faces of {args.size} px"),
        ("fitted on", f"the validation split, {len(dataset.validation):,} faces: temperature and thresholds"),
        ("trained on", str(told.get("dataset", "not told"))),
        ("protocol", model_log.protocol(classifier.card)),
        ("started from", str(told.get("pretraining", "not told"))),
        ("seed", str(told.get("seed", "not told"))),
        ("trained by", str(told.get("command", "not told"))),
        ("at commit", str(told.get("commit", "not told"))),
        ("written", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by Mien {__version__}"),
    ]
    page = report_html.as_html(
        found,
        report_html.About(args.model.name, facts, dataset.name, name),
        faces=dataset.split(name).images if args.show_faces else None,
    )
    output_file.write_whole(args.report, page.encode(errors="backslashreplace"))
