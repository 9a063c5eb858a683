"""This pipeline beside the naive loop, as `mien bench` measures them, over scenes of every kind.

python -m benchmarks.vision [--frames N] [--only NAME] [--write docs/vision.md]

The scenes are made from the sample photos. A clip of real people is looked at too where $MIEN_CLIP names one, and
judged by benchmarks/clip_faces.json where it is the one that was labelled. Ends with 1 where a figure falls short.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks.telling import aligned, complain
from edge.bench import Measurement, measure
from edge.bench_report import summarize
from edge.bench_score import Truth
from edge.bench_source import read_truth
from edge.camera.scripts import SCRIPTS
from edge.commandline import guarded
from edge.config import Config, load_config

HERE = Path(__file__).parent
CLIP = Path(os.environ.get("MIEN_CLIP", HERE.parents[1] / "shared/media/clip.mp4"))
CLIP_FACES = HERE / "clip_faces.json"

ONE, FOUR, CLIP_NAME, QUIET = "one face", "four faces", "clip", "empty"
PHOTO_ONE = "photos, one face"
PHOTO_SEEDS = range(1, 6)
"""Rooms full of pieces of photos: a rule against false faces needs scenes in which Haar sees some."""

LEAST_TIMES = {ONE: 25.0, FOUR: 12.0}
LEAST_RECALL = 0.98
MOST_FALSE = 0.5
"""Of the naive loop's false faces, over all scenes together."""
MOST_QUIET, QUIET_FPS = 0.02, 15
"""Of one core, at so many frames per second."""

HEAD = (
    "scene", "frames", "times the frames/s", "without classification", "times, by CPU", "without classification",
    "recall", "true recall: naive", "mien", "false faces: naive", "mien", "Haar ms", "rest ms",
)  # fmt: skip

ABOUT = """\
# Vision beside the naive loop

Made by `python -m benchmarks.vision --write {path}`, which runs `mien bench` over each scene: the same frames for both,
in turns, in one process, on one thread, decoding in neither's time. *Times* are the naive loop's time over this
pipeline's, by the clock and by CPU time (which other programs on the machine disturb less), with one classification for
each face and frame, and with classification left out of both. *Recall* is of the faces that the naive loop finds in at
least 5 of 7 neighbouring frames. *True recall* and *false faces* are against the known boxes. *Haar* and *rest* are
this pipeline's CPU time per frame in the cascade, and outside cascade and interpreter (here with caches that the naive
loop has just emptied; `python -m benchmarks.vision_profile` lets vision run alone). The scenes are made from the
sample photos, 640x480 at 30 frames/s with a sensor's noise of 2 grey levels; below *{four}* stand the scripts that
`synthetic:script=NAME` plays. Behind *photos* are pieces of the photos without a face (`background=photo`), each of
{rooms} rooms for as long as the other scenes: Haar takes some of them for faces, again and again, and where the naive
loop does, *recall* asks for these too.

{machine}

{table}

A quiet room without faces takes {quiet} of one core at {fps} frames/s.
"""


def scenes() -> dict[str, list[str]]:
    """Name -> its sources, which are looked at one after the other."""
    known = {ONE: ["synthetic:faces=1,noise=2"], FOUR: ["synthetic:faces=4,noise=2"]}
    known |= {name: [f"synthetic:script={name}"] for name in SCRIPTS if name != "drift"}
    for name, script in ((PHOTO_ONE, "drift"), ("photos, pan", "pan"), ("photos, busy", "busy")):
        known[name] = [f"synthetic:script={script},noise=2,background=photo,seed={seed}" for seed in PHOTO_SEEDS]
    return known | ({CLIP_NAME: [str(CLIP)]} if CLIP.is_file() else {})


def look_at(name: str, specs: Sequence[str], frames: int) -> dict[str, Any]:
    """What `mien bench` tells of a scene; of several sources, of all their frames together."""
    parts = [measure(config_of(spec), count=frames, truth=truth_of(name)) for spec in specs]
    return summarize(together(parts), config_of(specs[0]))


def together(parts: Sequence[Measurement]) -> Measurement:
    """One measurement of several, its frames numbered on from one part to the next."""
    whole = replace(parts[0], numbers=[], naive=[], mien=[], truth={}, problems=[])
    for part in parts:
        number = dict(zip(part.numbers, count(len(whole.numbers)), strict=False))
        whole.truth |= {number[at]: known for at, known in part.truth.items()}
        whole.numbers += number.values()
        whole.naive += part.naive
        whole.mien += part.mien
        whole.problems += part.problems
    return whole


def config_of(spec: str) -> Config:
    """The defaults, whatever this machine's settings are, with a source."""
    return load_config(None, environ={}, overrides={"source.spec": spec}, default_path=Path(os.devnull))


def truth_of(name: str) -> dict[int, Truth] | None:
    """The labels of a scene that were made by hand; None: there are none, and a synthetic one knows by itself."""
    return read_truth(CLIP_FACES) if name == CLIP_NAME and _is_labelled(CLIP) else None


def _is_labelled(clip: Path) -> bool:
    known = json.loads(CLIP_FACES.read_text(encoding="utf-8")) if CLIP_FACES.is_file() else {}
    return bool(hashlib.sha256(clip.read_bytes()).hexdigest() == known.get("sha256"))


def row(name: str, told: Mapping[str, Any]) -> list[str]:
    """One line of the table."""
    ratio, truth, cpu = told["ratio"], told["truth"], told["mien"]["cpu_seconds_per_frame"]
    times = ("frames_per_second", "frames_per_second_without_classification", "cpu", "cpu_without_classification")
    recalls = [None, None] if truth is None else [truth[who]["recall"] for who in ("naive", "mien")]
    false = ["-", "-"] if truth is None else [str(truth[who]["false"]) for who in ("naive", "mien")]
    return [
        name,
        str(told["source"]["frames"]),
        *(f"{ratio[key]:.1f}" for key in times),
        *("-" if share is None else f"{share:.3f}" for share in (told["faces"]["recall"], *recalls)),
        *false,
        *(f"{cpu[stage] * 1000:.2f}" for stage in ("haar", "own")),
    ]


def quiet_share(told: Mapping[str, Any]) -> float:
    """The part of one core that a scene takes at 15 frames/s."""
    return float(told["mien"]["cpu_seconds_per_frame"]["total"] * QUIET_FPS)


def shortcomings(told: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the scenes' figures fall short of."""
    short = []
    for name, least in LEAST_TIMES.items():
        if name in told and (times := min(told[name]["ratio"].values())) < least:
            short.append(f"{name}: {times:.1f} times the naive loop, under {least:g}")
        if name in told and ((recall := told[name]["faces"]["recall"]) or 0.0) < LEAST_RECALL:
            short.append(f"{name}: recall {recall}, under {LEAST_RECALL}")
    judged = [summary["truth"] for summary in told.values() if summary["truth"] is not None]
    naive, mien = (sum(truth[who]["false"] for truth in judged) for who in ("naive", "mien"))
    if mien > MOST_FALSE * naive:
        short.append(f"{mien} false faces, over half of the naive loop's {naive}")
    if QUIET in told and (share := quiet_share(told[QUIET])) > MOST_QUIET:
        short.append(f"{QUIET}: {share:.1%} of one core at {QUIET_FPS} frames/s, over {MOST_QUIET:.0%}")
    return short


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300, help="of each source at most (300)")
    parser.add_argument("--only", choices=[*scenes()], action="append", help="this scene; may be given several times")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown too")
    args = parser.parse_args()
    told: dict[str, dict[str, Any]] = {}
    for name, specs in scenes().items():
        if args.only is None or name in args.only:
            told[name] = look_at(name, specs, args.frames)
            print(" | ".join(row(name, told[name])), file=sys.stderr)
    table = aligned([HEAD, *(row(name, summary) for name, summary in told.items())])
    print(table)
    if args.write:
        first = next(iter(told.values()))
        machine = f"{first['machine']['processor']}; " + ", ".join(map(" ".join, first["versions"].items()))
        quiet = f"{quiet_share(told[QUIET]):.1%}" if QUIET in told else "(not measured)"
        text = ABOUT.format(
            path=args.write, four=FOUR, rooms=len(PHOTO_SEEDS), machine=machine, table=table, quiet=quiet, fps=QUIET_FPS
        )
        args.write.write_text(text, encoding="utf-8")
    return complain(shortcomings(told))


if __name__ == "__main__":
    sys.exit(guarded("vision", main))
