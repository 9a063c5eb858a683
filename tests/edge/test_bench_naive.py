"""The loop that everybody writes."""

import numpy as np
import pytest

from edge.bench_naive import NaiveLoop
from edge.camera.synthetic import SAMPLES
from edge.detector import Detector
from edge.frame import Box, Frame
from edge.pictures import read_picture


class Model:
    def __init__(self, channels):
        self.channels = channels
        self.asked = []

    def classify(self, image, box):
        self.asked.append((image.ndim, box))
        return np.float32([1.0])


@pytest.mark.parametrize(("channels", "dimensions"), [(1, 2), (3, 3)])
def test_each_face_of_a_whole_frame_is_classified_once(channels, dimensions):
    picture = read_picture(SAMPLES / "grace_hopper.jpg")
    model = Model(channels)
    found = NaiveLoop(Detector().cascade, model).look(Frame(picture.gray, 0.0, 0, color=picture.color))
    assert any(box.iou(Box(155, 105, 222, 222)) > 0.7 for box in found)
    assert model.asked == [(dimensions, box) for box in found]


def test_nothing_is_found_where_nobody_is():
    model = Model(1)
    assert NaiveLoop(Detector().cascade, model).look(Frame(np.zeros((60, 80), np.uint8), 0.0, 0)) == []
    assert model.asked == []
