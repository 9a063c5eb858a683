"""A sink behind a bounded queue and a thread of its own, so that a slow one holds up nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from edge.erasure import Erasure
from edge.errors import OutputError, UnavailableError
from edge.events import Event
from edge.sinks import NotStoredError, Sink
from edge.supervisor import Supervisor, join_all

LOG = logging.getLogger(__name__)

QUEUE_SIZE = 1000
"""Events that wait for a sink at most: minutes of a lively scene."""

IDLE_SECONDS = 0.5
"""How often a sink without events is given its turn."""

STEADY_SECONDS = 60.0
"""A sink that failed works again when it has taken events for so long; flickering is not told of each time."""


class Outlet:
    """Hands events to one sink, in order.

    A broker that is away (`UnavailableError`) or a disk that is full (`OutputError`) ends nothing: what could not be
    brought out is counted in `lost`, `problem` keeps the last reason, and the next event is tried afresh. It is told
    once, and once more when the sink works again. But a file that is read `patient`ly, where nothing is to be lost,
    ends with the disk. Anything else that a sink raises ends the run, as any thread's exception does.
    """

    def __init__(
        self,
        sink: Sink,
        supervisor: Supervisor,
        *,
        patient: bool,
        size: int = QUEUE_SIZE,
        idle: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the sink's thread.

        Args:
            sink: where the events go; it belongs to this outlet from now on and is closed by it.
            supervisor: hears of the thread's end.
            patient: whether `put` waits for room (files: nothing is lost) or drops the oldest (cameras).
            size: how many events may wait.
            idle: seconds after which a sink without events is given its turn.
            clock: monotonic seconds.
        """
        self.name = sink.name
        self.dropped = 0
        """Events given up because too many were waiting."""
        self.lost = 0
        """Events that the sink could not bring out."""
        self.problem: OutputError | UnavailableError | None = None
        self._sink = sink
        self._supervisor = supervisor
        self._patient = patient
        self._size = size
        self._idle = idle
        self._clock = clock
        self._failed: float | None = None
        self._lost_before = 0
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._errand: Callable[[], None] | None = None
        self._finished = False
        self._thread = supervisor.start(sink.name, self._work)

    @property
    def waiting(self) -> int:
        """Events that the sink has not taken yet."""
        return len(self._waiting)

    def put(self, event: Event) -> None:
        """Queue an event."""
        with self._changed:
            if self._patient:
                while len(self._waiting) >= self._size and not self._supervisor.stopped():
                    self._changed.wait(self._idle)
            elif len(self._waiting) >= self._size:
                self._waiting.popleft()
                self.dropped += 1
                if self.dropped == 1:
                    LOG.warning("%s is too slow; the oldest events that wait for it are dropped", self.name)
            self._waiting.append(event)
            self._changed.notify_all()

    def erase(self, *, local: bool, timeout: float) -> Erasure:
        """Drop what waits, and have the sink remove what it has stored; see `Sink.erase`. From any thread.

        Args:
            local: leave alone what others keep.
            timeout: seconds after which a sink that hangs is reported instead.
        """
        answer: SimpleQueue[Erasure] = SimpleQueue()

        def erase() -> None:
            answer.put(self._sink.erase(local=local))

        with self._changed:
            self._waiting.clear()
            self._errand = erase
            self._changed.notify_all()
        until = time.monotonic() + timeout
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            with suppress(Empty):
                return answer.get(timeout=min(left, self._idle))
        return Erasure(problems=[f"{self.name} has ended, or did not answer within {timeout:g} s"])

    def finish(self, timeout: float) -> None:
        """Bring out what waits and close the sink.

        Raises:
            StuckError: that took longer than `timeout` seconds.
        """
        with self._changed:
            self._finished = True
            self._changed.notify_all()
        join_all([self._thread], timeout)

    def _work(self) -> None:
        try:
            while not self._is_over():
                event = self._next()
                if event is not None:
                    self._try(partial(self._sink.publish, event), losing=1)
                elif errand := self._take_errand():
                    self._try(errand)
                else:
                    self._try(self._sink.idle)
        finally:
            self._try(self._sink.close)

    def _is_over(self) -> bool:
        with self._changed:
            return self._finished and not self._waiting

    def _next(self) -> Event | None:
        """The oldest event; None after a while without any, and where something else is to be done first."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._errand or self._finished, self._idle)
            self._changed.notify_all()
            return self._waiting.popleft() if self._waiting and not self._errand else None

    def _take_errand(self) -> Callable[[], None] | None:
        with self._changed:
            errand, self._errand = self._errand, None
            return errand

    def _try(self, action: Callable[[], None], losing: int = 0) -> None:
        try:
            action()
        except (OutputError, UnavailableError) as error:
            self._lose(error, error.events if isinstance(error, NotStoredError) else losing)
        else:
            if losing and self._failed is not None and self._clock() - self._failed >= STEADY_SECONDS:
                LOG.warning("%s works again; %d events were lost", self.name, self.lost - self._lost_before)
                self._failed = None

    def _lose(self, error: OutputError | UnavailableError, events: int) -> None:
        self.problem = error
        if self._failed is None:
            self._lost_before = self.lost
        self.lost += events
        if self._patient and isinstance(error, OutputError):
            raise error
        # What happens at the end of a run, the run tells of itself.
        if self._failed is None and not self._finished:
            LOG.warning("%s: %s", self.name, error)
        self._failed = self._clock()
