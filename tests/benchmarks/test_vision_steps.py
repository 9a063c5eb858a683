"""Every step from the naive loop to what ships does what its name says, and adds that alone."""

from itertools import pairwise

import pytest

from benchmarks.vision import config_of
from benchmarks.vision_steps import (
    CHANGES,
    COARSER,
    HEAD,
    NAIVE,
    OCTAVES,
    PAINTED,
    SELDOM,
    SHIPS,
    SPREAD,
    TRACKS,
    measure,
    same_share,
    steps,
    table,
)
from edge.bench_meter import Meter, TimedModel
from edge.camera import open_camera
from edge.config import SmoothingConfig
from edge.detector import Detector
from edge.looks import Looks
from edge.modelfile import SHIPPED, read_model_file

SCENE = "synthetic:script=still,faces=1,seconds=1.4"
FRAMES, CONFIRMED, SETTLED = 42, 8, 30
"""Frames until the face has its number, and until all of the frame was searched."""


@pytest.fixture(scope="module")
def both():
    """Everybody's looks at somebody who sits still, and what is known of the frames."""
    return measure("one", SCENE, 100)


@pytest.fixture(scope="module")
def done(both):
    return both[0]


def searched(step, begin=0):
    """Pixels that Haar was given from a frame on."""
    return sum(look.cost.haar_pixels for look in step.looks[begin:])


def calls(step, begin=0):
    return [look.cost.haar_calls for look in step.looks[begin:]]


def test_all_look_at_the_same_frames_the_naive_loop_first_and_what_ships_before_the_last(both):
    done, common = both
    assert list(done) == [NAIVE, COARSER, OCTAVES, TRACKS, SPREAD, CHANGES, PAINTED, SHIPS, *SELDOM]
    assert common.numbers == list(range(FRAMES))
    assert all(len(step.looks) == FRAMES for step in done.values())
    assert all(len(known.faces) == 1 for known in common.truth.values())


def test_a_coarser_picture_is_searched_whole_in_every_frame(done):
    assert set(calls(done[COARSER])) == {1}
    assert 0.4 * searched(done[NAIVE]) < searched(done[COARSER]) < 0.5 * searched(done[NAIVE])


def test_without_tracks_nobody_is_known_again_and_with_them_everybody_is(done):
    forgotten = [track for shown in done[OCTAVES].shown for track in shown]
    assert len(forgotten) == len(set(forgotten)) >= FRAMES
    for step in (TRACKS, SPREAD, CHANGES, PAINTED, SHIPS, *SELDOM):
        assert all(set(shown) == {1} for shown in done[step].shown[CONFIRMED:]), step


def test_with_tracks_all_is_searched_in_every_frame_and_the_known_face_besides(done):
    tiles = calls(done[OCTAVES])[0] - 1
    assert tiles > 5
    assert set(calls(done[TRACKS], CONFIRMED)) == {tiles + 1}


def test_a_search_that_is_spread_takes_a_tile_a_frame(done):
    assert set(calls(done[SPREAD], CONFIRMED)) == {1 + 1}
    assert searched(done[SPREAD], CONFIRMED) * 4 < searched(done[TRACKS], CONFIRMED)


def test_where_nothing_changes_haar_looks_at_the_known_face_alone(done):
    assert sum(calls(done[CHANGES])) > FRAMES
    assert set(calls(done[CHANGES], SETTLED)) == set(calls(done[PAINTED], SETTLED)) == {1}


def test_a_face_that_is_followed_by_its_looks_is_seen_in_every_frame_and_sought_in_few(done):
    assert all(look.seen for look in done[SHIPS].looks[CONFIRMED:])
    assert sum(calls(done[SHIPS], SETTLED)) == (FRAMES - SETTLED) / 6


def test_faces_are_painted_over_and_recognised_by_their_looks_from_those_steps_on_alone(monkeypatch):
    painted, recognised = [], []

    def search(detector, *args, without=(), before=Detector.search, **options):
        painted.append(len(without))
        return before(detector, *args, without=without, **options)

    def find(looks, *args, before=Looks.find, **options):
        recognised.append(1)
        return before(looks, *args, **options)

    monkeypatch.setattr(Detector, "search", search)
    monkeypatch.setattr(Looks, "find", find)
    meter = Meter()
    visions = steps(config_of(SCENE), TimedModel(read_model_file(SHIPPED), meter), meter)
    used = {}
    for name in (TRACKS, SPREAD, CHANGES, PAINTED, SHIPS):
        painted.clear()
        recognised.clear()
        camera = open_camera(SCENE)
        for _ in range(CONFIRMED):
            visions[name].look(camera.read())
        used[name] = (any(painted), any(recognised))
    neither, paint = (False, False), (True, False)
    assert used == {TRACKS: neither, SPREAD: neither, CHANGES: neither, PAINTED: paint, SHIPS: (True, True)}


def test_each_seen_face_is_classified_in_every_frame_but_for_the_last_steps(done):
    for name, step in done.items():
        read = [number for number, look in enumerate(step.looks) if look.cost.classifications]
        if name in SELDOM:
            settled = read[0] + round(30 * SmoothingConfig().time_constant)
            assert read[: settled - read[0]] == list(range(read[0], settled))
            seldom = [number for number in read if number >= settled]
            assert {right - left for left, right in pairwise(seldom)} == {round(30 * SELDOM[name])}
        else:
            assert all(look.cost.classifications == len(look.seen) for look in step.looks)


def test_the_same_expressions_are_counted_face_by_face():
    always = [{}, {1: "happy"}, {1: "happy", 2: "sad"}, {2: "sad"}]
    assert same_share(always, always) == 1.0
    assert same_share(always, [{}, {1: "happy"}, {1: "sad", 2: "sad"}, {2: "fear"}]) == 0.5
    assert same_share([{}], [{}]) is None


def test_a_table_has_a_line_for_each_step_and_tells_of_expressions_where_they_may_differ(both):
    done, common = both
    head, _, *lines = table(done, common).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]
    assert tuple(cells[0]) == HEAD
    assert [line[0] for line in cells[1:]] == list(done)
    assert cells[1][1:3] == ["1.0", "1.0"]
    assert [line[0] for line in cells[1:] if line[-1] != "-"] == list(SELDOM)
    assert all(float(line[HEAD.index("recall")]) > 0.7 for line in cells[1:])
