"""The machine: processor, memory, temperature, power and clock."""

from __future__ import annotations

import platform
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from edge.board import Flag, temperature, throttling
from edge.device import TIMESYNC, clock_is_synced
from edge.doctor_finding import Finding, Subject, content, fault, first_line, not_here, ok, together, warning

OURS = datetime(2026, 11, 1, tzinfo=UTC)
"""This was written later; a clock that says otherwise is wrong."""

HOT, TOO_HOT = 80.0, 85.0
"""°C: from the first on a Raspberry Pi slows itself down, at the second as much as it can (its documentation,
"Frequency management and thermal control")."""

NEEDED, SCARCE = 150, 60
"""MB of memory that are free: the daemon's peak (docs/daemon.md), and what is not even half of it."""

NEWER = {"asimddp": "dot product", "atomics": "LSE"}
"""What processors have since ARMv8.1 and 8.2, and a Raspberry Pi 3 or 4 has not; by the kernel's names."""

POWER_ADVICE = "use the power supply that belongs to this Pi, a short thick cable, and fewer USB devices"
HEAT_ADVICE = "give it air, a heat sink or a fan, or have it look at fewer pictures (source.fps)"


def check_processor(subject: Subject) -> Finding:
    """Whether it is one that packages are made for."""
    return judge_processor(subject.root, platform.machine(), 64 if sys.maxsize > 2**32 else 32)


def judge_processor(root: Path, machine: str, bits: int) -> Finding:
    """What to think of a processor.

    Args:
        root: where the machine's files lie.
        machine: the kernel's name of the architecture.
        bits: of the Python that runs here.
    """
    board = first_line(root / "proc/device-tree/model") or "no Raspberry Pi"
    found = f"{board}, {machine}, {bits} bits"
    if bits == 32:
        kernel = " under a 64-bit kernel" if machine in {"aarch64", "x86_64"} else ""
        return fault(
            f"{found}: the system is a 32-bit one{kernel}, for which there is no interpreter",
            "write Raspberry Pi OS (64-bit) to the card; a Pi 3, 4, 5 or Zero 2 can run it",
        )
    if machine != "aarch64":
        return ok(found)
    told = re.search(r"^Features\s*:(.*)$", content(root / "proc/cpuinfo"), re.MULTILINE)
    lacks = [] if told is None else [name for flag, name in NEWER.items() if flag not in told[1].split()]
    without = f", ARMv8.0: without {' and '.join(lacks)}, which Mien does not need" if lacks else ""
    return ok(found + without)


def check_memory(subject: Subject) -> Finding:
    """Whether there is room for the daemon."""
    text = content(subject.root / "proc/meminfo")
    total, free = (_megabytes(text, name) for name in ("MemTotal", "MemAvailable"))
    if total is None or free is None:
        return not_here("the kernel does not tell")
    found = f"{free:,} MB of {total:,} MB are free"
    needed = SCARCE if subject.service is not None and subject.service.active else NEEDED
    if free < needed:
        advice = "see what needs it: ps aux --sort=-rss | head; a Pi for Mien alone needs no desktop: sudo raspi-config"
        return warning(f"{found}; Mien needs up to {NEEDED} MB", advice)
    return ok(found)


def _megabytes(text: str, name: str) -> int | None:
    told = re.search(rf"^{name}:\s*(\d{{1,12}}) kB", text, re.MULTILINE)
    return None if told is None else int(told[1]) * 1024 // 10**6


def check_temperature(subject: Subject) -> Finding:
    """How warm the processor is now."""
    heat = temperature(subject.root)
    if heat is None:
        return not_here("no sensor tells")
    found = f"{heat:.0f} °C"
    if heat >= TOO_HOT:
        return fault(f"{found}, at which the processor is slowed down as far as it goes", HEAT_ADVICE)
    if heat >= HOT:
        return warning(f"{found}, at which a Raspberry Pi slows itself down", HEAT_ADVICE)
    return ok(found)


def check_power(subject: Subject) -> Finding:
    """Under-voltage and throttling, now and since boot."""
    flags = throttling(subject.root)
    if flags is None:
        return not_here("no Raspberry Pi's firmware tells")
    troubles = [_trouble(reason, flag) for reason, flag in flags.items() if flag.now or flag.since_boot]
    return together(troubles) if troubles else ok(_well(flags["under_voltage"]))


def _well(voltage: Flag) -> str:
    return "enough, and not slowed down, now and since boot" if voltage.since_boot is False else "enough at this moment"


def _trouble(reason: str, flag: Flag) -> Finding:
    words, advice = {
        "under_voltage": ("too little voltage", POWER_ADVICE),
        "frequency_capped": ("a capped frequency", f"{POWER_ADVICE}; {HEAT_ADVICE}"),
        "throttled": ("throttled", f"{POWER_ADVICE}; {HEAT_ADVICE}"),
        "soft_temp_limit": ("slowed down by warmth", HEAT_ADVICE),
    }[reason]
    if not flag.now:
        return warning(f"{words} since boot", advice)
    return (fault if reason == "under_voltage" else warning)(f"{words} now", advice)


def check_clock(subject: Subject) -> Finding:
    """Whether the clock can be believed, and what keeps it while there is no power."""
    hidden = subject.service is not None and subject.service["ProtectClock"] == "yes"
    return judge_clock(subject.root, datetime.now(UTC), synced=clock_is_synced(), hidden=hidden)


def judge_clock(root: Path, now: datetime, *, synced: bool, hidden: bool) -> Finding:
    """What to think of a clock.

    Args:
        root: where the machine's files lie.
        now: what it says.
        synced: whether the kernel says that NTP keeps it.
        hidden: whether the service may not ask the kernel, but has to see what systemd-timesyncd leaves behind.
    """
    keeper = "with a battery clock" if any(root.glob("sys/class/rtc/rtc*")) else "without a battery clock"
    found = f"{now:%Y-%m-%d %H:%M} UTC, {'kept by NTP' if synced else 'not kept by NTP'}, {keeper}"
    advice = "sudo timedatectl set-ntp true; then look whether UDP port 123 gets out: timedatectl timesync-status"
    if now < OURS:
        return fault(f"{found}: that is in the past, and TLS believes no certificate then", advice)
    if not synced:
        return warning(f"{found}: events say clock_synced false", advice)
    if hidden and not (root / TIMESYNC.relative_to("/")).exists():
        return warning(
            f"{found}, but not by systemd-timesyncd: the service cannot see that, and events say clock_synced false",
            "sudo apt install systemd-timesyncd, in place of the other one; or sudo systemctl edit mien, [Service], "
            "ProtectClock=no and SystemCallFilter=adjtimex clock_adjtime",
        )
    return ok(found)
