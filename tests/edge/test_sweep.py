from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge
from edge.camera.scene import parse_scene
from edge.camera.synthetic import SyntheticCamera
from edge.detector import Detector, Hit
from edge.frame import Box
from edge.pictures import read_picture
from edge.pyramid import Pyramid
from edge.sweep import SIDES, Sweep
from edge.tracker import Tracker

SAMPLES = Path(edge.__file__).parent / "samples"
SIZE, SMALLEST, FPS = (640, 360), 30, 30.0


@dataclass(frozen=True)
class Asked:
    """A search that was asked for; `region` is what of it lies in the picture."""

    frame: int
    region: Box
    smallest: int
    largest: int
    scale: float
    without: Sequence[Box]

    def covers(self, box: Box) -> bool:
        return self.smallest <= box.width <= self.largest and _lies_in(box, self.region)

    @property
    def pixels(self) -> float:
        """Searched, at the resolution of the search."""
        return self.region.area * self.scale**2


@dataclass
class Listener:
    """In Haar's place: writes down where it is asked to look, and finds nothing but what it is told to."""

    found: list[Hit] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    frame: int = 0

    def search(self, pyramid: Pyramid, region: Box, *, scale, smallest, largest, step, neighbors, without) -> list[Hit]:
        seen = region.within(*pyramid.size)
        self.asked.append(Asked(self.frame, seen, smallest, largest, scale, list(without)))
        return self.found

    def of(self, *frames: int) -> list[Asked]:
        return [asked for asked in self.asked if asked.frame in frames]


def _lies_in(one: Box, other: Box) -> bool:
    right, bottom = one.x + one.width <= other.x + other.width, one.y + one.height <= other.y + other.height
    return one.x >= other.x and one.y >= other.y and right and bottom


def show(
    pictures: Sequence[np.ndarray],
    *,
    reach: float = 0.4,
    rest: float = 4.0,
    fps: float = FPS,
    known: Sequence[Box] = (),
    smallest: int = SMALLEST,
) -> Listener:
    """Show pictures to a sweep, one after the other, and tell where it looks."""
    haar = Listener()
    sweep = Sweep(haar, reach=reach, rest=rest)
    for number, picture in enumerate(pictures):
        haar.frame, pyramid = number, Pyramid(picture)
        cut = sweep.notice(pyramid, smallest, number / fps)
        sweep.search(pyramid, number / fps, 1 / fps if number else 0.0, known, whole=cut)
    return haar


@pytest.fixture(scope="module")
def room() -> np.ndarray:
    """A place full of things, without people."""
    return SyntheticCamera(scene=parse_scene("script=empty,size=640x360,noise=0,background=photo")).read().gray


def with_thing(picture: np.ndarray, box: Box, seed: int = 0) -> np.ndarray:
    changed = picture.copy()
    texture = np.random.default_rng(seed).integers(0, 256, (4, 4), np.uint8)
    changed[box.y : box.y + box.height, box.x : box.x + box.width] = cv2.resize(texture, (box.width, box.height))
    return changed


@st.composite
def faces(draw: st.DrawFn) -> tuple[tuple[int, int], int, Box]:
    """A frame's size, the smallest face that is asked for, and one that is whole in the frame."""
    width, height = draw(st.integers(24, 900)), draw(st.integers(24, 700))
    smallest = draw(st.integers(24, min(width, height)))
    side = draw(st.integers(smallest, min(width, height)))
    return (
        (width, height),
        smallest,
        Box(draw(st.integers(0, width - side)), draw(st.integers(0, height - side)), side, side),
    )


@given(
    where=faces(),
    fps=st.sampled_from([2.0, 15.0, 30.0]),
    reach=st.sampled_from([0.0, 0.1, 0.4]),
    level=st.sampled_from([0, 5, 200]),
)
def test_a_face_of_any_size_anywhere_is_looked_at_within_reach_of_the_first_frame(where, fps, reach, level):
    size, smallest, face = where
    frames = 1 + ceil(reach * fps) + 1
    haar = show([np.full(size[::-1], level, np.uint8)] * frames, smallest=smallest, reach=reach, fps=fps)
    assert any(asked.covers(face) for asked in haar.asked)


@pytest.mark.parametrize("side", [30, 45, 59, 60, 61, 110, 119, 120, 200, 239, 359, 360])
def test_no_place_is_left_out_between_two_parts_of_the_frame(side):
    first = show([np.zeros(SIZE[::-1], np.uint8)], reach=0.0).of(0)
    for x in range(0, SIZE[0] - side + 1, 5):
        for y in range(0, SIZE[1] - side + 1, 5):
            assert any(asked.covers(Box(x, y, side, side)) for asked in first), (x, y)


@given(where=faces(), fps=st.sampled_from([2.0, 15.0, 30.0]), reach=st.sampled_from([0.0, 0.1, 0.4]))
def test_who_appears_in_a_scene_that_is_known_is_looked_at_within_reach(where, fps, reach):
    size, smallest, face = where
    before = np.full(size[::-1], 120, np.uint8)
    settled = 3 * (1 + ceil(reach * fps))
    script = [before] * settled + [with_thing(before, face)] * (2 + ceil(reach * fps))
    haar = show(script, smallest=smallest, reach=reach, fps=fps, rest=1000.0)
    assert any(asked.covers(face) for asked in haar.of(*range(settled, len(script))))


@given(where=faces(), fps=st.sampled_from([2.0, 15.0, 30.0]), rest=st.sampled_from([0.5, 2.0]))
def test_who_does_not_move_is_looked_at_once_in_a_rest(where, fps, rest):
    size, smallest, face = where
    settled = 3 * (1 + ceil(0.1 * fps))
    frames = settled + 2 * ceil(rest * fps) + 2
    haar = show([np.zeros(size[::-1], np.uint8)] * frames, smallest=smallest, reach=0.1, rest=rest, fps=fps)
    looked = [asked.frame for asked in haar.of(*range(settled, frames)) if asked.covers(face)]
    assert looked


def test_where_nothing_moves_each_place_is_searched_no_more_than_once_in_a_rest(room):
    haar = show([room] * 300, rest=4.0)
    looks: dict[tuple[Box, int], list[int]] = {}
    for asked in haar.of(*range(60, 300)):
        looks.setdefault((asked.region, asked.smallest), []).append(asked.frame)
    assert all(later - now >= 4.0 * FPS for frames in looks.values() for now, later in pairwise(frames))
    assert all(len(frames) >= 2 for frames in looks.values())
    assert max(len(haar.of(number)) for number in range(60, 300)) == 1


def test_the_noise_of_a_camera_is_no_movement(room):
    rng = np.random.default_rng(1)
    noisy = [cv2.add(room, rng.normal(0, 4, room.shape), dtype=cv2.CV_8U) for _ in range(60)]
    assert show(noisy, rest=1000.0).of(*range(30, 60)) == []


def test_only_where_something_changed_is_looked_at_again(room):
    thing = Box(100, 200, 60, 60)
    haar = show([room] * 30 + [with_thing(room, thing)] * 30, rest=1000.0)
    again = haar.of(*range(30, 60))
    assert again
    for asked in again:
        around = Box(thing.x - 20, thing.y - 20, 100, 100)
        rim = asked.smallest
        assert asked.region.x >= around.x - rim
        assert asked.region.y >= around.y - rim
        assert asked.region.x + asked.region.width <= around.x + around.width + rim
        assert asked.region.y + asked.region.height <= around.y + around.height + rim


def test_a_change_is_looked_at_twice_at_two_sizes_of_the_picture_and_then_no_more(room):
    haar = show([room] * 30 + [with_thing(room, Box(100, 60, 60, 60))] * 60, rest=1000.0)
    again = [asked for asked in haar.of(*range(30, 90)) if asked.smallest == SMALLEST]
    scales = {side / SMALLEST for side in SIDES}
    assert {asked.scale for asked in again} == scales
    assert len(scales) == 2
    assert len(again) == 2 * len({asked.region for asked in again})


def test_who_leaves_what_he_moved_behind_is_looked_at_and_then_left_alone(room):
    there = [with_thing(room, Box(20 * step, 100, 60, 60), step) for step in range(20)]
    haar = show([room] * 30 + there + [room] * 60, rest=1000.0)
    assert all(haar.of(number) for number in range(31, 50))
    assert haar.of(*range(80, 110)) == []


def test_what_moves_inside_a_known_face_is_no_reason_to_look(room):
    face = Box(100, 100, 80, 80)
    talking = [with_thing(room, Box(115, 140, 50, 30), number) for number in range(60)]
    assert show(talking, rest=1000.0, known=[face]).of(*range(30, 60)) == []
    assert show(talking, rest=1000.0).of(*range(30, 60)) != []


def test_haar_is_told_whom_it_need_not_find_again_with_hair_and_chin(room):
    known = [Box(100, 100, 80, 80), Box(300, 50, 60, 60)]
    with_hair = (Box(92, 92, 96, 96), Box(294, 44, 72, 72))
    assert {tuple(asked.without) for asked in show([room] * 20, known=known).asked} == {with_hair}


@pytest.mark.parametrize("fps", [7.5, 15.0, 30.0, 60.0])
def test_where_everything_changes_all_the_time_the_search_is_spread_evenly_over_reach(fps, room):
    flickering = [cv2.add(room, 20.0 * (number % 2)) for number in range(200)]
    at_once = len(show(flickering[:1], reach=0.0).asked)
    haar = show(flickering, fps=fps, reach=0.4)
    assert at_once >= 10
    assert {len(haar.of(number)) for number in range(1, 200)} == {ceil(at_once / (0.4 * fps) - 1e-9)}


def test_without_reach_all_that_changed_is_looked_at_in_the_same_frame(room):
    haar = show([room] * 3 + [with_thing(room, Box(100, 60, 60, 60))], reach=0.0, rest=1000.0)
    assert any(asked.covers(Box(100, 60, 60, 60)) for asked in haar.of(3))


def test_a_new_scene_is_looked_at_at_once_but_a_film_of_cuts_does_not_make_every_frame_dear():
    rng = np.random.default_rng(3)
    scenes = [cv2.resize(rng.integers(0, 256, (18, 32), np.uint8), SIZE) for _ in range(30)]
    haar = show(scenes, reach=0.4)
    first = sum(asked.pixels for asked in haar.of(0))
    work = [sum(asked.pixels for asked in haar.of(number)) for number in range(30)]
    dear = [number for number in range(30) if work[number] > 0.9 * first]
    assert dear == [0, 12, 24]
    assert any(asked.covers(Box(5, 5, 300, 300)) for asked in haar.of(0))


def test_a_frame_of_another_size_is_looked_at_at_once_however_soon_it_comes():
    small, large = np.zeros((240, 320), np.uint8), np.zeros((360, 640), np.uint8)
    haar = show([small, large, small], reach=0.4)
    for number, size in enumerate([(320, 240), (640, 360), (320, 240)]):
        for box in (Box(0, 0, 30, 30), Box(size[0] - 30, size[1] - 30, 30, 30), Box(20, 20, 200, 200)):
            assert any(asked.covers(box) for asked in haar.of(number))


def test_the_hits_of_all_searches_come_back(room):
    hits = [Hit(Box(10, 20, 30, 30), 4)]
    haar = Listener(found=hits)
    sweep = Sweep(haar, reach=0.0, rest=4.0)
    sweep.notice(Pyramid(room), SMALLEST, 0.0)
    assert sweep.search(Pyramid(room), 0.0, 0.0, []) == hits * len(haar.asked)
    assert len(haar.asked) > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (29, 400), (400, 29)])
def test_a_picture_smaller_than_the_smallest_face_is_not_searched(size):
    assert show([np.full(size[::-1], 77, np.uint8)] * 3).asked == []


def test_a_clock_that_stands_still_stops_no_search(room):
    haar = Listener()
    sweep = Sweep(haar, reach=0.4, rest=4.0)
    for number in range(40):
        haar.frame, pyramid = number, Pyramid(room)
        sweep.notice(pyramid, SMALLEST, number * 1e-6)
        sweep.search(pyramid, number * 1e-6, 1e-6, [])
    assert any(asked.covers(Box(300, 100, 200, 200)) for asked in haar.asked)
    assert any(asked.covers(Box(10, 300, 30, 30)) for asked in haar.asked)


def noticed(*pictures: np.ndarray) -> list[bool]:
    """Whether each shows another scene than the one before."""
    sweep = Sweep(Listener(), reach=0.4, rest=4.0)
    return [sweep.notice(Pyramid(picture), SMALLEST, number / FPS) for number, picture in enumerate(pictures)]


def test_the_first_frame_and_a_frame_of_another_size_are_another_scene(room):
    assert noticed(room, room, room[:200], room[:200], room) == [True, False, True, False, True]


def test_another_room_is_another_scene():
    photos = [cv2.resize(read_picture(SAMPLES / name).gray, SIZE) for name in ("astronaut.png", "grace_hopper.jpg")]
    assert noticed(*photos, *photos) == [True] * 4


def test_somebody_in_front_of_the_camera_is_not_another_scene(room):
    assert noticed(room, with_thing(room, Box(300, 80, 200, 200)), room) == [True, False, False]


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (1.0, 40), (0.05, 0), (1.4, 20)])
def test_a_light_that_is_switched_is_not_another_scene(gain, offset, room):
    lit = cv2.convertScaleAbs(room, alpha=gain, beta=offset)
    assert noticed(room, lit, room) == [True, False, False]


def test_a_camera_that_turns_shows_the_same_scene():
    camera = SyntheticCamera(scene=parse_scene("script=pan,seconds=4,background=photo"))
    assert noticed(*[frame.gray for frame in camera]) == [True] + [False] * 119


@pytest.mark.parametrize("level", [0, 255])
def test_darkness_and_glare_are_told_from_a_new_scene_without_an_error(level, room):
    plain = np.full_like(room, level)
    with np.errstate(all="raise"):
        assert noticed(plain, plain, plain) == [True, False, False]
        assert len(noticed(room, plain, room, plain)) == 4


WAYS = ["still", "enter", "leave", "cross", "pair", "cut", "pan", "sit"]


def longest_wait(spec: str, notice: float) -> dict[int, float]:
    """For how long at most somebody who was whole in the picture had no box, in seconds, with the real Haar."""
    camera = SyntheticCamera(spec, parse_scene(spec))
    tracker = Tracker(Detector(), notice=notice)
    waits: dict[int, int] = {}
    longest: dict[int, float] = {}
    for frame in camera:
        boxes = [face.box for face in tracker.update(frame)]
        there = camera.people(frame.number, seen=1.0)
        missed = {who for who, box in there.items() if not any(box.iou(found) >= 0.4 for found in boxes)}
        waits = {who: waits.get(who, 0) + 1 for who in missed}
        longest |= {who: max(longest.get(who, 0.0), waits.get(who, 0) / camera.scene.fps) for who in there}
    return longest


@pytest.mark.parametrize(
    ("script", "fps", "notice"),
    [(script, 30, 0.5) for script in WAYS] + [("pan", 15, 0.5), ("sit", 15, 0.5), ("pan", 30, 0.3), ("sit", 30, 0.3)],
)
def test_nobody_in_sight_is_without_a_box_for_longer_than_notice(script, fps, notice):
    waits = longest_wait(f"script={script},fps={fps},seconds=8,seed=1", notice)
    assert len(waits) >= 2
    assert all(seconds <= notice for seconds in waits.values()), waits
