"""What each script promises to whoever judges a tracker by it: who is where, who comes and goes, and how fast."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge.camera import open_camera
from edge.camera.scripts import SCRIPTS, SHOT_SECONDS
from edge.cascade import find_cascade
from edge.frame import Box

STAGED = sorted(SCRIPTS)
PEOPLED = [name for name in STAGED if SCRIPTS[name].faces]


def play(script, options=""):
    return open_camera(f"synthetic:script={script},noise=0,{options}")


def cast_of(camera, seconds, seen=0.7):
    """Who is there in every frame of so many seconds."""
    return [camera.people(number, seen) for number in range(round(seconds * camera.scene.fps))]


def changed(before, after):
    """The share of the picture that is not the same any more."""
    return float((cv2.absdiff(before.gray, after.gray) > 8).mean())


@pytest.mark.parametrize("script", STAGED)
def test_a_script_is_the_same_every_time_and_another_with_another_seed(script):
    def frames(seed):
        return [frame.gray for frame in play(script, f"seed={seed},size=160x120,seconds=3,fps=2")]

    first, again, other = frames(3), frames(3), frames(4)
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, other))


@pytest.mark.parametrize("script", STAGED)
@pytest.mark.parametrize("options", ["faces=0", "faces=1,size=333x97", "faces=7,size=96x200", "faces=64,size=32x32"])
def test_a_script_plays_with_any_number_of_faces_in_any_frame(script, options):
    with play(script, f"{options},seconds=10,fps=1,background=photo") as camera:
        frames = list(camera)
    assert len(frames) == 10
    assert {frame.size for frame in frames} == {camera.scene.size}
    assert all(len(camera.people(frame.number)) <= camera.scene.faces for frame in frames)


@pytest.mark.parametrize("script", PEOPLED)
def test_haar_finds_those_who_are_whole_in_the_picture(script):
    cascade = cv2.CascadeClassifier(str(find_cascade()))
    camera = play(script, "fps=0.5,background=photo,noise=2")
    there = found = 0
    for frame in camera:
        boxes = cascade.detectMultiScale(frame.gray, scaleFactor=1.1, minNeighbors=5, minSize=(30, 30))
        faces = camera.people(frame.number, seen=1.0).values()
        there += len(faces)
        found += sum(max((face.iou(Box(*map(int, box))) for box in boxes), default=0) > 0.4 for face in faces)
    assert there >= 3
    assert found >= 0.9 * there


def test_still_never_changes_at_all():
    camera = play("still")
    people = cast_of(camera, 10)
    frames = [frame.gray for frame in camera]
    assert sorted(people[0]) == [0, 1]
    assert all(now == people[0] for now in people)
    assert all(np.array_equal(frames[0], frame) for frame in frames)


def test_enter_begins_with_nobody_and_each_comes_over_an_edge_stops_and_stays():
    people = cast_of(play("enter"), 10, seen=0.1)
    assert people[0] == {}
    assert list(people[-1]) == [0, 1, 2]
    assert all(now == people[-1] for now in people[-30:])
    for who, sides in enumerate((lambda box: box.x <= 0, lambda box: box.x + box.width >= 640, lambda box: box.y <= 0)):
        path = [now[who] for now in people if who in now]
        assert sides(path[0])
        assert path[0].iou(path[-1]) < 0.5
        assert all(abs(a.x - b.x) + abs(a.y - b.y) <= 20 for a, b in pairwise(path))
        assert all(now[who] == path[-1] for now in people[-60:])


def test_leave_ends_with_nobody_and_nobody_comes_back():
    people = cast_of(play("leave"), 10)
    assert list(people[0]) == [0, 1, 2]
    assert people[-1] == {}
    assert all(set(later) <= set(now) for now, later in pairwise(people))


@pytest.mark.parametrize("seed", range(4))
def test_cross_has_two_of_one_size_change_sides_one_hidden_by_the_other(seed):
    people = cast_of(play("cross", f"seed={seed}"), 8)
    both = [now for now in people if len(now) == 2]
    assert {now[0].x < now[1].x for now in both} == {True, False}
    hidden = [set(now) for now in people if len(now) < 2]
    assert 5 <= len(hidden) <= 60
    assert all(now == {1} for now in hidden)
    assert 0.85 <= both[0][0].width / both[0][1].width <= 1.0


def test_pair_sits_cheek_by_cheek_and_moves_a_little():
    people = cast_of(play("pair"), 10)
    for now in people:
        left, right = now[0], now[1]
        assert 0 <= right.x - left.x - left.width <= 0.35 * left.width
    for who in (0, 1):
        across = [now[who].x for now in people]
        assert 3 <= max(across) - min(across) <= 20


def test_cut_shows_other_people_from_one_frame_to_the_next():
    camera = play("cut", "seconds=8")
    people = cast_of(camera, 8)
    frames = list(camera)
    shots = [{tuple(now.items()) for now in people[at : at + 60]} for at in range(0, 240, 60)]
    assert SHOT_SECONDS == 2.0
    assert all(len(shot) == 1 for shot in shots)
    assert len(set().union(*(set(people[at]) for at in range(0, 240, 60)))) == 8
    assert all(changed(frames[at - 1], frames[at]) > 0.4 for at in range(60, 240, 60))
    assert changed(frames[61], frames[62]) == 0


def test_pan_moves_the_whole_picture_at_a_persons_speed():
    camera = play("pan", "seconds=8,background=photo")
    frames = list(camera)
    steps = []
    for before, after in pairwise(frames):
        old, new = camera.people(before.number, seen=0), camera.people(after.number, seen=0)
        step = {old[who].x - new[who].x for who in old}
        assert len(step) == 1
        (step,) = step
        steps.append(step)
        edge = camera.scene.size[0] - abs(step)
        a, b = (before, after) if step >= 0 else (after, before)
        assert np.array_equal(a.gray[:, abs(step) :], b.gray[:, :edge])
    assert 10 <= max(steps) <= 15
    assert abs(sum(steps)) <= 2
    assert steps[:29] == [0] * 29
    assert len({who for frame in frames for who in camera.people(frame.number)}) == 4


def test_sit_has_somebody_there_from_one_frame_to_the_next_without_any_movement_before_or_after():
    camera = play("sit", "seconds=6")
    people, frames = cast_of(camera, 6), list(camera)
    assert [set(people[at]) for at in (59, 60, 119, 120, 179)] == [set(), {0}, set(), {0, 1}, {0, 1}]
    assert frames[110].gray.max() < 10
    jumps = [number for number in range(1, 180) if changed(frames[number - 1], frames[number])]
    assert jumps == [60, 105, 120]


def test_empty_is_nothing_but_noise():
    camera = play("empty", "seconds=0.2")
    frames = list(camera)
    assert all(camera.truth(frame.number) == [] for frame in frames)
    assert all(np.array_equal(frames[0].gray, frame.gray) for frame in frames)


def test_busy_moves_all_the_time_and_hides_nobody():
    camera = play("busy", "seconds=5,faces=1")
    frames = list(camera)
    moved = [changed(before, after) for before, after in pairwise(frames)]
    assert min(moved) > 0.01
    assert np.mean(moved) > 0.05
    assert all(camera.people(frame.number, seen=1.0) == camera.people(0) != {} for frame in frames)
    assert play("busy").truth(0) == []


def test_crowd_is_many_small_faces():
    camera = play("crowd")
    assert len(camera.truth(0)) == 20
    assert all(30 <= box.width <= 60 for box in camera.truth(0))
    assert len(play("crowd", "faces=40").truth(0)) == 40
