"""Boxes over time -> tracks: which face in this frame is which face of the frame before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

from edge.frame import Box, Face, Frame

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_IOU = 0.3
"""Boxes that overlap less than this are never the same face. Haar's boxes jitter by about a tenth of their side."""

_TICK = 1e-3
"""Seconds that frame times may be off by rounding (some containers count in milliseconds)."""


class FaceDetector(Protocol):
    """What a tracker needs of a detector."""

    def detect(self, gray: NDArray[np.uint8]) -> list[Box]:
        """The faces in `uint8[H, W]`."""
        ...


@dataclass(slots=True)
class _Track:
    box: Box
    born: float
    seen: float
    number: int | None = None
    """None until the face is confirmed."""


class Tracker:
    """Looks for faces in every frame and gives each a number that it keeps.

    A box becomes a face once it has been found in frame after frame for `confirm` seconds; a single miss before that
    discards it, since Haar's false positives flicker. A confirmed face that is missed keeps its last box and is still
    returned, with `seen=False`, until it has been missed for more than `patience` seconds: a blink of the detector is
    not a person who left. Numbers count from 1 and are never used again.
    """

    def __init__(self, detector: FaceDetector, *, confirm: float = 0.1, patience: float = 1.0) -> None:
        """Make a tracker without faces.

        Args:
            detector: finds boxes in one frame.
            confirm: seconds for which a face must be found without a break; 0 believes the first sight.
            patience: seconds for which a confirmed face may be missed.
        """
        self._detector = detector
        self._confirm = confirm
        self._patience = patience
        self._tracks: list[_Track] = []
        self._numbers = count(1)

    def update(self, frame: Frame) -> list[Face]:
        """Look at the next frame; the confirmed faces, by number."""
        boxes = self._detector.detect(frame.gray)
        pairs = associate([track.box for track in self._tracks], boxes)
        for known, found in pairs.items():
            self._tracks[known].box = boxes[found]
            self._tracks[known].seen = frame.time
        self._tracks = [track for track in self._tracks if self._is_kept(track, frame.time)]
        new = set(range(len(boxes))) - set(pairs.values())
        self._tracks += [_Track(boxes[found], born=frame.time, seen=frame.time) for found in sorted(new)]
        for track in self._tracks:
            if track.number is None and frame.time - track.born >= self._confirm - _TICK:
                track.number = next(self._numbers)
        faces = [
            Face(track.box, track.number, seen=track.seen == frame.time)
            for track in self._tracks
            if track.number is not None
        ]
        return sorted(faces, key=lambda face: face.track)

    def _is_kept(self, track: _Track, now: float) -> bool:
        if track.number is None:
            return track.seen == now
        return now - track.seen <= self._patience + _TICK


def associate(known: Sequence[Box], found: Sequence[Box], min_iou: float = MIN_IOU) -> dict[int, int]:
    """Pair boxes one to one, the best overlap first.

    Args:
        known: boxes of the frame before.
        found: boxes of this frame.
        min_iou: least intersection over union of a pair.

    Returns:
        Index in `known` -> index in `found`; of equal overlaps the earlier boxes are paired.
    """
    overlaps = sorted(
        (-old.iou(new), i, j) for i, old in enumerate(known) for j, new in enumerate(found) if old.iou(new) >= min_iou
    )
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in overlaps:
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return pairs
