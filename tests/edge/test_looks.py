import gc
import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import edge
from edge.frame import Box
from edge.looks import FLAT, Looks
from edge.pictures import read_picture
from edge.pyramid import Pyramid

SAMPLES = Path(edge.__file__).parent / "samples"
FACE = Box(200, 120, 90, 90)
SIZE = (640, 360)


def shifted(box: Box, dx: int, dy: int) -> Box:
    return Box(box.x + dx, box.y + dy, box.width, box.height)


@given(
    side=st.integers(24, 220),
    corner=st.tuples(st.integers(0, 400), st.integers(0, 120)),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_a_face_is_found_where_it_went_to_within_a_tenth_of_its_side(side, corner, shift, paint):
    before = Box(*corner, side, side)
    after = shifted(before, *(round(share * side) for share in shift))
    assume(after.within(*SIZE) == after)
    looks = Looks(Pyramid(paint({"a": before})), before)
    found = looks.find(Pyramid(paint({"a": after})), before.middle, far=0.6)
    assert found == pytest.approx(after.middle, abs=max(2, 0.1 * side))


@given(side=st.integers(24, 330), corner=st.tuples(st.integers(0, 310), st.integers(0, 30)))
def test_a_face_that_stays_is_found_exactly_where_it_was(side, corner, paint):
    box = Box(*corner, side, side)
    pyramid = Pyramid(paint({"a": box}))
    assert Looks(pyramid, box).find(pyramid, box.middle, far=0.3) == pytest.approx(box.middle, abs=0.01)


def test_who_is_followed_by_looks_alone_does_not_creep_away(paint):
    box = Box(201, 121, 77, 77)
    pyramid = Pyramid(paint({"a": box}))
    looks, middle = Looks(pyramid, box), box.middle
    for _ in range(100):
        middle = looks.find(pyramid, middle, far=0.3)
    assert middle == pytest.approx(box.middle, abs=0.01)


@pytest.mark.parametrize(("gain", "offset"), [(0.5, 0), (1.0, 60), (1.0, -60), (1.3, -20), (0.2, 10)])
def test_brighter_and_darker_light_change_nothing(gain, offset):
    gray = read_picture(SAMPLES / "grace_hopper.jpg").gray
    box = Box(155, 105, 222, 222)
    lit = np.clip(gray * gain + offset, 0, 255).astype(np.uint8)
    assert Looks(Pyramid(gray), box).find(Pyramid(lit), box.middle, far=0.2) == pytest.approx(box.middle, abs=8)


def test_somebody_else_in_the_same_place_is_not_the_same_face(paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    assert looks.find(Pyramid(paint({"b": FACE})), FACE.middle, far=0.3) is None


def test_nobody_is_recognised_where_the_face_is_gone(paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    noise = np.random.default_rng(1).integers(0, 256, SIZE[::-1], np.uint8)
    for without in (paint({}), noise, np.zeros_like(noise), np.full_like(noise, 255)):
        assert looks.find(Pyramid(without), FACE.middle, far=0.5) is None


@given(level=st.integers(0, 255), ripple=st.integers(0, 2), seed=st.integers(0, 9))
def test_a_wall_is_never_taken_for_the_face_whatever_its_brightness(level, ripple, seed, paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    noise = np.random.default_rng(seed).integers(-ripple, ripple + 1, SIZE[::-1])
    wall = np.clip(level + noise, 0, 255).astype(np.uint8)
    assert looks.find(Pyramid(wall), FACE.middle, far=0.5) is None


def test_who_went_further_than_he_can_have_is_not_sought_there(paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    away = Pyramid(paint({"a": shifted(FACE, 80, 0)}))
    assert looks.find(away, FACE.middle, far=0.2) is None
    assert looks.find(away, FACE.middle, far=1.0) == pytest.approx((325, 165), abs=6)


def test_of_two_who_look_alike_the_nearer_is_meant_if_only_he_is_within_reach(paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    twins = paint({"a": FACE})
    twins[:, 400:490] = twins[:, 200:290]
    assert looks.find(Pyramid(twins), FACE.middle, far=0.3) == pytest.approx(FACE.middle, abs=4)
    assert looks.find(Pyramid(twins), (445.0, 165.0), far=0.3) == pytest.approx((445, 165), abs=4)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_a_face_without_any_contrast_cannot_be_recognised(level):
    plain = np.full(SIZE[::-1], level, np.uint8)
    plain[::2] = min(255, level + int(FLAT))
    pyramid = Pyramid(plain)
    assert Looks(pyramid, FACE).find(pyramid, FACE.middle, far=0.3) is None


@pytest.mark.parametrize("middle", [(-500.0, 165.0), (245.0, -1e6), (5000.0, 5000.0), (-90.0, -90.0), (639.0, 359.0)])
def test_where_the_face_should_be_may_lie_outside_the_picture(middle, paint):
    pyramid = Pyramid(paint({"a": FACE}))
    assert Looks(pyramid, FACE).find(pyramid, middle, far=0.3) is None


@pytest.mark.parametrize("corner", [(0, 0), (550, 0), (0, 270), (550, 270)])
def test_a_face_in_a_corner_is_found_again(corner, paint):
    box = Box(*corner, 90, 90)
    pyramid = Pyramid(paint({"a": box}))
    assert Looks(pyramid, box).find(pyramid, box.middle, far=1.0) == pytest.approx(box.middle, abs=0.01)


@pytest.mark.parametrize("size", [(1, 1), (640, 1), (1, 360), (24, 24), (300, 170)])
def test_in_a_smaller_picture_in_which_it_has_no_room_a_face_is_not_found(size, paint):
    looks = Looks(Pyramid(paint({"a": FACE})), FACE)
    assert looks.find(Pyramid(paint({}, size)), FACE.middle, far=1.0) is None


@pytest.mark.parametrize("side", [1, 2, 5, 23])
def test_the_smallest_of_boxes_is_remembered(side, paint):
    box = Box(210, 130, side, side)
    pyramid = Pyramid(paint({"a": FACE}))
    found = Looks(pyramid, box).find(pyramid, box.middle, far=0.1)
    assert found is None or found == pytest.approx(box.middle, abs=side)


def test_a_remembered_face_does_not_keep_its_frame_in_memory(paint):
    image = paint({"a": Box(100, 30, 300, 300), "b": Box(20, 20, 24, 24)})
    remembered = []
    frame = weakref.ref(image)
    for box in (Box(100, 30, 300, 300), Box(20, 20, 24, 24)):
        looks = Looks(Pyramid(image), box)
        assert looks.find(Pyramid(image), box.middle, far=0.1) is not None
        remembered.append(looks)
    del image
    gc.collect()
    assert frame() is None
    assert len(remembered) == 2


def test_a_face_is_followed_at_every_resolution_of_the_camera():
    photo = read_picture(SAMPLES / "astronaut.png").gray
    for times in (0.5, 1.0, 2.0, 4.0):
        picture = cv2.resize(photo, None, fx=times, fy=times, interpolation=cv2.INTER_AREA)
        box = Box(*(round(value * times) for value in (177, 66, 95, 95)))
        step = round(12 * times)
        moved = np.roll(picture, step, axis=1)
        found = Looks(Pyramid(picture), box).find(Pyramid(moved), box.middle, far=0.3)
        assert found == pytest.approx((box.middle[0] + step, box.middle[1]), abs=0.06 * box.width)
