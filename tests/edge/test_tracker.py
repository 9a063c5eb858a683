from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge
from edge.camera.scene import parse_scene
from edge.camera.synthetic import SyntheticCamera
from edge.detector import Detector
from edge.frame import Box, Face, Frame
from edge.tracker import Tracker

SAMPLES = Path(edge.__file__).parent / "samples"
FPS = 30.0
LEFT, RIGHT = Box(40, 40, 100, 100), Box(400, 40, 100, 100)


@pytest.fixture
def follow(scripted_haar, paint) -> Callable[..., list[list[Face]]]:
    """What a tracker says of a script of frames, each a dict of name -> box."""

    def play(*script, fps=FPS, blind=(), **options):
        haar = scripted_haar()
        tracker = Tracker(haar, **options)
        said = []
        for number, faces in enumerate(script):
            haar.faces, haar.blind = faces, number in blind
            said.append(tracker.update(Frame(paint(faces), number / fps, number)))
        return said

    return play


def moved(box: Box, dx: int, dy: int = 0) -> Box:
    return Box(box.x + dx, box.y + dy, box.width, box.height)


def numbers(frames: list[list[Face]]) -> list[list[int]]:
    return [[face.track for face in faces] for faces in frames]


def play(spec: str) -> tuple[list[dict[int, Box]], list[list[Face]]]:
    """Who is where in every frame of a synthetic scene, and what the tracker says, with the real Haar."""
    camera = SyntheticCamera(spec, parse_scene(spec.partition(":")[2]))
    tracker = Tracker(Detector())
    people, said = [], []
    for frame in camera:
        people.append(camera.people(frame.number))
        said.append(tracker.update(frame))
    return people, said


def tracks_of(people: list[dict[int, Box]], said: list[list[Face]]) -> dict[int, set[int]]:
    """The numbers that each person had while he was seen."""
    had: dict[int, set[int]] = {who: set() for frame in people for who in frame}
    for present, faces in zip(people, said, strict=True):
        for who, box in present.items():
            had[who] |= {face.track for face in faces if face.seen and face.box.iou(box) >= 0.4}
    return had


def delay(people: list[dict[int, Box]], said: list[list[Face]], who: int) -> int:
    """Frames from when somebody is to be seen until he is."""
    first = next(number for number, present in enumerate(people) if who in present)
    for number in range(first, len(people)):
        box = people[number].get(who)
        if box is not None and any(face.box.iou(box) >= 0.4 for face in said[number]):
            return number - first
    pytest.fail(f"{who} is never seen")


def test_a_face_is_believed_once_it_has_been_found_for_a_while(follow):
    assert numbers(follow(*[{"a": LEFT}] * 8, confirm=0.2, fps=10)) == [[], [], *[[1]] * 6]


@pytest.mark.parametrize("fps", [5.0, 10.0, 25.0, 30.0, 29.97])
def test_belief_takes_seconds_and_not_frames(fps, follow):
    frames = follow(*[{"a": LEFT}] * 40, fps=fps, confirm=0.2)
    first = next(number for number, faces in enumerate(frames) if faces)
    assert first == int(np.ceil(0.2 * fps - 1e-6))


def test_without_confirmation_the_first_sight_is_believed(follow):
    assert numbers(follow({"a": LEFT}, confirm=0.0)) == [[1]]


def test_a_flicker_is_never_a_face(follow):
    frames = follow(*[{"a": LEFT}] * 20, blind=range(1, 20, 2), confirm=0.1)
    assert numbers(frames) == [[]] * 20


def test_a_face_that_moves_keeps_its_number_and_its_box_comes_along(follow):
    boxes = [moved(LEFT, 12 * step, 3 * step) for step in range(30)]
    frames = follow(*[{"a": box} for box in boxes])
    assert all(tracks == [1] for tracks in numbers(frames)[3:])
    assert all(faces[0].box.iou(box) > 0.8 for faces, box in zip(frames[3:], boxes[3:], strict=True))


def test_a_face_that_haar_misses_for_a_moment_is_recognised_by_its_looks(follow):
    boxes = [moved(LEFT, 6 * step) for step in range(30)]
    frames = follow(*[{"a": box} for box in boxes], blind=range(10, 25))
    assert all(face.seen and face.box.iou(box) > 0.8 for (face,), box in zip(frames[3:], boxes[3:], strict=True))


def test_looks_alone_are_not_believed_for_longer_than_patience(follow):
    frames = follow(*[{"a": LEFT}] * 60, blind=range(10, 60), patience=0.5)
    gone = next(number for number, faces in enumerate(frames) if number > 3 and not faces)
    assert gone == pytest.approx(10 + 0.5 * FPS, abs=0.2 * FPS + 1)


def test_a_face_that_is_gone_stays_where_it_was_seen_until_patience_ends(follow):
    frames = follow(*[{"a": LEFT}] * 10, *[{}] * 20, patience=0.3)
    assert numbers(frames) == [[]] * 3 + [[1]] * 16 + [[]] * 11
    assert {(face.seen, face.box) for faces in frames[10:] for face in faces} == {(False, LEFT)}


def test_who_walks_out_of_the_picture_is_gone_at_once(follow):
    out = [{"a": moved(LEFT, -8 * step)} for step in range(40)]
    frames = follow(*[{"a": LEFT}] * 10, *out, patience=2.0)
    last = max(number for number, faces in enumerate(frames) if faces)
    cannot_be_found_from = 10 + 40 // 8
    assert last <= cannot_be_found_from + 6


def test_a_number_is_never_used_again(follow):
    frames = follow(*[{"a": LEFT}] * 6, *[{}] * 10, *[{"a": LEFT}] * 20, patience=0.1)
    assert {track for tracks in numbers(frames) for track in tracks} == {1, 2}
    assert [2] in numbers(frames)[16:]


def test_a_source_slower_than_patience_still_has_faces(follow):
    assert numbers(follow(*[{"a": LEFT}] * 4, fps=0.5)) == [[], [1], [1], [1]]


def test_who_stands_hidden_behind_another_comes_out_with_the_same_number(follow):
    there = [{"behind": moved(LEFT, 12 * step), "front": Box(250, 40, 110, 110)} for step in range(40)]
    hidden = {number for number, faces in enumerate(there) if faces["behind"].iou(faces["front"]) > 0.3}
    script = [
        {name: box for name, box in faces.items() if name == "front" or number not in hidden}
        for number, faces in enumerate(there)
    ]
    frames = follow(*script)
    assert {face.track for face in frames[5]} == {face.track for face in frames[-1]} == {1, 2}
    behind = [face.track for face in frames[5] if face.box.iou(script[5]["behind"]) > 0.5]
    after = [face.track for face in frames[-1] if face.box.iou(script[-1]["behind"]) > 0.5]
    assert behind == after


def test_of_too_many_faces_the_largest_are_followed(follow):
    faces = {str(size): Box(60 * number, 40, size, size) for number, size in enumerate((40, 44, 50, 54, 58))}
    frames = follow(*[faces] * 20, most=2)
    assert sorted(face.box.width for face in frames[-1]) == [54, 58]
    assert all(len(said) <= 2 for said in frames)


def test_a_larger_face_takes_the_place_of_a_smaller_one_only_once_it_is_confirmed(scripted_haar, paint):
    small, large = Box(40, 40, 60, 60), Box(300, 100, 120, 120)
    haar = scripted_haar()
    tracker = Tracker(haar, most=1, notice=0.0, rest=0.1)
    said = []
    for number in range(40):
        there = {"a": small} | ({"b": large} if number >= 10 else {})
        # Found for a moment, then for good.
        haar.faces = {"a": small} | ({"b": large} if number == 10 or number >= 30 else {})
        said.append(tracker.update(Frame(paint(there), number / FPS, number)))
    shown = [face for faces in numbers(said)[3:] for face in faces]
    assert len(shown) == 37
    assert sorted(shown) == shown
    assert shown[26] == 1
    assert shown[-1] == 2


@pytest.mark.parametrize("scene", ["faces=1,noise=2,seconds=4", "faces=4,noise=2,seconds=4", "script=cut"])
def test_a_box_is_as_large_as_its_face_and_not_as_haar_was_made_to_look(scene):
    people, said = play(f"synthetic:{scene}")
    sizes = [
        face.box.width / box.width
        for present, faces in zip(people, said, strict=True)
        for face in faces
        for box in present.values()
        if face.seen and face.box.iou(box) >= 0.3
    ]
    assert 0.95 <= np.median(sizes) <= 1.13
    assert np.percentile(sizes, 5) >= 0.85
    assert np.percentile(sizes, 95) <= 1.25


def test_a_clock_that_jumps_back_stops_nothing(scripted_haar, paint):
    haar, said = scripted_haar({"a": LEFT}), []
    tracker = Tracker(haar)
    for number, time in enumerate([0.0, 0.1, 0.2, 0.3, -100.0, -99.9, -99.8, -99.7, -99.6, -99.5, -99.4]):
        haar.faces = {"a": LEFT} if number < 5 else {"a": LEFT, "b": RIGHT}
        said.append(tracker.update(Frame(paint(haar.faces), time, number)))
    assert numbers(said)[3] == [1]
    assert numbers(said)[-1] == [1, 2]


def test_a_frame_of_another_size_is_another_scene(scripted_haar, paint):
    haar = scripted_haar({"a": LEFT})
    tracker = Tracker(haar, confirm=0.0)
    assert numbers([tracker.update(Frame(paint(haar.faces), 0.0, 0))]) == [[1]]
    haar.faces = {"a": moved(RIGHT, 200)}
    assert numbers([tracker.update(Frame(paint(haar.faces, (800, 600)), 0.1, 1))]) == [[2]]


@pytest.mark.parametrize("time", [0.1, -5.0])
@pytest.mark.parametrize("size", [(200, 150), (1, 1)])
def test_nobody_is_seen_in_a_smaller_picture_that_comes_at_the_time_of_the_one_before(time, size, scripted_haar, paint):
    haar = scripted_haar({"a": moved(RIGHT, 0, 150)})
    tracker = Tracker(haar, confirm=0.0)
    assert numbers([tracker.update(Frame(paint(haar.faces), at, 0)) for at in (0.0, 0.1)]) == [[1], [1]]
    haar.faces = {}
    assert tracker.update(Frame(paint({}, size), time, 2)) == []


def test_a_clock_that_stands_stops_nothing(scripted_haar, paint):
    haar = scripted_haar({})
    tracker = Tracker(haar, confirm=0.0)
    said = []
    for number in range(30):
        haar.faces = {"a": LEFT} if number else {}
        said.append(tracker.update(Frame(paint(haar.faces), 0.0, number)))
    assert numbers(said)[-1] == [1]


def test_with_the_eye_check_a_face_counts_once_an_eye_was_seen_in_it(follow):
    @dataclass
    class Eyes:
        seen: list[bool]

        def are_in(self, pyramid, box):
            return self.seen.pop(0)

    frames = follow(*[{"a": LEFT}] * 8, confirm=0.0, eyes=Eyes([False, False, False, True]))
    assert numbers(frames) == [[], [], [], *[[1]] * 5]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (23, 23), (24, 24)])
def test_frames_too_small_for_a_face_have_none(shape):
    tracker = Tracker(Detector())
    assert [tracker.update(Frame(np.full(shape, 77, np.uint8), number / 30, number)) for number in range(3)] == [[]] * 3


def test_the_region_of_a_frame_changes_nothing_about_the_smallest_face(scripted_haar, paint):
    haar = scripted_haar({"a": Box(20, 20, 40, 40)}, min_face=0.1)
    image = paint(haar.faces, (200, 100))
    whole = Tracker(haar, confirm=0.0).update(Frame(image, 0.0, 0, whole=(800, 600)))
    alone = Tracker(haar, confirm=0.0).update(Frame(image, 0.0, 0))
    assert whole == []  # 40 pixels are less than a tenth of 600
    assert [face.box for face in alone] == [Box(20, 20, 40, 40)]


@pytest.mark.parametrize("script", ["enter", "sit", "pan", "busy"])
def test_whoever_comes_is_noticed_within_half_a_second(script):
    people, said = play(f"synthetic:script={script},seconds=6")
    late = {who: delay(people, said, who) / FPS for who in {who for present in people for who in present}}
    assert all(seconds <= 0.5 for seconds in late.values()), late


@pytest.mark.parametrize(("script", "faces"), [("still", 2), ("pair", 2), ("cross", 2), ("enter", 3)])
def test_everybody_keeps_one_number_of_his_own(script, faces):
    people, said = play(f"synthetic:script={script},seconds=7")
    had = tracks_of(people, said)
    assert len(had) == faces
    assert all(len(tracks) == 1 for tracks in had.values()), had
    assert len(set.union(*had.values())) == faces


def test_nobody_in_another_scene_is_who_stood_there_before():
    people, said = play("synthetic:script=cut,seconds=6")
    false = [
        face
        for present, faces in zip(people, said, strict=True)
        for face in faces
        if not any(face.box.iou(box) > 0.3 for box in present.values())
    ]
    assert not false


def test_whoever_leaves_is_gone_within_patience():
    people, said = play("synthetic:script=leave,seconds=8")
    ends = [number for number, (before, after) in enumerate(pairwise(people)) if set(before) - set(after)]
    assert ends
    for number in ends:
        later = min(number + round(1.2 * FPS), len(said) - 1)
        assert len(said[later]) <= len(people[later])


def test_a_person_in_a_photograph_that_pans_is_one_face():
    photo = cv2.imread(str(SAMPLES / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    tracker = Tracker(Detector())
    frames = [tracker.update(Frame(photo[:, step * 6 : step * 6 + 440].copy(), step / 10, step)) for step in range(8)]
    assert all(1 in [face.track for face in faces] for faces in frames[1:])
    assert frames[1][0].box.x - frames[-1][0].box.x == pytest.approx(36, abs=10)


def test_who_is_forgotten_is_somebody_new_in_the_next_frame_and_found_at_once(scripted_haar, paint):
    haar = scripted_haar({"anna": LEFT})
    tracker = Tracker(haar)
    times = [number / FPS for number in range(30)]
    before = [tracker.update(Frame(paint(haar.faces), time, 0)) for time in times]
    tracker.forget()
    after = [tracker.update(Frame(paint(haar.faces), 500.0 + time, 0)) for time in times]
    assert [face.track for face in before[-1]] == [1]
    assert after[0] == []
    assert [face.track for face in after[5]] == [2]
