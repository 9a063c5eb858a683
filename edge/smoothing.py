"""Scores over time, per track, into a stable expression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a track's face shows now.

    Attributes:
        expression: one of the model's labels, or `edge.labels.UNCERTAIN`.
        confidence: the highest smoothed score, also when the expression is uncertain.
        scores: `float32[n_labels]`, smoothed calibrated probabilities that sum to 1.
    """

    expression: str
    confidence: float
    scores: NDArray[np.float32]
