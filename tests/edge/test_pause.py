"""What a pause is, and when it ends: over reboots, without a clock, and whatever lies in its file."""

import json
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.control import locked, open_folder
from edge.errors import OutputError
from edge.pause import Clocks, Pause, PauseWatch, is_paused, pause, read_pause, resume

DATE = 1_800_000_000.0


class Machine:
    """Its clocks go on when told to; `reboot` starts the one that counts from the machine's start anew."""

    def __init__(self, *, synced=True):
        self.uptime, self.date, self.synced = 5000.0, DATE, synced
        self.clocks = Clocks(lambda: self.uptime, lambda: self.date, lambda: self.synced)

    def pass_(self, seconds):
        self.uptime += seconds
        self.date += seconds

    def reboot(self, *, off=0.0, synced=False):
        self.uptime, self.synced = 10.0, synced
        self.date += off


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path, shared=False)


@pytest.fixture
def machine():
    return Machine()


def watch(folder, machine):
    return PauseWatch(folder, clocks=machine.clocks)


def test_nobody_has_asked(folder, machine):
    daemon = watch(folder, machine)
    assert (daemon.look(), daemon.asked, read_pause(folder)) == (False, False, None)
    assert not resume(folder)


def test_a_pause_lasts_until_somebody_resumes_over_every_restart(folder, machine):
    pause(folder, clocks=machine.clocks)
    for _ in range(3):
        machine.pass_(1e6)
        machine.reboot()
        assert watch(folder, machine).look()
    assert resume(folder)
    daemon = watch(folder, machine)
    assert not daemon.look()
    assert not daemon.asked


def test_a_pause_for_some_time_ends_by_itself_and_leaves_nothing(folder, machine):
    pause(folder, 7200, clocks=machine.clocks)
    daemon = watch(folder, machine)
    machine.pass_(7199)
    assert daemon.look()
    machine.pass_(1)
    assert not daemon.look()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_is_set_meanwhile_neither_shortens_nor_lengthens_it(jump, folder):
    machine = Machine(synced=False)
    pause(folder, 7200, clocks=machine.clocks)
    daemon = watch(folder, machine)
    machine.pass_(3600)
    machine.date, machine.synced = machine.date + jump, True
    assert daemon.look()
    machine.pass_(3600)
    assert not daemon.look()


def test_behind_a_reboot_it_ends_at_its_time_once_the_clock_is_set(folder, machine):
    pause(folder, 7200, clocks=machine.clocks)
    machine.pass_(1000)
    machine.reboot(off=6000)
    daemon = watch(folder, machine)
    assert daemon.look()
    machine.pass_(250)
    assert daemon.look()
    machine.synced = True
    assert not daemon.look()


def test_behind_a_reboot_without_a_clock_it_lasts_its_whole_time_again_and_no_longer(folder):
    machine = Machine(synced=False)
    pause(folder, 3600, clocks=machine.clocks)
    machine.reboot(off=5000)
    assert watch(folder, machine).look()
    machine.pass_(3500)
    assert watch(folder, machine).look()  # a restart of the daemon alone begins nothing anew
    machine.pass_(101)
    assert not watch(folder, machine).look()


@given(st.floats(1, 1e6), st.floats(0, 1e6), st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e5)), max_size=5))
def test_it_never_ends_early_however_often_the_machine_is_started(lasts, uptime, starts):
    asked, passed = Pause(lasts, uptime + lasts), 0.0
    for up, off in starts:
        passed += off
        asked = asked.since_start(10.0)
        if not asked.left(10.0 + up, None):
            assert passed + up + 10.0 >= lasts - 1.0
            return
        assert asked.left(10.0 + up, None) <= lasts + 1.0
        passed += 10.0 + up


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        "yes",
        "\0\xff",
        "[" * 100_000,
        '{"lasts": -1}',
        '{"lasts": 1, "ends": null}',
        '{"lasts": true, "ends": 1}',
        '{"lasts": NaN, "ends": NaN}',
        '{"lasts": 1e300, "ends": 1e300}',
        f'{{"lasts": {"1" * 400}, "ends": 1}}',
        '{"lasts": "2h", "ends": 3}',
    ],
)
def test_whatever_the_file_holds_it_is_a_pause(content, folder, machine):
    (folder / "paused").write_text(content)
    assert read_pause(folder) == Pause()
    assert watch(folder, machine).look()
    assert Pause().left(1e12, 1e12) == inf


def test_what_is_no_file_is_a_pause_too(folder, machine):
    (folder / "paused").symlink_to("/nowhere")
    assert watch(folder, machine).look()
    (folder / "paused").unlink()
    (folder / "paused").mkdir()
    assert watch(folder, machine).look()


def test_the_last_word_counts(folder, machine):
    pause(folder, 10, clocks=machine.clocks)
    pause(folder, clocks=machine.clocks)
    machine.pass_(1e6)
    assert watch(folder, machine).look()
    pause(folder, 10, clocks=machine.clocks)
    assert json.loads((folder / "paused").read_text()) == {
        "lasts": 10,
        "ends": machine.uptime + 10,
        "until": machine.date + 10,
    }
    machine.pass_(11)
    assert not watch(folder, machine).look()


def test_one_whose_time_is_over_ends_also_while_the_folder_is_held(folder, machine, monkeypatch, caplog):
    monkeypatch.setattr("edge.control.LOCK_SECONDS", 0.02)
    pause(folder, 10, clocks=machine.clocks)
    machine.pass_(11)
    daemon = watch(folder, machine)
    with locked(folder):
        assert not daemon.look()
        assert not daemon.look()
        with pytest.raises(OutputError, match="held by another program"):
            resume(folder)
    assert len(caplog.records) == 1
    assert not daemon.look()
    assert list(folder.iterdir()) == []


def test_whether_it_is_paused_can_be_asked_without_a_change(folder, machine):
    asked = []
    for seconds in (None, 10):
        pause(folder, seconds, clocks=machine.clocks)
        asked.append(is_paused(folder, clocks=machine.clocks))
    machine.pass_(11)
    asked.append(is_paused(folder, clocks=machine.clocks))
    assert asked == [True, True, False]
    assert (folder / "paused").exists()
    assert not is_paused(folder / "nowhere")
