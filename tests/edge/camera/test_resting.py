"""A camera that is let go of for a while."""

import numpy as np
import pytest

from edge.camera import View, is_live, open_camera
from edge.camera.base import Camera, Limits
from edge.camera.resting import RestingCamera
from edge.camera.view import ViewedCamera
from edge.errors import CameraError, UsageError
from edge.frame import Frame


class Device(Camera):
    """One opening of a device; `rests` where it can do so without being closed."""

    spec, live = "cam", True

    def __init__(self, *, rests=False):
        self.limits = Limits(silent=0.7)
        self.rests, self.rested, self.closed, self.reads = rests, 0, False, 0

    def read(self):
        assert not self.closed
        self.reads += 1
        return Frame(np.zeros((4, 4), np.uint8), float(self.reads), self.reads)

    def rest(self):
        self.rested += 1
        return self.rests

    def close(self):
        self.closed = True


@pytest.fixture
def opened():
    return []


@pytest.fixture
def camera(opened):
    def make(view=None, **options):
        def open_():
            opened.append(Device(**options))
            return ViewedCamera(opened[-1], view) if view else opened[-1]

        return RestingCamera("cam", open_)

    return make


def test_nothing_is_touched_until_somebody_looks(camera, opened):
    resting = camera()
    assert (resting.live, resting.resting, resting.delivering, opened) == (True, True, False, [])
    resting.wake()
    assert (resting.resting, resting.delivering, resting.patience) == (False, False, 2 * resting.limits.opening)
    assert resting.read().number == 1
    assert (resting.delivering, resting.patience) == (True, 0.7)
    assert len(opened) == 1


def test_a_device_is_closed_for_a_rest_and_opened_for_the_next_look(camera, opened):
    resting = camera()
    for number in range(1, 4):
        assert resting.read().number == 1
        assert resting.rest()
        assert (resting.resting, resting.delivering) == (True, False)
        assert [device.closed for device in opened] == [True] * number
    resting.rest()
    assert len(opened) == 3


@pytest.mark.parametrize("view", [None, View(rotate=90)])
def test_one_that_can_rest_by_itself_stays_open(view, camera, opened):
    resting = camera(view, rests=True)
    for number in (1, 2, 3):
        assert resting.read().number == number
        resting.rest()
        assert resting.resting
    assert len(opened) == 1
    assert not opened[0].closed


def test_closed_it_is_opened_no_more(camera, opened):
    resting = camera()
    resting.read()
    resting.close()
    assert opened[0].closed
    unseen = camera()
    unseen.close()
    assert unseen.read() is None
    assert len(opened) == 1


def test_one_that_has_gone_meanwhile_is_told_at_the_next_look():
    def gone():
        raise CameraError("cam: gone")

    resting = RestingCamera("cam", gone)
    with pytest.raises(CameraError, match="cam: gone"):
        resting.read()
    assert resting.resting


@pytest.mark.parametrize(
    ("spec", "live"),
    [
        ("picamera2", True),
        ("picamera2:1", True),
        ("v4l2:0", True),
        ("/dev/video7", True),
        ("/dev/v4l/by-id/usb-Camera", True),
        ("/dev/null", True),
        ("RTSP://me@cam/", True),
        ("synthetic:realtime=1", True),
        ("synthetic", False),
        ("synthetic:seconds=1", False),
        ("images:.", False),
        (".", False),
        ("nowhere.mp4", False),
        ("x" * 5000, False),
        ("", False),
    ],
)
def test_a_source_is_known_to_be_live_without_a_look_at_it(spec, live):
    assert is_live(spec) == live


@pytest.mark.parametrize("spec", ["synthetic:seconds=1", "synthetic:seconds=1,realtime=1", "edge/samples"])
def test_that_is_what_the_camera_says_of_itself(spec):
    with open_camera(spec) as camera:
        assert camera.live == is_live(spec)


def test_a_scene_that_makes_no_sense_is_told():
    with pytest.raises(UsageError, match="faces=many"):
        is_live("synthetic:faces=many")
