"""No password and no key ever comes out: through real runs of `mien`, all that it says and leaves behind is searched.

Each secret holds signs that every encoding in use treats differently, between two words that none of them changes.
"""

import base64
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import pytest

import edge.doctor_broker
import edge.sinks.mqtt
import edge.sinks.mqtt_link
from edge.cli import main
from edge.labels import FER2013_LABELS
from edge.pipeline import Vision

ROOT = Path(__file__).parents[2]
MODEL = Path(__file__).parent / "models/grey_int8_logits.tflite"
SCENE = "synthetic:size=160x120,fps=10,realtime=1,seconds=0"

WORDS = {"mqtt": ("Qv7broker", "Kw3broker"), "rtsp": ("Xj9camera", "Zu4camera")}
PASSWORDS = {name: f"{first}@/:%41 ü#{last}" for name, (first, last) in WORDS.items()}
USER = "mien"

FORMS = [
    *(word for words in WORDS.values() for word in words),
    *(
        base64.b64encode(f"{who}{password}".encode()).decode()[:24]
        for who in ("", f"{USER}:")
        for password in PASSWORDS.values()
    ),
]


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> dict[str, str]:
    given = {
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "MIEN_MODEL_PATH": str(MODEL),
        "MIEN_MODEL_LABELS": ",".join(FER2013_LABELS),
        "MIEN_DEVICE_NAME": "kitchen",
        "MIEN_LOG_PATH": str(tmp_path / "log/events"),
    }
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.sinks.mqtt_link, "RECONNECT_SECONDS", (0.05, 0.1))
    return given


@pytest.fixture
def secret_file(tmp_path):
    """The file with a password, or with something else."""

    def make(name: str, content: str | None = None) -> Path:
        path = tmp_path / "secrets" / f"{name}-password"
        path.parent.mkdir(exist_ok=True)
        path.write_text((PASSWORDS[name] if content is None else content) + "\n", encoding="utf-8")
        return path

    return make


class Ears:
    """All that came out of runs so far: what was said, logged at any level and left in files."""

    def __init__(self, folder: Path, capfd, caplog) -> None:
        caplog.set_level(logging.DEBUG)
        self._folder, self._capfd, self._caplog = folder, capfd, caplog
        self.secrets = list(FORMS)

    def said(self) -> str:
        """Checked, and once."""
        captured = self._capfd.readouterr()
        said = f"{captured.out}\n{captured.err}\n{self._caplog.text}"
        self.check(said)
        for path in self._folder.rglob("*"):
            if path.is_file() and "secrets" not in path.parts and not path.parent.name.startswith("mosquitto"):
                self.check(path.read_bytes().decode("utf-8", "replace"), path)
                self.check(str(path.relative_to(self._folder)))
        return said

    def check(self, text: str, where: object = "what was said") -> None:
        found = [secret for secret in self.secrets if secret in text]
        assert not found, f"{where} shows {found[0]}: …{text[max(0, text.index(found[0]) - 300) :][:600]}"


@pytest.fixture
def ears(tmp_path, capfd, caplog) -> Ears:
    return Ears(tmp_path, capfd, caplog)


def test_the_search_would_find_them(ears):
    url = f"rtsp://{USER}:{quote(PASSWORDS['rtsp'], safe='')}@camera/"
    basic = base64.b64encode(f"{USER}:{PASSWORDS['rtsp']}".encode()).decode()
    for shown in (PASSWORDS["mqtt"], repr(PASSWORDS["mqtt"]), url, f"Authorization: Basic {basic}"):
        with pytest.raises(AssertionError, match="shows"):
            ears.check(f"it says {shown}")


# The command line, the environment and the configuration

WRONG = f"{WORDS['mqtt'][0]}@/%41#{WORDS['mqtt'][1]}"
MQTT, RTSP = f"mqtt://{USER}:{WRONG}@broker", f"rtsp://{USER}:{WRONG}@127.0.0.1:9/front"


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["", "debug"])
@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["run", "--password", WRONG], 64),
        (["run", f"--mqtt-password={WRONG}"], 64),
        (["run", "--mqtt", MQTT], 78),
        (["run", "--source", RTSP], 78),
        (["run", "--source", f"images:{RTSP}"], 78),
        (["run", "--source", f"http://camera/?user=me&password={WRONG}"], 78),
        (["run", "--device", MQTT], 78),
        (["run", "--model", MQTT], 78),
        (["run", "--log", MQTT], 78),
        (["run", "--config", MQTT], 66),
        (["run", "--pace", MQTT], 64),
        (["run", "--labels", MQTT], 64),
        (["run", MQTT], 64),
        ([MQTT], 64),
        (["fleet", "--mqtt", MQTT], 78),
        (["fleet", "--forget", MQTT, "--mqtt", "mqtt://127.0.0.1:9"], 64),
        (["bench", "--source", RTSP], 78),
        (["classify", RTSP], 64),
        (["log", RTSP], 66),
    ],
    ids=str,
)
def test_a_password_on_the_command_line_is_refused_without_being_shown(argv, code, debug, ears):
    assert main([*debug, *argv]) == code
    assert "mien" in ears.said()


@pytest.mark.parametrize("name", ["MIEN_MQTT_URL", "MIEN_MQTT_PASSWORD", "MIEN_SOURCE_SPEC", "MIEN_SOURCE_PASSWORD"])
def test_a_password_in_the_environment_is_refused_without_being_shown(name, monkeypatch, ears):
    monkeypatch.setenv(name, {"URL": MQTT, "SPEC": RTSP}.get(name.rpartition("_")[2], WRONG))
    assert main(["--debug", "run"]) == 78
    assert f"environment variable {name}" in ears.said()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f'[mqtt]\nurl = "{MQTT}"\n', 78),
        (f'[mqtt]\npassword = "{WRONG}"\n', 78),
        (f'[mqtt]\npasswort = "{WRONG}"\n', 78),
        (f'[mqtt]\npassword_file = ["{WRONG}"]\n', 78),
        (f'[mqtt]\npassword = "{WRONG}\n', 78),
        (f"[mqtt]\npassword = {WRONG}\n", 78),
        (f'[source]\nspec = "{RTSP}"\n', 78),
        (f'password = "{WRONG}"\n', 78),
        (
            '[mqtt]\nurl = "mqtt://127.0.0.1:9"\nusername = "mien"\npassword_file = "Qv7broker-the-password-itself"\n',
            66,
        ),
    ],
)
def test_a_password_in_the_configuration_is_refused_without_being_shown(text, code, tmp_path, ears):
    file = tmp_path / "secrets" / "mien.toml"
    file.parent.mkdir()
    file.write_text(text)
    assert main(["--debug", "run", "--source", "synthetic:seconds=0.1", "--config", str(file)]) == code
    said = ears.said()
    assert ": error: " in said
    assert "mqtt" in said or "mien.toml" in said


# The broker


@pytest.fixture
def locked(mosquitto, tmp_path):
    """A broker that wants our password, whoever gives one, and its port."""
    tool = shutil.which("mosquitto_passwd", path="/usr/bin:/usr/sbin:/usr/local/bin")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed (apt-get install mosquitto)")
    (tmp_path / "secrets").mkdir(exist_ok=True)
    users = tmp_path / "secrets/users"
    subprocess.run([tool, "-b", "-c", users, USER, PASSWORDS["mqtt"]], check=True, capture_output=True)
    return lambda *options: mosquitto(f"password_file {users}", "allow_anonymous true", *options).port


def use_broker(monkeypatch, port: int, password_file: Path | None, *, tls: bool = False, **files: Path) -> None:
    monkeypatch.setenv("MIEN_MQTT_URL", f"mqtt{'s' * tls}://127.0.0.1:{port}")
    monkeypatch.setenv("MIEN_MQTT_USERNAME", USER)
    for key, path in {"password_file": password_file, **files}.items():
        if path is not None:
            monkeypatch.setenv(f"MIEN_MQTT_{key.upper()}", str(path))


@pytest.mark.broker
@pytest.mark.parametrize("how", ["file", "credential"])
def test_a_broker_that_lets_us_in_hears_the_password_and_nobody_else(
    how, locked, listen, secret_file, run_daemon, wait_until, monkeypatch, ears
):
    port, path = locked(), secret_file("mqtt")
    use_broker(monkeypatch, port, path if how == "file" else None)
    if how == "credential":
        path.rename(path.with_name("mqtt-password"))
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    listener = listen(port)
    kinds = {f"mien/kitchen/{kind}" for kind in ("event", "state", "status", "health")}
    heard = lambda: kinds <= {message.topic for message in listener.messages}  # noqa: E731
    assert run_daemon("--source", SCENE, meanwhile=lambda: wait_until(heard), before=("--debug",)) == 0
    ears.said()
    for message in listener.messages:
        ears.check(f"{message.topic} {message.payload.decode()}")


@pytest.mark.broker
def test_a_broker_that_refuses_the_password_does_not_make_us_say_it(
    locked, secret_file, run_daemon, wait_until, monkeypatch, ears, caplog
):
    use_broker(monkeypatch, locked(), secret_file("mqtt", PASSWORDS["mqtt"] + "x"))
    refused = lambda: "refuses mien-kitchen (Not authorized)" in caplog.text  # noqa: E731
    assert run_daemon("--source", SCENE, meanwhile=lambda: wait_until(refused), before=("--debug",)) == 0
    assert "check mqtt.username and mqtt.password_file" in ears.said()


def test_a_broker_that_is_away_leaves_events_in_the_outbox_and_no_password(
    secret_file, run_daemon, wait_until, monkeypatch, tmp_path, ears, caplog
):
    use_broker(monkeypatch, 9, secret_file("mqtt"))
    log = tmp_path / "log/events"
    away = lambda: "cannot be reached" in caplog.text and log.exists() and log.stat().st_size  # noqa: E731
    assert run_daemon("--source", SCENE, meanwhile=lambda: wait_until(away), before=("--debug",)) == 0
    assert b"mien/event/1" in (tmp_path / "state/mien/outbox-kitchen.sqlite").read_bytes()
    assert "events did not reach the broker" in ears.said()


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    cert, key = folder / f"secrets/{name}.pem", folder / f"secrets/{name}.key"
    cert.parent.mkdir(exist_ok=True)
    named = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run(["openssl", "req", *kind, "-keyout", key, "-out", cert, *named], check=True, capture_output=True)
    return cert, key


def lines_of(key: Path) -> list[str]:
    return [line for line in key.read_text().splitlines() if not line.startswith("-----")]


@pytest.mark.broker
@pytest.mark.parametrize("trusted", [True, False], ids=["let in", "another authority"])
def test_with_certificates_neither_key_nor_password_is_shown(
    trusted, locked, listen, secret_file, run_daemon, wait_until, monkeypatch, tmp_path, ears, caplog
):
    (ca, ca_key), (cert, key), (other, _) = (certify(tmp_path, name) for name in ("broker", "kitchen", "other"))
    ears.secrets += lines_of(key)
    assert len(ears.secrets) > len(FORMS)
    port = locked(f"certfile {ca}", f"keyfile {ca_key}", f"cafile {cert}", "require_certificate true")
    files = {"ca_file": ca if trusted else other, "cert_file": cert, "key_file": key}
    use_broker(monkeypatch, port, secret_file("mqtt"), tls=True, **files)
    made = []
    connect = edge.sinks.mqtt.MqttSink._connect
    monkeypatch.setattr(edge.sinks.mqtt.MqttSink, "_connect", lambda self, *a: made.append(self) or connect(self, *a))

    def is_through() -> bool:
        if not trusted:
            return "certificate verify failed" in caplog.text
        return bool(made) and (tmp_path / "log/events").stat().st_size > 0 and not made[0].unsent

    assert run_daemon("--source", SCENE, meanwhile=lambda: wait_until(is_through), before=("--debug",)) == 0
    ears.said()


@pytest.mark.parametrize(
    ("wrong", "code", "says"),
    [
        ("a key that does not fit", 65, "mqtt.key_file"),
        ("a key where the authority should be", 65, "mqtt.ca_file"),
        ("a key where the password should be", 65, "mqtt.password_file"),
        ("a password where the key should be", 65, "mqtt.key_file"),
        ("two passwords", 65, "mqtt.password_file"),
        ("a password without a name", 78, "mqtt.username"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named_and_not_quoted(
    wrong, code, says, secret_file, monkeypatch, tmp_path, ears
):
    (cert, key), (_, other) = (certify(tmp_path, name) for name in ("kitchen", "other"))
    ears.secrets += lines_of(key) + lines_of(other)
    files = {"ca_file": cert, "cert_file": cert, "key_file": key, "password_file": secret_file("mqtt")}
    files |= {
        "a key that does not fit": {"key_file": other},
        "a key where the authority should be": {"ca_file": key},
        "a key where the password should be": {"password_file": key},
        "a password where the key should be": {"key_file": secret_file("mqtt")},
        "two passwords": {"password_file": secret_file("rtsp", "\n".join(PASSWORDS.values()))},
        "a password without a name": {},
    }[wrong]
    use_broker(monkeypatch, 9, tls=True, **files)
    if wrong == "a password without a name":
        monkeypatch.delenv("MIEN_MQTT_USERNAME")
    assert main(["--debug", "run", "--source", SCENE]) == code
    said = ears.said()
    assert f"{says}" in said
    assert "Traceback" in said


@pytest.mark.parametrize("where", ["vision", "the MQTT thread", "the log"])
def test_a_faults_traceback_shows_no_password(where, secret_file, monkeypatch, ears):
    def fail(*_):
        raise ZeroDivisionError("a fault")

    target = {
        "vision": (Vision, "look"),
        "the MQTT thread": (edge.sinks.mqtt, "fold"),
        "the log": (edge.sinks.log.JsonLinesLog, "publish"),
    }[where]
    monkeypatch.setattr(*target, fail)
    use_broker(monkeypatch, 9, secret_file("mqtt"))
    assert main(["--debug", "run", "--source", SCENE]) == 70
    said = ears.said()
    assert "Traceback (most recent call last)" in said
    assert "ZeroDivisionError: a fault" in said


# The camera


class Camera:
    """Stands in for OpenCV's; is opened with the password in its address, and does with it what it is told to."""

    asked: str
    pictures = 3
    refuses = False
    loud = False

    def __init__(self, url, *_):
        type(self).asked = url
        if self.loud:
            raise cv2.error(f"OpenCV(4.13.0) cap.cpp:138: error: cannot open {url!r}")
        self._left = self.pictures

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return not self.refuses

    def grab(self):
        self._left -= 1
        return self._left >= 0

    def retrieve(self):
        return True, np.random.default_rng(self._left).integers(0, 256, (120, 160, 3), np.uint8)

    def release(self):
        pass


@pytest.fixture
def camera(monkeypatch, secret_file, tmp_path):
    """An RTSP camera whose password comes as a systemd credential."""
    path = secret_file("rtsp")
    path.rename(path.with_name("source-password"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    monkeypatch.setenv("MIEN_SOURCE_SPEC", f"rtsp://{USER}@127.0.0.1:9/front")
    monkeypatch.setenv("MIEN_SOURCE_TIMEOUT", "0.3")

    class Asked(Camera):
        pass

    monkeypatch.setattr(cv2, "VideoCapture", Asked)
    return Asked


def hidden(url: str) -> bool:
    """Whether the camera was given its password."""
    return quote(PASSWORDS["rtsp"], safe="") in url


def test_a_camera_that_refuses_or_breaks_does_not_make_us_say_its_password(camera, ears):
    for trait in ("refuses", "loud"):
        setattr(camera, trait, True)
        assert main(["--debug", "run"]) == 69
        assert "rtsp://***@127.0.0.1:9/front: " in ears.said()
        assert hidden(camera.asked)


def test_a_camera_that_is_lost_and_sought_does_not_make_us_say_its_password(
    camera, run_daemon, wait_until, ears, caplog
):
    sought = lambda: "it is sought for" in caplog.text  # noqa: E731
    assert run_daemon(meanwhile=lambda: wait_until(sought), before=("--debug",)) == 0
    assert "rtsp://***@127.0.0.1:9/front: no picture" in ears.said()
    assert hidden(camera.asked)


def test_a_fault_behind_a_camera_shows_no_password(camera, monkeypatch, ears):
    def fail(*_):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(Vision, "look", fail)
    assert main(["--debug", "run"]) == 70
    assert "Traceback (most recent call last)" in ears.said()
    assert hidden(camera.asked)


class Doorkeeper:
    """A camera that wants a password, hears it, and does not let anybody in."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.heard = b""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                with client, suppress(OSError):
                    self._refuse(client)

    def _refuse(self, client: socket.socket) -> None:
        client.settimeout(5)
        while data := client.recv(4096):
            self.heard += data
            number = data.decode("latin-1").partition("CSeq: ")[2].partition("\r\n")[0]
            client.sendall(
                f"RTSP/1.0 401 Unauthorized\r\nCSeq: {number}\r\n"
                'WWW-Authenticate: Basic realm="front"\r\nContent-Length: 0\r\n\r\n'.encode()
            )

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


LOUD = {
    "OPENCV_FFMPEG_LOGLEVEL": "56",
    "OPENCV_FFMPEG_DEBUG": "1",
    "OPENCV_LOG_LEVEL": "DEBUG",
    "OPENCV_VIDEOIO_DEBUG": "1",
}
"""OpenCV and FFmpeg as talkative as they can be."""

AT_DEBUG_LEVEL = """
import logging, sys
logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from edge.cli import main
sys.exit(main())
"""


def test_ffmpeg_at_its_most_talkative_does_not_show_the_password_that_it_is_given(settings, secret_file, ears):
    camera = Doorkeeper()
    url = f"rtsp://{USER}@127.0.0.1:{camera.port}/x"
    try:
        done = subprocess.run(
            [sys.executable, "-c", AT_DEBUG_LEVEL, "--debug", "run", "--source", url],
            env=os.environ | settings | LOUD | {"MIEN_SOURCE_PASSWORD_FILE": str(secret_file("rtsp"))},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        camera.close()
    assert done.returncode == 69
    assert base64.b64encode(f"{USER}:{PASSWORDS['rtsp']}".encode()) in camera.heard
    assert f"rtsp://***@127.0.0.1:{camera.port}/x: cannot be reached, or refuses" in done.stderr
    ears.check(done.stdout + done.stderr)
    ears.said()


# mien doctor


def diagnose(ears: Ears, *names: str, options: tuple[str, ...] = ()) -> str:
    """What it finds."""
    main(["--debug", "doctor", *options, *(part for name in names for part in ("--only", name))])
    return ears.said()


@pytest.mark.broker
@pytest.mark.parametrize(
    ("case", "finds"),
    [("let in", "lets mien in"), ("refused", "Not authorized"), ("away", "127.0.0.1:9"), ("two passwords", "one line")],
)
def test_the_doctor_asks_the_broker_with_the_password_and_does_not_show_it(
    case, finds, locked, secret_file, monkeypatch, ears
):
    content = {"refused": PASSWORDS["mqtt"] + "x", "two passwords": "\n".join(PASSWORDS.values())}.get(case)
    use_broker(monkeypatch, 9 if case == "away" else locked(), secret_file("mqtt", content))
    monkeypatch.setattr(edge.doctor_broker, "RETAINED_SECONDS", 0.1)
    assert finds in diagnose(ears, "configuration", "broker", "name")
    assert finds in diagnose(ears, "broker", options=("--json",))


@pytest.mark.broker
def test_the_doctor_shows_no_key(locked, secret_file, monkeypatch, tmp_path, ears):
    (ca, ca_key), (cert, key), (other, _) = (certify(tmp_path, name) for name in ("broker", "kitchen", "other"))
    ears.secrets += lines_of(key)
    port = locked(f"certfile {ca}", f"keyfile {ca_key}", f"cafile {cert}", "require_certificate true")
    files = {"ca_file": ca, "cert_file": cert, "key_file": key}
    use_broker(monkeypatch, port, secret_file("mqtt"), tls=True, **files)
    monkeypatch.setattr(edge.doctor_broker, "RETAINED_SECONDS", 0.1)
    assert "lets mien in" in diagnose(ears, "broker")
    monkeypatch.setenv("MIEN_MQTT_CA_FILE", str(other))
    assert "certificate" in diagnose(ears, "broker")
    monkeypatch.setenv("MIEN_MQTT_CA_FILE", str(key))
    assert "mqtt.ca_file" in diagnose(ears, "broker")


def test_the_doctor_asks_the_camera_with_the_password_and_does_not_show_it(secret_file, monkeypatch, ears):
    camera = Doorkeeper()
    monkeypatch.setenv("MIEN_SOURCE_SPEC", f"rtsp://{USER}@127.0.0.1:{camera.port}/x")
    monkeypatch.setenv("MIEN_SOURCE_PASSWORD_FILE", str(secret_file("rtsp")))
    for name, value in LOUD.items():
        monkeypatch.setenv(name, value)
    try:
        assert "user and password" in diagnose(ears, "camera")
    finally:
        camera.close()
    assert base64.b64encode(f"{USER}:{PASSWORDS['rtsp']}".encode()) in camera.heard


@pytest.mark.parametrize("text", [f'[mqtt]\nurl = "{MQTT}"\n', f'[mqtt]\npassword = "{WRONG}"\n', f"[mqtt]\n{WRONG}"])
def test_the_doctor_shows_no_password_of_a_wrong_configuration(text, tmp_path, ears):
    file = tmp_path / "secrets" / "mien.toml"
    file.parent.mkdir()
    file.write_text(text)
    assert "mien.toml" in diagnose(ears, "configuration", "broker", options=("--config", str(file)))
