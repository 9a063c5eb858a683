"""The hand-made labels of the clip are well formed, belong to that clip alone, and lie where faces are."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.label_clip import FRONTAL, LABELS, LabelledFace, read_labels, sheets, show
from edge.cascade import find_cascade
from edge.errors import BadDataError, InputNotFoundError
from edge.frame import Box

CLIP = Path(os.environ.get("MIEN_CLIP", Path(__file__).parents[3] / "shared/media/clip.mp4"))
KNOWN = json.loads(LABELS.read_text(encoding="utf-8"))

with_the_clip = pytest.mark.skipif(not CLIP.is_file(), reason="the clip is not here (MIEN_CLIP)")


def test_every_seventh_frame_is_labelled_with_square_boxes_that_touch_the_frame():
    width, height = KNOWN["size"]
    assert list(map(int, KNOWN["frames"])) == list(range(0, 275, 7))
    for faces in KNOWN["frames"].values():
        assert faces
        for face in faces:
            x, y, wide, high = face["box"]
            assert wide == high >= 30
            assert -wide < x < width
            assert -high < y < height
            if face["frontal"]:
                assert 0 <= x <= width - wide
                assert 0 <= y <= height - high


def test_another_video_is_refused(tmp_path):
    (tmp_path / "other.mp4").write_bytes(b"another")
    with pytest.raises(BadDataError, match=r"other\.mp4: not the video that .*clip_faces\.json was made for"):
        read_labels(tmp_path / "other.mp4")
    with pytest.raises(InputNotFoundError, match=r"clip\.mp4: not there"):
        read_labels(tmp_path / "clip.mp4")


def test_a_box_is_drawn_where_it_lies_and_tells_frontal_from_turned():
    ground = np.zeros((100, 200, 3), np.uint8)
    shown = show(ground, "frame 3", [LabelledFace(Box(50, 40, 30, 30), frontal=True)], [(120, 40, 30, 30)])
    assert shown.shape == (200, 400, 3)
    assert tuple(shown[80, 130]) == FRONTAL
    turned = show(ground, "frame 3", [LabelledFace(Box(50, 40, 30, 30), frontal=False)], [])
    assert tuple(turned[80, 130]) != FRONTAL
    assert (turned[80, 270] == show(ground, "frame 3", [], [])[80, 270]).all()
    assert (shown[80, 270] != turned[80, 270]).any()


@with_the_clip
def test_what_haar_finds_on_the_clip_is_labelled_and_most_frontal_faces_are_found():
    labels = read_labels(CLIP)
    cascade = cv2.CascadeClassifier(str(find_cascade()))
    video = cv2.VideoCapture(str(CLIP))
    found = false = frontal = 0
    for number in range(max(labels) + 1):
        assert video.grab()
        if number not in labels or number % 3:  # a third of them is enough to see a slip
            continue
        gray = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2GRAY)
        boxes = [Box(*map(int, box)) for box in cascade.detectMultiScale(gray, 1.1, 5, minSize=(30, 30))]
        faces = labels[number]
        frontal += sum(face.frontal for face in faces)
        found += sum(face.frontal and any(face.box.iou(box) > 0.6 for box in boxes) for face in faces)
        false += sum(max(face.box.iou(box) for face in faces) < 0.4 for box in boxes)
    assert found >= 0.6 * frontal > 4
    assert false <= 1


@with_the_clip
def test_a_sheet_shows_four_frames_twice_as_large():
    labels = read_labels(CLIP)
    assert next(sheets(CLIP, labels, every=7)).shape == (1440, 2560, 3)
