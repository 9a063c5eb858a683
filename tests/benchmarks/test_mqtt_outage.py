"""What follows from an outage's messages, and from the times of vision with MQTT and without; none is had here."""

from copy import deepcopy
from math import inf
from pathlib import Path

import numpy as np
import pytest

from benchmarks import mqtt_vision
from benchmarks.mqtt_device import DEVICE, Clock, Cost, Heard, Outage, steps
from benchmarks.mqtt_outage import HEAD, judge, page, rows, shortcomings, shown
from edge.errors import MienError
from edge.outbox import Outbox


def ident(number: int) -> str:
    return f"{DEVICE}-000001-{number:010d}"


def ts(second: float) -> str:
    return f"1970-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}Z"


def outage(**changes) -> Outage:
    """Event 1 before it, 2 to 5 in it, 6 while they are drained in two seconds; connected at second 100."""
    kept = {
        "connected": Cost(1, 0.0005, 0, 1.0),
        "away": Cost(4, 0.0004, 16_000, 1.0),
        "drained": Cost(5, 0.0003, 4000, 2.0),
        "before": 60_000_000,
        "peak": 61_000_000,
        "peak_drain": 62_000_000,
        "waited": 4,
        "disk": 20_000,
        "connected_at": 100.0,
        "connected_ts": 300.0,
        "drained_at": 102.0,
        "newest": ts(299),
        "live": [(ident(6), 100.5, ts(300.5))],
        "published": 6,
    }
    return Outage(**kept | changes)


EVENTS = [("event", 100.0 + number / 10, ident(number)) for number in (2, 3, 4, 5, 6)]
DOCUMENTS = [
    ("state", 100.01, ts(299)),
    ("health", 100.02, ts(300.01)),
    ("state", 100.75, ts(300.5)),
]


def judged(events=EVENTS, documents=DOCUMENTS, **changes) -> dict:
    return judge(outage(**changes), Heard(99.0, list(events)), Heard(99.0, list(documents)))


def test_the_script_puts_two_events_into_each_second_and_the_outbox_commits_once_in_it(tmp_path):
    clock, commits = Clock(), 0
    outbox = Outbox(tmp_path / "outbox.sqlite", clock=clock)
    for step in steps(100):
        clock.now += step
        outbox.put("{}")
        if (due := outbox.save_in()) is not None and due <= 0:
            outbox.save()
            commits += 1
            assert outbox.unsaved == 0
    assert clock.now == pytest.approx(50.0, abs=0.1)
    assert commits == 50
    outbox.close()


def test_the_clock_goes_on_by_itself_once_it_is_told_to():
    clock = Clock()
    clock.now = 86_400.0
    assert clock() == clock() == 86_400.0
    clock.run()
    assert 86_400.0 <= clock() < 86_460.0
    assert clock() <= clock()


def test_rates_count_from_the_connection():
    told = judged()
    assert told["drain_puback"] == pytest.approx(2.5)  # five in two seconds
    assert told["drain_subscriber"] == pytest.approx(4 / 0.5)  # the four that had waited
    assert (told["missing"], told["twice"], told["out_of_order"]) == (0, 0, 0)


def test_what_is_missing_comes_twice_or_late_is_counted():
    events = [EVENTS[1], EVENTS[0], EVENTS[0], EVENTS[4]]
    told = judged(events)
    assert (told["missing"], told["twice"], told["out_of_order"]) == (2, 1, 1)
    assert judged([])["missing"] == 5
    assert judged([])["drain_subscriber"] == 0.0


def test_a_state_is_current_when_it_shows_the_event_or_a_later_one():
    assert shown([(1.0, ts(1)), (2.0, ts(3)), (3.0, ts(4))], ts(2)) == 2.0
    assert shown([(1.0, ts(1))], ts(2)) == inf
    told = judged()
    assert told["state_at_connection"] == pytest.approx(0.01)
    assert told["state_delay"]["max"] == pytest.approx(0.25)
    assert judged(documents=DOCUMENTS[:2])["state_delay"] is None  # never shown


def test_health_from_before_the_connection_does_not_count():
    assert judged()["health"] == pytest.approx(0.02)
    assert judged(documents=[("health", 100.02, ts(299.5)), ("health", 101.5, ts(301.5))])["health"] == 1.5


def test_a_subscriber_that_came_too_late_proves_nothing():
    with pytest.raises(MienError, match="before the subscribers; run it again"):
        judge(outage(), Heard(100.5, list(EVENTS)), Heard(99.0, list(DOCUMENTS)))


def told(**changes) -> dict:
    """Figures that all do, but for the changes."""
    same = {"ratio": 1.0, "low": 0.9, "high": 1.1}
    found = judged() | {"drain_puback": 9000.0, "drain_subscriber": 9000.0}
    return found | {
        "away": 4,
        "machine": {"processor": "a processor", "cores": 2, "load": 0.1},
        "versions": {"mien": "0.1.0"},
        "vision": {
            "rounds": 12,
            "frames": 240,
            "events_per_second": 8.0,
            "p99": dict.fromkeys(mqtt_vision.VARIANTS, 0.015),
            "compared": dict.fromkeys(mqtt_vision.VARIANTS[1:], same),
        },
        **changes,
    }


def test_figures_that_do_fall_short_of_nothing():
    assert shortcomings(told()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"missing": 3}, "3 events are missing"),
        ({"lost": 1}, "1 events were given up or refused"),
        ({"left": 2}, "2 events were left over"),
        ({"out_of_order": 4}, "4 events came out of order"),
        ({"away": 5}, "4 events waited at the end of the outage, not 5"),
        ({"drain_puback": 1999.0}, "1,999 events/s were drained by PUBACK, not 2,000"),
        ({"drain_subscriber": 1500.0}, "1,500 events/s were drained as a subscriber has them, not 2,000"),
        ({"state_at_connection": 1.5}, "state at the connection took 1500.0 ms, over 1 s"),
        ({"health": inf}, "health took never, over 1 s"),
        ({"state_delay": None}, "state during the drain took never, over 1 s"),
        ({"memory": {"before": 0, "outage": 6_000_000, "drain": 0}}, "memory grew by 6.0 MB in the outage, over 5 MB"),
    ],
)
def test_a_figure_that_falls_short_is_named(changes, said):
    assert shortcomings(told(**changes)) == [said]


def test_vision_falls_short_where_it_is_slower_than_noise_makes_it():
    slower = deepcopy(told())
    slower["vision"]["compared"][mqtt_vision.AWAY] = {"ratio": 1.3, "low": 1.2, "high": 1.4}
    assert shortcomings(slower) == ["vision's 99th percentile, broker away, is 1.30 times as long"]


@pytest.mark.parametrize(
    ("how", "noise", "longer"),
    [
        ((1.3, 1.2, 1.4), (1.0, 0.9, 1.1), True),
        ((1.3, 0.9, 1.6), (1.0, 0.9, 1.1), False),
        ((1.3, 1.2, 1.4), (1.2, 1.0, 1.4), False),
        ((1.3, 1.2, 1.4), (0.8, 0.7, 0.9), False),
        ((0.8, 0.7, 0.9), (1.0, 0.9, 1.1), False),
    ],
)
def test_longer_means_beyond_doubt_and_beyond_the_noise(how, noise, longer):
    names = ("ratio", "low", "high")
    compared = {
        mqtt_vision.CONNECTED: dict(zip(names, how, strict=True)),
        mqtt_vision.AGAIN: dict(zip(names, noise, strict=True)),
    }
    assert mqtt_vision.is_longer(compared, mqtt_vision.CONNECTED) is longer


def test_rounds_are_compared_in_pairs():
    rng = np.random.default_rng(1)
    # The machine is up to ten times slower in some rounds, for both alike.
    rounds = [rng.gamma(4.0, 0.001, 240) * slow for slow in (1, 1, 10, 1, 5, 1, 2, 1)]
    found = mqtt_vision.compare(rounds, [1.5 * taken for taken in rounds])
    assert list(found.values()) == pytest.approx([1.5] * 3)
    other = [rng.permutation(taken) for taken in rounds]
    assert mqtt_vision.compare(rounds, other)["ratio"] == pytest.approx(1.0)


def test_costs_are_told_for_each_event():
    shown_rows = {row[0]: row[1] for row in rows(told())}
    assert shown_rows["processor time per event stored, broker away"] == "100 µs"
    assert shown_rows["written per 1,000 events stored, broker away"] == "4,000.0 kB"
    unknown = told()
    unknown["costs"]["away"]["written"] = None
    assert ["written per 1,000 events stored, broker away", "the kernel does not tell", ""] in rows(unknown)


def test_the_page_holds_the_table_and_leaves_nothing_open():
    assert all(len(line) == len(HEAD) for line in rows(told()))
    text = page(told(), "| a table |", Path("docs/mqtt-outage.md"))
    assert "| a table |" in text
    assert "{" not in text
