import json

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
        "count": 1,
        "faces": [{"track": 7, "expression": "angry", "confidence": 0.83, "box": [212, 96, 118, 118]}],
    }


def test_before_the_first_event_nobody_is_there():
    state = json.loads(state_json("kitchen", {}, None))
    assert (state["count"], state["faces"], state["ts"]) == (0, [], None)


def test_faces_stand_in_the_order_of_their_tracks_and_going_unannounced_is_no_fault(make_event):
    faces = fold(fold(fold({}, make_event(1, track=9)), make_event(2, track=4)), make_event(3, track=5, type="gone"))
    assert [face["track"] for face in json.loads(state_json("kitchen", faces, None))["faces"]] == [4, 9]
