from pathlib import Path

import cv2
import numpy as np
import pytest

import edge
from edge.detector import Detector
from edge.frame import Box, Face, Frame
from edge.tracker import Tracker, associate

SAMPLES = Path(edge.__file__).parent / "samples"
LEFT = Box(40, 40, 100, 100)
RIGHT = Box(400, 40, 100, 100)


class Scripted:
    """A detector that finds what it was told to, frame after frame."""

    def __init__(self, *found):
        self.found = iter(found)

    def detect(self, gray):
        return list(next(self.found))


def moved(box: Box, dx: int, dy: int = 0) -> Box:
    return Box(box.x + dx, box.y + dy, box.width, box.height)


def follow(*found, fps=10.0, confirm=0.1, patience=1.0) -> list[list[Face]]:
    tracker = Tracker(Scripted(*found), confirm=confirm, patience=patience)
    gray = np.zeros((360, 640), np.uint8)
    return [tracker.update(Frame(gray, number / fps, number)) for number in range(len(found))]


def numbers(frames: list[list[Face]]) -> list[list[int]]:
    return [[face.track for face in faces] for faces in frames]


def test_a_face_is_believed_once_it_has_been_found_for_a_while():
    assert numbers(follow([LEFT], [LEFT], [LEFT], confirm=0.2)) == [[], [], [1]]


@pytest.mark.parametrize("fps", [5.0, 10.0, 25.0, 30.0, 29.97])
def test_belief_takes_seconds_and_not_frames(fps):
    frames = follow(*[[LEFT]] * 40, fps=fps, confirm=0.2)
    first = next(number for number, faces in enumerate(frames) if faces)
    assert first == int(np.ceil(0.2 * fps - 1e-6))


def test_without_confirmation_the_first_sight_is_believed():
    assert numbers(follow([LEFT], confirm=0.0)) == [[1]]


def test_a_flicker_is_never_a_face():
    assert numbers(follow([LEFT], [], [LEFT], [], [LEFT], [])) == [[]] * 6


def test_a_face_that_moves_keeps_its_number():
    frames = follow(*[[moved(LEFT, 30 * step)] for step in range(8)])
    assert numbers(frames)[1:] == [[1]] * 7
    assert frames[-1][0].box == moved(LEFT, 210)


def test_faces_keep_their_numbers_whatever_the_order_they_are_found_in():
    frames = follow([LEFT, RIGHT], [LEFT, RIGHT], [RIGHT, LEFT])
    assert [[(face.track, face.box) for face in faces] for faces in frames[1:]] == [[(1, LEFT), (2, RIGHT)]] * 2


def test_a_face_missed_for_a_moment_stays_where_it_was_seen():
    frames = follow([LEFT], [LEFT], [], [], [moved(LEFT, 10)])
    assert numbers(frames)[1:] == [[1]] * 4
    assert [faces[0].seen for faces in frames[1:]] == [True, False, False, True]
    assert frames[3][0].box == LEFT


def test_a_face_missed_for_longer_than_patience_is_gone():
    frames = follow([LEFT], [LEFT], *[[]] * 4, patience=0.3)
    assert numbers(frames) == [[], [1], [1], [1], [1], []]


def test_a_number_is_never_used_again():
    frames = follow([LEFT], [LEFT], [], [], [LEFT], [LEFT], patience=0.1)
    assert numbers(frames) == [[], [1], [1], [], [], [2]]


def test_a_source_slower_than_patience_still_has_faces():
    assert numbers(follow(*[[LEFT]] * 4, fps=0.5)) == [[], [1], [1], [1]]


def test_faces_far_apart_are_two():
    assert numbers(follow([LEFT], [LEFT], [RIGHT], [RIGHT]))[3] == [1, 2]


def test_the_best_overlap_is_paired_first():
    near, nearer = moved(LEFT, 20), moved(LEFT, 5)
    assert associate([LEFT], [near, nearer]) == {0: 1}
    assert associate([LEFT, near], [nearer, moved(near, 30)]) == {0: 0, 1: 1}


def test_boxes_that_hardly_touch_are_not_paired():
    assert associate([LEFT], [moved(LEFT, 60)]) == {}
    assert associate([], [LEFT]) == {}


def test_a_person_in_a_photograph_that_pans_is_one_face():
    photo = cv2.imread(str(SAMPLES / "astronaut.png"), cv2.IMREAD_GRAYSCALE)
    tracker = Tracker(Detector())
    frames = [tracker.update(Frame(photo[:, step * 6 :].copy(), step / 10, step)) for step in range(8)]
    assert all(1 in [face.track for face in faces] for faces in frames[1:])
    assert frames[1][0].box.x - frames[-1][0].box.x == pytest.approx(36, abs=10)
