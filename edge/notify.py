"""What systemd is told (sd_notify(3)): that we are up, how we are, and, while we get on, that we do not hang."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from edge.supervisor import Supervisor, join_all

LOG = logging.getLogger(__name__)

SEND_SECONDS = 0.5
"""How long a service manager that reads nothing may hold us up."""

READY_SECONDS = 0.1
"""How often somebody looks whether the first picture has come."""

STATUS_SECONDS = 15.0
"""Between two reports where no watchdog sets the pace."""


@dataclass(frozen=True, slots=True)
class Notifier:
    """The way to the service manager, or nowhere.

    Attributes:
        address: of its datagram socket, a leading zero byte where it is abstract; None: nobody wants to know.
        watchdog: seconds without a sign of life after which we are killed; None: nobody watches.
    """

    address: str | None = None
    watchdog: float | None = None

    def tell(self, *fields: str) -> None:
        """Send `NAME=value` fields in one message. What goes wrong is logged, and ends nothing."""
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
                out.settimeout(SEND_SECONDS)
                out.sendto("\n".join(fields).encode(errors="replace"), self.address)
        except OSError as error:
            LOG.warning("systemd cannot be told %s (%s); is NOTIFY_SOCKET right?", fields[0], error)


def make_notifier(environ: Mapping[str, str], pid: int | None = None) -> Notifier:
    """The notifier that `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` ask for; one to nowhere without them.

    Args:
        environ: the process's environment.
        pid: the process that the watchdog must mean; None: this one.
    """
    given = environ.get("NOTIFY_SOCKET", "")
    if not given.startswith(("/", "@")):
        if given:
            LOG.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract socket; systemd is told nothing", given)
        return Notifier()
    address = "\0" + given[1:] if given.startswith("@") else given
    microseconds = environ.get("WATCHDOG_USEC", "")
    ours = environ.get("WATCHDOG_PID", "") in {"", str(os.getpid() if pid is None else pid)}
    watched = ours and microseconds.isascii() and microseconds.isdecimal() and int(microseconds) > 0
    return Notifier(address, int(microseconds) / 1e6 if watched else None)


class Pulse:
    """When the run last got on: told by the threads that do the work, asked by the one that talks to systemd."""

    def __init__(self, *, live: bool, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing has happened yet.

        Args:
            live: whether frames tell when they were captured, on the same clock.
            clock: monotonic seconds.
        """
        self._live = live
        self._clock = clock
        self._captured: float | None = None
        self._passed: float | None = None
        self._looking = False
        self._resting = ""
        self._faces = 0
        self.frames = 0
        """How many vision was through with."""

    def captured(self, time: float) -> None:
        """The camera delivered a frame.

        Args:
            time: its `Frame.time`; one that is older than it looks makes the camera none the livelier.
        """
        self._captured = min(time, self._clock()) if self._live else self._clock()
        self._resting = ""

    def looking(self) -> None:
        """Vision begins with a frame."""
        self._looking = True

    def passed(self, faces: int) -> None:
        """Vision is through with a frame, in which there were so many faces."""
        self._looking = False
        self._passed = self._clock()
        self.frames += 1
        self._faces = faces

    def rest(self, why: str = "") -> None:
        """No frame comes, and rightly so; to be told again and again for as long as that is so.

        Vision that hangs in a frame from before is not excused.

        Args:
            why: a word for `systemctl status`, such as `paused`; empty where the usual figures say enough.
        """
        self._captured = self._clock()
        self._resting = why
        if not self._looking:
            self._passed = self._captured

    def age(self) -> float | None:
        """Seconds since the newest frame was captured, or since vision was last through with one if that is longer.

        None until both have happened.
        """
        if self._captured is None or self._passed is None:
            return None
        return self._clock() - min(self._captured, self._passed)

    def status(self, rate: float | None = None) -> str:
        """One line for `systemctl status`, at so many frames a second where that is known yet."""
        faces = f"{self._faces} face{'' if self._faces == 1 else 's'}"
        return self._resting or ("looking" if rate is None else f"{rate:.1f} frames/s, {faces}")


@contextmanager
def notifying(
    notifier: Notifier, pulse: Pulse, supervisor: Supervisor, *, patience: Callable[[], float]
) -> Iterator[None]:
    """Keep systemd informed: ready once the first frame went through vision, alive while frames do, then stopping.

    Args:
        notifier: the way there; without an address nothing is done.
        pulse: asked for progress.
        supervisor: of the thread that talks.
        patience: seconds without a frame that the camera allows, just then, before it ends the run by itself.
    """
    if notifier.address is None:
        yield
        return
    over = threading.Event()
    thread = supervisor.start("notify", lambda: _report(notifier, pulse, over, patience))
    try:
        yield
    finally:
        over.set()
        notifier.tell("STOPPING=1", "STATUS=stopping")
        supervisor.attempt(lambda: join_all([thread], 2 * SEND_SECONDS))


def _report(notifier: Notifier, pulse: Pulse, over: threading.Event, patience: Callable[[], float]) -> None:
    while pulse.age() is None:
        if over.wait(READY_SECONDS):
            return
    notifier.tell("READY=1", f"STATUS={pulse.status()}")
    every = notifier.watchdog / 2 if notifier.watchdog else STATUS_SECONDS
    seen, began = pulse.frames, time.monotonic()
    while not over.wait(every):
        frames, now = pulse.frames, time.monotonic()
        rate, seen, began = (frames - seen) / (now - began), frames, now
        age = pulse.age() or 0.0
        alive = age <= max(every, patience())
        feed = ["WATCHDOG=1"] if alive and notifier.watchdog else []
        status = pulse.status(rate) if alive else f"nothing seen for {age:.0f} s"
        notifier.tell(*feed, f"STATUS={status}")
