"""What is published: the event (`mien/event/1`, described by `event.schema.json`) and who decides when there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from edge.frame import Face, Frame
from edge.smoothing import Reading

SCHEMA = "mien/event/1"

APPEARED, CHANGED, UPDATED, GONE = TYPES = ("appeared", "changed", "updated", "gone")

DECIMALS = 4
"""Of scores and confidence; finer steps than an int8 logit can justify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to one face. The fields are those of the JSON object.

    Attributes:
        id: device, count of starts and sequence number; unique for ever and sorting in order.
        ts: UTC, RFC 3339 with milliseconds.
        clock_synced: whether `ts` can be believed.
        type: one of `TYPES`.
        box: x, y, width, height in pixels of the frame, turned upright and whole whatever region of it is looked at;
            for `gone` where the face was last.
        frame: that frame's width and height in pixels.
        expression: one of the model's labels or `uncertain`.
        confidence: the highest score.
        scores: label -> calibrated probability, adding up to 1.
        previous: for `changed`, the expression before.
        since: for `changed`, how many seconds that one stood.
    """

    id: str
    device: str
    ts: str
    clock_synced: bool
    type: str
    track: int
    box: tuple[int, int, int, int]
    frame: tuple[int, int]
    expression: str
    confidence: float
    scores: Mapping[str, float]
    previous: str | None = None
    since: float | None = None
    model: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; `previous` and `since` are left out where there are none."""
        values: dict[str, Any] = {"schema": SCHEMA} | {name: getattr(self, name) for name in self.__slots__}
        values |= {"box": list(self.box), "frame": list(self.frame), "scores": dict(self.scores)}
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self) -> str:
        """One line, without its break."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def round_scores(scores: Sequence[float]) -> list[float]:
    """Round probabilities that add up to 1 so that they still do (largest remainders are rounded up)."""
    steps = 10**DECIMALS
    scaled = [score * steps for score in scores]
    whole = [int(value) for value in scaled]
    short = round(sum(scaled)) - sum(whole)
    for index in sorted(range(len(whole)), key=lambda index: whole[index] - scaled[index])[:short]:
        whole[index] += 1
    return [value / steps for value in whole]


def format_time(time: datetime) -> str:
    """An aware datetime as UTC, RFC 3339, with milliseconds and `Z`."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Place(NamedTuple):
    """A box and the width and height of the whole frame that it is counted in."""

    box: tuple[int, int, int, int]
    frame: tuple[int, int]


@dataclass(slots=True)
class _Known:
    """A face that has been announced: where it was last, in which frame; times are the frames' own, in seconds."""

    place: _Place
    reading: Reading
    began: float
    reported: float


class Reporter:
    """Decides what is worth an event. Durations come from `Frame.time`, never from the wall clock."""

    def __init__(
        self,
        *,
        device: str,
        labels: Sequence[str],
        model: str,
        start: int,
        every: float,
        now: Callable[[Frame], datetime],
        clock_synced: Callable[[], bool],
    ) -> None:
        """Begin with nobody in sight.

        Args:
            device: the device's name.
            labels: names of the scores, in their order.
            model: the model's name, as `Model.name`.
            start: the durable count of starts, from `edge.starts.count_start`.
            every: seconds between two events of a face whose expression stands, at the least.
            now: the date and time of a frame, aware of its time zone.
            clock_synced: whether the clock behind `now` can be believed.
        """
        self._device = device
        self._labels = tuple(labels)
        self._model = model
        self._start = start
        self._every = every
        self._now = now
        self._clock_synced = clock_synced
        self._sequence = 0
        self._known: dict[int, _Known] = {}
        self._frame: Frame | None = None

    def update(self, frame: Frame, readings: Sequence[tuple[Face, Reading]]) -> list[Event]:
        """Compare a frame's faces with those known.

        Args:
            frame: the frame.
            readings: every face that is there, with what it shows. Who is known and not among them has gone.

        Returns:
            The events, oldest first: `gone`, then one for each face that appeared, changed or is due.
        """
        self._frame = frame
        present = {face.track for face, _ in readings}
        events = [self._leave(frame, track) for track in sorted(self._known.keys() - present)]
        for face, reading in readings:
            event = self._see(frame, face, reading)
            if event is not None:
                events.append(event)
        return events

    def finish(self, frame: Frame | None = None) -> list[Event]:
        """Say `gone` for all who are left; `frame` is the last one seen where it is None."""
        last = frame or self._frame
        if last is None:
            return []
        return [self._leave(last, track) for track in sorted(self._known)]

    def _see(self, frame: Frame, face: Face, reading: Reading) -> Event | None:
        known = self._known.get(face.track)
        place = _place(frame, face)
        if known is None:
            self._known[face.track] = _Known(place, reading, frame.time, frame.time)
            return self._event(APPEARED, frame, face.track, place, reading)
        before, known.place, known.reading = known.reading.expression, place, reading
        if reading.expression != before:
            since = round(max(frame.time - known.began, 0.0), 3)
            known.began = known.reported = frame.time
            return self._event(CHANGED, frame, face.track, place, reading, before, since)
        # A clock that jumped back must not silence a face until it has caught up.
        if 0 <= frame.time - known.reported < self._every:
            return None
        known.reported = frame.time
        return self._event(UPDATED, frame, face.track, place, reading)

    def _leave(self, frame: Frame, track: int) -> Event:
        known = self._known.pop(track)
        return self._event(GONE, frame, track, known.place, known.reading)

    def _event(
        self,
        kind: str,
        frame: Frame,
        track: int,
        place: _Place,
        reading: Reading,
        previous: str | None = None,
        since: float | None = None,
    ) -> Event:
        self._sequence += 1
        scores = round_scores(reading.scores.tolist())
        return Event(
            id=f"{self._device}-{self._start:06d}-{self._sequence:010d}",
            device=self._device,
            ts=format_time(self._now(frame)),
            clock_synced=self._clock_synced(),
            type=kind,
            track=track,
            box=place.box,
            frame=place.frame,
            expression=reading.expression,
            confidence=max(scores),
            scores=dict(zip(self._labels, scores, strict=True)),
            previous=previous,
            since=since,
            model=self._model,
        )


def _place(frame: Frame, face: Face) -> _Place:
    """Where a face is in the whole frame, of which vision may see a region alone."""
    x, y, width, height = face.box.as_tuple()
    return _Place((x + frame.origin[0], y + frame.origin[1], width, height), frame.whole)
