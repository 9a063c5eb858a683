"""What is wrong with a broker, said once to whoever reads the journal."""

from __future__ import annotations

import logging

from edge.sinks.mqtt_link import STABLE_SECONDS

LOG = logging.getLogger(__name__)

TAKEN_OVER = 0x8E
"""MQTT 5's reason code for a session that another client with the same id has taken over."""

SHORT_LIVED = 3
"""So many connections in a row that lasted less than STABLE_SECONDS, and another client with our id is the likely
cause: mosquitto does not say so."""

WRONG_LOGIN = {0x86, 0x87}
"""MQTT 5's reason codes for a wrong user name or password, and for one that may not come in."""


class Trouble:
    """Logs each problem once, and again only after a connection that lasted.

    Args:
        address: the broker's.
        client_id: ours.

    Attributes:
        now: the problem that stands; empty: none.
    """

    def __init__(self, address: str, client_id: str) -> None:
        self.now = ""
        self._address = address
        self._client_id = client_id
        self._told: set[str] = set()
        self._short_lived = 0
        self._disputed = False

    def tell(self, problem: str) -> None:
        """Something is wrong."""
        if problem not in self._told:
            LOG.warning("%s", problem)
        self._told.add(problem)
        self.now = problem

    def end(self, waiting: int) -> None:
        """The broker has let us in; so many events wait for it."""
        if self.now and not self._short_lived:
            LOG.warning("connected to the broker at %s; %d events are waiting", self._address, waiting)
        self.now = ""

    def refuse(self, code: int, reason: str) -> None:
        """The broker does not let us in."""
        advice = "; check mqtt.username and mqtt.password_file" if code in WRONG_LOGIN else ""
        self.tell(f"the broker at {self._address} refuses {self._client_id} ({reason}){advice}")

    def miss(self, why: str) -> None:
        """There is no broker."""
        self._short_lived = 0  # it is away: nobody throws us out
        self.tell(f"the broker at {self._address} cannot be reached ({why}); trying on")

    def count(self, lasted: float) -> None:
        """A connection has ended after so many seconds."""
        if lasted >= STABLE_SECONDS:
            self._short_lived = 0
            self._told.clear()
        else:
            self._short_lived += 1

    def lose(self, code: int, reason: str) -> None:
        """It was not we who ended it."""
        if (code == TAKEN_OVER or self._short_lived >= SHORT_LIVED) and not self._disputed:
            self._disputed = True
            LOG.warning(
                "the broker at %s ends every connection at once; is there another client called %s? "
                "Give each device its own device.name, and look at the broker's log",
                self._address,
                self._client_id,
            )
        self.tell(f"the connection to the broker at {self._address} is lost ({reason}); connecting again")
