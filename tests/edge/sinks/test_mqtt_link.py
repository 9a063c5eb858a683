import contextlib
import itertools
import json
import logging
import random
import shutil
import socket
import struct
import subprocess
import threading
import time

import pytest
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

import edge.sinks.mqtt_link
from edge.errors import BadDataError
from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import LONGEST_MESSAGE, RECONNECT_SECONDS, SILENT, STABLE_SECONDS, Access, Link

pytestmark = pytest.mark.broker

EVENT = "mien/kitchen/event"
PASSWORD = "swordfish"  # noqa: S105

CONNECTED = {"5": b"\x20\x03\x00\x00\x00", "3.1.1": b"\x20\x02\x00\x00"}
"""CONNACK with success, by protocol."""


@pytest.fixture
def hurry(monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.02, 0.05))


class Heard:
    """A link's user that remembers."""

    def __init__(self):
        self.changed = threading.Condition()
        self.calls = []

    def __getattr__(self, name):
        if not name.startswith("be_"):
            raise AttributeError(name)

        def remember(*values):
            with self.changed:
                self.calls.append((name, *values))
                self.changed.notify_all()

        return remember

    def await_call(self, name, timeout=8.0):
        with self.changed:
            assert self.changed.wait_for(lambda: self.all(name), timeout), self.calls
            return self.all(name)[0]

    def all(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def link_to(hurry):
    """Open a link to a port of this machine; what it heard is its `heard`."""
    links = []

    def open_(port, *, tls=False, subscriptions=(), **options):
        access = Access(Broker("127.0.0.1", port, tls=tls), client_id="mien-kitchen", **options)
        heard = Heard()
        links.append(Link(access, heard, will=("mien/kitchen/status", "offline"), subscriptions=subscriptions))
        links[-1].heard = heard
        links[-1].open()
        return links[-1]

    yield open_
    for link in links:
        link.close(2.0)


def read_packet(connection):
    """One MQTT packet, whole; empty where the other side has gone."""
    head = connection.recv(1)
    length, shift = 0, 0
    while head:
        head += connection.recv(1)
        length |= (head[-1] & 0x7F) << shift
        shift += 7
        if not head[-1] & 0x80:
            break
    rest = b""
    while len(rest) < length and (more := connection.recv(length - len(rest))):
        rest += more
    return head + rest


def protocol_of(connect):
    """The level that a CONNECT packet asks for."""
    name = connect.index(b"\x00\x04MQTT")
    return {4: "3.1.1", 5: "5"}[connect[name + 6]]


class Scripted:
    """A server that does with its n-th connection what `script(n, connection, packet)` does, from CONNECT on."""

    def __init__(self, script):
        self._script = script
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.connects = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            for number in itertools.count():
                connection = self._server.accept()[0]
                threading.Thread(target=self._converse, args=(number, connection), daemon=True).start()

    def _converse(self, number, connection):
        with connection, contextlib.suppress(OSError):
            connect = read_packet(connection)
            if connect:
                self.connects.append(connect)
                self._script(number, connection, connect)

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


@pytest.fixture
def scripted():
    servers = []

    def start(script):
        servers.append(Scripted(script))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def relay(connection, first, port):
    """Connect two sockets until one of them ends."""

    def pump(source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    with socket.create_connection(("127.0.0.1", port)) as broker:
        broker.sendall(first)
        back = threading.Thread(target=pump, args=(broker, connection), daemon=True)
        back.start()
        pump(connection, broker)
        back.join(5)


OLD = {
    "says so as an old one": b"\x20\x02\x00\x01",
    "says so as a new one": b"\x20\x03\x00\x84\x00",
    "hangs up": b"",
}


@pytest.mark.parametrize("answer", OLD.values(), ids=OLD.keys())
def test_events_reach_a_broker_that_speaks_only_3_1_1(
    mosquitto, listen, scripted, hurry, make_event, monkeypatch, answer
):
    broker = mosquitto()
    listener = listen(broker.port, EVENT)

    def older(_, connection, connect):
        if protocol_of(connect) == "5":
            connection.sendall(answer)
        else:
            relay(connection, connect, broker.port)

    server = scripted(older)
    access = Access(Broker("127.0.0.1", server.port, tls=False), client_id="mien-kitchen")
    sink = MqttSink(access, Outbox(None), device="kitchen")
    for number in range(1, 101):
        sink.publish(make_event(number))
    assert sink.wait_connected(5)
    sink.close()
    listener.wait_for(lambda: len(listener.messages) == 100)
    assert [json.loads(payload)["id"][-3:] for payload in listener.payloads(EVENT)] == [
        f"{n:03}" for n in range(1, 101)
    ]
    asked = [protocol_of(connect) for connect in server.connects]
    assert asked == (["5"] * 3 if answer == b"" else ["5"]) + ["3.1.1"]


def test_the_older_protocol_is_kept_to_once_it_was_the_one(scripted, link_to):
    def older(number, connection, connect):
        connection.sendall(CONNECTED["3.1.1"] if protocol_of(connect) == "3.1.1" else b"\x20\x02\x00\x01")
        if number < 3:
            time.sleep(0.05)
        else:
            read_packet(connection)

    server = scripted(older)
    link = link_to(server.port)
    link.heard.await_call("be_disconnected")
    deadline = time.monotonic() + 30
    while len(server.connects) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [protocol_of(connect) for connect in server.connects[:4]] == ["5", "3.1.1", "3.1.1", "3.1.1"]


def test_a_broker_that_has_spoken_5_is_away_when_it_is_silent_and_no_older_one(scripted, link_to, wait_until):
    def away_for_a_while(number, connection, connect):
        if number == 0 or number > SILENT + 1:
            connection.sendall(CONNECTED[protocol_of(connect)])
        if number > SILENT + 1:
            read_packet(connection)

    server = scripted(away_for_a_while)
    link = link_to(server.port)
    wait_until(lambda: len(link.heard.all("be_connected")) == 2)
    assert {protocol_of(connect) for connect in server.connects} == {"5"}


def test_a_thread_that_cannot_be_had_is_tried_again(scripted, link_to, monkeypatch):
    start, failures = Client.loop_start, iter([RuntimeError("can't start new thread"), OSError(24, "Too many files")])

    def scarce(client):
        if (failure := next(failures, None)) is not None:
            raise failure
        return start(client)

    monkeypatch.setattr(Client, "loop_start", scarce)
    server = scripted(lambda _, connection, connect: connection.sendall(CONNECTED["5"]) or read_packet(connection))
    link = link_to(server.port)
    link.heard.await_call("be_connected")
    assert link.heard.all("be_unreachable") == [("can't start new thread",), ("Too many files",)]


def test_a_protocol_that_was_asked_for_is_the_only_one(scripted, link_to):
    server = scripted(lambda _, connection, __: connection.sendall(b"\x20\x02\x00\x01"))
    link = link_to(server.port, protocol="5")
    deadline = time.monotonic() + 30
    while len(server.connects) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {protocol_of(connect) for connect in server.connects} == {"5"}
    assert link.heard.await_call("be_refused") == (0x84, "Unsupported protocol version")


# What breaks off before it is through, or was never MQTT.
NONSENSE = {
    "a web server": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html></html>",
    "another service": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "random bytes": random.Random(1).randbytes(5000),  # noqa: S311
    "zeros": bytes(1000),
    "an answer without content": b"\x20\x00",
    "an answer cut off": b"\x20\x03\x00",
    "an answer with broken properties": b"\x20\x07\x00\x00\x04\x21\x00\xff\xff",
    "an endless length": b"\x20\xff\xff\xff\xff\xff\xff",
    "yes, then an unknown packet": CONNECTED["5"] + b"\xf7\x00\xff\xff",
    "yes, then a topic that is no text": CONNECTED["5"] + b"\x30\x06\x00\x02\xff\xfe\x00x",
    "yes, then a topic longer than its message": CONNECTED["5"] + b"\x30\x04\x00\xff\x00x",
    "yes, then an acknowledgement without number": CONNECTED["5"] + b"\x40\x00",
    "yes, then one for what was never sent": CONNECTED["5"] + b"\x40\x02\xff\xff",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_whatever_a_server_says_the_link_tries_on_until_there_is_a_broker(
    scripted, link_to, nonsense, monkeypatch, caplog
):
    caplog.set_level(logging.DEBUG)
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def reform(number, connection, connect):
        if number < 4:
            connection.sendall(nonsense)
            connection.shutdown(socket.SHUT_WR)
            read_packet(connection)
        else:
            connection.sendall(CONNECTED[protocol_of(connect)])
            read_packet(connection)
            connection.sendall(b"\x40\x02\x00\x01")
            read_packet(connection)

    server = scripted(reform)
    link = link_to(server.port, username="mien", password=PASSWORD)
    with link.heard.changed:
        assert link.heard.changed.wait_for(lambda: len(server.connects) > 4 and link._connected_at, 8)
    time.sleep(0.1)
    link.begin()
    assert link.publish(EVENT, "{}", qos=1, retain=False) == 1
    assert link.heard.await_call("be_acknowledged")
    assert died == []
    assert PASSWORD not in caplog.text + repr(link.heard.calls)


def test_a_paho_that_stumbles_over_garbage_does_not_end_the_link(scripted, link_to, monkeypatch):
    died = []
    monkeypatch.setattr(threading, "excepthook", died.append)

    def stumble(client):  # as 2.0 and 2.1 do over some packets
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(Client, "_handle_pubackcomp", lambda client, _: stumble(client))

    def script(_, connection, connect):
        connection.sendall(CONNECTED[protocol_of(connect)] + b"\x40\x00")
        read_packet(connection)

    server = scripted(script)
    link = link_to(server.port)
    deadline = time.monotonic() + 30
    while len(server.connects) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(server.connects) >= 3
    assert link.heard.await_call("be_disconnected")[:2] == (0x81, "unpack requires a buffer of 2 bytes")
    assert died == []


def test_a_message_without_end_is_hung_up_on_and_not_asked_for_again(scripted, link_to):
    megabytes, published = [], threading.Event()

    def flood(_, connection, connect):
        connection.sendall(CONNECTED[protocol_of(connect)])
        first = read_packet(connection)[0] & 0xF0
        if first == 0x30:  # PUBLISH: nothing was subscribed to before
            published.set()
        else:
            topic = b"home/status"
            connection.sendall(b"\x30\xff\xff\xff\x7f" + struct.pack("!H", len(topic)) + topic + b"\x00")
            while len(megabytes) < 256:
                connection.sendall(bytes(1_000_000))
                megabytes.append(1)
                time.sleep(0.01)

    server = scripted(flood)
    link = link_to(server.port, subscriptions=["home/status"])
    assert link.heard.await_call("be_disconnected")[1] == "it sends a message of 268435455 bytes"
    with link.heard.changed:
        assert link.heard.changed.wait_for(lambda: len(link.heard.all("be_connected")) == 2, 5)
    time.sleep(0.1)
    link.begin()
    link.publish(EVENT, "{}", qos=1, retain=False)
    assert published.wait(5)
    assert len(megabytes) < 30
    assert link.heard.all("be_told") == []


def test_a_broker_that_speaks_mqtt_5_is_told_how_much_we_take(mosquitto, link_to):
    broker = mosquitto()
    other = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
    other.connect("127.0.0.1", broker.port)
    other.loop_start()
    other.publish("home/long", "x" * (LONGEST_MESSAGE + 1), qos=1, retain=True).wait_for_publish(5)
    other.publish("home/short", "online", qos=1, retain=True).wait_for_publish(5)
    link = link_to(broker.port, subscriptions=["home/#"])
    assert link.heard.await_call("be_told") == ("home/short", b"online")
    time.sleep(0.2)
    assert len(link.heard.all("be_told")) == 1
    assert link.heard.all("be_disconnected") == []
    other.disconnect()
    other.loop_stop()


def test_a_server_that_says_nothing_is_given_up(scripted, link_to):
    silent = scripted(lambda _, connection, __: read_packet(connection))
    link = link_to(silent.port, keepalive=1)
    link.heard.await_call("be_disconnected", 6)
    assert link.heard.all("be_connected") == []


def run_openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates, in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        self.ca = folder / "ca.pem"
        key = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run_openssl(
            "req", *key, "-keyout", folder / "ca.key", "-out", self.ca, "-days", 2, "-subj", f"/CN={folder.name}"
        )

    def sign(self, name, *, days=2, host="127.0.0.1"):
        """A certificate and its key; one of -1 days has expired."""
        request, key, certificate = (self.folder / f"{name}.{kind}" for kind in ("csr", "key", "pem"))
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        run_openssl("req", *kind, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / "extensions"
        extensions.write_text(f"subjectAltName=IP:{host}\n")
        signed = ["-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial", "-extfile", extensions]
        run_openssl("x509", "-req", "-in", request, *signed, "-out", certificate, "-days", days)
        return certificate, key


@pytest.fixture
def authority(tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    return lambda name: Authority(tmp_path / name)


def encrypted(certificate, key):
    return f"certfile {certificate}", f"keyfile {key}"


def test_a_client_certificate_lets_us_in_and_without_one_we_stay_out(mosquitto, link_to, authority):
    ours, strangers = authority("ours"), authority("strangers")
    wants = f"cafile {ours.ca}", "require_certificate true"
    broker = mosquitto(*encrypted(*ours.sign("broker")), *wants)
    cert, key = ours.sign("kitchen")
    link = link_to(broker.port, tls=True, ca_file=ours.ca, cert_file=cert, key_file=key)
    link.heard.await_call("be_connected")
    both = cert.with_name("both.pem")
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    link_to(broker.port, tls=True, ca_file=ours.ca, cert_file=both).heard.await_call("be_connected")

    nobody = link_to(broker.port, tls=True, ca_file=ours.ca)
    cert, key = strangers.sign("kitchen")
    stranger = link_to(broker.port, tls=True, ca_file=ours.ca, cert_file=cert, key_file=key)
    for kept_out in (nobody, stranger):
        kept_out.heard.await_call("be_disconnected")
        time.sleep(0.2)
        assert kept_out.heard.all("be_connected") == []


@pytest.mark.parametrize(
    ("signed", "says"),
    [
        ({"days": -1}, "certificate has expired"),
        ({"host": "127.0.0.2"}, "IP address mismatch"),
    ],
)
def test_a_brokers_certificate_that_is_not_valid_is_refused_with_the_reason(
    mosquitto, link_to, authority, signed, says
):
    ours = authority("ours")
    broker = mosquitto(*encrypted(*ours.sign("broker", **signed)))
    link = link_to(broker.port, tls=True, ca_file=ours.ca, username="mien", password=PASSWORD)
    [why] = link.heard.await_call("be_unreachable")
    assert "certificate verify failed" in why
    assert says in why
    time.sleep(0.2)
    assert {call[0] for call in link.heard.calls} == {"be_unreachable"}
    assert PASSWORD not in repr(link.heard.calls)


def test_a_broker_of_another_authority_is_refused(mosquitto, link_to, authority):
    broker = mosquitto(*encrypted(*authority("theirs").sign("broker")))
    link = link_to(broker.port, tls=True, ca_file=authority("ours").ca)
    assert "certificate verify failed" in link.heard.await_call("be_unreachable")[0]


def test_a_plain_port_spoken_to_with_tls_is_no_broker_and_the_other_way_round(mosquitto, link_to, authority):
    ours = authority("ours")
    plain, secure = mosquitto(), mosquitto(*encrypted(*ours.sign("broker")))
    assert link_to(plain.port, tls=True, ca_file=ours.ca).heard.await_call("be_unreachable")
    astray = link_to(secure.port)
    assert astray.heard.await_call("be_disconnected")
    assert astray.heard.all("be_connected") == []


def test_certificates_renewed_on_disk_are_used_at_the_next_connection(mosquitto, link_to, authority, tmp_path):
    ours = authority("ours")
    broker = mosquitto(*encrypted(*ours.sign("broker")), f"cafile {ours.ca}", "require_certificate true")
    ca, cert, key = (tmp_path / name for name in ("our-ca.pem", "our.pem", "our.key"))

    def install(authority, name, **signed):
        ca.write_bytes(authority.ca.read_bytes())
        for target, source in zip((cert, key), authority.sign(name, **signed), strict=True):
            target.write_bytes(source.read_bytes())

    install(ours, "old", days=-1)
    link = link_to(broker.port, tls=True, ca_file=ca, cert_file=cert, key_file=key)
    link.heard.await_call("be_disconnected")
    install(authority("another"), "new")
    link.heard.await_call("be_unreachable")
    install(ours, "renewed")
    link.heard.await_call("be_connected")


def test_a_certificate_that_is_gone_for_a_moment_ends_nothing(mosquitto, link_to, authority):
    ours = authority("ours")
    broker = mosquitto(*encrypted(*ours.sign("broker")))
    whole = ours.ca.read_bytes()
    ours.ca.write_text("half wri")
    link = link_to(broker.port, tls=True, ca_file=ours.ca)
    assert link.heard.await_call("be_unreachable") == (f"mqtt.ca_file: {ours.ca} holds no certificate in PEM format",)
    ours.ca.unlink()
    with link.heard.changed:
        assert link.heard.changed.wait_for(lambda: "cannot be read" in str(link.heard.all("be_unreachable")), 5)
    ours.ca.write_bytes(whole)
    link.heard.await_call("be_connected")


def test_a_key_that_does_not_fit_is_named(authority):
    ours = authority("ours")
    cert, key = ours.sign("one")[0], ours.sign("other")[1]
    access = Access(Broker("127.0.0.1", 1, tls=True), client_id="mien", ca_file=ours.ca, cert_file=cert, key_file=key)
    with pytest.raises(BadDataError, match=r"mqtt.key_file: .*other.key holds no certificate with the key that fits"):
        access.tls()


class Pauses:
    """Stands in for the event that ends a link: remembers how long it was waited for, and ends it by and by."""

    def __init__(self, number):
        self.number = number
        self.waited = []

    def is_set(self):
        return len(self.waited) >= self.number

    def set(self):
        self.number = 0

    def wait(self, seconds):
        self.waited.append(seconds)


def pauses_of(monkeypatch, lasted):
    """The pauses after connections that lasted so many seconds."""
    link = Link(Access(Broker("127.0.0.1", 1, tls=False), client_id="mien"), Heard(), will=("status", "offline"))
    durations = iter(lasted)
    monkeypatch.setattr(link, "_connect", lambda _: next(durations))
    monkeypatch.setattr(link, "_closing", Pauses(len(lasted)))
    link._work()
    return link._closing.waited


def test_pauses_double_up_to_the_longest_and_differ_by_chance(monkeypatch):
    first, longest = RECONNECT_SECONDS
    many = [pauses_of(monkeypatch, [0.0] * 9) for _ in range(50)]
    for number, pauses in enumerate(zip(*many, strict=True)):
        whole = min(first * 2**number, longest)
        assert whole / 2 <= min(pauses) < max(pauses) <= whole
        assert max(pauses) - min(pauses) > whole / 4
        assert len(set(pauses)) == len(pauses)


def test_a_connection_that_lasted_begins_the_pauses_anew(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda _, most: most)
    short, long = STABLE_SECONDS - 0.1, STABLE_SECONDS
    assert pauses_of(monkeypatch, [0.0, 0.0, short, long, 0.0, 3600.0]) == [1.0, 2.0, 4.0, 1.0, 2.0, 1.0]


def test_a_broker_that_refuses_is_not_knocked_at_without_a_pause(monkeypatch, scripted):
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.1, 0.2))
    server = scripted(lambda _, connection, __: connection.sendall(b"\x20\x03\x00\x87\x00"))
    heard = Heard()
    link = Link(
        Access(Broker("127.0.0.1", server.port, tls=False), client_id="mien"), heard, will=("status", "offline")
    )
    link.open()
    time.sleep(1.0)
    link.close(2)
    assert 3 <= len(server.connects) <= 12
    assert set(heard.all("be_refused")) == {(0x87, "Not authorized")}


def test_order_is_kept_when_a_connection_comes_and_goes_while_the_disk_is_slow(mosquitto, listen, hurry, make_event):
    broker = mosquitto()
    access = Access(Broker("127.0.0.1", broker.port, tls=False), client_id="mien-kitchen")
    sink = MqttSink(access, Outbox(None), device="kitchen")
    assert sink.wait_connected(5)
    sink._wait(sink._is_done, 5)
    broker.freeze()
    for number in range(1, 11):
        sink.publish(make_event(number))
    sink._wait(lambda: len(sink._in_flight) > 9, 5)
    stuck = threading.Event()
    sink._inbox.put(stuck.wait)
    for number in range(11, 31):
        sink.publish(make_event(number))
    first = sink._link._connected_at
    broker.stop(9)
    broker.start()
    listener = listen(broker.port, EVENT)
    deadline = time.monotonic() + 30
    while sink._link._connected_at in {None, first} and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    stuck.set()
    sink.close()
    listener.wait_for(lambda: len(listener.messages) >= 30)
    assert [int(json.loads(payload)["id"][-3:]) for payload in listener.payloads(EVENT)] == list(range(1, 31))
