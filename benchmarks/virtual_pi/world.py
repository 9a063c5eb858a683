"""What is around the virtual Pi: somebody who keeps every event that a broker passes on, and a clock in the network."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.errors import UnavailableError

NTP_PORT = 123
_SINCE_1900 = 2_208_988_800
"""Seconds from NTP's beginning of time to Unix's."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event and when it came, in monotonic seconds."""

    at: float
    event: dict[str, Any]

    @property
    def id(self) -> str:
        """The event's."""
        return str(self.event["id"])


class Listener:
    """Keeps every event and every status in the order of arrival, also those that come while nobody looks."""

    def __init__(self, port: int) -> None:
        """Subscribe at a broker on this machine, in a session that outlasts the connection."""
        self.arrivals: list[Arrival] = []
        self.statuses: list[tuple[float, str]] = []
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, "listener", protocol=MQTTv5)
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]  # paho takes parts of a second too
        self._client.on_connect = lambda client, *_: client.subscribe([("mien/+/event", 1), ("mien/+/status", 1)])
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.on_message = self._keep
        session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        session.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, keepalive=5, clean_start=False, properties=session)
        self._client.loop_start()
        if not ready.wait(10):
            raise UnavailableError("the listener could not subscribe")

    def _keep(self, _: Client, __: object, message: MQTTMessage) -> None:
        now = time.monotonic()
        if message.topic.endswith("/event"):
            self.arrivals.append(Arrival(now, json.loads(message.payload)))
        else:
            self.statuses.append((now, message.payload.decode()))

    def wait(self, wanted: Callable[[Arrival], bool], seconds: float, *, after: int = 0) -> Arrival:
        """The first arrival of a kind, behind the first so many.

        Raises:
            UnavailableError: none came in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for arrival in self.arrivals[after:]:
                if wanted(arrival):
                    return arrival
            time.sleep(0.05)
        raise UnavailableError(f"no such event within {seconds:g} s; {len(self.arrivals) - after} others came")

    def close(self) -> None:
        """Go."""
        self._client.disconnect()
        self._client.loop_stop()


class TimeServer:
    """Answers NTP questions with this machine's time, as a server in the network would (RFC 5905, section 7.3)."""

    def __init__(self) -> None:
        """Begin.

        Raises:
            UnavailableError: somebody else answers here.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind(("127.0.0.1", NTP_PORT))
        except OSError as error:
            self._socket.close()
            raise UnavailableError(f"UDP port {NTP_PORT} of this machine is not to be had ({error.strerror})") from None
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                question, asker = self._socket.recvfrom(512)
                if len(question) >= 48:
                    self._socket.sendto(answer(question, time.time()), asker)

    def close(self) -> None:
        """Fall silent."""
        self._socket.close()


def answer(question: bytes, now: float) -> bytes:
    """A server's packet for a client's.

    Args:
        question: 48 bytes or more.
        now: seconds since 1970.
    """
    seconds = int(now)
    stamp = struct.pack(">II", (seconds + _SINCE_1900) % 2**32, int((now - seconds) * 2**32))
    # No leap second, version 4, server; stratum 2; the question's poll interval; a precision of a microsecond.
    head = struct.pack(">BBBbII4s", 0x24, 2, question[2], -20, 0, 0, b"\x7f\x00\x00\x01")
    return head + stamp + question[40:48] + stamp + stamp
