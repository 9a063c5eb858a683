"""`mien run` as a process of its own, with a broker if there is one, and what can be seen of it from outside."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from edge.errors import MienError

ROOT = Path(__file__).resolve().parents[1]
MIEN = [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())", "run"]
DEVICE = "bench"

POLL = 0.001
"""Seconds between two looks at the log's end; so much a delay may be told too long."""

Arrivals = list[tuple[float, bytes]]
"""Events, each with the time of the Unix epoch at which it was there."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that runs."""

    process: subprocess.Popen[bytes]
    home: Path

    @property
    def log(self) -> Path:
        """Where its events go."""
        return self.home / "events.jsonl"

    def await_log(self) -> None:
        """Wait until the log is there, which is opened after model and camera."""
        while not self.log.exists():
            if self.process.poll() is not None:
                raise MienError(f"mien ended at once:\n{self._said()}")
            time.sleep(0.05)

    def told(self, name: str) -> str:
        """What the kernel tells of it: the text of a file below `/proc/PID`."""
        return Path(f"/proc/{self.process.pid}/{name}").read_text(encoding="utf-8")

    def end(self) -> tuple[int, int]:
        """Stop it where it has not ended by itself; how many frames it looked at and how many it skipped."""
        self.process.send_signal(signal.SIGTERM)
        code, said = self.process.wait(60), self._said()
        counted = re.search(r"(\d+) frames?, (\d+) skipped", said)
        if code or counted is None:
            raise MienError(f"mien ended with {code}:\n{said}")
        return int(counted[1]), int(counted[2])

    def _said(self) -> str:
        return (self.home / "stderr").read_text(encoding="utf-8")


@contextmanager
def running(folder: Path, source: str, broker: int | None, settings: str) -> Iterator[Daemon]:
    """A daemon before a source, with further lines of configuration; it is gone afterwards."""
    home = Path(tempfile.mkdtemp(dir=folder))
    config = home / "mien.toml"
    config.write_text(settings, encoding="utf-8")
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MIEN_", "STATE_DIRECTORY"))}
    options = ["--config", str(config), "--source", source, "--device", DEVICE, "--log", str(home / "events.jsonl")]
    options += ["--mqtt", f"mqtt://127.0.0.1:{broker}"] if broker else []
    with (home / "stderr").open("wb") as said:
        process = subprocess.Popen(
            [*MIEN, *options], cwd=ROOT, env=known | {"XDG_STATE_HOME": str(home)}, stdout=said, stderr=said
        )
    try:
        yield Daemon(process, home)
    finally:
        process.kill()
        process.wait()


@contextmanager
def serving(folder: Path, *options: str, port: int | None = None) -> Iterator[int | None]:
    """Mosquitto on a port of the loopback interface, with further lines of configuration; None: not installed.

    Args:
        folder: for its configuration.
        options: those lines.
        port: None: a free one.
    """
    program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if program is None:
        print("mosquitto is not installed: no broker (apt-get install mosquitto)", file=sys.stderr)
        yield None
        return
    port = port or free_port()
    config = folder / "mosquitto.conf"
    # Without Nagle: how long the broker holds a small message back is no matter of the daemon's.
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", *options]
    config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    process = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds(stat: str) -> float:
    """User and system time of a process, of all its threads, from the text of `/proc/PID/stat`."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(status: str) -> Mapping[str, int]:
    """The lines of `/proc/PID/status` that are about memory, in bytes; none of a process that has ended."""
    return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"^(\w+):\s*(\d+) kB$", status, re.MULTILINE)}


def follow(log: Path, until: float, arrived: Arrivals) -> None:
    """Keep every line with the time at which all of it could be read."""
    with log.open("rb") as file:
        rest = b""
        while time.monotonic() < until:
            if not (more := file.read()):
                time.sleep(POLL)
                continue
            *whole, rest = (rest + more).split(b"\n")
            arrived += [(time.time(), line) for line in whole]


@contextmanager
def subscribed(broker: int | None, arrived: Arrivals) -> Iterator[None]:
    """Keep every event that the broker passes on, with the time at which it arrived."""
    if broker is None:
        yield
        return
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, "reader", protocol=MQTTv5)
    client.on_message = lambda _, __, message: arrived.append((time.time(), bytes(message.payload)))
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", broker)
    client.loop_start()
    client.subscribe(f"mien/{DEVICE}/event")
    ready.wait(10)
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()
