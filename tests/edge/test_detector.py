"""Haar on the sample photos."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import cascade
from edge.cascade import FACES as CASCADE
from edge.cascade import find_cascade
from edge.detector import Detector
from edge.errors import BadDataError, InputNotFoundError, UnavailableError
from edge.frame import Box
from edge.pictures import read_picture

SAMPLES = Path(__file__).parents[2] / "edge/samples"

FACES = {
    "astronaut.png": [Box(177, 66, 95, 95)],
    "grace_hopper.jpg": [Box(155, 105, 222, 222)],
    # The six whole faces of this part of the Solvay photograph.
    "solvay_conference.jpg": [
        Box(39, 177, 111, 111),
        Box(223, 69, 125, 125),
        Box(358, 175, 142, 142),
        Box(592, 60, 103, 103),
        Box(763, 163, 124, 124),
        Box(853, 68, 103, 103),
    ],
}


@pytest.mark.parametrize("name", FACES)
def test_every_face_of_the_samples_is_found_and_nothing_else_from_left_to_right(name):
    found = Detector().detect(read_picture(SAMPLES / name).gray)
    assert [round(box.iou(face)) for box, face in zip(found, FACES[name], strict=True)] == [1] * len(FACES[name])


def test_faces_below_the_smallest_size_are_left_out():
    gray = read_picture(SAMPLES / "solvay_conference.jpg").gray
    assert all(box.width >= 0.14 * 960 for box in Detector(min_face=0.14).detect(gray))
    assert Detector(min_face=0.3).detect(gray) == []


@pytest.mark.parametrize("shape", [(1, 1), (23, 400), (24, 24), (480, 640)])
def test_an_empty_or_tiny_picture_has_no_face(shape):
    assert Detector().detect(np.zeros(shape, np.uint8)) == []


def test_a_picture_that_is_a_view_into_another_is_searched_as_well():
    gray = read_picture(SAMPLES / "grace_hopper.jpg").gray
    (box,) = Detector().detect(gray[50:, 100:])
    assert box.iou(Box(55, 55, 222, 222)) > 0.7


def test_our_copy_of_the_cascade_comes_first_then_the_wheels_then_debians(tmp_path, monkeypatch):
    assert find_cascade() == cascade.OURS / CASCADE
    monkeypatch.setattr(cascade, "OURS", tmp_path / "gone")
    wheel = find_cascade()
    assert wheel.parent == Path(cv2.data.haarcascades)
    debian = tmp_path / "debian" / CASCADE
    debian.parent.mkdir()
    debian.touch()
    monkeypatch.setattr(cv2.data, "haarcascades", str(tmp_path / "empty"))
    monkeypatch.setattr(cascade, "DEBIAN", debian.parent)
    assert find_cascade() == debian
    monkeypatch.delattr(cv2, "data")
    assert find_cascade() == debian
    debian.unlink()
    with pytest.raises(InputNotFoundError, match="apt install opencv-data"):
        find_cascade()


def test_a_cascade_whose_name_opencv_would_fall_over_is_refused(tmp_path):
    odd = tmp_path / os.fsdecode(b"caf\xe9.xml")
    odd.write_bytes((cascade.OURS / CASCADE).read_bytes())
    with pytest.raises(BadDataError, match="not a Haar cascade, or a damaged one"):
        cascade.load_cascade(odd)


def test_a_cascade_that_was_named_and_is_not_there_is_never_replaced(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"mine\.xml"):
        Detector(tmp_path / "mine.xml")


@pytest.mark.parametrize("content", ["", "<xml", "<opencv_storage/>", (cascade.OURS / CASCADE).read_text()[:20_000]])
def test_a_broken_cascade_is_refused_by_name_in_silence(content, tmp_path, capfd):
    path = tmp_path / "broken.xml"
    path.write_text(content)
    with pytest.raises(BadDataError, match=r"broken\.xml: not a Haar cascade"):
        Detector(path)
    assert capfd.readouterr().err == ""


def test_opencv_5_is_answered_with_what_to_install(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(UnavailableError, match="opencv-python-headless<5"):
        Detector()


def test_a_scale_factor_that_would_never_end_is_refused():
    with pytest.raises(ValueError, match="scale_factor"):
        Detector(scale_factor=1.0)
