"""Many devices on one broker: how old their events are when a subscriber has them, and how many are missing.

python -m benchmarks.mqtt_fleet [--devices 200] [--rate 2] [--seconds 600] [--write docs/mqtt-fleet.md] [--json]

Starts mosquitto on the loopback interface, one subscriber, and in a few processes the daemon's own publishing code
(`edge.sinks.mqtt.MqttSink` with an outbox on disk, `edge.events.Reporter`, `edge.health.Health`), once for each device.
The cameras are scripted: who looks how is made up, since 200 of them would leave this machine no time to publish. Ends
with 1 where a figure falls short, 69 where mosquitto is not installed.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from paho.mqtt import __version__ as paho_version
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.daemon_process import serving
from benchmarks.telling import aligned, complain, options, tell
from edge.bench_report import machine, versions
from edge.commandline import guarded
from edge.errors import MienError, UnavailableError
from edge.events import Event, Reporter
from edge.frame import Box, Face, Frame
from edge.health import Health, Queue
from edge.labels import FER2013_LABELS
from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import Access
from edge.smoothing import Reading

PROCESSES = 4
"""That publish; each has so many devices' share of threads, which wait for most of the time."""

BASE = "mien"
MODEL = "mien-v1-48@3f9c21d0"
SIZE = (640, 480)

HEALTH_SECONDS = 60.0
CONNECT_SECONDS = 60.0
DRAIN_SECONDS = 60.0
"""How long the last events may take, after the last one's publication."""

MOST_DELAY = 0.250
"""Seconds from `publish` until a subscriber has the event, 99th percentile."""
LEAST_RATE = 0.99
"""Of the events that were asked for in a second, so many must have been published, else too little was asked."""

HEAD = ("figure", "measured", "goal")

ABOUT = """\
# Many devices on one broker

Made by `python -m benchmarks.mqtt_fleet --write {path}`: {devices} devices with {rate:g} events/s each for
{seconds:.0f} s, one mosquitto with `max_queued_messages 0` and `set_tcp_nodelay true`, and one subscriber to
`{base}/+/event` (QoS 1), all on this one machine over the loopback interface.

{machine}

{table}

- *A device* is the daemon's own publishing code with an outbox on disk, a last will and a connection of its own: for
  each event the event itself and the retained `state`, both with QoS 1, and `health` every {health:g} s. They share
  {processes} processes, with {share} devices and {threads} threads in each. What the cameras see is scripted and no
  picture is looked at: so many cameras would leave this machine no time to publish.
- *Delay*: from just before `publish` is called until the subscriber, a process of its own, has the message; both
  read the same monotonic clock. Events are due at times spread evenly over each period, whether or not earlier ones
  have arrived.
- *Lateness*: how much later than it was due an event was published. It belongs to the devices' scripts, which share
  {cores} cores with everything else here, and is not in the delay.
- *Missing*: published and not received within {drain:g} s of the last one. *Twice*: received more than once, which at
  least once allows; *out of order*: received before an earlier one of the same device.
- *Processor time* is user and system time over the time that passed; 1.0 is one core in full.
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for: devices, events per second of each, and seconds."""

    devices: int
    rate: float
    seconds: float


@dataclass(slots=True)
class Published:
    """What one process's devices did. Times are monotonic seconds.

    Attributes:
        sent: (id, time of publication, seconds behind schedule) of each event.
        lost: events that the sinks gave up, that the broker did not take and that still wait, counted together.
        cpu: processor seconds while events were published.
        threads: how many there were meanwhile.
        problems: what the sinks said when they were closed.
    """

    sent: list[tuple[str, float, float]] = field(default_factory=list)
    lost: int = 0
    cpu: float = 0.0
    threads: int = 0
    problems: list[str] = field(default_factory=list)


class Camera:
    """A scripted scene: one face whose expression changes with each look."""

    def __init__(self, device: str) -> None:
        self._random = random.Random(device)  # noqa: S311  # the same scene each time
        self._frame = Frame(np.zeros(SIZE[::-1], np.uint8), 0.0, 0)
        self._shown = 0
        self._reporter = Reporter(
            device=device,
            labels=FER2013_LABELS,
            model=MODEL,
            start=1,
            every=0.0,
            now=lambda _: datetime.now(UTC),
            clock_synced=lambda: True,
        )

    def look(self) -> Event:
        """The event of the next look."""
        self._shown = (self._shown + self._random.randrange(1, len(FER2013_LABELS))) % len(FER2013_LABELS)
        logits = np.array([self._random.gauss(0.0, 1.0) for _ in FER2013_LABELS])
        logits[self._shown] = logits.max() + 1.0
        scores = np.exp(logits) / np.exp(logits).sum()
        reading = Reading(FER2013_LABELS[self._shown], float(scores.max()), scores.astype(np.float32))
        x, y = self._random.randrange(400), self._random.randrange(300)
        [event] = self._reporter.update(self._frame, [(Face(Box(x, y, 118, 118), 1), reading)])
        return event


def schedule(count: int, rate: float, seconds: float) -> Iterator[tuple[float, int]]:
    """(seconds from the start, which device) of each event, in order; devices take turns within each period."""
    for turn in range(round(seconds * rate)):
        for device in range(count):
            yield (turn + device / count) / rate, device


class Device:
    """One daemon without its camera and model."""

    def __init__(self, name: str, port: int, folder: Path) -> None:
        access = Access(Broker("127.0.0.1", port, tls=False), client_id=f"mien-{name}")
        self.sink = MqttSink(access, Outbox(folder / f"outbox-{name}.sqlite"), device=name, base=BASE)
        self.camera = Camera(name)
        self.health = Health(
            device=name,
            model=MODEL,
            live=True,
            queues=lambda: {"mqtt": Queue(self.sink.unsent, self.lost)},
            outbox=lambda: self.sink.unsent,
        )

    @property
    def lost(self) -> int:
        """Events given up, by us or by the broker."""
        return self.sink.dropped + self.sink.rejected

    def tell_health(self) -> None:
        """As the daemon does every minute."""
        self.sink.tell_health(lambda: self.health.snapshot().to_json())


def publish(port: int, folder: Path, names: Sequence[str], plan: Plan, pipe: Connection) -> None:
    """In a process of its own: be these devices, say when they are connected, and begin at the time that is told."""
    done = Published()
    with ExitStack() as stack:
        devices = [Device(name, port, folder) for name in names]
        for device in devices:
            stack.callback(device.sink.close, timeout=0)
        connected = all(device.sink.wait_connected(CONNECT_SECONDS) for device in devices)
        pipe.send(connected)
        if connected:
            _publish(devices, plan, pipe.recv(), done)
            _close([device.sink for device in devices], done)
            done.lost = sum(device.lost + device.sink.unsent for device in devices)
    pipe.send(done)


def _publish(devices: Sequence[Device], plan: Plan, start: float, done: Published) -> None:
    done.threads = threading.active_count()
    before = time.process_time()
    healthy = [start + HEALTH_SECONDS * index / len(devices) for index in range(len(devices))]
    for after, index in schedule(len(devices), plan.rate, plan.seconds):
        device, due = devices[index], start + after
        event = device.camera.look()
        if (rest := due - time.monotonic()) > 0:
            time.sleep(rest)
        now = time.monotonic()
        device.sink.publish(event)
        done.sent.append((event.id, now, now - due))
        device.health.looked(now, faces=1, events=1, skipped=0)
        if now >= healthy[index]:
            healthy[index] += HEALTH_SECONDS
            device.tell_health()
    done.cpu = time.process_time() - before


def _close(sinks: Sequence[MqttSink], done: Published) -> None:
    def close(sink: MqttSink) -> None:
        try:
            sink.close(DRAIN_SECONDS)
        except MienError as error:
            done.problems.append(str(error))

    with ThreadPoolExecutor(len(sinks)) as pool:
        list(pool.map(close, sinks))


def subscribe(port: int, pipe: Connection) -> None:
    """In a process of its own: keep (id, monotonic seconds) of every event until the number that is told has come."""
    arrived: list[tuple[str, float]] = []
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, "reader", protocol=MQTTv5)
    client.on_message = lambda _, __, message: arrived.append((json.loads(message.payload)["id"], time.monotonic()))
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.subscribe(f"{BASE}/+/event", qos=1)
    pipe.send(ready.wait(CONNECT_SECONDS))
    expected = pipe.recv()
    until = time.monotonic() + DRAIN_SECONDS
    while len(arrived) < expected and time.monotonic() < until:
        time.sleep(0.1)
    time.sleep(1.0)  # what comes twice comes later
    client.disconnect()
    client.loop_stop()
    pipe.send(arrived)


def judge(plan: Plan, published: Sequence[Published], arrived: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """What came of it.

    Args:
        plan: what was asked for.
        published: of each process.
        arrived: id and time of each message that the subscriber had, in that order.
    """
    sent = {id_: at for done in published for id_, at, _ in done.sent}
    if not sent:
        raise MienError("nothing was published; ask for more seconds (--seconds)")
    received = Counter(id_ for id_, _ in arrived)
    delays = [at - sent[id_] for id_, at in dict(reversed(arrived)).items() if id_ in sent]
    took = max(sent.values()) - min(sent.values()) + 1 / (plan.rate * plan.devices)
    return {
        "devices": plan.devices,
        "rate": plan.rate,
        "seconds": took,
        "published": len(sent),
        "per_second": len(sent) / took,
        "received": len(received),
        "missing": len(sent.keys() - received.keys()),
        "twice": sum(received.values()) - len(received),
        "out_of_order": out_of_order([id_ for id_, _ in arrived]),
        "given_up": sum(done.lost for done in published),
        "delay": percentiles(delays),
        "lateness": percentiles([late for done in published for _, _, late in done.sent]),
        "cpu_devices": sum(done.cpu for done in published) / took,
        "threads": max(done.threads for done in published),
        "problems": [problem for done in published for problem in done.problems],
    }


def out_of_order(ids: Sequence[str]) -> int:
    """How many came behind a later one of their device; an id that came before does not count again."""
    newest: dict[str, str] = {}
    seen: set[str] = set()
    late = 0
    for id_ in ids:
        device = id_.rsplit("-", 2)[0]
        late += id_ not in seen and id_ < newest.get(device, "")
        newest[device] = max(id_, newest.get(device, ""))
        seen.add(id_)
    return late


def percentiles(seconds: Sequence[float]) -> dict[str, float] | None:
    """Of durations, in seconds; None where there are none."""
    if not seconds:
        return None
    values = np.percentile(seconds, (50, 95, 99, 100)).tolist()
    return dict(zip(("p50", "p95", "p99", "max"), values, strict=True))


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """The lines of the table."""

    def spread(values: Mapping[str, float] | None) -> str:
        if values is None:
            return "-"
        p50, p95, p99, most = (values[key] * 1000 for key in ("p50", "p95", "p99", "max"))
        return f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, longest {most:.0f} ms"

    asked = told["devices"] * told["rate"]
    return [
        ["events published", f"{told['published']:,}, {told['per_second']:.1f}/s", f"{asked:g}/s"],
        ["delay from publish() to a subscriber", spread(told["delay"]), f"p99 under {MOST_DELAY * 1000:.0f} ms"],
        ["missing", f"{told['missing']:,}", "0"],
        ["given up by the devices", f"{told['given_up']:,}", "0"],
        ["twice", f"{told['twice']:,}", ""],
        ["out of order", f"{told['out_of_order']:,}", "0"],
        ["lateness of the scripts", spread(told["lateness"]), ""],
        ["processor time, devices", f"{told['cpu_devices']:.2f} cores", ""],
        ["processor time, mosquitto", f"{told['cpu_broker']:.2f} cores", ""],
    ]


def shortcomings(told: Mapping[str, Any]) -> list[str]:
    """What the figures fall short of."""
    asked = told["devices"] * told["rate"]
    short = [f"{told[what]} {what.replace('_', ' ')}" for what in ("missing", "given_up", "out_of_order") if told[what]]
    if told["per_second"] < LEAST_RATE * asked:
        short.append(f"{told['per_second']:.1f} events/s were published, not {asked:g}: this machine is too busy")
    if told["delay"] is None or told["delay"]["p99"] >= MOST_DELAY:
        short.append(f"the delay's 99th percentile is not under {MOST_DELAY * 1000:.0f} ms")
    return short + told["problems"]


def measure(plan: Plan) -> dict[str, Any]:
    """One run: broker, subscriber, devices."""
    names = [f"device-{index:04d}" for index in range(plan.devices)]
    start_process = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with serving(Path(folder), "max_queued_messages 0") as port, ExitStack() as stack:
            if port is None:
                raise UnavailableError("this needs mosquitto: apt-get install mosquitto")

            def start(target: Any, *arguments: Any) -> Connection:
                ours, theirs = start_process.Pipe()
                process = start_process.Process(target=target, args=(port, *arguments, theirs), daemon=True)
                process.start()
                theirs.close()
                stack.callback(process.join, 10)
                return ours

            reader = start(subscribe)
            parts = [names[index::PROCESSES] for index in range(min(PROCESSES, plan.devices))]
            devices = [start(publish, Path(folder), part, plan) for part in parts]
            if not all(_hear(pipe) for pipe in [reader, *devices]):
                raise MienError("not all could connect to mosquitto; try fewer devices (--devices)")
            begin = time.monotonic() + 1.0
            # Each process has every fourth device, so their turns are laid one after the other.
            for index, pipe in enumerate(devices):
                pipe.send(begin + index / (plan.rate * plan.devices))
            published = [_hear(pipe) for pipe in devices]
            reader.send(sum(len(done.sent) for done in published))
            told = judge(plan, published, _hear(reader))
            stack.close()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)  # with mosquitto's, which has just ended
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return told | {"cpu_broker": used / told["seconds"], "machine": machine(), "versions": versions()}


def _hear(pipe: Connection) -> Any:
    try:
        return pipe.recv()
    except EOFError:
        raise MienError("a process of the benchmark has died; what it said stands above") from None


def page(told: Mapping[str, Any], table: str, path: Path) -> str:
    """The figures as Markdown."""
    where = told["machine"]
    used = ", ".join(map(" ".join, (told["versions"] | {"paho-mqtt": paho_version}).items()))
    return ABOUT.format(
        path=path, devices=told["devices"], rate=told["rate"], seconds=told["seconds"], base=BASE, table=table,
        machine=f"{where['processor']}, {where['cores']} cores, load {where['load']:.1f} with other programs; {used}",
        health=HEALTH_SECONDS, processes=PROCESSES, share=-(-told["devices"] // PROCESSES), threads=told["threads"],
        cores=where["cores"], drain=DRAIN_SECONDS,
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=200, help="how many (200)")
    parser.add_argument("--rate", type=float, default=2.0, help="events per second of each (2)")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (600)")
    args = parser.parse_args()
    if args.devices < 1 or args.rate <= 0 or args.seconds <= 0:
        parser.error("--devices, --rate and --seconds must be greater than 0")
    told = measure(Plan(args.devices, args.rate, args.seconds))
    table = aligned([HEAD, *rows(told)])
    tell(args, told, table, page)
    return complain(shortcomings(told))


if __name__ == "__main__":
    sys.exit(guarded("mqtt_fleet", main))
