"""What is done to the virtual Pi, and what is measured. Each scenario ends with a `Result`, or with what went wrong."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.virtual_pi import writes
from benchmarks.virtual_pi.card import Card, check, look_at
from benchmarks.virtual_pi.image import Image
from benchmarks.virtual_pi.machine import copy_card
from benchmarks.virtual_pi.scene import PATIENCE, Scene, number_of, scene, start_of
from benchmarks.virtual_pi.world import Arrival, TimeServer
from edge.errors import MienError

CAMERA = "/usr/share/libcamera/pipeline/virtual/virtual.yaml"
FREEZE = "/usr/local/lib/virtual-pi/freeze_thread.py"


class NotSurvivedError(MienError, AssertionError):
    """The Pi, or what was on it, did not come through."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a scenario found.

    Attributes:
        title: what was done.
        figures: in words -> a figure with its unit, to be printed.
        values: the same and more, to be asked for.
    """

    title: str
    figures: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)


def boot(image: Image) -> Result:
    """From power to the first event."""
    with scene(image) as world:
        world.pi.start()
        systemd = world.pi.wait_booted()
        first = world.listener.wait(lambda _: True, PATIENCE)
        took = first.at - world.pi.started_at
        world.next_event()
        time.sleep(20)
        told = world.pi.run(
            "systemctl show -p StatusText -p MemoryPeak --value mien.service; uname -r; mien --version;"
            " systemctl show -p Version --value; dpkg-query -W -f '${Version}' python3-libcamera"
        ).splitlines()
        ids = [arrival.id for arrival in world.listener.arrivals]
    return Result(
        "boot to the first event",
        {
            "power on to a systemd that runs scripts": f"{systemd:.1f} s",
            "power on to the first event at the broker": f"{took:.1f} s",
            "the service's status then": told[0],
        },
        {"first": took, "booted": systemd, "ids": ids, "event": first.event, "told": told},
    )


def kill(image: Image) -> Result:
    """Kill -9 of the daemon."""
    with scene(image) as world:
        before = _running(world)
        at = time.monotonic()
        world.pi.run(f"kill -9 {world.main_pid()}")
        again = _next_start(world, before)
        restarts = int(world.pi.run("systemctl show -p NRestarts --value mien.service"))
        ids = [arrival.id for arrival in world.listener.arrivals]
    _never_twice(ids)
    return Result(
        "kill -9 of the daemon",
        {"kill to the next event": f"{again - at:.1f} s", "restarts": str(restarts)},
        {"recovered": again - at, "restarts": restarts},
    )


def hang(image: Image) -> Result:
    """The vision thread stops in the middle of its work; all other threads go on."""
    with scene(image) as world:
        before = _running(world)
        thread = _freeze(world, "vision")
        at = time.monotonic()
        ended = world.until("journalctl -b -o cat -u mien.service", lambda said: "Watchdog timeout" in said)
        again = _next_start(world, before)
        said = world.journal()
    if not re.search(r"edge/(detector|sweep|tracker|model|pipeline|interpreter)\.py", said):
        raise NotSurvivedError(f"another thread than vision was frozen ({thread}):\n{said[-3000:]}")
    return Result(
        "a hang in vision",
        {
            "hang to the watchdog's kill (WatchdogSec=30)": f"{ended - at:.1f} s",
            "hang to the next event": f"{again - at:.1f} s",
        },
        {"noticed": ended - at, "recovered": again - at, "journal": said},
    )


def lose_camera(image: Image, *, away: float = 60.0) -> Result:
    """The camera falls silent and is not there for a while when it is opened again; then it is back."""
    with scene(image) as world:
        before = _running(world)
        world.pi.run(f"mv {CAMERA} {CAMERA}.away")
        _freeze(world, "camera")
        at = time.monotonic()
        ended = world.until("journalctl -b -o cat -u mien.service", lambda said: "status=69" in said)
        time.sleep(away)
        world.pi.run(f"mv {CAMERA}.away {CAMERA}")
        back = time.monotonic()
        again = _next_start(world, before)
        said = world.journal()
    attempts = len(re.findall("status=69", said))
    pauses = [int(seconds) for seconds in re.findall(r"starts again in (\d+) s", said)]
    return Result(
        "the camera is lost, and comes back",
        {
            "silence to exit 69 (source.timeout = 10 s)": f"{ended - at:.1f} s",
            f"attempts that ended with 69 while it was away for {back - at:.0f} s": str(attempts),
            "pauses between them, beside systemd's 5 s": ", ".join(f"{seconds} s" for seconds in pauses) or "none",
            "the camera's return to the next event": f"{again - back:.1f} s",
        },
        {"noticed": ended - at, "attempts": attempts, "pauses": pauses, "recovered": again - back, "journal": said},
    )


def lose_broker(image: Image, *, away: float = 60.0) -> Result:
    """The broker goes for a while; the daemon goes on, and sends what it kept."""
    with scene(image) as world:
        _running(world)
        world.broker.stop()
        gone = len(world.listener.arrivals)
        time.sleep(away)
        world.broker.start()
        back = time.monotonic()
        first = world.listener.wait(lambda _: True, PATIENCE, after=gone)
        world.pi.run("systemctl stop mien.service")
        logged = _logged(world)
        deadline = time.monotonic() + 60
        while set(logged) - set(ids := [arrival.id for arrival in world.listener.arrivals]):
            if time.monotonic() > deadline:
                break
            time.sleep(0.5)
    lost = sorted(set(logged) - set(ids))
    return Result(
        "the broker goes, and comes back",
        {
            "away": f"{away:.0f} s",
            "events in the daemon's log": str(len(logged)),
            "of them lost": str(len(lost)),
            "delivered twice": str(len(ids) - len(set(ids))),
            "the broker's return to the first event": f"{first.at - back:.1f} s",
        },
        {"logged": logged, "lost": lost, "ids": ids, "gone": gone, "recovered": first.at - back},
    )


def cut_power(image: Image, *, times: int = 20, seed: int = 7, tell: Callable[[str], None] = lambda _: None) -> Result:
    """Pull the plug again and again at random moments, and look at the card each time.

    Every fourth cut comes at some moment of a boot, the others up to ten seconds after an event of that boot.
    """
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    booted, torn, starts, waiting = 60.0, 0, -1, 0
    logged: list[str] = []
    with scene(image) as world:
        for number in range(1, times + 1):
            before = len(world.listener.arrivals)
            world.pi.start()
            if number % 4 == 0:
                moment = chance.uniform(0, booted)
                time.sleep(moment)
                when = f"{moment:.1f} s after power on"
            else:
                first = world.listener.wait(_later_than(starts), PATIENCE, after=before)
                booted = first.at - world.pi.started_at
                moment = chance.uniform(0, 10)
                time.sleep(moment)
                when = f"{booted + moment:.1f} s after power on, {moment:.1f} s after its first event"
            world.pi.cut_power()
            card = look_at(world.pi.disk, world.folder / f"card-{number}")
            tell(f"cut {number}, {when}: {len(card.ids)} events in the log, {card.waiting} in the outbox")
            _sound(card, number, starts, logged)
            starts, torn, waiting, logged = card.starts, card.torn, card.waiting, card.ids
        # Once more, undisturbed, so that what waits can be sent.
        before = len(world.listener.arrivals)
        world.pi.start()
        world.listener.wait(_later_than(starts), PATIENCE, after=before)
        time.sleep(10)
        world.pi.run("systemctl stop mien.service")
        kept = _logged(world)
        ids = [arrival.id for arrival in world.listener.arrivals]
    _never_twice(kept)
    arrived = set(ids)
    gaps = _gaps(arrived | set(kept))
    unsent = sorted(set(kept) - arrived)
    unlogged = sorted(arrived - set(kept))
    return Result(
        "the power is cut at random moments",
        {
            "cuts": str(times),
            "file systems that e2fsck -fn found whole after the journal's replay": f"{times} of {times}",
            "logs without a broken line, and outboxes that PRAGMA integrity_check called ok": f"{times} of {times}",
            "starts": str(starts + 1),
            "events that anybody has seen": str(len(arrived | set(kept))),
            "ids used twice": "0",
            "events in the log that never reached the broker": str(len(unsent)),
            "events at the broker that are not in the log": str(len(unlogged)),
            "numbers that neither has": str(gaps),
            "bytes torn off the log's end, put aside": str(torn),
        },
        {"unsent": unsent, "unlogged": unlogged, "gaps": gaps, "torn": torn, "starts": starts, "waiting": waiting},
    )


def lose_cache(
    image: Image, *, moments: int = 40, seed: int = 7, tell: Callable[[str], None] = lambda _: None
) -> Result:
    """As if the power went at random moments of a boot and a minute's work, and with it the card's own cache.

    All writes are recorded. For each moment a card is made that holds what was flushed by then, and of what was written
    behind the last flush some writes whole, some in part and some not at all.
    """
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    with scene(image) as world:
        before = world.folder / "before"
        copy_card(world.pi.disk, before)
        world.pi.start(record=world.folder / "record")
        world.listener.wait(lambda _: True, PATIENCE)
        time.sleep(60)
        world.pi.cut_power()
        seen = {arrival.id for arrival in world.listener.arrivals}
        card, copy = writes.Card(before, world.folder / "record"), world.folder / "copy"
        lost, worst, logged = 0, 0, list[str]()
        for number, moment in enumerate(sorted(chance.sample(range(1, len(card.entries)), moments)), start=1):
            pending = card.advance(moment)
            copy_card(before, copy)
            dropped = card.apply(copy, pending, chance)
            lost, worst = lost + dropped, max(worst, len(pending))
            found = check(copy, world.folder / f"card-{number}")
            tell(f"moment {number}: {dropped} of {len(pending)} writes lost or cut, {len(found.ids)} events in the log")
            # What was not flushed may be there at one moment and lost at a later one.
            _sound(found, number, -1, [])
            logged = found.ids
        entries = len(card.entries)
    return Result(
        "the power is cut and the card forgets what it had in its cache",
        {
            "writes and flushes of a boot and a minute's work": str(entries),
            "random moments of them": str(moments),
            "writes that were not flushed yet, at most": str(worst),
            "of all moments' writes lost, or cut off within": str(lost),
            "file systems whole after the journal's replay, logs without a broken line, outboxes ok": (
                f"{moments} of {moments}"
            ),
            "events published in that time": str(len(seen)),
            "events in the last moment's log": str(len(logged)),
        },
        {"lost": lost, "logged": logged, "entries": entries},
    )


def wrong_clock(image: Image) -> Result:
    """The clock says 2000 at the boot, as on a Pi without one, and NTP comes later."""
    with scene(image) as world:
        world.pi.start(clock="2000-01-01T00:00:00")
        first = world.listener.wait(lambda _: True, PATIENCE)
        believed = world.pi.run("date -u +%FT%TZ").strip()
        at = time.monotonic()
        server = TimeServer()
        try:
            synced = world.listener.wait(lambda it: bool(it.event["clock_synced"]), PATIENCE)
            world.next_event()
            world.next_event()
        finally:
            server.close()
        world.pi.run("systemctl stop mien.service")
        logged = _logged(world)
        events = [arrival.event for arrival in world.listener.arrivals]
    flags = [bool(event["clock_synced"]) for event in events]
    ids = [str(event["id"]) for event in events]
    if first.event["clock_synced"] or flags != sorted(flags) or ids != sorted(ids) or len(set(ids)) < len(ids):
        raise NotSurvivedError(
            f"the clock's jump disturbed the order or the mark: {list(zip(ids, flags, strict=True))}"
        )
    return Result(
        "the clock is wrong at the boot and is put right",
        {
            "the machine's clock at power on": "2000-01-01, no NTP",
            "what systemd made of it": believed,
            "events with clock_synced false, then true": f"{flags.count(False)}, {flags.count(True)}",
            "the clock's jump, in an event's ts": f"{first.event['ts'][:10]} to {synced.event['ts'][:10]}",
            "NTP's coming to the first event that says so": f"{synced.at - at:.1f} s",
            "events out of order, lost or doubled": str(len(set(logged) ^ set(ids))),
        },
        {"events": events, "logged": logged, "ids": ids, "believed": believed},
    )


def _running(world: Scene) -> int:
    """Start the Pi and wait until it publishes; the count of starts."""
    world.pi.start()
    return start_of(world.listener.wait(lambda _: True, PATIENCE).id)


def _next_start(world: Scene, before: int) -> float:
    """Monotonic seconds at which the first event of a later start came."""
    return world.listener.wait(_later_than(before), PATIENCE).at


def _later_than(start: int) -> Callable[[Arrival], bool]:
    return lambda arrival: start_of(arrival.id) > start


def _freeze(world: Scene, thread: str) -> str:
    said = world.pi.run(
        f"setsid python3 {FREEZE} {world.main_pid()} {thread} >/run/frozen 2>&1 & "
        "for _ in $(seq 100); do grep -q frozen /run/frozen && break; sleep 0.2; done; cat /run/frozen"
    )
    if not said.startswith("frozen"):
        raise NotSurvivedError(f"no thread could be frozen: {said}")
    return said.strip()


def _logged(world: Scene) -> list[str]:
    """The ids in the log and its old files, in order."""
    said = world.pi.run('cat $(ls -rv /var/log/mien/mien.jsonl*[0-9l]) | sed -E \'s/.*"id": ?"([^"]*)".*/\\1/\'')
    return said.split()


def _never_twice(ids: list[str]) -> None:
    if len(set(ids)) < len(ids):
        raise NotSurvivedError("an id was used twice")


def _sound(card: Card, number: int, starts: int, logged: list[str]) -> None:
    """See to it that a card came through a power cut."""
    if not card.clean:
        raise NotSurvivedError(f"after power cut {number} e2fsck has to mend:\n{card.complaint[-2000:]}")
    if card.broken:
        raise NotSurvivedError(f"after power cut {number} {card.broken} lines in the middle of the log are broken")
    if card.outbox not in {"ok", "none"}:
        raise NotSurvivedError(f"after power cut {number} the outbox is damaged: {card.outbox}")
    if card.starts < starts:
        raise NotSurvivedError(f"after power cut {number} the count of starts went back to {card.starts}")
    if card.ids[: len(logged)] != logged:
        raise NotSurvivedError(f"after power cut {number} events that were on the card before are gone")
    _never_twice(card.ids)
    if card.ids and max(map(start_of, card.ids)) > card.starts:
        raise NotSurvivedError(f"after power cut {number} the count of starts is behind the ids in the log")


def _gaps(ids: set[str]) -> int:
    """How many numbers are missing below the highest of each start."""
    highest: dict[int, int] = {}
    for ident in ids:
        highest[start_of(ident)] = max(highest.get(start_of(ident), 0), number_of(ident))
    return sum(highest.values()) - len(ids)
