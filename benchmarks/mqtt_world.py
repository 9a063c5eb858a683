"""What `benchmarks.mqtt_faults` breaks: a mosquitto, the network to it, a disk, and a publisher with its clock.

As root, or where users may make namespaces, network and disk are those of a namespace of their own: the loopback
interface is switched off, and a small file system is filled to the brim. Elsewhere a proxy between publisher and broker
falls silent, and the kernel refuses the publisher larger files (`RLIMIT_FSIZE`).
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from benchmarks.mqtt_publisher import DEVICE, USER, id_of
from edge.errors import UnavailableError

ROOT = Path(__file__).resolve().parents[1]
ISOLATED = "MIEN_FAULTS_ISOLATED"
DISK_BYTES = 16_000_000
STARTED = 10.0
"""Seconds that a broker may take to start."""

PASSWORD = "correct horse"  # noqa: S105  # for a broker that lives for minutes


def tool(name: str) -> str:
    """The path of a program."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise UnavailableError(f"{name} is not installed; apt-get install mosquitto openssl iproute2")
    return found


def isolate() -> None:
    """Begin this program anew in namespaces of its own, where that is allowed; return where it is not, or was done."""
    if ISOLATED in os.environ:
        subprocess.run([tool("ip"), "link", "set", "lo", "up"], check=True)
        return
    apart = ["unshare", "--net", "--mount", *(["--map-root-user"] if os.geteuid() else [])]
    probe = [*apart, "sh", "-c", "ip link set lo up && mount -t tmpfs -o size=100k none /tmp"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            command = [*apart, sys.executable, *sys.orig_argv[1:]]
            os.execvpe("unshare", command, os.environ | {ISOLATED: "1"})  # noqa: S606  # no shell is wanted


def free_port() -> int:
    """One that nobody listens to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def certify(folder: Path) -> None:
    """An authority `ca.pem`, and certificates for this machine: `valid.pem`, `expired.pem`, with the key `key.pem`."""
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n", encoding="ascii")
    sign = ["x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
    for command in (
        ["req", "-x509", *kind, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority"],
        ["req", *kind, "-keyout", "key.pem", "-out", "csr", "-subj", "/CN=broker"],
        [*sign, "-extfile", "extensions", "-out", "valid.pem", "-days", "2"],
        [*sign, "-extfile", "extensions", "-out", "expired.pem", "-days", "-1"],
    ):
        subprocess.run([tool("openssl"), *command], cwd=folder, check=True, capture_output=True)


class Broker:
    """A mosquitto with one door for the publisher, encrypted and locked, and an open one for the subscriber."""

    def __init__(self, folder: Path) -> None:
        """Make what it needs and start it."""
        self.port, self.open_port = free_port(), free_port()
        self._folder = folder
        certify(folder)
        (folder / "password").write_text(PASSWORD + "\n", encoding="ascii")
        for name, password in (("right", PASSWORD), ("wrong", PASSWORD[::-1])):
            command = [tool("mosquitto_passwd"), "-b", "-c", str(folder / name), USER, password]
            subprocess.run(command, check=True, capture_output=True)
        lines = [
            "per_listener_settings true", "max_queued_messages 0", "set_tcp_nodelay true", "log_type error",
            "autosave_interval 1", "persistence true", f"persistence_location {folder}/",
            *(["user root"] if os.geteuid() == 0 else []),
            f"listener {self.open_port} 127.0.0.1", "allow_anonymous true",
            f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {folder}/users",
            f"certfile {folder}/certificate.pem", f"keyfile {folder}/key.pem",
        ]  # fmt: skip
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.start()

    def start(self, *, users: str = "right", certificate: str = "valid") -> None:
        """Start it, with the right or the wrong users and with a valid or an expired certificate."""
        shutil.copyfile(self._folder / users, self._folder / "users")
        shutil.copyfile(self._folder / f"{certificate}.pem", self._folder / "certificate.pem")
        with (self._folder / "mosquitto.log").open("ab") as log:
            command = [tool("mosquitto"), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + STARTED
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        self.stop()
        raise UnavailableError(f"mosquitto does not start: {(self._folder / 'mosquitto.log').read_text()[-500:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; SIGTERM has it write down what it knows, SIGKILL does not."""
        if self._process.poll() is None:
            self._process.send_signal(how)
            self._process.send_signal(signal.SIGCONT)
        self._process.wait(10)

    def forget(self) -> None:
        """What was written down is lost."""
        (self._folder / "mosquitto.db").unlink(missing_ok=True)

    def freeze(self, *, thaw: bool = False) -> None:
        """Stop its time, or let it go on."""
        self._process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)


class Network:
    """Between publisher and broker; it can be cut, so that nothing comes through and nobody is told."""

    def __init__(self, port: int) -> None:
        """Lead to a port of this machine."""
        self._through = threading.Event()
        self._through.set()
        self._target = port
        self.isolated = ISOLATED in os.environ
        if self.isolated:
            self.port = port
            return
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def cut(self, *, mend: bool = False) -> None:
        """Let nothing through, or everything again."""
        if self.isolated:
            subprocess.run([tool("ip"), "link", "set", "lo", "up" if mend else "down"], check=True)
        elif mend:
            self._through.set()
        else:
            self._through.clear()

    def _serve(self) -> None:
        while True:
            near = self._server.accept()[0]
            try:
                far = socket.create_connection(("127.0.0.1", self._target), 1)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._through.wait()
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Disk:
    """Where the outbox lies."""

    def __init__(self, folder: Path) -> None:
        """Make it."""
        self.isolated = ISOLATED in os.environ
        self._folder = folder / "state"
        self._folder.mkdir()
        if self.isolated:
            size = f"size={DISK_BYTES}"
            subprocess.run([tool("mount"), "-t", "tmpfs", "-o", size, "none", str(self._folder)], check=True)

    def close(self) -> None:
        """Let its folder be removed."""
        if self.isolated:
            subprocess.run([tool("umount"), str(self._folder)], check=True)

    def fill(self, pid: int) -> None:
        """Take the room away from a process."""
        if self.isolated:
            with (self._folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
                for size in (65536, 1):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(size))
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def empty(self, pid: int) -> None:
        """Give it back."""
        if self.isolated:
            (self._folder / "filler").unlink()
        else:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


class Publisher:
    """Starts `benchmarks.mqtt_publisher` again and again, and keeps all that it says."""

    def __init__(self, folder: Path, port: int, rate: float) -> None:
        """Start it."""
        self._folder, self._port, self._rate = folder, port, rate
        self.published: dict[str, float] = {}
        self.acknowledged: dict[str, float] = {}
        self.commits: list[float] = []
        self.told: list[tuple[str, float]] = []
        self.given_up: set[str] = set()
        self.kills: dict[int, float] = {}
        """Count of starts -> monotonic seconds at which that one was killed."""
        self.start()

    @property
    def pid(self) -> int:
        """Of the one that runs."""
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait for its first event."""
        before = len(self.published)
        options = [str(self._port), str(self._folder), str(self._rate)]
        command = [sys.executable, "-m", "benchmarks.mqtt_publisher", *options]
        with (self._folder / "publisher.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, bufsize=1
            )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        if not until(lambda: len(self.published) > before, STARTED):
            raise UnavailableError(
                f"the publisher does not start: {(self._folder / 'publisher.log').read_text()[-500:]}"
            )

    def kill(self) -> None:
        """With -9, at once."""
        self._process.kill()
        at = time.monotonic()
        self._end()
        self.kills[int(max(self.published).split("-")[1])] = at

    def finish(self) -> None:
        """End it in an orderly way."""
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        self._process.stdin.close()
        self._end()

    def tell(self, command: str) -> None:
        """Give it a command."""
        assert self._process.stdin is not None  # noqa: S101  # it is a pipe
        self._process.stdin.write(command + "\n")

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def waiting(self) -> int:
        """Events that were published and not acknowledged, those that nobody has any more included."""
        return len(self.published) - len(self.acknowledged)

    def _end(self) -> None:
        self._process.wait(30)
        self._reader.join(10)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101  # it is a pipe
        for line in process.stdout:
            kind, what, at = line.split()
            if kind == "P":
                self.published[what] = float(at)
            elif kind == "A":
                self.acknowledged.setdefault(what, float(at))
            elif kind == "C":
                self.commits.append(float(what))
            elif kind == "G":
                self.given_up.add(what)
            else:
                self.told.append((what, float(at)))


class Subscriber:
    """Keeps the ids of all events that the broker passes on, in the order of their arrival."""

    def __init__(self, port: int) -> None:
        """Subscribe, in a session that outlasts the connection."""
        self.ids: list[str] = []
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "subscriber", protocol=MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]  # paho takes parts of a second too
        self._client.on_connect = lambda client, *_: client.subscribe(f"mien/{DEVICE}/event", qos=1)
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._keep
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, keepalive=5, clean_start=False, properties=session)
        self._client.loop_start()
        if not ready.wait(10):
            raise UnavailableError("the subscriber could not subscribe")

    def _keep(self, _: Client, __: object, message: MQTTMessage) -> None:
        self.ids.append(id_of(message.payload.decode()))

    def close(self) -> None:
        """Go."""
        self._client.disconnect()
        self._client.loop_stop()


def until(happened: Callable[[], bool], seconds: float) -> bool:
    """Wait until something has happened; False where it has not after so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
