import json

import pytest
from jsonschema import Draft202012Validator

from edge.state import fold, state_json


def test_the_state_is_who_is_there_and_what_each_shows(make_event):
    faces = {}
    events = [
        make_event(1, track=7),
        make_event(2, track=3, expression="sad", confidence=0.5),
        make_event(3, track=7, type="changed", expression="angry", previous="happy", since=1.0),
        make_event(4, track=3, type="gone", expression="sad"),
    ]
    counts = []
    for event in events:
        faces = fold(faces, event)
        counts.append(len(faces))
    assert counts == [1, 2, 2, 1]
    assert json.loads(state_json("kitchen", faces, events[-1])) == {
        "schema": "mien/state/1",
        "device": "kitchen",
        "ts": "2026-11-21T03:00:00.123Z",
        "clock_synced": True,
        "paused": False,
        "count": 1,
        "dominant": {"track": 7, "expression": "angry", "confidence": 0.83},
        "faces": [{"track": 7, "expression": "angry", "confidence": 0.83, "box": [212, 96, 118, 118]}],
    }


def test_before_the_first_event_nobody_is_there():
    state = json.loads(state_json("kitchen", {}, None))
    assert (state["count"], state["dominant"], state["faces"], state["ts"]) == (0, None, [], None)


def test_while_paused_nobody_is_there_though_some_have_not_gone_yet(make_event, strict):
    event = make_event(1)
    state = json.loads(state_json("kitchen", {7: event}, event, paused=True))
    strict["state"].validate(state)
    assert (state["paused"], state["count"], state["dominant"], state["faces"]) == (True, 0, None, [])
    assert state["ts"] == event.ts


def test_the_largest_face_dominates_and_of_two_as_large_the_one_that_came_first(make_event):
    faces = {}

    def dominant(event):
        nonlocal faces
        faces = fold(faces, event)
        return json.loads(state_json("kitchen", faces, event))["dominant"]

    assert dominant(make_event(1, track=5, box=(0, 0, 50, 50), expression="sad", confidence=0.6))["track"] == 5
    assert dominant(make_event(2, track=3, box=(9, 9, 50, 50)))["track"] == 3
    larger = dominant(make_event(3, track=9, box=(9, 9, 51, 50), expression="uncertain", confidence=0.3))
    assert larger == {"track": 9, "expression": "uncertain", "confidence": 0.3}
    assert dominant(make_event(4, track=9, type="gone"))["track"] == 3


def test_faces_stand_in_the_order_of_their_tracks_and_going_unannounced_is_no_fault(make_event):
    last = make_event(3, track=5, type="gone")
    faces = fold(fold(fold({}, make_event(1, track=9)), make_event(2, track=4)), last)
    assert [face["track"] for face in json.loads(state_json("kitchen", faces, last))["faces"]] == [4, 9]


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema": "mien/state/2"},
        {"count": -1},
        {"count": 0},
        {"dominant": None},
        {"dominant": {"expression": "happy"}},
        {"faces": [{"track": 7, "expression": "happy", "confidence": 83, "box": [1, 2, 3, 4]}]},
        {"faces": [{"track": 7, "expression": "happy", "confidence": 0.83, "box": [1, 2, 0, 4]}]},
        {"faces": []},
        {"ts": "yesterday"},
    ],
)
def test_the_schema_refuses_what_is_no_state(make_event, schemas, wrong):
    event = make_event(1)
    state = json.loads(state_json("kitchen", {7: event}, event))
    validator = Draft202012Validator(schemas["state"])
    assert validator.is_valid(state)
    assert not validator.is_valid(state | wrong)
