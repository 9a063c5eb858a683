"""What systemd hears, on a real socket of the kind that it listens on."""

import logging
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import edge.daemon
import edge.notify
from edge.camera.base import Limits
from edge.camera.rtsp import RECONNECT
from edge.camera.synthetic import SyntheticCamera
from edge.cli import main
from edge.labels import FER2013_LABELS
from edge.notify import Notifier, Pulse, make_notifier, notifying
from edge.pipeline import Vision
from edge.supervisor import Supervisor

MODEL = Path(__file__).parent / "models/grey_int8_logits.tflite"
SCENE = "size=160x120,fps=10"


class Systemd:
    """Listens, and knows what came when."""

    def __init__(self, address: str, name: str):
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0.02)
        self.heard: list[tuple[float, str]] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self) -> None:
        while not self.over.is_set():
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                continue
            self.heard += [(time.monotonic(), field) for field in message.split("\n")]

    def fields(self) -> list[str]:
        return [field for _, field in self.heard]

    def times(self, field: str) -> list[float]:
        return [when for when, heard in self.heard if heard == field]

    def wait_for(self, field: str, count: int = 1) -> None:
        deadline = time.monotonic() + 30
        while len(self.times(field)) < count:
            assert time.monotonic() < deadline, self.heard
            time.sleep(0.01)

    def close(self) -> None:
        time.sleep(0.05)  # what was sent is heard
        self.over.set()
        self.thread.join(5)
        self.socket.close()


@pytest.fixture
def systemd(tmp_path):
    listener = Systemd(str(tmp_path / "notify"), str(tmp_path / "notify"))
    yield listener
    listener.close()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


# The way there


def test_fields_go_to_a_socket_in_the_file_system_in_one_message(systemd):
    make_notifier({"NOTIFY_SOCKET": systemd.name}).tell("READY=1", "STATUS=ünder way")
    systemd.wait_for("STATUS=ünder way")
    assert systemd.fields() == ["READY=1", "STATUS=ünder way"]


def test_fields_go_to_an_abstract_socket(tmp_path):
    listener = Systemd(f"\0mien-{tmp_path}", f"@mien-{tmp_path}")
    try:
        make_notifier({"NOTIFY_SOCKET": listener.name}).tell("STOPPING=1")
        listener.wait_for("STOPPING=1")
    finally:
        listener.close()


def test_without_systemd_nobody_is_told_and_nothing_runs(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    notifier, supervisor = make_notifier({}), Supervisor()
    notifier.tell("READY=1")
    before = threading.active_count()
    with notifying(notifier, Pulse(live=True), supervisor, patience=lambda: 1.0):
        assert threading.active_count() == before
    assert notifier == Notifier(None, None)


@pytest.mark.parametrize("given", ["vsock:2:1234", "relative/path"])
def test_an_address_of_another_kind_is_told_of_and_left_alone(given, caplog):
    assert make_notifier({"NOTIFY_SOCKET": given}) == Notifier()
    assert given in caplog.text


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_interval_counts_where_it_is_meant_for_this_process(given, seconds):
    assert make_notifier({"NOTIFY_SOCKET": "/run/notify"} | given, pid=7).watchdog == seconds


def test_a_systemd_that_is_not_there_is_told_of_and_ends_nothing(tmp_path, caplog):
    make_notifier({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}).tell("READY=1")
    assert [(record.levelno, "READY=1" in record.getMessage()) for record in caplog.records] == [
        (logging.WARNING, True)
    ]


def test_a_systemd_that_reads_nothing_holds_us_up_for_a_moment_only(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(edge.notify, "SEND_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(tmp_path / "deaf"))
        notifier, began = make_notifier({"NOTIFY_SOCKET": str(tmp_path / "deaf")}), time.monotonic()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    filler.sendto(b"x", str(tmp_path / "deaf"))
        notifier.tell("WATCHDOG=1")
        assert time.monotonic() - began < 2
    assert "WATCHDOG=1" in caplog.text


# Progress


def test_there_is_no_progress_before_camera_and_vision_have_both_done_something(clock):
    pulse = Pulse(live=True, clock=clock)
    assert pulse.age() is None
    pulse.captured(clock.now)
    pulse.looking()
    assert pulse.age() is None
    pulse.passed(faces=1)
    assert pulse.age() == 0.0


def test_the_longer_silence_of_camera_and_vision_counts(clock):
    pulse = Pulse(live=True, clock=clock)
    pulse.captured(clock.now)
    pulse.passed(faces=0)
    clock.now += 3
    pulse.passed(faces=0)
    clock.now += 2
    assert pulse.age() == 5.0
    pulse.captured(clock.now)
    assert pulse.age() == 2.0


def test_a_camera_that_delivers_old_pictures_is_as_silent_as_they_are_old(clock):
    pulse = Pulse(live=True, clock=clock)
    pulse.captured(clock.now - 40)
    pulse.passed(faces=0)
    assert pulse.age() == 40.0


@pytest.mark.parametrize("ahead", [0.5, 1e9])
def test_a_picture_from_the_future_is_no_credit(ahead, clock):
    pulse = Pulse(live=True, clock=clock)
    pulse.captured(clock.now + ahead)
    pulse.passed(faces=0)
    clock.now += 20
    assert pulse.age() == 20.0


def test_a_files_pictures_count_when_they_are_read(clock):
    pulse = Pulse(live=False, clock=clock)
    pulse.captured(0.04)
    pulse.passed(faces=0)
    clock.now += 1
    assert pulse.age() == 1.0


def test_who_rests_is_alive_for_as_long_as_that_is_told(clock):
    pulse = Pulse(live=True, clock=clock)
    pulse.rest("paused")
    assert (pulse.age(), pulse.status(0.0)) == (0.0, "paused")
    clock.now += 9
    assert pulse.age() == 9.0
    pulse.captured(clock.now)
    pulse.passed(faces=1)
    assert (pulse.age(), pulse.status(8.25), pulse.status()) == (0.0, "8.2 frames/s, 1 face", "looking")


def test_resting_does_not_excuse_vision_that_hangs_in_a_frame_from_before(clock):
    pulse = Pulse(live=True, clock=clock)
    pulse.captured(clock.now)
    pulse.passed(faces=0)
    pulse.looking()
    for _ in range(5):
        clock.now += 10
        pulse.rest("paused")
    assert pulse.age() == 50.0
    pulse.passed(faces=0)
    assert pulse.age() == 0.0


# The daemon, and systemd's own variables


@pytest.fixture
def run(systemd, tmp_path, monkeypatch):
    """`mien run` under a watchdog of 0.8 s, so that it is fed every 0.4 s."""
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "NOTIFY_SOCKET": systemd.name,
        "WATCHDOG_USEC": "800000",
        "WATCHDOG_PID": str(os.getpid()),
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "MIEN_MODEL_PATH": str(MODEL),
        "MIEN_MODEL_LABELS": ",".join(FER2013_LABELS),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(edge.notify, "READY_SECONDS", 0.01)
    monkeypatch.setattr(SyntheticCamera, "limits", Limits(silent=0.2))
    return lambda source, *more: main(["run", "--source", source, "--log", str(tmp_path / "events"), *more])


def test_systemd_is_told_of_the_start_the_way_and_the_end(run, systemd):
    assert run(f"synthetic:{SCENE},seconds=2.2,realtime=1,faces=2") == 0
    systemd.wait_for("STOPPING=1")
    fields = systemd.fields()
    assert fields[:4] == ["EXTEND_TIMEOUT_USEC=90000000", "STATUS=opening the source", "READY=1", "STATUS=looking"]
    assert fields[-2:] == ["STOPPING=1", "STATUS=stopping"]
    assert fields.count("READY=1") == 1
    assert fields.count("WATCHDOG=1") >= 3
    seen = [field for field in fields if field.endswith("faces")]
    assert seen
    assert all(0 < float(field.removeprefix("STATUS=").split()[0]) < 30 for field in seen)


def test_more_time_to_start_is_asked_for_where_the_camera_may_take_longer(run, systemd, monkeypatch):
    monkeypatch.setenv("MIEN_SOURCE_OPEN_TIMEOUT", "300")
    assert run(f"synthetic:{SCENE},seconds=0.2,realtime=1") == 0
    systemd.wait_for("EXTEND_TIMEOUT_USEC=660000000")


def stays_hungry(systemd: Systemd, since: float) -> bool:
    """Nobody fed the watchdog for longer than it takes it to bite, but for the feed that was due."""
    deadline = since + 0.4 + 0.8 + 0.2
    while time.monotonic() < deadline:
        time.sleep(0.02)
    return not [when for when in systemd.times("WATCHDOG=1") if when > since + 0.8]


def in_background(work) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("who", "what"), [(Vision, "look"), (SyntheticCamera, "read")], ids=["vision hangs", "the camera hangs"]
)
def test_a_hang_starves_the_watchdog(who, what, run, systemd, monkeypatch):
    hanging, over, real = threading.Event(), threading.Event(), getattr(who, what)
    since: list[float] = []

    def maybe_hang(self, *frame):
        if hanging.is_set():
            since.append(time.monotonic())
            over.wait(10)
        return real(self, *frame)

    monkeypatch.setattr(who, what, maybe_hang)
    # Signals are the main thread's; the run may not have it here.
    monkeypatch.setattr(Supervisor, "handling_signals", lambda _: threading.Lock())
    daemon = in_background(lambda: run(f"synthetic:{SCENE},seconds=30,realtime=1"))
    systemd.wait_for("WATCHDOG=1", count=2)
    hanging.set()
    try:
        while not since:
            time.sleep(0.01)
        assert stays_hungry(systemd, since[0])
        assert any(field.startswith("STATUS=nothing seen for") for field in systemd.fields())
    finally:
        hanging.clear()
        monkeypatch.setattr(SyntheticCamera, "read", lambda _: None)
        over.set()
        daemon.join(10)


def test_a_network_camera_that_is_sought_is_alive_for_as_long_as_the_daemon_seeks_it(systemd, clock):
    pulse, supervisor = Pulse(live=True, clock=clock), Supervisor()
    notifier = Notifier(systemd.name, 0.04)
    with notifying(notifier, pulse, supervisor, patience=lambda: RECONNECT.within):
        pulse.captured(clock.now)
        pulse.passed(faces=0)
        systemd.wait_for("READY=1")
        clock.now += RECONNECT.within - 1
        fed = len(systemd.times("WATCHDOG=1"))
        systemd.wait_for("WATCHDOG=1", count=fed + 3)
        clock.now += 2
        systemd.wait_for(f"STATUS=nothing seen for {RECONNECT.within + 1:.0f} s", count=2)
        fed = len(systemd.times("WATCHDOG=1"))
        systemd.wait_for(f"STATUS=nothing seen for {RECONNECT.within + 1:.0f} s", count=5)
        assert len(systemd.times("WATCHDOG=1")) == fed
    assert supervisor.failure is None


def test_a_camera_that_dies_is_the_daemons_own_to_tell_and_systemd_hears_that_it_stops(run, systemd):
    assert run(f"synthetic:{SCENE},realtime=1,die_at=0.3") == 69
    systemd.wait_for("STOPPING=1")
    assert "READY=1" in systemd.fields()


def test_a_camera_that_never_delivers_is_never_ready(run, systemd, monkeypatch):
    monkeypatch.setenv("MIEN_SOURCE_OPEN_TIMEOUT", "0.3")
    assert run(f"synthetic:{SCENE},realtime=1,stall_at=0") == 69
    systemd.wait_for("STOPPING=1")
    assert "READY=1" not in systemd.fields()


def test_long_waits_between_a_files_pictures_are_no_hang(run, systemd, monkeypatch):
    monkeypatch.setattr(edge.daemon, "NAP_SECONDS", 0.05)
    assert run("synthetic:size=160x120,fps=0.5,seconds=4", "--pace", "realtime") == 0
    systemd.wait_for("STOPPING=1")
    # Of five or so; the two pictures by themselves would be good for two.
    assert len(systemd.times("WATCHDOG=1")) >= 3


def test_a_lost_socket_ends_nothing(run, systemd, monkeypatch, capsys):
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.name + "-lost")
    assert run(f"synthetic:{SCENE},seconds=0.5,realtime=1") == 0
    assert capsys.readouterr().err.splitlines()[-1].startswith("mien: ")
