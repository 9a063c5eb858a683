"""What an annotated picture promises: everything inside it, nothing hidden, readable at any size."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.annotate import PALETTE, SPARE, TRACK, draw, label_colors
from edge.camera.synthetic import Scene, SyntheticCamera
from edge.detector import Detector
from edge.frame import Box
from edge.labels import FER2013_LABELS, UNCERTAIN
from edge.pictures import read_picture

SAMPLES = Path(__file__).parents[2] / "edge/samples"
SCORES = [0.02, 0.01, 0.03, 0.83, 0.02, 0.04, 0.05]
GREY = 128


def ground(width, height):
    return np.full((height, width, 3), GREY, np.uint8)


def near(image, color, within=40):
    """Where a picture has a colour, about."""
    return cv2.inRange(image, *(np.clip(np.array(color) + off, 0, 255) for off in (1 - within, within - 1))) > 0


def test_the_picture_given_is_left_as_it_is_and_the_copy_has_its_size():
    image = read_picture(SAMPLES / "astronaut.png").color
    before = image.copy()
    result = draw(image, [(Box(177, 66, 95, 95), "happy", 0.83, SCORES)], FER2013_LABELS)
    assert np.array_equal(image, before)
    assert result.shape == image.shape
    assert result.dtype == np.uint8


def test_no_face_leaves_the_picture_as_it_is():
    image = read_picture(SAMPLES / "astronaut.png").color
    assert np.array_equal(draw(image, [], FER2013_LABELS), image)


def test_the_inside_of_a_face_stays_visible():
    image = read_picture(SAMPLES / "grace_hopper.jpg").color
    result = draw(image, [(Box(155, 105, 222, 222), "neutral", 0.7, SCORES)], FER2013_LABELS)
    assert np.array_equal(result[112:320, 162:370], image[112:320, 162:370])


def test_a_tag_has_the_expressions_colour_and_the_panel_a_longer_bar_for_a_higher_score():
    result = draw(ground(640, 480), [(Box(200, 150, 120, 120), "happy", 0.83, SCORES)], FER2013_LABELS)
    happy, surprise = (near(result[:, 340:], PALETTE[label], 10).sum() for label in ("happy", "surprise"))
    assert near(result[:148], PALETTE["happy"]).sum() > 500
    assert happy > 4 * surprise > 0


@pytest.mark.parametrize(
    "size", [(1, 1), (48, 48), (64, 48), (640, 48), (48, 640), (320, 240), (1920, 1080), (3000, 2000)]
)
def test_any_size_of_picture_is_annotated_in_proportion(size):
    width, height = size
    face = Box(width // 4, height // 4, max(1, width // 4), max(1, width // 4))
    result = draw(ground(width, height), [(face, "happy", 0.83, SCORES)], FER2013_LABELS)
    zoom = result.shape[1] // width
    assert result.shape == (height * zoom, width * zoom, 3)
    assert max(result.shape) >= 400
    assert zoom == 1 or max(size) < 400
    painted = (result != GREY).any(axis=2).mean()
    assert 0.005 < painted < 0.8


def test_a_face_that_fills_a_small_picture_still_gets_its_panel():
    result = draw(ground(48, 48), [(Box(0, 0, 48, 48), "happy", 0.83, SCORES)], FER2013_LABELS)
    corner = result[result.shape[0] // 2 :, : result.shape[1] // 2]
    assert (corner.max(axis=2) < 90).sum() > 5000


@pytest.mark.parametrize("at", [(-40, -40), (560, 400), (600, -60), (-5000, 20)])
def test_a_face_at_the_edge_or_beyond_keeps_its_tag_in_the_picture(at):
    face = Box(*at, 120, 120)
    result = draw(ground(640, 480), [(face, "happy", 0.83, SCORES)], FER2013_LABELS)
    assert near(result, PALETTE["happy"]).sum() > 1000


def test_neighbours_hide_nothing_of_each_other():
    picture = read_picture(SAMPLES / "solvay_conference.jpg")
    boxes = Detector().detect(picture.gray)
    result = draw(picture.color, [(box, "neutral", 0.5, SCORES) for box in boxes], FER2013_LABELS)
    for box in boxes:
        middle = np.s_[box.y + 25 : box.y + box.height - 25, box.x + 25 : box.x + box.width - 25]
        assert np.array_equal(result[middle], picture.color[middle])


def pieces(image, color):
    """How many patches of a colour there are; the soft edge of a letter is none."""
    *_, stats, _ = cv2.connectedComponentsWithStats(near(image, color, 12).astype(np.uint8))
    return int((stats[1:, cv2.CC_STAT_AREA] >= 8).sum())


def test_a_face_with_room_beside_it_gets_a_panel_with_names_and_numbers():
    alone = draw(ground(640, 480), [(Box(200, 150, 120, 120), "happy", 0.83, SCORES)], FER2013_LABELS)
    assert near(alone, TRACK, 3).sum() > 500


def test_in_a_crowd_every_face_has_a_bar_for_every_label_and_one_legend_tells_the_colours():
    picture = SyntheticCamera(scene=Scene(faces=48, size=(1000, 700)))
    boxes = picture.truth(0)
    plain = ground(1000, 700)
    result = draw(plain, [(box, UNCERTAIN, 0.5, [0.5] * 7) for box in boxes], FER2013_LABELS)
    assert [pieces(result, PALETTE[label]) for label in FER2013_LABELS] == [48 + 1] * 7
    for box in boxes:
        eyes = np.s_[box.y + box.height // 5 : box.y + box.height * 3 // 5, box.x + 12 : box.x + box.width - 12]
        assert (result[eyes] == GREY).all()


def test_bars_are_as_high_as_their_scores_and_what_reads_nothing_has_none():
    boxes = SyntheticCamera(scene=Scene(faces=12, size=(640, 480))).truth(0)
    scores = [0.8, 0.4, 0.2, 0.1, 0.0, 0.0, 0.0]
    result = draw(ground(640, 480), [(box, UNCERTAIN, 0.8, scores) for box in boxes], FER2013_LABELS)
    without = draw(ground(640, 480), [(box, UNCERTAIN, 0.8, [0.0] * 7) for box in boxes], FER2013_LABELS)
    areas = [
        int(near(result, PALETTE[label], 12).sum() - near(without, PALETTE[label], 12).sum())
        for label in FER2013_LABELS
    ]
    assert areas[0] / areas[1] == pytest.approx(2, rel=0.2)
    assert areas[1] / areas[2] == pytest.approx(2, rel=0.3)
    assert areas[4:] == [0, 0, 0]


@pytest.mark.parametrize("size", [(640, 360), (300, 400)])
@pytest.mark.parametrize("share", [0.04, 0.1, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_all_scores_of_a_face_are_shown_whatever_its_size_and_place(size, share, at):
    width, height = size
    side = round(share * min(size))
    box = Box(round(at * (width - side)), round(at * (height - side)), side, side)
    result = draw(ground(width, height), [(box, UNCERTAIN, 0.5, [0.5] * 7)], FER2013_LABELS)
    assert all(near(result, PALETTE[label], 12).sum() >= 6 for label in FER2013_LABELS)


def test_a_model_of_many_labels_is_drawn_too():
    labels = [f"label {number}" for number in range(40)]
    result = draw(ground(640, 480), [(Box(200, 150, 120, 120), labels[0], 0.5, [0.5] * 40)], labels)
    assert all(near(result, color, 12).any() for color in SPARE)


def test_grey_pictures_unknown_labels_and_uncertain_faces_are_drawn_too():
    labels = ("calm", "cross")
    result = draw(np.full((480, 640), GREY, np.uint8), [(Box(200, 150, 120, 120), UNCERTAIN, 0.5, [0.5, 0.5])], labels)
    colors = label_colors(labels)
    assert colors["calm"] != colors["cross"]
    assert near(result, colors["calm"], 10).any()
    assert near(result, PALETTE[UNCERTAIN], 10).any()


def test_the_same_faces_give_the_same_picture():
    face = [(Box(200, 150, 120, 120), "happy", 0.83, np.array(SCORES, np.float32))]
    assert np.array_equal(draw(ground(640, 480), face, FER2013_LABELS), draw(ground(640, 480), face, FER2013_LABELS))
