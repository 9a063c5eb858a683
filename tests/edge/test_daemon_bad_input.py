"""A running daemon and what others do to it: names, brokers, certificates and disks as they should not be.

Each time: what it does, one clear message and not one a second, and going on without a restart once that is put right.
"""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import edge.outlet
import edge.sinks.log
import edge.sinks.mqtt
import edge.sinks.mqtt_link
import edge.sinks.mqtt_trouble
from edge.cli import main
from edge.labels import FER2013_LABELS
from edge.rules import DEVICE_NAME

MODEL = Path(__file__).parent / "models/grey_int8_logits.tflite"
SCENE = "synthetic:size=160x120,fps=20,realtime=1,seconds=0"
EVENT, STATE, STATUS, HEALTH = (f"mien/kitchen/{what}" for what in ("event", "state", "status", "health"))
DISCOVERY, BIRTH = "homeassistant/device/mien_kitchen/config", "homeassistant/status"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> None:
    """A state folder of our own, an event in every frame, and short pauses."""
    given = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "MIEN_MODEL_PATH": str(MODEL),
        "MIEN_MODEL_LABELS": ",".join(FER2013_LABELS),
        "MIEN_DEVICE_NAME": "kitchen",
        "MIEN_REPORT_EVERY": "0",
        "MIEN_HEALTH_EVERY": "1",
    }
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()] if path.exists() else []


def url(port: int, *, tls: bool = False) -> str:
    return f"mqtt{'s' * tls}://127.0.0.1:{port}"


# The device's name


@pytest.mark.parametrize("name", ["a/b", "a#", "+", "küche", "厨房", "two words", ".hidden", "x" * 64, "a\x1b[2J"])
@pytest.mark.parametrize("where", ["configuration", "environment", "command line"])
def test_a_name_that_cannot_stand_in_a_topic_is_refused_and_nothing_is_begun(
    name, where, monkeypatch, tmp_path, capsys
):
    options = ["--source", SCENE, "--log", str(tmp_path / "log/events")]
    monkeypatch.delenv("MIEN_DEVICE_NAME")
    if where == "configuration":
        file = tmp_path / "mien.toml"
        file.write_text(f"[device]\nname = {json.dumps(name)}\n", encoding="utf-8")
        options += ["--config", str(file)]
    elif where == "environment":
        monkeypatch.setenv("MIEN_DEVICE_NAME", name)
    else:
        options += ["--device", name]
    assert main(["run", *options]) == 78
    said = capsys.readouterr().err
    place = {"configuration": "mien.toml, line 2", "environment": "variable MIEN_DEVICE_NAME", "command line": where}
    assert place[where] in said
    assert "device.name is" in said
    assert "expected at most 63 letters, digits, . _ -" in said
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "state").exists()


@pytest.mark.broker
@pytest.mark.parametrize("host", ["Küche/+#.local", "$SYS", "-", "", "x" * 64, "a b\x1b[2J", "厨房"])
def test_whatever_the_host_is_called_its_device_has_topics_of_its_own(host, mosquitto, listen, run_daemon, monkeypatch):
    monkeypatch.delenv("MIEN_DEVICE_NAME")
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    broker = mosquitto()
    listener = listen(broker.port, "mien/#")

    def events() -> list[dict]:
        return [json.loads(m.payload) for m in list(listener.messages) if m.topic.endswith("/event")]

    assert run_daemon("--source", SCENE, "--mqtt", url(broker.port), meanwhile=lambda: listener.wait_for(events)) == 0
    device = events()[0]["device"]
    assert DEVICE_NAME.fullmatch(device)
    assert {message.topic.rpartition("/")[0] for message in listener.messages} == {f"mien/{device}"}


# What others publish

JUNK = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00\x80",
    "no JSON": b"{'count': 1",
    "an endless nest": b"[" * 50_000,
    "a number that is none": b'{"count": NaN, "faces": 1e999}',
    "a state of another kind": b'{"schema": "mien/state/1", "count": "many", "faces": {"a": 1}}',
    "oversized": b"x" * 3_000_000,
    "a command": b'{"command": "pause", "source": "rtsp://elsewhere/", "exec": "reboot"}',
    "offline": b"offline",
    "online": b"online",
}
TOPICS = [EVENT, STATE, STATUS, HEALTH, DISCOVERY, BIRTH]
COMMANDS = [f"mien/kitchen/{what}" for what in ("set", "command", "pause", "erase", "config", "event/set", "state/set")]


@pytest.fixture
def stranger():
    """Publishes what it likes."""
    clients = []

    def make(port: int) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, "stranger")
        client.connect("127.0.0.1", port)
        client.loop_start()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.disconnect()
        client.loop_stop()


@pytest.mark.broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_junk_on_our_topics_is_not_read_and_what_is_retained_there_becomes_ours(
    protocol, mosquitto, listen, stranger, run_daemon, wait_until, monkeypatch, tmp_path, caplog, strict
):
    monkeypatch.setenv("MIEN_MQTT_PROTOCOL", protocol)
    broker, log = mosquitto(), tmp_path / "events"
    other = stranger(broker.port)
    listener = listen(broker.port)
    retained = []

    def publish_junk(*, retain: bool) -> None:
        for payload in JUNK.values():
            for topic in [*TOPICS, *COMMANDS]:
                other.publish(topic, payload, qos=1, retain=retain)
        other.publish("stranger", "has done", qos=1).wait_for_publish(20)

    def annoy() -> None:
        listener.wait_for(lambda: ours(listener, HEALTH))
        later = listen(broker.port, client_id="later")
        later.wait_for(lambda: {*TOPICS, *COMMANDS} <= {message.topic for message in later.messages})
        retained.extend(message for message in later.messages if message.retain)
        publish_junk(retain=False)
        publish_junk(retain=True)
        before = len(ids(log))
        wait_until(lambda: len(ids(log)) > before + 5)

    publish_junk(retain=True)
    assert run_daemon("--source", SCENE, "--log", log, "--mqtt", url(broker.port), meanwhile=annoy) == 0
    found = {message.topic: message.payload for message in retained}
    assert found[STATUS] == b"online"
    strict["state"].validate(json.loads(found[STATE]))
    strict["health"].validate(json.loads(found[HEALTH]))
    assert json.loads(found[DISCOVERY])["dev"]["name"] == "kitchen"
    assert found[EVENT] == list(JUNK.values())[-1]  # where we retain nothing, it stays

    listener.wait_for(lambda: ours(listener, EVENT)[-1:] == ids(log)[-1:])
    assert ours(listener, EVENT) == ids(log)
    assert len([m for m in listener.messages if m.topic == DISCOVERY and b'"Mien"' in m.payload]) <= 4
    asked = re.findall(r"Received SUBSCRIBE from mien-kitchen\n.*\t(.*) \(QoS", read_log(tmp_path))
    assert set(asked) == {BIRTH}
    # MQTT 5 keeps what is too long from us; with 3.1.1 the connection has to end, which is told and no more.
    told = {"5": [], "3.1.1": [f"the connection to the broker at 127.0.0.1:{broker.port} is lost (it sends a message"]}
    for message in caplog.messages:
        assert any(message.startswith(expected) for expected in [*told[protocol], "connected to the broker"])
    assert len(caplog.messages) <= 2 * len(told[protocol])


def ours(listener, topic: str) -> list[str]:
    """Of the messages that are Mien's on a topic each id, or time where there is none, once and in order."""
    found = []
    for message in list(listener.messages):
        if message.topic == topic and message.payload.startswith(b'{"schema":"mien/'):
            told = json.loads(message.payload)
            found.append(told.get("id", told["ts"]))
    return list(dict.fromkeys(found))


def read_log(tmp_path: Path) -> str:
    return (tmp_path / "mosquitto-0/mosquitto.log").read_text(errors="replace")


# Brokers that are none


class Impostor:
    """Answers each connection with the next nonsense, and is as good as a broker once it has `reformed`."""

    def __init__(self, broker_port: int, nonsense: list[bytes]) -> None:
        self._broker_port, self._nonsense = broker_port, nonsense
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.reformed = threading.Event()
        self.visits = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(20)
            first = client.recv(4096)
            if not self.reformed.is_set():
                client.sendall(self._nonsense[self.visits % len(self._nonsense)])
                self.visits += 1
                client.shutdown(socket.SHUT_WR)
                client.recv(4096)
                return
            with socket.create_connection(("127.0.0.1", self._broker_port)) as broker:
                broker.sendall(first)
                back = threading.Thread(target=pump, args=(broker, client), daemon=True)
                back.start()
                pump(client, broker)
                back.join(5)

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


YES = b"\x20\x03\x00\x00\x00"
NONSENSE = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n<html></html>",
    bytes(2000),
    random.Random(1).randbytes(5000),  # noqa: S311
    b"\x20\xff\xff\xff\xff\xff\xff",
    YES + b"\xf7\x00\xff\xff",
    YES + b"\x30\x06\x00\x02\xff\xfe\x00x",
    YES + b"\x40\x00",
    YES + b"\x40\x02\xff\xff",
    YES + b"\x30\xff\xff\xff\x7f" + bytes(200_000),
]


@pytest.mark.broker
def test_a_broker_that_talks_garbage_costs_no_event_and_is_told_once_for_each_kind(
    mosquitto, listen, run_daemon, wait_until, tmp_path, caplog, monkeypatch
):
    died: list[object] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    broker, log = mosquitto(), tmp_path / "events"
    listener = listen(broker.port)
    impostor = Impostor(broker.port, NONSENSE)

    def endure() -> None:
        wait_until(lambda: impostor.visits >= 3 * len(NONSENSE), 60)
        impostor.reformed.set()
        wait_until(lambda: len(ids(log)) > 20)
        listener.wait_for(lambda: len(ours(listener, EVENT)) >= 20)

    assert run_daemon("--source", SCENE, "--log", log, "--mqtt", url(impostor.port), meanwhile=endure) == 0
    impostor.close()
    listener.wait_for(lambda: ours(listener, EVENT)[-1:] == ids(log)[-1:])
    assert ours(listener, EVENT) == ids(log)
    assert died == []
    assert len(caplog.messages) == len(set(caplog.messages)) <= len(NONSENSE) + 2
    assert all(f"127.0.0.1:{impostor.port}" in message for message in caplog.messages)


# Certificates


class Authority:
    """Signs the certificates of brokers on 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca, self._key = folder / "ca.pem", folder / "ca.key"
        self._folder = folder
        self._openssl(
            "req", "-x509", *KEY, "-keyout", self._key, "-out", self.ca, "-days", 2, "-subj", f"/CN={folder.name}"
        )

    def certify(self, cert: Path, key: Path, *, days: int = 2) -> None:
        """One of -1 days has expired."""
        request, extensions = self._folder / "broker.csr", self._folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1\n")
        self._openssl("req", *KEY, "-keyout", key, "-out", request, "-subj", "/CN=broker")
        signed = ["-CA", self.ca, "-CAkey", self._key, "-CAcreateserial", "-extfile", extensions, "-days", days]
        self._openssl("x509", "-req", "-in", request, "-out", cert, *signed)

    def _openssl(self, *arguments: object) -> None:
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@pytest.fixture
def authority(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return lambda name: Authority(tmp_path / name)


@pytest.fixture
def attempts(monkeypatch) -> list[int]:
    """One more for each time that the daemon knocks at its broker."""
    made: list[int] = []
    make = edge.sinks.mqtt_link.Link._make_client
    monkeypatch.setattr(edge.sinks.mqtt_link.Link, "_make_client", lambda *a: made.append(len(made)) or make(*a))
    return made


@pytest.mark.broker
@pytest.mark.parametrize(
    ("wrong", "says"),
    [("expired", "certificate has expired"), ("another authority", "certificate verify failed")],
)
def test_a_broker_that_cannot_be_believed_is_told_once_and_renewed_it_gets_all_events(
    wrong, says, authority, attempts, mosquitto, listen, run_daemon, wait_until, tmp_path, caplog, monkeypatch
):
    right, other = authority("right"), authority("other")
    cert, key, trusted, log = (tmp_path / name for name in ("broker.pem", "broker.key", "trusted.pem", "events"))
    right.certify(cert, key, days=-1 if wrong == "expired" else 2)
    trusted.write_bytes((other if wrong == "another authority" else right).ca.read_bytes())
    monkeypatch.setenv("MIEN_MQTT_CA_FILE", str(trusted))
    plain = free_port()
    remembers = "persistence true", f"persistence_location {tmp_path}/"  # also who listens
    broker = mosquitto(f"certfile {cert}", f"keyfile {key}", f"listener {plain} 127.0.0.1", *remembers)
    wait_until(lambda: is_open(plain))
    listener = listen(plain)

    def put_right() -> None:
        wait_until(lambda: len(attempts) > 4 and len(ids(log)) > 5, 20)
        assert listener.messages == []
        if wrong == "expired":
            right.certify(cert, key)
            broker.stop()
            broker.start()
        trusted.write_bytes(right.ca.read_bytes())
        listener.wait_for(lambda: len(ours(listener, EVENT)) > 10, 20)

    assert run_daemon("--source", SCENE, "--log", log, "--mqtt", url(broker.port, tls=True), meanwhile=put_right) == 0
    listener.wait_for(lambda: ours(listener, EVENT)[-1:] == ids(log)[-1:])
    assert ours(listener, EVENT) == ids(log)
    assert len([message for message in caplog.messages if says in message]) == 1
    assert re.search(r"connected to the broker at .*; \d+ events are waiting", caplog.messages[-1])
    assert len(caplog.messages) <= 3  # between them may lie that nobody was there


@pytest.mark.broker
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda trusted: trusted.write_text("half a fi"), "holds no certificate in PEM format"),
        (Path.unlink, "cannot be read (No such file or directory)"),
    ],
    ids=["half written", "gone"],
)
def test_an_authoritys_file_that_is_spoilt_while_the_daemon_runs_is_named_once_and_read_again(
    spoil, says, authority, attempts, mosquitto, run_daemon, wait_until, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(edge.sinks.mqtt_trouble, "STABLE_SECONDS", 0.0)
    right = authority("right")
    cert, key, trusted = (tmp_path / name for name in ("broker.pem", "broker.key", "trusted.pem"))
    right.certify(cert, key)
    trusted.write_bytes(right.ca.read_bytes())
    monkeypatch.setenv("MIEN_MQTT_CA_FILE", str(trusted))
    broker = mosquitto(f"certfile {cert}", f"keyfile {key}")

    def spoil_and_mend() -> None:
        wait_until(lambda: "Received SUBSCRIBE" in read_log(tmp_path))
        spoil(trusted)
        broker.stop()
        broker.start()
        before = len(attempts)
        wait_until(lambda: len(attempts) > before + 4, 20)
        trusted.write_bytes(right.ca.read_bytes())
        wait_until(lambda: "connected to" in caplog.text)

    assert run_daemon("--source", SCENE, "--mqtt", url(broker.port, tls=True), meanwhile=spoil_and_mend) == 0
    assert len([message for message in caplog.messages if f"mqtt.ca_file: {trusted} {says}" in message]) == 1
    assert len(caplog.messages) <= 4


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The log's disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def is_stored(path: Path) -> list[int]:
    return [int(event.rsplit("-", 1)[1]) for event in ids(path)]


@pytest.mark.broker
@pytest.mark.parametrize("disk", ["full", "read-only"])
def test_a_log_that_cannot_be_written_costs_the_events_of_that_time_and_is_told_once(
    disk, mosquitto, listen, small_disk, run_daemon, wait_until, monkeypatch, tmp_path, caplog
):
    monkeypatch.setattr(edge.outlet, "STEADY_SECONDS", 0.3)
    broker, log, filler = mosquitto(), small_disk / "events", small_disk / "filler"
    listener = listen(broker.port)
    readonly = ReadOnly()
    monkeypatch.setattr(edge.sinks.log, "os", readonly)

    def lost() -> int:
        told = [json.loads(payload) for payload in listener.payloads(HEALTH)]
        return told[-1]["sinks"]["log"]["lost"] if told else 0

    def fill_and_empty() -> None:
        wait_until(lambda: len(ids(log)) > 5)
        if disk == "full":
            fill(filler)
        readonly.now = disk == "read-only"
        wait_until(lambda: lost() > 20)
        published = len(ours(listener, EVENT))
        wait_until(lambda: len(ours(listener, EVENT)) > published + 5)
        stored = len(ids(log))
        readonly.now = False
        filler.unlink(missing_ok=True)
        wait_until(lambda: len(ids(log)) > stored + 20)

    assert run_daemon("--source", SCENE, "--log", log, "--mqtt", url(broker.port), meanwhile=fill_and_empty) == 0
    why = {"full": "No space left on device", "read-only": "Read-only file system"}[disk]
    first, again, at_the_end = caplog.messages
    assert first == (
        f"log: events could not be stored in the log {log} ({why}); once that is put right it goes on by itself"
    )
    assert first == f"log: {at_the_end}"
    numbers = is_stored(log)
    missing = set(range(1, numbers[-1] + 1)) - set(numbers)
    assert again == f"log works again; {len(missing)} events were lost"
    assert sorted(missing) == list(range(min(missing), max(missing) + 1))
    listener.wait_for(lambda: ours(listener, EVENT)[-1:] == ids(log)[-1:])
    assert [int(event.rsplit("-", 1)[1]) for event in ours(listener, EVENT)] == list(range(1, numbers[-1] + 1))


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(512)):
            pass


class ReadOnly:
    """The operating system, for one module: a file that is open for writing keeps its disk from turning read-only."""

    now = False

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def write(self, handle: int, data: bytes) -> int:
        if self.now:
            raise OSError(30, "Read-only file system")
        return os.write(handle, data)


@pytest.mark.parametrize("what", ["log", "state"])
def test_a_folder_that_is_read_only_from_the_start_ends_the_run_with_73_and_its_name(
    what, small_disk, monkeypatch, tmp_path, capsys
):
    folder = small_disk / "folder"
    folder.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    log = (folder if what == "log" else tmp_path) / "events"
    if what == "state":
        monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    assert main(["run", "--source", SCENE, "--log", str(log)]) == 73
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1
    assert str(folder) in said[0]
    assert "Read-only file system" in said[0]


@pytest.mark.broker
def test_a_log_on_a_disk_that_is_full_from_the_start_does_not_keep_events_from_the_broker(
    mosquitto, listen, small_disk, run_daemon, wait_until, caplog
):
    broker, log = mosquitto(), small_disk / "events"
    log.touch()
    fill(small_disk / "filler")
    listener = listen(broker.port)

    def make_room() -> None:
        wait_until(lambda: len(ours(listener, EVENT)) > 10)
        assert ids(log) == []
        (small_disk / "filler").unlink()
        wait_until(lambda: len(ids(log)) > 3)

    assert run_daemon("--source", SCENE, "--log", log, "--mqtt", url(broker.port), meanwhile=make_room) == 0
    assert [message for message in caplog.messages if message.startswith("log: events could not be stored")] == [
        caplog.messages[0]
    ]
