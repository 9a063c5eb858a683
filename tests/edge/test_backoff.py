import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.backoff import FILE, LONGEST_SECONDS, STEADY_SECONDS, after, before, main, pause

ROOT = Path(__file__).parents[2]


class Machine:
    """Its clock goes on while somebody sleeps and while the daemon runs."""

    def __init__(self, folder):
        self.folder, self.now, self.slept = folder, 50.0, []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def start(self, *, runs, result="exit-code"):
        """Start the daemon and let it run for some seconds; returns how long it had to wait."""
        self.slept = []
        before(self.folder, clock=lambda: self.now, sleep=self.sleep)
        self.now += runs
        after(self.folder, result)
        return sum(self.slept)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_pause_doubles_and_has_a_longest():
    assert [pause(failures) for failures in range(9)] == [0, 0, 4, 8, 16, 32, 64, 120, 120]
    assert pause(10**9) == LONGEST_SECONDS


def test_one_failure_is_followed_by_a_start_at_once_and_many_by_longer_and_longer_pauses(machine):
    assert [machine.start(runs=3) for _ in range(9)] == [0, 0, 4, 8, 16, 32, 64, 120, 120]


def test_a_good_run_however_it_ends_begins_anew(machine):
    for _ in range(6):
        machine.start(runs=3)
    assert machine.start(runs=STEADY_SECONDS) == 64
    assert [machine.start(runs=3), machine.start(runs=3)] == [0, 4]


def test_who_stops_or_restarts_the_service_does_not_wait(machine):
    for _ in range(6):
        machine.start(runs=3)
    machine.start(runs=3, result="success")
    assert machine.start(runs=3) == 0


@pytest.mark.parametrize("result", ["exit-code", "signal", "watchdog", "timeout", "oom-kill", "protocol", ""])
def test_whatever_else_systemd_calls_it_is_a_failure(result, machine):
    assert [machine.start(runs=3, result=result) for _ in range(3)] == [0, 0, 4]


@pytest.mark.parametrize("content", [b"", b"many 1", b"3", b"\xff", b"1 2 3"])
def test_a_count_that_cannot_be_read_is_one_failure(content, machine, tmp_path):
    (tmp_path / FILE).write_bytes(content)
    assert machine.start(runs=3) == 0
    assert machine.start(runs=3) == 4


def test_it_is_said_how_long_the_wait_is_and_how_to_end_it(machine, capsys):
    for _ in range(3):
        machine.start(runs=3)
    said = capsys.readouterr().err
    assert "failed 2 times in a row, starts again in 4 s" in said
    assert "systemctl restart mien" in said


@pytest.mark.parametrize("role", ["before", "after"])
def test_a_folder_that_cannot_be_used_is_no_reason_not_to_start(role, tmp_path, capsys):
    (tmp_path / "file").touch()
    environ = {"RUNTIME_DIRECTORY": str(tmp_path / "file/below"), "SERVICE_RESULT": "success"}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["backoff", role], environ) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert "starts without a pause" in capsys.readouterr().err


def test_a_stop_ends_the_wait_in_good_order(tmp_path):
    (tmp_path / FILE).write_text(f"6 {time.monotonic():.0f}\n")
    command = [sys.executable, "-P", "-m", "edge.backoff", "before"]
    with subprocess.Popen(
        command, env={"RUNTIME_DIRECTORY": str(tmp_path), "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as waiting:
        assert "starts again in 120 s" in waiting.stderr.readline()
        waiting.terminate()
        assert waiting.wait(5) == 0
