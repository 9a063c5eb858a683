"""The events of an emulated 64-bit ARM processor beside this one's, for the same frames.

python -m benchmarks.arm64_events [--frames N] [--only NAME] [--json] [--write docs/arm64.md]

`mien run` looks at the same pictures twice, once with this Python and once with an arm64 Debian's under QEMU, and
publishes what it knows of every face in every frame. An event is matched by one of the other side's with the same type,
face, expression and frame size, in the same order, whose box overlaps with its own by an IoU of at least 0.9; ids and
times are not compared. Ends with 1 where less than 99 % are matched, of all events or of those that say something new.

Needs mmdebstrap, QEMU's user mode, and, the first time, Debian's archive and PyPI; ends with 69 where one is missing. A
clip of real people is looked at too where $MIEN_CLIP names one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arm64_matching import LEAST_IOU, Comparison, compare
from benchmarks.arm64_operations import Difference, differences
from benchmarks.arm64_root import WHEELS, Arm64, open_arm64
from benchmarks.cortex_a72 import PROCESSOR
from benchmarks.telling import aligned, complain
from benchmarks.vision import CLIP, CLIP_NAME
from edge.bench_report import machine
from edge.camera import open_camera
from edge.commandline import guarded
from edge.errors import MienError
from edge.events import UPDATED
from edge.pictures import write_picture

ROOT = Path(__file__).resolve().parents[1]

SCENES = {
    "enter": "synthetic:script=enter",
    "drift": "synthetic:script=drift,faces=2,noise=2",
    "pan": "synthetic:script=pan",
}
FRAMES, FPS = 150, 30

LEAST_MATCHED = 0.99

RUN = "import sys; from edge.cli import main; sys.exit(main())"
VERSIONS = (
    "import json, platform\nfrom importlib import metadata\n"
    f"found = {{name: metadata.version(name) for name in {WHEELS}}}\n"
    "print(json.dumps({'python': platform.python_version()} | found))"
)

HEAD = ("scene", "frames", "events", "matched", "of them new", "matched", "identical", "least IoU", "scores off by")
STEPS_HEAD = ("step", "values", "equal", "off by at most")

ABOUT = """\
# The same events on a Pi's processor

Made by `python -m benchmarks.arm64_events --write {path}`. `mien run` looks at the same pictures with this machine's
Python and with that of an arm64 Debian whose processor QEMU emulates, a {processor} (a Pi 4's), and publishes what it
knows of every face in every frame. An event is *matched* by one of the other side's with the same type, face,
expression and frame size, in the same order, whose box overlaps with its own by an IoU of at least {iou}; ids and times
are not compared. The share is of the side that has more events. Events that are *new* are all but `{updated}`: that a
face appeared, changed or left. *Identical* are those that differ in nothing but id and clock: scores are the same to
the last digit, and both came equally long after their run's first event. *Least IoU* and *scores off by* are the worst
of all matched pairs. Goal: at least {least:.0%} matched, of either kind. Videos are decoded once, by this machine.

Beside this machine ({here}) stands an emulated one with {there}; the packages are the same here.

{table}

## Where differences come from

The steps from a picture to a face's scores, on the last picture of each scene, with the same input on both sides; the
logits are of faces that each side cut out by itself. *Shrunk* faces are larger than what the network takes, *enlarged*
ones smaller.

{steps}
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What came of a scene.

    Attributes:
        frames: how many were looked at.
        every: all events compared.
        new: those compared that are not `updated`.
    """

    frames: int
    every: Comparison
    new: Comparison


def keep_frames(spec: str, count: int, folder: Path) -> list[Path]:
    """Write a source's first frames as pictures without loss, so that both sides see the same pixels."""
    kept: list[Path] = []
    with open_camera(spec) as camera:
        while len(kept) < count and (frame := camera.read()) is not None:
            kept.append(folder / f"{len(kept):06}.png")
            write_picture(kept[-1], frame.gray)
    return kept


def events_of(python: Sequence[str], pictures: Path, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """What `mien run` logs of a folder's pictures.

    Args:
        python: the command that runs a Python.
        pictures: the folder.
        environment: for that command, over this one's.

    Raises:
        MienError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "events.jsonl"
        settings = {"MIEN_SOURCE_FPS": str(FPS), "MIEN_REPORT_EVERY": "0", "STATE_DIRECTORY": folder}
        _run(
            [*python, "-c", RUN, "run", "--source", f"images:{pictures}", "--log", str(log), "--device", "bench"],
            settings | dict(environment),
        )
        return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def steps_of(python: Sequence[str], pictures: Sequence[Path], environment: Mapping[str, str]) -> dict[str, Any]:
    """What `benchmarks.arm64_operations` makes of some pictures, step -> array; see `events_of`."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "steps.npz"
        _run([*python, "-m", "benchmarks.arm64_operations", *map(str, pictures), str(out)], environment)
        with np.load(out) as file:
            return dict(file)


def _run(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Run a command in the project's folder, without this machine's settings; what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIEN_")}
    done = subprocess.run(
        command, cwd=ROOT, env=inherited | dict(environment), check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise MienError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def look_at(name: str, pictures: Path, frames: int, arm64: Arm64) -> Scene:
    """Let both sides look at a folder of pictures."""
    began = time.monotonic()
    here = events_of([sys.executable], pictures, {})
    emulated = time.monotonic()
    there = events_of(arm64.python(), pictures, arm64.environment)
    print(f"{name}: {emulated - began:.0f} s, emulated {time.monotonic() - emulated:.0f} s", file=sys.stderr)
    new = [[event for event in events if event["type"] != UPDATED] for events in (here, there)]
    return Scene(frames, compare(here, there), compare(*new))


def row(name: str, scene: Scene) -> list[str]:
    """One line of the table."""
    every, new = scene.every, scene.new
    return [
        name,
        str(scene.frames),
        *_counted(every),
        *_counted(new),
        str(every.identical),
        "-" if every.least_iou is None else f"{every.least_iou:.3f}",
        f"{every.most_off:.4f}",
    ]


def _counted(comparison: Comparison) -> tuple[str, str]:
    one, other = comparison.events
    return str(one) if one == other else f"{one} and {other}", f"{comparison.share:.2%}"


def step_row(name: str, difference: Difference) -> list[str]:
    """One line of the table of steps."""
    one, other = difference.values
    off = "-" if difference.most_off is None else f"{difference.most_off:.2g}"
    return [name, f"{one:,}" if one == other else f"{one:,} and {other:,}", f"{difference.equal:.2%}", off]


def shortcomings(scenes: Mapping[str, Scene]) -> list[str]:
    """What too few events are matched of."""
    kinds = {f"{name}: events": scene.every for name, scene in scenes.items()}
    kinds |= {f"{name}: new events": scene.new for name, scene in scenes.items()}
    return [
        f"{what}: {found.matched} of {max(found.events)} matched, under {LEAST_MATCHED:.0%}"
        for what, found in kinds.items()
        if found.share < LEAST_MATCHED
    ]


def main() -> int:
    sources = SCENES | ({CLIP_NAME: str(CLIP)} if CLIP.is_file() else {})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES, help=f"of each scene at most ({FRAMES})")
    parser.add_argument("--only", choices=[*sources], action="append", help="this scene; may be given several times")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the tables")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as Markdown too")
    args = parser.parse_args()
    arm64 = open_arm64()
    there = json.loads(_run([*arm64.python(), "-c", VERSIONS], arm64.environment))
    scenes: dict[str, Scene] = {}
    with tempfile.TemporaryDirectory() as folder:
        last: list[Path] = []
        for name in args.only or sources:
            pictures = Path(folder) / name
            pictures.mkdir()
            kept = keep_frames(sources[name], args.frames, pictures)
            scenes[name] = look_at(name, pictures, len(kept), arm64)
            last.append(kept[-1])
        found = differences(steps_of([sys.executable], last, {}), steps_of(arm64.python(), last, arm64.environment))
    table = aligned([HEAD, *(row(name, scene) for name, scene in scenes.items())])
    steps = aligned([STEPS_HEAD, *(step_row(name, difference) for name, difference in found.items())])
    if args.json:
        told = {name: asdict(scene) for name, scene in scenes.items()}
        parts = {name: asdict(difference) for name, difference in found.items()}
        print(json.dumps({"processor": PROCESSOR, "versions": there, "scenes": told, "steps": parts}))
    else:
        print(f"{table}\n\n{steps}")
    if args.write:
        text = ABOUT.format(
            path=args.write,
            processor=PROCESSOR,
            iou=LEAST_IOU,
            updated=UPDATED,
            least=LEAST_MATCHED,
            here=machine()["processor"],
            there=", ".join(map(" ".join, there.items())),
            table=table,
            steps=steps,
        )
        args.write.write_text(text, encoding="utf-8")
    return complain(shortcomings(scenes))


if __name__ == "__main__":
    sys.exit(guarded("arm64_events", main))
