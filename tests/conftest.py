"""A real MQTT broker for the tests that need one: mosquitto on a free port of the loopback interface."""

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

# The gate tries the same examples each time; `pytest --hypothesis-profile=explore` looks for new ones.
settings.register_profile("gate", max_examples=50, deadline=None, derandomize=True, database=None)
settings.register_profile("explore", max_examples=3000, deadline=None)
settings.load_profile("gate")

# Programs that the tests start are ended by signals, which a shell's `&` and nohup would have them ignore.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

MOSQUITTO = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Mosquitto:
    """One broker that can be stopped, killed, frozen and started again on the same port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "max_queued_messages 0", *options]
        if os.geteuid() == 0:
            lines.append("user root")
        if "password_file" not in " ".join(options):
            lines.append("allow_anonymous true")
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-v", "-c", self._config], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return
        self.stop()
        pytest.fail(f"mosquitto did not start:\n{self._log.read_text()}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, SIGTERM writing down its persistent state and SIGKILL not."""
        if self._process.poll() is None:
            self._process.send_signal(how)
        self._process.wait(10)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class Listener:
    """A subscriber that keeps every message, also those that the broker held back while it was away."""

    def __init__(self, port: int, topic: str, client_id: str) -> None:
        self._arrived = threading.Condition()
        self.messages: list[MQTTMessage] = []
        subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id, protocol=MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self._client.on_subscribe = lambda *_: subscribed.set()
        self._client.on_message = lambda _, __, message: self._keep(message)
        session = Properties(PacketTypes.CONNECT)
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=session)
        self._client.loop_start()
        assert subscribed.wait(5)

    def _keep(self, message: MQTTMessage) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def payloads(self, topic: str) -> list[str]:
        return [message.payload.decode() for message in list(self.messages) if message.topic == topic]

    def wait_for(self, happened: Callable[[], object], timeout: float = 8.0) -> None:
        with self._arrived:
            assert self._arrived.wait_for(happened, timeout), [(m.topic, m.payload) for m in self.messages[-5:]]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker with further lines of configuration."""
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    started: list[Mosquitto] = []

    def start(*options: str) -> Mosquitto:
        folder = tmp_path / f"mosquitto-{len(started)}"
        folder.mkdir()
        started.append(Mosquitto(folder, *options))
        return started[-1]

    yield start
    for broker in started:
        broker.thaw()
        broker.stop(signal.SIGKILL)


@pytest.fixture
def listen() -> Iterator[Callable[..., Listener]]:
    """Subscribe to a topic of a broker's port."""
    listeners: list[Listener] = []

    def start(port: int, topic: str = "#", client_id: str = "listener") -> Listener:
        listeners.append(Listener(port, topic, client_id))
        return listeners[-1]

    yield start
    for listener in listeners:
        listener.close()
