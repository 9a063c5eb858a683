"""A camera that needs no camera: the sample photos' faces, drifting over a background, the same every time.

For trying things out, for tests and for benchmarks: where every face is in every frame is known, and the camera can
be told to stall, to die or to deliver garbage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from math import ceil, floor, pi, sin, sqrt
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera
from edge.errors import CameraError, UsageError
from edge.frame import Box, Frame
from edge.pictures import read_picture

SAMPLES = Path(__file__).parents[1] / "samples"
SAMPLE_FACES = (("astronaut.png", Box(177, 66, 95, 95)), ("grace_hopper.jpg", Box(155, 105, 222, 222)))
"""The photos and the face in each, as Haar finds it."""

PATCH = 1.6
"""Side of what is cut out of a photo over the side of the face: hair and chin come along."""

SMALLEST, LARGEST = 0.3, 0.55
"""Side of a face over the shorter side of the part of the frame that it moves in."""

MAX_FACES = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """What a synthetic camera shows; the fields are the options of its spec.

    Attributes:
        seconds: length; 0 goes on for ever.
        faces: how many, 0 to 64.
        seed: another seed, other paths and another background.
        size: width and height in pixels.
        fps: frames per second.
        realtime: frames come in their own time and are lost if nobody takes them, as from a camera.
        background: "textured" or "plain".
        die_at: seconds after which the camera is gone (`CameraError`).
        stall_at: seconds after which no frame comes any more: `read()` waits its timeout out, then `CameraError`.
        garbage_at: seconds after which frames are noise.
    """

    seconds: float = 10.0
    faces: int = 1
    seed: int = 0
    size: tuple[int, int] = (640, 480)
    fps: float = 30.0
    realtime: bool = False
    background: str = "textured"
    die_at: float | None = None
    stall_at: float | None = None
    garbage_at: float | None = None


def parse_scene(options: str, scene: Scene = Scene()) -> Scene:
    """Read `seconds=10,faces=2,…`.

    Args:
        options: what stands behind `synthetic:`; may be empty.
        scene: where the values that are not named come from.

    Raises:
        UsageError: an option is unknown or its value makes no sense.
    """
    known = [field.name for field in fields(Scene)]
    given: dict[str, object] = {}
    for part in filter(None, options.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(f"synthetic has no option {name!r}; it has {', '.join(known)}")
        given[name] = _parse(name, value)
    return replace(scene, **given)  # type: ignore[arg-type]  # each value was parsed to its field's type


def _parse(name: str, value: str) -> object:
    expected, parse, sensible = _OPTIONS[name]
    try:
        parsed = parse(value)
        if sensible(parsed):
            return parsed
    except (ValueError, KeyError):
        pass
    raise UsageError(f"synthetic: {name}={value} makes no sense; expected {expected}")


def _size(text: str) -> tuple[int, int]:
    width, height = text.lower().split("x")
    return int(width), int(height)


_OPTIONS: dict[str, tuple[str, Callable[[str], object], Callable[..., bool]]] = {
    "seconds": ("a number of seconds, 0 for ever", float, lambda value: 0 <= value < 1e9),
    "faces": (f"0 to {MAX_FACES}", int, lambda value: 0 <= value <= MAX_FACES),
    "seed": ("a whole number from 0", int, lambda value: value >= 0),
    "size": (
        "width x height from 32x32 to 8192x8192, as 640x480",
        _size,
        lambda value: all(32 <= v <= 8192 for v in value),
    ),
    "fps": ("frames per second, above 0 and up to 1000", float, lambda value: 0 < value <= 1000),
    "realtime": ("0 or 1", {"0": False, "1": True}.__getitem__, lambda _: True),
    "background": ("plain or textured", str, {"plain", "textured"}.__contains__),
} | dict.fromkeys(("die_at", "stall_at", "garbage_at"), ("a number of seconds", float, lambda value: 0 <= value < 1e9))


@dataclass(frozen=True, slots=True)
class _Wave:
    """A smooth way to and fro between 0 and 1: two sines, slow enough for a person's movements."""

    slow: float
    quick: float
    phase: float

    def at(self, seconds: float) -> float:
        return 0.5 + 0.35 * sin(2 * pi * self.slow * seconds + self.phase) + 0.15 * sin(2 * pi * self.quick * seconds)


class SyntheticCamera(Camera):
    """The scene, frame by frame.

    Args:
        spec: what the camera was opened with.
        scene: what to show.
        color: whether frames carry colour.
        timeout: seconds that `read()` waits once the camera stalls.
        clock: monotonic seconds; only asked in real time.
        sleep: waits for seconds; only called in real time and in a stall.
    """

    def __init__(
        self,
        spec: str = "synthetic",
        scene: Scene = Scene(),
        *,
        color: bool = False,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.spec = spec
        self.scene = scene
        self.live = scene.realtime
        self._color = color
        self._timeout = timeout
        self._clock = clock
        self._sleep = sleep
        self._next = 0
        self._closed = False
        self._start: float | None = None
        rng = np.random.default_rng(scene.seed)
        self._background = _background(rng, scene)
        self._gray_background: NDArray[np.uint8] = cv2.cvtColor(self._background, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
        self._cells = _cells(scene)
        self._waves = [[_wave(rng) for _ in range(3)] for _ in range(scene.faces)]

    def truth(self, number: int) -> list[Box]:
        """Where the faces are in a frame: boxes such as Haar would give, none where the frame is garbage."""
        return [] if self._past(self.scene.garbage_at, number) else self._boxes(number)

    def read(self) -> Frame | None:
        """The next frame; in real time the one that is due.

        Raises:
            CameraError: the scene says that the camera dies or stalls here.
        """
        number = self._next
        if self.scene.realtime:
            if self._start is None:
                self._start = self._clock()
            number = max(number, floor((self._clock() - self._start) * self.scene.fps))
        if self._closed or (self.scene.seconds and number >= round(self.scene.seconds * self.scene.fps)):
            return None
        if self._past(self.scene.die_at, number):
            raise CameraError(f"{self.spec}: the camera is gone (die_at={self.scene.die_at:g})")
        if self._past(self.scene.stall_at, number):
            self._sleep(self._timeout)
            raise CameraError(f"{self.spec}: no picture for {self._timeout:g} s (stall_at={self.scene.stall_at:g})")
        moment = number / self.scene.fps
        if self._start is not None:
            moment += self._start
            self._sleep(max(0.0, moment - self._clock()))
        self._next = number + 1
        gray = self._draw(number, gray=True)
        return Frame(
            gray=gray, time=moment, number=number, color=self._draw(number, gray=False) if self._color else None
        )

    def close(self) -> None:
        """End the scene."""
        self._closed = True

    def _past(self, limit: float | None, number: int) -> bool:
        return limit is not None and number >= limit * self.scene.fps

    def _boxes(self, number: int) -> list[Box]:
        seconds = number / self.scene.fps
        boxes = []
        for (left, top, width, height), (across, down, nearer) in zip(self._cells, self._waves, strict=True):
            share = SMALLEST + (LARGEST - SMALLEST) * nearer.at(seconds)
            side = max(1, round(min(width, height) * share))
            rim = side * (PATCH - 1) / 2  # so that the whole patch stays inside
            x = left + rim + across.at(seconds) * (width - side - 2 * rim)
            y = top + rim + down.at(seconds) * (height - side - 2 * rim)
            boxes.append(Box(round(x), round(y), side, side))
        return boxes

    def _draw(self, number: int, *, gray: bool) -> NDArray[np.uint8]:
        image = (self._gray_background if gray else self._background).copy()
        if self._past(self.scene.garbage_at, number):
            return np.random.default_rng(number).integers(0, 256, image.shape, np.uint8)
        for index, box in enumerate(self._boxes(number)):
            _paste(image, _patch(index % (2 * len(SAMPLE_FACES)), gray), box)
        return image


def _cells(scene: Scene) -> list[tuple[float, float, float, float]]:
    """Split the frame into as many parts as there are faces, so that none hides another: x, y, width, height."""
    width, height = scene.size
    columns = min(scene.faces, max(1, ceil(sqrt(scene.faces * width / height)))) or 1
    rows = ceil(scene.faces / columns)
    return [
        (index % columns * width / columns, index // columns * height / rows, width / columns, height / rows)
        for index in range(scene.faces)
    ]


def _wave(rng: np.random.Generator) -> _Wave:
    return _Wave(slow=rng.uniform(0.05, 0.12), quick=rng.uniform(0.15, 0.3), phase=rng.uniform(0, 2 * pi))


def _background(rng: np.random.Generator, scene: Scene) -> NDArray[np.uint8]:
    """`uint8[H, W, 3]`: one colour, or soft blotches as of a room out of focus."""
    width, height = scene.size
    image = np.full((height, width, 3), (132, 126, 118), np.float32)
    if scene.background == "textured":
        for cells, strength in ((4, 28.0), (12, 9.0)):
            blotches = rng.normal(0.0, strength, (cells, cells, 1)) + rng.normal(0.0, strength / 4, (cells, cells, 3))
            image += cv2.resize(blotches.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4 * len(SAMPLE_FACES))
def _patch(index: int, gray: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A face with its hair, `uint8[S, S]` or `uint8[S, S, 3]`, and how much of it is seen, `float32[S, S]` 0..1.

    The second half of the indices are the same faces in a mirror.
    """
    name, face = SAMPLE_FACES[index % len(SAMPLE_FACES)]
    picture = read_picture(SAMPLES / name)
    side = round(face.width * PATCH)
    x, y = (round(start - (side - face.width) / 2) for start in (face.x, face.y))
    image = (picture.gray if gray else picture.color)[y : y + side, x : x + side]
    if index >= len(SAMPLE_FACES):
        image = image[:, ::-1]
    across = np.linspace(-1, 1, side, dtype=np.float32)
    # An oval, a little narrower than high, that fades out over its last fifth.
    distance = np.hypot(across[None, :] / 0.9, across[:, None])
    seen = np.clip((1.0 - distance) / 0.2, 0.0, 1.0)
    return np.ascontiguousarray(image), seen


def _paste(image: NDArray[np.uint8], patch: tuple[NDArray[np.uint8], NDArray[np.float32]], box: Box) -> None:
    """Blend a patch into the image, its face at the box; what would reach over the edge is left out."""
    side = round(box.width * PATCH)
    x, y = (round(start - (side - box.width) / 2) for start in (box.x, box.y))
    (x0, x1), (y0, y1) = ((max(0, at), min(at + side, end)) for at, end in ((x, image.shape[1]), (y, image.shape[0])))
    pixels, seen = (
        cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA)[y0 - y : y1 - y, x0 - x : x1 - x]
        for layer in patch
    )
    if image.ndim == 3:
        seen = seen[..., None]
    under = image[y0:y1, x0:x1]
    under[:] = np.rint(under + (pixels.astype(np.float32) - under) * seen)
