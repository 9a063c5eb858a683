"""The plug is pulled: at random moments, with a card that forgets what it had in its cache, and within an update."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from benchmarks.virtual_pi import writes
from benchmarks.virtual_pi.card import Card, check, look_at
from benchmarks.virtual_pi.image import Image
from benchmarks.virtual_pi.machine import copy_card
from benchmarks.virtual_pi.scene import (
    PATIENCE,
    NotSurvivedError,
    Result,
    later_than,
    never_twice,
    number_of,
    scene,
    start_of,
)
from edge.model_store import SHIPPED, path_of, read_choice, short, stored

INSTALL = """\
cd /run && /opt/mien/venv/bin/python - <<'END' && mien model install /run/other.tflite
import shutil, zipfile
from edge.modelfile import SHIPPED
shutil.copyfile(SHIPPED, "/run/other.tflite")
with zipfile.ZipFile("/run/other.tflite", "a") as file:
    file.comment = b"{number}"
END"""
"""The shipped model with another SHA-256, installed as a person would."""


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
                first = world.listener.wait(later_than(starts), PATIENCE, after=before)
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
        world.listener.wait(later_than(starts), PATIENCE, after=before)
        time.sleep(10)
        world.pi.run("systemctl stop mien.service")
        kept = world.logged()
        ids = [arrival.id for arrival in world.listener.arrivals]
    never_twice(kept)
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

    All writes are recorded. For each moment, three in four of them after the first event, a card is made that holds
    what was flushed by then, and of what was written after the last flush some writes whole, some in part and some not
    at all.
    """
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    with scene(image) as world:
        before = world.folder / "before"
        copy_card(world.pi.disk, before)
        record = world.folder / "record"
        world.pi.start(record=record)
        world.listener.wait(lambda _: True, PATIENCE)
        working = record.stat().st_size
        time.sleep(60)
        world.pi.cut_power()
        seen = {arrival.id for arrival in world.listener.arrivals}
        card, copy = writes.Card(before, record), world.folder / "copy"
        lost, worst, logged = 0, 0, list[str]()
        entries = len(card.entries)
        first = sum(entry.place < working for entry in card.entries)
        chosen = chance.sample(range(1, first), moments // 4)
        chosen += chance.sample(range(first, entries), min(moments - moments // 4, entries - first))
        for number, moment in enumerate(sorted(chosen), start=1):
            pending = card.advance(moment)
            copy_card(before, copy)
            dropped = card.apply(copy, pending, chance)
            lost, worst = lost + dropped, max(worst, len(pending))
            found = check(copy, world.folder / f"card-{number}")
            tell(f"moment {number}: {dropped} of {len(pending)} writes lost or cut, {len(found.ids)} events in the log")
            # What was not flushed may be there at one moment and lost at a later one.
            _sound(found, number, -1, [])
            logged = found.ids
    return Result(
        "the power is cut and the card forgets what it had in its cache",
        {
            "writes and flushes of a boot and a minute's work": str(entries),
            "random moments of them": str(len(chosen)),
            "writes that were not flushed yet, at most": str(worst),
            "of all moments' writes lost, or cut off within": str(lost),
            "file systems whole after the journal's replay, logs without a broken line, outboxes ok": (
                f"{len(chosen)} of {len(chosen)}"
            ),
            "events published in that time": str(len(seen)),
            "events in the last moment's log": str(len(logged)),
        },
        {"lost": lost, "logged": logged, "entries": entries},
    )


def interrupt_update(
    image: Image, *, times: int = 6, seed: int = 7, tell: Callable[[str], None] = lambda _: None
) -> Result:
    """Pull the plug at random moments of `mien model install`, and see that a model works that is whole."""
    chance = random.Random(seed)  # noqa: S311  # not for secrets
    with scene(image) as world:
        first = world.first_event()
        began = time.monotonic()
        world.pi.run(INSTALL.format(number=0), within=PATIENCE)
        took = time.monotonic() - began
        model = world.listener.wait(lambda it: it.event["model"] != first.event["model"], PATIENCE).event["model"]
        used, moments = [str(first.event["model"]), str(model)], []
        world.pi.cut_power()
        for number in range(1, times + 1):
            before = world.listener.arrivals[-1].id
            world.pi.start()
            again = world.listener.wait(later_than(start_of(before)), PATIENCE)
            used.append(str(again.event["model"]))
            world.pi.run(f"(\n{INSTALL.format(number=number)}\n) >/dev/null 2>&1 &")
            moments.append(chance.uniform(0, 1.2 * took))
            time.sleep(moments[-1])
            world.pi.cut_power()
            folder = world.folder / f"card-{number}"
            _sound(look_at(world.pi.disk, folder), number, -1, [])
            choice = _whole_models(folder / "state/mien/models", number)
            tell(f"cut {number}, {moments[-1]:.1f} s into the installation: {short(choice)} is chosen")
        before = world.listener.arrivals[-1].id
        world.pi.start()
        used.append(str(world.listener.wait(later_than(start_of(before)), PATIENCE).event["model"]))
    changed = sum(old != new for old, new in pairwise(used[1:]))
    return Result(
        "a model's update is cut off",
        {
            "an update that nobody disturbs": f"{took:.1f} s",
            "updates whose power was cut": str(times),
            "boots afterwards that came up with a whole model": f"{times} of {times}",
            "of them with the new model, with the one before": f"{changed}, {times - changed}",
        },
        {"used": used, "moments": moments, "took": took},
    )


def _whole_models(folder: Path, number: int) -> str:
    """The model that is chosen, once it is sure that all are what they were when they came."""
    choice = read_choice(folder)
    if choice.why or not (choice.current == SHIPPED or choice.current in stored(folder)):
        raise NotSurvivedError(f"after power cut {number} no model is chosen: {choice}")
    for entry in stored(folder):
        if not entry.endswith("@" + hashlib.sha256(path_of(folder, entry).read_bytes()).hexdigest()):
            raise NotSurvivedError(f"after power cut {number} the model {short(entry)} is damaged")
    return choice.current


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
    never_twice(card.ids)
    if card.ids and max(map(start_of, card.ids)) > card.starts:
        raise NotSurvivedError(f"after power cut {number} the count of starts is behind the ids in the log")


def _gaps(ids: set[str]) -> int:
    """How many numbers are missing below the highest of each start."""
    highest: dict[int, int] = {}
    for ident in ids:
        highest[start_of(ident)] = max(highest.get(start_of(ident), 0), number_of(ident))
    return sum(highest.values()) - len(ids)
