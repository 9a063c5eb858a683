"""Float against int8 on real data, the int8 side through the interpreter that the Pi runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.datasets import Dataset
from trainer.evaluation import Evaluation, evaluate, network_logits
from trainer.readers import Progress

CHOSEN_ON, FINAL = ("validation",), ("validation", "test")
"""The splits to compare on: every day, and for the last figure."""


@dataclass(frozen=True)
class Comparison:
    """Float and int8 on the same images.

    Attributes:
        count: number of images.
        float_accuracy, int8_accuracy: 0 to 1.
        agreement: share of images that both call the same.
        without_copies: int8 accuracy on images that have no copy in the training rows; None where not known.
    """

    count: int
    float_accuracy: float
    int8_accuracy: float
    agreement: float
    without_copies: float | None = None

    @property
    def difference(self) -> float:
        """Int8 minus float, in points (100 = everything)."""
        return 100 * (self.int8_accuracy - self.float_accuracy)


@dataclass(frozen=True)
class Verification:
    """The comparison on each split, on both together where there are two, and both sides in full."""

    comparisons: dict[str, Comparison]
    exact: dict[str, Evaluation]
    int8: dict[str, Evaluation]

    @property
    def widest(self) -> Comparison:
        """On as many images as there are."""
        return self.comparisons.get("together", self.comparisons["validation"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and for the model card."""
        return {
            name: {
                "count": each.count,
                "float": round(each.float_accuracy, 5),
                "int8": round(each.int8_accuracy, 5),
                "difference_points": round(each.difference, 3),
                "agreement": round(each.agreement, 5),
            }
            | ({"int8_without_copies": round(each.without_copies, 5)} if each.without_copies is not None else {})
            | ({"int8_macro_f1": round(self.int8[name].macro_f1, 5)} if name in self.int8 else {})
            for name, each in self.comparisons.items()
        }


def verify(
    keras_path: Path,
    tflite_path: Path,
    dataset: Dataset,
    *,
    splits: Sequence[str] = CHOSEN_ON,
    progress: Progress | None = None,
) -> Verification:
    """Run both networks over `splits`, `CHOSEN_ON` or `FINAL`.

    `progress` is told of faces done, by either network, and their number.

    Raises:
        BadDataError, InputNotFoundError: a file is not what it should be, or does not fit the data set.
    """
    comparisons: dict[str, Comparison] = {}
    exact: dict[str, Evaluation] = {}
    int8: dict[str, Evaluation] = {}
    rights_and_sames = []
    total, before = 2 * sum(len(dataset.split(name)) for name in splits), 0

    def report(done: int, _: int) -> None:
        if progress:
            progress(before + done, total)

    for name in splits:
        split = dataset.split(name)
        copied = dataset.test_copied if name == "test" else None
        guesses = []
        for path, evaluations in ((keras_path, exact), (tflite_path, int8)):
            logits = network_logits(path, split, dataset.labels, progress=report)
            before += len(split)
            guesses.append(logits.argmax(axis=1))
            evaluations[name] = evaluate(logits, split.labels, dataset.labels, copied=copied)
        table = np.stack([guesses[0] == split.labels, guesses[1] == split.labels, guesses[0] == guesses[1]])
        rights_and_sames.append(table)
        comparisons[name] = _compare(table, int8[name].accuracy_without_copies)
    if len(splits) > 1:
        comparisons["together"] = _compare(np.concatenate(rights_and_sames, axis=1))
    return Verification(comparisons, exact, int8)


def _compare(table: NDArray[np.bool_], without_copies: float | None = None) -> Comparison:
    """`table` is `bool[3, n]`: float right, int8 right, both the same."""
    float_accuracy, int8_accuracy, agreement = table.mean(axis=1).tolist()
    return Comparison(table.shape[1], float_accuracy, int8_accuracy, agreement, without_copies)


def shortfalls(result: Verification, *, min_agreement: float | None, max_difference: float | None) -> list[str]:
    """What of the demands the splits together miss, a sentence each.

    Args:
        result: what was counted.
        min_agreement: least share of images that both call the same, in percent; None: any.
        max_difference: by how many points the accuracies may differ, up or down; None: any.
    """
    together = result.widest
    missed = []
    if min_agreement is not None and 100 * together.agreement < min_agreement:
        missed.append(
            f"float and int8 agree on {100 * together.agreement:.3f} %, under --min-agreement {min_agreement:g}"
        )
    # Rounded, lest a difference of just so many points fall to the last bit of a float.
    if max_difference is not None and round(abs(together.difference), 9) > max_difference:
        missed.append(f"int8 differs by {together.difference:+.3f} points, over --max-difference {max_difference:g}")
    return missed


def as_text(result: Verification) -> str:
    """A table for people."""
    names = {"validation": "PublicTest / validation", "test": "PrivateTest / test", "together": "together"}
    lines = [f"{'':<25}{'images':>7}{'float':>9}{'int8':>9}{'difference':>13}{'agreement':>11}"]
    for name, each in result.comparisons.items():
        lines.append(
            f"{names[name]:<25}{each.count:>7}{each.float_accuracy:>9.2%}{each.int8_accuracy:>9.2%}"
            f"{each.difference:>+8.2f} pts{each.agreement:>11.2%}"
        )
    last = "test" if "test" in result.int8 else "validation"
    if (without := result.comparisons[last].without_copies) is not None:
        lines.append(f"int8 on the test images that have no copy in the training rows: {without:.2%}")
    lines.append(f"95 % interval of the int8 {last} accuracy: ± {100 * result.int8[last].interval:.2f} points")
    return "\n".join(lines)
