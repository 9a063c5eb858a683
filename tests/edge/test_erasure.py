"""What is removed and what is not, file by file, and how each sink begins anew."""

import fcntl
import json
import os
import pathlib
import sqlite3
import threading
import time

import pytest

import edge.erase
from edge.attendant import Attendant, attending
from edge.control import open_folder
from edge.erase import erase_unwritten_log
from edge.erasure import Erasure, erase_log, is_in_use, outboxes, remove_outbox
from edge.errors import OutputError
from edge.outbox import Outbox
from edge.outlet import Outlet
from edge.pause import PauseWatch, pause
from edge.sinks.console import Console
from edge.sinks.log import JsonLinesLog
from edge.supervisor import Supervisor


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# Files


def test_a_log_goes_with_its_old_and_torn_files_and_with_nothing_else(tmp_path):
    mine = ["log", "log.1", "log.2", "log.1000", "log.torn", "log.new"]
    others = ["log.1001", "log.01", "log.1.gz", "log.bak", "logs", "other.log"]
    for name in [*mine, *others]:
        (tmp_path / name).write_text("{2345")
    (tmp_path / "link").symlink_to("log")
    erasure = erase_unwritten_log(tmp_path / "link")
    assert names(tmp_path) == sorted([*others, "link"])
    assert sorted(erasure.removed) == sorted((str(tmp_path / name), 5) for name in mine)
    assert erase_log(tmp_path / "log") == Erasure()


def test_outboxes_of_every_name_are_found_also_what_is_left_of_a_damaged_one(tmp_path):
    for name in ("outbox-a.sqlite", "outbox-b.c.sqlite-wal", "outbox-b.c.sqlite", "outbox-d.sqlite.damaged", "starts"):
        (tmp_path / name).write_text("")
    assert [path.name for path in outboxes(tmp_path)] == ["outbox-a.sqlite", "outbox-b.c.sqlite", "outbox-d.sqlite"]
    for path in outboxes(tmp_path):
        remove_outbox(path)
    assert names(tmp_path) == ["starts"]


def test_an_outbox_is_in_use_while_a_daemon_has_it_and_damage_is_no_use(tmp_path):
    path = tmp_path / "outbox-a.sqlite"
    assert not is_in_use(path)
    box = Outbox(path)
    assert is_in_use(path)
    box.close()
    assert not is_in_use(path)
    path.write_bytes(b"x" * 5000)
    assert not is_in_use(path)


def test_an_outbox_in_a_folder_named_from_here_is_in_use_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = pathlib.Path("outbox-a.sqlite")
    box = Outbox(path)
    assert is_in_use(path)
    box.close()
    assert not is_in_use(path)


def test_what_cannot_be_removed_is_a_problem(tmp_path):
    (tmp_path / "log").mkdir()
    erasure = erase_log(tmp_path / "log")
    assert erasure.removed == []
    assert erasure.problems == [f"{tmp_path}/log cannot be removed (it is no file)"]


def test_an_account_reaches_another_process_whole():
    erasure = Erasure([("küche", 3)], ["a problem"], ["a note"])
    assert Erasure.from_json(erasure.to_json()) == erasure


# Sinks


def test_a_log_begins_anew_and_is_nobody_elses(tmp_path, make_event):
    path = tmp_path / "log"
    log = JsonLinesLog(path, max_bytes=1000)
    for number in range(1, 9):
        log.publish(make_event(number))
    assert len(names(tmp_path)) > 2
    assert log.erase(local=False).problems == []
    assert names(tmp_path) == ["log"]
    assert path.read_bytes() == b""
    with pytest.raises(OutputError, match="another process is writing"):
        JsonLinesLog(path)
    log.publish(make_event(9))
    log.close()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [make_event(9).id]


def test_an_outbox_begins_anew_and_its_numbers_go_on(tmp_path):
    path = tmp_path / "outbox-a.sqlite"
    box = Outbox(path)
    for number in range(1, 6):
        box.put(f"secret {number}")
        if number == 3:
            box.save()
    box.forget(1)
    assert [what for what, _ in box.erase().removed if what.endswith(".sqlite")] == [str(path)]
    assert (len(box), box.unsaved, box.after(0, 10)) == (0, 0, [])
    assert not any(b"secret" in file.read_bytes() for file in tmp_path.iterdir())
    box.forget(4)  # the broker acknowledges what was on its way
    box.put("new")
    box.save()
    assert [(event.number, event.payload) for event in box.after(0, 10)] == [(6, "new")]
    assert len(box) == 1
    box.close()
    assert sqlite3.connect(path).execute("SELECT number, payload FROM event").fetchall() == [(6, "new")]


def test_an_outbox_in_memory_forgets_too():
    box = Outbox(None)
    box.put("secret")
    assert box.erase() == Erasure()
    assert len(box) == 0


class SlowSink:
    """Takes its time over each event, and remembers in which order it was asked for what."""

    name = "slow"

    def __init__(self):
        self.did, self.go = [], threading.Event()

    def publish(self, event):
        self.go.wait(5)
        self.did.append(event.id[-1])

    def erase(self, *, local):
        self.did.append(f"erase {local}")
        return Erasure(notes=["done"])

    def idle(self):
        pass

    def close(self):
        pass


def test_a_sink_is_asked_in_its_own_thread_behind_what_it_has_begun_and_before_what_comes(make_event, wait_until):
    sink, supervisor = SlowSink(), Supervisor()
    outlet = Outlet(sink, supervisor, patient=False)
    for number in (1, 2, 3):
        outlet.put(make_event(number))
    wait_until(lambda: outlet.waiting == 2)
    threading.Timer(0.2, sink.go.set).start()
    assert outlet.erase(local=True, timeout=5.0).notes == ["done"]
    outlet.put(make_event(4))
    outlet.finish(5.0)
    assert sink.did == ["1", "erase True", "4"]
    assert supervisor.failure is None


def test_a_sink_that_hangs_or_has_ended_is_a_problem_and_no_wait_for_ever(make_event, wait_until):
    sink = SlowSink()
    outlet = Outlet(sink, Supervisor(), patient=False, idle=0.05)
    outlet.put(make_event(1))
    wait_until(lambda: outlet.waiting == 0)
    assert outlet.erase(local=False, timeout=0.2).problems == ["slow has ended, or did not answer within 0.2 s"]
    sink.go.set()
    outlet.finish(5.0)
    began = time.monotonic()
    assert outlet.erase(local=False, timeout=30.0).problems
    assert time.monotonic() - began < 10.0


def test_a_terminal_stores_nothing():
    assert Console().erase(local=False) == Erasure()


# The daemon's answer


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path, shared=False)


ASKED = "0123456789abcdef"


def asking(folder):
    asked = []

    def erase(local):
        asked.append(local)
        return Erasure(removed=[("log", 7)])

    return Attendant(folder, "kitchen", erase), asked


@pytest.mark.parametrize(
    ("request_", "local"), [('{"local": true}', True), ('{"local": false}', False), ("junk", False), ("", False)]
)
def test_a_request_is_answered_once(request_, local, folder):
    attendant, asked = asking(folder)
    (folder / f"erase-{ASKED}").write_text(request_)
    for _ in range(3):
        attendant.answer()
    assert asked == [local]
    answer = Erasure.from_json((folder / f"erased-{ASKED}-kitchen").read_text())
    assert answer.removed == [("log", 7)]


@pytest.mark.parametrize(
    "name", ["erase-", "erase-1", f"erase-{ASKED}0", f"erase-{ASKED.upper()}", f"erased-{ASKED}-x"]
)
def test_what_is_no_request_is_none(name, folder):
    attendant, asked = asking(folder)
    (folder / name).write_text("")
    attendant.answer()
    assert asked == []


def test_a_link_is_no_request_and_no_reason_to_stop(folder, caplog):
    attendant, asked = asking(folder)
    (folder / f"erase-{ASKED}").symlink_to("/etc/passwd")
    attendant.answer()
    attendant.answer()
    assert asked == []
    assert len(caplog.messages) == 1


def test_outboxes_of_earlier_names_go_too_but_those_of_a_daemon_that_runs_are_its_own(folder):
    old, used = folder.parent / "outbox-old.sqlite", folder.parent / "outbox-hall.sqlite"
    Outbox(old).close()
    other = Outbox(used)
    attendant, _ = asking(folder)
    (folder / f"erase-{ASKED}").write_text("{}")
    attendant.answer()
    assert (old.exists(), used.exists()) == (False, True)
    other.close()


def test_an_answer_that_cannot_be_written_stops_nothing(folder, caplog):
    attendant, asked = asking(folder)
    (folder / f"erase-{ASKED}").write_text("{}")
    (folder / f"erased-{ASKED}-kitchen").mkdir()
    attendant.answer()
    assert asked == [False]
    assert any("nobody can be answered" in message for message in caplog.messages)


def test_the_log_of_a_daemon_is_seen_to_be_written(tmp_path):
    path = tmp_path / "log"
    path.write_text("{}\n")
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert erase_unwritten_log(path).problems == [
            f"another process writes to the log {path}; end it, and do this again"
        ]
    assert erase_unwritten_log(path).removed == [(str(path), 3)]
    assert erase_unwritten_log(path) == Erasure()


def test_what_was_named_by_mistake_and_is_no_log_stays(tmp_path):
    diary, pipe = tmp_path / "diary", tmp_path / "pipe"
    diary.write_text("Dear diary")
    os.mkfifo(pipe)
    for path in (diary, pipe, tmp_path):
        erasure = erase_unwritten_log(path)
        assert erasure.problems == [f"{path} is no log of events; name the log with --log"]
        assert not erasure.removed
    assert names(tmp_path) == ["diary", "pipe"]
    assert erase_log(pipe).problems == [f"{pipe} cannot be removed (it is no file)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_a_link_that_somebody_has_laid_to_anothers_file_is_not_followed(tmp_path):
    other, log = tmp_path / "daemon.json", tmp_path / "log"
    other.write_text("{}")
    log.symlink_to(other)
    os.lchown(log, 12345, 12345)
    assert "somebody has laid" in erase_unwritten_log(log).problems[0]
    assert other.exists()
    os.chown(other, 12345, 12345)
    assert erase_unwritten_log(log).removed == [(str(other), 2)]


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[]",
        "[" * 5000,
        '{"removed": [["a", Infinity]], "problems": [], "notes": []}',
        '{"removed": [1], "problems": [], "notes": []}',
    ],
)
def test_an_answer_that_is_none_is_a_problem(folder, answer, monkeypatch):
    monkeypatch.setattr(edge.erase, "running", lambda _: {"kitchen": "reading"})
    monkeypatch.setattr(edge.erase, "write_small", lambda *_: None)
    monkeypatch.setattr(edge.erase.secrets, "token_hex", lambda _: ASKED)
    (folder / f"erased-{ASKED}-kitchen").write_text(answer)
    accounts = edge.erase.ask_daemons(folder, local=True)
    assert "no answer that can be understood" in accounts["kitchen"].problems[0]


def test_a_pause_does_not_wait_for_an_erasing(folder, wait_until):
    watch, supervisor, go = PauseWatch(folder), Supervisor(), threading.Event()

    def erase(_):
        assert go.wait(10)
        return Erasure()

    with attending(watch, "kitchen", erase, supervisor):
        (folder / f"erase-{ASKED}").write_text("{}")
        time.sleep(0.3)
        pause(folder)
        wait_until(lambda: watch.asked)
        go.set()
        wait_until(lambda: (folder / f"erased-{ASKED}-kitchen").exists())
    assert supervisor.failure is None
