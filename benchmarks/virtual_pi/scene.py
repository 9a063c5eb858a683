"""A virtual Pi with its broker and somebody who listens, for as long as a scenario lasts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.mqtt_world import Broker
from benchmarks.virtual_pi.image import Image
from benchmarks.virtual_pi.machine import HOST, VirtualPi
from benchmarks.virtual_pi.world import Arrival, Listener
from edge.errors import MienError, UnavailableError

PATIENCE = 1800.0
"""Seconds that anything may take: an emulated processor that shares this machine with others is slow."""


class NotSurvivedError(MienError, AssertionError):
    """The Pi, or what was on it, did not come through."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found.

    Attributes:
        title: what was done.
        figures: in words -> a figure with its unit, to be printed.
        values: the same and more, to be asked for.
    """

    title: str
    figures: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Scene:
    """What a scenario plays with."""

    pi: VirtualPi
    broker: Broker
    listener: Listener
    folder: Path

    def next_event(self, wanted: Callable[[Arrival], bool] = lambda _: True) -> Arrival:
        """The next event to arrive."""
        return self.listener.wait(wanted, PATIENCE, after=len(self.listener.arrivals))

    def first_event(self) -> Arrival:
        """Switch the Pi on, and wait until it publishes."""
        self.pi.start()
        return self.listener.wait(lambda _: True, PATIENCE)

    def next_start(self, before: int) -> Arrival:
        """The first event of a start later than this one."""
        return self.listener.wait(later_than(before), PATIENCE)

    def logged(self) -> list[str]:
        """The ids in the log and its old files, in order."""
        lines = "cat $(ls -rv /var/log/mien/mien.json*[0-9l])"
        return self.pi.run(lines + ' | sed -E \'s/.*"id": ?"([^"]*)".*/\\1/\'').split()

    def main_pid(self) -> int:
        """Of the daemon."""
        return int(self.pi.run("systemctl show --property MainPID --value mien.service"))

    def journal(self) -> str:
        """What the service and systemd said of it since the boot, without dates."""
        return self.pi.run("journalctl -b --no-pager -o cat -u mien.service")

    def until(self, script: str, wanted: Callable[[str], bool]) -> float:
        """Run a script in the Pi until it says what is wanted; monotonic seconds then."""
        deadline = time.monotonic() + PATIENCE
        while not wanted(said := self.pi.run(script, fails=True)):
            if time.monotonic() > deadline:
                raise UnavailableError(f"after {PATIENCE:g} s this still says: {said.strip()[-500:]}\n{script}")
            time.sleep(0.5)
        return time.monotonic()


@contextlib.contextmanager
def scene(image: Image) -> Iterator[Scene]:
    """A switched-off Pi with a card of its own, a broker that runs and a listener; all gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mien-pi-"))
    try:
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker")
        try:
            listener = Listener(broker.open_port)
            with contextlib.closing(listener), VirtualPi(image, folder / "pi") as pi:
                pi.words.append(f"systemd.setenv=MIEN_MQTT_URL=mqtt://{HOST}:{broker.open_port}")
                yield Scene(pi, broker, listener, folder)
        finally:
            broker.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_of(ident: str) -> int:
    """Which start an event's id belongs to."""
    return int(ident.split("-")[-2])


def number_of(ident: str) -> int:
    """An event's number within its start."""
    return int(ident.split("-")[-1])


def later_than(start: int) -> Callable[[Arrival], bool]:
    """Whether an event belongs to a start behind that one."""
    return lambda arrival: start_of(arrival.id) > start


def never_twice(ids: Sequence[str]) -> None:
    """See to it that no id was used for two events."""
    if len(set(ids)) < len(ids):
        raise NotSurvivedError("an id was used twice")
