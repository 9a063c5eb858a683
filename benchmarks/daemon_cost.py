"""What the running daemon costs: processor time of a quiet scene, memory, and how old an event is when it arrives.

python -m benchmarks.daemon_cost [--frames N] [--seconds N] [--write docs/daemon.md] [--json]

Starts `mien run` as a process of its own, with the shipped model, a log and, where mosquitto is installed, a broker on
the loopback interface. Its camera is the synthetic one. Ends with 1 where a figure falls short.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.daemon_process import POLL, Arrivals, cpu_seconds, follow, memory_of, running, serving, subscribed
from benchmarks.telling import aligned, complain, options, tell
from edge.bench_report import machine, versions
from edge.camera import open_camera
from edge.commandline import guarded
from edge.errors import MienError
from edge.model import open_model

LITERT = "ai-edge-litert"

QUIET_FPS = 15
QUIET = f"synthetic:script=empty,fps={QUIET_FPS},realtime=1,seconds=0"
MOST_QUIET = 0.02
"""Of one core, the drawing of the scene included."""

LIVE_FPS = 30
LIVE = {
    "four faces": f"synthetic:faces=4,noise=2,fps={LIVE_FPS},realtime=1,seconds=0",
    "cuts": f"synthetic:script=cut,fps={LIVE_FPS},realtime=1,seconds=0",
}
"""Name -> source; with a cut every two seconds one frame in 60 is searched whole, which a 99th percentile shows."""
MOST_DELAY = 2 / LIVE_FPS
"""Seconds from capture to event, 99th percentile."""

BUSY = "synthetic:script=pan,size=320x240,fps={fps:g},realtime={realtime},seconds={seconds:.6g}"
"""Four people in a wide room before a camera that turns to and fro: they come and go all the time."""
BUSY_LIVE_FPS = 200
BUSY_SETTINGS = "[report]\nevery = 0.5\n[log]\nmax_bytes = 100000\nkeep = 2\n"
"""Events often enough, and a log that turns over every few hundred of them."""
MOST_GROWTH = 1_000_000
"""Bytes, from the first tenth of the frames after warm-up to the last one; medians."""
MOST_RESIDENT = 150_000_000

WARM_UP = 10_000
"""Frames before those over which memory is watched: all code that the scene needs has been paged in by then."""
SETTLE = 5.0
"""Seconds of a live scene that are left out: the first search of everything, and the broker's greeting."""
SAMPLE = 0.2
"""Seconds between two looks at a process's memory."""

HEAD = ("figure", "measured", "goal")

ABOUT = """\
# What the running daemon costs

Made by `python -m benchmarks.daemon_cost --write {path}`, which starts `mien run` as a process of its own
with the shipped model, a log and {broker}, before the synthetic camera, and looks at it from
outside.

{machine}

{table}

- *Quiet scene*: an empty room, 640x480 at {quiet_fps} frames/s with a sensor's noise of 2 grey levels, for
  {quiet_s:.0f} s; user and system time of all threads over the time that passed. *Drawing* is what the synthetic camera
  alone takes for such a scene, measured by itself; it is part of the figure above it, and on a device the camera's
  driver takes its place.
- *Memory* is what the kernel calls resident (`VmRSS`, its peak `VmHWM`), libraries that other programs share included;
  1 MB is 1,000,000 bytes. *Growth* is the median of the last tenth of the frames less that of the first tenth after
  a warm-up of {warm_up:,} more, and the slope is that of a line through all samples between (one every {sample:g} s).
  The scene: four people in a wide room, 320x240, whom a camera that turns to and fro loses and finds again, with an
  event for each face twice a second and a log that starts a new file every 100 kB. *As fast as it goes*: every frame in
  order, as from a file at {live_fps} frames/s; *live*: in threads, as from a camera at {busy_fps} frames/s, where
  frames that come too soon are skipped and not counted.
- *Delay*: from the time that the frame was due at the synthetic camera, which then draws it, until another process
  that reads the log's end every {poll:g} ms has the event's whole line, and until a subscriber has it from the broker.
  640x480 at {live_fps} frames/s, an event for each face in each frame (`report.every = 0`); *cuts* shows another scene
  with other people every 2 s. Frames that a newer one replaced before vision took them are counted as skipped and have
  no events. An event's `ts` has whole milliseconds and is rounded down, so up to {slack:g} ms of
  every delay belong to the measurement.
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A process's memory at one moment: seconds, and bytes resident in all and of its own."""

    time: float
    resident: int
    own: int


def growth(samples: Sequence[Sample], warm_up: float, *, own: bool = False) -> tuple[float, float]:
    """How memory grew after the warm-up, in bytes.

    Args:
        samples: by time.
        warm_up: its share of the time, 0 to 1.
        own: what is the process's own, without files and libraries.

    Returns:
        From the first tenth to the last one, medians; and over the whole time, by the slope of a line through all.

    Raises:
        MienError: there are too few samples.
    """
    began, ended = samples[0].time, samples[-1].time
    first = began + (ended - began) * warm_up
    tenth = (ended - first) / 10
    times = [sample.time for sample in samples if sample.time >= first]
    sizes = [sample.own if own else sample.resident for sample in samples if sample.time >= first]
    head = [size for at, size in zip(times, sizes, strict=True) if at < first + tenth]
    tail = [size for at, size in zip(times, sizes, strict=True) if at > ended - tenth]
    if min(len(head), len(tail)) < 2:
        raise MienError(f"{len(samples)} looks at the daemon's memory are too few; ask for more frames (--frames)")
    slope = float(np.polyfit(np.subtract(times, first), sizes, 1)[0]) * (ended - first)
    return statistics.median(tail) - statistics.median(head), slope


def delay(line: bytes | str, seen: float) -> float:
    """Seconds from an event's capture until it was seen, at `seen` seconds of the Unix epoch."""
    return seen - datetime.fromisoformat(json.loads(line)["ts"]).timestamp()


def spread(delays: Sequence[float]) -> dict[str, float]:
    """How many, and percentiles in seconds."""
    p50, p95, p99, most = np.percentile(delays, (50, 95, 99, 100)).tolist()
    return {"events": len(delays), "p50": p50, "p95": p95, "p99": p99, "max": most}


def quiet(start: Callable[..., Any], seconds: float) -> dict[str, Any]:
    """Nobody is there: the share of one core."""
    with start(QUIET, "") as daemon:
        daemon.await_log()
        time.sleep(SETTLE)
        began, before = time.monotonic(), cpu_seconds(daemon.told("stat"))
        time.sleep(seconds)
        took, used = time.monotonic() - began, cpu_seconds(daemon.told("stat")) - before
        peak = memory_of(daemon.told("status"))["VmHWM"]
        frames, skipped = daemon.end()
    return {
        "seconds": took, "share": used / took, "drawing": drawing_share(QUIET, min(seconds, 20.0)),
        "frames": frames, "skipped": skipped, "peak": peak,
    }  # fmt: skip


def drawing_share(source: str, seconds: float) -> float:
    """The share of one core that a synthetic camera at its own pace takes by itself."""
    with open_camera(source) as camera:
        camera.read()
        began, before = time.monotonic(), time.thread_time()
        while time.monotonic() - began < seconds:
            camera.read()
        return (time.thread_time() - before) / (time.monotonic() - began)


def busy(start: Callable[..., Any], frames: int, *, live: bool) -> dict[str, Any]:
    """People come and go for so many frames, and a warm-up before them: how memory grows."""
    fps = BUSY_LIVE_FPS if live else LIVE_FPS
    source = BUSY.format(fps=fps, realtime=int(live), seconds=(frames + WARM_UP) / fps)
    samples, peak = [], 0
    with start(source, BUSY_SETTINGS) as daemon:
        daemon.await_log()
        while daemon.process.poll() is None and "VmRSS" in (now := memory_of(daemon.told("status"))):
            samples.append(Sample(time.monotonic(), now["VmRSS"], now["RssAnon"]))
            peak = now["VmHWM"]
            time.sleep(SAMPLE)
        looked, skipped = daemon.end()
        last = json.loads(daemon.log.read_bytes().splitlines()[-1])["id"]
    warm_up = WARM_UP / (frames + WARM_UP)
    grown, slope = growth(samples, warm_up)
    return {
        "frames": round(looked * (1 - warm_up)), "skipped": skipped, "events": int(last.rpartition("-")[2]),
        "samples": len(samples), "peak": peak, "growth": grown, "slope": slope,
        "growth_own": growth(samples, warm_up, own=True)[0],
    }  # fmt: skip


def latency(start: Callable[..., Any], source: str, broker: int | None, seconds: float) -> dict[str, Any]:
    """How old events are when a reader of the log and a subscriber have them."""
    logged: Arrivals = []
    received: Arrivals = []
    with start(source, "[report]\nevery = 0\n") as daemon, subscribed(broker, received):
        daemon.await_log()
        follow(daemon.log, time.monotonic() + SETTLE + seconds, logged)
        peak = memory_of(daemon.told("status"))["VmHWM"]
        frames, skipped = daemon.end()
    told: dict[str, Any] = {"frames": frames, "skipped": skipped, "peak": peak}
    for where, arrived in (("log", logged), ("mqtt", received)):
        settled = [delay(line, seen) for seen, line in arrived if seen > arrived[0][0] + SETTLE]
        if settled or where == "log":
            told[where] = spread(settled)
    return told


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """The lines of the table."""
    calm = told["quiet"]
    peak = f"{told['peak'] / 1e6:.1f} MB"
    lines = [
        ["quiet scene, share of one core", f"{calm['share']:.2%}", f"at most {MOST_QUIET:.0%}"],
        ["of it drawing", f"{calm['drawing']:.2%}", ""],
        ["resident memory, peak of all runs", peak, f"at most {MOST_RESIDENT / 1e6:.0f} MB"],
    ]
    for name, run in told["memory"].items():
        frames = f"{run['frames']:,} frames, {run['events']:,} events"
        grown = f"{run['growth'] / 1e6:+.2f} MB (slope {run['slope'] / 1e6:+.2f} MB)"
        lines.append([f"growth, {name}, {frames}", grown, f"under {MOST_GROWTH / 1e6:.0f} MB"])
    for name, run in told["latency"].items():
        for where, title in (("log", "to the log"), ("mqtt", "to a subscriber")):
            if where in run:
                p50, p95, p99, most = (run[where][key] * 1000 for key in ("p50", "p95", "p99", "max"))
                measured = f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}, longest {most:.1f} ms"
                figure = f"delay {title}, {name}, {run[where]['events']:,} events, frames skipped: {run['skipped']}"
                lines.append([figure, measured, f"p99 at most {MOST_DELAY * 1000:.1f} ms"])
    return lines


def shortcomings(told: Mapping[str, Any]) -> list[str]:
    """What the figures fall short of."""
    short = []
    if (share := told["quiet"]["share"]) > MOST_QUIET:
        short.append(f"a quiet scene takes {share:.1%} of one core, over {MOST_QUIET:.0%}")
    if told["peak"] > MOST_RESIDENT:
        short.append(f"{told['peak'] / 1e6:.0f} MB resident, over {MOST_RESIDENT / 1e6:.0f} MB")
    for name, run in told["memory"].items():
        if run["growth"] >= MOST_GROWTH:
            short.append(f"{name}: memory grew by {run['growth'] / 1e6:.1f} MB in {run['frames']} frames")
    for name, run in told["latency"].items():
        late = {where: run[where]["p99"] for where in ("log", "mqtt") if where in run}
        short += [
            f"{name}: delay to {where} {p99 * 1000:.0f} ms, over {MOST_DELAY * 1000:.0f} ms"
            for where, p99 in late.items()
            if p99 > MOST_DELAY
        ]
    if LITERT not in told["versions"]:
        short.append(f"not measured with LiteRT: {LITERT} is not what the model runs on")
    return short


def measure(frames: int, seconds: float) -> dict[str, Any]:
    """Everything, one run after another."""
    open_model(None)  # so that `versions` tells the interpreter that the daemon chooses too
    told: dict[str, Any] = {"machine": machine(), "versions": versions()}
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as broker:

        def start(source: str, settings: str) -> Any:
            print(f"mien run --source {source}", file=sys.stderr)
            return running(Path(name), source, broker, settings)

        told["broker"] = broker is not None
        told["quiet"] = quiet(start, seconds)
        told["latency"] = {scene: latency(start, source, broker, seconds) for scene, source in LIVE.items()}
        told["memory"] = {
            "as fast as it goes": busy(start, frames, live=False),
            "live": busy(start, frames, live=True),
        }
    runs = [told["quiet"], *told["latency"].values(), *told["memory"].values()]
    told["peak"] = max(run["peak"] for run in runs)
    return told


def page(told: Mapping[str, Any], table: str, path: Path) -> str:
    """The figures as Markdown."""
    where, used = told["machine"], ", ".join(map(" ".join, told["versions"].items()))
    return ABOUT.format(
        path=path, table=table, broker="a mosquitto on the loopback interface" if told["broker"] else "no broker",
        machine=f"{where['processor']}, {where['cores']} cores, load {where['load']:.1f} from other programs; {used}",
        quiet_fps=QUIET_FPS, quiet_s=told["quiet"]["seconds"], warm_up=WARM_UP, sample=SAMPLE, busy_fps=BUSY_LIVE_FPS,
        live_fps=LIVE_FPS, poll=POLL * 1000, slack=POLL * 1000 + 1,
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--frames", type=int, default=100_000, help="over which memory is watched, each way (100000)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each live scene (60)")
    args = parser.parse_args()
    told = measure(args.frames, args.seconds)
    table = aligned([HEAD, *rows(told)])
    tell(args, told, table, page)
    return complain(shortcomings(told))


if __name__ == "__main__":
    sys.exit(guarded("daemon_cost", main))
