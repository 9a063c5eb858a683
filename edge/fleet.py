"""Every device on a broker, folded from the retained messages below `<base>/<device>/`.

What comes from a broker may be anybody's: nothing here raises because of it, and every text is fit for a terminal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from edge.board import REASONS
from edge.commandline import printable
from edge.events import format_time
from edge.health import SCHEMA as HEALTH_SCHEMA
from edge.rules import DEVICE_NAME
from edge.state import SCHEMA as STATE_SCHEMA

SCHEMA = "mien/fleet/1"

ONLINE, OFFLINE, UNKNOWN = "online", "offline", "unknown"

STATUS, STATE, HEALTH = KINDS = ("status", "state", "health")

MOST_BYTES = 64 * 1024
"""Of a message; a state with a hundred faces has 15,000."""

MOST_DEVICES = 10_000
MOST_COMPLAINTS = 100
MOST_SINKS = 16
MOST_TEXT = 80
"""Characters of a text that are kept."""

MOST_NUMBER = 1e12
MOST_UPTIME = 1e9
"""Seconds; so that a start can be reckoned back from any time."""

YEARS = range(1970, 9000)
"""Times beyond them cannot be told in every time zone."""


class _JunkError(ValueError):
    """A message is none of Mien's; says why."""


@dataclass(frozen=True, slots=True)
class State:
    """What there is of `mien/state/1`: whether it is paused, how many faces, what the largest shows. None: not told."""

    time: datetime | None = None
    faces: int | None = None
    expression: str | None = None
    confidence: float | None = None
    paused: bool | None = None


@dataclass(frozen=True, slots=True)
class Vitals:
    """What there is of `mien/health/1`. None: not told.

    Attributes:
        time: when; None where the device's clock could not be believed.
        uptime: seconds.
        fps: frames per second.
        frame_age: seconds.
        temperature: °C.
        throttled: why the processor is slowed down, as `edge.board.REASONS`; None off a Raspberry Pi.
        was_throttled: likewise, at any time since it was switched on.
        outbox: events that wait for the broker.
        lost: events given up, of all sinks.
    """

    time: datetime | None = None
    model: str | None = None
    version: str | None = None
    uptime: float | None = None
    fps: float | None = None
    frame_age: float | None = None
    temperature: float | None = None
    throttled: tuple[str, ...] | None = None
    was_throttled: tuple[str, ...] | None = None
    outbox: int | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of one device. Times are aware.

    Attributes:
        name: as in its topics.
        told: what its `status` says.
        doubted: the connection to the broker was lost meanwhile, and `told` may be of before.
        changed: when `told` was seen to change.
        seen: its last sign of life, as far as that can be told.
        state: the latest.
        health: the latest.
    """

    name: str
    told: str | None = None
    doubted: bool = False
    changed: datetime | None = None
    seen: datetime | None = None
    state: State = State()
    health: Vitals = Vitals()

    @property
    def status(self) -> str:
        """`ONLINE`, `OFFLINE` or `UNKNOWN`."""
        return UNKNOWN if self.told is None or self.doubted else self.told

    @property
    def since(self) -> datetime | None:
        """Since when it is so: when that was seen; else, online: its start, offline: its last sign of life."""
        if self.changed is not None or self.told is None:
            return self.changed
        if self.told == OFFLINE:
            return self.seen
        health = self.health
        if health.time is None or health.uptime is None:
            return None
        return health.time - timedelta(seconds=health.uptime)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it; null: it is not known."""
        state, health = self.state, self.health
        throttling = None
        if health.throttled is not None:
            throttling = {"now": list(health.throttled), "since_boot": list(health.was_throttled or ())}
        return {
            "schema": SCHEMA,
            "device": self.name,
            "status": self.status,
            "paused": state.paused,
            "since": _told(self.since),
            "last_seen": _told(self.seen),
            "faces": state.faces,
            "expression": state.expression,
            "confidence": state.confidence,
            "fps": health.fps,
            "frame_age": health.frame_age,
            "temperature": health.temperature,
            "throttling": throttling,
            "outbox": health.outbox,
            "lost": health.lost,
            "model": health.model,
            "version": health.version,
        }

    def to_json(self) -> str:
        """One line, without its break."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class Fleet:
    """All devices below one base. Not to be shared between threads."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._devices: dict[str, Device] = {}
        self._complained: set[str] = set()

    def devices(self) -> list[Device]:
        """All that are known, by name."""
        return [self._devices[name] for name in sorted(self._devices)]

    def take(self, topic: str, payload: bytes, now: datetime) -> str | None:
        """Fold one message in.

        Args:
            topic: whole.
            payload: empty where the topic was emptied.
            now: aware.

        Returns:
            What is wrong with it, where it is none of Mien's and its topic was not complained of before.
        """
        try:
            name, kind = self._parts(topic)
            device = _fold(self._devices.get(name) or Device(name), kind, payload, now)
            if (device.told, device.state, device.health) == (None, State(), Vitals()):
                self._devices.pop(name, None)
            elif name in self._devices or len(self._devices) < MOST_DEVICES:
                self._devices[name] = device
            else:
                return self._complain("", f"there are more than {MOST_DEVICES} devices; further ones are not shown")
        except _JunkError as junk:
            shown = printable(topic[: 2 * MOST_TEXT])
            return self._complain(topic, f"{shown} does not come from Mien ({junk}); it is left out")
        return None

    def doubt(self) -> None:
        """The connection was lost: who was online need not be; the broker tells again."""
        self._devices = {name: replace(device, doubted=True) for name, device in self._devices.items()}

    def _parts(self, topic: str) -> tuple[str, str]:
        rest = topic.removeprefix(f"{self._base}/")
        name, _, kind = rest.partition("/")
        if rest == topic or kind not in KINDS:
            raise _JunkError("no such topic")
        if not DEVICE_NAME.fullmatch(name):
            raise _JunkError("no name of a device")
        return name, kind

    def _complain(self, topic: str, complaint: str) -> str | None:
        if topic in self._complained or len(self._complained) > MOST_COMPLAINTS:
            return None
        self._complained.add(topic)
        if len(self._complained) > MOST_COMPLAINTS:
            return f"more than {MOST_COMPLAINTS} topics hold what does not come from Mien; the others are not named"
        return complaint


def _fold(device: Device, kind: str, payload: bytes, now: datetime) -> Device:
    if kind == STATUS:
        return _fold_status(device, payload, now)
    document = _object(payload) if payload else None
    if document is not None and document.get("device") != device.name:
        raise _JunkError("it is about another device")
    if kind == STATE:
        state = _state(document) if document is not None else State()
        return replace(device, state=state, seen=_sign_of_life(device, device.state, state, now))
    health = _vitals(document) if document is not None else Vitals()
    return replace(device, health=health, seen=_sign_of_life(device, device.health, health, now))


def _sign_of_life(device: Device, before: State | Vitals, read: State | Vitals, now: datetime) -> datetime | None:
    """When the device was last heard of, after a message more."""
    when = read.time
    # Told again after a reconnection, a message is no sign of life; changed, it is one, though its clock be wrong.
    if when is None and before != read and type(read)() not in (before, read):
        when = now
    signs = [sign for sign in (device.seen, when and min(when, now)) if sign is not None]
    return max(signs, default=None)


def _fold_status(device: Device, payload: bytes, now: datetime) -> Device:
    if not payload:
        return replace(device, told=None, changed=None, doubted=False)
    if payload not in (b"online", b"offline"):
        raise _JunkError("neither online nor offline")
    told = payload.decode()
    changed = device.changed if device.told in (None, told) else now
    seen = now if told == ONLINE and changed == now else device.seen
    return replace(device, told=told, doubted=False, changed=changed, seen=seen)


def _state(document: Mapping[str, Any]) -> State:
    _expect(document, STATE_SCHEMA)
    dominant = _table(document, "dominant") or {}
    faces = _count(document, "count")
    if faces is None:
        raise _JunkError("count is missing")
    expression, confidence = _text(dominant, "expression"), _number(dominant, "confidence")
    return State(_time(document), faces, expression, confidence, _flag(document, "paused"))


def _vitals(document: Mapping[str, Any]) -> Vitals:
    _expect(document, HEALTH_SCHEMA)
    flags = _table(document, "throttling")
    sinks = _table(document, "sinks")
    lost = None
    if sinks is not None:
        if len(sinks) > MOST_SINKS or not all(isinstance(sink, dict) for sink in sinks.values()):
            raise _JunkError("sinks are none")
        lost = sum(_count(sink, "lost") or 0 for sink in sinks.values())
    return Vitals(
        time=_time(document),
        model=_text(document, "model"),
        version=_text(document, "version"),
        uptime=_number(document, "uptime", most=MOST_UPTIME),
        fps=_number(document, "fps"),
        frame_age=_number(document, "frame_age"),
        temperature=_number(document, "temperature", least=-MOST_NUMBER),
        throttled=None if flags is None else _flagged(flags, "now"),
        was_throttled=None if flags is None else _flagged(flags, "since_boot"),
        outbox=_count(document, "outbox"),
        lost=lost,
    )


def _flagged(flags: Mapping[str, Any], when: str) -> tuple[str, ...]:
    return tuple(reason for reason in REASONS if (_table(flags, reason) or {}).get(when) is True)


def _object(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > MOST_BYTES:
        raise _JunkError(f"{len(payload)} bytes")
    try:
        document = json.loads(payload, parse_constant=_refuse)
    except (ValueError, RecursionError):  # not UTF-8, no JSON, a number of thousands of digits, nested too deeply
        document = None
    if not isinstance(document, dict):
        raise _JunkError("no JSON object")
    return document


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)


def _expect(document: Mapping[str, Any], schema: str) -> None:
    told = document.get("schema")
    if told == schema:
        return
    stem = schema.rpartition("/")[0]
    if isinstance(told, str) and told.startswith(f"{stem}/"):
        raise _JunkError(f"{printable(told[:MOST_TEXT])} is not known here; update mien on this machine")
    raise _JunkError(f"not {schema}")


def _number(document: Mapping[str, Any], key: str, *, least: float = 0.0, most: float = MOST_NUMBER) -> float | None:
    value = document.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _JunkError(f"{key} is no number that it can be")
    return float(value)


def _count(document: Mapping[str, Any], key: str) -> int | None:
    value = _number(document, key)
    if value is not None and value != int(value):
        raise _JunkError(f"{key} is no whole number")
    return None if value is None else int(value)


def _text(document: Mapping[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise _JunkError(f"{key} is no text")
    return printable(value[:MOST_TEXT])


def _flag(document: Mapping[str, Any], key: str) -> bool | None:
    value = document.get(key)
    if value is not None and not isinstance(value, bool):
        raise _JunkError(f"{key} is neither true nor false")
    return value


def _table(document: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    value = document.get(key)
    if value is not None and not isinstance(value, dict):
        raise _JunkError(f"{key} is no object")
    return value


def _time(document: Mapping[str, Any]) -> datetime | None:
    """When the device says that it was; None before its first event, and where its clock cannot be believed."""
    text = _text(document, "ts")
    if text is None or document.get("clock_synced") is not True:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise _JunkError("ts is no time") from None
    if time.tzinfo is None or time.year not in YEARS:
        raise _JunkError("ts is no time")
    return time.astimezone(UTC)


def _told(time: datetime | None) -> str | None:
    return None if time is None else format_time(time)
