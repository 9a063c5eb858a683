"""Faults by the hundred between a publisher and its broker: which events are lost, doubled or out of order.

python -m benchmarks.mqtt_faults [--faults N] [--events N] [--seed N] [--only KIND] [--no-namespaces]
    [--write docs/mqtt-faults.md] [--json]

A process publishes through the daemon's own sink and outbox to a mosquitto on the loopback interface, and one fault
after another happens to it. An event has arrived when the broker has acknowledged it. Ends with 1 where one that the
caps allow for has not, but for those of the last second before a kill, where the order was another one, or where
storing did not resume after a full disk.

Needs mosquitto and openssl; ends with 69 where one is missing.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

from benchmarks.mqtt_account import QUIET, Fault, account, shortcomings
from benchmarks.mqtt_publisher import KEEPALIVE
from benchmarks.mqtt_world import Broker, Disk, Network, Publisher, Subscriber, isolate, until
from benchmarks.telling import aligned, complain, options, tell
from edge.bench_report import machine
from edge.commandline import guarded
from edge.errors import MienError
from edge.outbox import IN_MEMORY

SECONDS_PER_FAULT = 3.0
"""About so long one takes, with the recovery; the rate of events follows from it."""

FEW_IN_MEMORY = 50
"""Events that the publisher may hold while its disk is full, in every second such fault, so that some are given up."""

RECOVERED = 60.0
"""Seconds after which a fault that nobody recovers from ends everything."""

DAYS_BACK = 10
"""More than the outbox's cap in age."""

HEAD = ("fault", "times", "events", "lost: last second", "given up, counted", "lost: other", "doubled", "out of order",
        "recovered in")  # fmt: skip

ABOUT = """\
# An outbox under fire

Made by `python -m benchmarks.mqtt_faults --faults {faults} --events {least} --seed {seed} --write {path}`: a process
that publishes through the daemon's own sink and outbox ({rate:.0f} events/s, TLS, MQTT 5, user and password) to a
mosquitto on the loopback interface, and {faults} faults, one after another. {machine}.

{table}

{summary}

- An event has *arrived* when the broker has acknowledged it (PUBACK). *Lost: last second* are events that were not
  older than a second when the process was killed with -9 and had not reached the broker: the outbox commits once a
  second at most. The oldest was {oldest:.2f} s old; a commit took {commit:.0f} ms (median), {longest:.0f} ms at most.
  On a slower disk, an SD card, the time of one commit is added to the second.
- *Given up, counted* are events for which neither disk nor memory had room: with the disk full and the broker away, in
  every second of these faults, the publisher may hold {few} events instead of {many:,}. The outbox counted
  {given_up}, which `health` tells: what is missing, and what was on its way already and arrived nevertheless.
- *Doubled* and *out of order* are told by a subscriber with a session of its own: ids that came again, as at least once
  means, and ids that came for the first time after a higher one. {forgotten} events that the broker had acknowledged
  never came to the subscriber, because the broker was killed or lost what it knew; no publisher can mend that.
- *Recovered in*: from the end of the fault until everything published had been acknowledged, median and longest.
- The network is cut {network}.
- The disk is {disk}.
- The clock is set back by {days} days, through the outbox's calendar, and right again, with the broker away.
- Pauses between attempts are shorter than the daemon's (0.2 to 1 s instead of 1 to 30 s, and a full disk is tried each
  second instead of every fifth); keepalive is {keepalive} s.
- While the disk was full, {live} events were acknowledged in {full_times} such faults: publishing goes on. Storing
  resumed by itself {resumed} times.
"""


@dataclass(slots=True)
class World:
    """All that can be broken, and chance."""

    broker: Broker
    network: Network
    disk: Disk
    publisher: Publisher
    subscriber: Subscriber
    rng: random.Random
    told: Counter[str] = field(default_factory=Counter)

    def sometimes_long(self, short: tuple[float, float]) -> None:
        """Wait; every third time for longer than a connection lives without a sign."""
        self.told["waits"] += 1
        time.sleep(2 * KEEPALIVE if self.told["waits"] % 3 == 0 else self.rng.uniform(*short))

    def sleep(self, least: float, most: float) -> None:
        """Wait."""
        time.sleep(self.rng.uniform(least, most))


def kill_broker(world: World, fault: Fault) -> None:
    world.broker.stop(SIGKILL)
    world.sleep(0.1, 2.0)
    world.broker.start()


def restart_broker(world: World, fault: Fault) -> None:
    world.broker.stop()
    world.sleep(0.1, 2.0)
    world.broker.start()


def restart_without_persistence(world: World, fault: Fault) -> None:
    world.broker.stop(SIGKILL)
    world.broker.forget()
    world.sleep(0.1, 2.0)
    world.broker.start()


def freeze_broker(world: World, fault: Fault) -> None:
    world.broker.freeze()
    world.sometimes_long((0.3, 2.5))
    world.broker.freeze(thaw=True)


def refuse_password(world: World, fault: Fault) -> None:
    world.broker.stop()
    world.broker.start(users="wrong")
    world.sleep(0.5, 2.5)
    world.broker.stop()
    world.broker.start()


def let_certificate_expire(world: World, fault: Fault) -> None:
    world.broker.stop()
    world.broker.start(certificate="expired")
    world.sleep(0.5, 2.5)
    world.broker.stop()
    world.broker.start()


def kill_publisher(world: World, fault: Fault) -> None:
    world.sleep(0.0, 1.0)
    world.publisher.kill()
    world.publisher.start()


def kill_publisher_alone(world: World, fault: Fault) -> None:
    world.broker.stop()
    world.sleep(0.0, 3.0)
    world.publisher.kill()
    world.publisher.start()
    world.sleep(0.0, 1.0)
    world.broker.start()


def cut_network(world: World, fault: Fault) -> None:
    world.network.cut()
    world.sometimes_long((0.3, 2.5))
    world.network.cut(mend=True)


def fill_disk(world: World, fault: Fault) -> None:
    """The broker is away, so that there is something to be stored, and comes back while the disk is still full."""
    world.told["full"] += 1
    few = world.told["full"] % 2 == 0
    world.broker.stop()
    world.sleep(1.2, 2.0)
    resumed, full = told_of(world.publisher, "again"), told_of(world.publisher, "full")
    world.disk.fill(world.publisher.pid)
    try:
        if few:
            world.publisher.tell(f"memory {FEW_IN_MEMORY}")
        # There is always a little room left, in pages that are free.
        until(lambda: told_of(world.publisher, "full") > full, 10.0)
        world.sleep(1.0, 4.0)
        world.broker.start()
        before = len(world.publisher.acknowledged)
        world.sleep(2.0, 3.0)
        fault.live = len(world.publisher.acknowledged) - before
    finally:
        world.disk.empty(world.publisher.pid)
    if few:
        world.publisher.tell(f"memory {IN_MEMORY}")
    until(lambda: told_of(world.publisher, "again") > resumed, 10.0)


def set_clock_back(world: World, fault: Fault) -> None:
    world.broker.stop()
    world.sleep(1.0, 1.5)
    world.publisher.tell(f"clock {-DAYS_BACK * 86400}")
    world.sleep(1.0, 1.5)
    world.publisher.tell("clock 0")
    world.sleep(1.0, 1.5)
    world.broker.start()


def told_of(publisher: Publisher, state: str) -> int:
    """How often the sink has said of the disk that it is full, or takes events again."""
    return sum(told == state for told, _ in publisher.told)


KINDS: Mapping[str, Callable[[World, Fault], None]] = {
    "broker killed": kill_broker,
    "broker restarted": restart_broker,
    "broker restarted without persistence": restart_without_persistence,
    "broker frozen": freeze_broker,
    "password refused": refuse_password,
    "certificate expired": let_certificate_expire,
    "publisher killed": kill_publisher,
    "publisher killed, broker away": kill_publisher_alone,
    "network cut": cut_network,
    "disk full, broker away": fill_disk,
    "clock set back, broker away": set_clock_back,
}


def script(count: int, among: Sequence[str], rng: random.Random) -> list[str]:
    """So many faults in a random order, each kind as often as the others as far as that goes."""
    kinds = [among[number % len(among)] for number in range(count)]
    rng.shuffle(kinds)
    return kinds


def inflict(world: World, kinds: Sequence[str], least: int) -> list[Fault]:
    """Let the faults happen, each after the one before has been recovered from, and publish until there are enough."""
    faults = [Fault(QUIET, time.monotonic())]
    publisher = world.publisher
    for number, kind in enumerate(kinds, 1):
        fault = Fault(kind, time.monotonic())
        faults.append(fault)
        KINDS[kind](world, fault)
        ended = time.monotonic()
        # What this fault cost for good is waited for in vain, so it is the newest that counts.
        last = max(publisher.published)
        if not until(lambda last=last: max(publisher.acknowledged, default="") >= last, RECOVERED):  # type: ignore[misc]
            raise MienError(f"not recovered from “{kind}” (number {number}) within {RECOVERED:.0f} s")
        fault.recovered = time.monotonic() - ended
        print(f"{number:4} {kind}: recovered in {fault.recovered:.1f} s", file=sys.stderr)
        if not publisher.alive():
            raise MienError(f"the publisher has ended after “{kind}” (number {number})")
    faults.append(Fault(QUIET, time.monotonic()))
    until(lambda: len(publisher.published) >= least, 600)
    return faults


def measure(count: int, least: int, seed: int, among: Sequence[str], folder: Path) -> dict[str, Any]:
    """Everything, with faults among the given kinds."""
    began = time.monotonic()
    rng = random.Random(seed)  # noqa: S311  # not for secrets
    broker, rate = Broker(folder), max(20.0, least / (count * SECONDS_PER_FAULT))
    try:
        network, disk = Network(broker.port), Disk(folder)
        subscriber = Subscriber(broker.open_port)
        publisher = Publisher(folder, network.port, rate)
        try:
            world = World(broker, network, disk, publisher, subscriber, rng)
            faults = inflict(world, script(count, among, rng), least)
        finally:
            publisher.finish()
            disk.close()
        until(lambda: max(publisher.published) in subscriber.ids[-50:], 10)
        subscriber.close()
    finally:
        broker.stop(SIGKILL)
    accounts = account(
        faults, publisher.published, publisher.acknowledged, publisher.given_up, publisher.kills, subscriber.ids
    )
    live = [fault.live for fault in faults if fault.kind == "disk full, broker away"]
    return {
        "machine": machine(), "isolated": network.isolated, "faults": count, "least": least, "seed": seed, "rate": rate,
        "seconds": time.monotonic() - began, "accounts": {kind: asdict(told) for kind, told in accounts.items()},
        "given_up": len(publisher.given_up), "commits": publisher.commits, "live": live,
        "resumed": told_of(publisher, "again"), "filled": told_of(publisher, "full"),
        "unseen": len(publisher.acknowledged.keys() - set(subscriber.ids)),
    }  # fmt: skip


def rows(told: Mapping[str, Any]) -> list[list[str]]:
    """The lines of the table, and their sum."""
    accounts: dict[str, dict[str, Any]] = told["accounts"]
    lines = []
    for kind in [kind for kind in [*KINDS, QUIET] if kind in accounts]:
        each = accounts[kind]
        recoveries = each["recoveries"]
        lines.append([
            kind, str(each["times"]) if kind != QUIET else "", f"{each['events']:,}", str(len(each["last_second"])),
            str(each["given_up"]), str(each["missing"]), str(each["doubled"]), str(each["disordered"]),
            "" if kind == QUIET else f"{statistics.median(recoveries):.1f}, {max(recoveries):.1f} s",
        ])  # fmt: skip
    columns = list(zip(*lines, strict=True))
    sums = [f"{sum(int(cell.replace(',', '') or 0) for cell in column):,}" for column in columns[1:-1]]
    return [*lines, ["all", *sums, ""]]


def page(told: Mapping[str, Any], table: str, path: Path) -> str:
    """The figures as Markdown."""
    where, short = told["machine"], shortcomings(told)
    ages = [age for each in told["accounts"].values() for age in each["last_second"]]
    apart = told["isolated"]
    return ABOUT.format(
        faults=told["faults"], least=told["least"], seed=told["seed"], path=path, rate=told["rate"], table=table,
        machine=f"{where['processor']}, {where['cores']} cores, load {where['load']:.1f} from other programs",
        summary=f"**Falls short: {'; '.join(short)}.**" if short else
        f"Every event reached the broker, in order, but those of the last second before a kill and those that were\n"
        f"given up and counted; {told['seconds'] / 60:.0f} minutes.",
        oldest=max(ages, default=0.0), commit=1000 * statistics.median(told["commits"]),
        longest=1000 * max(told["commits"]), few=FEW_IN_MEMORY, many=IN_MEMORY,
        given_up=told["given_up"], forgotten=told["unseen"],
        network="in a network namespace, where the loopback interface is switched off" if apart else
        "by a proxy that lets nothing through",
        disk="a small file system in memory that is filled to the brim" if apart else
        "as good as full, since the kernel refuses the process larger files (RLIMIT_FSIZE)", days=DAYS_BACK,
        keepalive=KEEPALIVE, live=sum(told["live"]), full_times=len(told["live"]), resumed=told["resumed"],
    )  # fmt: skip


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--faults", type=int, default=100, help="how many (100)")
    parser.add_argument("--events", type=int, default=20_000, help="over how many events at least (20000)")
    parser.add_argument("--seed", type=int, default=1, help="decides order and durations (1)")
    parser.add_argument("--only", action="append", choices=KINDS, help="nothing but this; may be given again")
    parser.add_argument("--no-namespaces", action="store_true", help="a proxy and RLIMIT_FSIZE, whatever is allowed")
    args = parser.parse_args()
    if not args.no_namespaces:
        isolate()
    folder = Path(tempfile.mkdtemp(prefix="mien-faults-"))
    try:
        told = measure(args.faults, args.events, args.seed, args.only or list(KINDS), folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = aligned([HEAD, *rows(told)])
    tell(args, told, table, page)
    return complain(shortcomings(told))


if __name__ == "__main__":
    sys.exit(guarded("mqtt_faults", main))
