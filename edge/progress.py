"""One line on a terminal that says how far a long job is, and is gone at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

EVERY_SECONDS = 0.2

CLEAR = "\r\x1b[K"
"""To the line's beginning, and what stands in it away (ECMA-48, EL)."""


class Progress:
    """Writes such as `12 of 40 files, 3.1 frames/s, 1 failed` over itself; nothing where nobody looks.

    Args:
        stream: where to; only a terminal is written to.
        what: what is counted, in the plural.
        total: how many there are, 0 where nobody knows.
        clock: seconds that never run backwards.
    """

    def __init__(
        self, stream: TextIO, what: str, total: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream if stream.isatty() else None
        self._what = f"of {total} {what}" if total else what
        self._clock = clock
        self._began = clock()
        self._next = self._began + EVERY_SECONDS
        self._written = False

    def show(self, done: int, frames: int, failed: int) -> None:
        """Bring the line up to date, a few times a second at most.

        Args:
            done: how many of what is counted.
            frames: how many pictures were looked at; the rate is theirs.
            failed: how many could not be read.
        """
        if self._stream is None or (now := self._clock()) < self._next:
            return
        self._next = now + EVERY_SECONDS
        self._written = True
        rate = frames / (now - self._began)
        failures = f", {failed} failed" if failed else ""
        self._stream.write(f"{CLEAR}{done} {self._what}, {rate:.1f} frames/s{failures}")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._stream is not None and self._written:
            self._stream.write(CLEAR)
            self._stream.flush()
        self._written = False
