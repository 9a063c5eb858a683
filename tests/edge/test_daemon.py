"""`mien run` from its command line to what is left behind, on the synthetic camera and files made from it."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

import edge.daemon
import edge.output
import edge.sinks.mqtt_link
from edge.camera.base import Limits
from edge.camera.live import LiveCamera, Reconnect
from edge.camera.synthetic import SyntheticCamera, parse_scene
from edge.cli import main
from edge.errors import CameraError
from edge.frame import Box
from edge.labels import FER2013_LABELS
from edge.pipeline import Vision
from edge.progress import CLEAR

ROOT = Path(__file__).parents[2]
MODEL = Path(__file__).parent / "models/grey_int8_logits.tflite"
SCENE = "size=160x120,fps=10"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> dict[str, str]:
    """A state folder of our own, and a model: what it says is not what these tests are about."""
    given = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "MIEN_MODEL_PATH": str(MODEL),
        "MIEN_MODEL_LABELS": ",".join(FER2013_LABELS),
        "MIEN_DEVICE_NAME": "kitchen",
    }
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))
    return given


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """25 frames with two faces; MJPG, so that half a file still plays."""
    path = tmp_path_factory.mktemp("video") / "party.avi"
    scene = parse_scene(f"{SCENE},seconds=2.5,faces=2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), scene.fps, scene.size)
    for frame in SyntheticCamera(scene=scene, color=True):
        writer.write(frame.color)
    writer.release()
    return path


def logged(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_start(events: list[dict]) -> list[dict]:
    """Events without what differs between two runs: the count of starts and the date."""
    return [{**event, "id": event["id"].split("-")[2], "ts": ""} for event in events]


def run(*options: object) -> int:
    return main(["run", *map(str, options)])


def types(path: Path) -> list[str]:
    return [event["type"] for event in logged(path)]


def came_and_went(path: Path) -> bool:
    """Which frames a camera's run gets to see depends on the machine's load; that faces come and then go does not."""
    happened = types(path)
    return happened[0] == "appeared" and happened[-1] == "gone" and happened.count("appeared") == happened.count("gone")


# Files


def test_a_video_is_read_frame_by_frame_and_its_events_are_logged(video, tmp_path, capsys):
    assert run("--source", video, "--log", tmp_path / "events.jsonl") == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mien: 25 frames, 0 skipped, 2 faces, ")
    events = logged(tmp_path / "events.jsonl")
    assert [event["id"] for event in events] == [f"kitchen-000001-{n:010d}" for n in range(1, len(events) + 1)]
    assert {event["track"] for event in events if event["type"] == "appeared"} == {1, 2}
    assert {event["track"] for event in events if event["type"] == "gone"} == {1, 2}


def test_the_same_video_gives_the_same_events_every_time(video, tmp_path):
    for name in ("first", "second"):
        assert run("--source", video, "--log", tmp_path / name) == 0
    first, second = logged(tmp_path / "first"), logged(tmp_path / "second")
    assert len(first) >= 4
    assert without_start(first) == without_start(second)
    assert {event["id"].split("-")[1] for event in first} == {"000001"}
    assert {event["id"].split("-")[1] for event in second} == {"000002"}


def test_every_frame_is_drawn_and_drawing_changes_no_event(video, tmp_path):
    assert run("--source", video, "--log", tmp_path / "plain") == 0
    assert run("--source", video, "--log", tmp_path / "drawn", "--annotate", tmp_path / "drawn.mp4") == 0
    assert without_start(logged(tmp_path / "plain")) == without_start(logged(tmp_path / "drawn"))
    drawn = cv2.VideoCapture(str(tmp_path / "drawn.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 25
    assert drawn.get(cv2.CAP_PROP_FPS) == pytest.approx(10)


def test_frames_are_drawn_into_a_folder_too(tmp_path):
    assert run("--source", f"synthetic:{SCENE},seconds=0.5", "--annotate", tmp_path / "pictures") == 0
    assert len(list((tmp_path / "pictures").glob("*.jpg"))) == 5


def test_without_a_sink_events_are_printed(capsys):
    assert run("--source", f"synthetic:{SCENE},seconds=1") == 0
    assert [line.split()[1:4] for line in capsys.readouterr().out.splitlines()] == [
        ["face", "1", "appeared"],
        ["face", "1", "gone"],
    ]


def test_a_video_that_breaks_off_leaves_the_events_of_what_came_before(video, tmp_path, capsys):
    cut = tmp_path / "cut.avi"
    cut.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    assert run("--source", cut, "--log", tmp_path / "events") == 65
    assert "breaks off at frame" in capsys.readouterr().err
    assert types(tmp_path / "events")[:2] == ["appeared"] * 2
    assert types(tmp_path / "events")[-2:] == ["gone"] * 2


def test_a_damaged_picture_in_a_folder_is_named_and_the_others_are_read(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for frame in SyntheticCamera(scene=parse_scene(f"{SCENE},seconds=0.6")):
        cv2.imwrite(str(folder / f"{frame.number}.png"), frame.gray)
    (folder / "3.png").write_bytes(b"no picture")
    assert run("--source", f"images:{folder}", "--log", tmp_path / "events") == 65
    said = capsys.readouterr().err
    assert "mien: 5 frames" in said
    assert "3.png" in said
    (folder / "4.png").write_bytes(b"")
    assert run("--source", folder, "--log", tmp_path / "events") == 65
    said = capsys.readouterr().err
    assert "2 pictures could not be read" in said
    assert "3.png" in said
    assert "4.png" in said


def test_a_camera_that_hangs_askew_and_sees_too_much_tells_boxes_in_the_upright_whole(tmp_path, monkeypatch):
    photo = cv2.imread(str(ROOT / "edge/samples/astronaut.png"))  # a face at 177, 66 with a side of 95
    askew = cv2.rotate(cv2.flip(photo, 1), cv2.ROTATE_90_COUNTERCLOCKWISE)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"{number}.png"), askew)
    for key, value in {"ROTATE": "90", "FLIP": "horizontal", "REGION": "0.25,0.05,0.501,0.501", "FPS": "10"}.items():
        monkeypatch.setenv(f"MIEN_SOURCE_{key}", value)
    log, shown = tmp_path / "events", tmp_path / "shown.mp4"
    assert run("--source", folder, "--log", log, "--annotate", shown) == 0
    events = logged(log)
    assert [event["type"] for event in events] == ["appeared", "gone"]
    for event in events:
        assert event["frame"] == [512, 512]
        assert Box(*event["box"]).iou(Box(177, 66, 95, 95)) > 0.7
    drawn = cv2.VideoCapture(str(shown))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 6
    assert abs(drawn.read()[1].shape[0] / drawn.read()[1].shape[1] - 1) < 0.05


def test_behind_broken_frames_a_video_is_read_on(tmp_path, capsys):
    path = tmp_path / "party.mp4"
    scene = parse_scene(f"{SCENE},seconds=3,faces=1")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), scene.fps, scene.size)
    for frame in SyntheticCamera(scene=scene, color=True):
        writer.write(frame.color)
    writer.release()
    data = bytearray(path.read_bytes())
    start, end = int(len(data) * 0.5), int(len(data) * 0.6)
    data[start:end] = bytes(end - start)
    path.write_bytes(data)
    assert run("--source", path, "--log", tmp_path / "events") == 65
    said = capsys.readouterr().err
    broken, of = map(int, re.search(r"(\d+) of (\d+) frames cannot be decoded", said).groups())
    assert f"mien: {of - broken} frames, 0 skipped" in said
    assert 1 <= broken < 10
    assert of == 30


def test_pictures_of_every_size_and_kind_are_bad_or_fine_but_never_a_crash(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(5)
    pictures = {
        "1x1": np.zeros((1, 1, 3), np.uint8),
        "one row": np.zeros((1, 300), np.uint8),
        "one column": np.zeros((300, 1), np.uint8),
        "black": np.zeros((120, 160, 3), np.uint8),
        "white": np.full((120, 160, 3), 255, np.uint8),
        "grey": rng.integers(0, 256, (121, 161), np.uint8),
        "four channels": rng.integers(0, 256, (120, 160, 4), np.uint8),
        "16 bit": rng.integers(0, 65536, (120, 160, 3), np.uint16),
        "12 megapixels": cv2.resize(rng.integers(0, 256, (30, 40, 3), np.uint8), (4000, 3000)),
    }
    for number, picture in enumerate(pictures.values()):
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    assert run("--source", folder, "--log", tmp_path / "events", "--annotate", tmp_path / "shown") == 0
    assert f"mien: {len(pictures)} frames" in capsys.readouterr().err
    assert len(list((tmp_path / "shown").iterdir())) == len(pictures)


def test_a_file_at_the_pace_of_life_takes_its_time(tmp_path):
    began = time.monotonic()
    assert run("--source", f"synthetic:{SCENE},seconds=0.9", "--pace", "realtime", "--log", tmp_path / "events") == 0
    assert time.monotonic() - began >= 0.8
    assert came_and_went(tmp_path / "events")


@pytest.mark.parametrize("pace", ["fast", "realtime"])
def test_a_person_at_a_terminal_sees_how_far_the_file_is(pace, video, tmp_path, open_terminal):
    terminal = open_terminal()
    assert run("--source", video, "--log", tmp_path / "events", "--pace", pace) == 0
    *lines, rest = terminal.getvalue().split(CLEAR)[1:]
    assert re.fullmatch(r"25 of 25 frames, [0-9.]+ frames/s", lines[-1])
    assert rest.startswith("mien: ")
    if pace == "fast":
        assert len(lines) == 25


def test_of_a_camera_no_progress_is_shown(tmp_path, open_terminal):
    terminal = open_terminal()
    assert run("--source", f"synthetic:{SCENE},seconds=0.4,realtime=1", "--log", tmp_path / "events") == 0
    assert terminal.getvalue().startswith("mien: ")


# Cameras


def test_a_camera_faster_than_vision_has_frames_skipped_and_counted(tmp_path, capsys):
    source = "synthetic:size=640x480,fps=200,seconds=0.5,realtime=1"
    assert run("--source", source, "--log", tmp_path / "events") == 0
    frames, skipped = (int(part.split()[0]) for part in capsys.readouterr().err.removeprefix("mien: ").split(",")[:2])
    assert frames > 0
    assert skipped > 0
    assert frames + skipped <= 100


def test_a_camera_that_dies_ends_the_run_with_69_and_leaves_its_events(tmp_path, capsys):
    source = f"synthetic:{SCENE},realtime=1,die_at=0.9"
    assert run("--source", source, "--log", tmp_path / "events") == 69
    assert "the camera is gone" in capsys.readouterr().err
    assert came_and_went(tmp_path / "events")


def test_a_camera_that_stalls_ends_the_run_with_69(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIEN_SOURCE_TIMEOUT", "0.2")
    assert run("--source", f"synthetic:{SCENE},realtime=1,stall_at=0.4", "--log", tmp_path / "events") == 69
    assert "no picture for 0.2 s" in capsys.readouterr().err


class LostCamera(LiveCamera):
    """Gives a picture each time that it is found; between two of them it is away for `away` attempts of 20 s each."""

    def __init__(self, away: list[int], *, hangs: bool = False):
        self.now, self.away, self.hangs = time.monotonic(), away, hangs
        self.taken, self.missed, self.closing = threading.Event(), threading.Event(), threading.Event()
        quick = Reconnect(within=60.0, first=0.001, longest=0.001)
        super().__init__("cam", self.find, limits=Limits(silent=0.02), reconnect=quick, clock=lambda: self.now)

    def find(self):
        self.missed.wait(5.0 * self._opened)  # until the daemon has seen that nothing comes
        if self.away[0]:
            self.away[0] -= 1
            self.now += 20.0
            raise CameraError("cam: away")
        self.away.pop(0)
        self.taken.clear()
        self.fresh = True
        return self

    def grab(self):
        if self.fresh:
            self.fresh = False
            return True
        self.taken.wait(5.0)
        self.missed.clear()
        if self.hangs:
            self.missed.wait(5.0)
            self.now += 61.0
            self.closing.wait(5.0)
        return False

    def retrieve(self):
        return True, np.zeros((120, 160, 3), np.uint8)

    def release(self):
        pass

    def read(self):
        try:
            frame = super().read()
        except CameraError:
            self.missed.set()
            raise
        self.taken.set()
        return frame

    def close(self):
        self.closing.set()
        super().close()


def test_a_camera_that_is_lost_and_found_again_goes_on_until_it_stays_away(monkeypatch, capsys, caplog):
    monkeypatch.setattr(edge.daemon, "open_camera", lambda *_, **__: LostCamera([0, 2, 2, 9]))
    assert run("--source", "rtsp://cam/") == 69
    said = capsys.readouterr().err
    frames, skipped = (int(part.split()[0]) for part in said.removeprefix("mien: ").split(",")[:2])
    assert frames + skipped == 3
    assert "cam: " in said.splitlines()[-1]
    assert [record.getMessage() for record in caplog.records] == [
        "cam: no picture for 0.02 s; it is sought for 60 s"
    ] * 3


def test_a_lost_camera_whose_driver_hangs_is_given_up_all_the_same(monkeypatch, capsys):
    monkeypatch.setattr(edge.daemon, "open_camera", lambda *_, **__: LostCamera([0], hangs=True))
    assert run("--source", "rtsp://cam/") == 69
    assert "cam: no picture for 60 s" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_is_heard_while_a_camera_does_not_answer(number, code, tmp_path, wait_until):
    command = [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())", "run"]
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"rtsp://127.0.0.1:{deaf.getsockname()[1]}/live"
        daemon = subprocess.Popen([*command, "--source", url, "--log", tmp_path / "log"], cwd=ROOT)
        try:
            deaf.settimeout(30)
            with deaf.accept()[0]:
                began = time.monotonic()
                daemon.send_signal(number)
                assert daemon.wait(30) == code
                assert time.monotonic() - began < Limits().opening / 2
        finally:
            daemon.kill()
            daemon.wait()


def test_a_camera_that_freezes_ends_the_run_with_69(monkeypatch, capsys, tmp_path):
    picture = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    slow = SimpleNamespace(
        grab=lambda: time.sleep(0.02) or True, retrieve=lambda: (True, picture.copy()), release=lambda: None
    )
    monkeypatch.setattr(
        edge.daemon, "open_camera", lambda spec, **told: LiveCamera(spec, lambda: slow, limits=told["limits"])
    )
    monkeypatch.setenv("MIEN_SOURCE_FROZEN", "0.3")
    assert run("--source", "v4l2:0", "--log", tmp_path / "events") == 69
    assert "v4l2:0: one picture, the same in every bit, for 0.3 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--source", "v4l2:77"], 69, "/dev/video77: no such camera"),
        (["--source", "v4l2:/dev/null"], 69, "/dev/null: does not open as a camera"),
        (["--source", "rtsp://127.0.0.1:9/front"], 69, "rtsp://127.0.0.1:9/front: cannot be reached"),
        (["--source", "picamera2"], 69, "sudo apt install python3-picamera2"),
        (["--source", "nowhere.mp4"], 66, "nowhere.mp4"),
        (["--source", "images:nowhere"], 66, "nowhere"),
        (["--source", "webcam"], 64, "webcam"),
        (["--source", "images:"], 64, "images:: no folder named"),
        (["--source", "synthetic:faces=many"], 64, "faces=many"),
        (["--source", "synthetic", "--model", "nowhere.tflite"], 66, "nowhere.tflite"),
        (["--source", "synthetic", "--model", "cut.tflite"], 65, "cut.tflite: the model is cut short"),
        (["--source", "synthetic:realtime=1", "--pace", "fast"], 78, "source.pace"),
        (["--source", "synthetic", "--annotate", "out.avi"], 64, "out.avi"),
        (["--source", "synthetic", "--log", "/proc/events"], 73, "/proc/events"),
        (["--source", "synthetic", "--mqtt", "http://broker"], 78, "mqtt.url"),
        (["--source", "rtsp://me:secret@10.0.0.1/"], 78, "source.spec"),
    ],
)
def test_what_cannot_be_begun_is_refused_by_name(options, code, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "picamera2", None)  # as where it is not installed
    Path("cut.tflite").write_bytes(MODEL.read_bytes()[:1000])
    assert run(*options) == code
    error = capsys.readouterr().err
    assert said in error
    assert "secret" not in error
    assert "Traceback" not in error


def test_a_video_is_not_drawn_over_itself(video, tmp_path):
    own = tmp_path / "own.mp4"
    own.write_bytes(video.read_bytes())
    assert run("--source", own, "--annotate", own) == 64
    assert own.read_bytes() == video.read_bytes()


@pytest.mark.parametrize("name", ["shown.mp4", "shown"])
def test_annotating_replaces_what_mien_wrote_and_nothing_else(name, video, tmp_path, capsys):
    source, out = f"synthetic:{SCENE},seconds=0.3", tmp_path / name
    for _ in range(2):
        assert run("--source", source, "--annotate", out) == 0
    capsys.readouterr()
    original = out if out.suffix else out / "000001.jpg"
    original.write_bytes(video.read_bytes())
    assert run("--source", source, "--annotate", out) == 73
    assert f"{original} is there already" in capsys.readouterr().err
    assert original.read_bytes() == video.read_bytes()


def test_the_log_and_the_annotated_video_are_not_one_file(tmp_path, capsys):
    log = tmp_path / "a.mp4"
    assert run("--source", f"synthetic:{SCENE},seconds=0.3", "--log", log) == 0
    events = log.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path)
    assert run("--source", f"synthetic:{SCENE},seconds=0.3", "--log", log, "--annotate", tmp_path / "link/a.mp4") == 64
    assert "a name of its own" in capsys.readouterr().err
    assert log.read_bytes() == events


@pytest.mark.parametrize("realtime", [0, 1])
def test_opencv_wakes_no_helpers_while_the_daemon_runs_and_has_them_back_behind_it(realtime, monkeypatch, tmp_path):
    look, threads = Vision.look, []
    monkeypatch.setattr(Vision, "look", lambda self, frame: threads.append(cv2.getNumThreads()) or look(self, frame))
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        assert run("--source", f"synthetic:{SCENE},seconds=0.3,realtime={realtime}", "--log", tmp_path / "events") == 0
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)
    assert set(threads) == {1}


# Failures inside


@pytest.mark.parametrize("realtime", [0, 1], ids=["in order", "in threads"])
def test_a_fault_in_vision_ends_the_run_with_70(realtime, tmp_path, monkeypatch, capsys):
    published = []

    def look(self, frame, real=Vision.look):
        if published:
            raise ZeroDivisionError("a fault")
        seen = real(self, frame)
        published.extend(seen.events)
        return seen

    monkeypatch.setattr(Vision, "look", look)
    source = f"synthetic:{SCENE},seconds=0,realtime={realtime}"
    assert run("--source", source, "--log", tmp_path / "events") == 70
    assert "ZeroDivisionError: a fault" in capsys.readouterr().err
    assert types(tmp_path / "events") == ["appeared", "gone"]


@pytest.mark.parametrize("realtime", [0, 1], ids=["in order", "in threads"])
def test_a_fault_in_a_sink_ends_the_run_with_70(realtime, monkeypatch, capsys):
    def publish(self, event):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(edge.output.Console, "publish", publish)
    assert run("--source", f"synthetic:{SCENE},seconds=0,realtime={realtime}") == 70
    assert "ZeroDivisionError: a fault" in capsys.readouterr().err


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_log_that_cannot_grow_ends_the_reading_of_a_file_with_73_and_keeps_what_it_has(tmp_path, capsys):
    source = "synthetic:size=320x240,fps=10,seconds=0,faces=2"
    with files_no_larger_than(600):
        assert run("--source", source, "--log", tmp_path / "events") == 73
    assert str(tmp_path / "events") in capsys.readouterr().err
    assert types(tmp_path / "events") == ["appeared"]


def test_a_log_that_cannot_grow_does_not_end_a_cameras_run(tmp_path, capsys, caplog):
    source = "synthetic:size=320x240,fps=10,seconds=1,faces=2,realtime=1"
    with files_no_larger_than(600):
        assert run("--source", source, "--log", tmp_path / "events") == 0
    assert types(tmp_path / "events") == ["appeared"]
    assert "events lost" in capsys.readouterr().err
    assert [
        message
        for message in caplog.messages
        if message.startswith(f"log: events could not be stored in the log {tmp_path}/events")
    ]


# Processes of their own


def start(settings, *options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())", "run", *map(str, options)],
        env=os.environ | settings,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_an_event(log: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(400):
        if log.exists() and log.stat().st_size:
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.025)
    pytest.fail("no event came")


@pytest.mark.parametrize(
    ("number", "code", "realtime"),
    [(signal.SIGTERM, 0, 1), (signal.SIGINT, 130, 0)],
    ids=["systemd stops a camera's run", "Ctrl-C stops a file's run"],
)
def test_a_signal_ends_the_run_in_good_order(number, code, realtime, settings, tmp_path):
    log = tmp_path / "events"
    with start(settings, "--source", f"synthetic:{SCENE},seconds=0,realtime={realtime}", "--log", log) as process:
        wait_for_an_event(log, process)
        process.send_signal(number)
        assert process.wait(10) == code
        said = process.stderr.read()
    assert said.startswith("mien: ")
    assert "Traceback" not in said
    assert types(log)[-1] == "gone"


# MQTT


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_file_whose_broker_is_away_is_read_and_logged_and_ends_with_69(closed_port, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(edge.output, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(edge.output.MqttSink.close, "__defaults__", (0.3,))
    url = f"mqtt://127.0.0.1:{closed_port}"
    source = f"synthetic:{SCENE},seconds=1"
    assert run("--source", source, "--log", tmp_path / "events", "--mqtt", url) == 69
    assert "2 events did not reach the broker" in capsys.readouterr().err
    assert types(tmp_path / "events") == ["appeared", "gone"]


def test_a_file_without_faces_still_wants_its_broker(closed_port, capsys, monkeypatch):
    monkeypatch.setattr(edge.output, "CONNECT_SECONDS", 0.3)
    assert run("--source", f"synthetic:{SCENE},seconds=0.3,faces=0", "--mqtt", f"mqtt://127.0.0.1:{closed_port}") == 69
    assert "the broker does not answer" in capsys.readouterr().err


def test_a_camera_whose_broker_is_away_goes_on(closed_port, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(edge.output.MqttSink.close, "__defaults__", (0.3,))
    source = f"synthetic:{SCENE},seconds=0.9,realtime=1"
    assert run("--source", source, "--log", tmp_path / "events", "--mqtt", f"mqtt://127.0.0.1:{closed_port}") == 0
    assert came_and_went(tmp_path / "events")
    assert f"{len(logged(tmp_path / 'events'))} events did not reach the broker" in caplog.text


@pytest.mark.broker
@pytest.mark.parametrize("realtime", [0, 1], ids=["file", "camera"])
def test_log_and_broker_get_the_same_events(realtime, mosquitto, listen, tmp_path):
    broker = mosquitto()
    listener = listen(broker.port)
    source = f"synthetic:{SCENE},seconds=1,faces=2,realtime={realtime}"
    url = f"mqtt://127.0.0.1:{broker.port}"
    assert run("--source", source, "--log", tmp_path / "events", "--mqtt", url) == 0
    listener.wait_for(lambda: len(listener.payloads("mien/kitchen/status")) == 2)
    assert [json.loads(payload) for payload in listener.payloads("mien/kitchen/event")] == logged(tmp_path / "events")
    assert listener.payloads("mien/kitchen/status") == ["online", "offline"]


@pytest.mark.broker
def test_a_stop_takes_less_than_five_seconds_though_the_broker_hangs(mosquitto, listen, settings, tmp_path):
    broker, log = mosquitto(), tmp_path / "events"
    listener = listen(broker.port, "mien/kitchen/status")
    options = ["--log", log, "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
    with start(settings, "--source", f"synthetic:{SCENE},seconds=0,realtime=1", *options) as process:
        wait_for_an_event(log, process)
        listener.wait_for(lambda: "online" in listener.payloads("mien/kitchen/status"))
        broker.freeze()
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        said = process.stderr.read()
    broker.thaw()
    assert "for the next start" in said
    assert types(log)[-1] == "gone"


# Health


@pytest.mark.broker
@pytest.mark.parametrize("realtime", [0, 1], ids=["file", "camera"])
def test_the_broker_is_told_how_the_daemon_is_at_once_and_then_at_its_interval(
    realtime, mosquitto, listen, tmp_path, monkeypatch, health_validator
):
    monkeypatch.setenv("MIEN_HEALTH_EVERY", "1")
    broker = mosquitto()
    listener = listen(broker.port, "mien/kitchen/health")
    options = ["--log", tmp_path / "events", "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
    options += [] if realtime else ["--pace", "realtime"]
    assert run("--source", f"synthetic:{SCENE},seconds=2.5,faces=2,realtime={realtime}", *options) == 0
    first, *_, last = [json.loads(payload) for payload in listener.payloads("mien/kitchen/health")]
    for told in (first, last):
        health_validator.validate(told)
    assert last["uptime"] - first["uptime"] >= 0.9
    assert last["frames"] > first["frames"]
    assert (last["device"], last["faces"], last["events"]) == ("kitchen", 2, 2)
    assert last["sinks"] == {"log": {"waiting": 0, "lost": 0}, "mqtt": {"waiting": 0, "lost": 0}}
    assert last["outbox"] == 0
    assert (last["latency"] is not None) == bool(realtime)


@pytest.mark.broker
def test_home_assistant_knows_the_device_while_that_is_wanted_and_forgets_it_where_it_is_not(
    mosquitto, listen, monkeypatch
):
    broker = mosquitto()
    topic = "homeassistant/device/mien_kitchen/config"
    options = ["--source", f"synthetic:{SCENE},seconds=0.3", "--mqtt", f"mqtt://127.0.0.1:{broker.port}"]
    assert run(*options) == 0
    listener = listen(broker.port)
    listener.wait_for(lambda: listener.payloads(topic))
    [payload] = listener.payloads(topic)
    parts = json.loads(payload)["cmps"]
    assert parts["expression"]["options"] == [*FER2013_LABELS, "uncertain", "none"]
    topics = {part["state_topic"] for part in parts.values()}
    listener.wait_for(lambda: topics <= {message.topic for message in listener.messages})
    monkeypatch.setenv("MIEN_HOMEASSISTANT_ENABLED", "false")
    assert run(*options) == 0
    listener.wait_for(lambda: listener.payloads(topic)[-1] == "")
    later = listen(broker.port, client_id="later")
    later.wait_for(lambda: later.payloads("mien/kitchen/status"))
    assert later.payloads(topic) == []


def test_how_the_daemon_is_can_be_scraped_while_it_runs_and_not_behind_it(closed_port, tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_METRICS_PORT", str(closed_port))
    pages = []

    def fetch() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{closed_port}/metrics", timeout=5) as page:
            families = text_string_to_metric_families(page.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples}

    def scrape() -> None:
        while not pages or not pages[-1]["mien_frames_skipped_total"]:
            with suppress(OSError):
                pages.append(fetch())
            time.sleep(0.05)

    scraping = threading.Thread(target=scrape, daemon=True)
    scraping.start()
    source = "synthetic:size=640x480,fps=200,seconds=2,realtime=1"
    assert run("--source", source, "--log", tmp_path / "events") == 0
    scraping.join(5)
    assert pages[-1]["mien_frames_skipped_total"] > 0
    assert pages[-1]["mien_frames_total"] > 0
    with pytest.raises(OSError, match="refused"):
        fetch()


def test_a_metrics_port_that_somebody_has_ends_the_run_with_69_before_it_begins(tmp_path, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setenv("MIEN_METRICS_PORT", port)
        assert run("--source", f"synthetic:{SCENE},seconds=0.3", "--log", tmp_path / "events") == 69
    assert f"metrics.port {port} on metrics.address 127.0.0.1 cannot be listened on" in capsys.readouterr().err
    assert not (tmp_path / "events").exists()


# Colour


def test_a_colour_model_gets_colour(tmp_path, monkeypatch):
    monkeypatch.setenv("MIEN_MODEL_PATH", str(MODEL.with_name("rgb_uint8_softmax.tflite")))
    assert run("--source", f"synthetic:{SCENE},seconds=0.5", "--log", tmp_path / "events") == 0
    scores = logged(tmp_path / "events")[0]["scores"]
    assert np.isclose(sum(scores.values()), 1.0, atol=1e-3)
