"""`mien run`: wires camera, vision and sinks together, and ends in good order whatever happens."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from edge import __version__
from edge.camera import Camera, Limits, View, open_camera
from edge.commandline import INTERRUPTED
from edge.config import Config
from edge.credentials import read_secret
from edge.device import clock_is_synced, default_name
from edge.errors import BadDataError, CameraSoughtError, ConfigError, InputNotFoundError, MienError, UsageError
from edge.events import Reporter
from edge.frame import Frame
from edge.health import Health
from edge.homeassistant import discovery, removal
from edge.metrics import serving
from edge.model import Model, open_model
from edge.notify import Notifier, Pulse, make_notifier, notifying
from edge.opencv import one_thread
from edge.output import Output
from edge.pipeline import Vision, make_detector, make_eyes, make_vision
from edge.progress import Progress
from edge.sinks.mqtt import Announcement
from edge.slot import Slot
from edge.starts import count_start, state_folder
from edge.supervisor import Supervisor, join_all

LOG = logging.getLogger(__name__)

VISION_SECONDS = 10.0
"""How long vision may take over its last frame: a large one on a small Pi."""

SETUP_SECONDS = 60.0
"""How long everything but the camera may take at the start: imports and a model from a slow card."""

NAP_SECONDS = 1.0
"""A wait for the next picture of a file is longer than this only in naps, with a sign of life after each."""

PROBLEMS_SHOWN = 10
"""So many unreadable pictures of a folder are named at the end."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run. `progress` is told of a file source alone, `problems` are what it could not read."""

    camera: Camera
    vision: Vision
    output: Output
    supervisor: Supervisor
    progress: Progress
    health: Health
    pulse: Pulse
    problems: list[MienError] = field(default_factory=list)


def run(config: Config, *, environ: Mapping[str, str], annotate: Path | None = None) -> int:
    """Process a source until it ends, somebody stops it or something fails. For the main thread.

    Args:
        config: everything that can be set.
        environ: the process's environment, for the folder that the count of starts lives in.
        annotate: a video (`.mp4`) or folder for annotated frames; None: nothing is drawn.

    Returns:
        0 at the end of a file and after SIGTERM, 130 after SIGINT.

    Raises:
        MienError: any of its kinds, once everything that could be brought out has been.
        Exception: a fault of ours, in whichever thread.
    """
    if annotate is not None:
        _refuse_to_overwrite(config.source.spec, config.log.path, annotate)
    supervisor, notifier = Supervisor(), make_notifier(environ)
    _ask_for_time(notifier, config)
    model = open_model(config.model.path, labels=config.model.labels or None, threads=config.model.threads)
    output = Output(supervisor, tuple(model.labels))
    color = annotate is not None or model.channels == 3
    with one_thread(), supervisor.handling_signals(), open_source(config, color=color) as camera:
        realtime = _is_realtime(config, camera)
        device = config.device.name or default_name()
        start = count_start(state_folder(environ) / "starts")
        vision = _vision_for(config, model, device, start, live=camera.live)
        progress = Progress(sys.stderr, "frames", camera.promised)
        health = Health(
            device=device, model=model.name, live=camera.live, queues=output.queues, outbox=output.count_unsent
        )
        job = Job(camera, vision, output, supervisor, progress, health, Pulse(live=camera.live))
        began = time.monotonic()
        try:
            with serving(config.metrics, health.snapshot):
                folder, announcement = state_folder(environ), _announcement(config, device, model)
                output.open(config, device, folder, annotate, announcement, live=camera.live, patient=not realtime)
                informed = notifying(notifier, job.pulse, supervisor, patience=camera.patience)
                with _telling(job, config.health.every), informed:
                    (run_threads if realtime else run_in_order)(job)
        except Exception as error:
            supervisor.fail(error)
        took = time.monotonic() - began
        progress.clear()
        output.bring_out(insist=not camera.live and supervisor.signal is None and supervisor.failure is None)
    if output.frames or supervisor.failure is None:
        print(f"mien: {output.summary(took)}", file=sys.stderr)
    return _verdict(job)


def run_in_order(job: Job) -> None:
    """Every frame of a file, here and now; nothing is skipped."""
    try:
        for frame in _frames(job):
            _take(job, frame)
    finally:
        job.output.publish(job.vision.finish())


def run_threads(job: Job) -> None:
    """Capture and vision in a thread each, so that vision always gets the newest frame."""
    supervisor, slot = job.supervisor, Slot[Frame]()
    looking = supervisor.start("vision", partial(_look, job, slot))
    capturing = supervisor.start("capture", partial(_capture, job, slot))
    supervisor.wait()
    slot.close()
    supervisor.attempt(partial(join_all, [looking], VISION_SECONDS))
    # The camera may be closed only once nobody reads from it, and a read may take as long as its limits say.
    limits = job.camera.limits
    longest = limits.silent if job.output.frames else max(limits.opening, limits.silent)
    supervisor.attempt(partial(join_all, [capturing], longest + 1.0))
    job.output.skipped += slot.replaced


def _capture(job: Job, slot: Slot[Frame]) -> None:
    began, newest = time.monotonic(), None
    try:
        for frame in _frames(job):
            if job.camera.live:
                job.output.skipped += 0 if newest is None else frame.number - newest - 1
                newest = frame.number
            else:
                _wait_until(job, began + frame.time)
            slot.put(frame)
    finally:
        slot.close()


def _wait_until(job: Job, due: float) -> None:
    """Wait for the moment of a file's frame, in monotonic seconds, however far off it is."""
    while (left := due - time.monotonic()) > 0 and not job.supervisor.stopping.wait(min(left, NAP_SECONDS)):
        if left > NAP_SECONDS:
            job.pulse.rest()


def _look(job: Job, slot: Slot[Frame]) -> None:
    try:
        while not job.supervisor.stopped() and (frame := slot.take()) is not None:
            _take(job, frame, skipped=job.output.skipped + slot.replaced)
    finally:
        job.output.publish(job.vision.finish())
        job.supervisor.stop()


def _take(job: Job, frame: Frame, *, skipped: int = 0) -> None:
    job.pulse.looking()
    seen = job.vision.look(frame)
    job.output.take(seen)
    job.pulse.passed(len(seen.faces))
    job.health.looked(frame.time, faces=len(seen.faces), events=len(seen.events), skipped=skipped)
    if not job.camera.live and not job.output.talks:
        job.progress.show(frame.number + 1, job.output.frames, len(job.problems))


@contextmanager
def _telling(job: Job, every: float) -> Iterator[None]:
    """Have the broker told how we are, now and every so many seconds, also while vision hangs."""
    mqtt, over = job.output.mqtt, threading.Event()
    if mqtt is None:
        yield
        return

    def tell() -> None:
        while not over.is_set():
            mqtt.tell_health(lambda: job.health.snapshot().to_json())
            over.wait(every)

    thread = job.supervisor.start("health", tell)
    try:
        yield
    finally:
        over.set()
        join_all([thread], 1.0)


def _frames(job: Job) -> Iterator[Frame]:
    """The camera's frames, also those after it was lost and found again.

    What a file source cannot read is noted, and what lies behind it still comes.
    """
    sought = False
    while not job.supervisor.stopped():
        try:
            frame = job.camera.read()
        except (BadDataError, InputNotFoundError) as error:
            if job.camera.live:
                raise
            job.problems.append(error)
            job.pulse.rest()
            continue
        except CameraSoughtError as error:
            if not sought:
                LOG.warning("%s", error)
            sought = True
            continue
        if frame is None:
            return
        sought = False
        job.pulse.captured(frame.time)
        yield frame


def _verdict(job: Job) -> int:
    """The exit code, or the error that ended the run."""
    supervisor, problems, unpublished = job.supervisor, job.problems, job.output.problem
    if supervisor.failure is not None:
        raise supervisor.failure
    if len(problems) == 1:
        raise problems[0]
    if problems:
        named = [f"  {problem}" for problem in problems[:PROBLEMS_SHOWN]]
        more = [f"  and {len(problems) - len(named)} more"] * (len(problems) > len(named))
        raise BadDataError("\n".join([f"{len(problems)} pictures could not be read:", *named, *more]))
    if unpublished is not None and not job.camera.live and supervisor.signal is None:
        raise unpublished
    if unpublished is not None:
        LOG.warning("%s", unpublished)
    return INTERRUPTED if supervisor.signal == signal.SIGINT else 0


class _Calendar:
    """Date and time of a frame: of its capture where it is live, else of the run's start plus the media time."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._start = datetime.now(UTC)

    def __call__(self, frame: Frame) -> datetime:
        if self._live:
            return datetime.now(UTC) - timedelta(seconds=time.monotonic() - frame.time)
        return self._start + timedelta(seconds=frame.time)


def _vision_for(config: Config, model: Model, device: str, start: int, *, live: bool) -> Vision:
    reporter = Reporter(
        device=device,
        labels=model.labels,
        model=model.name,
        start=start,
        every=config.report.every,
        now=_Calendar(live=live),
        clock_synced=clock_is_synced,
    )
    return make_vision(config, model, reporter, make_detector(config), make_eyes(config))


def _announcement(config: Config, device: str, model: Model) -> Announcement:
    """What Home Assistant is told: of this device, or to forget it."""
    prefix = config.homeassistant.prefix
    if config.homeassistant.enabled:
        topic, payload = discovery(device, config.mqtt.base, model.name, model.labels, __version__, prefix=prefix)
    else:
        topic, payload = removal(device, prefix=prefix)
    return Announcement(topic, payload, birth_topic=f"{prefix}/status")


def open_source(config: Config, *, color: bool) -> Camera:
    """Open the source that a configuration names, with its password where it has one; see `open_camera`."""
    source = config.source
    rtsp = source.spec.lower().startswith(("rtsp:", "rtsps:"))
    secret = read_secret(source.password_file, "source.password_file") if rtsp and source.password_file else None
    return open_camera(
        source.spec,
        color=color,
        size=source.size,
        fps=source.fps or None,
        pixel_format=source.format,
        limits=Limits(opening=source.open_timeout, silent=source.timeout, frozen=source.frozen),
        password=secret,
        view=View(source.rotate, source.flip, source.region),
    )


def _ask_for_time(notifier: Notifier, config: Config) -> None:
    """Have systemd wait at the start for as long as the configuration lets the camera open and deliver."""
    seconds = SETUP_SECONDS + 2 * config.source.open_timeout
    notifier.tell(f"EXTEND_TIMEOUT_USEC={round(seconds * 1e6)}", "STATUS=opening the source")


def _is_realtime(config: Config, camera: Camera) -> bool:
    if camera.live and config.source.pace == "fast":
        raise ConfigError(
            f"source.pace is fast, but {camera.spec} is live and keeps its own pace; leave source.pace (--pace) out"
        )
    return camera.live or config.source.pace == "realtime"


def _refuse_to_overwrite(spec: str, log: Path | None, out: Path) -> None:
    if log is not None and out.resolve() == log.resolve():
        raise UsageError(f"--annotate {out} and the log (--log, log.path) are one file; give each a name of its own")
    source = Path(spec.removeprefix("images:"))
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--annotate {out} would write over the source itself; choose another name")
