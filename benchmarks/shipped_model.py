"""The shipped models on FER2013, measured anew through the interpreter, beside what their own files record.

python -m benchmarks.shipped_model [fer2013.csv] [--model small] [--final] [--network runs/mien/model.keras]

PublicTest, and with `--final` PrivateTest too, which adds a line to docs/model-log.md. With the float network that
`mien-train fit` left in its folder (the command stands in edge/models/mien.md), float and int8 are compared too, as
`mien-export verify` does. Ends with 1 where a figure is not the recorded one, or below what a shipped model must reach.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import fer2013
from edge.commandline import guarded
from edge.model import Model, open_model
from edge.modelfile import SHIPPED, SMALL
from trainer import model_log
from trainer.evaluation import evaluate, tflite_logits
from trainer.report import as_text

LEAST_AGREEMENT = 0.97
MOST_DIFFERENCE = 0.5
"""Points between float and int8."""
SAME = 0.002
"""How far a repeated accuracy may be from the recorded one: processors round differently."""


@dataclass(frozen=True)
class Limits:
    """What a shipped model must reach: an accuracy on PrivateTest in int8, with at most so many bytes."""

    least: float
    most_bytes: int


LIMITS = {SHIPPED: Limits(0.70, 4_000_000), SMALL: Limits(0.69, 600_000)}


def shortcomings(accuracy: dict[str, Any], size: int, limits: Limits) -> list[str]:
    """What a model with these recorded figures and this file size falls short of."""
    test, together = accuracy["test"], accuracy["together"]
    checks = {
        f"int8 on PrivateTest is {test['int8']:.2%}, under {limits.least:.0%}": test["int8"] < limits.least,
        f"float and int8 agree on {together['agreement']:.2%}, under {LEAST_AGREEMENT:.0%}": together["agreement"]
        < LEAST_AGREEMENT,
        f"float and int8 differ by {together['difference_points']:+.2f} points": abs(together["difference_points"])
        > MOST_DIFFERENCE,
        f"the file has {size:,} bytes, over {limits.most_bytes:,}": size > limits.most_bytes,
    }
    return [text for text, missed in checks.items() if missed]


def _in_turns(models: list[Model]) -> list[list[float]]:
    """Seconds that each model takes for a face, many times over."""
    face = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    rounds: list[list[float]] = []
    for _ in range(300):
        rounds.append([])
        for model in models:
            began = time.perf_counter()
            model.classify_face(face)
            rounds[-1].append(time.perf_counter() - began)
    return rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    parser.add_argument("--model", choices=["full", "small"], default="full", help="which one (default: %(default)s)")
    parser.add_argument("--final", action="store_true", help="PrivateTest too; adds to the model log")
    parser.add_argument("--network", type=Path, help="the float network, to compare with; only with --final")
    args = parser.parse_args()
    if args.network and not args.final:
        parser.error("--network compares on PrivateTest too: give --final with it")
    dataset = fer2013.load(args.data)
    path = SMALL if args.model == "small" else SHIPPED
    model, limits, size = open_model(path), LIMITS[path], path.stat().st_size
    recorded: Any = {} if model.card is None else model.card.content["accuracy"]
    complaints = shortcomings(recorded, size, limits)
    if args.final:
        model_log.refuse_unusable(model_log.DEFAULT)
    for name in ("validation", "test") if args.final else ("validation",):
        split = dataset.split(name)
        copied = dataset.test_copied if name == "test" else None
        result = evaluate(tflite_logits(model, split), split.labels, dataset.labels, copied=copied)
        if name == "test":
            entry = model_log.Entry(path.name, model_log.digest(path), "int8", dataset.name, result, model.card.content)
            model_log.append(model_log.DEFAULT, [entry])
        print(as_text(result, f"{model.name} (int8, one crop) on the {name} split of FER2013"))
        print(f"\n  recorded  {recorded[name]['int8']:.2%}\n")
        if abs(recorded[name]["int8"] - result.accuracy) > SAME:
            complaints.append(f"{name}: measured {result.accuracy:.2%}, recorded {recorded[name]['int8']:.2%}")
    if args.network:
        from export import verification
        from trainer import keras_file

        compared = verification.verify(args.network, path, dataset, splits=verification.FINAL)
        exact = model_log.Entry(
            args.network.name,
            model_log.digest(args.network),
            "float",
            dataset.name,
            compared.exact["test"],
            keras_file.read_card(args.network),
        )
        model_log.append(model_log.DEFAULT, [exact])
        print(verification.as_text(compared))
        complaints += shortcomings(compared.to_dict(), size, limits)
    print(f"{path.name}: {size / 1e6:.2f} MB")
    times = zip(*_in_turns([open_model(), open_model(SMALL)]), strict=True)
    full, small = (1000 * statistics.median(each) for each in times)
    print(
        f"the full model takes {full:.2f} ms a face here, the small one {small:.2f}: {full / small:.1f} times as fast"
    )
    for complaint in complaints:
        print(f"short: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(guarded("shipped_model", main))
