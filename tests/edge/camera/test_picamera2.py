"""The Pi's camera, with a small stand-in for the system's picamera2 that keeps to its interface (0.3.x)."""

import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edge.camera import Limits, open_camera
from edge.errors import CameraError, ConfigError

STRIDE = 704
"""Bytes in a row of 640 pixels as the hardware pads them."""


class Request:
    def __init__(self, camera):
        self.camera = camera

    def make_array(self, name):
        width, height = self.camera.config["lores"]["size"]
        if name == "main":
            assert self.camera.config["main"]["format"] == "RGB888"
            return np.dstack([np.full((height, width), value, np.uint8) for value in (1, 2, 3)])
        planes = np.full((height * 3 // 2, STRIDE), 255, np.uint8)
        planes[:height, :width] = np.arange(width, dtype=np.uint8)
        planes[0, 0] = 0 if self.camera.frozen else self.camera.released  # the sensor's noise
        return planes[:, : self.camera.cut]

    def get_metadata(self):
        return {"SensorTimestamp": self.camera.stamp()}

    def release(self):
        self.camera.released += 1


class FakePicamera2:
    cameras = 1
    delay = 0.0
    instances: list["FakePicamera2"]
    stamp = staticmethod(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 20_000_000)
    close_waits = start_waits = stop_waits = None

    def __init__(self, index):
        self.index = index
        self.dead = self.broken = self.started = self.closed = self.frozen = False
        self.cut = None
        self.released = 0
        type(self).instances.append(self)

    @classmethod
    def global_camera_info(cls):
        return [{}] * cls.cameras

    def create_video_configuration(self, main, lores, controls, queue, colour_space="16 to 235"):
        return {"main": main, "lores": lores, "controls": controls, "queue": queue, "colour_space": colour_space}

    def configure(self, config):
        if config["main"]["size"][0] > 4000:
            raise RuntimeError("Failed to allocate dma buffers")
        self.config = config

    def start(self):
        if self.start_waits:
            self.start_waits.wait(5.0)
        self.started = True

    def stop(self):
        if self.stop_waits:
            self.stop_waits.wait(5.0)
        self.started = False

    def capture_request(self, wait):
        assert wait is False
        assert self.started
        future = Future()
        if self.broken:
            future.set_exception(RuntimeError("device disappeared"))
        elif not self.dead:
            threading.Timer(self.delay, future.set_result, [Request(self)]).start()
        return SimpleNamespace(get_result=lambda timeout: future.result(timeout))

    def close(self):
        if self.close_waits:
            self.close_waits.wait(5.0)
        self.closed = True


@pytest.fixture
def fake(monkeypatch):
    kind = type("Fake", (FakePicamera2,), {"instances": []})
    monkeypatch.setitem(sys.modules, "picamera2", SimpleNamespace(Picamera2=kind))
    color_space = SimpleNamespace(Sycc=lambda: "0 to 255")
    monkeypatch.setitem(sys.modules, "libcamera", SimpleNamespace(ColorSpace=color_space))
    return kind


def test_grey_levels_are_those_that_the_network_was_trained_on(fake):
    with open_camera("picamera2"):
        assert fake.instances[0].config["colour_space"] == "0 to 255"


def test_the_grey_picture_is_the_y_plane_without_its_padding(fake):
    with open_camera("picamera2") as camera:
        frame = camera.read()
    assert camera.live
    assert frame.gray.shape == (480, 640)
    assert np.array_equal(frame.gray[479], np.arange(640, dtype=np.uint8))
    assert frame.gray.flags.c_contiguous
    assert frame.color is None


def test_colour_comes_from_the_same_exposure_as_bgr(fake):
    with open_camera("picamera2", color=True) as camera:
        assert camera.read().color[0, 0].tolist() == [1, 2, 3]
    assert fake.instances[0].config["main"]["format"] == "RGB888"


def test_without_colour_the_stream_that_nobody_reads_carries_half_the_bytes(fake):
    open_camera("picamera2").close()
    config = fake.instances[0].config
    assert config["main"] == config["lores"] == {"size": (640, 480), "format": "YUV420"}


@pytest.mark.parametrize("size", [(641, 480), (640, 481)])
def test_an_odd_size_is_refused_by_its_keys_before_the_camera_is_touched(fake, size):
    with pytest.raises(ConfigError, match=r"source\.width and source\.height to even numbers"):
        open_camera("picamera2", size=size)
    assert fake.instances == []


def test_old_captures_are_not_queued_and_size_and_rate_are_asked_for(fake):
    open_camera("picamera2:0", size=(320, 240), fps=15.0).close()
    config = fake.instances[0].config
    assert config["queue"] is False
    assert config["lores"] == {"size": (320, 240), "format": "YUV420"}
    assert config["controls"] == {"FrameRate": 15.0}


def test_the_time_is_that_of_the_exposure(fake):
    with open_camera("picamera2") as camera:
        assert 0.015 < time.monotonic() - camera.read().time < 5.0


def test_a_time_stamp_that_is_garbage_is_replaced_by_now(fake):
    fake.stamp = staticmethod(lambda: 1 << 62)
    before = time.monotonic()
    with open_camera("picamera2") as camera:
        assert before <= camera.read().time <= time.monotonic()


def test_the_time_never_runs_backwards_whatever_the_sensor_stamps(fake):
    offsets = iter([20_000_000, 5_000_000_000, 1 << 62, -(1 << 62), 10_000_000, 40_000_000])
    fake.stamp = staticmethod(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) - next(offsets))
    with open_camera("picamera2") as camera:
        times = [camera.read().time for _ in range(6)]
    assert times == sorted(times)


def test_a_sensor_that_freezes_is_lost_for_good(fake):
    stamps = iter(range(0, 100, 1))
    fake.stamp = staticmethod(lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 9_000_000_000 + next(stamps) * 10**9)
    with open_camera("picamera2", limits=Limits(frozen=4.0)) as camera:
        for _ in range(2):
            camera.read()
        fake.instances[0].frozen = True
        numbers = []
        with pytest.raises(CameraError, match=r"picamera2: one picture, the same in every bit, for 4\.0 s"):
            numbers.extend(frame.number for frame in camera)
        with pytest.raises(CameraError, match="the same in every bit"):
            camera.read()
    assert numbers == [2, 3, 4, 5]
    assert fake.instances[0].released == 7
    assert len(fake.instances) == 1


def test_an_array_that_is_no_picture_ends_the_camera(fake):
    with open_camera("picamera2") as camera:
        camera.read()
        fake.instances[0].cut = 600
        for _ in range(2):
            with pytest.raises(CameraError, match=r"garbage \(uint8 720x600\) where a picture was due"):
                camera.read()
    assert fake.instances[0].released == 2


def test_a_camera_that_hangs_while_it_starts_is_given_up(fake):
    fake.start_waits = threading.Event()
    with pytest.raises(CameraError, match=r"picamera2: does not open within 0\.05 s.*start mien again"):
        open_camera("picamera2", limits=Limits(opening=0.05))
    fake.start_waits.set()


def test_the_first_picture_may_take_longer_than_the_others(fake):
    fake.delay = 0.1
    with open_camera("picamera2", limits=Limits(opening=2.0, silent=0.02)) as camera:
        assert camera.read().number == 0
        with pytest.raises(CameraError, match=r"no picture for 0\.02 s"):
            camera.read()


def test_every_request_goes_back_to_the_camera_and_frames_are_counted(fake):
    with open_camera("picamera2") as camera:
        assert [camera.read().number for _ in range(3)] == [0, 1, 2]
    assert fake.instances[0].released == 3


def test_a_camera_that_is_lost_times_out_and_is_never_opened_again(fake):
    with open_camera("picamera2", limits=Limits(silent=0.02)) as camera:
        camera.read()
        fake.instances[0].dead = True
        with pytest.raises(CameraError, match=r"picamera2: no picture for 0\.02 s"):
            camera.read()
        fake.instances[0].dead = False
        with pytest.raises(CameraError, match="start mien again"):
            camera.read()
    assert len(fake.instances) == 1


def test_a_camera_that_is_silent_is_left_alone_as_closing_it_would_stop_every_thread(fake, monkeypatch):
    held = []
    monkeypatch.setattr("edge.camera.picamera2.hold", held.append)
    with open_camera("picamera2", limits=Limits(silent=0.02)) as camera:
        camera.read()
        fake.instances[0].dead = True
        with pytest.raises(CameraError, match="the camera is lost"):
            camera.read()
    assert not fake.instances[0].closed
    assert held == fake.instances


def test_a_capture_that_fails_is_a_camera_error(fake):
    with open_camera("picamera2") as camera:
        fake.instances[0].broken = True
        with pytest.raises(CameraError, match="device disappeared"):
            camera.read()


def test_closing_a_lost_camera_does_not_hang(fake, monkeypatch):
    monkeypatch.setattr("edge.camera.picamera2.CLOSE_WITHIN", 0.02)
    held = []
    monkeypatch.setattr("edge.camera.picamera2.hold", held.append)
    fake.close_waits = threading.Event()
    camera = open_camera("picamera2")
    camera.close()
    assert not fake.instances[0].closed
    assert held == fake.instances
    assert camera.read() is None
    fake.close_waits.set()


def test_a_camera_that_is_not_there_is_answered_with_the_cable(fake):
    with pytest.raises(CameraError, match="no such camera, 1 found; check the ribbon cable"):
        open_camera("picamera2:1")


def test_a_size_that_does_not_start_closes_the_camera(fake):
    with pytest.raises(CameraError, match=r"does not start at 4608x2592 .*dma buffers"):
        open_camera("picamera2", size=(4608, 2592))
    assert fake.instances[0].closed


def test_without_the_systems_picamera2_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(CameraError, match=r"apt install python3-picamera2.*--system-site-packages"):
        open_camera("picamera2")


def test_a_picamera2_that_does_not_load_beside_pips_numpy_is_answered_with_the_readmes_remedy(monkeypatch, tmp_path):
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "picamera2", raising=False)
    with pytest.raises(CameraError, match=r"numpy\.dtype size changed.*on Bookworm.*pip install '\.\[") as caught:
        open_camera("picamera2")
    remedy = str(caught.value).rpartition("pip install ")[2]
    assert f"on Bookworm: {remedy}" in (Path(__file__).parents[3] / "README.md").read_text()


def test_a_camera_that_rests_takes_no_picture_and_is_never_opened_anew(fake):
    with open_camera("picamera2", color=True) as camera:
        for _ in range(20):
            assert camera.read().color is not None
            assert camera.rest()
            assert camera.rest()
            assert not fake.instances[0].started
        assert camera.read().number == 20
    assert len(fake.instances) == 1
    assert fake.instances[0].closed


def test_one_whose_picture_stands_still_for_the_length_of_a_rest_is_not_frozen(fake):
    with open_camera("picamera2", limits=Limits(frozen=0.2)) as camera:
        camera.read()
        fake.instances[0].frozen = True
        camera.read()
        camera.rest()
        time.sleep(0.3)
        camera.read()
        camera.read()


def test_one_that_does_not_stop_or_start_is_lost(fake, monkeypatch):
    monkeypatch.setattr("edge.camera.picamera2.CLOSE_WITHIN", 0.05)
    fake.stop_waits = threading.Event()
    with open_camera("picamera2") as camera:
        with pytest.raises(CameraError, match="does not stop, the camera is lost"):
            camera.rest()
        with pytest.raises(CameraError, match="does not stop"):
            camera.read()
    fake.stop_waits.set()
    fake.stop_waits = None
    with open_camera("picamera2") as camera:
        camera.rest()
        monkeypatch.setattr(fake, "start", lambda _: 1 / 0)
        with pytest.raises(CameraError, match=r"does not start .*division by zero"):
            camera.read()
