"""How the daemon is (`mien/health/1`, described by `health.schema.json`): counted as it runs, told when asked for."""

from __future__ import annotations

import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from edge import __version__
from edge.board import ROOT, Flag, resident_memory, temperature, throttling
from edge.device import clock_is_synced
from edge.events import format_time

SCHEMA = "mien/health/1"

WINDOW_SECONDS = 60.0
"""Rates and percentiles are those of the last minute."""

MARK_SECONDS = 1.0
"""So far apart are the counts that rates are taken from."""

MAX_LATENCIES = 4096
"""Kept at most: an event in every frame of 68 a second. Of more, the newest count."""


class Latency(NamedTuple):
    """Percentiles in milliseconds, from a frame's capture until its events have been handed to the sinks."""

    p50: float
    p95: float
    p99: float


class Queue(NamedTuple):
    """What became of the events for one sink."""

    waiting: int
    """Not yet out: written, or acknowledged by the broker."""
    lost: int
    """Given up since the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """How the daemon is at one moment. The fields are those of the JSON object; None is `null`: it is not known.

    Attributes:
        device: the device's name.
        ts: UTC, RFC 3339 with milliseconds.
        clock_synced: whether `ts` can be believed.
        version: Mien's.
        model: the model's name, as in events.
        refused_model: one that was chosen and did not come up, so that another one is used; None: none was.
        uptime: seconds since the daemon's start.
        paused: whether the camera is not read since somebody has paused it.
        frames: how many were looked at since then.
        skipped: how many were not, because newer ones came.
        events: how many were handed to the sinks.
        fps: frames looked at per second over the last minute.
        frame_age: seconds since the newest frame that was looked at was captured; for files, since it was looked at.
            None before the first, and while paused.
        faces: how many were in that frame.
        latency: over the last minute; None for files and where nothing happened.
        temperature: the processor's, °C.
        throttling: by reason, see `edge.board.throttling`; None off a Raspberry Pi.
        memory: resident, bytes.
        cpu: processor seconds per second over the last minute; 1.0 is one core in full.
        sinks: by name.
        outbox: events that wait for the broker; None without one.
    """

    device: str
    ts: str
    clock_synced: bool
    version: str
    model: str
    refused_model: str | None = None
    uptime: float
    paused: bool
    frames: int
    skipped: int
    events: int
    fps: float
    frame_age: float | None
    faces: int
    latency: Latency | None
    temperature: float | None
    throttling: Mapping[str, Flag] | None
    memory: int | None
    cpu: float
    sinks: Mapping[str, Queue]
    outbox: int | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values: dict[str, Any] = {"schema": SCHEMA} | {name: getattr(self, name) for name in self.__slots__}
        flags, sinks = self.throttling, self.sinks
        return values | {
            "latency": self.latency._asdict() if self.latency else None,
            "throttling": None if flags is None else {reason: flag._asdict() for reason, flag in flags.items()},
            "sinks": {name: queue._asdict() for name, queue in sinks.items()},
        }

    def to_json(self) -> str:
        """One line, without its break."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class _Mark(NamedTuple):
    """What had been counted at a time, in seconds."""

    time: float
    frames: int
    cpu: float


class Health:
    """Is told of every frame by the thread that looks at them, and gives a `Snapshot` to any thread that asks."""

    def __init__(
        self,
        *,
        device: str,
        model: str,
        live: bool,
        refused: str | None = None,
        queues: Callable[[], Mapping[str, Queue]] = dict,
        outbox: Callable[[], int | None] = lambda: None,
        paused: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.process_time,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock_synced: Callable[[], bool] = clock_is_synced,
        root: Path = ROOT,
    ) -> None:
        """Begin to count.

        Args:
            device: the device's name.
            model: the model's name, as `Model.name`.
            live: whether `Frame.time` is monotonic time at capture; else it says nothing of ages.
            refused: the model that was chosen and did not come up.
            queues: what waits for each sink, by its name; called from whichever thread asks for a snapshot.
            outbox: events that wait for the broker; likewise.
            paused: whether the camera is not read; likewise.
            clock: monotonic seconds, the same as those of live frames.
            processor: seconds of processor time that this process has used.
            now: date and time.
            clock_synced: whether `now` can be believed.
            root: below it are `/sys`, `/proc` and `/usr/bin/vcgencmd`.
        """
        self._device = device
        self._model = model
        self._refused = refused
        self._live = live
        self._queues = queues
        self._outbox = outbox
        self._paused = paused
        self._clock = clock
        self._processor = processor
        self._now = now
        self._clock_synced = clock_synced
        self._root = root
        self._lock = threading.Lock()
        self._began = clock()
        self._frames = self._skipped = self._events = self._faces = 0
        self._newest: float | None = None
        self._marks = deque([_Mark(self._began, 0, processor())])
        self._latencies: deque[tuple[float, float]] = deque(maxlen=MAX_LATENCIES)

    def looked(self, time: float, *, faces: int, events: int, skipped: int) -> None:
        """Count a frame whose events have just been handed to the sinks.

        Args:
            time: its `Frame.time`.
            faces: how many are in it.
            events: how many it gave.
            skipped: how many frames were not looked at, since the start.
        """
        now = self._clock()
        with self._lock:
            self._frames += 1
            self._skipped = skipped
            self._events += events
            self._faces = faces
            self._newest = time if self._live else now
            if events and self._live:
                self._latencies.append((now, max(0.0, now - time)))
            self._mark(now)

    def snapshot(self) -> Snapshot:
        """How the daemon is now, from its counts and a few small files; may take `VCGENCMD_SECONDS` on a Pi."""
        hot, slowed, memory = temperature(self._root), throttling(self._root), resident_memory(self._root)
        sinks, outbox, paused = self._queues(), self._outbox(), self._paused()
        now = self._clock()
        with self._lock:
            since = self._mark(now)
            elapsed = now - since.time
            return Snapshot(
                device=self._device,
                ts=format_time(self._now()),
                clock_synced=self._clock_synced(),
                version=__version__,
                model=self._model,
                refused_model=self._refused,
                uptime=round(now - self._began, 1),
                paused=paused,
                frames=self._frames,
                skipped=self._skipped,
                events=self._events,
                fps=round((self._frames - since.frames) / elapsed, 2) if elapsed > 0 else 0.0,
                frame_age=None if self._newest is None or paused else round(max(0.0, now - self._newest), 3),
                faces=0 if paused else self._faces,
                latency=self._percentiles(now),
                temperature=hot,
                throttling=slowed,
                memory=memory,
                cpu=round((self._processor() - since.cpu) / elapsed, 4) if elapsed > 0 else 0.0,
                sinks=sinks,
                outbox=outbox,
            )

    def _mark(self, now: float) -> _Mark:
        """Note the counts once a second; returns those of a minute ago, or the oldest there are."""
        marks = self._marks
        if now - marks[-1].time >= MARK_SECONDS:
            marks.append(_Mark(now, self._frames, self._processor()))
        while len(marks) > 1 and now - marks[1].time >= WINDOW_SECONDS:
            marks.popleft()
        return marks[0]

    def _percentiles(self, now: float) -> Latency | None:
        while self._latencies and now - self._latencies[0][0] > WINDOW_SECONDS:
            self._latencies.popleft()
        ordered = sorted(latency for _, latency in self._latencies)
        if not ordered:
            return None
        # The nearest rank: a latency that was really had, never one between two.
        return Latency(*(round(ordered[math.ceil(share * len(ordered)) - 1] * 1e3, 1) for share in (0.5, 0.95, 0.99)))
