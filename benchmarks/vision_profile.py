"""What vision itself costs beside Haar's searches and the interpreter, and where that goes.

python -m benchmarks.vision_profile [--frames N] [--json]

The daemon's pipeline looks at synthetic scenes alone, as on a device: in `mien bench` the naive loop, between every two
frames, takes what it left in the caches away. The second table is the profiler's, which makes small functions look
dearer than they are: it shows where to look, not how long it takes. Ends with 1 where one face in sight costs more
than the goal.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

from benchmarks.telling import aligned
from benchmarks.vision import FOUR, ONE, QUIET, config_of, scenes
from edge.bench import timed_vision
from edge.bench_meter import Meter, TimedModel
from edge.camera import open_camera
from edge.commandline import guarded
from edge.frame import Frame
from edge.modelfile import SHIPPED, read_model_file
from edge.opencv import one_thread

MOST_OWN_MS = 0.3
FRAMES, WARM_UP = 300, 30
SHOWN = 12
NOT_OURS = ("detectMultiScale", "Invoke", "bench_meter", "process_time", "perf_counter", "profile")


def read_frames(spec: str, count: int) -> list[Frame]:
    """A source's first frames, decoded before anything is measured."""
    with open_camera(spec) as camera:
        read = (camera.read() for _ in range(count))
        return [frame for frame in read if frame is not None]


def profile(frames: Sequence[Frame], spec: str, profiler: cProfile.Profile | None = None) -> list[float]:
    """Let vision alone look at frames.

    Returns:
        CPU milliseconds beside cascade and interpreter, one for each frame behind the first `WARM_UP`.
    """
    meter = Meter()
    model = TimedModel(read_model_file(SHIPPED), meter)
    vision = timed_vision(config_of(spec), model, meter)
    own = []
    for number, frame in enumerate(frames):
        if profiler is not None and number == WARM_UP:
            profiler.enable()
        with meter.frame() as cost:
            vision.look(frame)
        own.append((cost.cpu.total - cost.cpu.haar - cost.cpu.interpreter) * 1000)
    if profiler is not None:
        profiler.disable()
    return own[WARM_UP:]


def dearest(profiler: cProfile.Profile, frames: int) -> list[tuple[str, float, float]]:
    """The functions that took longest themselves: name, calls per frame, microseconds per frame."""
    found = []
    for (file, _, name), (_, calls, own, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]  # its stubs lack it
        place = f"{Path(file).stem}: {name}" if file != "~" else name.strip("<>")
        if not any(part in f"{file} {name}" for part in NOT_OURS):
            found.append((place, calls / frames, own / frames * 1e6))
    return sorted(found, key=lambda entry: -entry[2])[:SHOWN]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each scene, where it has as many ({FRAMES})")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    args = parser.parse_args()
    told: dict[str, dict[str, float]] = {}
    profiler = cProfile.Profile()
    with one_thread():
        for name in (QUIET, ONE, FOUR):
            spec = scenes()[name][0]
            frames = read_frames(spec, args.frames + WARM_UP)
            own = profile(frames, spec)
            tenths = quantiles(own, n=10)
            told[name] = {"mean": sum(own) / len(own), "p10": tenths[0], "p50": median(own), "p90": tenths[-1]}
            if name == ONE:
                profiled = len(profile(frames, spec, profiler))
    dear = dearest(profiler, profiled)
    if args.json:
        print(json.dumps({"goal_ms": MOST_OWN_MS, "own_ms": told, "dearest": dear}))
    else:
        rows = [[name, *(f"{value:.2f}" for value in figures.values())] for name, figures in told.items()]
        print(aligned([("ms a frame", "mean", "p10", "p50", "p90"), *rows]))
        rows = [[place, f"{calls:.1f}", f"{spent:.0f}"] for place, calls, spent in dear]
        print(f"\n{ONE}, under the profiler:\n")
        print(aligned([("function", "calls a frame", "µs a frame"), *rows]))
    if told[ONE]["mean"] > MOST_OWN_MS:
        print(f"short: {ONE}: {told[ONE]['mean']:.2f} ms, over {MOST_OWN_MS}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(guarded("vision_profile", main))
