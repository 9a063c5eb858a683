"""Which events of one run are another's, where both looked at the same frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from edge.frame import Box

LEAST_IOU = 0.9

SAME = ("type", "track", "expression", "previous", "frame")
"""What a pair of events must share beside their place."""

NOT_TOLD = ("id", "ts", "clock_synced")
"""What differs between two runs even where they saw the same."""

NEAR = timedelta(milliseconds=2)
"""`ts` is cut off at milliseconds."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two runs' events are.

    Attributes:
        events: how many there are on either side.
        matched: pairs.
        identical: of these, those that differ in nothing but their id and what the clock said: scores are equal to the
            last digit, and both came equally long after their run's first event.
        least_iou: of a matched pair's boxes; None without any pair.
        most_off: the largest difference between two matched events' scores for one label.
    """

    events: tuple[int, int]
    matched: int
    identical: int
    least_iou: float | None
    most_off: float

    @property
    def share(self) -> float:
        """Matched pairs over the events of the side that has more of them; nothing on either side is no match."""
        return self.matched / max(self.events) if max(self.events) else 0.0


def compare(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> Comparison:
    """Match two runs' events in their order.

    Args:
        one: a run's events, as their JSON has them.
        other: another's.
    """
    matched = [(one[left], other[right]) for left, right in _pairs(one, other)]
    return Comparison(
        events=(len(one), len(other)),
        matched=len(matched),
        identical=sum(
            _told(mine) == _told(theirs) and abs(_since(mine, one[0]) - _since(theirs, other[0])) <= NEAR
            for mine, theirs in matched
        ),
        least_iou=min((_iou(mine, theirs) for mine, theirs in matched), default=None),
        most_off=max(
            (
                abs(mine["scores"][label] - theirs["scores"][label])
                for mine, theirs in matched
                for label in mine["scores"]
            ),
            default=0.0,
        ),
    )


def _pairs(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The longest common subsequence: as many pairs as there can be without one crossing another."""
    longest = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    alike = [[_match(mine, theirs) for theirs in other] for mine in one]
    for left in reversed(range(len(one))):
        for right in reversed(range(len(other))):
            longest[left][right] = (
                longest[left + 1][right + 1] + 1
                if alike[left][right]
                else max(longest[left + 1][right], longest[left][right + 1])
            )
    pairs, left, right = [], 0, 0
    while left < len(one) and right < len(other):
        if alike[left][right]:
            pairs.append((left, right))
            left, right = left + 1, right + 1
        elif longest[left + 1][right] >= longest[left][right + 1]:
            left += 1
        else:
            right += 1
    return pairs


def _match(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(key) == other.get(key) for key in SAME) and _iou(one, other) >= LEAST_IOU


def _iou(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return Box(*one["box"]).iou(Box(*other["box"]))


def _told(event: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in NOT_TOLD}


def _since(event: Mapping[str, Any], first: Mapping[str, Any]) -> timedelta:
    """How long after its run's first event it came, by the frames' own time."""
    return datetime.fromisoformat(event["ts"]) - datetime.fromisoformat(first["ts"])
