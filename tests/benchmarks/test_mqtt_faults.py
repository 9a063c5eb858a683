import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.mqtt_account import QUIET, Fault, account, shortcomings
from benchmarks.mqtt_faults import KINDS, page, rows, script

ROOT = Path(__file__).parents[2]


def names(start, *numbers):
    return [f"faults-{start:06d}-{number:010d}" for number in numbers]


def test_every_kind_comes_as_often_as_the_others_in_an_order_that_the_seed_decides():
    kinds = script(100, list(KINDS), random.Random(1))  # noqa: S311
    assert set(Counter(kinds).values()) == {9, 10}
    assert set(kinds) == set(KINDS)
    assert kinds == script(100, list(KINDS), random.Random(1)) != script(100, list(KINDS), random.Random(2))  # noqa: S311


def test_an_event_belongs_to_the_fault_that_had_begun_when_it_was_published():
    first, second, third = names(1, 1, 2, 3)
    faults = [Fault(QUIET, 0.0), Fault("broker killed", 10.0, 0.5), Fault("network cut", 20.0, 1.5)]
    accounts = account(
        faults, {first: 9.9, second: 10.0, third: 25.0}, [first, second, third], set(), {}, [first, second, third]
    )
    assert {kind: told.events for kind, told in accounts.items()} == {
        "broker killed": 1,
        "network cut": 1,
        QUIET: 1,
    }
    assert accounts["network cut"].recoveries == [1.5]
    assert all(not told.missing and not told.last_second for told in accounts.values())


def test_only_what_a_killed_publisher_published_in_its_last_second_is_excused():
    old, fresh, later = names(1, 1, 2) + names(2, 1)
    published = {old: 98.9, fresh: 99.5, later: 101.0}
    accounts = account([Fault("publisher killed", 90.0)], published, [], set(), {1: 100.0}, [])
    assert accounts["publisher killed"].last_second == [0.5]
    assert accounts["publisher killed"].missing == 2


def test_what_the_outbox_had_no_room_for_is_counted_apart_unless_it_arrived():
    given_up, arrived, lost = names(1, 1, 2, 3)
    published = {given_up: 1.0, arrived: 2.0, lost: 3.0}
    fault = [Fault("disk full, broker away", 0.0)]
    told = account(fault, published, [arrived], {given_up, arrived}, {}, [arrived])["disk full, broker away"]
    assert (told.given_up, told.missing) == (1, 1)


def test_repeated_ids_are_doubled_and_only_a_first_arrival_can_be_out_of_order():
    one, two, three = names(1, 1, 2, 3)
    published = {one: 1.0, two: 2.0, three: 3.0}
    told = account([Fault("network cut", 0.0)], published, published, set(), {}, [one, two, one, two, three])[
        "network cut"
    ]
    assert (told.doubled, told.disordered) == (2, 0)
    told = account([Fault("network cut", 0.0)], published, published, set(), {}, [two, one, three])["network cut"]
    assert (told.doubled, told.disordered) == (0, 1)


def measured(missing=0, **changes):
    accounts = {"disk full, broker away": {"times": 2, "events": 1200, "last_second": [0.4],
                                           "given_up": 7, "missing": 0, "doubled": 3, "disordered": 0,
                                           "recoveries": [1.0, 3.0]},
                QUIET: {"times": 2, "events": 5, "last_second": [], "given_up": 0, "missing": missing,
                        "doubled": 0, "disordered": 0, "recoveries": [0.0, 0.0]}}  # fmt: skip
    return {
        "machine": {"processor": "a processor", "cores": 2, "load": 0.5}, "isolated": True, "faults": 2, "least": 1000,
        "seed": 1, "rate": 60.0, "seconds": 120.0, "accounts": accounts, "given_up": 7, "commits": [0.01, 0.02],
        "live": [40, 50], "resumed": 2, "filled": 2, "unseen": 0,
    } | changes  # fmt: skip


def test_what_was_given_up_and_counted_is_no_shortcoming_and_anything_else_is():
    assert shortcomings(measured()) == []
    assert shortcomings(measured(missing=2)) == ["2 events were lost"]
    assert shortcomings(measured(live=[0, 50])) == ["nothing was published during 1 of 2 full disks"]
    assert shortcomings(measured(resumed=1)) == ["storing resumed 1 times after 2 full disks"]
    told = measured()
    told["accounts"][QUIET]["disordered"] = 1
    assert shortcomings(told) == ["1 events were out of order"]


def test_the_table_sums_up_and_the_page_says_what_falls_short(tmp_path):
    assert rows(measured()) == [
        ["disk full, broker away", "2", "1,200", "1", "7", "0", "3", "0", "2.0, 3.0 s"],
        [QUIET, "", "5", "0", "0", "0", "0", "0", ""],
        ["all", "2", "1,205", "1", "7", "0", "3", "0", ""],
    ]
    assert rows(measured(missing=2))[1][4:6] == ["0", "2"]
    path = tmp_path / "page.md"
    assert "Every event reached the broker, in order" in page(measured(), "the table", path)
    assert "**Falls short: 2 events were lost.**" in page(measured(missing=2), "the table", path)


@pytest.mark.broker
def test_a_cut_network_costs_nothing_also_where_there_are_no_namespaces():
    if not shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin") or not shutil.which("openssl"):
        pytest.skip("mosquitto or openssl is not installed")
    options = ["--no-namespaces", "--only", "network cut", "--faults", "1", "--events", "100", "--json"]
    command = [sys.executable, "-m", "benchmarks.mqtt_faults", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert told["isolated"] is False
    assert sum(each["events"] for each in told["accounts"].values()) >= 100
    assert sum(each["missing"] for each in told["accounts"].values()) == 0
