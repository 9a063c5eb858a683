"""One recipe under several seeds: what each exported model gets right, their mean and their spread.

    python -m benchmarks.seeds seed1.tflite seed2.tflite seed3.tflite [--data fer2013.csv] [--final]

PublicTest, on which the one that ships is chosen; with `--final` PrivateTest too, at the end, and docs/model-log.md
gets its lines. Models whose settings or data differ in more than the seed are refused: their mean would be nobody's.
The commits that they were trained at may differ, and are printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import fer2013
from edge.commandline import guarded
from edge.errors import UsageError
from trainer import model_log
from trainer.evaluation import evaluate, open_classifier
from trainer.settings import Settings

SPLITS = {"validation": "PublicTest", "test": "PrivateTest"}


def refuse_other_recipes(models: Sequence[tuple[Path, Mapping[str, Any]]]) -> None:
    """Raise UsageError where not each model is of one recipe under a seed of its own, by its `mien.json`."""
    (first, card), *others = models
    expected = _recipe(card)
    for path, other in others:
        recipe = _recipe(other)
        if different := sorted(key for key in expected if recipe.get(key) != expected[key]):
            raise UsageError(f"{path}: trained otherwise than {first} ({', '.join(different)}): no seed of one recipe")
    seeds = [card.get("provenance", {}).get("seed") for _, card in models]
    if len(set(seeds)) < len(seeds) or None in seeds:
        raise UsageError(f"seeds {', '.join(map(str, seeds))}: name models of different seeds, each once")


def _recipe(card: Mapping[str, Any]) -> dict[str, Any]:
    told = card.get("provenance", {})
    settings = Settings.complete(told.get("settings", {}))  # a card may be older than a setting
    known = {key: told.get(key) for key in ("dataset", "images", "architecture", "pretraining")}
    return known | settings | {"protocol": model_log.protocol(card), "seed": None}


def line(name: str, shares: Sequence[float]) -> str:
    """Each share, their mean, and their standard deviation."""
    each = "  ".join(f"{share:.2%}" for share in shares)
    spread = f", sd {100 * statistics.stdev(shares):.2f}" if len(shares) > 1 else ""
    return f"{name:<28}{each}  mean {statistics.mean(shares):.2%}{spread}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+", help="exported models of one recipe")
    parser.add_argument("--data", type=Path, default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    parser.add_argument("--final", action="store_true", help="PrivateTest too; adds to the model log")
    args = parser.parse_args()
    dataset = fer2013.load(args.data)
    size = dataset.train.images.shape[1]
    classifiers = [open_classifier(path, dataset.labels, size) for path in args.models]
    refuse_other_recipes([(each.path, each.card) for each in classifiers])
    for each in classifiers:
        told = each.card["provenance"]
        print(f"{each.path.name}: {each.arithmetic}, seed {told['seed']}, at commit {told.get('commit', '?')[:8]}")
    if args.final:
        model_log.refuse_unusable(model_log.DEFAULT)
    for name, title in list(SPLITS.items())[: 2 if args.final else 1]:
        split = dataset.split(name)
        copied = dataset.test_copied if name == "test" else None
        results = [
            evaluate(each.logits(split.images, None), split.labels, dataset.labels, copied=copied)
            for each in classifiers
        ]
        if name == "test":
            model_log.append(
                model_log.DEFAULT,
                [
                    model_log.Entry(
                        each.path.name, model_log.digest(each.path), each.arithmetic, dataset.name, result, each.card
                    )
                    for each, result in zip(classifiers, results, strict=True)
                ],
            )
        print(line(title, [result.accuracy for result in results]))
        without = [share for result in results if (share := result.accuracy_without_copies) is not None]
        if without:
            print(line(f"{title}, without copies", without))
    return 0


if __name__ == "__main__":
    sys.exit(guarded("seeds", main))
