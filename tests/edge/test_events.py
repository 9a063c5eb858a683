import json
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator

import edge.events
from edge.events import APPEARED, CHANGED, GONE, TYPES, UPDATED, Event, Reporter, format_time, round_scores
from edge.frame import Box, Face, Frame
from edge.labels import FER2013_LABELS, UNCERTAIN
from edge.smoothing import Reading

SCHEMA = json.loads((Path(edge.events.__file__).with_name("event.schema.json")).read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER)
BEGAN = datetime(2026, 11, 21, 3, tzinfo=UTC)


def frame(time, number=0):
    return Frame(np.zeros((480, 640), np.uint8), time, number)


def face(track, x=212):
    return Face(Box(x, 96, 118, 118), track)


def reading(expression, seed=0):
    scores = np.random.default_rng(seed).dirichlet(np.ones(7)).astype(np.float32)
    return Reading(expression, float(scores.max()), scores)


@pytest.fixture
def reporter():
    made = Reporter(
        device="kitchen",
        labels=FER2013_LABELS,
        model="mien-v1-48@3f9c21d0",
        start=12,
        every=5.0,
        now=lambda frame: BEGAN + timedelta(seconds=frame.time),
        clock_synced=lambda: True,
    )
    events = []

    def collect(new):
        for event in new:
            VALIDATOR.validate(json.loads(event.to_json()))
        events.extend(new)
        return new

    class Checked:
        update = staticmethod(lambda *args: collect(made.update(*args)))
        finish = staticmethod(lambda *args: collect(made.finish(*args)))

    yield Checked
    ids = [event.id for event in events]
    assert ids == sorted(set(ids))


def types(events):
    return [(event.type, event.track) for event in events]


def test_a_face_appears_once_is_updated_at_most_every_five_seconds_and_goes(reporter):
    seen = [
        types(reporter.update(frame(time), [(face(7), reading("happy"))])) for time in (0, 1, 4.9, 5.0, 6, 9.9, 10.1)
    ]
    assert seen == [[(APPEARED, 7)], [], [], [(UPDATED, 7)], [], [], [(UPDATED, 7)]]
    assert types(reporter.update(frame(11), [])) == [(GONE, 7)]
    assert reporter.update(frame(12), []) == []


def test_a_change_is_published_at_once_with_what_was_before_and_for_how_long(reporter):
    reporter.update(frame(1.0), [(face(7), reading("neutral"))])
    reporter.update(frame(2.0), [(face(7), reading("neutral"))])
    [changed] = reporter.update(frame(5.2), [(face(7), reading("happy"))])
    assert (changed.type, changed.expression, changed.previous, changed.since) == (CHANGED, "happy", "neutral", 4.2)
    [again] = reporter.update(frame(5.3), [(face(7), reading(UNCERTAIN))])
    assert (again.previous, again.since, again.expression) == ("happy", 0.1, UNCERTAIN)


def test_a_change_counts_as_an_update(reporter):
    reporter.update(frame(0), [(face(7), reading("neutral"))])
    reporter.update(frame(4), [(face(7), reading("happy"))])
    assert reporter.update(frame(6), [(face(7), reading("happy"))]) == []
    assert types(reporter.update(frame(9), [(face(7), reading("happy"))])) == [(UPDATED, 7)]


def test_who_has_gone_is_told_before_who_came_and_where_they_were_last(reporter):
    reporter.update(frame(0), [(face(2, x=1), reading("sad")), (face(1, x=300), reading("sad"))])
    reporter.update(frame(0.1), [(face(2, x=5), reading("sad", seed=3)), (face(1, x=300), reading("sad"))])
    events = reporter.update(frame(0.2), [(face(3), reading("fear"))])
    assert types(events) == [(GONE, 1), (GONE, 2), (APPEARED, 3)]
    assert events[1].box == (5, 96, 118, 118)
    assert events[1].scores == dict(zip(FER2013_LABELS, round_scores(reading("sad", 3).scores.tolist()), strict=True))


def test_at_the_end_all_who_are_left_are_said_gone(reporter):
    assert reporter.finish(None) == []
    reporter.update(frame(0), [(face(2), reading("sad")), (face(9), reading("sad"))])
    events = reporter.finish(None)
    assert types(events) == [(GONE, 2), (GONE, 9)]
    assert reporter.finish(frame(1)) == []


def test_a_clock_that_jumps_back_neither_silences_a_face_nor_gives_negative_durations(reporter):
    reporter.update(frame(1000), [(face(7), reading("sad"))])
    assert types(reporter.update(frame(3), [(face(7), reading("sad"))])) == [(UPDATED, 7)]
    [changed] = reporter.update(frame(4), [(face(7), reading("happy"))])
    assert changed.since == 0


def test_a_box_in_a_region_is_told_in_pixels_of_the_whole_frame_also_when_the_frame_changes(reporter):
    region = Frame(np.zeros((240, 320), np.uint8), 0.0, 0, origin=(300, 200), whole=(640, 480))
    [appeared] = reporter.update(region, [(Face(Box(20, 30, 50, 60), 7), reading("happy"))])
    assert (appeared.box, appeared.frame) == ((320, 230, 50, 60), (640, 480))
    larger = Frame(np.zeros((480, 640), np.uint8), 0.1, 1, origin=(600, 400), whole=(1280, 960))
    [gone] = reporter.update(larger, [])
    assert (gone.box, gone.frame) == ((320, 230, 50, 60), (640, 480))


def test_an_event_is_the_object_that_is_documented(reporter):
    [appeared] = reporter.update(frame(0.123), [(face(7), reading("happy"))])
    assert appeared.id == "kitchen-000012-0000000001"
    values = json.loads(appeared.to_json())
    scores = values.pop("scores")
    assert list(scores) == list(FER2013_LABELS)
    assert sum(scores.values()) == pytest.approx(1, abs=1e-9)
    assert values.pop("confidence") == max(scores.values())
    assert values == {
        "schema": "mien/event/1",
        "id": "kitchen-000012-0000000001",
        "device": "kitchen",
        "ts": "2026-11-21T03:00:00.123Z",
        "clock_synced": True,
        "type": "appeared",
        "track": 7,
        "box": [212, 96, 118, 118],
        "frame": [640, 480],
        "expression": "happy",
        "model": "mien-v1-48@3f9c21d0",
    }
    assert "\n" not in appeared.to_json()


def test_schema_and_dataclass_name_the_same_fields_types_and_requirements():
    needed = {"schema"} | {field.name for field in fields(Event) if field.default is MISSING}
    assert set(SCHEMA["required"]) == needed
    assert set(SCHEMA["properties"]) == {"schema"} | {field.name for field in fields(Event)}
    assert tuple(SCHEMA["properties"]["type"]["enum"]) == TYPES
    assert SCHEMA["properties"]["schema"]["const"] == edge.events.SCHEMA


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "seen"},
        {"type": "changed"},
        {"previous": "sad", "since": 1.0},
        {"box": [1, 2, 3]},
        {"ts": "2026-11-21T03:00:00Z"},
        {"id": "kitchen-12-345"},
        {"scores": {"happy": 1.5}},
    ],
)
def test_the_schema_refuses_what_is_no_event(reporter, wrong):
    [event] = reporter.update(frame(0), [(face(1), reading("sad"))])
    assert not VALIDATOR.is_valid(event.to_dict() | wrong)


def test_rounded_scores_still_add_up_to_one():
    for seed in range(200):
        scores = np.random.default_rng(seed).dirichlet(np.full(7, 0.3)).astype(np.float32).tolist()
        rounded = round_scores(scores)
        assert round(sum(rounded), 9) == 1
        assert all(abs(a - b) < 2e-4 for a, b in zip(scores, rounded, strict=True))


def test_times_are_written_in_utc_with_milliseconds():
    tokyo = datetime(2026, 11, 21, 12, 0, 0, 999_999, tzinfo=timezone(timedelta(hours=9)))
    assert format_time(tokyo) == "2026-11-21T03:00:00.999Z"
