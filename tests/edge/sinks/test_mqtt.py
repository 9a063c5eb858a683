import contextlib
import itertools
import json
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import edge.outbox
import edge.sinks.mqtt_link
from edge.config import MqttConfig
from edge.errors import BadDataError, ConfigError, InputNotFoundError, UnavailableError
from edge.outbox import Outbox
from edge.rules import Broker, parse_broker
from edge.sinks.mqtt import MqttSink, open_mqtt
from edge.sinks.mqtt_documents import Announcement
from edge.sinks.mqtt_link import Access

pytestmark = pytest.mark.broker

ROOT = Path(__file__).parents[3]
EVENT, STATE, STATUS, HEALTH = (f"mien/kitchen/{what}" for what in ("event", "state", "status", "health"))


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))


@pytest.fixture
def connect():
    """Make a sink; what a test leaves open is closed without a word about what was not delivered."""
    sinks = []

    def make(port, *, outbox=None, client_id="mien-kitchen", **options):
        access = Access(Broker("127.0.0.1", port, tls=False), client_id=client_id)
        sinks.append(MqttSink(access, Outbox(None) if outbox is None else outbox, device="kitchen", **options))
        return sinks[-1]

    yield make
    for sink in sinks:
        with contextlib.suppress(UnavailableError):
            sink.close(timeout=0)


def numbers(listener):
    return [int(json.loads(payload)["id"].rsplit("-", 1)[1]) for payload in listener.payloads(EVENT)]


@pytest.fixture
def publisher():
    """A client of somebody else."""
    clients = []

    def make(port):
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", port)
        client.loop_start()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.disconnect()
        client.loop_stop()


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_events_arrive_in_order_between_online_and_offline(mosquitto, listen, connect, make_event):
    broker = mosquitto()
    listener = listen(broker.port)
    sink = connect(broker.port)
    for number in range(1, 501):
        sink.publish(make_event(number))
    sink.close()
    listener.wait_for(lambda: "offline" in listener.payloads(STATUS))
    assert numbers(listener) == list(range(1, 501))
    assert listener.payloads(EVENT)[0] == make_event(1).to_json()
    assert listener.payloads(STATUS) == ["online", "offline"]
    assert {(message.topic, message.qos) for message in listener.messages} == {(EVENT, 1), (STATE, 1), (STATUS, 1)}
    assert sink.unsent == sink.dropped == sink.rejected == 0


def test_status_and_state_are_retained_and_events_are_not(mosquitto, listen, connect, make_event):
    broker = mosquitto()
    sink = connect(broker.port)
    sink.publish(make_event(1))
    sink.publish(make_event(2, type="changed", expression="sad", previous="happy", since=1.5))
    sink.close()
    late = listen(broker.port)
    late.wait_for(lambda: len(late.messages) == 2)
    assert late.payloads(STATUS) == ["offline"]
    [state] = map(json.loads, late.payloads(STATE))
    assert (state["count"], state["faces"][0]["expression"]) == (1, "sad")
    assert all(message.retain for message in late.messages)


def test_base_and_device_make_the_topics(mosquitto, listen, connect):
    broker = mosquitto()
    listener = listen(broker.port)
    connect(broker.port, base="home/mien").wait_connected(5)
    listener.wait_for(lambda: listener.payloads("home/mien/kitchen/status") == ["online"])


RUN_FOR_EVER = """
import sys, time
from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import Access
access = Access(Broker("127.0.0.1", int(sys.argv[1]), False), client_id="mien-kitchen")
sink = MqttSink(access, Outbox(None), device="kitchen")
print(sink.wait_connected(10), flush=True)
time.sleep(60)
"""


def test_the_broker_says_offline_for_a_daemon_that_was_killed(mosquitto, listen):
    broker = mosquitto()
    listener = listen(broker.port)
    daemon = subprocess.Popen(
        [sys.executable, "-c", RUN_FOR_EVER, str(broker.port)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert daemon.stdout.readline() == "True\n"
        listener.wait_for(lambda: listener.payloads(STATUS) == ["online"])
    finally:
        daemon.send_signal(signal.SIGKILL)
        daemon.communicate()
    listener.wait_for(lambda: listener.payloads(STATUS) == ["online", "offline"])


def test_a_broker_that_comes_late_gets_what_has_waited(mosquitto, listen, connect, make_event, caplog):
    broker = mosquitto()
    listener = listen(broker.port)
    broker.stop()
    sink = connect(broker.port)
    assert sink.wait_connected(0.3) is False
    for number in range(1, 51):
        sink.publish(make_event(number))
    broker.start()
    listener.wait_for(lambda: listener.payloads(STATUS)[-1:] == ["online"])
    sink.close()
    assert sink.unsent == 0
    assert caplog.text.count("cannot be reached (Connection refused)") == 1
    assert "; 50 events are waiting" in caplog.text


def test_no_event_is_lost_and_order_is_kept_when_the_broker_restarts(mosquitto, listen, connect, make_event, tmp_path):
    broker = mosquitto("persistence true", f"persistence_location {tmp_path}/")
    listener = listen(broker.port)
    sink = connect(broker.port)
    for first in (0, 400, 800):
        for number in range(first, first + 300):
            sink.publish(make_event(number))
        broker.stop()
        for number in range(first + 300, first + 400):
            sink.publish(make_event(number))
        broker.start()
        assert sink.wait_connected(5)
    sink.close()
    listener.wait_for(lambda: 1199 in numbers(listener))
    # At least once: a repeated id is the same event again, and the first time of each is in order.
    assert list(dict.fromkeys(numbers(listener))) == list(range(1200))


def test_what_was_on_its_way_arrives_before_anything_newer(mosquitto, listen, connect, make_event):
    broker = mosquitto()
    sink = connect(broker.port)
    assert sink.wait_connected(5)
    sink._wait(sink._is_done, 5)
    broker.freeze()
    for number in range(1, 11):
        sink.publish(make_event(number))
    sink._wait(lambda: len(sink._in_flight) > 10, 5)
    broker.stop(signal.SIGKILL)
    sink._wait(lambda: not sink._connected, 5)
    for number in range(11, 41):
        sink.publish(make_event(number))
    broker.start()
    listener = listen(broker.port, EVENT)
    sink.close()
    listener.wait_for(lambda: 40 in numbers(listener))
    assert numbers(listener) == list(range(1, 41))


def test_retained_messages_are_sent_again_to_a_broker_that_forgot_them(mosquitto, listen, connect, make_event):
    broker = mosquitto()
    sink = connect(broker.port)
    sink.publish(make_event(1))
    assert sink.wait_connected(5)
    sink._wait(sink._is_done, 5)
    assert sink._is_done()  # all of it acknowledged, so paho itself sends nothing again
    broker.stop(signal.SIGKILL)
    broker.start()
    listener = listen(broker.port)
    listener.wait_for(lambda: listener.payloads(STATUS) and listener.payloads(STATE))
    assert listener.payloads(STATUS)[-1] == "online"
    listener.wait_for(lambda: json.loads(listener.payloads(STATE)[-1])["count"] == 1)


def test_when_too_many_wait_the_oldest_are_dropped_and_counted(
    mosquitto, listen, connect, make_event, caplog, monkeypatch
):
    broker = mosquitto()
    listener = listen(broker.port, EVENT)
    broker.freeze()
    monkeypatch.setattr(edge.outbox, "IN_MEMORY", 100)
    sink = connect(broker.port)
    for number in range(1, 251):
        sink.publish(make_event(number))
    broker.thaw()
    sink.close()
    listener.wait_for(lambda: 250 in numbers(listener))
    assert sink.dropped == 150
    assert numbers(listener) == list(range(151, 251))
    assert caplog.text.count("the oldest are dropped") == 1


HOME = Announcement("homeassistant/device/kitchen/config", '{"o": {}}', "homeassistant/status")


def test_home_assistant_is_told_of_us_at_each_connection_and_when_it_has_started(
    mosquitto, listen, connect, publisher, monkeypatch
):
    monkeypatch.setattr(edge.sinks.mqtt, "BIRTH_PAUSE", 0.3)
    broker = mosquitto()
    listener = listen(broker.port, "homeassistant/#")
    sink = connect(broker.port, announcement=HOME)
    told = lambda: listener.payloads(HOME.topic)  # noqa: E731
    listener.wait_for(lambda: told() == [HOME.payload])
    home = publisher(broker.port)
    time.sleep(0.4)
    home.publish(HOME.birth_topic, "online").wait_for_publish(5)
    listener.wait_for(lambda: told() == [HOME.payload] * 2)
    broker.stop(signal.SIGKILL)
    sink._wait(lambda: not sink.connected, 5)
    broker.start()
    assert sink.wait_connected(5)
    sink._wait(sink._is_done, 5)
    newcomer = listen(broker.port, "homeassistant/#", "newcomer")
    newcomer.wait_for(lambda: newcomer.payloads(HOME.topic))
    assert newcomer.messages[0].retain


def test_a_flood_of_birth_messages_is_answered_once_and_other_messages_not_at_all(
    mosquitto, listen, connect, publisher
):
    broker = mosquitto()
    listener = listen(broker.port, "homeassistant/#")
    sink = connect(broker.port, announcement=HOME)
    listener.wait_for(lambda: listener.payloads(HOME.topic) == [HOME.payload])
    home = publisher(broker.port)
    for payload in ("offline", "", "x" * 100_000, "online"):
        for _ in range(100):
            home.publish(HOME.birth_topic, payload, qos=1)
    home.publish(HOME.birth_topic, "end", qos=1).wait_for_publish(10)
    listener.wait_for(lambda: listener.payloads(HOME.topic) == [HOME.payload] * 2, edge.sinks.mqtt.BIRTH_PAUSE + 5)
    assert sink.connected
    assert listener.payloads(HOME.topic) == [HOME.payload] * 2


def test_health_is_retained_and_made_anew_after_each_connection(mosquitto, listen, connect):
    broker = mosquitto()
    listener = listen(broker.port)
    sink = connect(broker.port)
    asked = iter(range(100))
    sink.tell_health(lambda: f'{{"asked": {next(asked)}}}')
    listener.wait_for(lambda: listener.payloads(HEALTH))
    broker.stop(signal.SIGKILL)
    sink._wait(lambda: not sink.connected, 5)
    broker.start()
    assert sink.wait_connected(5)
    newcomer = listen(broker.port, HEALTH, "newcomer")
    newcomer.wait_for(lambda: newcomer.payloads(HEALTH))
    latecomer = listen(broker.port, HEALTH, "latecomer")
    latecomer.wait_for(lambda: latecomer.payloads(HEALTH))
    assert latecomer.messages[0].retain
    assert json.loads(newcomer.payloads(HEALTH)[-1])["asked"] > json.loads(listener.payloads(HEALTH)[0])["asked"]


@pytest.fixture
def idle(mosquitto, connect, monkeypatch, make_event):
    """A connected sink with 500 events in its outbox, whose link does what it is told."""

    def make(publish):
        broker = mosquitto()
        outbox = Outbox(None)
        sink = connect(broker.port, outbox=outbox)
        assert sink.wait_connected(5)
        sink._wait(sink._is_done, 5)
        monkeypatch.setattr(sink._link, "publish", publish)
        for number in range(500):
            outbox.put(make_event(number).to_json())
        sink.publish(make_event(500))
        return sink

    return make


def settle(sink):
    settled = threading.Event()
    sink._inbox.put(settled.set)
    assert settled.wait(5)


def test_nothing_more_is_sent_over_a_connection_that_has_just_gone(idle):
    asked = []
    sink = idle(lambda topic, *_, **__: asked.append(topic))
    settle(sink)
    assert len(asked) <= 6
    assert sink.unsent == 501


def test_an_overloaded_broker_is_spared_for_a_while_and_loses_nothing(idle, monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt, "OVERLOAD_RESTS", 0.5)
    numbers = itertools.count(1000)
    asked = []

    def publish(topic, *_, **__):
        asked.append(topic)
        return next(numbers)

    sink = idle(publish)
    settle(sink)
    before = asked.count(EVENT)
    assert before == edge.sinks.mqtt.WINDOW - 1  # the state has a place too
    sink.be_acknowledged(1001, "Quota exceeded", True)
    settle(sink)
    assert (asked.count(EVENT), sink.unsent, sink.rejected) == (before, 501, 0)
    sink._wait(lambda: asked.count(EVENT) > before, 5)
    assert asked.count(EVENT) > before


def test_a_document_that_the_broker_rejects_is_not_told_and_is_sent_again_after_a_rest(idle, monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt, "UNWANTED_RESTS", 0.5)
    asked = []

    def publish(topic, *_, **__):
        asked.append(topic)
        return 1000 + len(asked)

    sink = idle(publish)
    settle(sink)
    state = next(topic for topic in asked if topic.endswith("state"))
    sink.be_acknowledged(1001 + asked.index(state), "Quota exceeded", False)
    settle(sink)
    assert (asked.count(state), sink._has_told("state")) == (1, False)
    sink._wait(lambda: asked.count(state) == 2, 5)
    assert asked.count(state) == 2


def test_what_is_given_up_on_disk_is_told_too(connect, make_event, tmp_path, caplog):
    sink = connect(closed_port(), outbox=Outbox(tmp_path / "outbox.sqlite", max_bytes=100_000))
    for number in range(3000):
        sink.publish(make_event(number))
    sink._wait(lambda: sink.dropped, 5)
    settle(sink)
    assert caplog.text.count("the oldest are dropped") == 1
    with pytest.raises(UnavailableError, match=r"\d+ events did not reach .*; \d+ older ones were given up"):
        sink.close(timeout=0)


@pytest.fixture
def locked(mosquitto, tmp_path):
    """A broker that lets in `mien` with the password `hunter2`."""
    tool = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    subprocess.run([tool, "-b", "-c", tmp_path / "users", "mien", "hunter2"], check=True, capture_output=True)
    (tmp_path / "acl").write_text("user mien\ntopic readwrite mien/kitchen/#\n")
    return mosquitto(f"password_file {tmp_path}/users", f"acl_file {tmp_path}/acl")


def configured(port, tmp_path, password, **changes):
    path = tmp_path / "password"
    path.write_text(password + "\n")
    return MqttConfig(url=f"mqtt://127.0.0.1:{port}", username="mien", password_file=path, **changes)


def test_the_password_is_read_from_its_file(locked, tmp_path, make_event):
    sink = open_mqtt(configured(locked.port, tmp_path, "hunter2"), "kitchen", tmp_path)
    sink.publish(make_event(1))
    assert sink.wait_connected(5)
    sink.close()
    assert sink.unsent == 0


def test_a_wrong_password_is_said_once_and_raised_and_never_shown(locked, tmp_path, make_event, caplog):
    caplog.set_level(logging.DEBUG)
    sink = open_mqtt(configured(locked.port, tmp_path, "swordfish"), "kitchen", tmp_path)
    sink.publish(make_event(1))
    says = r"127.0.0.1:\d+ refuses mien-kitchen \(Not authorized\); check mqtt.username and mqtt.password_file"
    with pytest.raises(UnavailableError, match=says):
        sink.wait_connected(5)
    time.sleep(0.3)  # several attempts more
    began = time.monotonic()
    with pytest.raises(UnavailableError, match=rf"1 events did not reach the broker .*{says}") as raised:
        sink.close(timeout=60)
    assert time.monotonic() - began < 10
    assert raised.value.exit_code == 69
    assert caplog.text.count("refuses mien-kitchen") == 1
    assert "swordfish" not in caplog.text + repr(sink) + str(vars(sink)) + str(raised.value)


def test_topics_that_the_broker_does_not_take_are_an_error(locked, tmp_path, make_event, caplog):
    sink = open_mqtt(configured(locked.port, tmp_path, "hunter2"), "bathroom", tmp_path)
    sink.publish(make_event(1))
    sink.publish(make_event(2))
    sink._wait(lambda: sink.rejected == 2, 10)
    with pytest.raises(UnavailableError, match=r"2 events were rejected by the broker .*\(Not authorized\)"):
        sink.close()
    assert caplog.text.count("does not take mien/bathroom/event") == 1


@pytest.fixture
def authority(tmp_path):
    """A key and a certificate for 127.0.0.1 that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    made = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem", "-days", "2"]
    named = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(["openssl", "req", *kind, *made, *named], check=True, capture_output=True)
    return tmp_path


def test_an_encrypted_broker_is_believed_by_its_authority_alone(mosquitto, authority, tmp_path, make_event):
    broker = mosquitto(f"certfile {authority}/ca.pem", f"keyfile {authority}/key.pem")
    url = f"mqtts://127.0.0.1:{broker.port}"
    sink = open_mqtt(MqttConfig(url=url, ca_file=authority / "ca.pem"), "kitchen", tmp_path)
    sink.publish(make_event(1))
    assert sink.wait_connected(5)
    sink.close()
    assert sink.unsent == 0
    stranger = open_mqtt(MqttConfig(url=url), "kitchen", tmp_path)
    stranger.publish(make_event(2))
    assert not stranger.wait_connected(0.5)
    with pytest.raises(UnavailableError, match=r"cannot be reached \(.*certificate verify failed"):
        stranger.close(timeout=0.5)


def test_a_broker_that_stays_away_costs_a_bounded_time_and_is_said_at_the_end(connect, make_event):
    sink = connect(closed_port())
    sink.publish(make_event(1))
    began = time.monotonic()
    with pytest.raises(
        UnavailableError, match=r"1 events did not reach the broker at 127.0.0.1:\d+; .*Connection refused"
    ):
        sink.close(timeout=0.3)
    assert time.monotonic() - began < 10


def test_with_nothing_to_deliver_an_absent_broker_is_no_error_and_costs_no_time(connect):
    sink = connect(closed_port())
    began = time.monotonic()
    sink.close(timeout=60)
    assert time.monotonic() - began < 10


def test_a_broker_that_hangs_does_not_hold_up_the_end(mosquitto, connect, make_event):
    broker = mosquitto()
    sink = connect(broker.port)
    assert sink.wait_connected(5)
    broker.freeze()
    sink.publish(make_event(1))
    began = time.monotonic()
    with pytest.raises(UnavailableError, match="1 events did not reach"):
        sink.close(timeout=0.3)
    assert time.monotonic() - began < 10


def test_a_second_device_with_our_name_is_reported_once(mosquitto, listen, connect, caplog):
    broker = mosquitto()
    listener = listen(broker.port, STATUS)
    connect(broker.port)
    connect(broker.port)
    says = "is there another client called mien-kitchen? Give each device its own device.name"
    listener.wait_for(lambda: caplog.text.count(says) == 2)  # each of the two has said it
    before = len(listener.messages)
    listener.wait_for(lambda: len(listener.messages) > before + 8)
    assert caplog.text.count(says) == 2
    assert len(caplog.messages) <= 6


def test_a_closed_sink_takes_nothing(mosquitto, connect, make_event):
    sink = connect(mosquitto().port)
    sink.close()
    sink.close()
    with pytest.raises(ValueError, match="is closed"):
        sink.publish(make_event(1))


def test_a_thread_that_died_is_told_at_every_turn(connect, make_event, monkeypatch):
    def fail(faces, event):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(edge.sinks.mqtt, "fold", fail)
    sink = connect(closed_port())
    sink.idle()
    sink.publish(make_event(1))
    sink._thread.join(5)
    for turn in (sink.idle, lambda: sink.publish(make_event(2)), lambda: sink.close(timeout=0)):
        with pytest.raises(RuntimeError, match="the MQTT thread has died") as raised:
            turn()
        assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_what_is_missing_for_the_connection_names_its_key(tmp_path):
    (tmp_path / "junk.pem").write_text("no certificate")
    url = f"mqtts://127.0.0.1:{closed_port()}"
    with pytest.raises(InputNotFoundError, match=r"mqtt.ca_file: .*absent.pem cannot be read"):
        open_mqtt(MqttConfig(url=url, ca_file=tmp_path / "absent.pem"), "kitchen", tmp_path)
    with pytest.raises(BadDataError, match=r"mqtt.ca_file: .*junk.pem holds no certificate"):
        open_mqtt(MqttConfig(url=url, ca_file=tmp_path / "junk.pem"), "kitchen", tmp_path)
    with pytest.raises(InputNotFoundError, match=r"mqtt.password_file: .*absent cannot be read"):
        open_mqtt(MqttConfig(url=url, username="mien", password_file=tmp_path / "absent"), "kitchen", tmp_path)
    with pytest.raises(ConfigError, match=r"mqtt.username is empty"):
        open_mqtt(MqttConfig(url=url, password_file=tmp_path / "absent"), "kitchen", tmp_path)


@pytest.mark.parametrize(
    ("url", "broker"),
    [
        ("mqtt://pi", Broker("pi", 1883, tls=False)),
        ("mqtts://pi.local/", Broker("pi.local", 8883, tls=True)),
        ("mqtt://[::1]:1884", Broker("::1", 1884, tls=False)),
    ],
)
def test_a_brokers_url_gives_host_port_and_encryption(url, broker):
    assert parse_broker(url) == broker


@pytest.mark.parametrize(
    "url", ["pi", "mqtt://", "mqtt://pi:0", "mqtt://me@pi", "mqtt://pi/topic", "mqtt://" + "a" * 64]
)
def test_what_is_no_brokers_url_is_refused(url):
    with pytest.raises(ValueError, match=r"is no mqtt://host:1883"):
        parse_broker(url)
