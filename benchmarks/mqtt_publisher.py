"""A daemon without a camera: events at a steady rate through the real sink and the real outbox.

python -m benchmarks.mqtt_publisher PORT FOLDER RATE

`benchmarks.mqtt_faults` starts it, kills it, and reads what it says, one line each, with the monotonic seconds:

    P ID SECONDS       an event is about to be published
    A ID SECONDS       the broker has acknowledged it
    C TOOK SECONDS     a commit took so many seconds
    G ID SECONDS       it was given up, since neither disk nor memory had room
    S STATE SECONDS    the disk is `full`, or takes events `again`

and tells it on standard input: `clock SECONDS` by how much its calendar is wrong, `memory COUNT` how many events it may
hold while the disk takes none. At the end of its input it closes the sink as the daemon does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import edge.outbox
import edge.sinks.mqtt
import edge.sinks.mqtt_link
from edge.config import MqttConfig
from edge.errors import OutputError, UnavailableError
from edge.events import CHANGED, Event, format_time
from edge.outbox import Outbox, Waiting
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import open_access
from edge.starts import count_start

DEVICE, USER = "faults", "mien"

KEEPALIVE = 5
"""Seconds, the least that the configuration allows."""

RECONNECT_SECONDS = (0.2, 1.0)
RETRY_SAVING = 1.0
"""Both shorter than the daemon's, so that a hundred faults take minutes."""

_said = threading.Lock()


def say(kind: str, what: object) -> None:
    """One line, whole, that a kill right afterwards does not take back."""
    line = f"{kind} {what} {time.monotonic():.4f}\n".encode()
    with _said:
        while line:
            line = line[os.write(1, line) :]


def id_of(payload: str) -> str:
    """An event's, from its JSON."""
    return payload.split('"id":"', 1)[1].split('"', 1)[0]


class Observed(Outbox):
    """The outbox, and what happens to it is told."""

    def __init__(self, path: Path, **options: float) -> None:
        self.wrong_by = 0.0
        self._ids: dict[int, str] = {}
        super().__init__(path, calendar=lambda: time.time() + self.wrong_by, **options)  # type: ignore[arg-type]

    def put(self, payload: str) -> None:
        """As it is."""
        oldest, dropped = next(iter(self._fresh.values()), None), self.dropped
        super().put(payload)
        if oldest is not None and self.dropped > dropped:
            say("G", id_of(oldest.payload))

    def after(self, number: int, most: int) -> list[Waiting]:
        """As it is."""
        found = super().after(number, most)
        for event in found:
            self._ids[event.number] = id_of(event.payload)
        return found

    def forget(self, number: int) -> None:
        """As it is."""
        super().forget(number)
        say("A", self._ids.pop(number))

    def save(self) -> None:
        """As it is."""
        began = time.monotonic()
        super().save()
        say("C", f"{time.monotonic() - began:.4f}")

    def _connect(self, path: Path) -> sqlite3.Connection:
        database = super()._connect(path)
        # The journal keeps no room of its own, so that a full disk is felt at once.
        database.execute("PRAGMA wal_autocheckpoint = 1")
        database.execute("PRAGMA journal_size_limit = 0")
        return database


class DiskTold(logging.Handler):
    """Hears what the sink says of the disk."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it."""
        message = record.getMessage()
        if "events wait in memory meanwhile" in message:
            say("S", "full")
        elif "can be written again" in message:
            say("S", "again")


def make_event(start: int, number: int, calendar: float) -> Event:
    """One like a daemon's."""
    scores = dict.fromkeys(("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"), 0.05) | {"happy": 0.7}
    return Event(
        id=f"{DEVICE}-{start:06d}-{number:010d}", device=DEVICE, ts=format_time(datetime.fromtimestamp(calendar, UTC)),
        clock_synced=True, type=CHANGED, track=1, box=(212, 96, 118, 118), frame=(640, 480), expression="happy",
        confidence=0.7, scores=scores, previous="neutral", since=1.0, model="mien@00000000",
    )  # fmt: skip


def obey(outbox: Observed, ended: threading.Event) -> None:
    """Take commands until there are no more."""
    for line in sys.stdin:
        name, value = line.split()
        if name == "clock":
            outbox.wrong_by = float(value)
        else:
            edge.outbox.IN_MEMORY = int(value)
    ended.set()


def main() -> int:
    port, folder, rate = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    edge.sinks.mqtt_link.RECONNECT_SECONDS = RECONNECT_SECONDS
    edge.sinks.mqtt.RETRY_SAVING = RETRY_SAVING
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    logging.getLogger().addHandler(DiskTold())
    start = count_start(folder / "state" / "starts")
    config = MqttConfig(
        url=f"mqtts://127.0.0.1:{port}", username=USER, password_file=folder / "password", ca_file=folder / "ca.pem",
        keepalive=KEEPALIVE,
    )  # fmt: skip
    outbox = Observed(folder / "state" / "outbox.sqlite", max_bytes=config.outbox_bytes, max_age=config.outbox_age)
    sink = MqttSink(open_access(config, f"mien-{DEVICE}"), outbox, device=DEVICE)
    ended = threading.Event()
    threading.Thread(target=obey, args=(outbox, ended), daemon=True).start()
    began, number = time.monotonic(), 0
    while not ended.wait(max(0.0, began + number / rate - time.monotonic())):
        number += 1
        event = make_event(start, number, time.time() + outbox.wrong_by)
        say("P", event.id)
        sink.publish(event)
    with contextlib.suppress(UnavailableError, OutputError):
        sink.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
