"""Events to an MQTT broker, through a durable outbox, with retained documents beside them.

Our own thread alone holds the outbox and decides what is sent; the link's threads only pass on what happened. So no
lock is held while paho's are, none of paho's while ours is, and a broker that hangs holds up nobody.
"""

from __future__ import annotations

import logging
import random
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

from edge.config import MqttConfig
from edge.erasure import Erasure
from edge.errors import OutputError, UnavailableError
from edge.events import Event
from edge.outbox import Outbox, Waiting
from edge.sinks import NotStoredError
from edge.sinks.mqtt_documents import DISCOVERY, HEALTH, STATE, STATUS, Announcement, Document, Documents
from edge.sinks.mqtt_link import Access, Link, open_access
from edge.sinks.mqtt_trouble import Trouble
from edge.state import fold, state_json

LOG = logging.getLogger(__name__)

WINDOW = 16
"""Events on their way at once, at most."""

RESERVED = 4
"""Places in the broker's window that are left for the documents."""

AHEAD = 256
"""Events that are read from the outbox at once."""

RETRY_SAVING = 5.0
"""Seconds until a disk that took nothing is tried again."""

OVERLOAD_RESTS = 5.0
"""Seconds until events are sent again to a broker that could not take one for now."""

UNWANTED_RESTS = 60.0
"""Seconds until a document that the broker did not take is sent again."""

BIRTH_PAUSE = 5.0
"""Seconds for which further birth messages of Home Assistant are not heard, and within which one is answered, not by
all devices at once."""

CLOSE_SECONDS, HURRIED_SECONDS = 5.0, 1.0
"""How long the end may wait for the broker's answers, and how long where somebody waits for the end itself. Two more
waits of up to a second follow."""

ERASE_SECONDS = 10.0
"""How long erasing may take in all, the broker's answer included."""

ERASED = ""
"""Stands for an event that was erased on its way."""


def open_mqtt(
    config: MqttConfig,
    device: str,
    folder: Path,
    announcement: Announcement | None = None,
    *,
    paused: Callable[[], bool] = lambda: False,
) -> MqttSink:
    """Make the sink that a configuration with an `mqtt.url` describes; the password is read from its file here.

    Args:
        config: the `mqtt` section.
        device: the device's name.
        folder: where the outbox lies.
        announcement: for Home Assistant; None: it is told nothing.
        paused: see `MqttSink`.

    Raises:
        ConfigError, InputNotFoundError, BadDataError: password or certificates cannot be had; the key is named.
        OutputError: the outbox cannot be written.
    """
    access = open_access(config, config.client_id or f"mien-{device}")
    outbox = Outbox(folder / f"outbox-{device}.sqlite", max_bytes=config.outbox_bytes, max_age=config.outbox_age)
    return MqttSink(access, outbox, device=device, base=config.base, announcement=announcement, paused=paused)


class MqttSink:
    """Publishes below `<base>/<device>/`: `event`, and the retained `state`, `status` and `health`.

    Connecting goes on in the background for as long as it takes; meanwhile events wait in the outbox. An event leaves
    it when the broker has acknowledged it, so each arrives at least once and in order. The documents are sent before
    the events that wait, and again after every reconnection.

    Attributes:
        rejected: events that the broker did not want.
    """

    name = "mqtt"

    def __init__(
        self,
        access: Access,
        outbox: Outbox,
        *,
        device: str,
        base: str = "mien",
        announcement: Announcement | None = None,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        """Begin to connect; an absent broker is no error.

        Args:
            access: to the broker.
            outbox: belongs to this sink from now on.
            device: the device's name.
            base: what the topics begin with.
            announcement: for Home Assistant; None: it is told nothing.
            paused: whether the camera is not read; `tell_state` tells of a change. Called in this sink's thread.
        """
        self.rejected = 0
        self._patience = CLOSE_SECONDS
        self._access = access
        self._outbox = outbox
        self._device = device
        self._topic = f"{base}/{device}"
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._ready: deque[Waiting] = deque()
        self._sent_up_to = 0
        self._in_flight: dict[int, Waiting | str] = {}
        self._faces: dict[int, Event] = {}
        self._last: Event | None = None
        self._documents = Documents()
        self._window = WINDOW
        self._connected = self._refused = self._closing = self._stopped = False
        self._trouble = Trouble(self._address, access.client_id)
        self._rejection = ""
        self._unsaved_told = False
        self._save_after = self._events_rest_until = 0.0
        self._dropped_told = False
        self._fault: Exception | None = None
        self._keep_document(STATUS, lambda: "online", qos=1)
        self._keep_document(STATE, lambda: state_json(self._device, self._faces, self._last, paused=paused()), qos=1)
        self._birth_topic = ""
        self._birth_heard = -BIRTH_PAUSE
        if announcement is not None:
            self._documents.keep(Document(DISCOVERY, announcement.topic, lambda: announcement.payload, qos=1))
            self._birth_topic = announcement.birth_topic
        self._link = Link(
            access,
            self,
            will=(f"{self._topic}/{STATUS}", "offline"),
            subscriptions=[self._birth_topic] if self._birth_topic else [],
        )
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)
        self._thread.start()
        self._link.open()

    def __repr__(self) -> str:
        return f"<MqttSink {self._topic} on {self._address}>"

    def publish(self, event: Event) -> None:
        """Queue one event; never waits for the broker."""
        self.idle()
        if self._closing:
            raise ValueError(f"{self!r} is closed")
        self._inbox.put(partial(self._take, event))

    def tell_health(self, make: Callable[[], str]) -> None:
        """Publish how we are, retained, now and after every reconnection; `make` is called in this sink's thread."""
        self._inbox.put(partial(self._keep_document, HEALTH, make, qos=0))

    def tell_state(self) -> None:
        """Publish the state again: a pause has begun or ended."""
        self._inbox.put(partial(self._documents.ask_for, STATE))

    def erase(self, *, local: bool) -> Erasure:
        """Empty the outbox and, unless `local`, have the broker retain a state without faces or a time."""
        self.idle()
        erasure, until = Erasure(), monotonic() + ERASE_SECONDS
        done = threading.Event()
        self._inbox.put(partial(self._erase, erasure, done, local))
        self._wait(done.is_set, ERASE_SECONDS)
        if not done.is_set():
            erasure.problems.append(f"the outbox {self._outbox.path} could not be erased in time")
        elif not local:
            self._wait(lambda: not self._connected or self._has_told(STATE), until - monotonic())
            if self._has_told(STATE):
                erasure.removed.append((f"{self._topic}/{STATE} on the broker at {self._address}", 0))
            else:
                erasure.notes.append(
                    f"the broker at {self._address} does not answer; it is told to forget when it does"
                )
        return erasure

    def idle(self) -> None:
        """Raise where this sink's thread has died; what has to happen in time happens there."""
        if self._fault is not None:
            raise RuntimeError("the MQTT thread has died") from self._fault

    @property
    def connected(self) -> bool:
        """Whether the broker has let us in."""
        return self._connected

    @property
    def unsent(self) -> int:
        """Events that the broker has not acknowledged yet."""
        return len(self._outbox)

    @property
    def dropped(self) -> int:
        """Events given up because the outbox was full, or they too old."""
        return self._outbox.dropped

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the broker has let us in; False after `timeout` seconds.

        Raises:
            UnavailableError: the broker is there and refuses us.
        """
        self._wait(lambda: self._connected or self._refused, timeout)
        if self._refused:
            raise UnavailableError(self._trouble.now)
        return self._connected

    def hurry(self) -> None:
        """Have the end wait no longer than `HURRIED_SECONDS`; what is not out by then waits in the outbox."""
        self._patience = HURRIED_SECONDS

    def close(self, timeout: float | None = None) -> None:
        """Bring out what is queued, say `offline`, disconnect and save the rest, within about `timeout` seconds.

        Args:
            timeout: None: `CLOSE_SECONDS`, or less after `hurry`.

        Raises:
            UnavailableError: the broker refuses us, or events did not reach it.
            OutputError: nor could they be saved.
        """
        if self._closing:
            return
        timeout = self._patience if timeout is None else timeout
        deadline = monotonic() + timeout
        settled = threading.Event()
        # In line after every event that was published, so that "nothing waits" is no longer a guess after it.
        self._inbox.put(settled.set)
        self._closing = True
        self._wait(lambda: settled.is_set() and self._is_done(), timeout)
        self._inbox.put(self._say_offline)
        left = max(deadline - monotonic(), 1.0) if self._connected else 0.0
        self._wait(lambda: self._stopped and STATUS not in list(self._in_flight.values()), left)
        self._link.close(max(deadline - monotonic(), 1.0))
        self._inbox.put(None)
        self._thread.join(5.0)
        lost = self._outbox.unsaved
        if self._thread.is_alive():  # in the disk's hands; two threads must not have the outbox
            raise NotStoredError(f"the disk does not answer; {lost} events that had not been stored are lost", lost)
        try:
            self._outbox.close()
        except OutputError as error:
            lost = self._outbox.unsaved
            raise NotStoredError(f"{error}; {lost} events that had not reached the broker are lost", lost) from None
        finally:
            self.idle()
        self._complain()

    def _complain(self) -> None:
        unsent = self.unsent
        if not (unsent or self.rejected or self._refused):
            return
        later = f"; they wait in {self._outbox.path} for the next start" if self._outbox.path else ""
        lost = f"{unsent} events did not reach the broker at {self._address}{later}" if unsent else ""
        lost += f"; {self.dropped} older ones were given up" if lost and self.dropped else ""
        raise UnavailableError("; ".join(filter(None, [lost, self._rejection, self._trouble.now])))

    def _is_done(self) -> bool:
        if self._refused or not self._connected:
            return self._refused or not self.unsent or self._outbox.path is not None
        return not (self.unsent or self._in_flight or self._documents.due())

    def _wait(self, happened: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: happened() or self._fault is not None, timeout)

    @property
    def _address(self) -> str:
        return f"{self._access.broker.host}:{self._access.broker.port}"

    # In the link's threads: pass on what happened, touch nothing.

    def be_connected(self, window: int) -> None:
        """See `edge.sinks.mqtt_link.User`, also for the others."""
        self._inbox.put(partial(self._connect, window))

    def be_refused(self, code: int, reason: str) -> None:  # noqa: D102
        self._inbox.put(partial(self._refuse, code, reason))

    def be_unreachable(self, why: str) -> None:  # noqa: D102
        self._inbox.put(partial(self._miss, why))

    def be_disconnected(self, code: int, reason: str, lasted: float) -> None:  # noqa: D102
        self._inbox.put(partial(self._disconnect, code, reason, lasted))

    def be_acknowledged(self, mid: int, failure: str, for_now: bool) -> None:  # noqa: D102
        self._inbox.put(partial(self._acknowledge, mid, failure, for_now))

    def be_told(self, topic: str, payload: bytes) -> None:  # noqa: D102
        now = monotonic()
        if topic == self._birth_topic and payload == b"online" and now - self._birth_heard >= BIRTH_PAUSE:
            self._birth_heard = now
            self._inbox.put(self._announce_again)

    # In our thread: everything below.

    def _work(self) -> None:
        try:
            while True:
                try:
                    task = self._inbox.get(timeout=self._next_turn())
                except Empty:
                    task = _nothing
                if task is None:
                    return
                task()
                if self._next_save() == 0.0:
                    self._save()
                if self.dropped and not self._dropped_told:
                    self._dropped_told = True
                    LOG.warning("too many events wait for the broker at %s; the oldest are dropped", self._address)
                self._send_waiting()
                with self._changed:
                    self._changed.notify_all()
        except Exception as fault:  # raised again by publish(), idle() and close()
            LOG.exception("the MQTT thread has died")
            self._fault = fault
            with self._changed:
                self._changed.notify_all()

    def _next_turn(self) -> float | None:
        """Seconds until something has to be done though nothing happens; None: for ever."""
        turns = [self._next_save()]
        if self._connected and not self._stopped:
            turns.append(self._documents.next_in(self._in_flight.values()))
            rest = self._events_rest_until - monotonic()
            turns.append(rest if rest > 0 else None)
        return min((turn for turn in turns if turn is not None), default=None)

    def _next_save(self) -> float | None:
        due = self._outbox.save_in()
        return None if due is None else max(0.0, due, self._save_after - monotonic())

    def _save(self) -> None:
        try:
            self._outbox.save()
        except OutputError as error:
            self._save_after = monotonic() + RETRY_SAVING
            if not self._unsaved_told:
                LOG.warning("%s; events wait in memory meanwhile", error)
            self._unsaved_told = True
        else:
            if self._unsaved_told:
                LOG.warning("the outbox %s can be written again", self._outbox.path)
            self._unsaved_told = False

    def _take(self, event: Event) -> None:
        self._outbox.put(event.to_json())
        self._faces, self._last = fold(self._faces, event), event
        self._documents.ask_for(STATE)

    def _has_told(self, name: str) -> bool:
        """Whether the broker has acknowledged a document as it is now."""
        return self._connected and not self._documents.is_due(name) and name not in list(self._in_flight.values())

    def _erase(self, erasure: Erasure, done: threading.Event, local: bool) -> None:
        # What is on its way keeps its place until the broker has answered.
        self._in_flight = {mid: what if isinstance(what, str) else ERASED for mid, what in self._in_flight.items()}
        self._ready.clear()
        erasure.add(self._outbox.erase())
        if not local:
            self._faces, self._last = {}, None
            self._documents.ask_for(STATE)
        done.set()

    def _announce_again(self) -> None:
        self._documents.ask_for(DISCOVERY, within=random.uniform(0.0, BIRTH_PAUSE))  # noqa: S311  # no secret

    def _keep_document(self, name: str, make: Callable[[], str], *, qos: int) -> None:
        self._documents.keep(Document(name, f"{self._topic}/{name}", make, qos))

    def _send_waiting(self) -> None:
        if not self._connected or self._stopped:
            return
        for document in self._documents.due(self._in_flight.values()):
            document.due = False
            self._send(document.topic, document.make(), document.qos, document.name)
        if monotonic() < self._events_rest_until:
            return
        while len(self._in_flight) < self._window and (event := self._next_event()) is not None:
            if not self._send(f"{self._topic}/event", event.payload, 1, event):
                return  # the connection has just gone, as we shall hear; then all is sent again

    def _next_event(self) -> Waiting | None:
        if not self._ready:
            try:
                self._ready.extend(self._outbox.after(self._sent_up_to, AHEAD))
            except OutputError as error:
                self._trouble.tell(str(error))
        if not self._ready:
            return None
        self._sent_up_to = self._ready[0].number
        return self._ready.popleft()

    def _send(self, topic: str, payload: str, qos: int, what: Waiting | str) -> bool:
        mid = self._link.publish(topic, payload, qos=qos, retain=isinstance(what, str))
        if mid is not None and qos:
            self._in_flight[mid] = what
        return mid is not None

    def _say_offline(self) -> None:
        if self._connected:
            self._send(f"{self._topic}/{STATUS}", "offline", 1, STATUS)
        self._stopped = True

    def _begin_anew(self) -> None:
        """What was on its way without an answer is sent again, before anything newer."""
        self._in_flight.clear()
        self._ready.clear()
        self._sent_up_to = 0

    def _connect(self, window: int) -> None:
        self._begin_anew()
        self._link.begin()
        self._connected, self._refused = True, False
        self._window = max(1, min(WINDOW + RESERVED, window) - RESERVED)
        self._trouble.end(self.unsent)
        self._documents.ask_for_all()

    def _refuse(self, code: int, reason: str) -> None:
        self._trouble.refuse(code, reason)
        self._refused = True

    def _miss(self, why: str) -> None:
        self._refused = False
        self._trouble.miss(why)

    def _disconnect(self, code: int, reason: str, lasted: float) -> None:
        if self._connected:
            self._trouble.count(lasted)
        self._connected = False
        self._begin_anew()
        if not (self._stopped or self._refused):
            self._trouble.lose(code, reason)

    def _acknowledge(self, mid: int, failure: str, for_now: bool) -> None:
        what = self._in_flight.pop(mid, None)
        if isinstance(what, Waiting) and not for_now:
            self._outbox.forget(what.number)
        if not failure or not what:
            return
        name = "event" if isinstance(what, Waiting) else what
        self._trouble.tell(f"the broker at {self._address} does not take {self._topic}/{name} ({failure})")
        if isinstance(what, Waiting) and for_now:
            self._events_rest_until = monotonic() + OVERLOAD_RESTS
            self._begin_anew()
        elif isinstance(what, Waiting):
            self.rejected += 1
            self._rejection = f"{self.rejected} events were rejected by the broker at {self._address} ({failure})"
        else:
            # Mosquitto 2.0 hangs up on whoever publishes what he may not; events must have their turn too.
            self._documents.ask_for(what, within=UNWANTED_RESTS)


def _nothing() -> None:
    pass
