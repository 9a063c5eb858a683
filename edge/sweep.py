"""Where and when Haar looks for faces that nobody knows yet.

The frame is divided, for each octave of face sizes, into tiles that cost about the same. A tile in which something has
changed since it was last searched is searched within `reach` seconds, one in which nothing has once in `rest` seconds,
so that the work is spread over the frames and follows what moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, inf

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.detector import Detector, Hit
from edge.frame import Box
from edge.pyramid import Pyramid

STEP = 1.26
"""Between two sizes, three to an octave: coarse, since whatever is found is looked at again more closely."""

NEIGHBORS = 1

SIDES = (26, 29)
"""Sides in searched pixels of the smallest face, one look after the other: half a step apart, so that the sizes that
one look leaves out are the next one's. At the 24 pixels of the cascade's own window OpenCV, which looks at every second
pixel there, misses more."""

TILE = 192
"""Side of a tile in searched pixels at most, without the rim that its neighbours search too."""

CHANGED = 6
"""Grey levels by which a block must differ to have changed; a camera's noise, averaged over a block, stays below 2."""

AROUND = 1.2
"""How much larger than its box a known face is taken to be: hair and chin move with it, and cost Haar as much."""

FEW = 3
"""So many changed blocks are no face: the smallest one covers 16."""

CUT_CHANGED, CUT_ALIKE = 0.3, 0.5
"""A frame shows another scene from this share of changed blocks on, if it correlates with the one before by less than
this: a camera that pans stays above 0.7, cuts lie below 0.3, and light that is switched on changes blocks alone."""

AGAIN = 2
"""How often a tile is searched after the last change in it: Haar misses a face in one frame and finds it in another."""

_NOTHING = Box(0, 0, 0, 0)


@dataclass(slots=True)
class _Octave:
    """Faces of `smallest` to twice as many pixels.

    Attributes:
        smallest: side in pixels.
        known: the motion map as it was when each part of it was searched.
        changed: 1 for the blocks that differ from that by now, but for those inside known faces.
    """

    smallest: int
    known: NDArray[np.uint8]
    changed: NDArray[np.uint8]


@dataclass(slots=True)
class _Tile:
    """A part of the frame and the faces that are looked for in it: those whose middle lies in `core`.

    Attributes:
        octave: the faces' sizes.
        core: in pixels.
        blocks: rows and columns of the motion map.
        searched: when it last was.
        since: since when it waits to be searched for a change in it; None: it does not.
        part: what of `core` has changed.
        left: searches to come even if nothing changes any more.
        looks: how often it was searched.
    """

    octave: _Octave
    core: Box
    blocks: tuple[slice, slice]
    searched: float
    since: float | None
    part: Box
    left: int = AGAIN
    looks: int = 0


class Sweep:
    """Looks for new faces, a few tiles a frame: for each frame `notice`, then `search`.

    Args:
        detector: finds boxes in a part of a frame.
        reach: seconds within which a change is looked at; 0: in the same frame.
        rest: seconds between two searches of what does not change.
    """

    def __init__(self, detector: Detector, *, reach: float, rest: float) -> None:
        self._detector = detector
        self._reach = reach
        self._rest = rest
        self._layout: tuple[int, int, int] | None = None
        self._level = 0
        self._whole = -inf
        self._map: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)
        self._octaves: list[_Octave] = []
        self._tiles: list[_Tile] = []

    def forget(self) -> None:
        """Take the next frame for one of another scene."""
        self._layout = None

    def notice(self, pyramid: Pyramid, smallest: int, now: float) -> bool:
        """Take a frame in, without looking for anything.

        Args:
            pyramid: the frame.
            smallest: side in pixels of the smallest face that is to be found.
            now: the frame's time in seconds, which never runs backwards.

        Returns:
            Whether it shows another scene than the frame before, or has another size.
        """
        layout = (*pyramid.size, smallest)
        cut = layout != self._layout
        before = self._map
        if cut:
            self._layout = layout
            self._lay_out(*layout, now)
            self._whole = -inf
        if not self._tiles:
            return cut
        self._map = pyramid.level(self._level)
        return cut or (
            cv2.countNonZero(_differ(self._map, before)) > CUT_CHANGED * self._map.size
            and float(cv2.matchTemplate(self._map, before, cv2.TM_CCOEFF_NORMED)[0, 0]) < CUT_ALIKE
        )

    def search(
        self, pyramid: Pyramid, now: float, elapsed: float, known: Sequence[Box], *, whole: bool = False
    ) -> list[Hit]:
        """Look at the parts of the frame whose turn it is.

        Args:
            pyramid: the frame that was noticed last.
            now: its time in seconds.
            elapsed: seconds since the frame before.
            known: faces that are being followed; a movement inside them is no reason to look.
            whole: look at all that has changed at once, unless that was done less than `reach` ago.

        Returns:
            What may be faces.
        """
        known = [_enlarged(box) for box in known]
        self._mark(now, known)
        if whole and now - self._whole >= self._reach:
            self._whole = now
            due = [tile for tile in self._tiles if tile.since is not None]
        else:
            due = self._due(now, elapsed)
        return [hit for tile in due for hit in self._search(pyramid, tile, now, known)]

    def _lay_out(self, width: int, height: int, smallest: int, now: float) -> None:
        """Divide a frame; all of it has changed."""
        self._octaves, self._tiles = [], []
        # Four blocks and more across the smallest face.
        self._level = (smallest // 4).bit_length() - 1
        while smallest <= min(width, height):
            known = np.zeros((height >> self._level, width >> self._level), np.uint8)
            self._octaves.append(_Octave(smallest, known, known))
            across, down = (ceil(side * SIDES[0] / smallest / TILE) for side in (width, height))
            for row, column in product(range(down), range(across)):
                left, right = (width * at // across for at in (column, column + 1))
                top, bottom = (height * at // down for at in (row, row + 1))
                core = Box(left, top, right - left, bottom - top)
                self._tiles.append(
                    _Tile(self._octaves[-1], core, self._blocks(core), searched=now, since=now, part=core)
                )
            smallest *= 2

    def _blocks(self, box: Box) -> tuple[slice, slice]:
        """Rows and columns of the motion map that a box touches."""
        left, top = max(0, box.x) >> self._level, max(0, box.y) >> self._level
        right, bottom = (box.x + box.width - 1) >> self._level, (box.y + box.height - 1) >> self._level
        return slice(top, max(top, bottom) + 1), slice(left, max(left, right) + 1)

    def _mark(self, now: float, known: Sequence[Box]) -> None:
        """Mark the tiles in which something has changed since they were searched."""
        covered = [self._blocks(box) for box in known]
        for octave in self._octaves:
            octave.changed = _differ(self._map, octave.known)
            for blocks in covered:
                octave.changed[blocks] = 0
        for tile in self._tiles:
            if tile.since is None and cv2.countNonZero(tile.octave.changed[tile.blocks]) > FEW:
                tile.since, tile.left = now, AGAIN

    def _due(self, now: float, elapsed: float) -> list[_Tile]:
        """The tiles whose turn it is, those that have waited longest first."""
        waiting = [(tile.since, number) for number, tile in enumerate(self._tiles) if tile.since is not None]
        still = [(tile.searched, number) for number, tile in enumerate(self._tiles) if tile.since is None]
        some = ceil(len(waiting) * min(1.0, elapsed / self._reach)) if self._reach else len(waiting)
        few = ceil(len(still) * min(1.0, elapsed / self._rest))
        due = sorted(waiting)[:some] + [(at, number) for at, number in sorted(still)[:few] if now - at >= self._rest]
        return [self._tiles[number] for _, number in due]

    def _search(self, pyramid: Pyramid, tile: _Tile, now: float, known: Sequence[Box]) -> list[Hit]:
        part = tile.core
        if tile.since is not None:
            part = tile.part = _around(tile.part, self._changed_part(tile))
            tile.left -= 1
            tile.since = now if tile.left > 0 else None
        if tile.since is None:
            tile.part = _NOTHING
        tile.octave.known[tile.blocks] = self._map[tile.blocks]
        tile.searched = now
        tile.looks += 1
        smallest = tile.octave.smallest
        return self._detector.search(
            pyramid,
            Box(part.x - smallest, part.y - smallest, part.width + 2 * smallest, part.height + 2 * smallest),
            scale=SIDES[tile.looks % len(SIDES)] / smallest,
            smallest=smallest,
            largest=2 * smallest,
            step=STEP,
            neighbors=NEIGHBORS,
            without=known,
        )

    def _changed_part(self, tile: _Tile) -> Box:
        """The smallest box around the changed blocks of a tile, in pixels."""
        left, top, width, height = cv2.boundingRect(tile.octave.changed[tile.blocks])
        rows, columns = tile.blocks
        level = self._level
        return Box((columns.start + left) << level, (rows.start + top) << level, width << level, height << level)


def _enlarged(box: Box) -> Box:
    more = round(box.width * (AROUND - 1) / 2)
    return Box(box.x - more, box.y - more, box.width + 2 * more, box.height + 2 * more)


def _differ(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 for the blocks of two motion maps that differ, else 0."""
    return cv2.threshold(cv2.absdiff(one, other), CHANGED, 1, cv2.THRESH_BINARY)[1]  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number


def _around(one: Box, other: Box) -> Box:
    """The smallest box around two; an empty one counts for nothing."""
    if not one.area or not other.area:
        return one if one.area else other
    left, top = min(one.x, other.x), min(one.y, other.y)
    right, bottom = max(one.x + one.width, other.x + other.width), max(one.y + one.height, other.y + other.height)
    return Box(left, top, right - left, bottom - top)
