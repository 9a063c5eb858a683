"""What happens in front of a synthetic camera: each script says who and what stands where at any moment.

A script is written once for a frame's size, a number of faces and a seed, and is then a pure function of time. Its
places are in pixels, its speeds such as people have in front of a camera: about half a frame's width in a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, cos, floor, pi, sin, sqrt

import numpy as np

from edge.camera.sprites import CAST, PATCH, SAMPLE_FACES, THINGS, patch_of
from edge.frame import Box

PACE = 0.3
"""Frame widths that a person walks in a second, on average."""

SWEEP, SWEEP_SECONDS, REST_SECONDS = 1.2, 3.0, 1.0
"""A pan: frame widths it covers, in how long, and how long the camera rests then; 0.6 widths/s at its fastest."""

SHOT_SECONDS, ROOMS = 2.0, 4
"""Between two cuts, and the number of rooms that take turns."""

_SEAT = (0.25, 0.45)
"""Side of a face over the shorter side of the part of the frame that it is given."""


@dataclass(frozen=True, slots=True)
class Item:
    """Somebody or something in front of the camera.

    Attributes:
        sprite: which of the cast, or which of the things.
        box: of somebody the face, of something all of it; may reach over the frame's edge, or lie outside.
        who: the same number for the same person all the time; None for a thing.
    """

    sprite: int
    box: Box
    who: int | None = None

    @property
    def cover(self) -> Box:
        """The square around all that is painted."""
        return self.box if self.who is None else patch_of(self.box)


@dataclass(frozen=True, slots=True)
class Shot:
    """What the camera has in view at one moment.

    Attributes:
        items: from back to front.
        room: which background.
        pan: pixels by which the camera has turned to the right; the items' boxes know of it already.
        light: 1.0; less in the dark.
    """

    items: tuple[Item, ...]
    room: int = 0
    pan: int = 0
    light: float = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """What a script is written for: the frame's width and height, the number of faces, and chance."""

    width: int
    height: int
    faces: int
    rng: np.random.Generator


Play = Callable[[float], Shot]
"""Seconds since the beginning -> what is seen."""


@dataclass(frozen=True, slots=True)
class Script:
    """A script with what a scene takes from it unless told otherwise.

    Attributes:
        write: makes the play.
        faces: how many.
        noise: standard deviation of the sensor's noise in grey levels.
        breadth: the rooms' width over the frame's.
        rooms: how many backgrounds.
    """

    write: Callable[[Stage], Play]
    faces: int = 1
    noise: float = 2.0
    breadth: float = 1.0
    rooms: int = 1

    @property
    def defaults(self) -> Mapping[str, object]:
        """Options of a scene, see `edge.camera.scene.Scene`."""
        return {"faces": self.faces, "noise": self.noise}


@dataclass(frozen=True, slots=True)
class _Wave:
    """A smooth way to and fro between 0 and 1: two sines, slow enough for a person's movements."""

    slow: float
    quick: float
    phase: float

    def at(self, seconds: float) -> float:
        return 0.5 + 0.35 * sin(2 * pi * self.slow * seconds + self.phase) + 0.15 * sin(2 * pi * self.quick * seconds)


def _wave(rng: np.random.Generator) -> _Wave:
    return _Wave(slow=rng.uniform(0.05, 0.12), quick=rng.uniform(0.15, 0.3), phase=rng.uniform(0, 2 * pi))


def _cells(width: float, height: float, faces: int) -> list[tuple[float, float, float, float]]:
    """Split the frame into as many parts as there are faces, so that none hides another: x, y, width, height."""
    columns = min(faces, max(1, ceil(sqrt(faces * width / height)))) or 1
    rows = ceil(faces / columns)
    return [
        (index % columns * width / columns, index // columns * height / rows, width / columns, height / rows)
        for index in range(faces)
    ]


def _cast(stage: Stage) -> list[int]:
    """Who plays: everyone once before anyone comes a second time."""
    order = stage.rng.permutation(CAST)
    return [int(order[index % CAST]) for index in range(stage.faces)]


def _seats(stage: Stage, share: tuple[float, float] = _SEAT, breadth: float = 1.0) -> tuple[Item, ...]:
    """Everyone has a place of their own, whole inside the frame (or inside a room `breadth` times as wide)."""
    rng, items = stage.rng, []
    cells = _cells(stage.width * breadth, stage.height, stage.faces)
    for who, (sprite, (left, top, width, height)) in enumerate(zip(_cast(stage), cells, strict=True)):
        side = _side(min(width, height) * rng.uniform(*share))
        rim = side * (PATCH - 1) / 2  # so that the whole patch stays inside
        x, y = (at + rim + rng.random() * (room - side - 2 * rim) for at, room in ((left, width), (top, height)))
        items.append(Item(sprite, Box(round(x), round(y), side, side), who))
    return tuple(items)


def _side(about: float) -> int:
    """A face's side whose patch is wider by an even number of pixels, so that face and patch move as one."""
    side = max(1, round(about))
    while (round(side * PATCH) - side) % 2:
        side += 1
    return side


def _moved(item: Item, x: float, y: float) -> Item:
    box = item.box
    return Item(item.sprite, Box(round(box.x + x), round(box.y + y), box.width, box.height), item.who)


def _drift(stage: Stage) -> Play:
    """Everyone moves to and fro and nearer and farther, each in a part of the frame."""
    cells = _cells(stage.width, stage.height, stage.faces)
    waves = [[_wave(stage.rng) for _ in range(3)] for _ in range(stage.faces)]

    def play(seconds: float) -> Shot:
        items = []
        for who, ((left, top, width, height), (across, down, nearer)) in enumerate(zip(cells, waves, strict=True)):
            side = max(1, round(min(width, height) * (0.3 + 0.25 * nearer.at(seconds))))
            rim = side * (PATCH - 1) / 2
            x = left + rim + across.at(seconds) * (width - side - 2 * rim)
            y = top + rim + down.at(seconds) * (height - side - 2 * rim)
            items.append(Item(who % (2 * len(SAMPLE_FACES)), Box(round(x), round(y), side, side), who))
        return Shot(tuple(items))

    return play


def _still(stage: Stage) -> Play:
    """Everyone is there from the first frame and does not move at all."""
    shot = Shot(_seats(stage))
    return lambda seconds: shot


def _way_out(stage: Stage, item: Item) -> tuple[float, float, float]:
    """From a seat to just outside the left, right or upper edge: pixels across and down, and seconds."""
    cover = item.cover
    x, y = (
        (-cover.x - cover.width, 0),
        (stage.width - cover.x, 0),
        (0, -cover.y - cover.height),
    )[(item.who or 0) % 3]
    return x, y, max(abs(x), abs(y)) / (PACE * stage.width)


def _enter(stage: Stage) -> Play:
    """An empty room; one after another comes in over the left, right or upper edge, slows down and stays."""
    seats = _seats(stage)
    ways = [_way_out(stage, item) for item in seats]

    def play(seconds: float) -> Shot:
        items = []
        for index, (item, (x, y, duration)) in enumerate(zip(seats, ways, strict=True)):
            done = (seconds - 1.0 - 1.5 * index) / duration
            if done > 0:
                left = max(0.0, 1 - done) ** 2
                items.append(_moved(item, x * left, y * left))
        return Shot(tuple(items))

    return play


def _leave(stage: Stage) -> Play:
    """Everyone is there; one after another goes out over the left, right or upper edge."""
    seats = _seats(stage)
    ways = [_way_out(stage, item) for item in seats]

    def play(seconds: float) -> Shot:
        items = []
        for index, (item, (x, y, duration)) in enumerate(zip(seats, ways, strict=True)):
            done = max(0.0, (seconds - 1.0 - 1.5 * index) / duration)
            if done < 1:
                items.append(_moved(item, x * done**2, y * done**2))
        return Shot(tuple(items))

    return play


def _cross(stage: Stage) -> Play:
    """In pairs, two of about one size pass each other to and fro, one in front of the other."""
    bands = max(1, ceil(stage.faces / 2))
    high = stage.height / bands
    cast = _cast(stage)
    base = min(high, stage.width / 2) * stage.rng.uniform(0.3, 0.4)
    start = stage.rng.uniform(0.0, 0.5)

    def play(seconds: float) -> Shot:
        items = []
        for who, sprite in enumerate(cast):
            behind = who % 2 == 0
            side = _side(base * (0.92 if behind else 1.0))
            reach = (stage.width - PATCH * side) / 2
            x = stage.width / 2 + (reach if behind else -reach) * cos(2 * pi * (seconds + start) / 8.0) - side / 2
            y = high * (who // 2 + 0.5) - side / 2 - (0.1 * side if behind else 0.0)
            items.append(Item(sprite, Box(round(x), round(y), side, side), who))
        return Shot(tuple(items))

    return play


def _pair(stage: Stage) -> Play:
    """A row of faces, cheek by cheek, each moving by a few pixels."""
    cast, faces = _cast(stage), max(1, stage.faces)
    step = min(stage.height * stage.rng.uniform(0.3, 0.4), stage.width / (faces + 0.5))
    side = _side(step / 1.2)
    left, top = (stage.width - faces * step) / 2, (stage.height - side) / 2
    row = [Item(sprite, Box(round(left + who * step), round(top), side, side), who) for who, sprite in enumerate(cast)]
    sway = _sway(stage, 0.04 * side)
    return lambda seconds: Shot(tuple(map(sway, row, [seconds] * len(row))))


def _sway(stage: Stage, pixels: float) -> Callable[[Item, float], Item]:
    """Move everyone a little, each in a time of their own."""
    beats = stage.rng.uniform(0.2, 0.5, (max(1, stage.faces), 2))

    def sway(item: Item, seconds: float) -> Item:
        across, down = beats[item.who or 0]
        return _moved(item, pixels * sin(2 * pi * across * seconds), 0.5 * pixels * sin(2 * pi * down * seconds))

    return sway


def _cut(stage: Stage) -> Play:
    """Hard cuts between rooms; in each shot other people, at other places and of other sizes."""
    seed = int(stage.rng.integers(1 << 32))

    @lru_cache(maxsize=4)
    def shot(number: int) -> Shot:
        rng = np.random.default_rng((seed, number))
        share = tuple(np.sort(rng.uniform(0.2, 0.55, 2)))
        seats = _seats(Stage(stage.width, stage.height, stage.faces, rng), share)
        # Who is seen again two rooms later is another person: no tracker could know better.
        items = tuple(Item(item.sprite, item.box, number * stage.faces + (item.who or 0)) for item in seats)
        return Shot(items, room=number % ROOMS)

    return lambda seconds: shot(floor(seconds / SHOT_SECONDS))


def _pan(stage: Stage) -> Play:
    """Everyone sits still in a wide room; the camera rests, turns to the right, rests, turns back."""
    seats = _seats(stage, breadth=1 + SWEEP)

    def play(seconds: float) -> Shot:
        half = REST_SECONDS + SWEEP_SECONDS
        turn, within = divmod(seconds, half)
        done = min(1.0, max(0.0, (within - REST_SECONDS) / SWEEP_SECONDS))
        done = done * done * (3 - 2 * done)
        pan = round(SWEEP * stage.width * (1 - done if turn % 2 else done))
        return Shot(tuple(_moved(item, -pan, 0) for item in seats), pan=pan)

    return play


def _sit(stage: Stage) -> Play:
    """One after another is there from one frame to the next and sits still: the first as something is taken away
    from before them, the second as the light goes on again, and so on.
    """
    seats = _seats(stage)

    def play(seconds: float) -> Shot:
        items, light = [], 1.0
        for index, item in enumerate(seats):
            appears = 2.0 + 2.0 * index
            if index % 2 and appears - 0.5 <= seconds < appears:
                light = 0.02
            if index % 2 == 0 or seconds >= appears:
                items.append(item)
            if index % 2 == 0 and seconds < appears:
                box, side = item.cover, round(item.cover.width * 1.5)
                lead = (side - box.width) // 2
                items.append(Item(index % THINGS, Box(box.x - lead, box.y - lead, side, side)))
        return Shot(tuple(items), light=light)

    return play


def _empty(stage: Stage) -> Play:
    """Nobody."""
    return lambda seconds: Shot(())


def _busy(stage: Stage) -> Play:
    """Large things that are no faces move all the time; whoever is there sits still in front of them."""
    seats = _seats(stage)
    things = [
        (
            int(stage.rng.integers(THINGS)),
            round(stage.height * stage.rng.uniform(0.3, 0.6)),
            _wave(stage.rng),
            _wave(stage.rng),
        )
        for _ in range(6)
    ]

    def play(seconds: float) -> Shot:
        moving = [
            Item(
                sprite,
                Box(
                    round(across.at(2 * seconds) * stage.width - side / 2),
                    round(down.at(2 * seconds) * stage.height - side / 2),
                    side,
                    side,
                ),
            )
            for sprite, side, across, down in things
        ]
        return Shot((*moving, *seats))

    return play


def _crowd(stage: Stage) -> Play:
    """Many small faces, each moving by a pixel or two."""
    seats = _seats(stage, share=(0.3, 0.42))
    sway = _sway(stage, 0.04 * seats[0].box.width if seats else 0.0)
    return lambda seconds: Shot(tuple(map(sway, seats, [seconds] * len(seats))))


SCRIPTS: dict[str, Script] = {
    "drift": Script(_drift, noise=0.0),
    "still": Script(_still, faces=2),
    "enter": Script(_enter, faces=3),
    "leave": Script(_leave, faces=3),
    "cross": Script(_cross, faces=2),
    "pair": Script(_pair, faces=2),
    "cut": Script(_cut, faces=2, rooms=ROOMS),
    "pan": Script(_pan, faces=4, breadth=1 + SWEEP),
    "sit": Script(_sit, faces=2),
    "empty": Script(_empty, faces=0),
    "busy": Script(_busy, faces=0),
    "crowd": Script(_crowd, faces=20),
}
"""By the name that `synthetic:script=NAME` knows."""
