"""One connection to an MQTT broker after the other, for as long as it takes.

Each attempt has a paho client of its own, so that nothing of an earlier one (messages on their way, a protocol that the
broker does not speak, a certificate that has since been renewed) lingers in it. Whoever uses the link sends again what
was not acknowledged.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import MqttConfig
from edge.credentials import read_secret
from edge.errors import BadDataError, ConfigError, InputNotFoundError
from edge.rules import Broker, parse_broker

RECONNECT_SECONDS = (1.0, 30.0)
"""The first pause before connecting again, and the longest; each is twice the one before, and up to half of it is left
out by chance, lest all devices knock at once when their broker is back."""

STABLE_SECONDS = 5.0
"""A connection that lasted less was no recovery."""

WINDOW = 20
"""Messages on their way at once where the broker does not say how many it takes: mosquitto's default."""

LONGEST_MESSAGE = 64 * 1024
"""Bytes that a broker may send us at once. One that speaks MQTT 5 knows; over one that does not, we hang up."""

DEAF_SECONDS = 3600.0
"""For so long nothing is subscribed to after too long a message: a retained one would come at every connection."""

PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}

WRONG_PROTOCOL = 0x84
"""MQTT 5's reason code for a version that the broker does not speak."""

OVERLOADED = {0x80, 0x83, 0x97}
"""MQTT 5's reason codes for a broker that fails, or has had too much, and may take the same message later."""

MALFORMED = 0x81
"""MQTT 5's reason code for a message that is none."""

SILENT = 3
"""So many connections in a row that ended before the broker answered: older ones hang up on what they do not know."""


@dataclass(frozen=True, slots=True)
class Access:
    """How the broker is reached, and as whom. The files are read again for each connection.

    Attributes:
        broker: where.
        client_id: who.
        username: empty: nobody in particular.
        password: of `username`.
        ca_file: the broker's authority in PEM format; None: the system's.
        cert_file: our own certificate in PEM format.
        key_file: its key; None: it is in `cert_file`.
        keepalive: seconds.
        protocol: a key of `PROTOCOLS`, or empty: MQTT 5, and 3.1.1 where the broker does not speak that.
    """

    broker: Broker
    client_id: str
    username: str = ""
    password: str | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    keepalive: int = 60
    protocol: str = ""

    def __repr__(self) -> str:
        return f"<Access to {self.broker.host}:{self.broker.port} as {self.client_id}>"

    def tls(self) -> ssl.SSLContext | None:
        """What encrypts; None: nothing does.

        Raises:
            InputNotFoundError: a file cannot be read.
            BadDataError: a file holds something else.
        """
        if not self.broker.tls:
            return None
        context = ssl.create_default_context()
        if (ca := self.ca_file) is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            _load("mqtt.ca_file", ca, "no certificate", lambda: context.load_verify_locations(ca))
        if (cert := self.cert_file) is not None:
            key, name = (cert, "mqtt.cert_file") if self.key_file is None else (self.key_file, "mqtt.key_file")
            lacks = "no certificate with the key that fits it"
            _load(name, key, lacks, lambda: context.load_cert_chain(cert, key))
        return context


def open_access(config: MqttConfig, client_id: str) -> Access:
    """The access that a configuration with an `mqtt.url` describes; password and certificates are read once, here.

    Args:
        config: the `mqtt` section; its own client id does not count.
        client_id: who.

    Raises:
        ConfigError, InputNotFoundError, BadDataError: password or certificates cannot be had; the key is named.
    """
    if config.password_file and not config.username:
        raise ConfigError("mqtt.username is empty, but there is a password for it; set both or neither")
    if config.key_file and not config.cert_file:
        raise ConfigError("mqtt.cert_file is empty, but there is a key for it; set both or neither")
    access = Access(
        parse_broker(config.url),
        client_id=client_id,
        username=config.username,
        password=read_secret(config.password_file, "mqtt.password_file") if config.password_file else None,
        ca_file=config.ca_file,
        cert_file=config.cert_file,
        key_file=config.key_file,
        keepalive=config.keepalive,
        protocol=config.protocol,
    )
    access.tls()
    return access


def _load(name: str, path: Path, lacks: str, load: Callable[[], None]) -> None:
    try:
        path.open("rb").close()
        load()
    except ssl.SSLError:
        raise BadDataError(f"{name}: {path} holds {lacks} in PEM format") from None
    except OSError as error:
        raise InputNotFoundError(f"{name}: {path} cannot be read ({error.strerror})") from None


class _Client(Client):
    """paho's client, fit for a broker that sends nonsense: no more of it is held than has to be, and what ends the
    connection is always told.
    """

    on_broken: Callable[[Exception], None]

    def loop_forever(self, timeout: float = 1.0, retry_first_connection: bool = False) -> MQTTErrorCode:
        """As paho's, in whose thread it runs; before 2.2 there is garbage that raises there."""
        try:
            return super().loop_forever(timeout, retry_first_connection)
        except Exception as error:
            self._sock_close()
            self.on_broken(error)
            return MQTTErrorCode.MQTT_ERR_PROTOCOL

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """As paho's."""
        code = super().loop_read(max_packets)
        if (length := self._in_packet["remaining_length"]) > LONGEST_MESSAGE:
            raise ConnectionError(f"it sends a message of {length} bytes")
        return code


class User(Protocol):
    """Hears of the connection, in threads that must not be held up."""

    def be_connected(self, window: int) -> None:
        """The broker has let us in and takes so many messages at once."""

    def be_refused(self, code: int, reason: str) -> None:
        """The broker does not let us in."""

    def be_unreachable(self, why: str) -> None:
        """There is no broker to talk to."""

    def be_disconnected(self, code: int, reason: str, lasted: float) -> None:
        """A connection has ended after so many seconds."""

    def be_acknowledged(self, mid: int, failure: str, for_now: bool) -> None:
        """The broker has a message, or says why it does not take it, be it `for_now` alone."""

    def be_told(self, topic: str, payload: bytes) -> None:
        """A message has come."""


class Link:
    """Connects, and connects again.

    Args:
        access: to whom, and as whom.
        user: hears of it.
        will: topic and payload that the broker shall publish and retain where we vanish; None: nothing.
        subscriptions: topics to be heard of.
    """

    def __init__(
        self, access: Access, user: User, *, will: tuple[str, str] | None = None, subscriptions: Sequence[str] = ()
    ) -> None:
        self._access = access
        self._user = user
        self._will = will
        self._subscriptions = subscriptions
        self._protocol = access.protocol or "5"
        self._client: _Client | None = None
        self._used: _Client | None = None
        self._ended = threading.Event()
        self._closing = threading.Event()
        self._connected_at: float | None = None
        self._silent = 0
        self._speaks_5 = False
        self._deaf_until = 0.0
        self._thread = threading.Thread(target=self._work, name="mqtt link", daemon=True)

    def open(self) -> None:
        """Begin to connect, in the background."""
        self._thread.start()

    def begin(self) -> None:
        """Publish over the newest connection from now on, in answer to `be_connected`: whoever has not heard that one
        connection has ended must not go on in the next, where the order would be another one.
        """
        self._used = self._client

    def publish(self, topic: str, payload: str, *, qos: int, retain: bool) -> int | None:
        """Send a message; the number by which it will be acknowledged, None where the connection has just gone."""
        client = self._used
        if client is None:
            return None
        info = client.publish(topic, payload, qos=qos, retain=retain)
        if info.rc not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_NO_CONN):
            raise RuntimeError(f"paho-mqtt refused a message: {info.rc!r}")
        return info.mid if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS else None

    def close(self, timeout: float) -> None:
        """Disconnect, within about `timeout` seconds."""
        self._closing.set()
        if (client := self._client) is not None:
            client.disconnect()
        # A name server or a frozen broker can hold a connection for long.
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _work(self) -> None:
        pause = RECONNECT_SECONDS[0]
        while not self._closing.is_set():
            protocol = self._protocol
            lasted = self._connect(protocol)
            if lasted >= STABLE_SECONDS:
                pause = RECONNECT_SECONDS[0]
            if protocol == "5" != self._protocol:
                continue  # the older one at once
            self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311  # not for secrets
            pause = min(2 * pause, RECONNECT_SECONDS[1])

    def _connect(self, protocol: str) -> float:
        """One connection from its beginning to its end; the seconds that it lasted."""
        self._ended.clear()
        self._connected_at = None
        try:
            client = self._make_client(protocol)
            client.connect(
                self._access.broker.host, self._access.broker.port, self._access.keepalive, **_session(protocol)
            )
            self._client = client
            client.loop_start()
        except Exception as error:  # of network, TLS, paho or a lack of threads: there is no broker
            self._client = None
            self._user.be_unreachable(str(getattr(error, "strerror", None) or error or "no reason given"))
            return 0.0
        if self._closing.is_set():
            client.disconnect()
        self._ended.wait()
        self._client = None
        client.loop_stop()
        return 0.0 if self._connected_at is None else monotonic() - self._connected_at

    def _make_client(self, protocol: str) -> _Client:
        access = self._access
        client = _Client(
            CallbackAPIVersion.VERSION2,
            access.client_id,
            clean_session=None if protocol == "5" else True,
            protocol=PROTOCOLS[protocol],
            reconnect_on_failure=False,
        )
        if access.username:
            client.username_pw_set(access.username, access.password)
        if (context := access.tls()) is not None:
            client.tls_set_context(context)
        if self._will is not None:
            client.will_set(*self._will, qos=1, retain=True)
        # Whoever uses the link counts what is on its way, and leaves room for it.
        client.max_inflight_messages_set(0xFFFF)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_broken = self._on_broken
        return client

    # In paho's thread: pass on what happened.

    def _on_connect(
        self, client: Client, _: Any, __: ConnectFlags, reason: ReasonCode, told: Properties | None
    ) -> None:
        self._silent = 0
        if not reason.is_failure:
            self._connected_at = monotonic()
            self._speaks_5 = self._protocol == "5"
            for topic in self._subscriptions if self._connected_at >= self._deaf_until else ():
                client.subscribe(topic)
            self._user.be_connected(getattr(told, "ReceiveMaximum", WINDOW))
        elif reason.value == WRONG_PROTOCOL and not self._access.protocol:
            self._try_another_protocol()
        else:
            self._user.be_refused(reason.value, str(reason))

    def _on_disconnect(self, _: Client, __: Any, ___: DisconnectFlags, reason: ReasonCode, ____: Any) -> None:
        self._end(reason.value, str(reason))

    def _on_broken(self, error: Exception) -> None:
        if self._connected_at is not None:
            self._deaf_until = monotonic() + DEAF_SECONDS
        self._end(MALFORMED, str(error) or repr(error))

    def _end(self, code: int, reason: str) -> None:
        lasted = 0.0 if self._connected_at is None else monotonic() - self._connected_at
        # Once it has spoken version 5, a broker that is silent is away, and no older one.
        if self._connected_at is None and not self._access.protocol and not self._speaks_5:
            self._silent += 1
            if self._silent >= SILENT:
                self._silent = 0
                self._try_another_protocol()
        self._user.be_disconnected(code, reason, lasted)
        self._ended.set()

    def _on_publish(self, _: Client, __: Any, mid: int, reason: ReasonCode, ___: Any) -> None:
        failure = str(reason) if reason.is_failure else ""
        self._user.be_acknowledged(mid, failure, reason.value in OVERLOADED)

    def _on_message(self, _: Client, __: Any, message: MQTTMessage) -> None:
        with suppress(UnicodeDecodeError):  # a topic that is no text is none of ours
            self._user.be_told(message.topic, bytes(message.payload))

    def _try_another_protocol(self) -> None:
        self._protocol = "3.1.1" if self._protocol == "5" else "5"


def _session(protocol: str) -> dict[str, Any]:
    if protocol != "5":
        return {}
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho's own gap
    properties.MaximumPacketSize = LONGEST_MESSAGE
    return {"clean_start": True, "properties": properties}
