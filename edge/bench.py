"""Runs this pipeline and the naive loop over the same frames in one process, one thread each, in turns.

A few frames are decoded, then one looks at them and then the other, so decoding is in neither's time and whatever else
the machine does hurts both alike.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from edge.bench_meter import Cost, Meter, TimedModel, timed_cascade
from edge.bench_naive import NaiveLoop
from edge.bench_score import Truth
from edge.bench_source import chunks, scene_truth
from edge.camera import Camera, is_live
from edge.config import Config
from edge.control import find_states
from edge.daemon import open_source
from edge.detector import Detector
from edge.errors import BadDataError, MienError, UnavailableError
from edge.events import Reporter
from edge.frame import Box, Frame
from edge.modelfile import find_model, read_model_file
from edge.opencv import one_thread
from edge.pause import is_paused
from edge.pipeline import Vision, make_detector, make_eyes, make_vision

SCENE = "synthetic"
"""What is looked at where nobody names a source."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one pipeline made of one frame.

    Attributes:
        boxes: every face that it reports.
        seen: those that it found in this very frame; the others it remembers.
        cost: the time it took.
    """

    boxes: Sequence[Box]
    seen: Sequence[Box]
    cost: Cost


@dataclass(slots=True)
class Measurement:
    """Everything that was measured; the lists hold one entry for each frame.

    Attributes:
        spec: the source, without a password.
        model: the classifier's name.
        size: the frames' width and height in pixels.
        numbers: the frames' numbers in the source.
        naive: the naive loop's looks.
        mien: this pipeline's.
        truth: frame number -> where its faces are, for frames of which that is known.
        memory_before: resident bytes of the process before the first frame was measured.
        memory_after: after the last.
        memory_peak: the most in the life of the process.
        interrupted: whether somebody pressed Ctrl-C before the end.
        problems: what could not be read of the source.
    """

    spec: str
    model: str
    size: tuple[int, int] = (0, 0)
    numbers: list[int] = field(default_factory=list)
    naive: list[Look] = field(default_factory=list)
    mien: list[Look] = field(default_factory=list)
    truth: dict[int, Truth] = field(default_factory=dict)
    memory_before: int = 0
    memory_after: int = 0
    memory_peak: int = 0
    interrupted: bool = False
    problems: list[MienError] = field(default_factory=list)


def measure(
    config: Config,
    *,
    count: int = 0,
    truth: Mapping[int, Truth] | None = None,
    tell: Callable[[Measurement], None] = lambda _: None,
) -> Measurement:
    """Run both over the configuration's source.

    Args:
        config: of this pipeline; the model is the naive loop's too. Both run on one thread whatever it says.
        count: at most so many frames; 0: all.
        truth: where the faces are; None: the source is asked, and a synthetic one knows.
        tell: called every few frames with what was measured so far; may raise.

    Returns:
        What was measured, also where Ctrl-C came in between or a part of the source could not be read.

    Raises:
        MienError: there is no such source, it is a camera and a pause is asked for, no frame came from it, or its
            frames change their size.
        KeyboardInterrupt: before anything was measured.
    """
    if is_live(config.source.spec) and any(is_paused(state / "control") for state in find_states(os.environ)):
        raise UnavailableError("paused: no camera may be read now; end it with 'mien resume', and run this again")
    meter = Meter()
    model = TimedModel(read_model_file(find_model(config.model.path)), meter, labels=config.model.labels or None)
    with one_thread(), open_source(config, color=model.channels == 3) as camera:
        done = Measurement(camera.spec, model.name)
        try:
            _run(config, camera, model, meter, done, count, truth, tell)
        except KeyboardInterrupt:
            if not done.numbers:
                raise
            done.interrupted = True
    if not done.numbers:
        raise done.problems[0] if done.problems else BadDataError(f"{done.spec}: no frame came from it")
    done.memory_after = resident_bytes()
    # The kernel brings its peak up to date only now and then.
    done.memory_peak = max(peak_bytes(), done.memory_after)
    return done


def _run(
    config: Config,
    camera: Camera,
    model: TimedModel,
    meter: Meter,
    done: Measurement,
    count: int,
    truth: Mapping[int, Truth] | None,
    tell: Callable[[Measurement], None],
) -> None:
    naive, vision = _naive_loop(config, model, meter), timed_vision(config, model, meter)
    for turn, chunk in enumerate(chunks(camera, count, done.problems)):
        if not turn:
            # The first look of all allocates, and that is nobody's speed.
            _look_naively(_naive_loop(config, model, meter), chunk[0], meter)
            _look(timed_vision(config, model, meter), chunk[0], meter)
            done.size, done.memory_before = chunk[0].size, resident_bytes()
        # Who comes second finds the frames in the processor's cache, so they take turns in that too.
        if turn % 2:
            mien = [_look(vision, frame, meter) for frame in chunk]
            naively = [_look_naively(naive, frame, meter) for frame in chunk]
        else:
            naively = [_look_naively(naive, frame, meter) for frame in chunk]
            mien = [_look(vision, frame, meter) for frame in chunk]
        done.naive += naively
        done.mien += mien
        done.numbers += [frame.number for frame in chunk]
        for frame in chunk:
            known = scene_truth(camera, frame) if truth is None else truth.get(frame.number)
            if known is not None:
                done.truth[frame.number] = known
        tell(done)


def _look_naively(naive: NaiveLoop, frame: Frame, meter: Meter) -> Look:
    with meter.frame() as cost:
        boxes = naive.look(frame)
    return Look(boxes, boxes, cost)


def _look(vision: Vision, frame: Frame, meter: Meter) -> Look:
    with meter.frame() as cost:
        seen = vision.look(frame)
    faces = [face for face, _ in seen.faces]
    return Look([face.box for face in faces], [face.box for face in faces if face.seen], cost)


def _naive_loop(config: Config, model: TimedModel, meter: Meter) -> NaiveLoop:
    return NaiveLoop(timed_cascade(Detector(config.detector.cascade).cascade, meter), model)


def timed_vision(config: Config, model: TimedModel, meter: Meter) -> Vision:
    """The daemon's own pipeline; its events go nowhere."""
    reporter = Reporter(
        device="bench",
        labels=model.labels,
        model=model.name,
        start=1,
        every=config.report.every,
        now=lambda frame: datetime.fromtimestamp(frame.time, UTC),
        clock_synced=lambda: True,
    )
    detector = make_detector(config)
    detector.cascade = timed_cascade(detector.cascade, meter)
    eyes = make_eyes(config)
    if eyes is not None:
        eyes.cascade = timed_cascade(eyes.cascade, meter)
    return make_vision(config, model, reporter, detector, eyes)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak_bytes() -> int:
    """The most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
