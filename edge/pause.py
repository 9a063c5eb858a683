"""A pause: the file `paused` in the control folder. While it is there no camera is read, whatever else happens."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

from edge.control import locked, read_small, refused, sync_folder, table, write_small
from edge.device import clock_is_synced
from edge.errors import OutputError

LOG = logging.getLogger(__name__)

LONGEST = 366 * 86400.0
"""Seconds of a pause that ends by itself."""

_SLACK = 1.0
"""Seconds that two readings of one clock may be apart."""


@dataclass(frozen=True, slots=True)
class Pause:
    """What is asked for. Nothing set: until somebody resumes.

    Attributes:
        lasts: seconds in all.
        ends: seconds since the machine's start, its sleep included, at which it ends.
        until: Unix seconds at which it ends; None where the clock could not be believed.
    """

    lasts: float | None = None
    ends: float | None = None
    until: float | None = None

    def left(self, uptime: float, now: float | None) -> float:
        """Seconds until it ends.

        Args:
            uptime: seconds since the machine's start.
            now: Unix seconds; None where the clock cannot be believed.
        """
        if self.lasts is None or self.ends is None:
            return math.inf
        by_date = self.until - now if self.until is not None and now is not None else math.inf
        return max(0.0, min(self.ends - uptime, by_date))

    def since_start(self, uptime: float) -> Pause:
        """The same for a machine that was started meanwhile.

        A clock that nobody has set cannot tell how long the machine was off, so the pause then lasts from now on as
        long as it was to last in all: rather too long than too short.
        """
        if self.lasts is None or self.ends is None or self.ends - uptime <= self.lasts + _SLACK:
            return self
        return replace(self, ends=uptime + self.lasts)


@dataclass(frozen=True, slots=True)
class Clocks:
    """What tells the time.

    Attributes:
        uptime: seconds since the machine's start, its sleep included.
        calendar: Unix seconds.
        synced: whether `calendar` can be believed.
    """

    uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    calendar: Callable[[], float] = time.time
    synced: Callable[[], bool] = clock_is_synced

    def now(self) -> float | None:
        """Unix seconds; None where they cannot be believed."""
        return self.calendar() if self.synced() else None


CLOCKS = Clocks()


def pause(folder: Path, seconds: float | None = None, *, clocks: Clocks = CLOCKS) -> Pause:
    """Ask for a pause, in place of one that is there.

    Args:
        folder: the control folder.
        seconds: how long; None: until somebody resumes.
        clocks: tell the time.

    Raises:
        OutputError: it cannot be written.
    """
    asked = Pause()
    if seconds is not None:
        now = clocks.now()
        asked = Pause(seconds, clocks.uptime() + seconds, None if now is None else now + seconds)
    try:
        with locked(folder):
            _write(folder, asked)
    except OSError as error:
        raise _refused(folder, error) from None
    return asked


def resume(folder: Path) -> bool:
    """End a pause; whether there was one.

    Raises:
        OutputError: it cannot be ended.
    """
    try:
        with locked(folder):
            return _remove(folder)
    except OSError as error:
        raise _refused(folder, error) from None


def read_pause(folder: Path) -> Pause | None:
    """What is asked for; None: nothing is. A file that is there but cannot be understood is a pause without an end."""
    try:
        text = read_small(folder / "paused")
    except OSError:
        return Pause()
    if text is None:
        return None
    values = table(text) or {}
    lasts, ends, until = (values.get(name) for name in ("lasts", "ends", "until"))
    if not (_is_seconds(lasts) and _is_seconds(ends)) or not 0 <= lasts <= LONGEST:
        return Pause()
    return Pause(lasts, ends, until if _is_seconds(until) else None)


def is_paused(folder: Path, *, clocks: Clocks = CLOCKS) -> bool:
    """Whether a pause is asked for now, as far as this user may see; changes nothing."""
    if not os.access(folder, os.X_OK):
        return False
    asked = read_pause(folder)
    return asked is not None and asked.since_start(clocks.uptime()).left(clocks.uptime(), clocks.now()) > 0


class PauseWatch:
    """The daemon's view of it: whether the camera may be read.

    Args:
        folder: the control folder.
        clocks: tell the time.
    """

    def __init__(self, folder: Path, *, clocks: Clocks = CLOCKS) -> None:
        self.folder = folder
        self._clocks = clocks
        self._renewed: tuple[Pause, Pause] | None = None
        self._unwritable = False
        self.asked = False
        """Whether a pause is asked for, as of the last look."""

    def look(self) -> bool:
        """See whether a pause is asked for, and end one whose time is over. Cheap: for several times a second."""
        asked = read_pause(self.folder)
        if asked is not None:
            asked = self._known(asked)
            if not asked.left(self._clocks.uptime(), self._clocks.now()):
                self._try(self._end)
                asked = None
        self.asked = asked is not None
        return self.asked

    def _known(self, asked: Pause) -> Pause:
        """As of this start of the machine, also where that cannot be written down."""
        if self._renewed is not None and self._renewed[0] == asked:
            return self._renewed[1]
        known = asked.since_start(self._clocks.uptime())
        if known != asked:
            self._renewed = (asked, known)
            self._try(lambda: self._renew(asked, known))
        return known

    def _renew(self, asked: Pause, known: Pause) -> None:
        with locked(self.folder):
            if read_pause(self.folder) == asked:  # else somebody has asked for another one meanwhile
                _write(self.folder, known)

    def _end(self) -> None:
        with locked(self.folder):
            asked = read_pause(self.folder)
            if asked is not None and not self._known(asked).left(self._clocks.uptime(), self._clocks.now()):
                _remove(self.folder)

    def _try(self, change: Callable[[], None]) -> None:
        try:
            change()
        except OSError as error:
            if not self._unwritable:
                LOG.warning("%s", _refused(self.folder, error))
            self._unwritable = True


def _is_seconds(value: object) -> TypeGuard[float]:
    """Whether a pause can be so long; 1e12 seconds are 30,000 years."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e12 <= value <= 1e12


def _write(folder: Path, asked: Pause) -> None:
    values = {"lasts": asked.lasts, "ends": asked.ends, "until": asked.until} if asked.lasts is not None else {}
    write_small(folder / "paused", json.dumps(values) + "\n")


def _remove(folder: Path) -> bool:
    try:
        (folder / "paused").unlink()
    except FileNotFoundError:
        return False
    sync_folder(folder)
    return True


def _refused(folder: Path, error: OSError) -> OutputError:
    return error if isinstance(error, OutputError) else refused(folder, error)
