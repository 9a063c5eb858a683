"""`mien-train evaluate`: how good a network is on one split of a data set."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from trainer.commandline import DATA_HELP, NO_CACHE_HELP, add_drop, load, require_keras, whole


def add_evaluate(commands: Any) -> None:
    """Add `evaluate` to the parser's commands."""
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
    add_drop(evaluate)
    evaluate.add_argument("--no-cache", action="store_true", help=NO_CACHE_HELP)


def _evaluate(args: argparse.Namespace) -> int:
    require_keras()
    from trainer import evaluation, report

    dataset = load(args.data, size=args.size, cache=not args.no_cache, drop=args.drop)
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
