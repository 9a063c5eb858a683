"""The discovery message against Home Assistant's rules, and its templates over what the daemon really publishes.

The rules are a recorded copy, since Home Assistant needs a Python of its own. Where MIEN_HOMEASSISTANT names a Python
that can import Home Assistant, it is asked itself, and the copy is held against its answers.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft202012Validator

from edge.board import REASONS, Flag
from edge.health import Health, Latency, Queue
from edge.homeassistant import device_id, discovery, removal
from edge.labels import FER2013_LABELS
from edge.state import fold, state_json

HERE = Path(__file__).parent
RULES = Draft202012Validator(json.loads((HERE / "homeassistant.schema.json").read_text(encoding="utf-8")))
MODEL = "mien-v1-48@3f9c21d0"
RECORDED = [2026, 11]
SHORT = {"dev": "device", "o": "origin", "cmps": "components", "p": "platform"}
SHORT_IN_DEVICE = {"ids": "identifiers", "mf": "manufacturer", "mdl": "model", "sw": "sw_version"}


def message(device="kitchen", base="mien", labels=FER2013_LABELS, **more):
    _, payload = discovery(device, base, MODEL, labels, "1.2.3", **more)
    return json.loads(payload)


def in_full(told):
    """Without abbreviations, as Home Assistant's `abbreviations.py` has them."""

    def long(part, names):
        return {names.get(key, key): value for key, value in part.items()} if isinstance(part, dict) else part

    full = long(told, SHORT)
    full |= {key: long(full[key], SHORT_IN_DEVICE) for key in ("device", "origin") if key in full}
    if isinstance(full.get("components"), dict):
        full["components"] = {key: long(part, SHORT) for key, part in full["components"].items()}
    return full


def changed(key, **changes):
    """The message with one component changed; None takes a key out."""
    told = message()
    part = told["cmps"][key] | changes
    told["cmps"][key] = {name: value for name, value in part.items() if value is not None}
    return told


RIGHT = [
    message(),
    message(device="küche.1", base="haus/über"),
    message(device="a.b", labels=("no", "näh", "none")),
    message(device="x" * 63, labels=tuple(f"label {number}" for number in range(100))),
]
WRONG = [
    changed("expression", unit_of_measurement="%"),
    changed("expression", state_class="measurement"),
    changed("expression", device_class="mood"),
    changed("expression", device_class=None),
    changed("expression", options=[]),
    changed("expression", unique_id=None),
    changed("expression", state_topic=""),
    changed("expression", icon="face"),
    changed("temperature", unit_of_measurement="C"),
    changed("temperature", state_class="average"),
    changed("temperature", entity_category="config"),
    changed("temperature", availability=[{"topic": "a"}]),
    changed("memory", unit_of_measurement="megabytes"),
    changed("frame_age", unit_of_measurement="seconds"),
    changed("fps", state_topic=None),
    changed("fps", suggested_display_precision=-1),
    changed("fps", p=None),
    changed("fps", p="thermometer"),
    changed("fps", value="{{ value_json.fps }}"),
    changed("connection", device_class="online"),
    changed("connection", options=["online"]),
    {key: value for key, value in message().items() if key != "o"},
    {key: value for key, value in message().items() if key != "dev"},
    message() | {"dev": {"name": "kitchen"}},
    message() | {"dev": {"ids": ["a"], "colour": "red"}},
    message() | {"o": {"sw": "1.2.3"}},
    message() | {"qos": 3},
    message() | {"components_": {}},
]


@pytest.mark.parametrize("told", RIGHT)
def test_the_message_keeps_home_assistants_rules(told):
    RULES.validate(in_full(told))


@pytest.mark.parametrize("told", WRONG)
def test_the_recorded_rules_refuse_what_home_assistant_refuses(told):
    assert not RULES.is_valid(in_full(told))


# What the message says


def test_the_device_is_named_with_its_model_and_version():
    topic, payload = discovery("kitchen", "home/mien", MODEL, FER2013_LABELS, "1.2.3")
    assert topic == "homeassistant/device/mien_kitchen/config"
    told = json.loads(payload)
    assert told["dev"] == {"ids": ["mien_kitchen"], "name": "kitchen", "mf": "Mien", "mdl": MODEL, "sw": "1.2.3"}
    assert told["o"] == {"name": "Mien", "sw": "1.2.3"}
    topics = {part["state_topic"] for part in told["cmps"].values()}
    assert topics == {f"home/mien/kitchen/{name}" for name in ("status", "state", "health")}


def test_every_entity_has_an_id_and_a_name_of_its_own():
    parts = message()["cmps"].values()
    assert len({part["unique_id"] for part in parts}) == len({part["name"] for part in parts}) == len(parts)


def test_faces_expression_confidence_and_pause_come_first_hand_and_all_else_is_diagnostic():
    parts = message()["cmps"]
    assert [key for key, part in parts.items() if "entity_category" not in part] == [
        "faces",
        "expression",
        "confidence",
        "paused",
    ]
    assert parts["expression"]["options"] == [*FER2013_LABELS, "uncertain", "none"]


def test_while_the_device_is_away_its_connection_says_so_and_all_else_is_unavailable():
    parts = message()["cmps"]
    connection = parts.pop("connection")
    assert connection["device_class"] == "connectivity"
    assert (connection["state_topic"], connection["payload_on"], connection["payload_off"]) == (
        "mien/kitchen/status",
        "online",
        "offline",
    )
    assert not any(key.startswith("availability") for key in connection)
    assert {part["availability_topic"] for part in parts.values()} == {"mien/kitchen/status"}


def test_it_is_forgotten_where_it_was_announced():
    for names in ({}, {"prefix": "ha/test"}):
        topic, _ = discovery("a.b", "mien", MODEL, FER2013_LABELS, "1", **names)
        assert removal("a.b", **names) == (topic, "")


@given(st.text(max_size=70))
def test_any_name_makes_a_topic_that_home_assistant_reads(name):
    topic, _ = removal(name)
    # components/mqtt/discovery.py: TOPIC_MATCHER, behind the prefix.
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)


def test_names_that_differ_only_in_what_is_left_out_stay_apart():
    names = ["a.b", "a_b", "a-b", "a/b", "a b", "ä", "ö", ""]
    assert len({device_id(name) for name in names}) == len(names)


# Its templates, over what the daemon publishes

ENVIRONMENT = ImmutableSandboxedEnvironment()


def shown(payload: str, *, told=None):
    """What each entity shows, as Home Assistant renders it: stripped text; `value_json` only where it is JSON."""
    try:
        values = {"value": payload, "value_json": json.loads(payload)}
    except ValueError:
        values = {"value": payload}
    parts = (told or message())["cmps"]
    return {
        key: ENVIRONMENT.from_string(part["value_template"]).render(values).strip()
        for key, part in parts.items()
        if "value_template" in part
    }


def of(topic, told=None):
    parts = (told or message())["cmps"]
    return {
        key for key, part in parts.items() if part["state_topic"].endswith(f"/{topic}") and "value_template" in part
    }


@pytest.fixture
def snapshot(tmp_path):
    health = Health(
        device="kitchen",
        model=MODEL,
        live=True,
        clock=lambda: 100.0,
        queues=lambda: {"log": Queue(0, 1), "mqtt": Queue(7, 2)},
        outbox=lambda: 5,
        root=tmp_path,
    )
    health.looked(99.9588, faces=1, events=1, skipped=3)
    return health.snapshot()


def test_the_state_shows_how_many_faces_there_are_and_what_the_largest_one_shows(make_event):
    faces, told = {}, []
    for event in [
        make_event(1, track=1, box=(0, 0, 9, 9), expression="sad", confidence=0.5),
        make_event(2, track=2, expression="uncertain", confidence=0.3333),
        make_event(3, track=2, type="gone"),
        make_event(4, track=1, type="gone"),
    ]:
        faces = fold(faces, event)
        view = shown(state_json("kitchen", faces, event))
        told.append((view["faces"], view["expression"], view["confidence"]))
    assert told == [("1", "sad", "50.0"), ("2", "uncertain", "33.3"), ("1", "sad", "50.0"), ("0", "none", "None")]


def test_a_pause_shows_and_nobody_is_there_meanwhile(make_event):
    event = make_event(track=1)
    views = [shown(state_json("kitchen", {1: event}, event, paused=paused)) for paused in (True, False)]
    assert [(view["paused"], view["faces"], view["expression"]) for view in views] == [
        ("ON", "0", "none"),
        ("OFF", "1", "happy"),
    ]


def test_a_label_of_any_kind_is_shown_as_it_is(make_event):
    label = "a \"b\" 'c' {{ d }} <e>"
    told = message(labels=(label, "other"))
    event = make_event(track=1, expression=label)
    view = shown(state_json("kitchen", {1: event}, event), told=told)
    assert view["expression"] == label
    assert label in told["cmps"]["expression"]["options"]


def test_health_shows_every_figure_in_the_entitys_own_unit(snapshot):
    values = {
        "latency": Latency(41.5, 60.0, 88.1),
        "temperature": 51.1,
        "memory": 212_345_678,
        "cpu": 0.3149,
        "throttling": dict.fromkeys(REASONS, Flag(False, True)) | {"throttled": Flag(None, None)},
        "clock_synced": True,
    }
    view = shown(type(snapshot)(**({name: getattr(snapshot, name) for name in snapshot.__slots__} | values)).to_json())
    figures = {
        "latency_p50": "41.5",
        "latency_p95": "60.0",
        "latency_p99": "88.1",
        "temperature": "51.1",
        "memory": "212.3",
        "cpu": "31.5",
        "frame_age": "0.041",
        "frames": "1",
        "skipped": "3",
        "events": "1",
        "log_waiting": "0",
        "log_lost": "1",
        "mqtt_waiting": "7",
        "mqtt_lost": "2",
        "outbox": "5",
        "model": MODEL,
        "clock": "OFF",
        "under_voltage": "OFF",
        "under_voltage_since_boot": "ON",
        "throttled": "None",
    }
    assert {key: view[key] for key in figures} == figures
    known = {key for key in of("health") if view[key] != "None"}
    assert of("health") - known == {"throttled", "throttled_since_boot"}


def test_a_clock_that_cannot_be_believed_is_a_problem(snapshot):
    told = snapshot.to_dict()
    assert [shown(json.dumps(told | {"clock_synced": synced}))["clock"] for synced in (False, True)] == ["ON", "OFF"]


def test_what_is_not_known_is_unknown_and_no_error(snapshot):
    view = shown(snapshot.to_json())
    unknown = {key for key in of("health") if view[key] == "None"}
    flags = {*REASONS, *(f"{reason}_since_boot" for reason in REASONS)}
    assert unknown == {"temperature", "memory"} | flags


@given(
    st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["latency", "dominant", "sinks", "mqtt", "throttling", "throttled", "items", "count"]
                    ),
                    inner,
                )
            ),
        ).map(json.dumps),
    )
)
def test_junk_on_our_topics_makes_no_template_fail(payload):
    view = shown(payload)
    binary = {key for key, part in message()["cmps"].items() if part["p"] == "binary_sensor"}
    assert {view[key] for key in binary & view.keys()} <= {"ON", "OFF", "None"}
    assert all(
        re.fullmatch(r"None|-?[0-9.e+-]+|-?inf|True|False", view[key]) for key in ("fps", "faces", "cpu", "latency_p50")
    )


@pytest.mark.skipif("MIEN_HOMEASSISTANT" not in os.environ, reason="MIEN_HOMEASSISTANT names no Python with it")
def test_home_assistant_itself_agrees_with_the_recorded_rules_and_shows_the_same(snapshot, make_event):
    state = state_json("kitchen", {1: make_event(track=1)}, None)
    payloads = [state, state_json("kitchen", {}, None), snapshot.to_json(), "{}", "no JSON", "null", "[1]", ""]
    templates = {key: part["value_template"] for key, part in message()["cmps"].items() if "value_template" in part}
    asked = {
        "messages": [json.dumps(told) for told in RIGHT + WRONG],
        "templates": [[template, payload] for payload in payloads for template in templates.values()],
    }
    done = subprocess.run(
        [os.environ["MIEN_HOMEASSISTANT"], HERE / "homeassistant_itself.py"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    refusals = answer["refusals"]
    assert [refusal for refusal in refusals[: len(RIGHT)] if refusal] == []
    if answer["version"] >= RECORDED:  # earlier ones only warn of some units
        assert [told for told, refusal in zip(WRONG, refusals[len(RIGHT) :], strict=True) if not refusal] == []
    assert answer["shown"] == [view for payload in payloads for view in shown(payload).values()]
