"""Pausing and erasing, as a person meets them: commands beside a daemon that runs, and a broker that is one."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import edge.camera.synthetic
import edge.control
import edge.daemon
import edge.erase
from edge.cli import main
from edge.control import running
from edge.erasure import outboxes
from edge.labels import FER2013_LABELS
from edge.outbox import Outbox
from edge.pause import pause, resume

ROOT = Path(__file__).parents[2]
MODEL = Path(__file__).parent / "models/grey_int8_logits.tflite"
CAMERA = "synthetic:size=160x120,fps=20,seconds=0,realtime=1"
STATUS, STATE, HEALTH = (f"mien/kitchen/{kind}" for kind in ("status", "state", "health"))


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> dict[str, str]:
    given = {
        "XDG_STATE_HOME": str(tmp_path / "home"),
        "MIEN_MODEL_PATH": str(MODEL),
        "MIEN_MODEL_LABELS": ",".join(FER2013_LABELS),
        "MIEN_DEVICE_NAME": "kitchen",
        "MIEN_REPORT_EVERY": "0.2",
    }
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.control, "SERVICE", tmp_path / "service")
    return given


@pytest.fixture
def folder(tmp_path) -> Path:
    """The control folder of the daemons here."""
    return tmp_path / "home/mien/control"


def mien(*arguments: object) -> int:
    return main([*map(str, arguments)])


class Daemon:
    """`mien run` in a process of its own."""

    def __init__(self, folder: Path, *options: object) -> None:
        self.folder = folder
        command = [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())", "run"]
        self.process = subprocess.Popen([*command, *map(str, options)], cwd=ROOT, stderr=subprocess.PIPE, text=True)

    def doing(self) -> str | None:
        assert self.process.poll() is None, self.process.stderr.read()
        return running(self.folder).get("kitchen")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        return self.process.wait(15)


@pytest.fixture
def start(folder) -> Iterator[Callable[..., Daemon]]:
    daemons: list[Daemon] = []

    def make(*options: object) -> Daemon:
        daemons.append(Daemon(folder, *options))
        return daemons[-1]

    yield make
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.communicate()


def events(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def types(log: Path) -> list[str]:
    return [event["type"] for event in events(log)]


def is_seen(log: Path) -> Callable[[], bool]:
    return lambda: bool(events(log)) and types(log)[-1] == "updated"


# Pausing a daemon that runs


def test_a_pause_lets_go_of_the_camera_at_once_and_outlasts_a_kill(start, folder, tmp_path, wait_until, capsys):
    log = tmp_path / "log"
    daemon = start("--source", CAMERA, "--log", log)
    wait_until(is_seen(log))
    assert daemon.doing() == "reading"
    began = time.monotonic()
    assert mien("pause") == 0
    assert time.monotonic() - began < 2.0  # fractions of a second where nobody else works
    assert capsys.readouterr().out == "paused until 'mien resume'; kitchen does not read its camera\n"
    assert daemon.doing() == "resting"
    wait_until(lambda: types(log)[-1] == "gone")
    before = log.read_bytes()
    daemon.stop(signal.SIGKILL)
    assert running(folder) == {}
    again = start("--source", CAMERA, "--log", log)
    wait_until(lambda: again.doing() == "resting")
    time.sleep(0.5)
    assert log.read_bytes() == before
    assert mien("resume") == 0
    wait_until(is_seen(log))
    assert again.doing() == "reading"
    assert again.stop() == 0


def test_a_pause_for_some_time_ends_by_itself(start, folder, tmp_path, wait_until, capsys):
    log = tmp_path / "log"
    start("--source", CAMERA, "--log", log)
    wait_until(is_seen(log))
    assert mien("pause", "--for", "1s") == 0
    assert re.match(r"paused until \d\d:\d\d or 'mien resume'; kitchen does not", capsys.readouterr().out)
    wait_until(lambda: types(log)[-1] == "gone")
    wait_until(is_seen(log))
    assert not (folder / "paused").exists()
    assert mien("resume") == 0
    assert capsys.readouterr().out == "nothing was paused\n"


def test_who_is_seen_again_behind_a_pause_is_a_new_face_with_new_ids(start, tmp_path, wait_until):
    log = tmp_path / "log"
    start("--source", CAMERA, "--log", log)
    for _ in range(2):
        wait_until(is_seen(log))
        mien("pause")
        wait_until(lambda: types(log)[-1] == "gone")
        mien("resume")
    wait_until(is_seen(log))
    assert [event["track"] for event in events(log) if event["type"] == "appeared"] == [1, 2, 3]
    ids = [event["id"] for event in events(log)]
    assert ids == sorted(set(ids))


def test_a_paused_daemon_stops_in_good_order(start, tmp_path, wait_until):
    mien("pause")
    daemon = start("--source", CAMERA, "--log", tmp_path / "log")
    wait_until(lambda: daemon.doing() == "resting")
    assert daemon.stop() == 0
    assert "mien: 0 frames" in daemon.process.stderr.read()


def test_systemd_hears_that_a_paused_daemon_is_ready_and_alive(start, folder, tmp_path, monkeypatch, wait_until):
    mien("pause")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        start("--source", CAMERA, "--log", tmp_path / "log")
        heard: list[str] = []
        while sum("WATCHDOG=1" in said for said in heard) < 4:
            heard.append(manager.recv(4096).decode())
    assert any("READY=1\nSTATUS=paused" in said for said in heard)
    assert heard[-1] == "WATCHDOG=1\nSTATUS=paused"


@pytest.mark.broker
def test_the_broker_is_told_of_a_pause_and_of_its_end(
    start, folder, tmp_path, mosquitto, listen, wait_until, health_validator
):
    broker = mosquitto()
    listener = listen(broker.port, "mien/#")
    start("--source", CAMERA, "--mqtt", f"mqtt://127.0.0.1:{broker.port}")

    def told(topic: str) -> dict:
        return json.loads((listener.payloads(topic) or ["{}"])[-1])

    listener.wait_for(lambda: told(STATE).get("count") == 1)
    assert (told(STATE)["paused"], told(HEALTH)["paused"]) == (False, False)
    assert mien("pause") == 0
    listener.wait_for(lambda: told(STATE)["paused"] and told(HEALTH)["paused"])
    listener.wait_for(lambda: json.loads(listener.payloads("mien/kitchen/event")[-1])["type"] == "gone")
    assert (told(STATE)["count"], told(STATE)["dominant"], told(HEALTH)["frame_age"]) == (0, None, None)
    health_validator.validate(told(HEALTH))
    assert listener.payloads(STATUS) == ["online"]
    assert mien("resume") == 0
    listener.wait_for(lambda: not told(STATE)["paused"] and not told(HEALTH)["paused"])
    listener.wait_for(lambda: told(STATE)["count"] == 1)
    late = listen(broker.port, client_id="late")
    late.wait_for(lambda: late.payloads(STATE))
    assert json.loads(late.payloads(STATE)[-1])["paused"] is False


# Within one process: what the camera sees


class WatchedCamera(edge.camera.synthetic.SyntheticCamera):
    """Counts who opens, reads and closes it."""

    made: list["WatchedCamera"]

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.reads, self.closed = 0, False
        type(self).made.append(self)

    def read(self):
        assert not self.closed
        self.reads += 1
        return super().read()

    def close(self):
        self.closed = True
        super().close()


@pytest.fixture
def cameras(monkeypatch) -> list[WatchedCamera]:
    kind = type("Kind", (WatchedCamera,), {"made": []})
    monkeypatch.setattr("edge.camera.SyntheticCamera", kind)
    return kind.made


def test_while_it_is_paused_the_camera_is_closed_and_read_by_nobody(cameras, folder, run_daemon, wait_until):
    def meanwhile() -> None:
        wait_until(lambda: cameras and cameras[0].reads > 3)
        pause(folder)
        wait_until(lambda: cameras[0].closed)
        reads = cameras[0].reads
        time.sleep(0.3)
        assert (len(cameras), cameras[0].reads) == (1, reads)
        resume(folder)
        wait_until(lambda: len(cameras) == 2 and cameras[1].reads > 3)

    assert run_daemon("--source", CAMERA, meanwhile=meanwhile) == 0
    assert all(camera.closed for camera in cameras)


def test_a_daemon_that_starts_paused_does_not_touch_the_camera(cameras, folder, run_daemon, wait_until, tmp_path):
    mien("pause")

    def meanwhile() -> None:
        wait_until(lambda: running(folder).get("kitchen") == "resting")
        time.sleep(0.3)
        assert cameras == []

    assert run_daemon("--source", CAMERA, "--log", tmp_path / "log", meanwhile=meanwhile) == 0
    assert events(tmp_path / "log") == []


def test_files_are_not_paused(folder, tmp_path):
    mien("pause")
    source = "synthetic:size=160x120,fps=10,seconds=0.5"
    assert mien("run", "--source", source, "--log", tmp_path / "fast") == 0
    assert mien("run", "--source", source, "--log", tmp_path / "slow", "--pace", "realtime") == 0
    for log in (tmp_path / "fast", tmp_path / "slow"):
        assert (types(log)[0], types(log)[-1]) == ("appeared", "gone")
    assert (folder / "paused").exists()


def test_a_camera_that_is_gone_when_it_is_to_be_read_again_ends_the_run_with_69(
    folder, run_daemon, wait_until, monkeypatch, capsys
):
    def meanwhile() -> None:
        wait_until(lambda: running(folder).get("kitchen") == "reading")
        pause(folder)
        wait_until(lambda: running(folder).get("kitchen") == "resting")
        monkeypatch.setattr(edge.daemon, "open_camera", unplugged)
        resume(folder)
        wait_until(lambda: running(folder) == {})

    def unplugged(*_: object, **__: object) -> None:
        raise edge.errors.CameraError("cam: unplugged")

    assert run_daemon("--source", CAMERA, meanwhile=meanwhile) == 69
    assert "cam: unplugged" in capsys.readouterr().err


# The commands by themselves


def test_without_a_daemon_the_next_one_is_paused(folder, capsys):
    assert mien("pause") == 0
    assert capsys.readouterr().out == "paused until 'mien resume'; no daemon runs that reads a camera\n"
    assert (folder / "paused").exists()
    assert mien("resume") == 0
    assert capsys.readouterr().out == "resumed\n"


@pytest.mark.parametrize("text", ["2", "h", "0s", "2 hours", "1e9s", "nan", "400d", "0.5s", ""])
def test_a_time_that_is_none_is_refused(text, folder, capsys):
    assert mien("pause", "--for", text) == 64
    assert "expected a time such as 90s, 30m, 2h or 1d" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1 d", 86400), ("1w", 604800)]
)
def test_a_time_has_a_number_and_a_unit(text, seconds, folder):
    assert mien("pause", "--for", text) == 0
    assert json.loads((folder / "paused").read_text())["lasts"] == seconds


def test_a_daemon_that_does_not_let_go_is_named(folder, monkeypatch, capsys):
    monkeypatch.setattr("edge.cli_pause.ANSWER_SECONDS", 0.1)
    stuck = edge.control.Presence(edge.control.open_folder(folder.parent, shared=False), "kitchen")
    stuck.say("reading")
    assert mien("pause") == 69
    said = capsys.readouterr().err
    assert "the pause is set, but kitchen has not let go of its camera within 0.1 s; restart it" in said
    assert (folder / "paused").exists()
    stuck.close()


def test_a_folder_that_is_not_there_or_may_not_be_written_is_told(tmp_path, capsys):
    assert mien("pause", "--state", tmp_path / "nowhere") == 66
    assert f"--state {tmp_path}/nowhere is no folder" in capsys.readouterr().err
    (tmp_path / "control").write_text("")
    assert mien("resume", "--state", tmp_path) == 73
    assert f"{tmp_path}/control may not be written" in capsys.readouterr().err


# Erasing


def waiting(home: Path, device: str, count: int = 3) -> Path:
    """An outbox with events that wait."""
    path = home / "mien" / f"outbox-{device}.sqlite"
    box = Outbox(path)
    for number in range(count):
        box.put(json.dumps({"happy": number}))
    box.close()
    return path


def fill(log: Path) -> list[Path]:
    paths = [log, *(log.with_name(f"{log.name}.{end}") for end in ("1", "2", "torn"))]
    for path in paths:
        path.write_text("{}\n")
    return paths


def test_without_a_daemon_everything_on_this_machine_goes_but_what_is_not_ours(tmp_path, capsys):
    home, log = tmp_path / "home", tmp_path / "mien.jsonl"
    boxes = [waiting(home, "kitchen"), waiting(home, "hall")]
    damaged = boxes[0].with_name(f"{boxes[0].name}.damaged")
    damaged.write_text("x" * 7)
    (home / "mien/starts").write_text("5\n")
    others = [tmp_path / "mien.jsonl.bak", tmp_path / "mien.jsonl.1.gz", tmp_path / "other.jsonl"]
    for other in others:
        other.write_text("")
    gone = [*fill(log), *boxes, damaged]
    assert mien("erase", "--log", log, "--yes") == 0
    said = capsys.readouterr().out
    assert not any(path.exists() for path in gone)
    assert all(f"removed {path}, " in said for path in gone)
    assert f"removed {damaged}, 7 bytes" in said
    assert "SD cards and SSDs keep the blocks" in said
    assert all(other.exists() for other in others)
    assert (home / "mien/starts").read_text() == "5\n"
    assert mien("erase", "--log", log, "--yes") == 0
    assert capsys.readouterr().out == "there was nothing to remove\n"


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 0, True), ("", 0, True), ("y", 0, False)])
def test_it_asks_first(answer, code, left, tmp_path, monkeypatch):
    log = tmp_path / "log"
    fill(log)
    asked: list[str] = []
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    assert mien("erase", "--log", log) == code
    assert log.exists() == left
    assert str(log) in asked[0]


def test_where_nobody_can_be_asked_it_says_so(tmp_path, monkeypatch, capsys):
    log = tmp_path / "log"
    fill(log)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: False))
    assert mien("erase", "--log", log) == 64
    assert "say --yes" in capsys.readouterr().err
    assert log.exists()


def test_what_cannot_be_removed_is_named_and_the_rest_goes(tmp_path, monkeypatch, capsys):
    log = tmp_path / "log"
    paths = fill(log)
    unlink = Path.unlink

    def refuse(path: Path, **options: bool) -> None:
        if path == paths[1]:
            raise PermissionError(13, "Permission denied")
        unlink(path, **options)

    monkeypatch.setattr(Path, "unlink", refuse)
    assert mien("erase", "--log", log, "--yes") == 73
    said = capsys.readouterr()
    assert f"{paths[1]} cannot be removed (Permission denied)" in said.err
    assert [path.exists() for path in paths] == [False, True, False, False]


def test_an_outbox_that_another_process_has_is_left_and_named(tmp_path, capsys):
    path = waiting(tmp_path / "home", "kitchen")
    box = Outbox(path)
    assert mien("erase", "--yes") == 73
    assert f"{path} is in use by another process" in capsys.readouterr().err
    assert len(box) == 3
    box.close()


@pytest.mark.broker
@pytest.mark.parametrize("local", [False, True])
def test_the_broker_forgets_a_device_that_does_not_run_unless_it_is_to_be_left_alone(
    local, mosquitto, listen, monkeypatch, capsys, run_daemon
):
    broker = mosquitto()
    monkeypatch.setenv("MIEN_MQTT_URL", f"mqtt://127.0.0.1:{broker.port}")
    assert mien("run", "--source", "synthetic:size=160x120,seconds=0.3") == 0
    assert mien("erase", "--yes", *["--local-only"] * local) == 0
    late = listen(broker.port, "#", client_id="late")
    late.wait_for(lambda: late.messages)
    time.sleep(0.2)
    kept = {message.topic for message in late.messages} & {STATUS, STATE, HEALTH}
    assert kept == ({STATUS, STATE, HEALTH} if local else set())
    assert (f"removed {STATE} on the broker" in capsys.readouterr().out) != local


def test_a_broker_that_is_away_is_told_of_and_the_rest_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(edge.erase, "BROKER_SECONDS", 0.3)
    monkeypatch.setenv("MIEN_MQTT_URL", "mqtt://127.0.0.1:9")
    path = waiting(tmp_path / "home", "kitchen")
    assert mien("erase", "--yes") == 73
    assert f"{STATUS}, {STATE}, {HEALTH} may still be retained: the broker at" in capsys.readouterr().err
    assert not path.exists()


@pytest.mark.broker
def test_a_daemon_that_runs_erases_everything_and_goes_on(start, tmp_path, mosquitto, listen, wait_until, capsys):
    broker, log = mosquitto(), tmp_path / "log"
    home = tmp_path / "home"
    others = waiting(home, "hall")
    gone = fill(log)[1:]
    log.unlink()
    daemon = start("--source", CAMERA, "--log", log, "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
    wait_until(is_seen(log))
    before = events(log)
    assert mien("pause") == 0
    wait_until(lambda: types(log)[-1] == "gone")
    capsys.readouterr()
    assert mien("erase", "--yes") == 0
    said = capsys.readouterr().out
    assert f"removed {log}, " in said
    assert f"removed {others}, " in said
    assert f"removed {STATE} on the broker at 127.0.0.1:{broker.port}\n" in said
    assert not any(path.exists() for path in [*gone, others])
    assert log.read_bytes() == b""
    late = listen(broker.port, client_id="late")
    late.wait_for(lambda: late.payloads(STATE))
    state = json.loads(late.payloads(STATE)[0])
    assert (state["ts"], state["faces"], state["paused"]) == (None, [], True)
    assert sorted(path.name for path in (home / "mien/control").iterdir()) == ["paused", "running-kitchen"]
    mien("resume")
    wait_until(is_seen(log))
    assert events(log)[0]["id"] > before[-1]["id"]
    assert daemon.stop() == 0


@pytest.mark.broker
def test_what_waits_for_a_broker_that_is_away_is_never_sent(start, tmp_path, mosquitto, listen, wait_until, capsys):
    broker, log = mosquitto(), tmp_path / "log"
    broker.stop()
    start("--source", CAMERA, "--log", log, "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
    wait_until(is_seen(log))
    mien("pause")
    wait_until(lambda: types(log)[-1] == "gone")
    before = {event["id"] for event in events(log)}
    [box] = outboxes(tmp_path / "home/mien")
    wait_until(lambda: box.with_name(f"{box.name}-wal").stat().st_size > 0)
    assert mien("erase", "--yes") == 0
    assert f"note: the broker at 127.0.0.1:{broker.port} does not answer" in capsys.readouterr().out
    broker.start()
    listener = listen(broker.port)
    mien("resume")
    listener.wait_for(lambda: listener.payloads("mien/kitchen/event"), timeout=40)
    ids = {json.loads(payload)["id"] for payload in listener.payloads("mien/kitchen/event")}
    assert not ids & before


def test_what_was_asked_of_an_earlier_daemon_is_not_done(folder, tmp_path, run_daemon, wait_until):
    folder.mkdir(parents=True)
    (folder / "erase-0123456789abcdef").write_text("{}")
    log = tmp_path / "log"
    log.write_text('{"old":1}\n')

    def meanwhile() -> None:
        wait_until(lambda: len(log.read_text().splitlines()) > 1)

    assert run_daemon("--source", CAMERA, "--log", log, meanwhile=meanwhile) == 0
    assert log.read_text().startswith('{"old":1}\n')
    assert list(folder.glob("erase*")) == []


def test_a_daemon_that_dies_while_it_is_asked_is_named(folder, monkeypatch, capsys):
    presence = edge.control.Presence(edge.control.open_folder(folder.parent, shared=False), "kitchen")
    monkeypatch.setattr(edge.erase, "ANSWER_SECONDS", 0.1)
    assert mien("erase", "--yes") == 73
    assert "kitchen has ended, or did not answer" in capsys.readouterr().err
    assert list(folder.glob("erase*")) == []
    presence.close()


def test_annotated_files_go_only_where_they_are_named_and_mien_has_written_them(tmp_path, capsys):
    shown = tmp_path / "shown"
    assert mien("run", "--source", "synthetic:size=160x120,fps=10,seconds=0.3", "--annotate", shown) == 0
    assert mien("erase", "--yes") == 0
    assert len(list(shown.iterdir())) == 3
    holiday = tmp_path / "holiday.mp4"
    holiday.write_bytes(b"mine")
    assert mien("erase", "--yes", "--annotated", shown, "--annotated", holiday) == 73
    assert "Mien did not write it" in capsys.readouterr().err
    assert len(list(shown.iterdir())) == 3
    assert mien("erase", "--yes", "--annotated", shown) == 0
    assert list(shown.iterdir()) == []
    assert mien("erase", "--yes", "--annotated", tmp_path / "nowhere.mp4") == 66


@pytest.mark.parametrize("named", ["recordings/shown.mp4", "recordings"])
def test_what_a_killed_recording_has_left_is_erased_too(start, tmp_path, wait_until, named):
    folder = tmp_path / "recordings"
    daemon = start("--source", CAMERA, "--annotate", folder / "shown.mp4")
    wait_until(lambda: (folder / ".shown.part.mp4").exists())
    daemon.stop(signal.SIGKILL)
    assert [path.name for path in folder.iterdir()] == [".shown.part.mp4"]
    assert mien("erase", "--yes", "--annotated", tmp_path / named) == 0
    assert list(folder.iterdir()) == []


def test_a_picture_that_was_being_written_when_the_power_went_is_erased_with_its_folder(tmp_path):
    for name in (".4711.part", ".notes", ".trip.mp4"):
        (tmp_path / name).write_bytes(b"half")
    assert mien("erase", "--yes", "--annotated", tmp_path) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [".notes", ".trip.mp4"]


# A service and the people of its group

SERVICE, PERSON, STRANGER, GROUP = 61_001, 61_002, 61_003, 61_001


# All is imported first: Python itself may lie where only root can read it.
BECOME = """
import os, sys
import edge.cli, edge.daemon, edge.erase, edge.fleet_watch, edge.interpreter, edge.rotation, encodings.idna
user, *groups = map(int, sys.argv.pop(1).split(","))
os.setgroups(groups), os.setgid(groups[0]), os.setuid(user), os.umask(0o077)
sys.exit(edge.cli.main())
"""


def as_user(user: int, groups: list[int], *arguments: object, **environ: str) -> subprocess.Popen[str]:
    """A command of this user, without any right of root's."""
    who = ",".join(map(str, [user, *groups]))
    return subprocess.Popen(
        [sys.executable, "-c", BECOME, who, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become others")
def test_people_of_the_services_group_pause_it_without_root_and_others_do_not(entered_path, wait_until):
    state, log = entered_path / "service", entered_path / "service/log"
    state.mkdir(mode=0o750)
    os.chown(state, SERVICE, GROUP)
    options = ("--source", CAMERA, "--log", log)
    with as_user(SERVICE, [GROUP], "run", *options, STATE_DIRECTORY=str(state)) as daemon:
        try:
            wait_until(is_seen(log))

            def asked(user: int, groups: list[int], *arguments: str) -> tuple[int, str]:
                process = as_user(user, groups, *arguments, "--state", str(state))
                said, complained = process.communicate(timeout=60)
                return process.returncode, said + complained

            code, said = asked(STRANGER, [STRANGER], "pause")
            assert code == 73
            assert "sudo usermod -aG mien" in said
            assert running(state / "control") == {"kitchen": "reading"}
            assert asked(PERSON, [PERSON, GROUP], "pause")[0] == 0
            assert running(state / "control") == {"kitchen": "resting"}
            wait_until(lambda: types(log)[-1] == "gone")
            code, said = asked(PERSON, [PERSON, GROUP], "erase", "--yes")
            assert (code, f"removed {log}, " in said) == (0, True), said
            assert log.read_bytes() == b""
            assert asked(PERSON, [PERSON, GROUP], "pause", "--for", "1s")[0] == 0
            wait_until(is_seen(log))
            assert asked(SERVICE, [GROUP], "pause")[0] == 0
            assert asked(PERSON, [PERSON, GROUP], "resume")[0] == 0
            wait_until(is_seen(log))
        finally:
            daemon.terminate()
    assert daemon.returncode == 0
