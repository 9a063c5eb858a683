import errno
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.errors import OutputError
from edge.sinks.log import JsonLinesLog

ROOT = Path(__file__).parents[3]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def ids(path):
    return [int(json.loads(line)["id"].rsplit("-", 1)[1]) for line in path.read_text().splitlines()]


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
        with pytest.raises(OutputError, match=rf"the log {path} cannot be written \(Input/output error\)") as raised:
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
            with pytest.raises(OutputError, match=rf"the log {path} cannot be written .*make room") as raised:
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
        with pytest.raises(OutputError, match=r"mien\.jsonl cannot be written"):
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
        files = sorted(path.parent.glob("mien.jsonl.[0-9]*"), key=lambda file: -int(file.suffix[1:]))
        found = [number for file in [*files, path] for number in ids(file)]
        assert found == list(range(1, len(found) + 1))
        assert len(found) >= last + lines
        last = len(found)
