"""How sure a network must be of each expression before it is named; below that, a face is "uncertain".

Meant for the calibrated probabilities of the validation split as the quantised network gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

PRECISION = 0.5
"""Below it an expression that is named is more often wrong than right, and "uncertain" is the more honest word. More
than 0.65 would ask of the network what people do not reach on FER2013 (65 ± 5 %, Goodfellow et al. 2013)."""

MIN_ANSWERS = 100
"""A curve through 30 faces is chance: a label with fewer answers takes the threshold of all labels together."""


@dataclass(frozen=True, eq=False)
class Naming:
    """What naming only what is sure enough leaves.

    Attributes:
        thresholds: label to least confidence, 0..1; 0 names it always, 1 as good as never.
        answers: `int64[labels]`, how often each label is the network's answer.
        named: `int64[labels]`, how often of these it is sure enough.
        right: `int64[labels]`, how often of these it is right.
    """

    thresholds: Mapping[str, float]
    answers: NDArray[np.int64]
    named: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def coverage(self) -> float:
        """Share of faces that are named at all."""
        return float(self.named.sum() / self.answers.sum())

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the faces that are named; None where none is."""
        return share(self.right.sum(), self.named.sum())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "coverage": round(self.coverage, 5),
            "accuracy": self.accuracy,
            "classes": {
                label: {
                    "threshold": threshold,
                    "answers": int(self.answers[i]),
                    "coverage": share(self.named[i], self.answers[i]),
                    "precision": share(self.right[i], self.named[i]),
                }
                for i, (label, threshold) in enumerate(self.thresholds.items())
            },
        }


def share(part: Any, whole: Any) -> float | None:
    """`part` of `whole`, rounded for JSON; None where there is nothing."""
    return round(float(part / whole), 5) if whole else None


def fit_thresholds(
    probabilities: NDArray[np.floating],
    truth: NDArray[np.int64],
    labels: tuple[str, ...],
    *,
    precision: float = PRECISION,
) -> dict[str, float]:
    """For each label the lowest confidence from which on its answers are right at least `precision` of the time.

    How often an answer is right at a confidence is a logistic curve through the label's own answers, over the logit of
    the confidence (Platt 1999): it rises all the way, and its two parameters jump less from sample to sample than an
    isotonic regression's steps do on a few hundred answers.

    Args:
        probabilities: `float[n, labels]`, calibrated.
        truth: `int64[n]`.
        labels: in the order of the probabilities.
        precision: 0..1.

    Returns:
        Label to threshold, to four digits: 0 where every answer is right often enough, 1 where none is. `precision`
        itself where there are few faces: of calibrated answers at that confidence so many are right.
    """
    if len(truth) < MIN_ANSWERS:
        return dict.fromkeys(labels, precision)
    guess, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    right = guess == truth
    least = 1 / len(labels)  # the highest of so many probabilities is never lower
    together = _threshold(confidence, right, precision, least)
    found = {}
    for number, label in enumerate(labels):
        own = guess == number
        enough = own.sum() >= MIN_ANSWERS
        found[label] = _threshold(confidence[own], right[own], precision, least) if enough else together
    return found


def _threshold(confidence: NDArray[np.floating], right: NDArray[np.bool_], precision: float, least: float) -> float:
    often = right.mean()
    if right.all() or not right.any() or not 0 < precision < 1:
        return 0.0 if often >= precision else 1.0
    sure = np.clip(confidence.astype(np.float64), None, 1 - 1e-9)
    curve = LogisticRegression(C=1e4).fit(logit(sure)[:, np.newaxis], right)
    slope, offset = float(curve.coef_[0, 0]), float(curve.intercept_[0])
    if slope <= 0:  # its confidence tells nothing
        return 0.0 if often >= precision else 1.0
    found = float(expit((logit(precision) - offset) / slope))
    return 0.0 if found <= least else round(found, 4)


def name_sure(probabilities: NDArray[np.floating], truth: NDArray[np.int64], thresholds: Mapping[str, float]) -> Naming:
    """Count what `thresholds` (label to least confidence, in the order of the labels) leave of `probabilities`."""
    guess, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    sure = confidence >= np.array(list(thresholds.values()))[guess]

    def count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(guess[mask], minlength=len(thresholds))

    return Naming(dict(thresholds), count(np.ones_like(sure)), count(sure), count(sure & (guess == truth)))
