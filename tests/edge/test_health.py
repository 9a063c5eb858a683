import json
import math
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import edge.health
from edge import __version__
from edge.board import REASONS
from edge.health import MAX_LATENCIES, WINDOW_SECONDS, Health, Latency, Queue, Snapshot


class Machine:
    """A clock and a processor that go on when told to."""

    def __init__(self):
        self.time, self.used = 1000.0, 7.0

    def pass_(self, seconds, busy=0.0):
        self.time += seconds
        self.used += seconds * busy


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def make(machine, tmp_path):
    def make(*, live=True, **changes):
        values = {
            "device": "kitchen",
            "model": "mien-v1-48@3f9c21d0",
            "clock": lambda: machine.time,
            "processor": lambda: machine.used,
            "now": lambda: datetime(2026, 11, 21, 3, 0, 0, 123_000, tzinfo=UTC),
            "clock_synced": lambda: True,
            "root": tmp_path,
        }
        health = Health(live=live, **(values | changes))
        return health, health.snapshot

    return make


def look(health, machine, *, late=0.05, faces=0, events=0, skipped=0):
    health.looked(machine.time - late, faces=faces, events=events, skipped=skipped)


def test_before_the_first_frame_nothing_is_made_up(make):
    _, snapshot = make()
    assert json.loads(snapshot().to_json()) == {
        "schema": "mien/health/1",
        "device": "kitchen",
        "ts": "2026-11-21T03:00:00.123Z",
        "clock_synced": True,
        "version": __version__,
        "model": "mien-v1-48@3f9c21d0",
        "refused_model": None,
        "uptime": 0.0,
        "paused": False,
        "frames": 0,
        "skipped": 0,
        "events": 0,
        "fps": 0.0,
        "frame_age": None,
        "faces": 0,
        "latency": None,
        "temperature": None,
        "throttling": None,
        "memory": None,
        "cpu": 0.0,
        "sinks": {},
        "outbox": None,
    }


def test_frames_events_faces_and_what_was_skipped_are_counted(make, machine):
    health, snapshot = make()
    for number in range(30):
        machine.pass_(0.1)
        look(health, machine, faces=number % 3, events=2 * (number == 7), skipped=number // 2)
    seen = snapshot()
    assert (seen.frames, seen.skipped, seen.events, seen.faces) == (30, 14, 2, 2)
    assert (seen.uptime, seen.fps) == (3.0, 10.0)


def test_rate_and_processor_share_are_those_of_the_last_minute(make, machine):
    health, snapshot = make()
    for rate, busy in [(20, 1.5), (5, 0.25)]:
        for _ in range(rate * 90):
            machine.pass_(1 / rate, busy)
            look(health, machine)
    seen = snapshot()
    assert seen.fps == pytest.approx(5, rel=0.02)
    assert seen.cpu == pytest.approx(0.25, rel=0.02)


def test_a_camera_that_went_silent_shows_in_age_and_rate(make, machine):
    health, snapshot = make()
    for _ in range(100):
        machine.pass_(0.1)
        look(health, machine, late=0.04)
    assert snapshot().frame_age == 0.04
    for _ in range(4):
        machine.pass_(30)
        seen = snapshot()
    assert (seen.fps, seen.frame_age) == (0.0, 120.04)


def test_a_pause_is_told_and_ages_no_frame(make, machine):
    paused = False
    health, snapshot = make(paused=lambda: paused)
    look(health, machine, faces=2)
    machine.pass_(100)
    seen = snapshot()
    assert (seen.paused, seen.frame_age, seen.faces) == (False, 100.05, 2)
    paused = True
    seen = snapshot()
    assert (seen.paused, seen.frame_age, seen.faces) == (True, None, 0)


def test_latencies_are_percentiles_in_milliseconds_from_capture_to_the_sinks(make, machine):
    health, snapshot = make()
    for number in range(100):
        machine.pass_(0.1)
        look(health, machine, late=(number + 1) / 1000, events=1)
        look(health, machine, late=9.0)
    assert snapshot().latency == Latency(50.0, 95.0, 99.0)


def test_latencies_of_more_than_a_minute_ago_are_forgotten(make, machine):
    health, snapshot = make()
    look(health, machine, late=5.0, events=1)
    machine.pass_(WINDOW_SECONDS - 1)
    look(health, machine, late=0.02, events=1)
    assert snapshot().latency == Latency(20.0, 5000.0, 5000.0)
    machine.pass_(2)
    assert snapshot().latency == Latency(20.0, 20.0, 20.0)
    machine.pass_(WINDOW_SECONDS)
    assert snapshot().latency is None


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300))
def test_a_percentile_is_a_latency_that_was_had_and_so_many_were_no_longer(latencies):
    health = Health(device="a", model="m", live=True, clock=lambda: 100.0)
    for latency in latencies:
        health.looked(100.0 - latency, faces=1, events=1, skipped=0)
    had = sorted(round((100.0 - (100.0 - latency)) * 1e3, 1) for latency in latencies)
    for share, value in zip((0.5, 0.95, 0.99), health.snapshot().latency, strict=True):
        assert value in had
        assert sum(one <= value for one in had) >= math.ceil(share * len(had))


def test_counting_for_days_takes_no_more_memory_than_for_a_minute(make, machine):
    health, _ = make()
    for _ in range(3 * MAX_LATENCIES):
        machine.pass_(0.9)
        look(health, machine, events=1)
        assert len(health._marks) <= WINDOW_SECONDS + 2
    assert len(health._latencies) == MAX_LATENCIES


def test_a_files_frames_have_no_latency_and_their_age_is_counted_from_when_they_were_looked_at(make, machine):
    health, snapshot = make(live=False)
    health.looked(0.04, faces=1, events=1, skipped=0)
    machine.pass_(2.5)
    seen = snapshot()
    assert (seen.latency, seen.frame_age, seen.events) == (None, 2.5, 1)


def test_a_frame_that_seems_to_come_from_the_future_has_no_negative_age(make, machine):
    health, snapshot = make()
    look(health, machine, late=-1.0, events=1)
    assert (snapshot().frame_age, snapshot().latency) == (0.0, Latency(0.0, 0.0, 0.0))


def test_on_a_pi_temperature_throttling_and_memory_are_told(make, tmp_path):
    for name, content in {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "61800",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "80008",
        "proc/self/statm": "9 8 7 6 5 4 3",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    _, snapshot = make()
    told = snapshot().to_dict()
    assert told["temperature"] == 61.8
    assert told["memory"] > 0
    calm = {"now": False, "since_boot": False}
    assert told["throttling"] == dict.fromkeys(REASONS, calm) | {"soft_temp_limit": {"now": True, "since_boot": True}}


def test_every_sink_tells_what_waits_for_it_and_what_it_lost(make):
    queues = {"log": Queue(0, 0), "mqtt": Queue(172_800, 3)}
    _, snapshot = make(queues=lambda: queues, outbox=lambda: 172_790)
    told = snapshot().to_dict()
    assert told["sinks"] == {"log": {"waiting": 0, "lost": 0}, "mqtt": {"waiting": 172_800, "lost": 3}}
    assert told["outbox"] == 172_790


def test_a_model_that_did_not_come_up_is_told(make):
    _, snapshot = make(refused="mine@0011aabb")
    assert snapshot().to_dict()["refused_model"] == "mine@0011aabb"


def test_a_snapshot_is_one_line(make):
    _, snapshot = make(queues=lambda: {"log": Queue(0, 0)})
    assert "\n" not in snapshot().to_json()


def test_schema_and_dataclass_name_the_same_fields(health_validator):
    names = {"schema"} | {field.name for field in fields(Snapshot)}
    assert set(health_validator.schema["required"]) == set(health_validator.schema["properties"]) == names
    assert health_validator.schema["properties"]["schema"]["const"] == edge.health.SCHEMA
    assert tuple(health_validator.schema["properties"]["throttling"]["required"]) == REASONS


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": "mien/health/2"},
        {"fps": None},
        {"frames": 1.5},
        {"skipped": -1},
        {"latency": {"p50": 1.0}},
        {"throttling": {"throttled": True}},
        {"sinks": {"log": 3}},
        {"ts": "2026-11-21"},
    ],
)
def test_the_schema_refuses_what_is_no_snapshot(make, health_validator, wrong):
    _, snapshot = make()
    assert not health_validator.is_valid(snapshot().to_dict() | wrong)
