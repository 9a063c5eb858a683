"""A model on those faces of FER2013's test splits of which training saw no copy, not even a near one.

python -m benchmarks.near_copies [fer2013.csv] [--model small] [--final]

Cleaning leaves training images out that also stand, byte for byte, in a test split. FER2013 was gathered from web
searches, and holds many photos twice in other encodings, sizes and cuts: `trainer.duplicates` finds these. PublicTest,
and with `--final` PrivateTest too, which adds a line to docs/model-log.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import fer2013
from edge.commandline import guarded
from edge.model import open_model
from edge.modelfile import SHIPPED, SMALL
from trainer import model_log
from trainer.commandline import progress_bar
from trainer.datasets import Dataset, clean, copied_in
from trainer.duplicates import copied_from
from trainer.evaluation import evaluate, tflite_logits


def groups(dataset: Dataset, name: str) -> dict[str, NDArray[np.bool_]]:
    """Which faces of a split are which.

    Args:
        dataset: not cleaned.
        name: `validation` or `test`.

    Returns:
        `bool[n]` by description. Exact copies are those of training images that cleaning leaves out, near ones those of
        images that it keeps.
    """
    split, kept = dataset.split(name), clean(dataset).train
    exact = copied_in(dataset.train, split)
    with progress_bar(f"looking for near copies of the {name} split") as progress:
        near = copied_from(split.images, kept.images, progress)
    return {
        "all": np.ones(len(split), dtype=bool),
        "without an exact copy in Training": ~exact,
        "without an exact or near copy": ~exact & ~near,
        "with a near copy that training saw": near,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    parser.add_argument("--model", choices=["full", "small"], default="full", help="which one (default: %(default)s)")
    parser.add_argument("--final", action="store_true", help="PrivateTest too; adds to the model log")
    args = parser.parse_args()
    dataset = fer2013.load(args.data)
    path = SMALL if args.model == "small" else SHIPPED
    model = open_model(path)
    if args.final:
        model_log.refuse_unusable(model_log.DEFAULT)
    for name in ("validation", "test") if args.final else ("validation",):
        split = dataset.split(name)
        logits = tflite_logits(model, split)
        if name == "test":
            result = evaluate(logits, split.labels, dataset.labels, copied=dataset.test_copied)
            card = {} if model.card is None else model.card.content
            entry = model_log.Entry(path.name, model_log.digest(path), "int8", dataset.name, result, card)
            model_log.append(model_log.DEFAULT, [entry])
        print(f"{model.name} (int8, one crop) on the {name} split of FER2013:")
        for group, mask in groups(dataset, name).items():
            part = evaluate(logits[mask], split.labels[mask], dataset.labels)
            print(f"  {group:<36} {part.count:5,}  {part.accuracy:.2%} ± {100 * part.interval:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("near_copies", main))
