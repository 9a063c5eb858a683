"""The broker, a real mosquitto, and what the doctor makes of those that do not let it in."""

import shutil
import socket
import ssl
import subprocess
import threading

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

import edge.sinks.mqtt_link
from edge import doctor_broker
from edge.doctor_broker import check_broker, check_name
from edge.doctor_network import reach
from edge.doctor_service import Runner, Service
from edge.errors import UnavailableError

pytestmark = pytest.mark.broker

DAEMON = {"proc/7/cmdline": "python\0/opt/mien/venv/bin/mien\0run\0"}


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))
    monkeypatch.setattr(doctor_broker, "RETAINED_SECONDS", 0.5)


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def subject_of(make_subject):
    def make(broker, files=None, *, scheme="mqtt", **keys):
        keys = {f"mqtt.{key}": value for key, value in keys.items()}
        url = f"{scheme}://127.0.0.1:{broker.port}"
        return make_subject(files, {"mqtt.url": url, "device.name": "kitchen"} | keys)

    return make


def test_without_a_broker_in_the_configuration_there_is_nothing_to_look_at(make_subject):
    assert check_broker(make_subject()).status == "not here"
    named = check_name(make_subject(keys={"device.name": "kitchen"}))
    assert (named.status, "kitchen" in named.found) == ("not here", True)


@pytest.mark.parametrize("protocol", ["", "5", "3.1.1"])
def test_a_broker_that_lets_us_in_is_well(mosquitto, subject_of, protocol):
    finding = check_broker(subject_of(mosquitto(), protocol=protocol))
    assert finding.status == "ok"
    assert finding.found.endswith("lets us in without a login, not encrypted")


def test_the_daemon_is_not_thrown_out_and_nothing_is_published(mosquitto, subject_of, listen):
    broker = mosquitto()
    daemon = listen(broker.port, "#", "mien-kitchen")
    assert check_broker(subject_of(broker)).status == "ok"
    assert check_name(subject_of(broker)).status == "ok"
    assert daemon._client.is_connected()
    assert daemon.messages == []


def test_a_login_is_tried_with_the_configured_account(mosquitto, subject_of, tmp_path):
    users, secret = tmp_path / "users", tmp_path / "secret"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "me", "hunter2-right"], check=True)
    broker = mosquitto(f"password_file {users}", "allow_anonymous false")
    login = {"username": "me", "password_file": str(secret)}
    secret.write_text("hunter2-right\n")
    assert "lets me in" in check_broker(subject_of(broker, **login)).found
    secret.write_text("hunter2-wrong\n")
    refused = check_broker(subject_of(broker, **login))
    assert (refused.status, "does not let us in" in refused.found) == ("fault", True)
    assert "mqtt.password_file" in refused.advice
    assert "hunter2" not in refused.found + refused.advice
    assert check_broker(subject_of(broker)).status == "fault"


def test_a_password_that_the_service_alone_may_read_is_not_tried(make_subject, tmp_path, monkeypatch):
    keys = {"mqtt.url": "mqtt://broker", "mqtt.username": "me", "mqtt.password_file": str(tmp_path / "secret")}
    mien = Runner("mien", 64001, frozenset(), ourselves=False)
    service = Service({"LoadState": "loaded"}, {"mqtt-password": tmp_path / "secret"})
    monkeypatch.setattr(doctor_broker.os, "access", lambda *_, **__: False)
    for changes in ({"runner": mien}, {"service": service}):
        finding = check_broker(make_subject(keys=keys, **changes))
        assert (finding.status, finding.advice) == ("warning", "run it again: sudo mien doctor")


def test_a_broker_that_is_not_there_is_told_with_the_reason(make_subject):
    finding = check_broker(make_subject(keys={"mqtt.url": f"mqtt://127.0.0.1:{closed_port()}"}))
    assert (finding.status, "(Connection refused)" in finding.found) == ("fault", True)
    assert finding.advice.startswith("is it on")


def test_a_name_that_nobody_knows_is_told(make_subject, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    finding = check_broker(make_subject(keys={"mqtt.url": "mqtt://broker.local"}))
    assert (finding.status, "the name broker.local is not known" in finding.found) == ("fault", True)
    assert "libnss-mdns" in finding.advice


def test_every_address_of_a_name_is_tried(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        addresses = [("127.0.0.1", closed_port()), ("127.0.0.1", port)]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", address) for address in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with reach("broker", port) as connection:
            assert connection.getpeername()[1] == port
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found[:1])
        with pytest.raises(UnavailableError, match="Connection refused"):
            reach("broker", port)


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that signs itself, and its key; others by their days and names."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")

    def make(name="IP:127.0.0.1"):
        key, pem = tmp_path / "key.pem", tmp_path / "ca.pem"
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        named = ["-subj", "/CN=broker", "-addext", f"subjectAltName={name}", "-days", "2"]
        subprocess.run(["openssl", "req", *kind, "-keyout", key, "-out", pem, *named], check=True, capture_output=True)
        return pem, key

    return make


def test_an_encrypted_broker_is_believed_by_its_authority_alone(mosquitto, subject_of, certificate):
    pem, key = certificate()
    broker = mosquitto(f"certfile {pem}", f"keyfile {key}")
    believed = check_broker(subject_of(broker, scheme="mqtts", ca_file=str(pem)))
    assert (believed.status, "TLSv1" in believed.found) == ("ok", True)
    stranger = check_broker(subject_of(broker, scheme="mqtts"))
    assert (stranger.status, "is not believed (self-signed certificate" in stranger.found) == ("fault", True)
    assert "mqtt.ca_file" in stranger.advice
    plain = check_broker(subject_of(broker))
    assert (plain.status, "hangs up" in plain.found) == ("fault", True)
    assert "mqtts://" in plain.advice


def test_a_certificate_for_another_name_is_told(mosquitto, subject_of, certificate):
    pem, key = certificate("DNS:broker.example")
    broker = mosquitto(f"certfile {pem}", f"keyfile {key}")
    finding = check_broker(subject_of(broker, scheme="mqtts", ca_file=str(pem)))
    assert (finding.status, "mqtt.url must name the broker" in finding.advice) == ("fault", True)


@pytest.mark.parametrize("code", [9, 10])
def test_a_certificate_out_of_its_time_may_be_the_clocks_fault(code, mosquitto, subject_of, monkeypatch, certificate):
    pem, key = certificate()
    broker = mosquitto(f"certfile {pem}", f"keyfile {key}")
    error = ssl.SSLCertVerificationError(1, "refused")
    error.verify_code, error.verify_message = code, "certificate has expired"

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", refuse)
    assert "clock" in check_broker(subject_of(broker, scheme="mqtts", ca_file=str(pem))).advice


def test_a_port_without_tls_is_told(mosquitto, subject_of):
    finding = check_broker(subject_of(mosquitto(), scheme="mqtts"))
    assert finding.status == "fault"
    assert "TLS" in finding.found


def test_a_file_that_is_missing_is_named_with_its_key(make_subject):
    keys = {"mqtt.url": "mqtts://broker", "mqtt.ca_file": "/nowhere/ca.pem"}
    finding = check_broker(make_subject(keys=keys))
    assert (finding.status, "mqtt.ca_file: /nowhere/ca.pem" in finding.found) == ("fault", True)


def test_what_is_no_broker_is_told_in_time(make_subject, monkeypatch):
    monkeypatch.setattr(doctor_broker, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"mqtt://127.0.0.1:{server.getsockname()[1]}"
        silent = check_broker(make_subject(keys={"mqtt.url": url}))
        assert (silent.status, "does not answer to MQTT" in silent.found) == ("fault", True)
        assert check_name(make_subject(keys={"mqtt.url": url})).status == "not here"

        def greet():
            while True:
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=greet, daemon=True).start()
        assert check_broker(make_subject(keys={"mqtt.url": url})).status == "fault"


def retain(port, topic, payload):
    client = Client(CallbackAPIVersion.VERSION2, "somebody")
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()


@pytest.mark.parametrize(
    ("told", "files", "status", "said"),
    [
        (None, {}, "ok", "knows nothing of it yet"),
        ("offline", {}, "ok", "offline"),
        ("online", DAEMON, "ok", "online"),
        ("online", {}, "warning", "Mien does not run here"),
        ("offline", DAEMON, "warning", "Mien runs here"),
    ],
)
def test_another_device_of_our_name_shows_in_what_the_broker_retains(mosquitto, subject_of, told, files, status, said):
    broker = mosquitto()
    if told is not None:
        retain(broker.port, "mien/kitchen/status", told)
    finding = check_name(subject_of(broker, files))
    assert (finding.status, said in finding.found) == (status, True)
    assert ("device.name" in finding.advice) == (status == "warning")


def test_a_broker_that_is_away_says_nothing_of_names(make_subject):
    keys = {"mqtt.url": f"mqtt://127.0.0.1:{closed_port()}", "device.name": "kitchen"}
    finding = check_name(make_subject(keys=keys))
    assert (finding.status, "see broker" in finding.found) == ("not here", True)
