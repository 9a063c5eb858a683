"""USB cameras, with a small stand-in for OpenCV's capture: what is asked of the device, and what it answers."""

import threading

import cv2
import numpy as np
import pytest

from edge.camera import Limits, open_camera
from edge.errors import CameraError


def code(name):
    return cv2.VideoWriter.fourcc(*name)


class FakeCapture:
    """A device that has the pixel formats of `has`; asked for another one, it reports success and takes its first."""

    has = ("YUYV", "MJPG")
    made: list["FakeCapture"]

    def __init__(self, path, backend):
        assert (path, backend) == ("/dev/null", cv2.CAP_V4L2)
        self.format, self.asked, self.released, self.pictures = self.has[0], {}, threading.Event(), 0
        type(self).made.append(self)

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return True

    def set(self, key, value):
        if key == cv2.CAP_PROP_FOURCC:
            wanted = [name for name in self.has if code(name) == value]
            self.format = wanted[0] if wanted else self.has[0]
        self.asked[key] = value
        return True

    def get(self, key):
        assert key == cv2.CAP_PROP_FOURCC
        return float(code(self.format))

    def grab(self):
        self.pictures += 1
        return self.pictures <= 3 or self.released.wait(0.01)

    def retrieve(self):
        return True, np.full((48, 64, 3), self.pictures, np.uint8)

    def release(self):
        self.released.set()


@pytest.fixture
def device(monkeypatch):
    kind = type("Device", (FakeCapture,), {"made": []})
    monkeypatch.setattr("edge.camera.v4l2.cv2.VideoCapture", kind)
    return kind


@pytest.mark.parametrize(
    ("has", "wanted", "taken"),
    [
        (("YUYV", "MJPG"), "", "MJPG"),
        (("YUYV", "NV12"), "", "YUYV"),
        (("NV12", "YUYV"), "", "YUYV"),
        (("GREY",), "", "GREY"),
        (("MJPG", "YUYV"), "YUYV", "YUYV"),
        (("YUYV", "MJPG"), "MJPG", "MJPG"),
    ],
)
def test_the_pixel_format_is_the_one_asked_for_else_the_best_that_there_is(device, has, wanted, taken):
    device.has = has
    with open_camera("v4l2:/dev/null", pixel_format=wanted) as camera:
        assert camera.read().size == (64, 48)
    assert device.made[0].format == taken


def test_a_pixel_format_that_the_camera_does_not_have_is_refused_with_what_it_gives(device):
    device.has = ("YUYV", "NV12")
    with pytest.raises(CameraError, match=r"/dev/null: does not deliver MJPG but YUYV; leave source\.format empty"):
        open_camera("v4l2:/dev/null", pixel_format="MJPG")
    assert device.made[0].released.is_set()


def test_size_rate_and_the_shortest_queue_are_asked_for(device):
    open_camera("v4l2:/dev/null", size=(1280, 720), fps=15.0).close()
    asked = device.made[0].asked
    assert asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert asked[cv2.CAP_PROP_FRAME_HEIGHT] == 720
    assert asked[cv2.CAP_PROP_FPS] == 15.0
    assert asked[cv2.CAP_PROP_BUFFERSIZE] == 1


def test_a_camera_that_was_asked_to_be_slow_may_be(device):
    limits = Limits(opening=15.0, silent=2.0, frozen=2.0)
    with open_camera("v4l2:/dev/null", fps=0.5, limits=limits) as camera:
        assert camera.limits == Limits(opening=15.0, silent=6.0, frozen=6.0)
    with open_camera("v4l2:/dev/null", fps=30.0, limits=limits) as camera:
        assert camera.limits == limits
    with open_camera("v4l2:/dev/null", fps=0.5, limits=Limits(frozen=0.0)) as camera:
        assert camera.limits.frozen == 0.0
