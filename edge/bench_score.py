"""Who found which faces: one pipeline's boxes against the other's, and both against where the faces are.

A sequence holds one list of boxes for each frame, in the frames' order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.frame import Box

SAME_IOU = 0.4
"""From this overlap on, two pipelines found one and the same face."""

TRUE_IOU = 0.3
"""From this overlap with a face on, a box is no false one.

A box of 1.8 times the face's side about the same centre still passes, since hands draw faces wider or closer than Haar
does. Half the side, such as Haar's boxes on a mouth, does not, and neither does a box that is half a side off.
"""

STABLE, NEIGHBORS = 5, 7
"""A face is stable that is found in so many of so many neighbouring frames."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Where the faces are in one frame.

    Attributes:
        faces: those that are to be found.
        doubtful: those that may be found or not: half hidden, turned away, at the frame's edge.
    """

    faces: Sequence[Box]
    doubtful: Sequence[Box] = ()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How often two pipelines found the same face; each face counts once a frame.

    Attributes:
        both: found by both.
        first: found by the first alone.
        second: found by the second alone.
    """

    both: int
    first: int
    second: int


@dataclass(frozen=True, slots=True)
class Recall:
    """How many of the faces that were to be found were found.

    Attributes:
        faces: how many were to be found, counted in every frame.
        missed: the frames' places in the sequence at which one was missed, one entry for each face.
    """

    faces: int
    missed: tuple[int, ...]

    @property
    def share(self) -> float | None:
        """Found over all, 0.0 to 1.0; None where there was nothing to find."""
        return 1.0 - len(self.missed) / self.faces if self.faces else None


def pairs(known: Sequence[Box], found: Sequence[Box], min_iou: float) -> int:
    """How many boxes of one list can be paired one to one with boxes of the other (Kuhn's augmenting paths).

    Args:
        known: the one list.
        found: the other.
        min_iou: least intersection over union of a pair.
    """
    near = [[at for at, box in enumerate(found) if box.iou(other) >= min_iou] for other in known]
    partner: dict[int, int] = {}

    def takes(one: int, asked: set[int]) -> bool:
        for at in near[one]:
            if at not in asked:
                asked.add(at)
                if at not in partner or takes(partner[at], asked):
                    partner[at] = one
                    return True
        return False

    return sum(takes(one, set()) for one in range(len(known)))


def agreement(first: Sequence[Sequence[Box]], second: Sequence[Sequence[Box]]) -> Agreement:
    """Pair the two pipelines' boxes frame by frame, one to one.

    Args:
        first: one pipeline's boxes.
        second: the other's, of the same frames.
    """
    both = sum(pairs(one, other, SAME_IOU) for one, other in zip(first, second, strict=True))
    return Agreement(both, sum(map(len, first)) - both, sum(map(len, second)) - both)


def stable_faces(found: Sequence[Sequence[Box]]) -> list[list[Box]]:
    """The boxes that are no flicker: found in at least 5 of the 7 neighbouring frames, their own in the middle.

    At either end the 7 frames nearest to it count; fewer than 5 frames hold no stable face.

    Args:
        found: one pipeline's boxes.

    Returns:
        Those of each frame that are stable.
    """
    kept = []
    for at, boxes in enumerate(found):
        begin = max(0, min(at - NEIGHBORS // 2, len(found) - NEIGHBORS))
        window = found[begin : begin + NEIGHBORS]
        kept.append([box for box in boxes if sum(_holds(others, box) for others in window) >= STABLE])
    return kept


def recall(wanted: Sequence[Sequence[Box]], found: Sequence[Sequence[Box]], min_iou: float = SAME_IOU) -> Recall:
    """How many of the wanted boxes were found, one to one.

    Args:
        wanted: the boxes that were to be found.
        found: a pipeline's boxes, of the same frames.
        min_iou: least overlap of a pair.
    """
    missed: list[int] = []
    for at, (boxes, others) in enumerate(zip(wanted, found, strict=True)):
        missed += [at] * (len(boxes) - pairs(boxes, others, min_iou))
    return Recall(sum(map(len, wanted)), tuple(missed))


def false_faces(truth: Sequence[Truth], found: Sequence[Sequence[Box]]) -> list[int]:
    """How many boxes of each frame are on no face, or on one that another box is on already.

    Args:
        truth: where the faces are.
        found: a pipeline's boxes, of the same frames.
    """
    return [
        len(boxes) - pairs([*known.faces, *known.doubtful], boxes, TRUE_IOU)
        for known, boxes in zip(truth, found, strict=True)
    ]


def _holds(boxes: Sequence[Box], box: Box) -> bool:
    return any(box.iou(other) >= SAME_IOU for other in boxes)
