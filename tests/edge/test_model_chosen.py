"""The daemon and the models: it takes up what is chosen, and goes back where that does not come up."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import edge.control
import edge.daemon
from edge import model_chosen, model_store
from edge.cli import main
from edge.config import Config, ModelConfig
from edge.control import open_folder
from edge.errors import BadDataError, CameraError, OutputError, UnavailableError
from edge.labels import FER2013_LABELS
from edge.model_chosen import choosing, open_chosen
from edge.model_store import FOLDER, SHIPPED, TRIES, confirm, entry_of, incoming, keep, path_of, read_choice, short, use
from edge.modelfile import SMALL, read_model_file
from edge.supervisor import StuckError, Supervisor

ROOT = Path(__file__).parents[2]
GREY, COLOUR = (Path(__file__).parent / f"models/{name}.tflite" for name in ("grey_int8_logits", "rgb_uint8_softmax"))
A, B = (entry_of(name, read_model_file(path).sha256) for name, path in (("one", GREY), ("two", COLOUR)))
CONFIG = Config(model=ModelConfig(labels=FER2013_LABELS))
STOP_SECONDS = 5.0
"""The unit's TimeoutStopSec=."""

CAMERA = "synthetic:size=160x120,fps=20,seconds=0,realtime=1"


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "home/mien"


@pytest.fixture
def folder(state) -> Path:
    """With two models, neither of them chosen."""
    folder = open_folder(state, shared=False, name=FOLDER)
    for entry, source in ((A, GREY), (B, COLOUR)):
        with incoming(folder) as (path, file):
            file.write(source.read_bytes())
            keep(folder, path, file, entry)
    return folder


def opened(state: Path, config: Config = CONFIG) -> str:
    return open_chosen(config, state, shared=False).model.name


# Which one is opened


def test_with_no_choice_it_is_the_shipped_one_and_nothing_is_written(state):
    assert opened(state).startswith("mien-v1-48@")
    assert list((state / FOLDER).iterdir()) == []


def test_the_chosen_one_is_named_with_its_digest(state, folder):
    use(folder, A)
    assert opened(state) == short(A)
    assert read_choice(folder).starts == 1


def test_the_configurations_model_wins_and_nothing_is_counted(state, folder):
    use(folder, A)
    config = Config(model=ModelConfig(path=COLOUR, labels=FER2013_LABELS))
    assert opened(state, config) == "rgb_uint8_softmax"
    assert read_choice(folder).starts == 0


def come_up(folder: Path, entry: str) -> None:
    use(folder, entry)
    confirm(folder, entry)


@pytest.mark.parametrize("harm", ["cut", "altered", "gone", "a folder"])
@pytest.mark.parametrize("on_trial", [True, False])
def test_one_that_cannot_be_opened_is_given_up_at_once(harm, on_trial, state, folder, caplog):
    come_up(folder, A)
    use(folder, B) if on_trial else come_up(folder, B)
    path = path_of(folder, B)
    content = path.read_bytes()
    path.unlink()
    if harm == "a folder":
        path.mkdir()
    elif harm != "gone":
        path.write_bytes(content[:3000] if harm == "cut" else content + b"\0")
    chosen = open_chosen(CONFIG, state, shared=False)
    assert (chosen.model.name, chosen.refused) == (short(A), short(B))
    choice = read_choice(folder)
    assert (choice.current, choice.refused, choice.starts) == (A, B, None)
    assert f"model {short(B)} is given up: {path}" in caplog.text
    assert f"; {short(A)} is used again" in caplog.text


def test_where_both_are_damaged_the_shipped_one_is_left(state, folder):
    come_up(folder, A)
    come_up(folder, B)
    for entry in (A, B):
        path_of(folder, entry).write_bytes(b"")
    assert opened(state).startswith("mien-v1-48@")
    assert read_choice(folder).current == SHIPPED


def test_labels_that_fit_the_shipped_one_alone_are_no_end(state, folder):
    three = entry_of("three", read_model_file(GREY).sha256)
    path_of(folder, A).rename(path_of(folder, three))
    use(folder, three)
    assert opened(state, Config()).startswith("mien-v1-48@")
    assert "the model holds no labels" in read_choice(folder).why


def test_labels_for_a_foreign_model_are_none_of_the_shipped_one_s(state, folder):
    config = Config(model=ModelConfig(labels=("a", "b", "c", "d", "e", "f", "g")))
    assert opened(state, config).startswith("mien-v1-48@")
    use(folder, A)
    assert open_chosen(config, state, shared=False).model.labels == tuple("abcdefg")
    path_of(folder, A).write_bytes(b"damaged")
    assert opened(state, config).startswith("mien-v1-48@")
    ours = entry_of("ours", read_model_file(SMALL).sha256)
    path_of(folder, B).rename(path_of(folder, ours))
    path_of(folder, ours).write_bytes(SMALL.read_bytes())
    use(folder, ours)
    assert opened(state, config) == short(ours)


def test_a_start_that_cannot_be_counted_tries_nothing(state, folder, monkeypatch, caplog):
    come_up(folder, A)
    use(folder, B)

    def refuse(_: Path) -> None:
        raise OutputError("read-only file system")

    monkeypatch.setattr(model_store, "begin", refuse)
    chosen = open_chosen(CONFIG, state, shared=False)
    assert chosen.model.name == short(A)
    assert not chosen.is_changed()
    assert "cannot be counted (read-only file system); one that has come up before is used" in caplog.text


def test_what_cannot_be_written_down_is_not_taken_for_another_choice(state, folder, monkeypatch):
    come_up(folder, A)
    path_of(folder, A).write_bytes(b"")

    def refuse(*_: object) -> None:
        raise OutputError("read-only file system")

    monkeypatch.setattr(model_store, "give_up", refuse)
    chosen = open_chosen(CONFIG, state, shared=False)
    assert (chosen.model.name.partition("@")[0], chosen.refused) == ("mien-v1-48", short(A))
    assert not chosen.is_changed()


def test_without_an_interpreter_no_model_is_to_blame(state, folder, monkeypatch):
    def missing(*_: object, **__: object) -> None:
        raise UnavailableError("no TensorFlow Lite interpreter")

    monkeypatch.setattr(model_chosen, "Model", missing)
    use(folder, A)
    for _ in range(TRIES + 2):
        with pytest.raises(UnavailableError):
            opened(state)
    assert read_choice(folder).current == A


# How the run goes


def run(state: Path, *, frames: int = 0, error: BaseException | None = None, in_a_thread: bool = False) -> None:
    supervisor = Supervisor()
    try:
        with choosing(CONFIG, state, supervisor, shared=False) as chosen:
            chosen.frames = lambda: frames
            if in_a_thread:
                supervisor.fail(error)
            elif error is not None:
                raise error
    except BaseException as raised:
        assert raised is error  # noqa: PT017  # it is passed on


@pytest.mark.parametrize("in_a_thread", [True, False])
@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (CameraError("unplugged"), False),
        (OutputError("disk full"), False),
        (KeyboardInterrupt(), False),
        (BadDataError("the model answers with values that are not finite"), True),
        (StuckError("vision did not end"), True),
        (RuntimeError("invoke failed"), True),
    ],
    ids=repr,
)
def test_what_ends_a_start_counts_unless_it_has_a_reason_of_its_own(error, counts, in_a_thread, state, folder):
    use(folder, A)
    for _ in range(TRIES):
        run(state, error=error, in_a_thread=in_a_thread)
    assert read_choice(folder).starts == (TRIES if counts else 0)
    assert opened(state).startswith("mien-v1-48@" if counts else short(A))


def test_who_stops_it_before_the_first_picture_says_nothing_against_it(state, folder):
    use(folder, A)
    for _ in range(TRIES + 1):
        run(state)
    assert (read_choice(folder).current, read_choice(folder).starts) == (A, 0)


def test_one_picture_is_enough_also_where_the_camera_goes_then(state, folder, caplog):
    use(folder, A)
    run(state, frames=1, error=CameraError("unplugged"))
    assert read_choice(folder).starts is None
    assert f"model {short(A)} has come up, and is kept" in caplog.text


# The daemon itself


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIEN_MODEL_LABELS", ",".join(FER2013_LABELS))
    monkeypatch.setenv("MIEN_DEVICE_NAME", "kitchen")
    monkeypatch.setenv("MIEN_REPORT_EVERY", "0.2")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.control, "SERVICE", tmp_path / "service")


def models(log: Path) -> list[str]:
    return [json.loads(line)["model"] for line in log.read_text().splitlines()] if log.exists() else []


def test_a_file_is_read_with_the_chosen_model_which_then_has_come_up(folder, tmp_path):
    use(folder, A)
    options = ["--source", "synthetic:size=160x120,fps=10,seconds=0.5", "--log", str(tmp_path / "log")]
    assert main(["run", *options]) == 0
    assert set(models(tmp_path / "log")) == {short(A)}
    assert read_choice(folder).starts is None


def test_under_systemd_another_choice_ends_the_run_with_75(folder, run_daemon, wait_until, tmp_path, monkeypatch):
    log = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def choose() -> None:
            wait_until(lambda: models(log))
            use(folder, A)
            wait_until(lambda: '"gone"' in log.read_text())

        assert run_daemon("--source", CAMERA, "--log", log, meanwhile=choose) == edge.daemon.AGAIN == 75
    assert all(name.startswith("mien-v1-48@") for name in models(log))


@pytest.mark.broker
def test_another_choice_does_not_wait_for_a_broker_that_is_frozen_longer_than_systemd_waits(
    folder, run_daemon, wait_until, mosquitto, listen, tmp_path, monkeypatch
):
    log, broker, since = tmp_path / "log", mosquitto(), []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        def choose() -> None:
            listener = listen(broker.port)
            listener.wait_for(lambda: any(message.topic.endswith("/event") for message in listener.messages))
            broker.freeze()
            seen = len(models(log))
            wait_until(lambda: len(models(log)) > seen)
            since.append(time.monotonic())
            use(folder, A)
            wait_until(lambda: '"gone"' in log.read_text())

        options = ("--source", CAMERA, "--log", log, "--mqtt", f"mqtt://127.0.0.1:{broker.port}")
        assert run_daemon(*options, meanwhile=choose) == edge.daemon.AGAIN
    assert time.monotonic() - since[0] < STOP_SECONDS


def test_without_systemd_it_goes_on_and_says_so(folder, run_daemon, wait_until, tmp_path, caplog):
    log = tmp_path / "log"

    def choose() -> None:
        wait_until(lambda: models(log))
        use(folder, A)
        wait_until(lambda: "another model is chosen; start mien run again to have it used" in caplog.text)
        seen = len(models(log))
        wait_until(lambda: len(models(log)) > seen)

    assert run_daemon("--source", CAMERA, "--log", log, meanwhile=choose) == 0


CRASHING = """
import os, signal, sys
import edge.cli, edge.model_chosen
opened = edge.model_chosen.open_stored
def crash(folder, entry, **options):
    if entry.startswith("two@"):
        os.kill(os.getpid(), signal.SIGSEGV)
    return opened(folder, entry, **options)
edge.model_chosen.open_stored = crash
sys.exit(edge.cli.main())
"""


def test_a_model_that_crashes_the_daemon_is_given_up_after_three_starts(folder, wait_until, tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", CRASHING, "run", "--source", CAMERA, "--log", str(log)]
    come_up(folder, A)
    use(folder, B)
    for _ in range(TRIES):
        assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == -signal.SIGSEGV
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as daemon:
        wait_until(lambda: models(log), 30)
        daemon.terminate()
        said = daemon.stderr.read()
    assert daemon.returncode == 0
    assert set(models(log)) == {short(A)}
    assert f"model {short(B)} is given up: 3 starts with it ended before a picture was looked at; {short(A)} is" in said
    assert read_choice(folder).refused == B


def test_what_was_refused_is_in_health(folder, run_daemon, wait_until, monkeypatch, tmp_path):
    come_up(folder, A)
    model_store.give_up(folder, A, "damaged")
    made: list[edge.daemon.Health] = []
    health = edge.daemon.Health
    monkeypatch.setattr(edge.daemon, "Health", lambda **options: made.append(health(**options)) or made[-1])
    assert run_daemon("--source", CAMERA, "--log", tmp_path / "log", meanwhile=lambda: wait_until(lambda: made)) == 0
    assert made[0].snapshot().refused_model == short(A)
