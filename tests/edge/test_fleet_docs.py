"""docs/fleet.md: the bridge's lines between two real brokers, and the keys of events that it names."""

import re
import tomllib
from pathlib import Path

import pytest

from edge.outbox import Outbox
from edge.rules import Broker
from edge.sinks.mqtt import MqttSink
from edge.sinks.mqtt_link import Access

PAGE = (Path(__file__).parents[2] / "docs/fleet.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    """The code block behind `<!-- name -->`."""
    [found] = re.findall(rf"<!-- {name} -->\n```[a-z]*\n(.*?)```", PAGE, re.DOTALL)
    return found


def bridged(centre, *changes):
    """The bridge's lines, with the centre's address, and without password and authority."""
    lines = [line for line in block("bridge").splitlines() if not re.match("address|remote_pass|bridge_cafile", line)]
    assert len(lines) == len(block("bridge").splitlines()) - 3
    at = lines.index("connection site-hall3") + 1
    return [dict(changes).get(line, line) for line in [*lines[:at], f"address 127.0.0.1:{centre.port}", *lines[at:]]]


@pytest.mark.broker
def test_the_bridge_brings_everything_to_the_centre_also_what_came_while_it_was_away(mosquitto, listen, make_event):
    centre = mosquitto()
    site = mosquitto(*bridged(centre))
    access = Access(Broker("127.0.0.1", site.port, tls=False), client_id="mien-kitchen")
    sink = MqttSink(access, Outbox(None), device="kitchen")
    try:
        sink.publish(make_event(1))
        first = listen(centre.port, "mien/#")
        first.wait_for(lambda: first.payloads("mien/kitchen/status") == ["online"])
        sink.publish(make_event(2))
        first.wait_for(lambda: make_event(2).to_json() in first.payloads("mien/kitchen/event"))
        centre.stop()
        for number in range(3, 1500):
            sink.publish(make_event(number))
        sink.close()
        centre.start()
        expected = [make_event(number).to_json() for number in range(2, 1500)]
        first.wait_for(lambda: first.payloads("mien/kitchen/event")[-len(expected) :] == expected, timeout=20)
    finally:
        sink.close(timeout=0)
    late = listen(centre.port, "mien/#", "late")
    late.wait_for(lambda: late.payloads("mien/kitchen/status") == ["offline"])
    assert all(message.retain for message in late.messages)


@pytest.mark.broker
def test_a_site_can_have_a_level_of_its_own_at_the_centre(mosquitto, listen):
    [line] = re.findall(r"`(topic # out 1 \S+ \S+)`", PAGE)
    centre = mosquitto()
    site = mosquitto(*bridged(centre, ("topic mien/# out 1", line)))
    listener = listen(centre.port, "mien/#")
    sink = MqttSink(
        Access(Broker("127.0.0.1", site.port, tls=False), client_id="mien-kitchen"), Outbox(None), device="kitchen"
    )
    try:
        listener.wait_for(lambda: listener.payloads("mien/hall3/kitchen/status") == ["online"])
    finally:
        sink.close(timeout=0)


@pytest.mark.parametrize("name", ["telegraf", "timescale"])
def test_telegrafs_configuration_is_toml(name):
    assert tomllib.loads(block(name))


def test_telegraf_and_kafka_are_told_of_what_events_have(make_event):
    event = make_event(1).to_dict()
    [source] = tomllib.loads(block("telegraf"))["inputs"]["mqtt_consumer"]
    [parser] = source["json_v2"]
    kinds = {"string": str, "float": float, "bool": bool}
    for entry in parser["field"]:
        value = event
        for key in entry["path"].split("."):
            value = value[key]
        assert isinstance(value, kinds[entry["type"]])
    for entry in parser["tag"]:
        assert not isinstance(event[entry["path"]], dict | list)
    assert parser["timestamp_path"] == "ts"
    [key] = re.findall(r"WITHKEY\((\w+)\)", block("kafka"))
    assert key in event
    assert source["topics"] == re.findall(r"FROM (\S+)", block("kafka"))
