"""Threads that cannot die unseen, and an orderly end for all of them."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from edge.errors import MienError

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""How often the main thread looks whether a signal came."""


class StuckError(MienError, TimeoutError):
    """A thread did not end when it was told to."""


class SignalledError(BaseException):
    """A signal has ended what stood in `Supervisor.at_once`. No `Exception`, since drivers catch those."""


class Supervisor:
    """Starts threads; the first error of any of them, a signal or `stop()` ends all.

    Threads look at `stopped()`, or wait on `stopping`, wherever they wait for anything else.
    """

    def __init__(self) -> None:
        self.stopping = threading.Event()
        """Set once everybody is to end."""
        self.failure: BaseException | None = None
        """The first error."""
        self.signal: int | None = None
        """The signal that ends the run, if one does."""
        self._lock = threading.Lock()
        self._at_once = False

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        """Run `work` in a thread of that name, under supervision."""
        # A daemon thread: one that hangs in a driver must not keep the process from ending.
        thread = threading.Thread(target=self.attempt, args=(work,), name=name, daemon=True)
        thread.start()
        return thread

    def attempt(self, work: Callable[[], None]) -> None:
        """Do something here and now, under the same supervision as a thread's work."""
        try:
            work()
        except Exception as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End everything because of an error. The first is kept, later ones are logged."""
        with self._lock:
            first = self.failure is None
            if first:
                self.failure = error
        if not first and error is not self.failure:
            LOG.error("%s", error if isinstance(error, MienError) else repr(error))
        self.stopping.set()

    def stop(self) -> None:
        """End everything in good order."""
        self.stopping.set()

    def stopped(self) -> bool:
        """Whether everybody is to end."""
        return self.signal is not None or self.stopping.is_set()

    def wait(self) -> None:
        """Wait, in the main thread, until everybody is to end."""
        while not self.stopping.wait(POLL_SECONDS):
            if self.signal is not None:
                self.stop()

    @contextmanager
    def handling_signals(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run in good order, and a second one at once. For the main thread."""

        def handle(number: int, _: object) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            # Nothing but this: an Event set here could wait for a lock that the interrupted code holds.
            self.signal = number
            if self._at_once:
                raise SignalledError

        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Have a signal end what stands in it there and then: for what waits long and looks at nothing.

        Raises:
            SignalledError: one came, in here or before.
        """
        self._at_once = True
        try:
            if self.signal is not None:
                raise SignalledError
            yield
        finally:
            self._at_once = False


def join_all(threads: list[threading.Thread], timeout: float) -> None:
    """Wait for threads to end, for `timeout` seconds in all.

    Raises:
        StuckError: some live on; their names are told.
    """
    deadline = time.monotonic() + timeout
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    stuck = [thread.name for thread in threads if thread.is_alive()]
    if stuck:
        raise StuckError(f"{' and '.join(stuck)} did not end within {timeout:g} s and is left behind")
