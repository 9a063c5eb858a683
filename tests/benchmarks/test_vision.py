"""Scenes, and the rules that their figures are held to."""

from copy import deepcopy

import pytest

from benchmarks.vision import FOUR, ONE, PHOTO_ONE, QUIET, scenes, shortcomings, together
from edge.bench import Look, Measurement
from edge.bench_meter import Cost
from edge.bench_score import Truth
from edge.camera import open_camera
from edge.frame import Box

FACE = Box(10, 10, 40, 40)


def summary(*, times=30.0, recall=1.0, own=0.0002, total=0.001, false=(4, 0)):
    """What the rules ask of a scene's summary."""
    return {
        "ratio": {"frames_per_second": times, "cpu": times + 1},
        "faces": {"recall": recall},
        "mien": {"cpu_seconds_per_frame": {"own": own, "total": total}},
        "truth": {"naive": {"false": false[0]}, "mien": {"false": false[1]}},
    }


GOOD = {ONE: summary(), FOUR: summary(times=13.0), QUIET: summary(recall=None), PHOTO_ONE: summary(times=1.0)}


def test_good_figures_fall_short_of_nothing():
    assert shortcomings(GOOD) == []


@pytest.mark.parametrize(
    ("scene", "change", "complaint"),
    [
        (ONE, {"times": 24.9}, "one face: 24.9 times the naive loop, under 25"),
        (FOUR, {"times": 11.0}, "four faces: 11.0 times the naive loop, under 12"),
        (FOUR, {"times": 13.0, "recall": 0.97}, "four faces: recall 0.97, under 0.98"),
        (FOUR, {"times": 13.0, "recall": None}, "four faces: recall None, under 0.98"),
        (QUIET, {"total": 0.002}, "empty: 3.0% of one core at 15 frames/s, over 2%"),
    ],
)
def test_each_rule_names_scene_and_figure(scene, change, complaint):
    assert shortcomings(GOOD | {scene: summary(**change)}) == [complaint]


def test_false_faces_are_counted_over_all_scenes_together():
    told = GOOD | {PHOTO_ONE: summary(false=(2, 7))}
    assert shortcomings(told) == []  # 7 of 14: one bad room is made up for by the others
    assert shortcomings(told | {PHOTO_ONE: summary(false=(2, 8))}) == [
        "8 false faces, over half of the naive loop's 14"
    ]
    unlabelled = deepcopy(told) | {"clip": summary() | {"truth": None}}
    assert shortcomings(unlabelled) == []


def test_every_scene_opens_and_the_photos_are_other_rooms_each_time():
    known = {spec: open_camera(spec).read().gray for specs in scenes().values() for spec in specs}
    rooms = [known[spec] for spec in scenes()[PHOTO_ONE]]
    assert len(rooms) > 1
    assert all((one != other).any() for at, one in enumerate(rooms) for other in rooms[:at])


def test_measurements_of_several_sources_become_one_with_frames_that_count_on():
    def part(numbers, truth):
        looks = [Look([FACE], [FACE], Cost()) for _ in numbers]
        return Measurement("scene", "m", numbers=numbers, naive=looks, mien=looks, truth=truth)

    one, other = part([0, 1], {1: Truth([FACE])}), part([0, 2, 3], {0: Truth([]), 3: Truth([FACE], [FACE])})
    whole = together([one, other])
    assert whole.numbers == [0, 1, 2, 3, 4]
    assert whole.truth == {1: Truth([FACE]), 2: Truth([]), 4: Truth([FACE], [FACE])}
    assert len(whole.naive) == len(whole.mien) == 5
    assert one.numbers == [0, 1]
