"""One function opens every kind of source, and says what it takes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from edge.camera import open_camera
from edge.camera.base import frame_of
from edge.camera.images import ImagesCamera
from edge.camera.synthetic import SyntheticCamera
from edge.errors import BadDataError, CameraError, InputNotFoundError, UsageError

SAMPLES = Path(__file__).parents[3] / "edge/samples"


@pytest.mark.parametrize("spec", ["webcam", "usb:0", "https://example.org/x.mp4", "", "v4l:/dev/video0"])
def test_an_unknown_kind_is_answered_with_all_kinds(spec):
    with pytest.raises(UsageError, match=r"(?s)no such kind.*picamera2.*v4l2:/dev/video0.*rtsp.*images:.*synthetic"):
        open_camera(spec)


@pytest.mark.parametrize("spec", ["party.mp4", "holiday/photos", "images:nowhere", "face.jpg"])
def test_a_path_that_is_not_there_is_an_input_that_is_not_there(spec):
    with pytest.raises(InputNotFoundError, match="not there"):
        open_camera(spec)


@pytest.mark.parametrize("prefix", ["", "images:"])
def test_a_folder_is_read_picture_by_picture_with_names_and_times(prefix):
    with open_camera(f"{prefix}{SAMPLES}", fps=2.0) as camera:
        frames = list(camera)
    assert not camera.live
    assert [frame.name for frame in frames] == ["astronaut.png", "grace_hopper.jpg", "solvay_conference.jpg"]
    assert [(frame.number, frame.time) for frame in frames] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert frames[1].size == (512, 600)
    assert frames[1].color is None


def test_a_single_picture_is_a_source_of_one_frame_in_colour_where_asked():
    (frame,) = open_camera(str(SAMPLES / "astronaut.png"), color=True)
    assert frame.name == "astronaut.png"
    assert frame.color.shape == (512, 512, 3)


def test_a_broken_picture_in_a_folder_is_named_and_the_next_is_still_read(tmp_path):
    shutil.copy(SAMPLES / "astronaut.png", tmp_path / "3.png")
    (tmp_path / "2.jpg").write_bytes(b"not a picture")
    shutil.copy(SAMPLES / "grace_hopper.jpg", tmp_path / "1.jpg")
    camera = open_camera(str(tmp_path))
    assert isinstance(camera, ImagesCamera)
    assert camera.read().name == "1.jpg"
    with pytest.raises(BadDataError, match=r"2\.jpg"):
        camera.read()
    after = camera.read()
    assert (after.name, after.number, after.time) == ("3.png", 2, 2.0)
    assert camera.read() is None


def test_an_empty_folder_is_an_input_that_is_not_there(tmp_path):
    with pytest.raises(InputNotFoundError, match="no picture"):
        open_camera(str(tmp_path))


def test_size_and_rate_that_are_asked_for_yield_to_what_the_spec_says():
    camera = open_camera("synthetic:size=320x240", size=(800, 600), fps=5.0)
    assert isinstance(camera, SyntheticCamera)
    assert camera.scene.size == (320, 240)
    assert camera.scene.fps == 5.0


@pytest.mark.parametrize("spec", ["v4l2:/dev/video97", "v4l2:97", "/dev/video97"])
def test_a_usb_camera_that_is_not_there_is_named_with_what_to_check(spec):
    with pytest.raises(CameraError, match=r"/dev/v4l/by-id/usb-cam: no such camera; video devices here: "):
        open_camera("/dev/v4l/by-id/usb-cam")
    with pytest.raises(CameraError, match=r"/dev/video97: no such camera; video devices here: "):
        open_camera(spec)


def test_a_file_is_no_usb_camera():
    with pytest.raises(CameraError, match="not a camera device"):
        open_camera(f"v4l2:{SAMPLES / 'astronaut.png'}")


def test_a_device_that_is_no_camera_is_refused_in_silence(capfd):
    with pytest.raises(CameraError, match="/dev/null: does not open as a camera"):
        open_camera("v4l2:/dev/null")
    assert capfd.readouterr().err == ""


def test_a_camera_without_permission_is_answered_with_the_video_group(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(CameraError, match=r"/dev/null: no permission.*usermod -aG video"):
        open_camera("v4l2:/dev/null")


@pytest.mark.parametrize("spec", ["v4l2:", "v4l2:first", "picamera2:left"])
def test_a_camera_number_that_is_none_is_refused(spec):
    with pytest.raises(UsageError, match="expected a camera's number"):
        open_camera(spec)


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_a_frame_is_grey_whatever_the_driver_delivers(channels):
    shape = (40, 60) if channels is None else (40, 60, channels)
    frame = frame_of(np.full(shape, 77, np.uint8), time=1.0, number=2, color=True)
    assert frame.gray.shape == (40, 60)
    assert frame.color.shape == (40, 60, 3)
    assert np.all(frame.gray == 77)
