"""What the sample photos give to a synthetic scene: faces to paste, large things that are no face, and rooms."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.pictures import read_picture

SAMPLES = Path(__file__).parents[1] / "samples"
SAMPLE_FACES = (("astronaut.png", Box(177, 66, 95, 95)), ("grace_hopper.jpg", Box(155, 105, 222, 222)))
"""The portraits and the face in each, as Haar finds it."""

GROUP = "solvay_conference.jpg"
GROUP_FACES = (
    Box(39, 177, 110, 110),
    Box(223, 69, 124, 124),
    Box(360, 177, 137, 137),
    Box(592, 60, 104, 104),
    Box(763, 163, 123, 123),
    Box(854, 69, 102, 102),
)
"""The faces in the group photo, as Haar finds them."""

_PORTRAITS = len(SAMPLE_FACES)
_SOURCES = SAMPLE_FACES + tuple((GROUP, face) for face in GROUP_FACES)

CAST = 2 * len(_SOURCES)
"""How many faces there are to choose from: everyone, and everyone in a mirror."""

FACELESS = (
    ("astronaut.png", Box(0, 190, 512, 322)),
    ("astronaut.png", Box(330, 0, 182, 300)),
    ("grace_hopper.jpg", Box(0, 370, 512, 230)),
    ("grace_hopper.jpg", Box(0, 0, 145, 600)),
    (GROUP, Box(0, 330, 995, 630)),
)
"""Parts of the photos without a face: cloth, flags, a space suit, hands, shoes."""

THINGS = 8
"""How many things there are to choose from."""

PATCH = 1.6
"""Side of what is cut out of a photo over the side of the face: hair and chin come along."""

_THING_SIDE = 240
_CACHED_SIDE = 400
"""Larger sprites are resized anew each time, so that the cache stays below 20 MB."""

Image = NDArray[np.uint8]
Sprite = tuple[Image, NDArray[np.float32]]
"""Pixels, `uint8[S, S]` or `uint8[S, S, 3]`, and how much of each is seen, `float32[S, S]` 0..1."""

_Draw = Callable[[int, bool], Sprite]


def paste_face(image: Image, index: int, box: Box) -> None:
    """Blend one of the cast into the image, its face at the box; what would reach over the edge is left out."""
    around = patch_of(box)
    _blend(image, _resized(_face, index, around.width, image.ndim == 2), around)


def paste_thing(image: Image, index: int, box: Box) -> None:
    """Blend a thing into the image so that it fills the box; what would reach over the edge is left out."""
    _blend(image, _resized(_thing, index, box.width, image.ndim == 2), box)


def patch_of(face: Box) -> Box:
    """All that is pasted with a face: hair and chin, too."""
    side = round(face.width * PATCH)
    x, y = (round(start - (side - face.width) / 2) for start in (face.x, face.y))
    return Box(x, y, side, side)


def visible(face: Box, size: tuple[int, int], before: list[Box]) -> float:
    """How much of a face is seen, 0 to 1.

    Args:
        face: its box; may reach over the frame's edge.
        size: width and height of the frame.
        before: the squares of the sprites that are pasted over it; each hides its oval.
    """
    steps = (np.arange(16) + 0.5) / 16
    across, down = face.x + face.width * steps[None, :], face.y + face.height * steps[:, None]
    seen = (across >= 0) & (across < size[0]) & (down >= 0) & (down < size[1])
    for box in before:
        right, low = ((2 * (at - start) / box.width - 1) for at, start in ((across, box.x), (down, box.y)))
        seen &= np.hypot(right / 0.9, low) > 0.9  # where the sprite is half seen
    return float(seen.mean())


def _blend(image: Image, sprite: Sprite, box: Box) -> None:
    (x0, x1), (y0, y1) = (
        (max(0, at), min(at + box.width, end)) for at, end in ((box.x, image.shape[1]), (box.y, image.shape[0]))
    )
    if x0 >= x1 or y0 >= y1:
        return
    pixels, seen = (layer[y0 - box.y : y1 - box.y, x0 - box.x : x1 - box.x] for layer in sprite)
    if image.ndim == 3:
        seen = seen[..., None]
    under = image[y0:y1, x0:x1]
    under[:] = np.rint(under + (pixels.astype(np.float32) - under) * seen)


def _resized(draw: _Draw, index: int, side: int, gray: bool) -> Sprite:
    return (_kept if side <= _CACHED_SIDE else _resize)(draw, index, side, gray)


def _resize(draw: _Draw, index: int, side: int, gray: bool) -> Sprite:
    pixels, seen = (cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA) for layer in draw(index, gray))
    return pixels, seen  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number


_kept = lru_cache(maxsize=32)(_resize)


@lru_cache(maxsize=2 * CAST)
def _face(index: int, gray: bool) -> Sprite:
    """A face with its hair: the portraits, the portraits in a mirror, then the group likewise."""
    if index < 2 * _PORTRAITS:
        source, mirrored = index % _PORTRAITS, index >= _PORTRAITS
    else:
        source, mirrored = _PORTRAITS + (index - 2 * _PORTRAITS) // 2, index % 2 == 1
    name, face = _SOURCES[source]
    around = patch_of(face)
    image = _photo(name, gray)[around.y : around.y + around.height, around.x : around.x + around.width]
    return np.ascontiguousarray(image[:, ::-1] if mirrored else image), _oval(around.width)


@lru_cache(maxsize=2 * THINGS)
def _thing(index: int, gray: bool) -> Sprite:
    """A piece of a photo's faceless part; the index chooses which."""
    rng = np.random.default_rng(index)
    return _piece(rng, _THING_SIDE, _THING_SIDE, gray), _oval(_THING_SIDE)


def _oval(side: int) -> NDArray[np.float32]:
    across = np.linspace(-1, 1, side, dtype=np.float32)
    # A little narrower than high; it fades out over its last fifth.
    distance = np.hypot(across[None, :] / 0.9, across[:, None])
    seen: NDArray[np.float32] = np.clip((1.0 - distance) / 0.2, 0.0, 1.0)
    return seen


@lru_cache(maxsize=4)
def _photo(name: str, gray: bool) -> Image:
    picture = read_picture(SAMPLES / name)
    return picture.gray if gray else picture.color


def _piece(rng: np.random.Generator, width: int, height: int, gray: bool) -> Image:
    """Cut a piece out of a faceless part, mirrored and enlarged or shrunk as chance has it."""
    name, part = FACELESS[rng.integers(len(FACELESS))]
    zoom = min(rng.uniform(0.5, 1.5), part.width / width, part.height / height)
    wide, high = int(width * zoom), int(height * zoom)
    x = part.x + rng.integers(part.width - wide + 1)
    y = part.y + rng.integers(part.height - high + 1)
    image = _photo(name, gray)[y : y + high, x : x + wide]
    image = image[:, ::-1] if rng.random() < 0.5 else image
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR)  # type: ignore[return-value]  # as above


def draw_room(kind: str, rng: np.random.Generator, width: int, height: int) -> Image:
    """`uint8[H, W, 3]`, a background: "plain", one colour; "textured", soft blotches as of a room out of focus;
    "photo", those with many faceless pieces of the sample photos, in which Haar sees a face now and then.
    """
    image = np.full((height, width, 3), (132, 126, 118), np.float32)
    if kind != "plain":
        for cells, strength in ((4, 28.0), (12, 9.0)):
            blotches = rng.normal(0.0, strength, (cells, cells, 1)) + rng.normal(0.0, strength / 4, (cells, cells, 3))
            image += cv2.resize(blotches.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    room = np.clip(image, 0, 255).astype(np.uint8)
    if kind == "photo":
        for _ in range(round(24 * width / height)):
            side = max(8, round(height * rng.uniform(0.2, 0.7)))
            at = Box(int(rng.integers(-side // 2, width)), int(rng.integers(-side // 2, height)), side, side)
            _blend(room, (_piece(rng, side, side, gray=False), _oval(side)), at)
    return room
