"""`mien run`: wires camera, vision and sinks together, and ends in good order whatever happens."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path

from edge.assembly import announcement_of, refuse_to_overwrite, vision_for
from edge.attendant import attending
from edge.camera import Camera, Limits, RestingCamera, View, is_live, open_camera
from edge.commandline import INTERRUPTED
from edge.config import Config, SourceConfig
from edge.control import FILE, READING, RESTING, Presence, open_folder
from edge.credentials import hide_password, read_secret
from edge.device import default_name
from edge.errors import BadDataError, CameraSoughtError, ConfigError, InputNotFoundError, MienError
from edge.frame import Frame
from edge.gpio import panel
from edge.health import Health
from edge.metrics import serving
from edge.model_chosen import choosing, watching
from edge.notify import Notifier, Pulse, make_notifier, notifying
from edge.opencv import one_thread
from edge.output import Output
from edge.pause import PauseWatch
from edge.pipeline import Vision
from edge.progress import Progress
from edge.slot import Slot
from edge.starts import count_start, state_folder
from edge.supervisor import SignalledError, Supervisor, join_all

LOG = logging.getLogger(__name__)

VISION_SECONDS = 10.0
"""How long vision may take over its last frame: a large one on a small Pi."""

SETUP_SECONDS = 60.0
"""How long everything but the camera may take at the start: imports and a model from a slow card."""

NAP_SECONDS = 1.0
"""A wait for the next picture of a file is longer than this only in naps, with a sign of life after each."""

REST_SECONDS = 0.1
"""How often it is looked, while the camera rests, whether it still shall."""

AGAIN = 75
"""Exit code (BSD's EX_TEMPFAIL) upon which systemd starts us again: another model has been chosen."""

PROBLEMS_SHOWN = 10
"""So many unreadable pictures of a folder are named at the end."""


class _Mark(Enum):
    """What stands between frames."""

    REST = "rest"
    """The camera rests: who is there is to be forgotten."""


@dataclass(frozen=True, slots=True)
class Signs:
    """What shows people on this machine whether the camera is read."""

    presence: Presence
    light: Callable[[bool], None]

    def show(self, doing: str) -> None:
        """Show one of `READING`, `RESTING` and `FILE`."""
        self.light(doing == READING)
        self.presence.say(doing)


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
    pause: PauseWatch
    signs: Signs
    problems: list[MienError] = field(default_factory=list)


def run(config: Config, *, environ: Mapping[str, str], annotate: Path | None = None) -> int:
    """Process a source until it ends, somebody stops it or something fails. For the main thread.

    Args:
        config: everything that can be set.
        environ: the process's environment, for the folder that the count of starts lives in.
        annotate: a video (`.mp4`) or folder for annotated frames; None: nothing is drawn.

    Returns:
        0 at the end of a file and after SIGTERM, 130 after SIGINT, 75 where systemd is to start it with another model.

    Raises:
        MienError: any of its kinds, once everything that could be brought out has been.
        Exception: a fault of ours, in whichever thread.
    """
    supervisor = Supervisor()
    try:
        return _run(config, environ, annotate, supervisor)
    except SignalledError:  # while the camera was opened
        return _code(supervisor)


def _run(config: Config, environ: Mapping[str, str], annotate: Path | None, supervisor: Supervisor) -> int:
    if annotate is not None:
        refuse_to_overwrite(config.source.spec, config.log.path, annotate)
    notifier = make_notifier(environ)
    _ask_for_time(notifier, config)
    state, device = state_folder(environ), config.device.name or default_name()
    shared = "STATE_DIRECTORY" in environ
    pause = PauseWatch(open_folder(state, shared=shared))
    with (
        choosing(config, state, supervisor, shared=shared) as chosen,
        one_thread(),
        supervisor.handling_signals(),
        panel(config.gpio, pause.folder) as light,
        closing(Presence(pause.folder, device)) as presence,
        _open_unless_paused(
            config,
            pause,
            signs := Signs(presence, light),
            supervisor,
            color=annotate is not None or chosen.model.channels == 3,
        ) as camera,
    ):
        model = chosen.model
        output = Output(supervisor, tuple(model.labels))
        realtime = _is_realtime(config, camera)
        start = count_start(state / "starts")
        vision = vision_for(config, model, device, start, live=camera.live)
        progress = Progress(sys.stderr, "frames", camera.promised)
        health = Health(
            device=device,
            model=model.name,
            refused=chosen.refused,
            live=camera.live,
            queues=output.queues,
            outbox=output.count_unsent,
            paused=partial(_is_paused, camera),
        )
        pulse = Pulse(live=camera.live)
        job = Job(camera, vision, output, supervisor, progress, health, pulse, pause, signs)
        began = time.monotonic()
        try:
            with serving(config.metrics, health.snapshot):
                output.open(
                    config,
                    device,
                    state,
                    annotate,
                    announcement_of(config, device, model),
                    live=camera.live,
                    patient=not realtime,
                    paused=partial(_is_paused, camera),
                )
                informed = notifying(notifier, job.pulse, supervisor, patience=lambda: camera.patience)
                attended = attending(pause, device, lambda local: output.erase(local=local), supervisor)
                leave = camera.live and notifier.address is not None
                watched = watching(chosen, lambda: job.pulse.frames, supervisor, leave=leave)
                with _telling(job, config.health.every), informed, attended, watched:
                    (run_threads if realtime else run_in_order)(job)
        except Exception as error:
            supervisor.fail(error)
        took = time.monotonic() - began
        progress.clear()
        # systemd kills what takes longer than TimeoutStopSec=, also where it ends of its own accord for another model.
        ended = supervisor.signal is not None or supervisor.failure is not None or chosen.left
        output.bring_out(insist=not camera.live and not ended, hurry=ended)
    if output.frames or supervisor.failure is None:
        print(f"mien: {output.summary(took)}", file=sys.stderr)
    code = _verdict(job)
    return AGAIN if chosen.left and supervisor.signal is None else code


def run_in_order(job: Job) -> None:
    """Every frame of a file, here and now; nothing is skipped."""
    try:
        for frame in _frames(job):
            if frame is not None:  # a file never rests
                _take(job, frame)
    finally:
        job.output.publish(job.vision.finish())


def run_threads(job: Job) -> None:
    """Capture and vision in a thread each, so that vision always gets the newest frame."""
    supervisor, slot = job.supervisor, Slot[Frame | _Mark]()
    looking = supervisor.start("vision", partial(_look, job, slot))
    capturing = supervisor.start("capture", partial(_capture, job, slot))
    supervisor.wait()
    slot.close()
    supervisor.attempt(partial(join_all, [looking], VISION_SECONDS))
    # The camera may be closed only once nobody reads from it, and a read may take as long as its limits say.
    limits = job.camera.limits
    settled = job.camera.delivering if isinstance(job.camera, RestingCamera) else job.output.frames > 0
    longest = limits.silent if settled else max(limits.opening, limits.silent)
    supervisor.attempt(partial(join_all, [capturing], longest + 1.0))
    job.output.skipped += slot.replaced


def _capture(job: Job, slot: Slot[Frame | _Mark]) -> None:
    began, newest = time.monotonic(), None
    try:
        for frame in _frames(job):
            if frame is None:
                newest = None
            elif job.camera.live:
                job.output.skipped += 0 if newest is None else frame.number - newest - 1
                newest = frame.number
            else:
                _wait_until(job, began + frame.time)
            slot.put(_Mark.REST if frame is None else frame)
    finally:
        slot.close()


def _wait_until(job: Job, due: float) -> None:
    """Wait for the moment of a file's frame, in monotonic seconds, however far off it is."""
    while (left := due - time.monotonic()) > 0 and not job.supervisor.stopping.wait(min(left, NAP_SECONDS)):
        if left > NAP_SECONDS:
            job.pulse.rest()


def _look(job: Job, slot: Slot[Frame | _Mark]) -> None:
    try:
        while not job.supervisor.stopped() and (frame := slot.take()) is not None:
            if isinstance(frame, _Mark):
                job.output.publish(job.vision.forget())
            elif not _is_to_rest(job):
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


def _frames(job: Job) -> Iterator[Frame | None]:
    """The camera's frames, also those after it was lost and found again, or paused; None: it has begun to rest.

    What a file source cannot read is noted, and what comes after it is still read.
    """
    sought = False
    while not job.supervisor.stopped():
        if isinstance(job.camera, RestingCamera) and job.pause.asked:
            yield from _rest(job, job.camera)
            continue
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


def _rest(job: Job, camera: RestingCamera) -> Iterator[None]:
    """Let go of the camera for as long as a pause is asked for."""
    camera.rest()
    job.signs.show(RESTING)
    _tell_broker(job)
    yield None
    while job.pause.asked and not job.supervisor.stopped():
        job.pulse.rest("paused")
        job.supervisor.stopping.wait(REST_SECONDS)
    if not job.supervisor.stopped():
        job.pulse.rest("opening the camera again")
        job.signs.show(READING)
        camera.wake()
        job.pulse.rest()
        _tell_broker(job)


def _is_to_rest(job: Job) -> bool:
    """Whether a pause is asked for; it concerns cameras alone."""
    return job.pause.asked and isinstance(job.camera, RestingCamera)


def _is_paused(camera: Camera) -> bool:
    return isinstance(camera, RestingCamera) and camera.resting


def _tell_broker(job: Job) -> None:
    """Tell the broker that a pause has begun or ended."""
    if job.output.mqtt is not None:
        job.output.mqtt.tell_state()
        job.output.mqtt.tell_health(lambda: job.health.snapshot().to_json())


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
    return _code(supervisor)


def _code(supervisor: Supervisor) -> int:
    return INTERRUPTED if supervisor.signal == signal.SIGINT else 0


def _open_unless_paused(
    config: Config, pause: PauseWatch, signs: Signs, supervisor: Supervisor, *, color: bool
) -> Camera:
    """The source of a configuration; a camera is not touched while a pause is asked for."""
    if not is_live(config.source.spec):
        signs.show(FILE)
        return open_source(config, color=color)
    shown = hide_password(config.source.spec)
    camera = RestingCamera(shown, partial(open_source, config, color=color), limits=_limits(config.source))
    signs.show(RESTING if pause.look() else READING)
    if not pause.asked:
        with supervisor.at_once():
            camera.wake()
        pause.look()  # somebody may have asked while it took its time to open
    return camera


def _limits(source: SourceConfig) -> Limits:
    return Limits(opening=source.open_timeout, silent=source.timeout, frozen=source.frozen)


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
        limits=_limits(source),
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
