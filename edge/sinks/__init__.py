"""Where events go. Each sink is independent of the others."""

from __future__ import annotations

from typing import Protocol

from edge.events import Event


class Sink(Protocol):
    """Takes events, one thread at a time."""

    name: str

    def publish(self, event: Event) -> None:
        """Take one event; raises OutputError or UnavailableError where it cannot."""

    def idle(self) -> None:
        """Called at least once a second while there is nothing to publish, for what has to happen in time."""

    def close(self) -> None:
        """Bring out what is held, within a bounded time; may raise what `publish` raises."""
