"""What the machine says of itself: temperature, throttling, memory. None where it does not say.

Everything is read below a root folder, so that a test can script a Raspberry Pi.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path("/")

PLAUSIBLE = (-40.0, 150.0)
"""°C; a sensor that tells anything else is broken or absent."""

REASONS = ("under_voltage", "frequency_capped", "throttled", "soft_temp_limit")
"""Bits 0 to 3 of the firmware's answer are now, bits 16 to 19 since boot (Raspberry Pi documentation, `vcgencmd`)."""

SINCE_BOOT_SHIFT = 16

VCGENCMD_SECONDS = 1.0
"""How long the firmware may take to answer; it needs milliseconds."""

_PROCESSOR = re.compile(r"cpu|soc|pkg", re.IGNORECASE)
_LONGEST = 64


class Flag(NamedTuple):
    """Whether something is so; None where the machine does not tell."""

    now: bool | None
    since_boot: bool | None


def temperature(root: Path = ROOT) -> float | None:
    """The processor's temperature in °C: of the sensors named for it the hottest, else the hottest of all."""
    sensors = list(_thermal_zones(root)) or list(_hwmon(root))
    named = [value for name, value in sensors if _PROCESSOR.search(name)]
    return max(named or [value for _, value in sensors], default=None)


def throttling(root: Path = ROOT) -> dict[str, Flag] | None:
    """Why the firmware slows the processor down, by `REASONS`; None off a Raspberry Pi.

    Where neither the kernel's file nor `vcgencmd` gives the firmware's bits, its voltage sensor still tells of
    under-voltage at this moment (kernels without Raspberry Pi's patches).
    """
    bits = _firmware_bits(root)
    if bits is not None:
        return {
            reason: Flag(bool(bits >> bit & 1), bool(bits >> bit + SINCE_BOOT_SHIFT & 1))
            for bit, reason in enumerate(REASONS)
        }
    for sensor in sorted(root.glob("sys/class/hwmon/hwmon*")):
        alarm = _text(sensor / "in0_lcrit_alarm")
        if _text(sensor / "name") == "rpi_volt" and alarm in {"0", "1"}:
            unknown = dict.fromkeys(REASONS, Flag(None, None))
            return unknown | {"under_voltage": Flag(alarm == "1", None)}
    return None


def resident_memory(root: Path = ROOT) -> int | None:
    """This process's resident memory in bytes (proc(5), `statm`)."""
    fields = _text(root / "proc/self/statm").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 and fields[1].isdecimal() else None


def _firmware_bits(root: Path) -> int | None:
    # The folder is called soc, or soc@ and an address, by the board's device tree.
    for path in sorted(root.glob("sys/devices/platform/soc*/soc*:firmware/get_throttled")):
        if (bits := _hexadecimal(_text(path))) is not None:
            return bits
    return _hexadecimal(_ask_firmware(root / "usr/bin/vcgencmd").removeprefix("throttled="))


def _ask_firmware(program: Path) -> str:
    if not program.exists():
        return ""
    try:
        done = subprocess.run([program, "get_throttled"], capture_output=True, timeout=VCGENCMD_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout[:_LONGEST].decode(errors="replace").strip()


def _hexadecimal(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"(0x)?[0-9a-fA-F]{1,8}", text) else None


def _thermal_zones(root: Path) -> Iterator[tuple[str, float]]:
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
        yield from _reading(_text(zone / "type"), zone / "temp")


def _hwmon(root: Path) -> Iterator[tuple[str, float]]:
    for path in sorted(root.glob("sys/class/hwmon/hwmon*/temp*_input")):
        yield from _reading(_text(path.parent / "name"), path)


def _reading(name: str, path: Path) -> Iterator[tuple[str, float]]:
    """Thousandths of a degree, as sysfs has them."""
    text = _text(path)
    if re.fullmatch(r"-?[0-9]{1,7}", text):
        value = int(text) / 1000
        if PLAUSIBLE[0] <= value <= PLAUSIBLE[1]:
            yield name, value


def _text(path: Path) -> str:
    """The beginning of a small file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode(errors="replace").strip()
    except OSError:
        return ""
