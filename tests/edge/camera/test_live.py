"""Live cameras: the newest picture, never a hang, and a reason when they die. Devices are played by small objects."""

import queue
import socket
import threading
import time

import numpy as np
import pytest

from edge.camera import Limits, open_camera
from edge.camera.live import LiveCamera, Reconnect
from edge.camera.rtsp import open_rtsp
from edge.errors import CameraError, CameraSoughtError, UsageError

QUICK = Reconnect(within=5.0, first=0.001, longest=0.001)


class Device:
    """Delivers the pictures that a test puts in: arrays, or brightnesses; `None` unplugs it, "bad" is not decoded."""

    def __init__(self, *pictures):
        self.pictures = queue.Queue()
        self.released = threading.Event()
        self.put(*pictures)

    def put(self, *pictures):
        for picture in pictures:
            self.pictures.put(picture)

    def grab(self):
        self.picture = self.pictures.get()
        return self.picture is not None

    def retrieve(self):
        if isinstance(self.picture, np.ndarray):
            return True, self.picture
        if self.picture == "bad":
            return False, None
        return True, np.full((4, 6, 3), self.picture, np.uint8)

    def release(self):
        self.released.set()


class Stream:
    """Delivers pictures without end, each a moment after the other on a clock of its own."""

    def __init__(self, picture, step=0.25):
        self.picture, self.step, self.now, self.grabbed = picture, step, 100.0, 0

    def clock(self):
        return self.now

    def grab(self):
        time.sleep(0.001)
        self.now += self.step
        self.grabbed += 1
        return True

    def retrieve(self):
        picture = self.picture(self.grabbed)
        return picture is not None, picture

    def release(self):
        pass


def scene(seed=0):
    """A picture with contrast in it."""
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


def wait_for(condition):
    """Wait until the camera's thread has come that far."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_pictures_arrive_grey_with_the_time_of_capture():
    before = time.monotonic()
    device = Device(7)
    with LiveCamera("cam", lambda: device) as camera:
        assert camera.live
        frame = camera.read()
        device.put(None)
    assert frame.gray.tolist() == [[7] * 6] * 4
    assert frame.color is None
    assert before <= frame.time <= time.monotonic()


def test_the_newest_picture_is_delivered_and_those_missed_leave_a_gap():
    device = Device(*range(10))
    with LiveCamera("cam", lambda: device) as camera:
        wait_for(lambda: camera._count == 10)
        frame = camera.read()
        device.put(None)
    assert frame.number == 9
    assert frame.gray[0, 0] == 9


def test_a_camera_that_stalls_raises_after_its_timeout_and_may_come_back():
    device = Device(1)
    with LiveCamera("cam", lambda: device, limits=Limits(silent=0.05)) as camera:
        camera.read()
        with pytest.raises(CameraError, match=r"cam: no picture for 0\.05 s"):
            camera.read()
        device.put(2)
        assert camera.read().gray[0, 0] == 2
        device.put(None)


def test_a_camera_that_is_unplugged_says_so_after_its_last_picture():
    device = Device(1, None)
    with LiveCamera("cam", lambda: device) as camera:
        wait_for(device.released.is_set)
        assert camera.read().number == 0
        for _ in range(2):
            with pytest.raises(CameraError, match="cam: the camera stopped delivering"):
                camera.read()


def test_pictures_that_cannot_be_decoded_are_passed_over():
    device = Device("bad", "bad", 3)
    with LiveCamera("cam", lambda: device) as camera:
        assert camera.read().gray[0, 0] == 3
        device.put(None)


GARBAGE = [
    ("cannot be decoded", None),
    ("is empty", np.zeros((0, 0, 3), np.uint8)),
    ("has the shape 24x32x2", np.zeros((24, 32, 2), np.uint8)),
    ("has the shape 768", np.zeros(768, np.uint8)),
    ("holds uint16 instead of 8 bits", np.zeros((24, 32), np.uint16)),
    ("holds float32 instead of 8 bits", np.zeros((24, 32, 3), np.float32)),
    ("has 20,000 x 10,000 pixels", np.broadcast_to(np.uint8(0), (10_000, 20_000))),
]


@pytest.mark.parametrize(("says", "garbage"), GARBAGE, ids=[says for says, _ in GARBAGE])
def test_a_camera_that_turns_to_garbage_is_lost_after_two_seconds(says, garbage):
    stream = Stream(lambda number: scene(number) if number <= 4 else garbage)
    with LiveCamera("cam", lambda: stream, clock=stream.clock) as camera:
        wait_for(lambda: not camera._thread.is_alive())
        assert camera.read().number == 3
        with pytest.raises(CameraError, match=f"cam: every picture {says}.*; check its cable") as caught:
            camera.read()
    assert not isinstance(caught.value, CameraSoughtError)
    assert 2.0 <= stream.now - 101.0 <= 2.5


def test_a_camera_that_never_delivered_is_given_longer():
    stream = Stream(lambda number: None if number < 40 else scene(number), step=0.25)
    with LiveCamera("cam", lambda: stream, clock=stream.clock) as camera:
        assert camera.read().gray.shape == (24, 32)


@pytest.mark.parametrize("limit", [2.0, 5.0])
def test_a_frozen_sensor_is_lost_once_it_stood_still_for_its_limit(limit):
    stream = Stream(lambda number: scene(min(number, 4)))
    with LiveCamera("cam", lambda: stream, limits=Limits(frozen=limit), clock=stream.clock) as camera:
        wait_for(lambda: not camera._thread.is_alive())
        assert camera.read() is not None
        with pytest.raises(
            CameraError, match=rf"cam: one picture, the same in every bit, for {limit} s.*source\.frozen"
        ):
            camera.read()
    assert stream.now == 101.0 + limit


def bit(number):
    """A scene in which one bit of one pixel changes."""
    picture = scene()
    picture[3, 5, 1] ^= number % 2
    return picture


@pytest.mark.parametrize(
    ("picture", "frozen"),
    [
        (bit, 2.0),
        (lambda _: scene(), 0.0),
        (lambda _: np.zeros((24, 32), np.uint8), 2.0),
        (lambda _: np.full((24, 32, 3), 255, np.uint8), 2.0),
        (lambda number: scene(number % 2), 2.0),
    ],
    ids=["noise in one bit", "switched off", "black", "white", "two pictures in turn"],
)
def test_what_lives_or_may_be_a_dark_room_is_not_frozen(picture, frozen):
    stream = Stream(picture)
    with LiveCamera("cam", lambda: stream, limits=Limits(frozen=frozen), clock=stream.clock) as camera:
        wait_for(lambda: camera._count > 40)
        assert camera.read().number >= 40


def test_a_network_stream_of_garbage_is_opened_anew(caplog):
    streams = [Stream(lambda number: scene(number) if number <= 2 else None), Stream(scene)]
    opened = []

    def open_capture():
        opened.append(streams[min(len(opened), 1)])
        return opened[-1]

    with LiveCamera("cam", open_capture, reconnect=QUICK, clock=lambda: opened[-1].now if opened else 100.0) as camera:
        wait_for(lambda: camera._count > 10)
        assert camera.read() is not None
    assert len(opened) == 2
    assert "cam: every picture cannot be decoded" in caplog.text
    assert "connecting again" in caplog.text


def test_the_time_never_runs_backwards_whatever_the_clock_does():
    jumps = iter([5.0, 5.1, -900.0, 5.2, 5.3])
    device = Device()
    with LiveCamera("cam", lambda: device, clock=lambda: 5.0) as camera:
        camera._clock = lambda: next(jumps, 6.0)
        times = []
        for value in range(6):
            device.put(value)
            wait_for(lambda: camera._newest)
            times.append(camera.read().time)
        device.put(None)
    assert times == sorted(times)
    assert times[-1] == 6.0


def test_a_clock_that_jumps_back_does_not_make_a_dead_camera_a_sought_one():
    device = Device(1)
    with LiveCamera("cam", lambda: device, limits=Limits(silent=0.02), clock=lambda: 5.0) as camera:
        camera.read()
        camera._clock = lambda: -900.0
        with pytest.raises(CameraError, match="no picture") as caught:
            camera.read()
        device.put(None)
    assert not isinstance(caught.value, CameraSoughtError)


def test_pictures_may_change_their_size_and_kind_from_one_to_the_next():
    pictures = [
        np.full(shape, 90, np.uint8)
        for shape in [(48, 64, 3), (1, 1, 3), (3000, 4000, 3), (5, 7), (5, 7, 1), (40, 30, 4), (48, 64, 3)]
    ]
    device = Device()
    with LiveCamera("cam", lambda: device, color=True) as camera:
        for picture in pictures:
            device.put(picture)
            frame = camera.read()
            assert frame.gray.shape == picture.shape[:2]
            assert frame.color.shape == (*picture.shape[:2], 3)
            assert np.all(frame.gray == 90)
        device.put(None)


def test_a_driver_that_fails_in_its_own_way_becomes_a_camera_error():
    def open_capture():
        raise RuntimeError("rtsp://user:hunter2@host")

    with pytest.raises(CameraError, match="cam: RuntimeError") as caught:
        LiveCamera("cam", open_capture)
    assert "hunter2" not in str(caught.value)


def test_a_driver_that_hangs_while_opening_is_left_behind():
    leave = threading.Event()
    try:
        with pytest.raises(CameraError, match=r"cam: does not answer within 0\.05 s"):
            LiveCamera("cam", lambda: leave.wait(5.0), limits=Limits(opening=0.05))
    finally:
        leave.set()


def test_closing_releases_the_device_and_ends_a_read_that_waits():
    device = Device(1)
    camera = LiveCamera("cam", lambda: device)
    camera.read()
    got = []
    reader = threading.Thread(target=lambda: got.append(camera.read()))
    reader.start()
    threading.Timer(0.05, device.put, [2]).start()
    camera.close()
    reader.join(5.0)
    assert got == [None]
    assert device.released.wait(5.0)
    assert camera.read() is None


def test_a_lost_stream_is_sought_again_and_its_frames_count_on():
    attempts = iter([Device(1, None), CameraError("away"), CameraError("away"), Device(2)])
    opened = []

    def open_capture():
        device = next(attempts)
        if isinstance(device, CameraError):
            raise device
        opened.append(device)
        return device

    with LiveCamera("cam", open_capture, reconnect=QUICK) as camera:
        wait_for(lambda: len(opened) == 2 and camera._count == 2)
        assert camera.read().number == 1
        opened[1].put(None)


def test_a_stream_that_stays_away_is_given_up_within_the_limit():
    attempts = iter([Device(1, None)])

    def open_capture():
        try:
            return next(attempts)
        except StopIteration:
            raise CameraError("cam: cannot be reached") from None

    with LiveCamera("cam", open_capture, reconnect=Reconnect(within=0.1, first=0.01, longest=0.01)) as camera:
        camera.read()
        with pytest.raises(CameraError, match=r"cannot be reached|stopped delivering"):
            camera.read()


@pytest.fixture
def deaf_server():
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_network_camera_that_never_answers_is_given_up_in_time(deaf_server):
    before = time.monotonic()
    with pytest.raises(CameraError, match=r"rtsp://\*\*\*@127\.0\.0\.1:\d+/live"):
        open_camera(f"rtsp://admin@127.0.0.1:{deaf_server}/live", limits=Limits(opening=0.3), password="hunter2")  # noqa: S106
    assert time.monotonic() - before < 10


def test_a_network_camera_that_is_off_is_named_without_the_password_and_in_silence(capfd):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # closed again below: nobody listens there
    with pytest.raises(CameraError, match="cannot be reached") as caught:
        open_camera(f"rtsp://admin@127.0.0.1:{port}/live", password="hunter2", limits=Limits(opening=2.0))  # noqa: S106
    heard = capfd.readouterr()
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert "hunter2" not in str(caught.value) + heard.err + heard.out
    assert heard.err == ""


@pytest.mark.parametrize(
    "url", ["rtsp://admin:hunter2@cam/live", "rtsp://cam/live?password=hunter2", "rtsps://a:hunter2@cam:322/"]
)
def test_a_url_with_a_password_is_refused_with_advice_and_without_showing_it(url):
    with pytest.raises(UsageError, match=r"source\.password_file") as caught:
        open_camera(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["rtsp://", "rtsp:///live", "rtsp:cam", "rtsp://cam:port/live"])
def test_a_url_without_a_host_is_refused(url):
    with pytest.raises(UsageError, match="no host in this URL"):
        open_rtsp(url)


def test_a_password_without_a_user_is_refused():
    with pytest.raises(UsageError, match="no user"):
        open_rtsp("rtsp://cam/live", password="hunter2")  # noqa: S106


def test_an_unknown_url_is_refused_without_its_password():
    with pytest.raises(UsageError, match="no such kind") as caught:
        open_camera("http://admin:hunter2@cam/video")
    assert "hunter2" not in str(caught.value)
