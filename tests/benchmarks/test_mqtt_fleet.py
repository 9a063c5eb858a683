"""What the fleet's benchmark counts, and a short run before a real mosquitto."""

import shutil

import pytest

from benchmarks.mqtt_fleet import (
    HEAD,
    Camera,
    Plan,
    Published,
    judge,
    measure,
    out_of_order,
    percentiles,
    rows,
    schedule,
    shortcomings,
)
from benchmarks.telling import aligned
from edge.labels import FER2013_LABELS

PLAN = Plan(devices=2, rate=1.0, seconds=2.0)


def told(arrived, **changes):
    ids = ["a-000001-1", "b-000001-1", "a-000001-2", "b-000001-2"]
    published = [Published([(id_, at / 2, 0.001) for at, id_ in enumerate(ids)], cpu=0.2, threads=7)]
    return judge(PLAN, published, arrived) | {"cpu_broker": 0.1} | changes


WELL = [("a-000001-1", 0.01), ("b-000001-1", 0.51), ("a-000001-2", 1.01), ("b-000001-2", 1.51)]


def test_devices_take_turns_evenly_within_each_period():
    assert list(schedule(2, 2.0, 1.0)) == [(0.0, 0), (0.25, 1), (0.5, 0), (0.75, 1)]


def test_all_that_arrive_in_time_fall_short_of_nothing():
    found = told(WELL)
    assert (found["published"], found["missing"], found["twice"], found["out_of_order"]) == (4, 0, 0, 0)
    assert found["delay"]["max"] == pytest.approx(0.01)
    assert found["per_second"] == pytest.approx(2.0)
    assert shortcomings(found) == []
    assert len(aligned([HEAD, *rows(found)]).splitlines()) == len(rows(found)) + 2


def test_one_that_is_missing_one_that_came_twice_and_one_too_late_are_told():
    found = told([*WELL[:3], WELL[0]])
    assert (found["missing"], found["twice"], found["out_of_order"]) == (1, 1, 0)
    assert shortcomings(found) == ["1 missing"]
    late = told([*WELL[:3], ("b-000001-2", 2.0)])
    assert late["delay"]["max"] == pytest.approx(0.5)
    assert "the delay's 99th percentile is not under 250 ms" in shortcomings(late)


def test_the_first_arrival_counts_for_the_delay():
    assert told([*WELL, ("a-000001-1", 9.0)])["delay"]["max"] == pytest.approx(0.01)


def test_too_few_events_a_second_are_no_measurement():
    assert "too busy" in shortcomings(told(WELL, per_second=1.9))[0]


def test_order_is_each_devices_own_and_a_repetition_breaks_none():
    assert out_of_order(["a-1-2", "b-1-1", "a-1-3", "a-1-2"]) == 0
    assert out_of_order(["a-1-2", "a-1-1", "b-1-1"]) == 1


def test_nothing_has_no_percentiles():
    assert percentiles([]) is None


def test_each_look_is_an_event_of_its_own_with_scores_that_add_up():
    camera = Camera("kitchen")
    events = [camera.look() for _ in range(50)]
    assert len({event.id for event in events}) == 50
    assert [event.type for event in events] == ["appeared"] + ["changed"] * 49
    assert all(sum(event.scores.values()) == pytest.approx(1) for event in events)
    assert {event.expression for event in events} == set(FER2013_LABELS)


@pytest.mark.broker
@pytest.mark.skipif(shutil.which("mosquitto", path="/usr/sbin:/usr/bin") is None, reason="mosquitto is not installed")
def test_a_few_devices_lose_nothing():
    found = measure(Plan(devices=4, rate=5.0, seconds=1.0))
    assert found["published"] == found["received"] == 20
    assert (found["missing"], found["given_up"], found["out_of_order"], found["problems"]) == (0, 0, 0, [])
