"""What happens to a running Pi: a killed daemon, a hang, a camera or a broker that goes, a clock that jumps."""

from __future__ import annotations

import re
import time

from benchmarks.virtual_pi.image import Image
from benchmarks.virtual_pi.scene import PATIENCE, NotSurvivedError, Result, Scene, never_twice, scene, start_of
from benchmarks.virtual_pi.world import TimeServer

CAMERA = "/usr/share/libcamera/pipeline/virtual/virtual.yaml"
FREEZE = "/usr/local/lib/virtual-pi/freeze_thread.py"


def boot(image: Image) -> Result:
    """The power is switched on, and nothing else is done."""
    with scene(image) as world:
        world.pi.start()
        systemd = world.pi.wait_booted()
        first = world.listener.wait(lambda _: True, PATIENCE)
        took = first.at - world.pi.started_at
        time.sleep(20)
        versions = world.pi.run(
            "uname -r; systemctl show -p Version --value; dpkg-query -W -f '${Version}\\n' python3-libcamera;"
            " mien --version; systemctl show -p MemoryPeak --value mien.service"
        ).split("\n")
        ids = [arrival.id for arrival in world.listener.arrivals]
    return Result(
        "boot to the first event",
        {
            "Linux; systemd; libcamera": "; ".join(versions[:3]),
            "power on to a systemd that runs scripts": f"{systemd:.1f} s",
            "power on to the first event at the broker": f"{took:.1f} s",
            "the service's memory at its peak": f"{int(versions[4]) / 2**20:.0f} MiB",
        },
        {"first": took, "booted": systemd, "ids": ids, "event": first.event},
    )


def kill(image: Image) -> Result:
    """The daemon is killed with SIGKILL while it publishes; systemd starts it again."""
    with scene(image) as world:
        before = start_of(world.first_event().id)
        at = time.monotonic()
        world.pi.run(f"kill -9 {world.main_pid()}")
        again = world.next_start(before).at
        restarts = int(world.pi.run("systemctl show -p NRestarts --value mien.service"))
        ids = [arrival.id for arrival in world.listener.arrivals]
    never_twice(ids)
    return Result(
        "kill -9 of the daemon",
        {"kill to the next event": f"{again - at:.1f} s", "restarts": str(restarts)},
        {"recovered": again - at, "restarts": restarts},
    )


def hang(image: Image) -> Result:
    """The vision thread is stopped in the middle of its work (by ptrace); all other threads go on.

    The watchdog notices, since it is fed only while pictures get through vision.
    """
    with scene(image) as world:
        before = start_of(world.first_event().id)
        thread = _freeze(world, "vision")
        at = time.monotonic()
        ended = world.until("journalctl -b -o cat -u mien.service", lambda said: "Watchdog timeout" in said)
        again = world.next_start(before).at
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
    """The camera falls silent and cannot be found for a while; then it is back.

    libcamera's own thread is stopped (by ptrace), so that it hangs as it does with a lost camera, and the camera is
    taken out of libcamera's list.
    """
    with scene(image) as world:
        before = start_of(world.first_event().id)
        world.pi.run(f"mv {CAMERA} {CAMERA}.away")
        _freeze(world, "camera")
        at = time.monotonic()
        ended = world.until("journalctl -b -o cat -u mien.service", lambda said: "status=69" in said)
        time.sleep(away)
        world.pi.run(f"mv {CAMERA}.away {CAMERA}")
        back = time.monotonic()
        again = world.next_start(before).at
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
    """The broker is stopped for a while and started again; the daemon keeps its events and sends them then."""
    with scene(image) as world:
        world.first_event()
        world.broker.stop()
        gone = len(world.listener.arrivals)
        time.sleep(away)
        world.broker.start()
        back = time.monotonic()
        first = world.listener.wait(lambda _: True, PATIENCE, after=gone)
        world.pi.run("systemctl stop mien.service")
        logged = world.logged()
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


def wrong_clock(image: Image) -> Result:
    """The clock says 2000 at power on, as on a Pi, which has none; an NTP server comes while the daemon runs."""
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
        logged = world.logged()
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


def _freeze(world: Scene, thread: str) -> str:
    said = world.pi.run(
        f"setsid python3 {FREEZE} {world.main_pid()} {thread} >/run/frozen 2>&1 & "
        "for _ in $(seq 100); do grep -q frozen /run/frozen && break; sleep 0.2; done; cat /run/frozen"
    )
    if not said.startswith("frozen"):
        raise NotSurvivedError(f"no thread could be frozen: {said}")
    return said.strip()
