"""The shipped model on FER2013, measured anew through the interpreter, beside what its own file records.

python -m benchmarks.shipped_model [fer2013.csv] [--network runs/mien/model.keras]

With the float network that `mien-train fit` left in its folder (the command stands in edge/models/mien.md), float and
int8 are compared too, as `mien-export verify` does. Ends with 1 where a figure is not the recorded one, or below what
a shipped model must reach.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import fer2013
from edge.commandline import guarded
from edge.model import open_model
from edge.modelfile import SHIPPED
from trainer.evaluation import evaluate, tflite_logits
from trainer.report import as_text

LEAST_ACCURACY = 0.67
LEAST_AGREEMENT = 0.97
MOST_DIFFERENCE = 0.5
"""Points between float and int8."""
MOST_BYTES = 4_000_000
SAME = 0.002
"""How far a repeated accuracy may be from the recorded one: processors round differently."""


def shortcomings(accuracy: dict[str, Any], size: int) -> list[str]:
    """What a model with these recorded figures and this file size falls short of."""
    test, together = accuracy["test"], accuracy["together"]
    checks = {
        f"int8 on PrivateTest is {test['int8']:.2%}, under {LEAST_ACCURACY:.0%}": test["int8"] < LEAST_ACCURACY,
        f"float and int8 agree on {together['agreement']:.2%}, under {LEAST_AGREEMENT:.0%}": together["agreement"]
        < LEAST_AGREEMENT,
        f"float and int8 differ by {together['difference_points']:+.2f} points": abs(together["difference_points"])
        > MOST_DIFFERENCE,
        f"the file has {size:,} bytes, over {MOST_BYTES:,}": size > MOST_BYTES,
    }
    return [text for text, missed in checks.items() if missed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    parser.add_argument("--network", type=Path, help="the float network, to compare with")
    args = parser.parse_args()
    dataset = fer2013.load(args.data)
    model = open_model()
    recorded: Any = {} if model.card is None else model.card.content["accuracy"]
    complaints = shortcomings(recorded, SHIPPED.stat().st_size)
    for name in ("validation", "test"):
        split = dataset.split(name)
        copied = dataset.test_copied if name == "test" else None
        result = evaluate(tflite_logits(model, split), split.labels, dataset.labels, copied=copied)
        print(as_text(result, f"{model.name} (int8, one crop) on the {name} split of FER2013"))
        print(f"\n  recorded  {recorded[name]['int8']:.2%}\n")
        if abs(recorded[name]["int8"] - result.accuracy) > SAME:
            complaints.append(f"{name}: measured {result.accuracy:.2%}, recorded {recorded[name]['int8']:.2%}")
    if args.network:
        from export import verification

        compared = verification.verify(args.network, SHIPPED, dataset, splits=verification.FINAL)
        print(verification.as_text(compared))
        complaints += shortcomings(compared.to_dict(), SHIPPED.stat().st_size)
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB")
    for complaint in complaints:
        print(f"short: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(guarded("shipped_model", main))
