"""What this device is called, and whether its clock can be believed."""

from __future__ import annotations

import ctypes
import hashlib
import re
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path

IDENTITIES = (
    Path("/sys/firmware/devicetree/base/serial-number"),
    Path("/etc/machine-id"),
    Path("/var/lib/dbus/machine-id"),
)
"""The board's serial number first: a machine id may have been copied with the card's image."""

MAX_ERROR_US = 16_000_000
"""From this estimated error on the kernel's clock counts as not synchronised, as systemd's `timedatectl` has it."""


def default_name(host: str | None = None, identities: Sequence[Path] = IDENTITIES) -> str:
    """Host name plus four characters that differ between cards flashed from one image, such as `kitchen-3f9c`.

    The characters are a hash's, so that no serial number is published.

    Args:
        host: the host name, this machine's where None.
        identities: files to tell machines apart by; the first that holds anything counts, else the network card does.
    """
    name = (socket.gethostname() if host is None else host).split(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-_")[:58] or "mien"
    identity = next(filter(None, map(_content, identities)), None) or uuid.getnode().to_bytes(6, "big")
    return f"{name}-{hashlib.sha256(b'mien' + identity).hexdigest()[:4]}"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().strip(b"\0\n ")
    except OSError:
        return b""


TIMESYNC = Path("/run/systemd/timesync/synchronized")
"""There once systemd-timesyncd has set the clock since the boot; see systemd-time-wait-sync.service(8)."""


class _Timex(ctypes.Structure):
    """The beginning of Linux's `struct timex` (adjtimex(2)), with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


def clock_is_synced() -> bool:
    """Whether the kernel's clock is kept by NTP, as far as it knows; asking takes a microsecond or a few."""
    timex = _Timex()
    if _LIBC.adjtimex(ctypes.byref(timex)) < 0:
        # A service with ProtectClock= may not even ask.
        return TIMESYNC.exists()
    return bool(timex.maxerror < MAX_ERROR_US)


_LIBC = ctypes.CDLL(None)
