"""Scores of hand-made boxes."""

import pytest

from edge.bench_score import Agreement, Truth, agreement, false_faces, pairs, recall, stable_faces
from edge.frame import Box

FACE = Box(100, 100, 50, 50)
NEAR = Box(105, 103, 50, 50)  # IoU 0.71 with FACE
MOUTH = Box(112, 125, 25, 25)  # half its side: IoU 0.25
ELSEWHERE = Box(300, 100, 50, 50)


def test_boxes_are_paired_one_to_one_even_where_the_nearest_one_is_taken():
    # The middle box suits both others; only one of the two ways leaves nobody alone.
    left, middle, right = Box(0, 0, 100, 100), Box(30, 0, 100, 100), Box(60, 0, 100, 100)
    assert pairs([middle, left], [left, right], 0.4) == 2
    assert pairs([middle, left], [right, left], 0.4) == 2
    assert pairs([left, middle], [middle], 0.4) == 1
    assert pairs([left], [right], 0.4) == 0
    assert pairs([], [left], 0.4) == 0


def test_faces_of_two_pipelines_are_told_apart_frame_by_frame():
    first = [[FACE], [FACE, ELSEWHERE], [], [FACE]]
    second = [[NEAR], [NEAR], [FACE], [MOUTH]]
    assert agreement(first, second) == Agreement(both=2, first=2, second=2)


@pytest.mark.parametrize(
    ("found_in", "stable_in"),
    [
        ({0, 1, 2, 3, 4, 5, 6}, {0, 1, 2, 3, 4, 5, 6}),
        ({0, 1, 3, 5, 6}, {0, 1, 3, 5, 6}),  # in 5 of the 7
        ({0, 1, 3, 5}, set()),  # in 4
        ({4}, set()),
    ],
)
def test_a_face_is_stable_that_is_found_in_five_of_seven_frames(found_in, stable_in):
    found = [[FACE] if at in found_in else [] for at in range(7)]
    assert {at for at, boxes in enumerate(stable_faces(found)) if boxes} == stable_in


def test_the_seven_frames_lie_around_the_face_and_at_the_ends_beside_it():
    # Found in frames 0 to 4 and from 20 on, of 30; frame 3's neighbours are 0 to 6, frame 4's are 1 to 7.
    found = [[FACE] if at < 5 or at >= 20 else [] for at in range(30)]
    stable = [at for at, boxes in enumerate(stable_faces(found)) if boxes]
    assert stable == [0, 1, 2, 3, *range(21, 30)]


def test_two_faces_are_stable_each_for_itself_and_may_move():
    found = [[Box(100 + 4 * at, 100, 50, 50)] for at in range(9)]
    found[4].append(ELSEWHERE)
    assert stable_faces(found) == [[boxes[0]] for boxes in found]


def test_a_clip_of_less_than_seven_frames_needs_five_all_the_same():
    assert stable_faces([[FACE]] * 4) == [[]] * 4
    assert stable_faces([[FACE]] * 5) == [[FACE]] * 5
    assert stable_faces([]) == []


def test_recall_counts_every_face_of_every_frame_and_tells_where_one_was_missed():
    wanted = [[FACE, ELSEWHERE], [FACE, ELSEWHERE], [FACE]]
    found = [[NEAR, ELSEWHERE], [MOUTH, FACE], []]
    told = recall(wanted, found)
    assert (told.faces, told.missed) == (5, (1, 2))
    assert told.share == pytest.approx(3 / 5)


def test_one_box_finds_one_face_only():
    close = [Box(100, 100, 50, 50), Box(110, 100, 50, 50)]
    assert recall([close], [[Box(105, 100, 50, 50)]]).missed == (0,)


def test_recall_of_nothing_is_unknown():
    assert recall([[], []], [[FACE], []]).share is None


@pytest.mark.parametrize(
    ("found", "false"),
    [
        ([FACE], 0),
        ([Box(80, 80, 90, 90)], 0),  # 1.8 times the side about the same centre: IoU 0.31
        ([Box(75, 75, 100, 100)], 1),  # twice
        ([MOUTH], 1),
        ([Box(125, 100, 50, 50)], 0),  # half a side off: IoU 0.33
        ([Box(135, 100, 50, 50)], 1),
        ([ELSEWHERE], 1),
        ([FACE, NEAR], 1),  # two boxes on one face
        ([], 0),
    ],
)
def test_a_false_face_lies_on_no_face_or_on_one_that_has_a_box(found, false):
    assert false_faces([Truth([FACE])], [found]) == [false]


def test_a_doubtful_face_may_be_found_or_not():
    truth = [Truth([FACE], [ELSEWHERE])] * 2
    found = [[FACE, ELSEWHERE], [FACE]]
    assert false_faces(truth, found) == [0, 0]
    assert recall([known.faces for known in truth], found).share == 1.0
