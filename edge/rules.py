"""What a configuration key may hold: types and ranges, each with the words that a refusal uses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from edge.credentials import hide_password

DEVICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""A device's name stands in MQTT topics and event ids, so it has no `/`, `+`, `#` and no spaces."""


@dataclass(frozen=True)
class Rule:
    """What a key may hold. `accept` turns a TOML value into the field's, or raises ValueError."""

    expected: str
    accept: Callable[[object], object]
    from_text: Callable[[str], object] = str


def whole(low: int, high: int, unit: str = "") -> Rule:
    """A whole number, both ends included."""

    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError
        return value

    return Rule(f"a whole number from {low} to {high}{unit}", accept, int)


def real(low: float, high: float, unit: str = "") -> Rule:
    """A finite number, both ends included."""

    def accept(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError
        if not low <= value <= high:  # which neither infinity nor what is no number is
            raise ValueError
        return float(value)

    return Rule(f"a number from {low:g} to {high:g}{unit}", accept, float)


def one_of(values: tuple[int, ...], unit: str = "") -> Rule:
    """One of a few whole numbers."""

    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value not in values:
            raise ValueError
        return value

    return Rule(f"{', '.join(map(str, values[:-1]))} or {values[-1]}{unit}", accept, int)


def yes_or_no() -> Rule:
    """True or false; in the environment also 1 or 0."""

    def accept(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    words = {"true": True, "1": True, "false": False, "0": False}
    return Rule("true or false", accept, lambda text: words[text.lower()])


def region() -> Rule:
    """x, y, width and height as fractions of a picture; in the environment separated by commas."""

    def accept(value: object) -> tuple[float, float, float, float]:
        if not isinstance(value, list | tuple) or len(value) != 4:
            raise ValueError
        shares = [float(number) for number in value if isinstance(number, int | float) and 0 <= number <= 1]
        if len(shares) != 4 or any(isinstance(number, bool) for number in value):
            raise ValueError
        x, y, width, height = shares
        # Decimal fractions such as 0.7 + 0.3 may add up to a hair more than 1.
        if not (width > 0 and height > 0 and x + width <= 1 + 1e-9 and y + height <= 1 + 1e-9):
            raise ValueError
        return x, y, width, height

    expected = (
        "[x, y, width, height] in fractions of the picture, such as [0.25, 0.0, 0.5, 1.0], inside it and not empty"
    )
    return Rule(expected, accept, lambda text: [float(number) for number in text.split(",")])


def text(expected: str, good: Callable[[str], object] = bool) -> Rule:
    """Text that is empty or passes `good`; control characters never do."""

    def accept(value: object) -> str:
        if not isinstance(value, str) or (value and not (value.isprintable() and good(value))):
            raise ValueError
        return value

    return Rule(expected, accept)


def path(expected: str) -> Rule:
    """A path, None where it is empty; `~` is the user's home."""

    def accept(value: object) -> Path | None:
        if not isinstance(value, str | Path) or "\0" in str(value):
            raise ValueError
        return Path(value).expanduser() if str(value) else None

    return Rule(expected, accept)


def names(expected: str) -> Rule:
    """A list of different texts; in the environment and on the command line separated by commas."""

    def accept(value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name.strip() for name in value):
            raise ValueError
        stripped = tuple(name.strip() for name in value)
        if len(set(stripped)) != len(stripped) or len(stripped) == 1:
            raise ValueError
        return stripped

    return Rule(expected, accept, lambda text: text.split(",") if text else [])


class Broker(NamedTuple):
    """Where an MQTT broker listens."""

    host: str
    port: int
    tls: bool


def parse_broker(url: str) -> Broker:
    """`mqtt://host[:1883]` or `mqtts://host[:8883]` -> host, port and whether to encrypt.

    Raises:
        ValueError: it is something else, or has a user, a path or a query.
    """
    ports = {"mqtt": 1883, "mqtts": 8883}
    try:
        parts = urlsplit(url)
        extras = parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc
        # A name that DNS cannot carry would end paho's thread.
        good = parts.scheme in ports and parts.hostname and not extras and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        good = False
    if not good or not parts.hostname:
        raise ValueError(f"{hide_password(url)} is no mqtt://host:1883 or mqtts://host:8883")
    return Broker(parts.hostname, parts.port or ports[parts.scheme], parts.scheme == "mqtts")


def is_topic(base: str) -> bool:
    """Whether MQTT topics can begin with this: no wildcards, no empty level, not `$SYS`."""
    return all(base.split("/")) and not set(base) & set("+#$") and len(base) <= 200


def is_device(spec: str) -> bool:
    """Whether a source that is named by its path is a camera's, also one that is not plugged in.

    Raises:
        OSError: no path can be called so.
    """
    return spec.startswith(("/dev/video", "/dev/v4l/")) or Path(spec).is_char_device()
