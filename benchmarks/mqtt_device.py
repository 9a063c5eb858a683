"""One daemon without its camera and model, which meets an outage; and who listens to it. Each in a process of its own.

The outbox is given a clock that runs ahead, two events a second, so that a day passes in a minute. What it does in a
second of that clock it does in a second of a real day: one commit at most, of the events that came in since the last.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.daemon_process import memory_of
from benchmarks.mqtt_fleet import BASE, MODEL, Camera
from edge.errors import MienError, UnavailableError
from edge.events import Event
from edge.health import Health, Queue
from edge.outbox import WAIT, Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import Access

DEVICE = "bench"

LIVE_EVERY = 0.1
"""Seconds between two events that are published while what has waited is drained."""

PATIENCE = 60.0
"""Seconds that a connection, the loss of one, or the next event may take; twice the longest pause between attempts."""

DRAIN_SECONDS = 600.0

APART = 0.005
"""Seconds between two events while the broker is there: the one before has long been acknowledged."""

LOOK = 0.0002
"""Seconds between two looks at how far the sink is."""


@dataclass(slots=True)
class Cost:
    """What a number of events took.

    Attributes:
        events: how many.
        cpu: seconds of processor time, without those of the script that makes the events up and waits.
        written: bytes that the kernel will have written for this process; None where it does not tell.
        seconds: that passed.
    """

    events: int = 0
    cpu: float = 0.0
    written: int | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Outage:
    """What the device tells. Times are monotonic seconds, those in `made` and `connected_ts` of the Unix epoch.

    Attributes:
        connected: cost while the broker was there.
        away: while it was not.
        drained: while what had waited went out.
        before: bytes resident before the outage.
        peak: the most during it.
        peak_drain: the most while it was drained.
        waited: events that waited for the broker at its end.
        disk: bytes of the outbox's files then.
        connected_at: when the broker let us in again.
        connected_ts: the same.
        drained_at: when nothing waited any more.
        newest: `ts` of the last event before the broker was there again.
        live: (id, when it was published, its `ts`) of each event that came in while the others went out.
        published: events, in all.
        lost: given up or refused.
        left: still waiting at the end.
    """

    connected: Cost = field(default_factory=Cost)
    away: Cost = field(default_factory=Cost)
    drained: Cost = field(default_factory=Cost)
    before: int = 0
    peak: int = 0
    peak_drain: int = 0
    waited: int = 0
    disk: int = 0
    connected_at: float = 0.0
    connected_ts: float = 0.0
    drained_at: float = 0.0
    newest: str = ""
    live: list[tuple[str, float, str]] = field(default_factory=list)
    published: int = 0
    lost: int = 0
    left: int = 0


@dataclass(slots=True)
class Heard:
    """What a listener tells: (topic, monotonic seconds, `id` of an event or `ts` of a document) of each message."""

    listening_since: float = 0.0
    messages: list[tuple[str, float, str]] = field(default_factory=list)


class Clock:
    """Monotonic seconds that pass when they are told to, until `run` sets them going by themselves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """The time."""
        return self.now if self._since is None else self.now + time.monotonic() - self._since

    def run(self) -> None:
        """Go on as time does."""
        self._since = time.monotonic()


def steps(events: int) -> Iterator[float]:
    """Seconds by which the clock goes on before each event: two a second, the second when the commit is due."""
    for number in range(events):
        yield WAIT if number % 2 else 1.0 - WAIT


class Device:
    """The publishing half of a daemon, and a script in place of the other."""

    def __init__(self, port: int, folder: Path) -> None:
        self.clock = Clock()
        self.folder = folder
        access = Access(Broker("127.0.0.1", port, tls=False), client_id=f"mien-{DEVICE}")
        self.sink = MqttSink(access, Outbox(folder / "outbox.sqlite", clock=self.clock), device=DEVICE, base=BASE)
        self.published = 0
        self._camera = Camera(DEVICE)
        self._driving = 0.0
        health = Health(device=DEVICE, model=MODEL, live=True, queues=self._queues, outbox=lambda: self.sink.unsent)
        self.sink.tell_health(lambda: health.snapshot().to_json())

    def _queues(self) -> dict[str, Queue]:
        return {"mqtt": Queue(self.sink.unsent, self.sink.dropped + self.sink.rejected)}

    def publish(self) -> Event:
        """The next event; what `publish` takes is not the script's."""
        event = self._camera.look()
        before = time.thread_time()
        self.sink.publish(event)
        self._driving -= time.thread_time() - before
        self.published += 1
        return event

    @contextmanager
    def costing(self, cost: Cost) -> Iterator[None]:
        """Add up what happens meanwhile."""
        began, cpu, thread, written = time.monotonic(), time.process_time(), time.thread_time(), written_bytes()
        count, self._driving = self.published, 0.0
        yield
        driving = self._driving + time.thread_time() - thread
        cost.cpu = time.process_time() - cpu - driving
        cost.seconds = time.monotonic() - began
        cost.events = self.published - count
        after = written_bytes()
        cost.written = None if written is None or after is None else after - written

    def await_link(self, *, up: bool) -> None:
        """Wait until the broker has let us in, or has gone."""
        until = time.monotonic() + PATIENCE
        while self.sink.connected != up:
            if time.monotonic() > until:
                raise UnavailableError(f"the device is {'not connected' if up else 'still connected'}")
            time.sleep(0.001)


def be_device(port: int, folder: Path, connected: int, away: int, pipe: Connection) -> None:
    """Publish `connected` events to a broker and `away` ones to none; at each stage say so, and wait for a word."""
    device, told = Device(port, folder), Outage()
    device.await_link(up=True)
    with device.costing(told.connected):
        for step in steps(connected):
            device.clock.now += step
            device.publish()
            time.sleep(APART)
            _until(lambda: not device.sink.unsent)
    told.before = resident()
    _say(pipe, "published")
    device.await_link(up=False)
    with device.costing(told.away):
        _weather(device, away, told)
    told.waited = device.sink.unsent
    told.disk = sum(file.stat().st_size for file in folder.iterdir())
    device.clock.run()
    _say(pipe, "away")
    device.await_link(up=True)
    told.connected_at, told.connected_ts = time.monotonic(), time.time()
    with device.costing(told.drained):
        _drain(device, told)
        time.sleep(1.1)  # the commit that strikes the last ones out
    told.drained.events = told.waited + len(told.live)
    told.published, told.left = device.published, device.sink.unsent
    told.lost = device.sink.dropped + device.sink.rejected
    device.sink.close()
    pipe.send(told)


def _weather(device: Device, events: int, told: Outage) -> None:
    begun = device.published
    for number, step in enumerate(steps(events), 1):
        device.clock.now += step
        told.newest = device.publish().ts
        _until(lambda: device.sink.unsent >= device.published - begun)
        if number % 100 == 0 or number == events:
            told.peak = max(told.peak, resident())
    device.clock.now += 1.0
    time.sleep(0.1)


def _drain(device: Device, told: Outage) -> None:
    due, until = told.connected_at, time.monotonic() + DRAIN_SECONDS
    while device.sink.unsent and time.monotonic() < until:
        if (now := time.monotonic()) >= due:
            due += LIVE_EVERY
            event = device.publish()
            told.live.append((event.id, now, event.ts))
        told.peak_drain = max(told.peak_drain, resident())
        time.sleep(0.002)
    told.drained_at = time.monotonic()


def _until(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > limit:
            raise MienError("the sink does not get on")
        time.sleep(LOOK)


def _say(pipe: Connection, stage: str) -> None:
    pipe.send(stage)
    pipe.recv()


def resident() -> int:
    """Bytes of this process, libraries that others share included."""
    return memory_of(Path("/proc/self/status").read_text(encoding="utf-8"))["VmRSS"]


def written_bytes() -> int | None:
    """Bytes that this process had the kernel write to a disk; None where it does not tell."""
    try:
        lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def listen(port: int, topics: Sequence[str], pipe: Connection) -> None:
    """Subscribe as soon as there is a broker, and keep all that comes until so many events are there as are told."""
    raw: list[tuple[str, float, bytes]] = []
    heard, ready = Heard(), threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, f"reader of {' '.join(topics)}", protocol=MQTTv5)
    client.on_message = lambda _, __, message: raw.append((message.topic, time.monotonic(), bytes(message.payload)))
    client.on_subscribe = lambda *_: ready.set()
    pipe.recv()
    _connect(client, port)
    client.loop_start()
    client.subscribe([(f"{BASE}/{DEVICE}/{topic}", 1) for topic in topics])
    if not ready.wait(PATIENCE):
        raise UnavailableError("mosquitto does not answer a subscriber")
    heard.listening_since = time.monotonic()
    expected, until = pipe.recv(), time.monotonic() + PATIENCE
    while len(raw) < expected and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1.0)  # what comes twice comes later
    client.disconnect()
    client.loop_stop()
    for topic, at, payload in raw:
        told = json.loads(payload)
        heard.messages.append((topic.rpartition("/")[2], at, told.get("id") or told["ts"]))
    pipe.send(heard)


def _connect(client: Client, port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            client.connect("127.0.0.1", port)
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.005)
        else:
            return
