"""What the broker retains for us: the latest status, state and health, and what Home Assistant is told."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from time import monotonic

STATUS, STATE, HEALTH, DISCOVERY = "status", "state", "health", "discovery"


@dataclass(frozen=True, slots=True)
class Announcement:
    """What Home Assistant is told of this device.

    Attributes:
        topic: of the discovery message, which is retained.
        payload: of the same.
        birth_topic: where Home Assistant says `online` when it has started; then it is told again.
    """

    topic: str
    payload: str
    birth_topic: str


@dataclass(slots=True)
class Document:
    """What a retained topic should hold.

    Attributes:
        name: ours.
        topic: whole.
        make: the latest payload.
        qos: 0 or 1.
        due: whether the broker does not have it yet.
        rests_until: monotonic seconds until when it is not sent.
    """

    name: str
    topic: str
    make: Callable[[], str]
    qos: int
    due: bool = True
    rests_until: float = 0.0


class Documents:
    """All of them, and when each is to be sent. Names that are on their way are not sent again until answered."""

    def __init__(self) -> None:
        self._all: dict[str, Document] = {}

    def keep(self, document: Document) -> None:
        """Take one in, in place of the one before of its name."""
        self._all[document.name] = document

    def ask_for(self, name: str, *, within: float = 0.0) -> None:
        """It has changed, or is to be sent again, after so many seconds."""
        document = self._all[name]
        document.due = True
        if within:
            self.rest(name, within)

    def ask_for_all(self) -> None:
        """The broker may have none of them."""
        for document in self._all.values():
            document.due = True

    def rest(self, name: str, seconds: float) -> None:
        """Do not send it for so long."""
        document = self._all[name]
        document.rests_until = max(document.rests_until, monotonic() + seconds)

    def is_due(self, name: str) -> bool:
        """Whether the broker does not have it yet."""
        return self._all[name].due

    def due(self, on_their_way: Collection[object] = ()) -> list[Document]:
        """Those that are to be sent now."""
        now = monotonic()
        return [document for document in self._waiting(on_their_way) if now >= document.rests_until]

    def next_in(self, on_their_way: Collection[object]) -> float | None:
        """Seconds until one is to be sent; None: none waits."""
        waiting = self._waiting(on_their_way)
        return max(0.0, min(document.rests_until for document in waiting) - monotonic()) if waiting else None

    def _waiting(self, on_their_way: Collection[object]) -> list[Document]:
        return [document for name, document in self._all.items() if document.due and name not in on_their_way]
