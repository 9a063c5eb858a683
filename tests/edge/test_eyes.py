from pathlib import Path

import cv2
import pytest

import edge
from edge.eyes import Eyes
from edge.frame import Box
from edge.pictures import read_picture
from edge.pyramid import Pyramid

SAMPLES = Path(edge.__file__).parent / "samples"


@pytest.fixture(scope="module")
def eyes():
    return Eyes()


@pytest.mark.parametrize(
    ("name", "face"),
    [("astronaut.png", Box(177, 66, 95, 95)), ("grace_hopper.jpg", Box(155, 105, 222, 222))],
)
@pytest.mark.parametrize("smaller", [1.0, 0.5])
def test_a_face_has_eyes(eyes, name, face, smaller):
    gray = read_picture(SAMPLES / name).gray
    small = cv2.resize(gray, None, fx=smaller, fy=smaller, interpolation=cv2.INTER_AREA)
    assert eyes.are_in(Pyramid(small), Box(*(round(value * smaller) for value in face.as_tuple())))


@pytest.mark.parametrize("box", [Box(30, 320, 95, 95), Box(330, 300, 150, 150), Box(-500, 0, 40, 40)])
def test_a_suit_a_flag_and_what_lies_outside_have_none(eyes, box):
    assert not eyes.are_in(Pyramid(read_picture(SAMPLES / "astronaut.png").gray), box)
