"""Events for a person at a terminal, one line each."""

from __future__ import annotations

import sys
from typing import TextIO

from edge.erasure import Erasure
from edge.events import CHANGED, GONE, Event
from edge.labels import UNCERTAIN

_DIM, _BOLD, _RESET = "\033[2m", "\033[1m", "\033[0m"


class Console:
    """Writes events to a terminal or a pipe; colours only where there is a terminal to show them."""

    name = "console"

    def __init__(self, stream: TextIO | None = None, *, color: bool | None = None) -> None:
        """Write to `stream`, standard output where None; `color` None: if it is a terminal."""
        self._stream = sys.stdout if stream is None else stream
        self._color = self._stream.isatty() if color is None else color

    def publish(self, event: Event) -> None:
        """Write one line and flush it; an error of the stream itself, such as BrokenPipeError, goes through."""
        line = describe(event)
        if self._color:
            quiet = event.type == GONE or event.expression == UNCERTAIN
            line = f"{_DIM if quiet else _BOLD if event.type == CHANGED else ''}{line}{_RESET}"
        self._stream.write(line + "\n")
        self._stream.flush()

    def idle(self) -> None:
        """Nothing waits: every line is flushed."""

    def erase(self, *, local: bool) -> Erasure:
        """Nothing is stored here."""
        return Erasure()

    def close(self) -> None:
        """Nothing is held; the stream is the caller's."""


def describe(event: Event) -> str:
    """An event as a person reads it: `03:00:00 face 7 changed  happy 83% (before: neutral for 4.2 s)`."""
    line = f"{event.ts[11:19]} face {event.track} {event.type:<8} {event.expression} {event.confidence:.0%}"
    if event.previous is not None and event.since is not None:
        line += f" (before: {event.previous} for {event.since:.1f} s)"
    return line
