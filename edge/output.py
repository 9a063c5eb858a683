"""Everything that leaves a run: events to the sinks, annotated frames to a recording, counts to the summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from edge.annotate import draw
from edge.config import Config
from edge.erasure import Erasure
from edge.errors import OutputError, UnavailableError
from edge.events import APPEARED, Event
from edge.health import Queue
from edge.outlet import Outlet
from edge.pipeline import Seen
from edge.recording import Recording, open_recording
from edge.sinks.console import Console
from edge.sinks.log import JsonLinesLog
from edge.sinks.mqtt import MqttSink, open_mqtt
from edge.sinks.mqtt_documents import Announcement
from edge.supervisor import Supervisor

DAY = 86400.0
"""Seconds."""

SINK_SECONDS = 15.0
"""How long a sink may take to bring out what waits: three times what MQTT allows itself."""

CONNECT_SECONDS = 5.0
"""How long the end of a file waits for a broker, counted from the start."""


@dataclass(slots=True)
class Output:
    """Where to, and how much so far.

    Attributes:
        supervisor: hears of everything that fails.
        labels: the model's, for drawing.
        recording: where annotated frames go, if anywhere.
        outlets: the sinks.
        mqtt: the one among them that talks to a broker, if any.
        opened: monotonic seconds.
        problem: why events could not be brought out, where they could not.
        frames: how many were looked at.
        skipped: how many were not, because newer ones came.
        faces: how many appeared.
        talks: whether events are printed on a terminal.
    """

    supervisor: Supervisor
    labels: tuple[str, ...]
    recording: Recording | None = None
    outlets: list[Outlet] = field(default_factory=list)
    mqtt: MqttSink | None = None
    opened: float = field(default_factory=time.monotonic)
    problem: OutputError | UnavailableError | None = None
    frames: int = 0
    skipped: int = 0
    faces: int = 0
    talks: bool = False

    def open(
        self,
        config: Config,
        device: str,
        folder: Path,
        annotate: Path | None,
        announcement: Announcement | None = None,
        *,
        live: bool,
        patient: bool,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Open what the configuration names; no sink named: the terminal.

        Args:
            config: the whole of it.
            device: the device's name.
            folder: for what must outlast this run.
            annotate: where annotated frames go; None: nowhere.
            announcement: what Home Assistant is told over MQTT; None: nothing.
            live: whether the source is.
            patient: whether the source waits for slow sinks.
            paused: whether the camera is not read, for the broker.

        Raises:
            MienError: something cannot be opened; what was opened before stays so until `bring_out`.
        """
        if annotate is not None:
            self.recording = open_recording(annotate, live=live)
        if config.log.path is not None:
            log = JsonLinesLog(
                config.log.path,
                max_bytes=config.log.max_bytes,
                keep=config.log.keep,
                max_age=config.log.max_age_days * DAY,
            )
            self.outlets.append(Outlet(log, self.supervisor, patient=patient))
        if config.mqtt.url:
            self.mqtt = open_mqtt(config.mqtt, device, folder, announcement, paused=paused)
            self.outlets.append(Outlet(self.mqtt, self.supervisor, patient=patient))
        if not self.outlets:
            self.talks = sys.stdout.isatty()
            self.outlets.append(Outlet(Console(), self.supervisor, patient=patient))

    def take(self, seen: Seen) -> None:
        """Pass on what a frame told."""
        self.frames += 1
        self.publish(seen.events)
        if self.recording is not None:
            image = seen.frame.gray if seen.frame.color is None else seen.frame.color
            shown = [(face.box, read.expression, read.confidence, read.scores) for face, read in seen.faces]
            self.recording.write(seen.frame, draw(image, shown, self.labels))

    def publish(self, events: list[Event]) -> None:
        """Hand events to every sink."""
        for event in events:
            self.faces += event.type == APPEARED
            for outlet in self.outlets:
                outlet.put(event)

    def queues(self) -> dict[str, Queue]:
        """What waits for each sink and what it has lost, by its name; for any thread."""
        queues = {outlet.name: Queue(outlet.waiting, outlet.dropped + outlet.lost) for outlet in self.outlets}
        if self.mqtt is not None and (handed := queues.get(self.mqtt.name)):
            lost = handed.lost + self.mqtt.dropped + self.mqtt.rejected
            queues[self.mqtt.name] = Queue(handed.waiting + self.mqtt.unsent, lost)
        return queues

    def count_unsent(self) -> int | None:
        """Events that wait for the broker in its outbox; None without one."""
        return None if self.mqtt is None else self.mqtt.unsent

    def erase(self, *, local: bool) -> Erasure:
        """Have every sink remove what it has stored; see `Sink.erase`. From any thread."""
        erasure = Erasure()
        for outlet in self.outlets:
            erasure.add(outlet.erase(local=local, timeout=SINK_SECONDS))
        return erasure

    def bring_out(self, *, insist: bool, hurry: bool) -> None:
        """Close recording and sinks, each in turn, whatever happens to the others.

        Args:
            insist: whether a broker that cannot be had is waited for, and is a `problem` even with nothing to say.
            hurry: whether somebody waits for the end; what is not out soon then stays in the outbox.
        """
        if self.recording is not None:
            self.supervisor.attempt(self.recording.close)
        if self.mqtt is not None and hurry:
            self.mqtt.hurry()
        if self.mqtt is not None and insist:
            self.problem = _await_broker(self.mqtt, max(0.0, self.opened + CONNECT_SECONDS - time.monotonic()))
        for outlet in self.outlets:
            self.supervisor.attempt(partial(outlet.finish, SINK_SECONDS))
            self.problem = outlet.problem or self.problem
        if self.mqtt is not None and self.mqtt.dropped and self.problem is None:
            self.problem = UnavailableError(f"{self.mqtt.dropped} events did not reach the broker; too many waited")

    def summary(self, seconds: float) -> str:
        """One line for a person."""
        rate = self.frames / seconds if seconds > 0 else 0.0
        lost = sum(outlet.dropped + outlet.lost for outlet in self.outlets) + (self.mqtt.dropped if self.mqtt else 0)
        return (
            f"{self.frames} frame{'' if self.frames == 1 else 's'}, {self.skipped} skipped, "
            f"{self.faces} face{'' if self.faces == 1 else 's'}, {rate:.1f} frames/s"
            f"{f', {lost} events lost' if lost else ''}"
        )


def _await_broker(mqtt: MqttSink, timeout: float) -> UnavailableError | None:
    try:
        if mqtt.wait_connected(timeout):
            return None
    except UnavailableError as error:
        return error
    return UnavailableError("the broker does not answer; check mqtt.url (--mqtt), and that the broker runs")
