"""Events to an MQTT 5 broker, with a retained status and a retained state beside them.

Two threads: paho's reads and writes the socket, and its callbacks only pass on what happened; ours alone holds the
queue and decides what is sent. So no lock is held while paho's are, and none of paho's while ours is.
"""

from __future__ import annotations

import logging
import ssl
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttConfig
from edge.credentials import read_secret
from edge.errors import BadDataError, ConfigError, InputNotFoundError, UnavailableError
from edge.events import Event
from edge.rules import Broker, parse_broker
from edge.state import fold, state_json

LOG = logging.getLogger(__name__)

WINDOW = 16
"""Events on their way at once. Brokers may take no more than 20 (mosquitto's default), state and status included."""

RECONNECT_SECONDS = (1, 30)
"""The first pause before connecting again, and the longest; each is twice the one before."""

TAKEN_OVER = 0x8E
"""MQTT 5's reason code for a session that another client with the same id has taken over."""

STABLE_SECONDS = 5.0
"""A connection that lasted less was no recovery: what was logged about it is not logged again."""

SHORT_LIVED = 3
"""So many of those in a row, and another client with our id is the likely cause: mosquitto does not say so."""

WRONG_LOGIN = {0x86, 0x87}
"""MQTT 5's reason codes for a wrong user name or password, and for one that may not come in."""

_EVENT, _STATE, _STATUS = "event", "state", "status"


def open_mqtt(config: MqttConfig, device: str) -> MqttSink:
    """Make the sink that a configuration with an `mqtt.url` describes; the password is read from its file here.

    Raises:
        ConfigError, InputNotFoundError, BadDataError: password or authority cannot be had; the key is named.
    """
    if config.password_file and not config.username:
        raise ConfigError("mqtt.username is empty, but there is a password for it; set both or neither")
    password = read_secret(config.password_file, "mqtt.password_file") if config.password_file else None
    return MqttSink(
        parse_broker(config.url),
        device=device,
        base=config.base,
        client_id=config.client_id,
        username=config.username,
        password=password,
        ca_file=config.ca_file,
        keepalive=config.keepalive,
    )


class MqttSink:
    """Publishes below `<base>/<device>/`: `event`, and retained `state` and `status`, all with QoS 1.

    Connecting goes on in the background for as long as it takes; meanwhile events wait in memory, and when
    `queue_size` are waiting the oldest is dropped and counted. An event leaves the queue for good when the broker has
    acknowledged it, so it arrives at least once and in order.
    """

    name = "mqtt"

    def __init__(
        self,
        broker: Broker,
        *,
        device: str,
        base: str = "mien",
        client_id: str = "",
        username: str = "",
        password: str | None = None,
        ca_file: Path | None = None,
        keepalive: int = 60,
        queue_size: int = 10_000,
    ) -> None:
        """Begin to connect. The arguments are those of the configuration; an absent broker is no error.

        Raises:
            InputNotFoundError: `ca_file` cannot be read.
            BadDataError: `ca_file` holds no certificates.
        """
        self._broker = broker
        self._device = device
        self._topic = f"{base}/{device}"
        self._client_id = client_id or f"mien-{device}"
        self._queue_size = queue_size
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._changed = threading.Condition()
        self._waiting: deque[Event] = deque()
        self._in_flight: dict[int, str] = {}
        self._sent_again: set[int] = set()
        self._faces: dict[int, Event] = {}
        self._last: Event | None = None
        self._state_due = False
        self._window = WINDOW
        self._connected = self._refused = self._closing = self._stopped = self._disputed = False
        self._connected_at = 0.0
        self._short_lived = 0
        self._problem = ""
        self._rejection = ""
        self._told: set[str] = set()
        self._fault: Exception | None = None
        self.dropped = 0
        """Events given up because too many were waiting."""
        self.rejected = 0
        """Events that the broker did not want."""
        self._client = self._make_client(username, password, ca_file)
        self._thread = threading.Thread(target=self._work, name="mqtt", daemon=True)
        self._thread.start()
        self._client.connect_async(broker.host, broker.port, keepalive, clean_start=True)
        self._client.loop_start()

    def __repr__(self) -> str:
        return f"<MqttSink {self._topic} on {self._address}>"

    def publish(self, event: Event) -> None:
        """Queue one event; never waits for the broker."""
        self.idle()
        if self._closing:
            raise ValueError(f"{self!r} is closed")
        self._inbox.put(partial(self._take, event))

    def idle(self) -> None:
        """Raise where this sink's thread has died; there is nothing else to do in time."""
        if self._fault is not None:
            raise RuntimeError("the MQTT thread has died") from self._fault

    @property
    def unsent(self) -> int:
        """Events that the broker has not acknowledged yet."""
        return len(self._waiting) + list(self._in_flight.values()).count(_EVENT)

    def wait_connected(self, timeout: float) -> bool:
        """Wait until the broker has let us in; False after `timeout` seconds.

        Raises:
            UnavailableError: the broker is there and refuses us.
        """
        self._wait(lambda: self._connected or self._refused, timeout)
        if self._refused:
            raise UnavailableError(self._problem)
        return self._connected

    def close(self, timeout: float = 5.0) -> None:
        """Bring out what is queued, say `offline` and disconnect, all within about `timeout` seconds.

        Raises:
            UnavailableError: the broker refuses us, or events did not reach it.
        """
        if self._closing:
            return
        deadline = monotonic() + timeout
        settled = threading.Event()
        # In line behind every event that was published, so that "nothing waits" is no longer a guess after it.
        self._inbox.put(settled.set)
        self._closing = True
        self._wait(lambda: settled.is_set() and self._is_done(), timeout)
        self._inbox.put(self._say_offline)
        left = max(deadline - monotonic(), 1.0) if self._connected else 0.0
        self._wait(lambda: self._stopped and _STATUS not in self._in_flight.values(), left)
        self._client.disconnect()
        # loop_stop() joins without limit, and a name server or a frozen broker can hold paho's thread for long.
        stopper = threading.Thread(target=self._client.loop_stop, daemon=True)
        stopper.start()
        stopper.join(max(deadline - monotonic(), 1.0))
        self._inbox.put(None)
        self._thread.join(1.0)
        self.idle()
        self._complain()

    def _complain(self) -> None:
        unsent = self.unsent
        if not (unsent or self.rejected or self._refused):
            return
        lost = f"{unsent} events did not reach the broker at {self._address}" if unsent else ""
        raise UnavailableError("; ".join(filter(None, [lost, self._rejection, self._problem])))

    def _is_done(self) -> bool:
        if self._refused or not self._connected:
            return self._refused or not self.unsent
        return not (self._waiting or self._in_flight or self._state_due)

    def _wait(self, happened: Callable[[], bool], timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: happened() or self._fault is not None, timeout)

    @property
    def _address(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _make_client(self, username: str, password: str | None, ca_file: Path | None) -> Client:
        client = Client(CallbackAPIVersion.VERSION2, self._client_id, protocol=MQTTv5)
        if username:
            client.username_pw_set(username, password)
        if self._broker.tls:
            try:
                client.tls_set(str(ca_file) if ca_file else None)
            except ssl.SSLError:
                raise BadDataError(f"mqtt.ca_file: {ca_file} holds no certificate in PEM format") from None
            except OSError as error:
                raise InputNotFoundError(f"mqtt.ca_file: {ca_file} cannot be read ({error.strerror})") from None
        client.will_set(f"{self._topic}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(*RECONNECT_SECONDS)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        return client

    # paho's thread: pass on what happened, touch nothing.

    def _on_connect(self, _: Client, __: Any, ___: ConnectFlags, reason: ReasonCode, limits: Properties | None) -> None:
        if reason.is_failure:
            self._inbox.put(partial(self._be_refused, reason.value, str(reason)))
        else:
            self._inbox.put(partial(self._be_connected, getattr(limits, "ReceiveMaximum", WINDOW + 4)))

    def _on_connect_fail(self, _: Client, __: Any) -> None:
        error = sys.exception()
        why = getattr(error, "strerror", None) or error or "no reason given"
        self._inbox.put(partial(self._be_unreachable, str(why)))

    def _on_disconnect(self, _: Client, __: Any, ___: DisconnectFlags, reason: ReasonCode, ____: Any) -> None:
        self._inbox.put(partial(self._be_disconnected, reason.value, str(reason)))

    def _on_publish(self, _: Client, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        self._inbox.put(partial(self._be_acknowledged, mid, str(reason) if reason.is_failure else ""))

    # Our thread: everything below.

    def _work(self) -> None:
        try:
            while (task := self._inbox.get()) is not None:
                task()
                self._send_waiting()
                with self._changed:
                    self._changed.notify_all()
        except Exception as fault:  # raised again by publish(), idle() and close()
            LOG.exception("the MQTT thread has died")
            self._fault = fault
            with self._changed:
                self._changed.notify_all()

    def _take(self, event: Event) -> None:
        if len(self._waiting) >= self._queue_size:
            self._waiting.popleft()
            self.dropped += 1
            if self.dropped == 1:
                LOG.warning(
                    "more than %d events wait for the broker at %s; the oldest are dropped",
                    self._queue_size,
                    self._address,
                )
        self._waiting.append(event)
        self._faces = fold(self._faces, event)
        self._last = event
        self._state_due = True

    def _send_waiting(self) -> None:
        # What paho sends again after a reconnection has to arrive before anything newer, or order would be lost.
        if not self._connected or self._stopped or self._sent_again & self._in_flight.keys():
            return
        if self._state_due and _STATE not in self._in_flight.values():
            self._state_due = False
            self._send(_STATE, state_json(self._device, self._faces, self._last), retain=True)
        while self._waiting and len(self._in_flight) < self._window:
            self._send(_EVENT, self._waiting.popleft().to_json())

    def _send(self, what: str, payload: str, *, retain: bool = False) -> None:
        info = self._client.publish(f"{self._topic}/{what}", payload, qos=1, retain=retain)
        # Without a connection paho keeps the message and sends it after the next one.
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise RuntimeError(f"paho-mqtt refused a message: {info.rc!r}")
        self._in_flight[info.mid] = what

    def _say_offline(self) -> None:
        if self._connected:
            self._send(_STATUS, "offline", retain=True)
        self._stopped = True

    def _be_connected(self, receive_maximum: int) -> None:
        self._connected, self._refused = True, False
        self._window = max(1, min(WINDOW, receive_maximum - 2))
        self._connected_at = monotonic()
        if self._problem and not self._short_lived:
            LOG.warning("connected to the broker at %s; %d events are waiting", self._address, self.unsent)
        self._problem = ""
        self._sent_again = set(self._in_flight)
        self._send(_STATUS, "online", retain=True)
        self._state_due = True

    def _be_refused(self, code: int, reason: str) -> None:
        self._refused = True
        advice = "; check mqtt.username and mqtt.password_file" if code in WRONG_LOGIN else ""
        self._tell(f"the broker at {self._address} refuses {self._client_id} ({reason}){advice}")

    def _be_unreachable(self, why: str) -> None:
        self._refused = False
        self._tell(f"the broker at {self._address} cannot be reached ({why}); trying on")

    def _be_disconnected(self, code: int, reason: str) -> None:
        if self._connected:
            stable = monotonic() - self._connected_at >= STABLE_SECONDS
            self._short_lived = 0 if stable else self._short_lived + 1
            if stable:
                self._told.clear()
        self._connected = False
        if self._stopped or self._refused:
            return
        if (code == TAKEN_OVER or self._short_lived >= SHORT_LIVED) and not self._disputed:
            self._disputed = True
            LOG.warning(
                "the broker at %s ends every connection at once; is there another client called %s? "
                "Give each device its own device.name",
                self._address,
                self._client_id,
            )
        self._tell(f"the connection to the broker at {self._address} is lost ({reason}); connecting again")

    def _be_acknowledged(self, mid: int, failure: str) -> None:
        what = self._in_flight.pop(mid, None)
        if not failure:
            return
        self._tell(f"the broker at {self._address} does not take {self._topic}/{what} ({failure})")
        if what == _EVENT:
            self.rejected += 1
            self._rejection = f"{self.rejected} events were rejected by the broker at {self._address} ({failure})"

    def _tell(self, problem: str) -> None:
        """Log a problem once, and again only after a connection that lasted."""
        if problem not in self._told:
            LOG.warning("%s", problem)
        self._told.add(problem)
        self._problem = problem
