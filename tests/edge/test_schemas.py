"""The shipped JSON Schemas: docs/events.md tells all of them, the suite holds to them, and version 1 stays itself."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

import edge.events
import edge.health
import edge.state
from edge.board import Flag
from edge.events import Event
from edge.health import Latency, Queue, Snapshot
from edge.state import fold, state_json

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/events.md").read_text(encoding="utf-8")
TITLES = {"event": edge.events.SCHEMA, "state": edge.state.SCHEMA, "health": edge.health.SCHEMA}


def flat(schema: dict[str, Any], root: dict[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every property below a schema and its type, as docs/events.md writes them, in the schema's order."""
    for key, part in schema.get("properties", {}).items():
        yield from _named(f"{path}.{key}".strip("."), part, root)
    if isinstance(named_by_others := schema.get("additionalProperties"), dict):
        yield from _named(f"{path}.*", named_by_others, root)
    if isinstance(items := schema.get("items"), dict) and "properties" in items:
        yield from flat(items, root, f"{path}[]")


def _named(path: str, part: dict[str, Any], root: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if "$ref" in part:
        part = root["$defs"][part["$ref"].rpartition("/")[2]]
    types = part.get("type", "string")
    yield path, types if isinstance(types, str) else " or ".join(types)
    yield from flat(part, root, path)


def table(title: str) -> list[tuple[str, str]]:
    """Field and type of every row below a heading of docs/events.md."""
    section = DOCS.split(f"## `{title}`")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|[^|]+\|[^|]+\w[^|]*\|$", section, re.MULTILINE)


def examples(title: str) -> list[dict[str, Any]]:
    blocks = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)]
    return [block for block in blocks if block["schema"] == title]


@pytest.mark.parametrize("name", TITLES)
def test_the_docs_name_every_field_with_its_type(name, schemas):
    assert table(TITLES[name]) == list(flat(schemas[name], schemas[name]))


@pytest.mark.parametrize("name", TITLES)
def test_every_schema_is_one_and_says_what_each_property_is(name, schemas):
    Draft202012Validator.check_schema(schemas[name])
    assert schemas[name]["title"] == TITLES[name] == schemas[name]["properties"]["schema"]["const"]
    for key, part in schemas[name]["properties"].items():
        assert part["description"], key


def test_the_events_in_the_docs_and_the_readme_are_made_by_the_code():
    shown = examples(edge.events.SCHEMA)
    readme = json.loads(re.search(r"```json\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)[1])
    assert [event["type"] for event in shown] == ["appeared", "changed", "gone"]
    for event in [*shown, readme]:
        assert list(event.items()) == list(made(event).to_dict().items())


def made(event: dict[str, Any]) -> Event:
    values = {name: event[name] for name in (field.name for field in fields(Event)) if name in event}
    return Event(**values | {"box": tuple(event["box"]), "frame": tuple(event["frame"])})


def test_the_state_in_the_docs_is_that_after_the_event_above_it():
    appeared, changed, _ = map(made, examples(edge.events.SCHEMA))
    [state] = examples(edge.state.SCHEMA)
    faces = fold(fold({}, appeared), changed)
    assert list(state.items()) == list(json.loads(state_json(changed.device, faces, changed)).items())


def test_the_health_in_the_docs_is_made_by_the_code(strict):
    [shown] = examples(edge.health.SCHEMA)
    values = {name: value for name, value in shown.items() if name != "schema"} | {
        "latency": Latency(**shown["latency"]),
        "throttling": {reason: Flag(**flag) for reason, flag in shown["throttling"].items()},
        "sinks": {name: Queue(**queue) for name, queue in shown["sinks"].items()},
    }
    told = Snapshot(**values).to_dict()
    strict["health"].validate(told)
    assert list(shown.items()) == list(told.items())


def test_whoever_remembers_as_the_docs_say_sees_each_event_once(make_event):
    code = re.search(r"```python\n(.*?)```", DOCS, re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102  # our own docs
    last_of_a_start, first_of_the_next = make_event(9_999), make_event(1, id="kitchen-000002-0000000001")
    other = make_event(1, id="kitchen-2-000001-0000000001", device="kitchen-2")
    arrived = [make_event(1), make_event(2), make_event(1), make_event(2), other, last_of_a_start, last_of_a_start]
    arrived += [first_of_the_next, last_of_a_start, other]
    new = [event for event in arrived if names["is_new"](event.to_dict())]
    assert new == [make_event(1), make_event(2), other, last_of_a_start, first_of_the_next]


def test_what_does_not_fit_its_schema_fails_whichever_test_makes_it(make_event):
    with pytest.raises(ValidationError, match="maximum"):
        make_event(confidence=1.5).to_json()
    with pytest.raises(ValidationError, match="minimum"):
        state_json("kitchen", {-1: make_event()}, make_event())


def test_nothing_is_published_that_no_schema_names(make_event, strict, schemas):
    surprised = make_event().to_dict() | {"mood": "bright"}
    assert Draft202012Validator(schemas["event"]).is_valid(surprised)
    assert not strict["event"].is_valid(surprised)


# As first released. Within version 1 properties may be added to these; none goes, and none changes its type.
RELEASED = {
    "event": {
        "schema": "string",
        "id": "string",
        "device": "string",
        "ts": "string",
        "clock_synced": "boolean",
        "type": "string",
        "track": "integer",
        "box": "array",
        "frame": "array",
        "expression": "string",
        "confidence": "number",
        "scores": "object",
        "scores.*": "number",
        "previous": "string",
        "since": "number",
        "model": "string",
    },
    "state": {
        "schema": "string",
        "device": "string",
        "ts": "string or null",
        "clock_synced": "boolean or null",
        "paused": "boolean",
        "count": "integer",
        "dominant": "object or null",
        "dominant.track": "integer",
        "dominant.expression": "string",
        "dominant.confidence": "number",
        "faces": "array",
        "faces[].track": "integer",
        "faces[].expression": "string",
        "faces[].confidence": "number",
        "faces[].box": "array",
    },
    "health": {
        "schema": "string",
        "device": "string",
        "ts": "string",
        "clock_synced": "boolean",
        "version": "string",
        "model": "string",
        "uptime": "number",
        "paused": "boolean",
        "frames": "integer",
        "skipped": "integer",
        "events": "integer",
        "fps": "number",
        "frame_age": "number or null",
        "faces": "integer",
        "latency": "object or null",
        "latency.p50": "number",
        "latency.p95": "number",
        "latency.p99": "number",
        "temperature": "number or null",
        "throttling": "object or null",
        "memory": "integer or null",
        "cpu": "number",
        "sinks": "object",
        "sinks.*": "object",
        "sinks.*.waiting": "integer",
        "sinks.*.lost": "integer",
        "outbox": "integer or null",
    }
    | {f"throttling.{reason}": "object" for reason in ("under_voltage", "frequency_capped", "throttled")}
    | {"throttling.soft_temp_limit": "object"}
    | {
        f"throttling.{reason}.{when}": "boolean or null"
        for reason in ("under_voltage", "frequency_capped", "throttled", "soft_temp_limit")
        for when in ("now", "since_boot")
    },
}

ALWAYS_THERE = {name: {path for path in paths if not re.search(r"[.\[]", path)} for name, paths in RELEASED.items()}
ALWAYS_THERE["event"] -= {"previous", "since"}


@pytest.mark.parametrize("name", TITLES)
def test_within_version_1_nothing_goes_and_nothing_changes_its_type(name, schemas):
    now = dict(flat(schemas[name], schemas[name]))
    assert RELEASED[name].items() <= now.items()
    assert ALWAYS_THERE[name] <= set(schemas[name]["required"])
    assert TITLES[name] == f"mien/{name}/1"


def test_within_version_1_there_are_four_types_of_events(schemas):
    assert schemas["event"]["properties"]["type"]["enum"] == ["appeared", "changed", "updated", "gone"]
