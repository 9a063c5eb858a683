"""`mien fleet` before a real mosquitto, in which the daemon's own code and others publish."""

import contextlib
import importlib.util
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import edge.fleet_watch
import edge.sinks.mqtt_link
from edge.cli import main
from edge.errors import UnavailableError
from edge.health import Health, Queue
from edge.homeassistant import discovery
from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_documents import Announcement
from edge.sinks.mqtt_link import Access

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(edge.fleet_watch, "QUIET", 0.3)
    monkeypatch.setattr(edge.fleet_watch, "SILENCE", 0.5)
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def device():
    """A device's publishing code, with what Home Assistant is told."""
    sinks = []

    def make(port, name="kitchen"):
        access = Access(Broker("127.0.0.1", port, tls=False), client_id=f"mien-{name}")
        topic, payload = discovery(name, "mien", "a-model", ["happy", "sad"], "1.0")
        announcement = Announcement(topic, payload, "homeassistant/status")
        sink = MqttSink(access, Outbox(None), device=name, announcement=announcement)
        counted = Health(
            device=name, model="a-model", live=True, queues=lambda: {"mqtt": Queue(0, 3)}, outbox=lambda: 0
        )
        sink.tell_health(lambda: counted.snapshot().to_json())
        assert sink.wait_connected(5)
        sinks.append(sink)
        return sink

    yield make
    for sink in sinks:
        with contextlib.suppress(UnavailableError):
            sink.close(timeout=0)


def url(broker) -> str:
    return f"mqtt://127.0.0.1:{broker.port}"


def retain(port, *messages):
    client = Client(CallbackAPIVersion.VERSION2, "somebody")
    client.connect("127.0.0.1", port)
    client.loop_start()
    for info in [client.publish(topic, payload, qos=1, retain=True) for topic, payload in messages]:
        info.wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


def rows(capsys, *options) -> dict[str, dict]:
    assert main(["fleet", "--json", *options]) == 0
    return {row["device"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}


def test_devices_are_told_apart_as_json(mosquitto, device, make_event, capsys):
    broker = mosquitto()
    device(broker.port).publish(make_event(1))
    device(broker.port, "bath").close()
    time.sleep(0.2)
    found = rows(capsys, "--mqtt", url(broker))
    assert list(found) == ["bath", "kitchen"]
    kitchen = found["kitchen"]
    assert (kitchen["status"], found["bath"]["status"]) == ("online", "offline")
    assert (kitchen["faces"], kitchen["expression"], found["bath"]["faces"]) == (1, "happy", 0)
    assert (kitchen["model"], kitchen["lost"], kitchen["outbox"]) == ("a-model", 3, 0)


def test_without_a_terminal_a_plain_table_is_printed(mosquitto, device, capsys):
    broker = mosquitto()
    device(broker.port)
    assert main(["fleet", "--mqtt", url(broker)]) == 0
    said = capsys.readouterr().out
    assert main(["fleet", "--mqtt", url(broker), "--once"]) == 0
    assert "\x1b" not in said
    assert re.search(r"^kitchen +online .* a-model ", said, re.MULTILINE)
    assert said.splitlines()[-1] == capsys.readouterr().out.splitlines()[-1] == "1 device: 1 online"


def test_another_base_and_the_configuration_are_heeded(mosquitto, capsys, tmp_path):
    broker = mosquitto()
    retain(broker.port, ("mien/a/status", "online"), ("home/mien/b/status", "offline"))
    config = tmp_path / "mien.toml"
    config.write_text(f'[mqtt]\nurl = "{url(broker)}"\nclient_id = "daemon"\nbase = "home/mien"\n')
    assert list(rows(capsys, "--config", str(config))) == ["b"]
    assert list(rows(capsys, "--config", str(config), "--base", "mien")) == ["a"]


def test_the_daemon_with_the_same_configuration_keeps_its_connection(mosquitto, device, capsys, tmp_path, listen):
    broker = mosquitto()
    device(broker.port)
    listener = listen(broker.port, "mien/kitchen/status")
    config = tmp_path / "mien.toml"
    config.write_text(f'[mqtt]\nurl = "{url(broker)}"\nclient_id = "mien-kitchen"\n')
    assert rows(capsys, "--config", str(config))["kitchen"]["status"] == "online"
    assert listener.payloads("mien/kitchen/status") == ["online"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_junk_is_named_once_on_standard_error(mosquitto, device, capsys, protocol, monkeypatch):
    monkeypatch.setenv("MIEN_MQTT_PROTOCOL", protocol)
    broker = mosquitto()
    device(broker.port)
    retain(
        broker.port,
        ("mien/evil \u202e/status", "online"),
        ("mien/bath/health", b"\xff{"),
        ("mien/hall/state", b"[" * 60_000),
        ("mien/cellar/status", "\x1b[2Jonline"),
    )
    assert main(["fleet", "--mqtt", url(broker), "--once"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[1:-2]] == ["kitchen"]
    for topic in ("mien/bath/health", "mien/hall/state", "mien/cellar/status"):
        assert err.count(topic) == 1
    assert err.count(r"mien/evil \u202e/status") == 1
    assert all(line.isprintable() for line in [*out.splitlines(), *err.splitlines()])


def test_a_message_that_is_too_long_is_not_even_sent_by_a_broker_that_speaks_mqtt_5(mosquitto, capsys):
    broker = mosquitto()
    retain(broker.port, ("mien/a/status", "online"), ("mien/b/health", b"x" * 1_000_000), ("mien/c/status", "online"))
    assert list(rows(capsys, "--mqtt", url(broker))) == ["a", "c"]


def test_of_an_older_broker_that_sends_one_is_told_at_once_what_came_before(mosquitto, capsys, monkeypatch):
    monkeypatch.setenv("MIEN_MQTT_PROTOCOL", "3.1.1")
    broker = mosquitto()
    retain(broker.port, ("mien/a/status", "online"), ("mien/b/health", b"x" * 20_000_000))
    began = time.monotonic()
    code = main(["fleet", "--mqtt", url(broker), "--json", "--wait", "30"])
    assert time.monotonic() - began < 15
    out, err = capsys.readouterr()
    assert json.loads(out)["device"] == "a"
    # Where all of it was there at once, it can be named.
    assert ("mien/b/health does not come from Mien" in err, "too long" in err) == (code == 0, code == 69)


def test_a_large_fleet_is_shown_whole(mosquitto, capsys):
    broker = mosquitto("max_queued_messages 1000")
    retain(broker.port, *((f"mien/d{number:04}/status", "offline") for number in range(2500)))
    assert len(rows(capsys, "--mqtt", url(broker))) == 2500


def test_a_broker_without_devices_says_what_to_look_at(mosquitto, capsys):
    assert main(["fleet", "--mqtt", url(mosquitto())]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "below mien/" in err
    assert "--base" in err


def test_a_broker_that_is_not_there_ends_with_69_and_advice(capsys):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert main(["fleet", "--mqtt", f"mqtt://127.0.0.1:{port}", "--wait", "0.5"]) == 69
    err = capsys.readouterr().err
    assert f"127.0.0.1:{port} cannot be reached (Connection refused); is it running" in err


def test_a_broker_that_is_frozen_ends_with_69(mosquitto, capsys):
    broker = mosquitto()
    broker.freeze()
    assert main(["fleet", "--mqtt", url(broker), "--wait", "0.5"]) == 69
    assert f"127.0.0.1:{broker.port}" in capsys.readouterr().err


def test_a_password_comes_from_a_file_and_is_never_shown(mosquitto, capsys, tmp_path):
    users, secret = tmp_path / "users", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "me", "hunter2-right"], check=True)
    broker = mosquitto(f"password_file {users}", "allow_anonymous false")
    login = ["--mqtt", url(broker), "--username", "me", "--password-file", str(secret)]
    secret.write_text("hunter2-right\n")
    assert rows(capsys, *login) == {}
    secret.write_text("hunter2-wrong\n")
    began = time.monotonic()
    assert main(["fleet", *login]) == 69
    assert time.monotonic() - began < 5
    err = capsys.readouterr().err
    assert "does not let us in" in err
    assert "--password-file" in err
    assert "hunter2" not in err


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 64, "--mqtt"),
        (["--mqtt", "nonsense"], 78, "mqtt.url"),
        (["--mqtt", "mqtt://me:hunter2@broker"], 78, "password"),
        (["--mqtt", "mqtt://broker", "--base", "a/#"], 78, "mqtt.base"),
        (["--mqtt", "mqtt://broker", "--password-file", "/none"], 78, "mqtt.username"),
        (["--mqtt", "mqtts://broker", "--ca-file", "/none"], 66, "mqtt.ca_file"),
        (["--mqtt", "mqtt://broker", "--wait", "-1"], 64, "--wait"),
        (["--mqtt", "mqtt://broker", "--once", "--json"], 64, "--json"),
        (["--mqtt", "mqtt://broker", "--yes"], 64, "--forget"),
        (["--mqtt", "mqtt://broker", "--forget", "a/b"], 64, "--forget"),
        (["--mqtt", "mqtt://broker", "--forget", "+"], 64, "--forget"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_option_or_key(options, code, said, capsys):
    assert main(["fleet", *options]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "hunter2" not in err


def test_forgetting_empties_all_that_the_broker_retains_of_a_device(mosquitto, device, make_event, capsys, listen):
    broker = mosquitto()
    for name in ("kitchen", "bath"):
        sink = device(broker.port, name)
        sink.publish(make_event(1, device=name))
        sink.close()
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen", "--yes"]) == 0
    assert "homeassistant/device/mien_kitchen/config" in capsys.readouterr().out
    late = listen(broker.port)
    late.wait_for(lambda: len(late.messages) >= 4)
    time.sleep(0.2)
    assert {message.topic for message in late.messages} == {
        "mien/bath/status",
        "mien/bath/state",
        "mien/bath/health",
        "homeassistant/device/mien_bath/config",
    }


def test_a_device_that_is_online_is_not_forgotten_by_mistake(mosquitto, device, capsys):
    broker = mosquitto()
    device(broker.port)
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen"]) == 64
    assert "stop it first, or say --yes" in capsys.readouterr().err
    assert list(rows(capsys, "--mqtt", url(broker))) == ["kitchen"]


def test_a_device_that_nobody_knows_is_not_there(mosquitto, capsys):
    assert main(["fleet", "--mqtt", url(mosquitto()), "--forget", "attic", "--yes"]) == 66
    assert "mien/attic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "left"), [("n\n", ["kitchen"]), ("\n", ["kitchen"]), ("", ["kitchen"]), ("y\n", [])]
)
def test_somebody_at_a_terminal_is_asked_first(mosquitto, capsys, monkeypatch, answer, left):
    broker = mosquitto()
    retain(broker.port, ("mien/kitchen/status", "offline"))
    keyboard = io.StringIO(answer)
    keyboard.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", keyboard)
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen"]) == 0
    assert "Forget kitchen, which is offline" in capsys.readouterr().out
    assert list(rows(capsys, "--mqtt", url(broker))) == left


def test_where_nobody_can_be_asked_nothing_is_forgotten(mosquitto, capsys, monkeypatch):
    broker = mosquitto()
    retain(broker.port, ("mien/kitchen/status", "offline"))
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen"]) == 64
    assert "--yes" in capsys.readouterr().err
    assert list(rows(capsys, "--mqtt", url(broker))) == ["kitchen"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_does_not_let_us_write_is_no_success(mosquitto, capsys, tmp_path, monkeypatch, protocol):
    monkeypatch.setenv("MIEN_MQTT_PROTOCOL", protocol)
    acl = tmp_path / "acl"
    acl.write_text("topic read #\n")
    open_broker = mosquitto(f"persistence true\npersistence_location {tmp_path}/")
    retain(open_broker.port, ("mien/kitchen/status", "offline"))
    open_broker.stop()
    broker = mosquitto(f"acl_file {acl}\npersistence true\npersistence_location {tmp_path}/")
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen", "--yes", "--wait", "1"]) == 69
    assert "did not empty mien/kitchen/" in capsys.readouterr().err
    assert list(rows(capsys, "--mqtt", url(broker))) == ["kitchen"]


def test_a_broker_that_acknowledges_and_does_nothing_is_no_success_either(mosquitto, capsys, monkeypatch):
    broker = mosquitto()
    retain(broker.port, ("mien/kitchen/status", "offline"))
    monkeypatch.setattr(edge.fleet_watch.Watch, "empty", lambda *_: None)
    assert main(["fleet", "--mqtt", url(broker), "--forget", "kitchen", "--yes", "--wait", "1"]) == 69
    assert "still retains what it has of mien/kitchen" in capsys.readouterr().err


def test_without_rich_a_terminal_is_told_what_to_install_and_once_works(mosquitto, device, capsys, monkeypatch):
    broker = mosquitto()
    device(broker.port)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rich" else find(name))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["fleet", "--mqtt", url(broker)]) == 69
    assert "pip install 'mien[fleet]'" in capsys.readouterr().err
    assert main(["fleet", "--mqtt", url(broker), "--once"]) == 0
    assert "kitchen" in capsys.readouterr().out


LIVE = """
import sys
import edge.sinks.mqtt_link
from edge.cli import main
edge.sinks.mqtt_link.RECONNECT_SECONDS = (0.05, 0.1)
sys.exit(main(sys.argv[1:]))
"""


class Screen:
    """What a terminal is sent."""

    def __init__(self, *argv):
        self._ours, theirs = pty.openpty()
        environ = os.environ | {"TERM": "xterm", "COLUMNS": "150", "LINES": "30"}
        command = [sys.executable, "-c", LIVE, *argv]
        self.process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=environ)
        os.close(theirs)

    def await_(self, pattern, seconds=10):
        """All that comes until the pattern does."""
        seen, until = "", time.monotonic() + seconds
        while not re.search(pattern, seen) and time.monotonic() < until:
            if select.select([self._ours], [], [], 0.1)[0]:
                seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self._ours, 65536).decode(errors="ignore"))
        assert re.search(pattern, seen), seen[-2000:]

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.skipif(importlib.util.find_spec("rich") is None, reason="the live table needs rich")
def test_the_live_table_follows_devices_and_a_broker_that_comes_back(mosquitto, device, make_event):
    broker = mosquitto()
    sink = device(broker.port)
    screen = Screen("fleet", "--mqtt", url(broker))
    try:
        screen.await_(r"kitchen +online")
        sink.publish(make_event(1))
        screen.await_(r"kitchen +online .* happy ")
        broker.stop(signal.SIGKILL)
        screen.await_(r"is lost[\s\S]*kitchen +unknown|cannot be reached[\s\S]*kitchen +unknown")
        broker.start()
        screen.await_(r"1 device: 1 online[\s\S]*kitchen +online")
        sink.close()
        screen.await_(r"kitchen +offline")
        retain(broker.port, ("mien/bath/status", "\x1b[2Junk"))
        screen.await_(r"mien/bath/status does not come from Mien")
        screen.process.send_signal(signal.SIGINT)
        assert screen.process.wait(10) == 130
    finally:
        screen.close()
