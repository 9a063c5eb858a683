"""A camera that needs no camera: the sample photos' faces in a scripted scene, the same every time.

For trying things out, for tests and for benchmarks: where every face is in every frame is known, and the camera can
be told to stall, to die or to deliver garbage.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import floor, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera.base import Camera
from edge.camera.scene import DEFAULT, Scene, parse_scene
from edge.camera.scripts import SCRIPTS, Shot, Stage
from edge.camera.sprites import SAMPLES, draw_room, paste_face, paste_thing, visible
from edge.errors import CameraError
from edge.frame import Box, Frame

__all__ = ["SAMPLES", "Scene", "SyntheticCamera", "parse_scene"]

SEEN = 0.7
"""The part of a face that must be seen for it to count as there."""

DARK = 0.1
"""Light below which nobody is seen."""

_CLOUD_HZ, _LAMP_HZ = 0.07, 9.7
_NOISE_MARGIN = 64
"""Pixels: each frame's noise is another cut from one plane that is so much larger, as drawing it anew takes 10 ms."""


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
        scene: Scene = DEFAULT,
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
        script, (width, height) = SCRIPTS[scene.script], scene.size
        rng = np.random.default_rng(scene.seed)
        chances = [rng] + [np.random.default_rng((scene.seed, 2, room)) for room in range(1, script.rooms)]
        rooms = [draw_room(scene.background, chance, round(width * script.breadth), height) for chance in chances]
        self._gray_rooms: list[NDArray[np.uint8]] = [cv2.cvtColor(room, cv2.COLOR_BGR2GRAY) for room in rooms]  # type: ignore[misc]  # OpenCV's stubs widen uint8 to any number
        self._color_rooms = rooms if color else []
        # Only the oldest script goes on with the first room's numbers, so that what was measured on it stays true.
        chance = rng if scene.script == DEFAULT.script else np.random.default_rng((scene.seed, 3))
        self._play = script.write(Stage(width, height, scene.faces, chance))
        self._noise = _noise_plane(scene)

    def people(self, number: int, seen: float = SEEN) -> dict[int, Box]:
        """Who is where in a frame; nobody where the frame is garbage or dark.

        Args:
            number: the frame's.
            seen: the part of a face, 0 to 1, that must be inside the frame and not hidden for it to count; 0.1, say,
                also tells of those whom a detector may or may not find.

        Returns:
            Who, the same number for the same person all the time -> the face such as Haar would give its box, which
            reaches over the frame's edge where the face does.
        """
        shot = self._shot(number)
        if self._past(self.scene.garbage_at, number) or shot.light < DARK:
            return {}
        covers = [item.cover for item in shot.items]
        return {
            item.who: item.box
            for index, item in enumerate(shot.items)
            if item.who is not None and visible(item.box, self.scene.size, covers[index + 1 :]) >= seen
        }

    def truth(self, number: int) -> list[Box]:
        """Where the faces are in a frame: the boxes of `people`."""
        return list(self.people(number).values())

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

    def _shot(self, number: int) -> Shot:
        return self._play(number / self.scene.fps)

    def _draw(self, number: int, *, gray: bool) -> NDArray[np.uint8]:
        width, height = self.scene.size
        if self._past(self.scene.garbage_at, number):
            shape = (height, width) if gray else (height, width, 3)
            return np.random.default_rng(number).integers(0, 256, shape, np.uint8)
        shot = self._shot(number)
        room = (self._gray_rooms if gray else self._color_rooms)[shot.room]
        image = room[:, shot.pan : shot.pan + width].copy()
        for item in shot.items:
            (paste_thing if item.who is None else paste_face)(image, item.sprite, item.box)
        if shot.light != 1.0:
            image = cv2.convertScaleAbs(image, alpha=shot.light)  # type: ignore[assignment]  # as above
        return self._disturb(image, number)

    def _disturb(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """Add the sensor's noise and the light's flicker."""
        seconds, flicker = number / self.scene.fps, self.scene.flicker
        level = flicker * (0.7 * sin(2 * pi * _CLOUD_HZ * seconds) + 0.3 * sin(2 * pi * _LAMP_HZ * seconds))
        if self._noise is not None:
            x, y = np.random.default_rng((self.scene.seed, number)).integers(0, _NOISE_MARGIN, 2)
            change = self._noise[y : y + image.shape[0], x : x + image.shape[1]] + np.float32(level)
            change = change if image.ndim == 2 else np.repeat(change[..., None], 3, axis=2)
            cv2.add(image, change, dst=image, dtype=cv2.CV_8U)
        return image


def _noise_plane(scene: Scene) -> NDArray[np.float32] | None:
    if not scene.noise and not scene.flicker:
        return None
    width, height = scene.size
    rng = np.random.default_rng((scene.seed, 1))
    return rng.standard_normal((height + _NOISE_MARGIN, width + _NOISE_MARGIN), np.float32) * np.float32(scene.noise)
