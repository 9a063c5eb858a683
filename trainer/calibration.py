"""How far a network's confidence can be believed: temperature, calibration error, risk against coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

BINS = 15

MIN_OF_EACH = 20
"""Right answers, and wrong ones, that a temperature is fitted to: a dozen right ones alone would make it certain."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Confidence against accuracy over bins of equal width; bins without an image are left out.

    Attributes:
        confidence, accuracy: `float64[bins]`, each bin's means, 0 to 1.
        count: `int64[bins]`, images in it.
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Mean distance between confidence and accuracy, weighted by images (ECE; Naeini et al. 2015)."""
        return float(np.average(np.abs(self.accuracy - self.confidence), weights=self.count))


def probabilities(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Calibrated probabilities `float64[n, labels]` of `logits` `float32[n, labels]`."""
    return np.asarray(softmax(logits.astype(np.float64) / temperature, axis=1))


def fit_temperature(logits: NDArray[np.float32], truth: NDArray[np.int64]) -> float:
    """The temperature in 0.1..10 under which `logits` `[n, labels]` make `truth` `[n]` most likely; 1 for a few faces.

    One number for all logits, so that a confidence of 0.8 is right eight times in ten (Guo et al. 2017). Meant for the
    validation split's logits as the quantised network gives them.
    """
    right = int((logits.argmax(axis=1) == truth).sum())
    if min(right, len(truth) - right) < MIN_OF_EACH:
        return 1.0

    def cost(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(cost, bounds=(np.log(0.1), np.log(10.0)), method="bounded")
    return round(float(np.exp(found.x)), 4)


def reliability(confidence: NDArray[np.floating], right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Sort answers with `confidence` `[n]`, `right` or not `[n]`, into bins."""
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = count > 0
    sure, sound = (np.bincount(place, values, minlength=bins)[filled] / count[filled] for values in (confidence, right))
    return Reliability(sure, sound, count[filled])


def risk_by_coverage(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Share of wrong answers `float64[n]` among the 1, 2, … n most confident; its mean is the area under the curve.

    Geifman and El-Yaniv 2017, "Selective classification for deep neural networks". Answers of equal confidence are
    taken as they come.
    """
    order = np.argsort(-confidence, kind="stable")
    return np.asarray(np.cumsum(~right[order]) / np.arange(1, len(right) + 1))
