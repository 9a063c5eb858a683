"""What systemd tells, by a `systemctl` that is scripted; and who runs Mien."""

import os

import pytest

from edge.doctor_service import Runner, Service, ask_systemd, find_runner, parse_service
from edge.doctor_unit import check_service

RUNS = {
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "NRestarts": "0",
    "Result": "success",
}


def systemctl(machine, script):
    root = machine({"usr/bin/systemctl": f"#!/bin/sh\n{script}\n", "run/systemd/system/x": ""})
    (root / "usr/bin/systemctl").chmod(0o755)
    return root


def test_systemd_is_asked_for_the_unit(machine):
    script = '[ "$1 $2" = "show mien.service" ] && printf "LoadState=loaded\\nActiveState=active\\nUser=mien\\n"'
    service = ask_systemd(systemctl(machine, script))
    assert (service.installed, service.active, service["User"], service["Nonsense"]) == (True, True, "mien", "")


def test_without_systemd_or_its_answer_nothing_is_known(machine, make_subject, monkeypatch):
    assert ask_systemd(machine({"usr/bin/systemctl": ""})) is None
    assert ask_systemd(systemctl(machine, "exit 1")) is None
    monkeypatch.setattr("edge.doctor_service.SYSTEMCTL_SECONDS", 0.1)
    assert ask_systemd(systemctl(machine, "exec sleep 9")) is None
    assert check_service(make_subject()).status == "not here"


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({}, "ok", "active (running)"),
        ({"LoadState": "not-found"}, "not here", "no mien.service"),
        ({"LoadState": "masked"}, "fault", "masked"),
        ({"NRestarts": "3"}, "warning", "started again 3 times"),
        ({"UnitFileState": "disabled"}, "warning", "not started at boot"),
        ({"ActiveState": "inactive", "SubState": "dead"}, "warning", "inactive"),
        ({"ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "78"}, "fault", "last exit code 78"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "ExecMainStatus": "69"}, "fault", "exit code 69"),
        ({"ActiveState": "activating", "SubState": "start-pre", "NRestarts": "9"}, "fault", "started again 9 times"),
        ({"ActiveState": "activating", "SubState": "start"}, "ok", "activating"),
    ],
)
def test_the_services_state_is_told(make_subject, changes, status, said):
    finding = check_service(make_subject(unit=RUNS | changes))
    assert (finding.status, said in finding.found) == (status, True)


def test_an_exit_code_says_where_to_look(make_subject):
    failed = RUNS | {"ActiveState": "failed", "ExecMainStatus": "78"}
    assert check_service(make_subject(unit=failed)).advice.startswith("its configuration is wrong")
    assert "journalctl -u mien.service" in check_service(make_subject(unit=failed | {"ExecMainStatus": "70"})).advice


def test_credentials_are_found_where_systemd_finds_them(machine):
    root = machine({"etc/credstore/mien.mqtt-password": "x", "etc/other": "y"})
    told = "LoadCredential=mqtt-password:mien.mqtt-password\nLoadCredential=source-password:/etc/other\n"
    assert parse_service(told, root).credentials == {
        "mqtt-password": root / "etc/credstore/mien.mqtt-password",
        "source-password": root / "etc/other",
    }
    assert parse_service("LoadCredential=mqtt-password:absent\n", root).credentials == {}


def test_who_runs_mien_is_the_services_user_else_we_ourselves():
    ours = find_runner(None)
    assert (ours.uid, ours.ourselves) == (os.geteuid(), True)
    assert find_runner(Service({"LoadState": "not-found", "User": "nobody"})).ourselves
    assert find_runner(Service({"LoadState": "loaded", "User": "nobody-by-that-name"})).ourselves
    nobody = find_runner(Service({"LoadState": "loaded", "User": "nobody", "SupplementaryGroups": "video absent"}))
    assert (nobody.name, nobody.ourselves) == ("nobody", False)
    assert len(nobody.gids) > 1


@pytest.mark.parametrize(
    ("mode", "owns", "in_group", "may"),
    [
        (0o600, True, False, True),
        (0o060, False, True, True),
        (0o006, False, False, True),
        (0o066, True, False, False),
        (0o606, False, True, False),
        (0o660, False, False, False),
        (0o440, True, True, False),
    ],
)
def test_permissions_are_those_of_owner_group_or_others_as_the_kernel_has_it(tmp_path, mode, owns, in_group, may):
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    told = file.stat()
    groups = frozenset({told.st_gid} if in_group else ())
    someone = Runner("someone", told.st_uid if owns else 64001, groups, ourselves=False)
    # Not `may`: the folders above are pytest's own, for their owner alone.
    assert someone._has(file, os.R_OK | os.W_OK) is may
