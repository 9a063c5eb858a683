"""What faults cost: what was published laid beside what the broker acknowledged and what a subscriber saw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LAST_SECOND = 1.0
"""What a kill may cost, in seconds."""

QUIET = "none"
"""The kind of fault of a time without any."""


@dataclass(slots=True)
class Fault:
    """One that happened.

    Attributes:
        kind: what happened, or `QUIET`.
        began: monotonic seconds.
        recovered: seconds from its end until all that was published had been acknowledged.
        live: events acknowledged while the disk was full.
    """

    kind: str
    began: float
    recovered: float = 0.0
    live: int = 0


@dataclass(slots=True)
class Account:
    """What became of the events of one kind of fault."""

    times: int = 0
    events: int = 0
    last_second: list[float] = field(default_factory=list)
    """Ages of what a kill cost, in seconds."""
    given_up: int = 0
    """Never acknowledged, since the outbox had no room for them, and said so."""
    missing: int = 0
    """Never acknowledged, without an excuse."""
    doubled: int = 0
    disordered: int = 0
    recoveries: list[float] = field(default_factory=list)


def account(
    faults: Sequence[Fault],
    published: Mapping[str, float],
    acknowledged: Iterable[str],
    given_up: Collection[str],
    kills: Mapping[int, float],
    received: Sequence[str],
) -> dict[str, Account]:
    """Lay what was published beside what arrived.

    Args:
        faults: in the order in which they began.
        published: id -> monotonic seconds, in the order of publishing.
        acknowledged: ids.
        given_up: ids of those for which the outbox had no room.
        kills: count of starts -> monotonic seconds at which that publisher was killed.
        received: ids as they came to the subscriber.

    Returns:
        Kind of fault -> account; an event belongs to the last fault that had begun when it was published.
    """
    accounts = {fault.kind: Account() for fault in faults}
    for fault in faults:
        accounts[fault.kind].times += 1
        accounts[fault.kind].recoveries.append(fault.recovered)
    arrived = set(acknowledged)
    kind_of: dict[str, str] = {}
    position = 0
    for name, at in published.items():
        while position + 1 < len(faults) and faults[position + 1].began <= at:
            position += 1
        kind_of[name] = faults[position].kind
        told = accounts[kind_of[name]]
        told.events += 1
        if name not in arrived:
            age = kills.get(int(name.split("-")[1]), float("inf")) - at
            if name in given_up:
                told.given_up += 1
            elif age <= LAST_SECOND:
                told.last_second.append(age)
            else:
                told.missing += 1
    seen: set[str] = set()
    highest = ""
    for name in received:
        accounts[kind_of[name]].doubled += name in seen
        accounts[kind_of[name]].disordered += name not in seen and name < highest
        seen.add(name)
        highest = max(highest, name)
    return accounts


def shortcomings(told: Mapping[str, Any]) -> list[str]:
    """What falls short of the claim."""
    accounts = told["accounts"]
    short = []
    if lost := sum(each["missing"] for each in accounts.values()):
        short.append(f"{lost} events were lost")
    if disordered := sum(each["disordered"] for each in accounts.values()):
        short.append(f"{disordered} events were out of order")
    if silent := sum(not live for live in told["live"]):
        short.append(f"nothing was published during {silent} of {len(told['live'])} full disks")
    if told["resumed"] < len(told["live"]):
        short.append(f"storing resumed {told['resumed']} times after {len(told['live'])} full disks")
    return short
