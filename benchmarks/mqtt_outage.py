"""A day without a broker: what is kept, how soon it is there afterwards, and what all that costs.

python -m benchmarks.mqtt_outage [--events 172800] [--rounds 12] [--write docs/mqtt-outage.md] [--json]

Starts mosquitto on the loopback interface, the daemon's own publishing code in a process of its own, and two
subscribers; then vision, with MQTT and without. Ends with 1 where a figure falls short, 69 where mosquitto is not
installed.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from math import inf, isfinite
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from paho.mqtt import __version__ as paho_version

from benchmarks import mqtt_vision
from benchmarks.daemon_process import free_port, serving
from benchmarks.mqtt_device import APART, DEVICE, LIVE_EVERY, Heard, Outage, be_device, listen
from benchmarks.mqtt_fleet import BASE, out_of_order, percentiles
from benchmarks.telling import aligned, complain, options, tell
from edge.bench_report import machine, versions
from edge.commandline import guarded
from edge.errors import MienError, UnavailableError

CONNECTED = 2000
"""Events before the outage, one after the other."""

LEAST_DRAIN = 2000.0
"""Events per second."""
MOST_STALE = 1.0
"""Seconds from the connection, or from an event's publication, until `state` and `health` show how things are."""
SLACK = 0.1
"""Seconds that the device may be late to see that it is connected."""
MOST_GROWTH = 5_000_000
"""Bytes by which the process may be larger in the outage than before it; the events alone are many times that."""

HEAD = ("figure", "measured", "goal")

ABOUT = """\
# A day without a broker

Made by `python -m benchmarks.mqtt_outage --write {path}`: the daemon's own publishing code (`MqttSink`
with its outbox on disk, in a process of its own), a mosquitto with `max_queued_messages 0` on the loopback interface,
and two subscribers (QoS 1), one to `{base}/{device}/event` and one to `state` and `health`.

{machine}

{table}

- *The outage*: mosquitto is killed after the first {connected:,} events, {away:,} more are published, two a second by
  the clock that the outbox is given, and mosquitto is started again, without persistence. That clock runs ahead: the
  day passed in {away_s:.0f} s. The outbox commits once in each of its seconds, as it does in a real day, so there were
  {commits:,} commits of two events each; what is on disk, and what is written to it, is what a real day leaves. What
  the camera sees is scripted. The outbox took {disk:.1f} MB in the end.
- *Drained*: from the moment that mosquitto has let the device in until no event waits for its PUBACK; and from then
  until the subscriber has the last of those that had waited. Meanwhile an event is published every {live:g} s.
- *`state` at the connection*: the first message after the connection that shows the outage's last event. *During the
  drain*: from just before `publish` is called until the first `state` that shows this event, or a later one. *`health`*
  must have been made after the connection, by its `ts`. All times are those of the subscriber, on one monotonic clock.
- *Missing*: of all events published since the outage began. *Twice* is what at least once allows.
- *Resident memory* is the kernel's `VmRSS` of the whole process, numpy for the script included.
- *Processor time* is user and system time of all threads, without the thread that makes up events and waits (but with
  its calls of `publish`), over the number of events. Connected, an event is published, with `state`, when the one
  before has been acknowledged, one every {apart:g} ms; so they share nothing, as at two a second. Away, it is stored;
  the kernel's own threads, which write, are not in it.
- *Written* is `write_bytes` in `/proc/self/io`: whole pages of 4 KiB that the process had the kernel write, the
  outbox's log and its checkpoints included, the file system's own journal not. Of a file system in memory it says 0.
- *Vision*: {rounds} turns of {frames} frames of each kind, in changing order, in one process; 640x480 at {fps}
  frames/s, four faces, {events_per_second:.0f} events/s, each with a log. It is the time of a frame until its events
  have been handed to the sinks. The 99th percentile is of all turns together; after its ratio to that of both kinds
  without MQTT stands where 95 of 100 such ratios lie when turns are drawn anew, in pairs. *No MQTT, again* over *no
  MQTT* is noise alone: a change shows where a ratio's whole interval lies above 1 and the ratio beyond that noise.
"""


def judge(told: Outage, events: Heard, documents: Heard) -> dict[str, Any]:
    """What came of the outage.

    Args:
        told: by the device.
        events: what the subscriber to `event` had, from the end of the outage on.
        documents: what the one to `state` and `health` had.

    Raises:
        MienError: a subscriber came later than the device, so nothing can be said.
    """
    if max(events.listening_since, documents.listening_since) > told.connected_at:
        raise MienError("the device was connected before the subscribers; run it again")
    live = {id_ for id_, _, _ in told.live}
    ids = [id_ for _, _, id_ in events.messages]
    received = Counter(ids)
    newest = told.published - len(live)
    waited = {f"{DEVICE}-000001-{number:010d}" for number in range(newest - told.waited + 1, newest + 1)}
    arrivals = [at for _, at, id_ in events.messages if id_ in waited]
    drained = told.drained_at - told.connected_at
    states = [(at, ts) for topic, at, ts in documents.messages if topic == "state"]
    delays = [shown(states, ts) - at for _, at, ts in told.live]
    fresh = told.connected_ts - SLACK
    healths = [at for topic, at, ts in documents.messages if topic == "health" and _unix(ts) >= fresh]
    return {
        "waited": told.waited,
        "disk": told.disk,
        "drain_puback": (told.waited + len(live)) / drained,
        "drain_subscriber": len(arrivals) / (max(arrivals) - told.connected_at) if arrivals else 0.0,
        "missing": len((waited | live) - received.keys()),
        "twice": received.total() - len(received),
        "out_of_order": out_of_order(ids),
        "lost": told.lost,
        "left": told.left,
        "state_at_connection": max(0.0, shown(states, told.newest) - told.connected_at),
        "live": len(live),
        "state_delay": percentiles(delays) if all(map(isfinite, delays)) else None,
        "health": max(0.0, min(healths, default=inf) - told.connected_at),
        "memory": {"before": told.before, "outage": told.peak, "drain": told.peak_drain},
        "costs": {"connected": asdict(told.connected), "away": asdict(told.away), "drained": asdict(told.drained)},
    }


def shown(states: Sequence[tuple[float, str]], ts: str) -> float:
    """When there was first a state as new as a `ts`, among (time, `ts`) in the order of arrival; infinity: never."""
    return next((at for at, newest in states if newest >= ts), inf)


def _unix(ts: str) -> float:
    return datetime.fromisoformat(ts).timestamp()


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """The lines of the table."""
    memory, costs, vision = told["memory"], told["costs"], told["vision"]
    drain, soon = f"at least {LEAST_DRAIN:,.0f}/s", f"within {MOST_STALE:g} s"
    lines = [
        ["events that waited at the end of the outage", f"{told['waited']:,}", f"{told['away']:,}"],
        ["drained, by PUBACK", f"{told['drain_puback']:,.0f}/s", drain],
        ["drained, as a subscriber has them", f"{told['drain_subscriber']:,.0f}/s", drain],
        ["missing", f"{told['missing']:,}", "0"],
        ["given up or refused; left over", f"{told['lost']:,}; {told['left']:,}", "0; 0"],
        ["out of order", f"{told['out_of_order']:,}", "0"],
        ["twice", f"{told['twice']:,}", ""],
        ["`state` at the connection", _ms(told["state_at_connection"]), soon],
        [f"`state` of {told['live']} events during the drain", _spread(told["state_delay"]), soon],
        ["`health`, made at the connection", _ms(told["health"]), soon],
        ["resident memory before the outage", f"{memory['before'] / 1e6:.1f} MB", ""],
        ["most of it during the outage", _grown(memory, "outage"), f"at most {MOST_GROWTH / 1e6:+.0f} MB"],
        ["and while drained", _grown(memory, "drain"), ""],
    ]
    kinds = {"connected": "published, connected", "away": "stored, broker away", "drained": "drained"}
    lines += [
        [f"processor time per event {kind}", f"{cpu_per_event(costs[key]):.0f} µs", ""] for key, kind in kinds.items()
    ]
    lines += [[f"written per 1,000 events {kind}", _written(costs[key]), ""] for key, kind in kinds.items()]
    plain = vision["p99"][mqtt_vision.WITHOUT]
    lines.append([f"vision's 99th percentile, {mqtt_vision.WITHOUT}", _ms(plain), ""])
    for variant, how in vision["compared"].items():
        measured = f"{how['ratio']:.2f} times ({how['low']:.2f} to {how['high']:.2f})"
        lines.append([f"vision's, {variant}", measured, "" if variant == mqtt_vision.AGAIN else "1, within the noise"])
    return lines


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < inf else "never"


def _spread(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "not of each"
    return f"p50 {_ms(values['p50'])}, p99 {_ms(values['p99'])}, longest {_ms(values['max'])}"


def _grown(memory: Mapping[str, int], when: str) -> str:
    return f"{memory[when] / 1e6:.1f} MB ({(memory[when] - memory['before']) / 1e6:+.1f} MB)"


def cpu_per_event(cost: Mapping[str, Any]) -> float:
    """Microseconds."""
    return float(cost["cpu"] / cost["events"] * 1e6)


def _written(cost: Mapping[str, Any]) -> str:
    if cost["written"] is None:
        return "the kernel does not tell"
    return f"{cost['written'] / cost['events']:,.1f} kB"


def shortcomings(told: Mapping[str, Any]) -> list[str]:
    """What the figures fall short of."""
    short = [
        f"{told[what]:,} events {how}"
        for what, how in (
            ("missing", "are missing"), ("lost", "were given up or refused"), ("left", "were left over"),
            ("out_of_order", "came out of order"),
        )
        if told[what]
    ]  # fmt: skip
    if told["waited"] != told["away"]:
        short.append(f"{told['waited']:,} events waited at the end of the outage, not {told['away']:,}")
    for what, where in (("drain_puback", "by PUBACK"), ("drain_subscriber", "as a subscriber has them")):
        if told[what] < LEAST_DRAIN:
            short.append(f"{told[what]:,.0f} events/s were drained {where}, not {LEAST_DRAIN:,.0f}")
    stale = {"state at the connection": told["state_at_connection"], "health": told["health"]}
    stale["state during the drain"] = inf if told["state_delay"] is None else told["state_delay"]["max"]
    short += [f"{what} took {_ms(took)}, over {MOST_STALE:g} s" for what, took in stale.items() if took > MOST_STALE]
    if (grown := told["memory"]["outage"] - told["memory"]["before"]) > MOST_GROWTH:
        short.append(f"memory grew by {grown / 1e6:.1f} MB in the outage, over {MOST_GROWTH / 1e6:.0f} MB")
    for variant in (mqtt_vision.CONNECTED, mqtt_vision.AWAY):
        compared = told["vision"]["compared"]
        if mqtt_vision.is_longer(compared, variant):
            short.append(f"vision's 99th percentile, {variant}, is {compared[variant]['ratio']:.2f} times as long")
    return short


def measure(events: int, rounds: int) -> dict[str, Any]:
    """The outage, then vision."""
    with tempfile.TemporaryDirectory() as folder:
        told = outage(Path(folder), events)
    with tempfile.TemporaryDirectory() as folder:
        told["vision"] = mqtt_vision.measure(Path(folder), rounds)
    return told | {"away": events, "machine": machine(), "versions": versions()}


def outage(folder: Path, events: int) -> dict[str, Any]:
    """One device, two brokers, one after the other on the same port, and nothing in between."""
    start_process = multiprocessing.get_context("spawn")
    port, box = free_port(), folder / "device"
    box.mkdir()
    with ExitStack() as stack:

        def start(target: Any, *arguments: Any) -> Connection:
            ours, theirs = start_process.Pipe()
            process = start_process.Process(target=target, args=(port, *arguments, theirs), daemon=True)
            process.start()
            theirs.close()
            stack.callback(process.join, 10)
            return ours

        with serving(folder, port=port) as broker:
            if broker is None:
                raise UnavailableError("this needs mosquitto: apt-get install mosquitto")
            device = start(be_device, box, CONNECTED, events)
            _hear(device)
        readers = [start(listen, ["event"]), start(listen, ["state", "health"])]
        device.send("away")
        _hear(device)
        for reader in readers:
            reader.send("listen")
        device.send("connect")
        with serving(folder, "max_queued_messages 0", port=port):
            told: Outage = _hear(device)
            readers[0].send(told.waited + len(told.live))
            readers[1].send(0)
            heard: list[Heard] = [_hear(reader) for reader in readers]
    return judge(told, *heard)


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
        path=path, base=BASE, device=DEVICE, table=table, connected=CONNECTED, away=told["away"],
        machine=f"{where['processor']}, {where['cores']} cores, load {where['load']:.1f} with other programs; {used}",
        away_s=told["costs"]["away"]["seconds"], commits=told["away"] // 2, disk=told["disk"] / 1e6, live=LIVE_EVERY,
        apart=APART * 1000,
        rounds=told["vision"]["rounds"], frames=told["vision"]["frames"], fps=mqtt_vision.FPS,
        events_per_second=told["vision"]["events_per_second"],
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--events", type=int, default=172_800, help="during the outage (172800: a day's)")
    parser.add_argument("--rounds", type=int, default=12, help="turns of vision, 23 s each (12)")
    args = parser.parse_args()
    if args.events < 2 or args.rounds < 2:
        parser.error("--events and --rounds must be 2 or more")
    told = measure(args.events, args.rounds)
    table = aligned([HEAD, *rows(told)])
    tell(args, told, table, page)
    return complain(shortcomings(told))


if __name__ == "__main__":
    sys.exit(guarded("mqtt_outage", main))
