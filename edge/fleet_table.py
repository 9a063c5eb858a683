"""A fleet as a table: plain, or for a terminal through rich."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from edge.commandline import printable
from edge.fleet import OFFLINE, ONLINE, UNKNOWN, Device
from edge.fleet_watch import View

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

NOTHING = "-"

PAUSED = "paused"
"""What is shown of a device that is online and reads no camera, since somebody has paused it."""

STYLES = {ONLINE: "green", PAUSED: "cyan", OFFLINE: "red", UNKNOWN: "yellow"}

OLD_FRAME = 10.0
"""Seconds after which a camera that is online is looked after."""


class Column(NamedTuple):
    """One figure of each device."""

    title: str
    cell: Callable[[Device, datetime], str]
    right: bool = False


def _status(device: Device) -> str:
    return PAUSED if device.status == ONLINE and device.state.paused else device.status


def _since(device: Device, now: datetime) -> str:
    if device.since is None:
        return NOTHING
    since, today = device.since.astimezone(), now.astimezone().date()
    return f"{since:%H:%M}" if since.date() == today else f"{since:%Y-%m-%d %H:%M}"


def _number(value: float | None, form: str = "g") -> str:
    return NOTHING if value is None else format(value, form)


def _heat(device: Device, now: datetime) -> str:
    health = device.health
    flags = [*(health.throttled or ())]
    flags += [f"was {reason}" for reason in health.was_throttled or () if reason not in flags]
    hot = [] if health.temperature is None else [f"{health.temperature:.0f} °C"]
    return ", ".join(hot + [flag.replace("_", " ") for flag in flags]) or NOTHING


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


COLUMNS = (
    Column("device", lambda device, _: device.name),
    Column("status", lambda device, _: _status(device)),
    Column("since", _since),
    Column("faces", lambda device, _: _number(device.state.faces), right=True),
    Column("expression", lambda device, _: device.state.expression or NOTHING),
    Column("fps", lambda device, _: _number(device.health.fps, ".1f"), right=True),
    Column("outbox", lambda device, _: _number(device.health.outbox), right=True),
    Column("lost", lambda device, _: _number(device.health.lost), right=True),
    Column("last seen", lambda device, now: _age((now - device.seen).total_seconds()) if device.seen else NOTHING),
    Column("temperature", _heat),
    Column("frame age", lambda device, _: _number(device.health.frame_age, ".1f"), right=True),
    Column("model", lambda device, _: device.health.model or NOTHING),
    Column("version", lambda device, _: device.health.version or NOTHING),
)
"""The last of them are left out first where a terminal is too narrow."""


def plain(devices: Sequence[Device], now: datetime) -> str:
    """All devices and all columns, in aligned lines."""
    lines = [[column.title for column in COLUMNS], *(_cells(device, now) for device in devices)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _cells(device: Device, now: datetime) -> list[str]:
    return [column.cell(device, now) for column in COLUMNS]


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column.right else cell.ljust(width)
        for column, cell, width in zip(COLUMNS, line, widths, strict=True)
    ]


def summary(devices: Sequence[Device]) -> str:
    """How many devices there are, and how many are online, paused, offline and unknown."""
    counted = [sum(_status(device) == status for device in devices) for status in STYLES]
    states = ", ".join(f"{count} {status}" for count, status in zip(counted, STYLES, strict=True) if count)
    return f"{len(devices)} device{'' if len(devices) == 1 else 's'}" + (f": {states}" if states else "")


def needs_attention(device: Device) -> bool:
    """Whether somebody should look after it."""
    health = device.health
    bad = health.throttled or health.lost or (health.frame_age or 0.0) > OLD_FRAME
    return device.status != ONLINE or bool(bad)


def live(view: View, now: datetime, *, width: int, height: int) -> Group:
    """What a terminal of so many columns and lines shows: those who need attention before others, where not all fit."""
    from rich.console import Group
    from rich.text import Text

    devices, room = list(view.devices), max(1, height - 6)
    hidden = len(devices) - room
    if hidden > 0:
        devices = sorted(sorted(devices, key=needs_attention, reverse=True)[:room], key=lambda device: device.name)
    head = Text(summary(view.devices), style="bold")
    if view.problem:
        head.append(f"\n{printable(view.problem)}; what is shown may be old", style="red")
    more = f"and {hidden} more; 'mien fleet --once' shows all" if hidden > 0 else ""
    return Group(head, _table(devices, now, width), Text(more))


def _table(devices: Sequence[Device], now: datetime, width: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    lines = [_cells(device, now) for device in devices]
    shown = _fitting([list(column) for column in zip([c.title for c in COLUMNS], *lines, strict=True)], width)
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in COLUMNS[:shown]:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for device, line in zip(devices, lines, strict=True):
        cells = [Text(cell) for cell in line[:shown]]
        cells[1].stylize(STYLES[_status(device)])
        table.add_row(*cells, style="yellow" if device.status == ONLINE and needs_attention(device) else None)
    return table


def _fitting(columns: Sequence[Sequence[str]], width: int) -> int:
    """How many columns fit, from the left; the first two always."""
    used = 0
    for count, column in enumerate(columns):
        used += max(map(len, column)) + 2
        if used > width + 2 and count >= 2:
            return count
    return len(columns)
