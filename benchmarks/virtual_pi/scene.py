"""A virtual Pi with its broker and somebody who listens, for as long as a scenario lasts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.mqtt_world import Broker
from benchmarks.virtual_pi.image import Image
from benchmarks.virtual_pi.machine import Drive, VirtualPi
from benchmarks.virtual_pi.world import Arrival, Listener
from edge.errors import UnavailableError

PATIENCE = 600.0
"""Seconds that anything may take: an emulated processor that shares this machine with others is slow."""


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
def scene(image: Image, *, drives: Sequence[Drive] = (), cloud_init: bool = False) -> Iterator[Scene]:
    """A switched-off Pi with a card of its own, a broker that runs and a listener; all gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mien-pi-"))
    try:
        (folder / "broker").mkdir()
        broker = Broker(folder / "broker")
        try:
            listener = Listener(broker.open_port)
            port, place = broker.open_port, folder / "pi"
            powered = VirtualPi(image, place, mqtt_port=port, drives=drives, cloud_init=cloud_init)
            with contextlib.closing(listener), powered as pi:
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
