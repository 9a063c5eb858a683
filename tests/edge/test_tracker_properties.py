"""What must hold of the tracker, and of vision behind it, whatever happens before the camera."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.events import Reporter
from edge.frame import Box, Face, Frame
from edge.labels import UNCERTAIN
from edge.pipeline import Vision
from edge.smoothing import Smoother
from edge.tracker import Tracker

LABELS = ("angry", "happy", "neutral")
SIZES = [(320, 240), (240, 320), (333, 217), (160, 120), (64, 48), (24, 400), (23, 300), (1, 1)]
ON = 0.5
"""Intersection over union from which a box is on a face."""


@dataclass(frozen=True)
class Person:
    """Comes into the picture in one frame, walks and stands in turns, becomes larger or smaller, and is gone again."""

    first: int
    frames: int
    start: tuple[int, int]
    side: int
    growth: float
    legs: tuple[tuple[int, float, float], ...]
    """Frames and pixels per frame, over and over."""

    def box(self, number: int) -> Box | None:
        if not self.first <= number < self.first + self.frames:
            return None
        x, y = self.start
        steps = [leg[1:] for leg in self.legs for _ in range(leg[0])] or [(0.0, 0.0)]
        walked = [steps[step % len(steps)] for step in range(number - self.first)]
        x, y = x + sum(step[0] for step in walked), y + sum(step[1] for step in walked)
        side = max(4, min(300, round(self.side * self.growth ** (number - self.first))))
        return Box(round(x), round(y), side, side)


@dataclass(frozen=True)
class Scene:
    """A whole script.

    Attributes:
        people: the later ones stand in front.
        times: of each frame, in seconds.
        sizes: of the frames, and from which frame on.
        haar: what the scripted Haar does wrong.
        options: the tracker's.
    """

    people: tuple[Person, ...]
    times: tuple[float, ...]
    sizes: Mapping[int, tuple[int, int]]
    haar: Mapping[str, float]
    options: Mapping[str, float] = field(default_factory=dict)

    def size(self, number: int) -> tuple[int, int]:
        return self.sizes[max(start for start in self.sizes if start <= number)]

    def there(self, number: int) -> dict[str, Box]:
        """Who is in the picture, hidden or not."""
        boxes = {str(who): person.box(number) for who, person in enumerate(self.people)}
        size = self.size(number)
        return {who: box for who, box in boxes.items() if box is not None and box.within(*size).area}

    def in_sight(self, number: int) -> dict[str, Box]:
        """Those who are hidden no further than Haar bears."""
        there = list(self.there(number).items())
        return {
            who: box
            for place, (who, box) in enumerate(there)
            if all(box.iou(other) <= 0.3 for _, other in there[place + 1 :])
        }


legs = st.tuples(st.integers(1, 15), st.floats(-12, 12), st.floats(-8, 8))
standing = st.tuples(st.integers(1, 15), st.just(0.0), st.just(0.0))
people = st.builds(
    Person,
    first=st.integers(0, 30),
    frames=st.integers(1, 60),
    start=st.tuples(st.integers(-20, 300), st.integers(-20, 220)),
    side=st.integers(20, 130),
    growth=st.sampled_from([1.0, 1.0, 0.97, 1.04]),
    legs=st.lists(legs | standing, max_size=4).map(tuple),
)
disturbed = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "miss": st.sampled_from([0.0, 0.1, 0.5]),
        "jitter": st.sampled_from([0.0, 0.05, 0.15]),
        "invent": st.sampled_from([0.0, 0.1, 0.5]),
    }
)
options = st.fixed_dictionaries(
    {},
    optional={
        "confirm": st.sampled_from([0.0, 0.1, 0.5]),
        "patience": st.sampled_from([0.0, 0.1, 1.0, 5.0]),
        "notice": st.sampled_from([0.0, 0.5, 2.0]),
        "rest": st.sampled_from([0.1, 4.0]),
        "most": st.integers(1, 4),
    },
)


@st.composite
def times(draw: st.DrawFn) -> tuple[float, ...]:
    """A frame rate that is mostly kept; gaps, frames at one time, and clocks that are set back."""
    gap = 1 / draw(st.sampled_from([2.0, 7.5, 15.0, 29.97, 60.0]))
    gaps = [gap] * draw(st.integers(10, 50))
    odd = st.sampled_from([0.0, 1e-6, 0.9, 30.0, 1e6, -0.02, -5.0, -1e6])
    for number, instead in draw(st.dictionaries(st.integers(0, 50), odd, max_size=3)).items():
        gaps[number % len(gaps)] = instead
    begin = draw(st.sampled_from([0.0, 1e5, -3.0]))
    return tuple(begin + sum(gaps[:number]) for number in range(len(gaps)))


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    sizes = {0: draw(st.sampled_from(SIZES[:4]))}
    sizes |= draw(st.dictionaries(st.integers(1, 40), st.sampled_from(SIZES), max_size=2))
    return Scene(
        tuple(draw(st.lists(people, min_size=1, max_size=4))), draw(times()), sizes, draw(disturbed), draw(options)
    )


@pytest.fixture(scope="session")
def film(scripted_haar, paint) -> Callable[..., list[list[Face]]]:
    """Hand a scene's frames to `update`, and gather what it says of each."""

    def play(scene: Scene, make_update: Callable[[Tracker], Callable[[Frame], object]]) -> list:
        haar = scripted_haar(**scene.haar)
        update = make_update(Tracker(haar, **scene.options))
        said = []
        for number, time in enumerate(scene.times):
            haar.faces = scene.in_sight(number)
            said.append(update(Frame(paint(scene.there(number), scene.size(number)), time, number)))
        return said

    return play


@pytest.fixture(scope="session")
def follow(film) -> Callable[[Scene], list[list[Face]]]:
    """What the tracker says of a scene, frame by frame."""
    return lambda scene: film(scene, lambda tracker: tracker.update)


def on_whom(face: Face, there: Mapping[str, Box]) -> str | None:
    """On whose face a box is."""
    best = max(there, key=lambda who: face.box.iou(there[who]), default=None)
    return None if best is None or face.box.iou(there[best]) < ON else best


@given(scene=scenes())
def test_a_number_is_of_one_face_in_a_frame_and_never_comes_back(scene, follow):
    present: set[int] = set()
    used = 0
    for faces in follow(scene):
        numbers = [face.track for face in faces]
        assert numbers == sorted(set(numbers))
        new = set(numbers) - present
        assert all(number > used for number in new)
        used, present = max([used, *numbers]), set(numbers)


@given(scene=scenes())
def test_two_numbers_are_never_on_one_face_for_longer_than_confirmation_takes(scene, follow):
    confirm = scene.options.get("confirm", 0.1)
    since: dict[tuple[str, int, int], float] = {}
    now, before = 0.0, scene.times[0]
    for number, faces in enumerate(follow(scene)):
        now, before = now + max(0.0, scene.times[number] - before), scene.times[number]
        there = scene.there(number)
        seen = [(on_whom(face, there), face.track) for face in faces if face.seen]
        pairs = {(who, one, other) for (who, one), (whose, other) in combinations(seen, 2) if who and who == whose}
        since = {pair: since.get(pair, now) for pair in pairs}
        assert all(now - start <= confirm for start in since.values())


@given(scene=scenes())
def test_every_box_has_a_size_and_lies_in_the_picture_at_least_in_part(scene, follow):
    for number, faces in enumerate(follow(scene)):
        for face in faces:
            assert face.box.width > 0
            assert face.box.height > 0
            assert face.box.within(*scene.size(number)).area > 0


@given(scene=scenes())
def test_there_are_never_more_faces_than_asked_for(scene, follow):
    assert all(len(faces) <= scene.options.get("most", 32) for faces in follow(scene))


@given(scene=scenes())
def test_the_same_frames_give_the_same_faces(scene, follow):
    assert follow(scene) == follow(scene)


@st.composite
def somebody_who_stands(draw: st.DrawFn) -> tuple[Scene, int]:
    """Somebody who stands in one half of the picture, whom Haar finds in every frame, and others in the other half."""
    fps = draw(st.sampled_from([1.0, 3.0, 7.5, 12.0, 15.0, 24.0, 29.97, 60.0]) | st.floats(1.0, 60.0))
    chosen = {
        "confirm": draw(st.sampled_from([0.0, 0.1, 0.5])),
        "patience": draw(st.sampled_from([0.0, 0.05, 0.15, 1.0])),
        "notice": draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
    }
    bound = max(chosen["notice"], chosen["confirm"])
    first = draw(st.integers(0, 40))
    frames = 2 + int(bound * fps) + draw(st.integers(1, 40))
    after = 2 + int(chosen["patience"] * fps) + 2
    times = tuple(number / fps for number in range(first + frames + after))
    width, height = draw(st.sampled_from([(320, 240), (240, 320), (333, 217)]))
    side = draw(st.integers(max(24, round(0.08 * height)), min(width // 2, height)))
    start = (draw(st.integers(0, width // 2 - side)), draw(st.integers(0, height - side)))
    others = st.builds(
        Person,
        first=st.integers(0, 40),
        frames=st.integers(1, 80),
        start=st.tuples(st.integers(width // 2, width), st.integers(0, height)),
        side=st.integers(24, 100),
        growth=st.just(1.0),
        legs=st.lists(st.tuples(st.integers(1, 10), st.floats(0, 6), st.floats(-6, 6)), max_size=3).map(tuple),
    )
    people = (*draw(st.lists(others, max_size=4)), Person(first, frames, start, side, 1.0, ()))
    return Scene(people, times, {0: (width, height)}, {}, chosen), len(people) - 1


@given(chosen=somebody_who_stands())
def test_who_stands_is_noticed_in_time_at_any_frame_rate_and_stays_until_he_is_gone(chosen, follow):
    scene, who = chosen
    person, said = scene.people[who], follow(scene)
    box = person.box(person.first)
    tracks = [[face.track for face in faces if face.seen and face.box.iou(box) >= ON] for faces in said]
    gap = scene.times[1] - scene.times[0]
    noticed = next(number for number, there in enumerate(tracks) if there)
    soon = max(scene.options["notice"], scene.options["confirm"]) + 2 * gap
    assert scene.times[noticed] - scene.times[person.first] <= soon + 1e-3
    end = person.first + person.frames
    assert tracks[noticed:end] == [tracks[noticed]] * (end - noticed)
    # Whoever comes into the picture close by and soon enough may be he who left.
    still = [[face.track for face in faces if face.box.iou(box) >= ON] for faces in said]
    left = [number for number in range(end, len(said)) if tracks[noticed][0] in still[number]]
    assert all(scene.times[number] - scene.times[end - 1] <= scene.options["patience"] + 1e-2 for number in left)


class ModelOfChance:
    """Scores of all kinds, from sure to undecided."""

    channels = 1

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def classify(self, image: np.ndarray, box: Box) -> np.ndarray:
        assert box.within(*image.shape[::-1]).area
        spread = self._rng.choice([1e-3, 0.1, 1.0, 1e4])
        return self._rng.dirichlet([spread] * len(LABELS)).astype(np.float32)


def vision_behind(tracker: Tracker, seed: int, time_constant: float, every: float) -> Vision:
    reporter = Reporter(
        device="kitchen",
        labels=LABELS,
        model="m",
        start=1,
        every=1.0,
        now=lambda _: datetime(2026, 11, 21, tzinfo=UTC),
        clock_synced=lambda: True,
    )
    smoother = Smoother(LABELS, {"happy": 0.6, "angry": 1.0}, time_constant=time_constant)
    return Vision(tracker, ModelOfChance(seed), smoother, reporter, every=every)


@given(
    scene=scenes(),
    seed=st.integers(0, 100),
    time_constant=st.sampled_from([0.0, 1e-9, 0.5, 60.0]),
    every=st.sampled_from([0.0, 0.2, 60.0]),
)
def test_every_score_that_leaves_vision_is_a_probability(scene, seed, time_constant, every, film):
    for seen in film(scene, lambda tracker: vision_behind(tracker, seed, time_constant, every).look):
        readings = [reading for _, reading in seen.faces]
        scores = [reading.scores.tolist() for reading in readings]
        scores += [list(event.scores.values()) for event in seen.events]
        assert all(0 <= score <= 1 for each in scores for score in each)
        assert all(sum(each) == pytest.approx(1.0, abs=1e-5) for each in scores)
        for said in [*readings, *seen.events]:
            assert said.expression in {*LABELS, UNCERTAIN}
        assert all(reading.confidence == pytest.approx(reading.scores.max()) for reading in readings)
        assert all(event.confidence == max(event.scores.values()) for event in seen.events)


def lives(events: Sequence) -> dict[int, list[str]]:
    told: dict[int, list[str]] = {}
    for event in events:
        told.setdefault(event.track, []).append(event.type)
    return told


@given(scene=scenes())
def test_everybody_appears_once_and_goes_once(scene, film):
    vision: list[Vision] = []

    def look_of(tracker: Tracker) -> Callable[[Frame], object]:
        vision.append(vision_behind(tracker, 1, 0.5, 0.0))
        return vision[0].look

    events = [event for seen in film(scene, look_of) for event in seen.events] + vision[0].finish()
    for told in lives(events).values():
        assert told[0] == "appeared"
        assert told[-1] == "gone"
        assert not {"appeared", "gone"} & set(told[1:-1])
    assert all(int(one.id[-10:]) < int(other.id[-10:]) for one, other in pairwise(events))
