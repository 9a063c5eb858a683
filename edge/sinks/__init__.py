"""Where events go. Each sink is independent of the others."""

from __future__ import annotations

from typing import Protocol

from edge.erasure import Erasure
from edge.errors import OutputError
from edge.events import Event


class NotStoredError(OutputError):
    """Events could not be written down for now; the next ones are tried afresh."""

    def __init__(self, message: str, events: int) -> None:
        """Say why, and how many `events` are lost by it."""
        super().__init__(message)
        self.events = events


class Sink(Protocol):
    """Takes events, one thread at a time. An error while it is made ends the run; what it raises later does not."""

    name: str

    def publish(self, event: Event) -> None:
        """Take one event; raises OutputError or UnavailableError where it cannot, and may take the next one."""

    def idle(self) -> None:
        """Called at least once a second while there is nothing to publish, for what has to happen in time."""

    def erase(self, *, local: bool) -> Erasure:
        """Remove what was stored, and go on as if nothing had been published before.

        Args:
            local: leave alone what others keep, such as a broker.
        """

    def close(self) -> None:
        """Bring out what is held, within a bounded time; may raise what `publish` raises."""
