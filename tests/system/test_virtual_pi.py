"""A whole Pi that is not there comes through what real ones meet.

`benchmarks.virtual_pi` says how; here stands what must come out. Each test boots an emulated computer, which takes
minutes.
"""

import os

import pytest

from benchmarks.virtual_pi import faults, plug
from benchmarks.virtual_pi.__main__ import show
from benchmarks.virtual_pi.base import find_tools
from benchmarks.virtual_pi.first_boot import first_boot
from benchmarks.virtual_pi.image import open_image
from edge.errors import UnavailableError


@pytest.fixture(scope="module")
def package(request):
    if not os.environ.get("MIEN_SYSTEM"):
        pytest.skip("takes an hour and a network; make test-system runs it")
    try:
        find_tools()
    except UnavailableError as error:
        pytest.skip(str(error))
    (made,) = request.getfixturevalue("kits")["kit"].glob("mien_*_arm64.deb")
    return made


@pytest.fixture
def play(package, capsys):
    """Plays a scenario and prints its figures."""

    def run(scenario, *arguments, image=None, **options):
        result = scenario(image or open_image(package), *arguments, **options)
        with capsys.disabled():
            print(f"\n{show(result)}")
        return result.values

    return run


def test_the_first_event_comes_by_itself_after_power_on(play):
    told = play(faults.boot)
    assert told["event"]["type"] == "appeared"
    assert told["event"]["frame"] == [640, 480]
    assert len(set(told["ids"])) == len(told["ids"])
    assert told["first"] < 300


def test_a_killed_daemon_is_started_again_and_repeats_no_id(play):
    told = play(faults.kill)
    assert told["restarts"] == 1
    assert told["recovered"] < 120


def test_the_watchdog_ends_a_daemon_whose_vision_hangs_and_it_starts_again(play):
    told = play(faults.hang)
    assert 15 <= told["noticed"] < 60
    assert told["recovered"] < 180


def test_a_lost_camera_ends_the_daemon_with_69_until_it_is_back(play):
    told = play(faults.lose_camera)
    assert told["noticed"] < 60
    assert told["attempts"] >= 2
    assert told["pauses"] == sorted(told["pauses"])
    assert told["recovered"] < 240


def test_no_event_is_lost_while_the_broker_is_away(play):
    told = play(faults.lose_broker)
    assert told["lost"] == []
    assert len(told["logged"]) > told["gone"]
    assert [ident for number, ident in enumerate(told["ids"]) if ident not in told["ids"][:number]] == sorted(
        set(told["ids"])
    )


def test_a_clock_that_is_put_right_while_it_runs_is_told_of_and_keeps_the_order(play):
    told = play(faults.wrong_clock)
    assert told["logged"] == told["ids"]


def test_card_log_outbox_and_ids_come_through_power_cuts_at_random_moments(play):
    cuts = int(os.environ.get("MIEN_POWER_CUTS", "20"))
    told = play(plug.cut_power, times=cuts, tell=print)
    assert told["unsent"] == []


def test_card_log_outbox_and_ids_come_through_a_cut_that_costs_the_cards_own_cache(play):
    told = play(plug.lose_cache, tell=print)
    assert told["lost"] > 0


def test_a_model_works_wherever_an_update_is_cut_off(play):
    told = play(plug.interrupt_update, tell=print)
    assert told["used"][0] != told["used"][1]


def test_a_flashed_boot_partition_installs_mien_without_a_network_and_keeps_no_secret(play, package):
    told = play(first_boot, package, image=open_image(None))
    assert told["event"]["device"].startswith("kitchen")
    for wanted in ("kitchen\n", "sudo", "ada@example", "Europe/Berlin", "\n600\n", "\nenabled\n"):
        assert wanted in told["found"]
