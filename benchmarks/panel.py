"""What several teachers say together, before hours go into a student of theirs.

python -m benchmarks.panel fer2013.csv edge/models/mien.tflite runs/teacher-vgg-48-taught/model.keras

Each one on PublicTest, all of them together as `mien-train fit --teacher` has them teach (the mean of their softened
answers), and how often each agrees with the first. A student hardly outgrows its panel, and learns nothing from a
teacher that errs where the others do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from benchmarks import fer2013
from edge.commandline import guarded
from trainer.calibration import probabilities
from trainer.evaluation import evaluate, open_classifier
from trainer.settings import Settings


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="FER2013")
    parser.add_argument("teachers", type=Path, nargs="+", metavar="FILE", help="a trained .keras or .tflite")
    parser.add_argument("--temperature", type=float, default=Settings().temperature, help="(default: %(default)s)")
    args = parser.parse_args()
    dataset = fer2013.load(args.data)
    split = dataset.validation
    logits = [
        open_classifier(path, dataset.labels, split.images.shape[1]).logits(split.images, None)
        for path in args.teachers
    ]
    together = np.mean([probabilities(each, args.temperature) for each in logits], axis=0)
    first = logits[0].argmax(axis=1)
    for name, answers in (*zip(map(str, args.teachers), logits, strict=True), ("together", together)):
        result = evaluate(answers, split.labels, dataset.labels)
        agreement = float((answers.argmax(axis=1) == first).mean())
        print(f"{result.accuracy:.2%} ± {100 * result.interval:.2f}  agrees with the first on {agreement:.1%}  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("panel", main))
