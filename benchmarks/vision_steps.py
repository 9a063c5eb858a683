"""The way from the naive loop to what ships: what each idea gave, over the same frames, in turns, in one process.

python -m benchmarks.vision_steps [--frames N] [--only NAME] [--write docs/vision-steps.md]

Each step keeps what the one before it has and adds one idea; the last ones classify each face less often. What a step
leaves out of the pipeline is left out here, by subclasses that reach into it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.telling import aligned
from benchmarks.vision import CLIP_NAME, FOUR, ONE, PHOTO_ONE, QUIET, config_of, scenes, truth_of
from edge.bench import Look, Measurement
from edge.bench_meter import Meter, TimedModel, timed_cascade
from edge.bench_naive import NaiveLoop
from edge.bench_report import against_truth, compare, machine, ratios, speed, versions
from edge.bench_source import chunks, scene_truth
from edge.commandline import guarded
from edge.config import Config, ModelConfig
from edge.daemon import open_source
from edge.detector import SMALLEST, Detector, Hit
from edge.events import Reporter
from edge.frame import Box, Face, Frame
from edge.modelfile import SHIPPED, read_model_file
from edge.pipeline import Vision, make_detector, make_vision
from edge.pyramid import Pyramid
from edge.smoothing import Smoother
from edge.sweep import AGAIN, SIDES, Sweep
from edge.tracker import CLOSE, EXPECTED, MIN_IOU, Tracker

SCENES = (ONE, FOUR, "pan", QUIET, PHOTO_ONE, CLIP_NAME)

NAIVE, SHIPS = "(the naive loop)", "known faces followed by their looks: what ships"
COARSER = "no finer than the smallest face needs"
OCTAVES = "three sizes to an octave, then a closer look"
TRACKS = "tracks: known faces sought near where they were"
SPREAD = "the search for others spread over time"
CHANGES = "only where something changed"
PAINTED = "known faces painted over"
SELDOM = {f"each face classified every {seconds:g} s": seconds for seconds in (0.1, 0.2)}

HEAD = (
    "what is added", "times, by CPU", "without classification", "Haar ms", "interpreter ms", "rest ms", "recall",
    "true recall", "false faces", "same expression",
)  # fmt: skip

ABOUT = """\
# What each idea gave

Made by `python -m benchmarks.vision_steps --write {path}`. Each line keeps what the lines above it have and adds one
idea, down to what ships; the last {seldom} lines are what `model.interval` can be set to. All look at the same frames
in turns, in one process, on one thread. *Times* are the naive loop's CPU time over the line's, with classification (of
each face, in each frame but for the last lines) and with it left out of both. *Haar*, *interpreter* and *rest* are the
line's CPU time per frame. *Recall* is of the faces that the naive loop finds in at least 5 of 7 neighbouring frames;
*true recall* and *false faces* are against the known boxes. *Same expression* is the share of faces, counted in every
frame, that show the expression which they show where each is classified in every frame. The scenes are those of
`python -m benchmarks.vision`.

{machine}

{tables}
"""


@dataclass(slots=True)
class Step:
    """What a step made of the frames so far; each list holds one entry for each.

    Attributes:
        looks: where it saw faces, and at what cost.
        shown: track -> the expression that stands.
    """

    looks: list[Look] = field(default_factory=list)
    shown: list[dict[int, str]] = field(default_factory=list)


class Coarser(Tracker):
    """Haar on every whole frame, scaled so that the smallest face is hardly larger than the cascade's window."""

    def update(self, frame: Frame) -> list[Face]:
        """The faces in a frame, numbered from 1 anew."""
        width, height = frame.size
        smallest = max(SMALLEST, round(self._detector.min_face * height))
        hits = self._detector.search(
            Pyramid(frame.gray),
            Box(0, 0, width, height),
            scale=SIDES[0] / smallest,
            smallest=smallest,
            largest=min(width, height),
            step=self._detector.scale_factor,
            neighbors=self._detector.min_neighbors,
        )
        return [Face(hit.box, number) for number, hit in enumerate(hits, 1)]


class Unpainted(Sweep):
    """Paints nobody over."""

    def _search(self, pyramid: Pyramid, tile: Any, now: float, known: Sequence[Box]) -> list[Hit]:
        return super()._search(pyramid, tile, now, ())


class Everywhere(Unpainted):
    """Besides, takes all of the frame for changed, all the time."""

    def _mark(self, now: float, known: Sequence[Box]) -> None:
        for octave in self._octaves:
            octave.changed = np.ones_like(octave.known)
        for tile in self._tiles:
            if tile.since is None:
                tile.since, tile.left = now, AGAIN


class HaarTracker(Tracker):
    """Follows faces with Haar alone: in every frame, in a small region, at the few sizes that they can have.

    Args:
        detector: Haar.
        sweep: finds those whom nobody knows yet; None: a tracker's own.
        options: see `Tracker`.
    """

    def __init__(self, detector: Detector, *, sweep: Sweep | None = None, **options: float) -> None:
        super().__init__(detector, **options)  # type: ignore[arg-type]  # none of them is an eye check
        if sweep is not None:
            self._sweep = sweep

    def _follow(self, track: Any, pyramid: Pyramid, elapsed: float) -> None:
        pass

    def _check(self, track: Any, pyramid: Pyramid, *, at_once: bool) -> None:
        there = track.box.moved_to(*track.place(self._now))
        hits = self._seek(pyramid, there, far=0.2, spread=CLOSE, beside=EXPECTED)
        near = [hit for hit in hits if hit.box.iou(there) >= MIN_IOU]
        if near:
            track.take(max(near, key=lambda hit: hit.box.iou(there)), pyramid, self._now)


class Forgetful(HaarTracker):
    """Besides, knows nothing of the frame before."""

    def update(self, frame: Frame) -> list[Face]:
        """See `Tracker.update`."""
        self._tracks = []
        return super().update(frame)


def steps(config: Config, model: TimedModel, meter: Meter) -> dict[str, Vision]:
    """What is added -> the pipeline with it, without the naive loop.

    Args:
        config: of what ships.
        model: classifies for all of them.
        meter: hears of all of Haar's searches.
    """
    looks, times = config.detector, config.smoothing
    spread = max(0.0, looks.notice - times.confirm)
    kept: dict[str, Any] = {"confirm": times.confirm, "patience": times.patience}
    ours = kept | {"notice": looks.notice, "rest": looks.rest}
    one, two, three, four, five, six = (_haar(config, meter) for _ in range(6))
    trackers = {
        COARSER: Coarser(one),
        OCTAVES: Forgetful(two, sweep=Everywhere(two, reach=0.0, rest=looks.rest), confirm=0.0),
        TRACKS: HaarTracker(three, sweep=Everywhere(three, reach=0.0, rest=looks.rest), **kept),
        SPREAD: HaarTracker(four, sweep=Everywhere(four, reach=spread, rest=looks.rest), **kept),
        CHANGES: HaarTracker(five, sweep=Unpainted(five, reach=spread, rest=looks.rest), **kept),
        PAINTED: HaarTracker(six, **ours),
    }
    made = {}
    for name, tracker in trackers.items():
        smoother = Smoother(model.labels, model.thresholds, time_constant=times.time_constant)
        made[name] = Vision(tracker, model, smoother, _reporter(config, model))
    for name, seconds in {SHIPS: 0.0, **SELDOM}.items():
        often = replace(config, model=ModelConfig(interval=seconds))
        made[name] = make_vision(often, model, _reporter(config, model), _haar(config, meter))
    return made


def _haar(config: Config, meter: Meter) -> Detector:
    detector = make_detector(config)
    detector.cascade = timed_cascade(detector.cascade, meter)
    return detector


def _reporter(config: Config, model: TimedModel) -> Reporter:
    return Reporter(
        device="bench",
        labels=model.labels,
        model=model.name,
        start=1,
        every=config.report.every,
        now=lambda frame: datetime.fromtimestamp(frame.time, UTC),
        clock_synced=lambda: True,
    )


def measure(name: str, spec: str, frames: int) -> tuple[dict[str, Step], Measurement]:
    """Let the naive loop and every step look at a scene.

    Args:
        name: of the scene.
        spec: where its frames come from.
        frames: so many at most.

    Returns:
        What each made of it, the naive loop first; and a measurement that holds all but the looks.
    """
    config, meter = config_of(spec), Meter()
    model = TimedModel(read_model_file(SHIPPED), meter)
    naive = NaiveLoop(_haar(config, meter).cascade, model)
    visions, truth = steps(config, model, meter), truth_of(name)
    done = {who: Step() for who in (NAIVE, *visions)}
    order = [*done]
    with open_source(config, color=False) as camera:
        common = Measurement(camera.spec, model.name)
        for chunk in chunks(camera, frames, common.problems):
            if not common.numbers:
                # The first look of all allocates, and that is nobody's speed.
                for vision in steps(config, model, meter).values():
                    vision.look(chunk[0])
                naive.look(chunk[0])
            for who in order:
                for frame in chunk:
                    _look(done[who], visions.get(who, naive), frame, meter)
            order = order[1:] + order[:1]  # who comes first finds the frames in nobody's cache
            common.numbers += [frame.number for frame in chunk]
            for frame in chunk:
                known = scene_truth(camera, frame) if truth is None else truth.get(frame.number)
                if known is not None:
                    common.truth[frame.number] = known
    if common.problems:
        raise common.problems[0]
    return done, common


def _look(step: Step, looker: Vision | NaiveLoop, frame: Frame, meter: Meter) -> None:
    with meter.frame() as cost:
        seen = looker.look(frame)
    if isinstance(seen, list):
        step.looks.append(Look(seen, seen, cost))
        return
    faces = [face for face, _ in seen.faces]
    step.looks.append(Look([face.box for face in faces], [face.box for face in faces if face.seen], cost))
    step.shown.append({face.track: reading.expression for face, reading in seen.faces})


def same_share(always: Sequence[Mapping[int, str]], seldom: Sequence[Mapping[int, str]]) -> float | None:
    """How many of the faces, counted in every frame, show the same expression; None where there was no face.

    Args:
        always: for each frame, track -> expression.
        seldom: the same frames' and tracks', classified less often.
    """
    same = [one[track] == shown for one, other in zip(always, seldom, strict=True) for track, shown in other.items()]
    return sum(same) / len(same) if same else None


def row(who: str, done: Measurement, same: float | None) -> list[str]:
    """One line of a scene's table.

    Args:
        who: what is added.
        done: the naive loop's looks, and the step's in this pipeline's place.
        same: share of the faces that show the same expression.
    """
    mien, truth = speed(done.mien), against_truth(done)
    ratio, cpu = ratios(speed(done.naive), mien), mien["cpu_seconds_per_frame"]
    judged = {"recall": None, "false": "-"} if truth is None else truth["mien"]
    return [
        who,
        *(f"{ratio[key]:.1f}" for key in ("cpu", "cpu_without_classification")),
        *(f"{cpu[stage] * 1000:.2f}" for stage in ("haar", "interpreter", "own")),
        *("-" if share is None else f"{share:.3f}" for share in (compare(done)["recall"], judged["recall"])),
        str(judged["false"]),
        "-" if same is None else f"{same:.1%}",
    ]


def table(done: Mapping[str, Step], common: Measurement) -> str:
    """A scene's table.

    Args:
        done: what each step made of it.
        common: frame numbers and truth.
    """
    lines: list[Sequence[str]] = [HEAD]
    for who, step in done.items():
        same = same_share(done[SHIPS].shown, step.shown) if who in SELDOM else None
        lines.append(row(who, replace(common, naive=done[NAIVE].looks, mien=step.looks), same))
    return aligned(lines)


def main() -> int:
    # Of a scene in several rooms the last.
    known = {name: specs[-1] for name, specs in scenes().items() if name in SCENES}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=300, help="of each scene at most (300)")
    parser.add_argument("--only", choices=[*known], action="append", help="this scene; may be given several times")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables as Markdown too")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    tables = []
    for name, spec in known.items():
        if args.only is None or name in args.only:
            done, common = measure(name, spec, args.frames)
            source = Path(common.spec).name  # of a file without the folders of this machine
            tables.append(f"## {name} ({source}, {len(common.numbers)} frames)\n\n{table(done, common)}")
            print(f"{tables[-1]}\n", flush=True)
    if args.write:
        where = f"{machine()['processor']}; " + ", ".join(map(" ".join, versions().items()))
        text = ABOUT.format(path=args.write, seldom=len(SELDOM), machine=where, tables="\n\n".join(tables))
        args.write.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("vision_steps", main))
