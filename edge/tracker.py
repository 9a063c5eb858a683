"""Faces over time: which face in this frame is which face of the frame before, and where Haar looks for it.

A known face is followed from frame to frame by its looks (`edge.looks`), which costs next to nothing. Haar looks at it
again a few times a second, and at once where it is lost, so no face is believed on its looks alone. `edge.sweep` finds
those whom nobody knows yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from math import expm1, floor, log

from edge.detector import SMALLEST, Detector, Hit
from edge.eyes import Eyes
from edge.frame import Box, Face, Frame
from edge.looks import Looks
from edge.pyramid import Pyramid
from edge.sweep import Sweep

MIN_IOU = 0.3
"""Boxes that overlap less than this are not the same face. Haar's boxes jitter by about a tenth of their side."""

CHECK = 0.2
"""Seconds between two looks of Haar at a face that is followed."""

RETRY = 0.065
"""Seconds between two searches for a face that is lost: every second frame of a quick camera."""

CLOSE, WIDE = 1.1, 1.2
"""Sizes that are tried for a known face, and for a lost or new one: up to so many times larger and smaller."""

BELIEVED, EXPECTED = 3, -2
"""Neighbours that make a face of what nobody knows yet, and of one that should be there, beside the detector's own
number. So closely sought, faces have 20 and more of them, and what is none from 4 to 15."""

SPEED = 3.0
"""Sides of its box per second that a face may move without being lost."""

STEADY = 0.15
"""Seconds over which a face's drift is averaged: boxes jitter."""

LEAVING = 0.85
"""A lost face of which less than this share should still be in the picture has left it: Haar needs all of a face."""

FIRMNESS = 0.7
"""How much of `_Track.trust` outlasts one look of Haar."""

FULL_SUPPORT = 20
"""Support beyond this adds no trust."""

LARGER = 1.2
"""So much larger must a new face be to take the place of one that is followed, where there are too many."""

_TICK = 1e-3
"""Seconds that frame times may be off by rounding (some containers count in milliseconds)."""

_LEAST = 1e-6
"""Seconds between two frames, at least."""


@dataclass(slots=True)
class _Track:
    """A face, or what may be one. Times are the tracker's own.

    Attributes:
        box: where it is, or was when it was last seen.
        looks: what it looked like when Haar last found it.
        trust: running mean of the support that Haar's hits had; falls when Haar finds nothing.
        born: when it was first found.
        seen: when it was last found or recognised.
        found: when Haar last found it.
        sought: when Haar last looked for it.
        number: None until it is confirmed.
        eyes: whether an eye was seen in it.
        drift: pixels per second, to the right and down.
    """

    box: Box
    looks: Looks
    trust: float
    born: float
    seen: float
    found: float
    sought: float
    number: int | None = None
    eyes: bool = False
    drift: tuple[float, float] = (0.0, 0.0)

    def place(self, now: float) -> tuple[float, float]:
        """Where its middle should be by now."""
        x, y = self.box.middle
        return (x + self.drift[0] * (now - self.seen), y + self.drift[1] * (now - self.seen))

    def move(self, box: Box, now: float) -> None:
        """It was seen at `box`."""
        away = now - self.seen
        if away > 0:
            speed = ((new - old) / away for new, old in zip(box.middle, self.box.middle, strict=True))
            weight = -expm1(-away / STEADY)
            right, down = (old + weight * (new - old) for old, new in zip(self.drift, speed, strict=True))
            self.drift = (right, down)
        self.box, self.seen = box, now

    def take(self, hit: Hit, pyramid: Pyramid, now: float) -> None:
        """Haar found it."""
        self.move(hit.box, now)
        self.found = now
        self.trust = FIRMNESS * self.trust + (1 - FIRMNESS) * min(hit.support, FULL_SUPPORT)
        self.looks = Looks(pyramid, hit.box)


class Tracker:
    """Follows faces and gives each a number that it keeps.

    A new face counts once Haar has found it in frame after frame for `confirm` seconds; a single miss before that
    discards it, since Haar's false positives flicker. A confirmed face that is missed keeps its last box and is still
    returned, with `seen=False`, until it has been missed for more than `patience` seconds, or should have left the
    picture: a blink of the detector is not a person who left. Numbers count from 1 and are never used again. When the
    frame shows another scene (a cut), only those are kept whom Haar finds in it where they were.

    Args:
        detector: Haar.
        confirm: seconds for which a new face must be found without a break; 0 believes the first sight.
        patience: seconds for which a confirmed face may be missed.
        notice: seconds within which a new face is returned, from when Haar can find it; two frames and `confirm` at
            the least.
        rest: seconds after which also those parts of the frame are searched in which nothing moves.
        most: faces that are followed at the same time; of more, the largest.
        eyes: a new face counts only once this has seen an eye in it; None: eyes do not matter.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        confirm: float = 0.1,
        patience: float = 1.0,
        notice: float = 0.5,
        rest: float = 4.0,
        most: int = 32,
        eyes: Eyes | None = None,
    ) -> None:
        self._detector = detector
        self._eyes = eyes
        self._confirm = confirm
        self._patience = patience
        self._most = most
        self._sweep = Sweep(detector, reach=max(0.0, notice - confirm), rest=rest)
        self._tracks: list[_Track] = []
        self._numbers = count(1)
        self._now = 0.0
        self._last: float | None = None

    def forget(self) -> None:
        """Know nobody any more; whoever is in the next frame is somebody new. Numbers go on."""
        self._tracks, self._last = [], None
        self._sweep.forget()

    def update(self, frame: Frame) -> list[Face]:
        """Look at the next frame; the confirmed faces, by number."""
        # A clock of our own that always runs: one that stands or jumps back must neither stop the search nor keep the
        # gone alive, and whoever was seen in the frame before is not for that seen in this one.
        elapsed = 0.0 if self._last is None else max(_LEAST, frame.time - self._last)
        self._now, self._last = self._now + elapsed, frame.time
        pyramid = Pyramid(frame.gray)
        smallest = max(SMALLEST, round(self._detector.min_face * frame.whole[1]))
        cut = self._sweep.notice(pyramid, smallest, self._now)
        for track in self._tracks:
            self._follow(track, pyramid, elapsed)
        for track in self._tracks:
            self._check(track, pyramid, at_once=cut)
        self._tracks = [track for track in self._tracks if self._is_kept(track, pyramid, cut=cut)]
        hits = self._sweep.search(pyramid, self._now, elapsed, self._in_sight(), whole=cut)
        self._welcome(hits, pyramid)
        self._tracks = _apart(self._tracks, self._now)
        return self._confirmed()

    def _in_sight(self, but: _Track | None = None) -> list[Box]:
        return [track.box for track in self._tracks if track is not but and track.seen == self._now]

    def _follow(self, track: _Track, pyramid: Pyramid, elapsed: float) -> None:
        """Recognise a face near where it should be by now."""
        if track.number is None:
            return  # only Haar can confirm it
        middle = track.looks.find(pyramid, track.place(self._now), far=min(1.0, 0.15 + SPEED * elapsed))
        if middle is not None:
            track.move(track.box.moved_to(*middle), self._now)

    def _check(self, track: _Track, pyramid: Pyramid, *, at_once: bool) -> None:
        """Let Haar look at a face that is new, lost, or was not looked at for long."""
        lost = track.number is not None and track.seen < self._now
        pause = 0.0 if at_once or track.number is None else RETRY if lost else CHECK
        if self._now - track.sought < pause - _TICK:
            return
        track.sought = self._now
        box = track.box.moved_to(*track.place(self._now)) if lost else track.box
        if lost or track.number is None:
            hits = self._seek(pyramid, box, far=0.4, spread=WIDE, beside=EXPECTED if lost else BELIEVED)
        else:
            hits = self._seek(pyramid, box, far=0.1, spread=CLOSE, beside=EXPECTED)
        others = self._in_sight(but=track)
        free = [hit for hit in hits if not any(hit.box.iou(other) >= MIN_IOU for other in others)]
        near = [hit for hit in free if hit.box.iou(box) >= (0.1 if lost else MIN_IOU)]
        if near:
            track.take(max(near, key=lambda hit: hit.box.iou(box)), pyramid, self._now)
            self._look_into_the_eyes(track, pyramid)
        else:
            track.trust *= FIRMNESS

    def _look_into_the_eyes(self, track: _Track, pyramid: Pyramid) -> None:
        """Only until they were seen once: who shuts them is no less of a face."""
        track.eyes = track.eyes or self._eyes is None or self._eyes.are_in(pyramid, track.box)

    def _seek(self, pyramid: Pyramid, box: Box, *, far: float, spread: float, beside: int) -> list[Hit]:
        """Let Haar look closely at one place, for a face of about one size."""
        room = round(box.width * far)
        step = self._detector.scale_factor
        scale, spread = _ladder(step, spread)
        return self._detector.search(
            pyramid,
            Box(box.x - room, box.y - room, box.width + 2 * room, box.height + 2 * room),
            scale=scale / box.width,
            smallest=round(box.width / spread),
            largest=round(box.width * spread),
            step=step,
            neighbors=max(1, self._detector.min_neighbors + beside),
        )

    def _is_kept(self, track: _Track, pyramid: Pyramid, *, cut: bool) -> bool:
        if track.number is None or cut:
            return track.found == self._now
        if self._now - track.seen > self._patience + _TICK:
            return False
        if self._now - track.found > CHECK + self._patience + _TICK:
            return False  # its looks alone are not believed for longer
        there = track.box.moved_to(*track.place(self._now))
        return track.seen == self._now or there.within(*pyramid.size).area >= LEAVING * there.area

    def _welcome(self, hits: Iterable[Hit], pyramid: Pyramid) -> None:
        """Take in whom the sweep has found: somebody who was lost, or somebody new, if a closer look confirms it."""
        for hit in hits:
            if any(_same(hit.box, known) for known in self._in_sight()):
                continue
            close = self._seek(pyramid, hit.box, far=0.25, spread=WIDE, beside=BELIEVED)
            new = [hit for hit in close if not any(_same(hit.box, known) for known in self._in_sight())]
            if not new:
                continue
            best = max(new, key=lambda hit: hit.support)
            lost = [track for track in self._tracks if track.seen < self._now and self._could_be(track, best.box)]
            if lost:
                max(lost, key=lambda track: best.box.iou(track.box)).take(best, pyramid, self._now)
            else:
                looks, now = Looks(pyramid, best.box), self._now
                track = _Track(best.box, looks, best.support / 2, born=now, seen=now, found=now, sought=now)
                self._look_into_the_eyes(track, pyramid)
                self._tracks.append(track)

    def _could_be(self, track: _Track, box: Box) -> bool:
        """Whether a lost face can have moved to `box`."""
        far = max(abs(new - old) for new, old in zip(box.middle, track.box.middle, strict=True))
        near = far < track.box.width * (0.5 + SPEED * (self._now - track.seen))
        return near and 1 / 1.5 < box.width / track.box.width < 1.5

    def _largest(self, tracks: Sequence[_Track]) -> list[_Track]:
        """The confirmed ones that there is room for, and the new ones that may have a place once they are confirmed."""
        by_size = sorted(tracks, key=lambda track: -track.box.width)
        known = [track for track in by_size if track.number is not None][: self._most]
        # Until it is confirmed nobody makes room for it: Haar's false positives flicker.
        least = LARGER * known[-1].box.width if len(known) == self._most else 0.0
        new = [track for track in by_size if track.number is None and track.box.width >= least]
        return known + new[: self._most]

    def _confirmed(self) -> list[Face]:
        for track in self._tracks:
            if track.number is None and track.eyes and self._now - track.born >= self._confirm - _TICK:
                track.number = next(self._numbers)
        self._tracks = self._largest(self._tracks)
        faces = [
            Face(track.box, track.number, seen=track.seen == self._now)
            for track in self._tracks
            if track.number is not None
        ]
        return sorted(faces, key=lambda face: face.track)


@cache
def _ladder(step: float, spread: float) -> tuple[float, float]:
    """How large a face is to be searched, and the bounds of the sizes beside it.

    OpenCV tries 24 pixels times the powers of `step`. A face is scaled to one of these, with as many tried below as
    above it, and so large that even a slightly smaller one is tried at every pixel: up to 48 pixels it is at every
    second one alone, and an unequal share of them would make boxes too large by up to a fifth.

    Args:
        step: between two sizes.
        spread: see `CLOSE`.

    Returns:
        Its side in searched pixels, and the factor by which others may be larger or smaller.
    """
    dense = floor(log(2) / log(step)) + 1
    beside = [max(1, round(log(factor) / log(step))) for factor in (CLOSE, spread)]
    return SMALLEST * step ** (dense + beside[0]), step ** (beside[1] + 0.3)


def _apart(tracks: Sequence[_Track], now: float) -> list[_Track]:
    """All but those that follow a face that a better track follows."""
    kept: list[_Track] = []
    for track in sorted(tracks, key=lambda track: (track.number is None, track.seen < now, -track.trust)):
        rivals = [other for other in kept if other.seen == now and _same(track.box, other.box)]
        # Somebody who was seen beside the other and is lost now stands behind him.
        hidden = track.seen < now and all(other.born < track.seen for other in rivals)
        if not rivals or hidden:
            kept.append(track)
    return kept


def _same(one: Box, other: Box) -> bool:
    """Whether two boxes are of one face: they overlap, or one lies about the middle of the other."""
    if one.iou(other) >= MIN_IOU:
        return True
    small, large = sorted((one, other), key=lambda box: box.width)
    return all(abs(a - b) < large.width / 4 for a, b in zip(small.middle, large.middle, strict=True))
