"""The broker: reached, believed, and willing to let us in; and whether another device has our name there."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.device import IDENTITIES, default_name
from edge.doctor_finding import Finding, Subject, fault, not_here, ok, told, warning
from edge.doctor_network import reach, shake_hands
from edge.doctor_processes import find_daemons
from edge.errors import MienError

if TYPE_CHECKING:
    from edge.sinks.mqtt_link import Access

ANSWER_SECONDS = 12.0
"""For the broker's answer; a connection in MQTT 5 and one in 3.1.1 may be needed for it."""

RETAINED_SECONDS = 2.0
"""For what the broker retains; it comes at once or never."""

ADVICE = "put [mqtt] in the configuration right"


def check_broker(subject: Subject) -> Finding:
    """Whether the configured broker can be reached, and lets the configured account in."""
    if not subject.config.mqtt.url:
        return not_here("no broker is configured (mqtt.url)")
    if (hidden := hidden_secret(subject, subject.config.mqtt.password_file)) is not None:
        return hidden
    try:
        access, how = _approach(subject)
    except MienError as error:
        return told(error, ADVICE)
    visit = Visit(access)
    where = f"{access.broker.host}:{access.broker.port}"
    if visit.problem:
        return fault(f"{where} {visit.problem}", visit.advice)
    who = f"lets {access.username} in" if access.username else "lets us in without a login"
    return ok(f"{where} {who}, {how}")


def check_name(subject: Subject) -> Finding:
    """Whether the broker retains, under our name, what another device must have said."""
    mqtt = subject.config.mqtt
    name = subject.config.device.name or default_name(
        identities=[subject.root / path.relative_to("/") for path in IDENTITIES]
    )
    if not mqtt.url:
        return not_here(f"this device is called {name}; no broker is configured that knows of others")
    topic = f"{mqtt.base}/{name}/status"
    try:
        visit = Visit(_approach(subject)[0], [topic])
    except MienError:
        return not_here(f"this device is called {name}; the broker cannot be asked (see broker)")
    if visit.problem:
        return not_here(f"this device is called {name}; the broker cannot be asked (see broker)")
    status = visit.heard.get(topic, b"").decode(errors="replace")
    runs = bool(find_daemons(subject.root))
    another = "if another device has this name, give each its own in device.name"
    if status == "online" and not runs:
        return warning(f"{topic} is online, but Mien does not run here", f"{another}; else see: mien fleet --once")
    if status == "offline" and runs:
        return warning(f"{topic} is offline, but Mien runs here", f"see broker and the daemon's log; {another}")
    return ok(f"this device is called {name}; the broker {f'has it {status}' if status else 'knows nothing of it yet'}")


def hidden_secret(subject: Subject, path: Path | None) -> Finding | None:
    """A warning where a password may be read by the daemon, or systemd for it, but not by us."""
    if path is None or os.access(path, os.R_OK):
        return None
    given = subject.service is not None and path in subject.service.credentials.values()
    if subject.runner.ourselves and not given:
        return None
    return warning(f"not tried: {path} may not be read from here", "run it again: sudo mien doctor")


def _approach(subject: Subject) -> tuple[Access, str]:
    """Reach the broker without saying anything: the access to it, and how it is encrypted.

    Raises:
        MienError: it cannot be had.
    """
    from edge.sinks.mqtt_link import open_access

    # Another name each time: a broker throws out a client whose name another one comes with.
    access = open_access(subject.config.mqtt, f"mien-doctor-{secrets.token_hex(4)}")
    connection = reach(access.broker.host, access.broker.port)
    context = access.tls()
    if context is None:
        connection.close()
        return access, "not encrypted"
    return access, shake_hands(connection, context, access.broker.host)


class Visit:
    """One connection to a broker, which is over when this is made; nothing is published.

    Args:
        access: to the broker.
        topics: to be listened to.

    Attributes:
        problem: why the broker did not let us in; empty: it did.
        advice: what to do about that.
        heard: what came on the topics.
    """

    def __init__(self, access: Access, topics: Sequence[str] = ()) -> None:
        from edge.sinks.mqtt_link import SILENT, Link

        self.problem = "does not answer to MQTT"
        self.advice = "is it an MQTT broker that listens there? See its own log"
        self.heard: dict[str, bytes] = {}
        self._changed = threading.Condition()
        self._answered = False
        self._hung_up = 0
        # Older brokers hang up on MQTT 5; the link goes over to 3.1.1 after so many times.
        self._patience = 0 if access.protocol else SILENT
        link = Link(access, self, subscriptions=topics)
        link.open()
        with self._changed:
            self._changed.wait_for(lambda: self._answered, ANSWER_SECONDS)
            if topics and not self.problem:
                self._changed.wait_for(lambda: len(self.heard) == len(topics), RETAINED_SECONDS)
            self._answered = True  # what our own leaving makes it say does not count
        link.close(2.0)

    # In the link's threads.

    def be_connected(self, window: int) -> None:
        """See `edge.sinks.mqtt_link.User`, also for the others."""
        self._answer("", "")

    def be_refused(self, code: int, reason: str) -> None:  # noqa: D102
        advice = "check mqtt.username and the file that mqtt.password_file names; the broker's own log says more"
        self._answer(f"does not let us in ({reason})", advice)

    def be_unreachable(self, why: str) -> None:  # noqa: D102
        self._note(f"cannot be reached ({why})")

    def be_disconnected(self, code: int, reason: str, lasted: float) -> None:  # noqa: D102
        self._hung_up += 1
        say = self._answer if self._hung_up > self._patience else self._note
        say(
            f"hangs up before it answers ({reason})",
            "if it wants TLS, write mqtts:// and its port; if it wants a certificate, name ours in mqtt.cert_file",
        )

    def be_acknowledged(self, mid: int, failure: str, for_now: bool) -> None:  # noqa: D102
        pass

    def be_told(self, topic: str, payload: bytes) -> None:  # noqa: D102
        with self._changed:
            self.heard[topic] = payload
            self._changed.notify_all()

    def _answer(self, problem: str, advice: str) -> None:
        with self._changed:
            if not self._answered:
                self.problem, self.advice, self._answered = problem, advice, True
            self._changed.notify_all()

    def _note(self, problem: str, advice: str = "") -> None:
        """What may be tried again: it counts where nothing better comes in time."""
        with self._changed:
            if not self._answered:
                self.problem, self.advice = problem, advice or self.advice
