"""A connection to a broker that listens to a fleet, and may empty a device's topics; it says nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Self

from edge.errors import UnavailableError
from edge.fleet import KINDS, MOST_DEVICES, Device, Fleet
from edge.sinks.mqtt_link import MALFORMED, Access, Link

QUIET = 1.0
"""Seconds without a topic that is new to us, and the broker has told all that it retains."""

SILENCE = 3.0
"""Likewise where nothing has come yet."""


MOST_TOPICS = MOST_DEVICES * len(KINDS)


@dataclass(frozen=True, slots=True)
class View:
    """What is known at one moment.

    Attributes:
        devices: by name.
        problem: why there is no connection now; empty: there is one.
    """

    devices: Sequence[Device]
    problem: str


class Watch:
    """Listens until it is closed, and connects again where it has to.

    Args:
        access: to the broker; its client id must be nobody else's.
        base: what the topics begin with.
        device: listen to this one alone; empty: to all.
        now: date and time.
    """

    def __init__(
        self, access: Access, base: str, *, device: str = "", now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._access = access
        self._now = now
        self._changed = threading.Condition()
        self._fleet = Fleet(base)
        self._heard: set[str] = set()
        self._news = 0.0
        self._connected = self._refused = False
        self._deaf = ""
        self._problem = f"the broker at {self._address} does not answer; is it overloaded, or something else there?"
        self._complaints: list[str] = []
        self._answers: dict[int | None, str] = {}
        topics = [f"{base}/{device or '+'}/{kind}" for kind in KINDS]
        self._link = Link(access, self, subscriptions=topics)

    def __enter__(self) -> Self:
        self._link.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._link.close(2.0)

    def wait_connected(self, timeout: float) -> None:
        """Wait until the broker has let us in.

        Raises:
            UnavailableError: it has not, within so many seconds; the message says why and what to do.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._connected or self._refused, timeout)
            if not self._connected:
                raise UnavailableError(self._problem)

    def wait_told(self, timeout: float) -> None:
        """Wait until the broker seems to have told all that it retains, for so many seconds at most.

        Raises:
            UnavailableError: the connection is lost by then.
        """
        until = monotonic() + timeout
        with self._changed:
            while not self._deaf:
                now = monotonic()
                quiet = self._news + (QUIET if self._heard else SILENCE) if self._connected else until
                if (rest := min(quiet, until) - now) <= 0:
                    break
                self._changed.wait(rest)
            if self._problem:
                raise UnavailableError(self._problem)

    def wait_changed(self, timeout: float) -> None:
        """Wait until something has come, for so many seconds at most."""
        with self._changed:
            self._changed.wait(timeout)

    def view(self) -> View:
        """What is known now."""
        with self._changed:
            return View(self._fleet.devices(), self._problem)

    def complaints(self) -> list[str]:
        """What was wrong with messages since this was last asked."""
        with self._changed:
            said, self._complaints = self._complaints, []
            return said

    def wait_gone(self, timeout: float) -> bool:
        """Wait until nothing is known of any device, for so many seconds at most."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._fleet.devices(), timeout)

    def empty(self, topics: Sequence[str], timeout: float) -> None:
        """Have the broker forget what these topics retain.

        Raises:
            UnavailableError: it has not acknowledged all within so many seconds, or does not let us.
        """
        sent = {topic: self._link.publish(topic, "", qos=1, retain=True) for topic in topics}
        with self._changed:
            self._changed.wait_for(lambda: set(sent.values()) <= self._answers.keys() or not self._connected, timeout)
            failures = {topic: self._answers.get(mid, "no answer") for topic, mid in sent.items()}
        if refused := [f"{topic} ({why})" for topic, why in failures.items() if why]:
            raise UnavailableError(
                f"the broker at {self._address} did not empty {', '.join(refused)}; may this user write there?"
            )

    @property
    def _address(self) -> str:
        return f"{self._access.broker.host}:{self._access.broker.port}"

    # In the link's threads.

    def be_connected(self, window: int) -> None:
        """See `edge.sinks.mqtt_link.User`, also for the others."""
        with self._changed:
            self._link.begin()
            self._connected, self._refused, self._problem = True, False, self._deaf
            self._heard.clear()
            self._news = monotonic()
            self._changed.notify_all()

    def be_refused(self, code: int, reason: str) -> None:  # noqa: D102
        with self._changed:
            self._refused = True
            self._problem = (
                f"the broker at {self._address} does not let us in ({reason}); "
                "say who you are with --username and --password-file, or --cert-file"
            )
            self._changed.notify_all()

    def be_unreachable(self, why: str) -> None:  # noqa: D102
        advice = (
            "does --ca-file name its authority?" if "certificate" in why.lower() else "is it running, and so called?"
        )
        self._lose(f"the broker at {self._address} cannot be reached ({why}); {advice}")

    def be_disconnected(self, code: int, reason: str, lasted: float) -> None:  # noqa: D102
        with self._changed:
            if self._refused:  # which says more
                return
            if code == MALFORMED and lasted:  # the link listens no more
                self._deaf = (
                    f"the broker at {self._address} does not keep to MQTT, or a message there is too long ({reason}); "
                    "empty such a topic, or use a broker that speaks MQTT 5"
                )
        self._lose(self._deaf or f"the connection to the broker at {self._address} is lost ({reason})")

    def _lose(self, problem: str) -> None:
        with self._changed:
            if self._connected:
                self._fleet.doubt()
            self._connected = False
            self._problem = problem
            self._changed.notify_all()

    def be_acknowledged(self, mid: int, failure: str, for_now: bool) -> None:  # noqa: D102
        with self._changed:
            self._answers[mid] = failure
            self._changed.notify_all()

    def be_told(self, topic: str, payload: bytes) -> None:  # noqa: D102
        with self._changed:
            complaint = self._fleet.take(topic, payload, self._now())
            if complaint is not None:
                self._complaints.append(complaint)
            if topic not in self._heard and len(self._heard) < MOST_TOPICS:
                self._heard.add(topic)
                self._news = monotonic()
            self._changed.notify_all()
