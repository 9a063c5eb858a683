import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import edge.outbox
from edge.errors import OutputError
from edge.outbox import AGE_EVERY, SAVE_EVERY, WAIT, Outbox

ROOT = Path(__file__).parents[2]
DAY = 86400.0

MOUNTS = subprocess.run(["sh", "-c", "unshare -Urm true"], capture_output=True).returncode == 0
"""Whether a test may have a disk of its own."""


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock(1000.0)


class Calendar(Clock):
    """Unix seconds, believed until a test says otherwise."""

    believed = True


@pytest.fixture
def calendar():
    return Calendar(1.8e9)


@pytest.fixture
def open_box(tmp_path, clock, calendar):
    """Open the outbox of this test, again and again; a next one takes the file from the one before, unsaved."""
    opened = []

    def open_(**options):
        for box in opened:
            crash(box)
        told = {"clock": clock, "calendar": calendar, "clock_synced": lambda: calendar.believed}
        opened.append(Outbox(tmp_path / "outbox.sqlite", **told | options))
        return opened[-1]

    yield open_
    crash(opened[-1])


def crash(box):
    """Let go of the file as a killed process does: nothing more is written."""
    if box._database is not None:
        box._database.close()
        box._database = None
    box._fresh.clear()


def put(box, *payloads):
    for payload in payloads:
        box.put(str(payload))


def payloads(box, number=0, most=1_000_000):
    return [event.payload for event in box.after(number, most)]


def number_of(box, payload):
    return next(event.number for event in box.after(0, 1_000_000) if event.payload == str(payload))


def on_disk(folder):
    """Every byte that was written."""
    return b"".join(path.read_bytes() for path in sorted(folder.glob("outbox.sqlite*")))


def test_first_in_first_out_across_memory_disk_and_a_restart(open_box):
    box = open_box()
    put(box, "a", "b", "c")
    box.save()
    put(box, "d", "e")
    assert payloads(box) == ["a", "b", "c", "d", "e"]
    box.forget(number_of(box, "b"))
    box.forget(number_of(box, "d"))
    assert (payloads(box), len(box)) == (["a", "c", "e"], 3)
    box.close()
    box = open_box()
    put(box, "f")
    assert (payloads(box), len(box)) == (["a", "c", "e", "f"], 4)


def test_reading_goes_on_behind_a_place_in_the_queue(open_box):
    box = open_box()
    put(box, *range(5))
    box.save()
    put(box, *range(5, 9))
    assert payloads(box, most=3) == ["0", "1", "2"]
    assert payloads(box, number_of(box, 2), most=4) == ["3", "4", "5", "6"]
    assert payloads(box, number_of(box, 6)) == ["7", "8"]
    assert payloads(box, number_of(box, 8)) == []


def test_what_is_not_known_can_be_forgotten(open_box):
    box = open_box()
    put(box, "a")
    box.save()
    first = number_of(box, "a")
    for number in (first, first, first + 7, 0, -1):
        box.forget(number)
    put(box, "b")
    box.save()
    assert (payloads(box), len(box), box.unsaved) == (["b"], 1, 0)


def test_what_is_acknowledged_within_a_second_is_never_written(open_box, tmp_path, clock):
    box = open_box()
    before = on_disk(tmp_path)
    put(box, "a secret")
    clock.now += 0.9
    box.forget(number_of(box, "a secret"))
    assert box.save_in() is None
    assert on_disk(tmp_path) == before
    put(box, "lasting")
    box.save()
    assert b"lasting" in on_disk(tmp_path)
    assert b"a secret" not in on_disk(tmp_path)


def test_an_outbox_in_memory_writes_nothing_and_never_has_to(tmp_path):
    box = Outbox(None)
    put(box, "a", "b")
    assert (box.save_in(), box.unsaved, len(box)) == (None, 2, 2)
    box.save()
    box.close()
    assert payloads(box) == ["a", "b"]
    assert list(tmp_path.iterdir()) == []


def test_a_lonely_event_is_saved_just_before_it_is_a_second_old(open_box, clock):
    box = open_box()
    assert box.save_in() is None
    put(box, "a")
    assert box.save_in() == pytest.approx(WAIT)
    clock.now += WAIT
    assert box.save_in() == pytest.approx(0)
    box.save()
    assert box.save_in() == AGE_EVERY


def test_between_two_commits_lies_a_second(open_box, clock):
    box = open_box()
    put(box, "a")
    clock.now += WAIT
    box.save()
    clock.now += 0.01
    put(box, "b")
    assert box.save_in() == pytest.approx(SAVE_EVERY - 0.01)
    box.forget(number_of(box, "a"))
    assert box.save_in() == pytest.approx(SAVE_EVERY - 0.01)
    clock.now += 0.5
    box.forget(number_of(box, "b"))
    assert box.save_in() == pytest.approx(SAVE_EVERY - 0.51)


@pytest.mark.parametrize("max_bytes", [200_000_000, 100_000])
def test_an_owner_that_saves_when_it_is_time_commits_once_a_second_and_risks_one_second(
    open_box, clock, max_bytes, monkeypatch
):
    monkeypatch.setattr(edge.outbox, "LOG", None)
    rng = random.Random(5)  # noqa: S311
    box = open_box(max_bytes=max_bytes)
    commits = []
    box._database.set_trace_callback(lambda statement: statement == "COMMIT" and commits.append(clock.now))
    oldest_risked = 0.0
    for number in range(3000):
        clock.now += rng.choice((0.0, 0.001, 0.02))
        if (due := box.save_in()) is not None and due <= 0:
            box.save()
        put(box, f"{number} " + "x" * 300)
        if rng.random() < 0.3:
            for event in box.after(0, rng.randrange(6)):
                box.forget(event.number)
        oldest_risked = max([oldest_risked, *(clock.now - event.since for event in box._fresh.values())])
    assert len(commits) > 15
    assert min(later - earlier for earlier, later in pairwise(commits)) >= SAVE_EVERY
    assert oldest_risked <= SAVE_EVERY + 0.02
    assert (box.dropped > 0) == (max_bytes == 100_000)


def test_the_size_cap_drops_the_oldest_and_counts_them(open_box, tmp_path):
    box = open_box(max_bytes=100_000)
    for number in range(2000):
        put(box, f"{number:04d} " + "x" * 400)
        if number % 50 == 49:
            box.save()
    left = [int(payload[:4]) for payload in payloads(box)]
    assert left == list(range(2000 - len(left), 2000))
    assert box.dropped == 2000 - len(left)
    assert 100 < len(left) <= 100_000 / 400
    assert (tmp_path / "outbox.sqlite").stat().st_size < 200_000
    assert len(on_disk(tmp_path)) < 5_000_000  # with the journal, which SQLite folds in at 1,000 pages


def test_an_acknowledgement_for_what_was_dropped_meanwhile_changes_nothing(open_box):
    box = open_box(max_bytes=100_000)
    put(box, *(f"{number:04d} " + "x" * 400 for number in range(150)))
    box.save()
    on_their_way = box.after(0, 16)
    put(box, *(f"{number:04d} " + "x" * 400 for number in range(150, 400)))
    box.save()
    assert box.dropped > 16
    for event in on_their_way:
        box.forget(event.number)
    box.save()
    assert len(box) == len(payloads(box)) == 400 - box.dropped
    for event in box.after(0, 1000):
        box.forget(event.number)
    box.save()
    assert (len(box), payloads(box)) == (0, [])


def test_the_room_of_a_long_outage_is_given_back(open_box, tmp_path):
    box = open_box()
    put(box, *("x" * 400 for _ in range(5000)))
    box.save()
    for event in box.after(0, 5000):
        box.forget(event.number)
    box.save()
    assert len(on_disk(tmp_path)) < 100_000


def test_the_age_cap_drops_what_an_earlier_start_left(open_box, clock, calendar):
    box = open_box()
    put(box, "old")
    box.save()
    calendar.now += 3 * DAY
    put(box, "newer")
    box.close()
    box = open_box()
    calendar.now += 4.5 * DAY  # the clock is set, a while after the boot
    clock.now += AGE_EVERY
    put(box, "new")
    box.save()
    assert (payloads(box), box.dropped) == (["newer", "new"], 1)


def test_events_whose_time_is_not_known_keep_no_others_from_ageing(open_box, clock, calendar):
    box = open_box(max_age=60.0)
    calendar.believed = False
    put(box, *(f"undated {number}" for number in range(120)))
    calendar.believed = True
    put(box, *(f"dated {number}" for number in range(10)))
    box.save()
    calendar.now += 3600
    clock.now += 3600
    box = open_box(max_age=60.0)
    put(box, "new")
    box.save()
    assert box.dropped == 10
    assert len(box) == 121


def test_the_age_cap_holds_within_one_long_run_too(open_box, clock, calendar):
    box = open_box(max_age=60.0)
    put(box, "old")
    box.save()
    for passing in (clock, calendar):
        passing.now += 61
    put(box, "new")
    box.save()
    assert (payloads(box), box.dropped) == (["new"], 1)


def test_what_is_too_old_is_given_up_where_nothing_new_comes_in(open_box, clock, calendar):
    box = open_box(max_age=60.0)
    put(box, "old")
    box.save()
    assert 0 < box.save_in() <= AGE_EVERY
    for passing in (clock, calendar):
        passing.now += 61
    assert box.save_in() <= 0
    box.save()
    assert (payloads(box), box.dropped, box.save_in()) == ([], 1, None)


def test_what_has_become_too_old_while_nothing_ran_is_never_handed_out(open_box, calendar):
    box = open_box(max_age=60.0)
    put(box, "old")
    box.close()
    calendar.now += 61
    box = open_box(max_age=60.0)
    assert (payloads(box), box.dropped) == ([], 1)


def test_a_clock_that_is_not_believed_ages_nothing(open_box, clock, calendar):
    box = open_box()
    calendar.believed = False
    put(box, "of unknown age")
    calendar.believed = True
    put(box, "dated")
    box.close()
    calendar.now += 30 * DAY
    calendar.believed = False
    box = open_box()
    put(box, "now, perhaps")
    box.save()
    assert payloads(box) == ["of unknown age", "dated", "now, perhaps"]
    calendar.believed = True
    clock.now += AGE_EVERY
    put(box, "now")
    box.save()
    assert payloads(box) == ["of unknown age", "now, perhaps", "now"]


@pytest.mark.parametrize("jump", [-30 * DAY, 30 * DAY])
def test_a_clock_that_jumps_and_comes_back_drops_nothing(open_box, clock, calendar, jump):
    box = open_box()
    put(box, "before")
    box.save()
    calendar.now += jump
    put(box, "meanwhile")
    clock.now += 1
    box.save()
    calendar.now -= jump
    put(box, "after")
    clock.now += 1
    box.save()
    assert (payloads(box), box.dropped) == (["before", "meanwhile", "after"], 0)


def ruin(path, how):
    whole = bytearray(path.read_bytes())
    if how == "other bytes":
        whole = bytearray(b"this was never a database\n" * 400)
    elif how == "cut off":
        del whole[len(whole) // 2 :]
    else:
        whole[4096 * 2 : 4096 * 4] = os.urandom(8192)
    path.write_bytes(whole)


@pytest.mark.parametrize("how", ["other bytes", "cut off", "pages overwritten"])
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(open_box, tmp_path, caplog, how):
    box = open_box()
    put(box, *("x" * 400 for _ in range(200)))
    box.close()
    ruin(tmp_path / "outbox.sqlite", how)
    ruined = (tmp_path / "outbox.sqlite").read_bytes()
    box = open_box()
    assert (tmp_path / "outbox.sqlite.damaged").read_bytes()[8192:] == ruined[8192:]
    assert len(box) == 0
    put(box, "a")
    box.close()
    assert payloads(open_box()) == ["a"]
    assert caplog.text.count("is damaged") == 1


def test_damage_while_it_runs_costs_what_was_stored_and_is_counted(open_box, tmp_path, clock, caplog):
    box = open_box()
    put(box, *("x" * 400 for _ in range(400)))
    box.save()
    put(box, "still in memory")
    box._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    box._database.execute("PRAGMA shrink_memory").fetchall()
    ruin(tmp_path / "outbox.sqlite", "other bytes")
    with pytest.raises(OutputError, match=r"the outbox .*outbox.sqlite cannot be"):
        box.after(0, 1000)
    with pytest.raises(OutputError, match="cannot be read; events wait until it can"):
        box.after(0, 1000)  # at once: no attempt to open it again for each event
    clock.now += SAVE_EVERY
    assert box.save_in() <= 0
    box.save()
    assert "is damaged" in caplog.text
    assert (payloads(box), len(box), box.dropped) == (["still in memory"], 1, 400)


def test_a_second_process_is_refused(open_box, tmp_path):
    box = open_box()
    put(box, "mine")
    code = "import sys; from edge.outbox import Outbox; from pathlib import Path; Outbox(Path(sys.argv[1]))"
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "outbox.sqlite"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "another process has the outbox" in ran.stderr.splitlines()[-1]
    assert "outbox.sqlite; stop it, or give this one a folder" in ran.stderr
    box.save()
    assert payloads(box) == ["mine"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file/outbox.sqlite cannot be written"):
        Outbox(tmp_path / "file" / "outbox.sqlite")


@contextmanager
def full(box):
    """SQLite's own answer to a disk without room."""
    box._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    pages = box._database.execute("PRAGMA page_count").fetchone()[0]
    box._database.execute(f"PRAGMA max_page_count = {pages}")
    yield
    box._database.execute("PRAGMA max_page_count = 1000000")


@contextmanager
def no_larger_files(box):
    """The kernel's answer where a quota is spent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (box.path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("no_room", [full, no_larger_files])
def test_a_full_disk_loses_nothing_and_storing_resumes_by_itself(open_box, no_room):
    box = open_box()
    put(box, *("x" * 400 for _ in range(50)))
    box.save()
    with no_room(box):
        put(box, *("y" * 400 for _ in range(300)))
        for _ in range(3):
            with pytest.raises(OutputError, match=r"outbox.sqlite cannot be written \(.*\); make room for it"):
                box.save()
        assert (len(box), box.unsaved, box.dropped) == (350, 300, 0)
        # What was stored can be read meanwhile, so that sending goes on, in order.
        assert [payload[0] for payload in payloads(box)] == ["x"] * 50 + ["y"] * 300
        box.forget(number_of(box, "x" * 400))
    box.save()
    assert (len(box), box.unsaved, box.dropped) == (349, 0, 0)
    assert len(payloads(open_box())) == 349


SMALL_DISK = """
import logging, sys
from pathlib import Path
from edge.errors import OutputError
from edge.outbox import Outbox
from edge.starts import count_start

disk, stored = Path(sys.argv[1]), sys.argv[2:]
path, starts = disk / "outbox.sqlite", disk / "starts"

def payloads(box):
    return [event.payload for event in box.after(0, 100)]

if stored:
    assert count_start(starts) == 1
    box = Outbox(path)
    for payload in stored:
        box.put(payload)
    box.close()
with (disk / "filler").open("wb", buffering=0) as filler:
    try:
        while filler.write(bytes(512)):
            pass
    except OSError:
        pass
if stored:
    assert [count_start(starts), count_start(starts)] == [2, 3]
else:
    try:
        count_start(starts)
    except OutputError as error:
        assert str(error).endswith("event ids would repeat, so make room there")
box = Outbox(path)
for payload in ("new", "newer" * 1000):
    box.put(payload)
try:
    box.save()
except OutputError as error:
    assert str(error).endswith("make room for it")
else:
    raise AssertionError("there was room")
assert payloads(box) == [*stored, "new", "newer" * 1000]
(disk / "filler").unlink()
box.save()
assert count_start(starts) == (4 if stored else 1)
box.close()
box = Outbox(path)
assert payloads(box) == [*stored, "new", "newer" * 1000]
"""


@pytest.mark.skipif(not MOUNTS, reason="needs unshare, and namespaces for users")
@pytest.mark.parametrize("stored", [["stored", "too"], []], ids=["with events in it", "for the first time"])
def test_a_start_on_a_full_disk_sends_what_is_stored_and_stores_again_once_there_is_room(tmp_path, stored):
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", f"mount -t tmpfs -o size=128k none '{tmp_path}' && exec \"$0\" -c \"$@\"",
         sys.executable, SMALL_DISK, tmp_path, *stored],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert ("make room for it; events wait in memory meanwhile" in done.stderr) == (not stored)


def test_what_memory_cannot_hold_while_the_disk_is_full_is_counted(open_box, monkeypatch):
    monkeypatch.setattr(edge.outbox, "IN_MEMORY", 100)
    box = open_box()
    with full(box):
        put(box, *(f"{number} " + "x" * 400 for number in range(250)))
        with pytest.raises(OutputError):
            box.save()
    assert (len(box), box.dropped) == (100, 150)
    box.save()
    assert [int(payload.split()[0]) for payload in payloads(open_box())] == list(range(150, 250))


def test_at_the_end_a_full_disk_is_told(open_box):
    box = open_box()
    put(box, *("x" * 400 for _ in range(50)))
    with full(box):
        database = box._database
        with pytest.raises(OutputError, match="make room for it"):
            box.close()
        assert box.unsaved == 50
        box._database = sqlite3.connect(":memory:")  # for the end of `full`
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        database.execute("SELECT 1")


class Deceiver(sqlite3.Connection):
    """Commits, and says that it did not: what a failing fsync looks like."""

    armed = False

    def __exit__(self, *raised):
        told = super().__exit__(*raised)
        if Deceiver.armed:
            Deceiver.armed = False
            raise sqlite3.OperationalError("disk I/O error")
        return told


def test_a_commit_that_came_through_after_all_stores_nothing_twice(open_box, monkeypatch):
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Deceiver))
    box = open_box()
    put(box, "a", "b", "c")
    box.save()
    box.forget(number_of(box, "b"))
    put(box, "d")
    monkeypatch.setattr(Deceiver, "armed", True)
    with pytest.raises(OutputError):
        box.save()
    put(box, "e")
    box.save()
    assert (payloads(box), len(box), box.dropped) == (["a", "c", "d", "e"], 4, 0)
    assert payloads(open_box()) == ["a", "c", "d", "e"]


OWNER = """
import sys, time
from pathlib import Path
from edge.outbox import Outbox
box = Outbox(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100_000):
    box.put(f"{number}")
    print(number, time.monotonic(), flush=True)
    until = time.monotonic() + 0.004
    while (rest := until - time.monotonic()) > 0:
        due = box.save_in()
        time.sleep(max(0.0, min(rest, rest if due is None else due)))
        if (due := box.save_in()) is not None and due <= 0:
            box.save()
"""
LATE = 0.5
"""Seconds that a busy machine may add."""


def test_kill_9_at_any_moment_costs_the_last_second_at_most_and_no_order(tmp_path):
    rng = random.Random(9)  # noqa: S311
    owners = []
    for number in range(6):
        path = tmp_path / str(number) / "outbox.sqlite"
        command = [sys.executable, "-c", OWNER, path]
        owners.append((path, subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)))
    for _, owner in owners:
        assert owner.stdout.readline() == "ready\n"
    for _, owner in owners:
        time.sleep(rng.uniform(0.0, 0.7))
        owner.send_signal(signal.SIGKILL)
    for path, owner in owners:
        killed = time.monotonic()
        told = [line.split() for line in owner.communicate()[0].splitlines() if line.count(" ") == 1]
        put_at = {int(number): float(at) for number, at in told}
        # All of them were killed before, so this is the latest that the last line can be from.
        ended = max(put_at.values(), default=killed)
        box = Outbox(path)
        saved = [int(payload) for payload in payloads(box)]
        box.close()
        assert saved == list(range(len(saved)))
        assert [number for number, at in put_at.items() if number >= len(saved) and at < ended - 1 - LATE] == []


class AgainstAList(RuleBasedStateMachine):
    """Whatever is done to it, in whatever order, an outbox holds what a list would."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)  # noqa: S108
        self.clock = Clock(0.0)
        self.here, self.stored, self.count, self.has_room = [], [], 0, True
        self.open()

    def open(self):
        self.box = Outbox(Path(self.folder.name, "outbox.sqlite"), clock=self.clock)
        self.has_room = True

    @rule(number=st.integers(1, 40), length=st.sampled_from([1, 300]))
    def put(self, number, length):
        for _ in range(number):
            self.count += 1
            payload = json.dumps({"id": self.count, "rest": "x" * length})
            self.box.put(payload)
            self.here.append(payload)

    @precondition(lambda self: self.here)
    @rule(data=st.data())
    def forget(self, data):
        first = data.draw(st.integers(0, len(self.here) - 1))
        last = data.draw(st.integers(first, min(first + 20, len(self.here) - 1)))
        for event in self.box.after(0, last + 1)[first:]:
            self.box.forget(event.number)
        del self.here[first : last + 1]

    @rule()
    def save(self):
        try:
            self.box.save()
        except OutputError:
            assert not self.has_room
        else:
            self.stored = list(self.here)
            assert self.box.unsaved == 0

    @precondition(lambda self: self.has_room)
    @rule()
    def fill_the_disk(self):
        pages = self.box._database.execute("PRAGMA page_count").fetchone()[0]
        self.box._database.execute(f"PRAGMA max_page_count = {pages}")
        self.has_room = False

    @precondition(lambda self: not self.has_room)
    @rule()
    def make_room(self):
        self.box._database.execute("PRAGMA max_page_count = 1000000")
        self.has_room = True

    @precondition(lambda self: self.has_room)
    @rule()
    def start_again(self):
        self.box.close()
        self.stored = list(self.here)
        self.open()

    @rule()
    def be_killed(self):
        crash(self.box)
        self.here = list(self.stored)
        self.open()

    @rule(seconds=st.floats(0, 3))
    def let_time_pass(self, seconds):
        self.clock.now += seconds

    @invariant()
    def holds_the_same_in_the_same_order(self):
        assert payloads(self.box) == self.here
        assert len(self.box) == len(self.here)
        assert self.box.dropped == 0

    @precondition(lambda self: self.here)
    @invariant()
    def reads_from_anywhere(self):
        middle = len(self.here) // 2
        events = self.box.after(0, middle + 1)
        assert payloads(self.box, events[-1].number, 5) == self.here[middle + 1 : middle + 6]

    @invariant()
    def asks_to_be_saved_where_that_changes_something(self):
        assert self.box.save_in() is not None or self.here == self.stored

    def teardown(self):
        crash(self.box)
        self.folder.cleanup()


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(stateful_step_count=25)
