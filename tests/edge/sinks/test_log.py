import errno
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import OutputError
from edge.events import Event, format_time
from edge.sinks import NotStoredError
from edge.sinks.log import AGE_EVERY, JsonLinesLog

ROOT = Path(__file__).parents[3]


DAY = 86400.0


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Calendar:
    """A clock on the wall and one that only counts, which go at the same pace until somebody sets the first."""

    def __init__(self):
        self.now = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
        self.counted = 0.0
        self.synced = True

    def go(self, seconds):
        self.now += seconds
        self.counted += seconds

    def open(self, path, **options):
        return JsonLinesLog(
            path, clock=lambda: self.counted, calendar=lambda: self.now, clock_synced=lambda: self.synced, **options
        )

    @property
    def changes(self):
        ts = format_time(datetime.fromtimestamp(self.now, UTC))
        return {"ts": ts, "clock_synced": self.synced}


def ids(path):
    return [int(json.loads(line)["id"].rsplit("-", 1)[1]) for line in path.read_text().splitlines()]


def all_files(path):
    """Oldest first."""
    old = sorted(path.parent.glob("mien.jsonl.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
    return [*old, path] if path.exists() else old


def all_ids(path):
    return [number for file in all_files(path) for number in ids(file)]


@pytest.fixture
def calendar():
    return Calendar()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs/mien.jsonl"


@contextmanager
def disk_full_at(size):
    """No file may grow over `size` bytes, so that a write is cut short as by a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_event_is_one_line_that_can_be_read_at_once(path, make_event):
    log = JsonLinesLog(path)
    event = make_event(1, expression="überrascht")
    log.publish(event)
    assert path.read_text(encoding="utf-8") == event.to_json() + "\n"
    log.publish(make_event(2))
    assert ids(path) == [1, 2]
    log.close()
    log.close()


def test_a_log_that_is_there_is_continued(path, make_event):
    for number in (1, 2, 3):
        log = JsonLinesLog(path)
        log.publish(make_event(number))
        log.close()
    assert ids(path) == [1, 2, 3]


def test_the_disk_is_synced_at_most_once_a_second_and_at_the_end(path, make_event, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(clock.now))
    clock = Clock()
    log = JsonLinesLog(path, clock=clock)
    synced.clear()
    for number, clock.now in enumerate((0.1, 0.5, 0.99, 1.0, 1.2, 1.9)):
        log.publish(make_event(number))
    assert synced == [1.0]
    clock.now = 2.5
    log.idle()
    clock.now = 9.0
    log.idle()
    assert synced == [1.0, 2.5]
    log.close()
    assert synced == [1.0, 2.5, 9.0]


def test_a_disk_that_does_not_take_what_was_written_is_told_also_while_nothing_happens(path, make_event, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, "Input/output error")

    clock = Clock()
    log = JsonLinesLog(path, clock=clock)
    log.publish(make_event(1))
    clock.now = 2.0
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        with pytest.raises(OutputError, match=rf"not be stored in the log {path} \(Input/output error\)") as raised:
            log.idle()
    assert raised.value.exit_code == 73
    log.idle()
    log.close()


def test_a_full_file_makes_room_and_only_the_oldest_are_deleted(path, make_event):
    line = len(make_event(1).to_json()) + 1
    log = JsonLinesLog(path, max_bytes=3 * line, keep=2)
    for number in range(1, 12):
        log.publish(make_event(number))
    log.close()
    files = [path.with_name("mien.jsonl.2"), path.with_name("mien.jsonl.1"), path]
    assert [ids(file) for file in files] == [[4, 5, 6], [7, 8, 9], [10, 11]]
    assert sorted(path.parent.iterdir()) == sorted(files)


def test_without_old_files_to_keep_a_full_file_begins_anew(path, make_event):
    log = JsonLinesLog(path, max_bytes=500, keep=0)
    for number in (1, 2, 3):
        log.publish(make_event(number))
    log.close()
    assert ids(path) == [3]
    assert list(path.parent.iterdir()) == [path]


def test_an_event_larger_than_a_file_is_written_all_the_same(path, make_event):
    log = JsonLinesLog(path, max_bytes=10, keep=3)
    log.publish(make_event(1))
    log.publish(make_event(2))
    log.close()
    assert (ids(path.with_name("mien.jsonl.1")), ids(path)) == ([1], [2])


@pytest.mark.parametrize(
    "torn", [b"{", b'{"schema":"mien/ev', b'{"id": 1}garbage', b"\0" * 5000, b'{"a":"' + b"x" * 200_000]
)
def test_a_torn_last_line_is_moved_out_of_the_way(path, make_event, torn):
    whole = "".join(make_event(number).to_json() + "\n" for number in (1, 2)).encode()
    path.parent.mkdir()
    path.write_bytes(whole + torn)
    log = JsonLinesLog(path)
    assert path.read_bytes() == whole
    assert path.with_name("mien.jsonl.torn").read_bytes() == torn + b"\n"
    log.publish(make_event(3))
    log.close()
    assert ids(path) == [1, 2, 3]


def test_a_first_line_that_was_torn_leaves_an_empty_log(path):
    path.parent.mkdir()
    path.write_bytes(b'{"schema":"mie')
    JsonLinesLog(path).close()
    assert path.read_bytes() == b""
    assert path.with_name("mien.jsonl.torn").read_bytes() == b'{"schema":"mie\n'


def test_a_line_that_lacks_only_its_break_is_kept(path, make_event):
    path.parent.mkdir()
    path.write_text(make_event(1).to_json())
    log = JsonLinesLog(path)
    log.publish(make_event(2))
    log.close()
    assert ids(path) == [1, 2]
    assert not path.with_name("mien.jsonl.torn").exists()


def test_a_file_that_is_no_log_is_refused_and_left_as_it_is(path):
    path.parent.mkdir()
    path.write_bytes(b"\xff\xd8\xff a photo without a line break")
    with pytest.raises(OutputError, match=r"mien\.jsonl is there and is no log of events"):
        JsonLinesLog(path)
    assert path.read_bytes() == b"\xff\xd8\xff a photo without a line break"


def test_a_full_disk_costs_no_line_that_was_written_and_logging_goes_on_when_there_is_room(path, make_event):
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    with disk_full_at(path.stat().st_size + 50):
        for number in (2, 3):
            with pytest.raises(OutputError, match=rf"not be stored in the log {path} .*goes on by itself") as raised:
                log.publish(make_event(number))
    assert raised.value.exit_code == 73
    assert ids(path) == [1]
    log.publish(make_event(4))
    log.close()
    assert ids(path) == [1, 4]


def test_a_rotation_that_fails_leaves_every_file_in_place(path, make_event):
    log = JsonLinesLog(path, max_bytes=800, keep=2)
    for number in (1, 2, 3):
        log.publish(make_event(number))
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    blocked = path.with_name("mien.jsonl.new")
    blocked.mkdir()
    for _ in range(3):
        with pytest.raises(OutputError, match=r"not be stored in .*mien\.jsonl"):
            log.publish(make_event(4, expression="x" * 800))
    blocked.rmdir()
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    log.publish(make_event(4))
    log.close()
    assert ids(path)[-1] == 4


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=rf"the log {tmp_path}/file/mien.jsonl cannot be written"):
        JsonLinesLog(tmp_path / "file/mien.jsonl")
    with pytest.raises(OutputError, match=r"cannot be written \(Is a directory\)"):
        JsonLinesLog(tmp_path)


def test_two_processes_do_not_write_to_one_log(path):
    log = JsonLinesLog(path)
    with pytest.raises(OutputError, match="another process is writing"):
        JsonLinesLog(path)
    log.close()
    JsonLinesLog(path).close()


WRITE_FOR_EVER = """
import dataclasses, sys
from pathlib import Path
from edge.events import Event
from edge.sinks.log import JsonLinesLog
event = Event(id="", device="k", ts="", clock_synced=True, type="appeared", track=1, box=(0, 0, 1, 1), frame=(1, 1),
              expression="sad", confidence=1.0, scores={"sad": 1.0}, model="m")
log = JsonLinesLog(Path(sys.argv[1]), max_bytes=20_000, keep=1000)
number = int(sys.argv[2])
while True:
    log.publish(dataclasses.replace(event, id=f"k-1-{number}"))
    print(number, flush=True)
    number += 1
"""


def test_no_event_is_lost_or_broken_when_the_writer_is_killed(path):
    last = 0
    for lines in (1, 400):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, path, str(last + 1)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        for _ in range(lines):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.stdout.read()
        writer.wait()
        JsonLinesLog(path).close()
        found = all_ids(path)
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= last + lines
        last = len(found)


# Age


def test_no_line_is_older_than_it_may_be_and_most_are_kept_nearly_as_long(path, make_event, calendar):
    log = calendar.open(path, keep=5, max_age=30 * DAY)
    for number in range(200):
        log.publish(make_event(number, **calendar.changes))
        for _ in range(6):
            calendar.go(DAY / 6)
            log.idle()
        kept = all_ids(path)
        assert kept == list(range(kept[0], number + 1))
        oldest_day = number + 1 - kept[0]
        assert oldest_day <= 30
        assert number < 30 or oldest_day >= 25
    log.close()


@pytest.mark.parametrize(("keep", "least"), [(0, 0), (1, 14), (30, 28)])
def test_a_line_may_go_earlier_the_fewer_files_there_are(path, make_event, calendar, keep, least):
    log = calendar.open(path, keep=keep, max_age=30 * DAY)
    for number in range(100):
        log.publish(make_event(number, **calendar.changes))
        calendar.go(DAY)
        log.idle()
        kept = all_ids(path)
        assert number < 30 or least <= len(kept) <= 30
    log.close()


def test_old_lines_go_when_the_log_is_opened_again(path, make_event, calendar):
    log = calendar.open(path, keep=2, max_bytes=500, max_age=DAY)
    for number in (1, 2, 3):
        log.publish(make_event(number, **calendar.changes))
    log.close()
    path.with_name("mien.jsonl.torn").write_text("{")
    os.utime(path.with_name("mien.jsonl.torn"), (calendar.now, calendar.now))
    calendar.go(DAY)
    log = calendar.open(path, keep=2, max_age=DAY)
    log.publish(make_event(4, **calendar.changes))
    log.close()
    assert all_ids(path) == [4]
    assert list(path.parent.iterdir()) == [path]


def test_without_an_age_nothing_is_too_old(path, make_event, calendar):
    log = calendar.open(path)
    log.publish(make_event(1, **calendar.changes))
    calendar.go(3650 * DAY)
    log.publish(make_event(2, **calendar.changes))
    log.close()
    assert ids(path) == [1, 2]


def test_lines_from_before_the_clock_was_set_do_not_count_as_old(path, make_event, calendar):
    calendar.synced = False
    calendar.now -= 400 * DAY
    log = calendar.open(path, keep=3, max_bytes=1000, max_age=30 * DAY)
    for number in range(5):
        log.publish(make_event(number, **calendar.changes))
    calendar.synced = True
    calendar.now += 400 * DAY
    calendar.go(AGE_EVERY)
    log.idle()
    log.publish(make_event(5, **calendar.changes))
    assert all_ids(path) == list(range(6))
    for _ in range(70):
        calendar.go(DAY)
        log.idle()
    assert all_ids(path) == [], "what comes before a line that is too old is too old"
    log.close()


def test_a_device_that_never_hears_the_time_forgets_by_its_own_clock(path, make_event, calendar):
    calendar.synced = False
    log = calendar.open(path, keep=3, max_age=30 * DAY)
    for number in range(100):
        log.publish(make_event(number, **calendar.changes))
        calendar.go(DAY)
        log.idle()
    assert 20 <= len(all_ids(path)) <= 30
    log.close()


def test_a_clock_that_is_set_back_deletes_nothing(path, make_event, calendar):
    log = calendar.open(path, keep=2, max_bytes=500, max_age=30 * DAY)
    for number in (1, 2):
        log.publish(make_event(number, **calendar.changes))
    calendar.now -= 1000 * DAY
    calendar.go(AGE_EVERY)
    log.publish(make_event(3, **calendar.changes))
    log.idle()
    log.close()
    assert all_ids(path) == [1, 2, 3]


def test_old_lines_that_cannot_be_deleted_are_told_of_and_tried_again(path, make_event, calendar, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    log = calendar.open(path, keep=1, max_bytes=500, max_age=DAY)
    for number in (1, 2):
        log.publish(make_event(number, **calendar.changes))
    calendar.go(DAY)
    with monkeypatch.context() as broken:
        broken.setattr(Path, "unlink", fail)
        with pytest.raises(NotStoredError, match="old lines could not be deleted from the log") as raised:
            log.idle()
        log.idle()
    assert raised.value.events == 0
    calendar.go(AGE_EVERY)
    log.idle()
    log.close()
    assert all_ids(path) == []


def test_fewer_old_files_than_before_are_kept_when_fewer_are_asked_for(path, make_event):
    log = JsonLinesLog(path, max_bytes=500, keep=4)
    for number in range(6):
        log.publish(make_event(number))
    log.close()
    path.with_name("mien.jsonl.2026").write_text("somebody's own")
    path.with_name("mien.jsonl.03").write_text("somebody's own")
    JsonLinesLog(path, keep=1).close()
    assert (ids(path.with_name("mien.jsonl.1")), ids(path)) == ([4], [5])
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "mien.jsonl",
        "mien.jsonl.03",
        "mien.jsonl.1",
        "mien.jsonl.2026",
    ]


# What happens to the file from outside


def test_a_link_stays_one_and_old_files_lie_beside_the_file_that_it_points_to(tmp_path, make_event):
    link, target = tmp_path / "here/mien.jsonl", tmp_path / "card/mien.jsonl"
    link.parent.mkdir()
    link.symlink_to(target)
    log = JsonLinesLog(link, max_bytes=500, keep=2)
    for number in (1, 2, 3):
        log.publish(make_event(number))
    log.close()
    assert link.is_symlink()
    assert list(link.parent.iterdir()) == [link]
    assert all_ids(target) == [1, 2, 3]


@pytest.mark.parametrize("planted", ["mien.jsonl.new", "mien.jsonl.torn"])
def test_a_link_that_somebody_has_put_in_the_folder_is_not_written_through(path, make_event, planted, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.parent.mkdir()
    path.with_name(planted).symlink_to(victim)
    path.write_text(make_event(1).to_json() + '\n{"torn')
    try:
        log = JsonLinesLog(path, max_bytes=500)
        log.publish(make_event(2))
        log.close()
    except OutputError as error:
        assert "symbolic links" in str(error)  # noqa: PT017  # either is fine, but not the victim's end
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("folder", [False, True], ids=["the file", "its folder"])
def test_a_log_that_is_moved_away_is_begun_anew(path, make_event, folder, tmp_path):
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    (path.parent if folder else path).rename(tmp_path / "away")
    log.publish(make_event(2))
    log.publish(make_event(3))
    log.close()
    away = tmp_path / "away"
    assert ids(away / path.name if folder else away) == [1]
    assert ids(path) == [2, 3]


def test_a_log_that_is_emptied_goes_on_at_its_beginning_even_when_the_disk_is_full(path, make_event):
    log = JsonLinesLog(path)
    for number in (1, 2):
        log.publish(make_event(number))
    os.truncate(path, 0)
    with disk_full_at(100), pytest.raises(NotStoredError):
        log.publish(make_event(3))
    assert path.read_bytes() == b""
    log.publish(make_event(4))
    log.close()
    assert ids(path) == [4]


def test_a_folder_without_room_for_old_files_is_refused_at_once(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(OutputError, match=rf"its folder {path.parent} may not be written"):
        JsonLinesLog(path)


# Disks


def test_what_the_disk_did_not_take_is_counted_and_tried_no_more_than_once_a_second(path, make_event, monkeypatch):
    tried = []

    def fail(handle):
        tried.append(clock.now)
        raise OSError(errno.EIO, "Input/output error")

    clock = Clock()
    log = JsonLinesLog(path, clock=clock)
    lost = 0
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", fail)
        for number in range(31):
            clock.now = number / 10
            try:
                log.publish(make_event(number))
            except NotStoredError as error:
                lost += error.events
    assert tried == [1.0, 2.0, 3.0]
    assert lost == 31
    log.close()


def test_a_line_that_was_cut_short_and_could_not_be_taken_back_is_taken_back_later(path, make_event, monkeypatch):
    def fail(handle, size):
        raise OSError(errno.EROFS, "Read-only file system")

    log = JsonLinesLog(path)
    log.publish(make_event(1))
    with monkeypatch.context() as broken, disk_full_at(path.stat().st_size + 50):
        broken.setattr(os, "ftruncate", fail)
        for number in (2, 3):
            with pytest.raises(NotStoredError):
                log.publish(make_event(number))
    assert len(path.read_bytes()) == len(make_event(1).to_json()) + 51
    log.publish(make_event(4))
    log.close()
    assert ids(path) == [1, 4]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def is_stored(log, event):
    """By the sink's own account."""
    try:
        log.publish(event)
    except NotStoredError as error:
        assert error.events == 1  # noqa: PT017  # one of many may be stored
        return False
    return True


@pytest.mark.parametrize("max_bytes", [10_000_000, 10_000], ids=["one file", "several"])
def test_on_a_disk_that_is_really_full_every_line_that_counts_as_stored_is_there(small_disk, make_event, max_bytes):
    path = small_disk / "mien.jsonl"
    log = JsonLinesLog(path, max_bytes=max_bytes, keep=100)
    stored = sum(is_stored(log, make_event(number)) for number in range(300))
    assert 100 < stored < 300
    assert all_ids(path) == list(range(stored))
    (small_disk / "mien.jsonl.1").unlink() if max_bytes < 50_000 else os.truncate(path, 0)
    assert all(is_stored(log, make_event(number)) for number in range(300, 310))
    log.close()
    assert all_ids(path)[-10:] == list(range(300, 310))


def test_a_read_only_disk_is_refused_at_the_start(small_disk, make_event):
    path = small_disk / "mien.jsonl"
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    log.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(OutputError, match="Read-only file system") as refused:
        JsonLinesLog(path)
    assert refused.value.exit_code == 73
    assert ids(path) == [1]


def test_a_disk_that_turns_read_only_costs_the_events_of_that_time(path, make_event, monkeypatch):
    def fail(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    log = JsonLinesLog(path)
    log.publish(make_event(1))
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", fail)
        for number in (2, 3):
            with pytest.raises(NotStoredError, match="Read-only file system") as raised:
                log.publish(make_event(number))
            assert raised.value.events == 1
    log.publish(make_event(4))
    log.close()
    assert ids(path) == [1, 4]


# Anything in any order


@st.composite
def lives(draw):
    """What happens to a log: events of some length, a full disk, kills that tear the last line, restarts."""
    step = st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 400)),
        st.tuples(st.just("full"), st.integers(0, 600)),
        st.tuples(st.just("kill"), st.integers(0, 700)),
        st.tuples(st.just("zeros"), st.integers(1, 5000)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("stop in rotation"), st.integers(0, 3)),
    )
    return draw(st.lists(step, max_size=40))


def event_of(number: int, length: int) -> Event:
    return Event(
        id=f"kitchen-000001-{number:010d}",
        device="kitchen",
        ts="2026-11-21T03:00:00.123Z",
        clock_synced=True,
        type="appeared",
        track=1,
        box=(0, 0, 1, 1),
        frame=(1, 1),
        expression="é" * length,
        confidence=1.0,
        scores={"a": 1.0},
        model="m",
    )


@contextmanager
def stopped_after(moves: int):
    """The process dies, as far as the files are concerned, after so many have been moved."""
    real = Path.replace
    left = [moves]

    def replace(self, target):
        if not left[0]:
            raise OSError(errno.EIO, "killed")
        left[0] -= 1
        return real(self, target)

    Path.replace = replace
    try:
        yield
    finally:
        Path.replace = real


@given(lives())
def test_whatever_happens_every_line_that_was_written_before_is_whole_and_in_order(steps):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mien.jsonl"
        log = JsonLinesLog(path, max_bytes=2000, keep=1000)
        stored, number, torn = [], 0, False

        def publish(length):
            nonlocal number
            number += 1
            try:
                log.publish(event_of(number, length))
            except NotStoredError:
                return
            stored.append(number)

        for step, amount in steps:
            match step:
                case "publish":
                    publish(amount)
                case "full":
                    with disk_full_at(amount):
                        publish(200)
                case "stop in rotation":
                    with stopped_after(amount):
                        publish(400)
                case "restart":
                    log.close()
                    log = JsonLinesLog(path, max_bytes=2000, keep=1000)
                case "kill" | "zeros":
                    os.close(log._file)
                    line = event_of(number + 1, 300).to_json().encode()
                    torn = torn or bool(amount)
                    with path.open("ab") as file:
                        file.write(line[: min(amount, len(line) - 1)] if step == "kill" else b"\0" * amount)
                    log = JsonLinesLog(path, max_bytes=2000, keep=1000)
            assert all_ids(path) == stored
            assert path.with_name("mien.jsonl.torn").exists() == torn
        log.close()
