"""What a run is put together from, as a configuration has it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge import __version__
from edge.config import Config
from edge.device import clock_is_synced
from edge.errors import UsageError
from edge.events import Reporter
from edge.frame import Frame
from edge.homeassistant import discovery, removal
from edge.model import Model
from edge.pipeline import Vision, make_detector, make_eyes, make_vision
from edge.sinks.mqtt_documents import Announcement


class _Calendar:
    """Date and time of a frame: of its capture where it is live, else of the run's start plus the media time."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._start = datetime.now(UTC)

    def __call__(self, frame: Frame) -> datetime:
        if self._live:
            return datetime.now(UTC) - timedelta(seconds=time.monotonic() - frame.time)
        return self._start + timedelta(seconds=frame.time)


def vision_for(config: Config, model: Model, device: str, start: int, *, live: bool) -> Vision:
    """The pipeline with all that its events say of the device; `live` frames tell when they were captured."""
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


def announcement_of(config: Config, device: str, model: Model) -> Announcement:
    """What Home Assistant is told: of this device, or to forget it."""
    prefix = config.homeassistant.prefix
    if config.homeassistant.enabled:
        topic, payload = discovery(device, config.mqtt.base, model.name, model.labels, __version__, prefix=prefix)
    else:
        topic, payload = removal(device, prefix=prefix)
    return Announcement(topic, payload, birth_topic=f"{prefix}/status")


def refuse_to_overwrite(spec: str, log: Path | None, out: Path) -> None:
    """Make sure that what is annotated takes no other file's place.

    Raises:
        UsageError: it would take the log's or the source's.
    """
    if log is not None and out.resolve() == log.resolve():
        raise UsageError(f"--annotate {out} and the log (--log, log.path) are one file; give each a name of its own")
    source = Path(spec.removeprefix("images:"))
    if out.exists() and source.exists() and out.samefile(source):
        raise UsageError(f"--annotate {out} would write over the source itself; choose another name")
