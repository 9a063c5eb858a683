"""Scores over time, per track, into a stable expression."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edge.labels import UNCERTAIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 0.05
"""A label must lead the shown one, or pass its threshold after `uncertain`, by this much score to be shown instead."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What a track's face shows now.

    Attributes:
        expression: one of the model's labels, or `edge.labels.UNCERTAIN`.
        confidence: the highest smoothed score, also when the expression is uncertain.
        scores: `float32[n_labels]`, smoothed calibrated probabilities that sum to 1.
        time: of the frame in which the face was last read, in seconds.
    """

    expression: str
    confidence: float
    scores: NDArray[np.float32]
    time: float = 0.0


@dataclass(slots=True)
class _State:
    """Of one track; `scores` are those of `reading` before they are rounded to `float32`."""

    scores: NDArray[np.float64]
    reading: Reading
    challenger: str | None = None


class Smoother:
    """Keeps one smoothed score vector and one stable expression for each track.

    Scores follow what the model says as `1 - exp(-t / time_constant)`, so by seconds and not by frames: a slow camera
    and a fast one answer equally fast. The expression is the highest smoothed score's label, or `uncertain` where
    that score is below the label's threshold; it changes only once a lead of `MARGIN` has been seen in two frames
    running, so neither a single frame nor a tie makes it flip.
    """

    def __init__(self, labels: Sequence[str], thresholds: Mapping[str, float], *, time_constant: float = 0.5) -> None:
        """Make a smoother without tracks.

        Args:
            labels: the model's labels, in the order of its scores.
            thresholds: least score to show a label, 0..1; 0 for those that are not named.
            time_constant: seconds after which a new score counts for 63 %; 0 takes every frame as it comes.
        """
        self._labels = tuple(labels)
        self._thresholds = [thresholds.get(label, 0.0) for label in self._labels]
        self._time_constant = time_constant
        self._states: dict[int, _State] = {}

    def update(self, track: int, time: float, scores: NDArray[np.floating]) -> Reading:
        """Take a frame's scores in.

        Args:
            track: the face's number.
            time: the frame's time in seconds.
            scores: `float[n_labels]`, calibrated probabilities that sum to 1.
        """
        state = self._states.get(track)
        new = np.asarray(scores, dtype=np.float64)
        if state is None:
            reading = _reading(self._pick(new, shown=None), new, time)
            self._states[track] = _State(new, reading)
            return reading
        elapsed = max(0.0, time - state.reading.time)
        weight = 1.0 if self._time_constant == 0 else -math.expm1(-elapsed / self._time_constant)
        state.scores = state.scores + weight * (new - state.scores)
        state.reading = _reading(self._choose(state), state.scores, time)
        return state.reading

    def _choose(self, state: _State) -> str:
        """The expression that stands."""
        if self._time_constant == 0:
            return self._pick(state.scores, shown=None)
        stands = state.reading.expression
        candidate = self._pick(state.scores, shown=stands)
        again, state.challenger = candidate == state.challenger, None
        if candidate == stands or again:
            return candidate
        state.challenger = candidate
        return stands

    def last(self, track: int) -> Reading | None:
        """What `update` said last of a track; None for one that it never saw."""
        state = self._states.get(track)
        return None if state is None else state.reading

    def forget(self, track: int) -> None:
        """Drop a track that is gone."""
        self._states.pop(track, None)

    def _pick(self, scores: NDArray[np.float64], *, shown: str | None) -> str:
        """The label that the scores speak for, with the benefit of the doubt for the one that is shown."""
        best = int(scores.argmax())
        label, score, threshold = self._labels[best], scores[best], self._thresholds[best]
        if shown is not None and shown != UNCERTAIN:
            held = self._labels.index(shown)
            if score - scores[held] < MARGIN and scores[held] >= self._thresholds[held]:
                return shown
        if score < threshold:
            return UNCERTAIN
        if shown == UNCERTAIN:
            return label if score >= min(threshold + MARGIN, 1.0) else UNCERTAIN
        return label


def _reading(expression: str, scores: NDArray[np.float64], time: float) -> Reading:
    return Reading(expression, float(scores.max()), scores.astype(np.float32), time)
