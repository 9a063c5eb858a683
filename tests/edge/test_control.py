"""The folder in which people and the daemon meet: who may use it, and who is seen to run."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import edge.control
from edge.control import (
    READING,
    RESTING,
    Presence,
    find_states,
    locked,
    open_folder,
    read_small,
    refused,
    running,
    write_small,
)
from edge.errors import OutputError

ROOT = Path(__file__).parents[2]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path / "state", shared=False)


@pytest.fixture(autouse=True)
def service(tmp_path, monkeypatch):
    monkeypatch.setattr(edge.control, "SERVICE", tmp_path / "service")
    return tmp_path / "service"


def test_a_services_folder_is_its_groups_and_a_persons_is_his_alone(tmp_path):
    assert mode(open_folder(tmp_path / "service", shared=True)) == 0o770
    assert mode(open_folder(tmp_path / "own", shared=False)) == 0o700


def test_a_daemon_gives_its_group_the_folder_back_and_a_command_takes_it_from_nobody(tmp_path):
    folder = open_folder(tmp_path, shared=True)
    open_folder(tmp_path, shared=False)
    assert mode(folder) == 0o770
    folder.chmod(0o700)
    open_folder(tmp_path, shared=True)
    assert mode(folder) == 0o770


def test_a_link_in_the_folders_place_changes_no_other_folder(tmp_path):
    other = tmp_path / "etc"
    other.mkdir(mode=0o755)
    (tmp_path / "control").symlink_to(other)
    with pytest.raises(OutputError, match="no link to one"):
        open_folder(tmp_path, shared=True)
    assert mode(other) == 0o755


def test_a_full_disk_that_takes_no_pause_is_no_question_of_groups(tmp_path):
    assert "systemctl stop mien" in str(refused(tmp_path, OSError(errno.ENOSPC, "No space left on device")))


def test_a_folder_that_cannot_be_made_says_why(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/control may not be written \(Not a directory\); it must be a folder"):
        open_folder(tmp_path / "file", shared=False)


@pytest.mark.parametrize(
    ("environ", "given", "installed", "found"),
    [
        ({}, None, False, ["own"]),
        ({}, None, True, ["service"]),
        ({}, "named", True, ["named"]),
        ({"STATE_DIRECTORY": "given"}, None, True, ["given"]),
    ],
    ids=["no service", "a service", "named", "within a service"],
)
def test_a_command_is_about_the_service_where_there_is_one(environ, given, installed, found, tmp_path, service):
    if installed:
        service.mkdir()
    own = {"XDG_STATE_HOME": str(tmp_path / "home")}
    at = {"own": tmp_path / "home/mien", "service": service, "given": Path("given"), "named": Path("named")}
    assert find_states(own | environ, given and Path(given)) == [at[name] for name in found]


def test_a_daemon_of_the_persons_own_counts_beside_the_service(tmp_path, service):
    service.mkdir()
    own = tmp_path / "mien"
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    presence = Presence(open_folder(own, shared=False), "kitchen")
    assert find_states(environ) == [service, own]
    presence.close()
    assert find_states(environ) == [service]
    (own / "control/paused").write_text("")
    assert find_states(environ) == [service, own]


def test_who_runs_is_seen_with_what_he_does_until_he_ends(folder):
    assert running(folder) == {}
    kitchen, hall = Presence(folder, "kitchen"), Presence(folder, "hall")
    kitchen.say(READING)
    hall.say(READING)
    hall.say(RESTING)
    assert running(folder) == {"hall": "resting", "kitchen": "reading"}
    kitchen.close()
    assert running(folder) == {"hall": "resting"}
    hall.close()


def test_a_daemon_that_was_killed_does_not_run(folder):
    code = "import os, sys, pathlib; from edge.control import *; p = Presence(pathlib.Path(sys.argv[1]), 'kitchen')"
    code += "; p.say(READING); print(running(pathlib.Path(sys.argv[1]))); sys.stdout.flush(); os.kill(os.getpid(), 9)"
    done = subprocess.run([sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "{'kitchen': 'reading'}\n"
    assert (folder / "running-kitchen").read_text().strip() == "reading"
    assert running(folder) == {}


def test_looking_who_runs_holds_up_no_daemon_that_starts(folder):
    (folder / "running-kitchen").write_text("")
    looking = os.open(folder / "running-kitchen", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_EX)
    subprocess.Popen(["sleep", "0.2"], pass_fds=[looking])
    os.close(looking)
    Presence(folder, "kitchen").close()


def test_whoever_holds_the_folder_for_long_is_told_of(folder, monkeypatch):
    monkeypatch.setattr(edge.control, "LOCK_SECONDS", 0.05)
    with locked(folder), pytest.raises(OutputError, match="control is held by another program"), locked(folder):
        pass
    with locked(folder):
        pass


def test_a_file_is_replaced_whole_and_can_be_read_by_whoever_may_enter_the_folder(folder):
    before = os.umask(0o077)
    try:
        write_small(folder / "file", "one")
        write_small(folder / "file", "two")
    finally:
        os.umask(before)
    assert read_small(folder / "file") == "two"
    assert mode(folder / "file") == 0o644
    assert list(folder.iterdir()) == [folder / "file"]


def test_links_and_pipes_are_not_followed_and_not_waited_for(folder):
    (folder / "secret").write_text("secret")
    (folder / "link").symlink_to("secret")
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="symbolic links"):
        read_small(folder / "link")
    assert read_small(folder / "pipe") == ""
    (folder / "running-x").symlink_to(folder / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        Presence(folder, "x")
    assert (folder / "secret").read_text() == "secret"
