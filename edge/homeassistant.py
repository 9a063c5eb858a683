"""What Home Assistant is told of a device, once, so that it makes entities of what the device publishes anyway.

Device-based MQTT discovery, https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload: one retained
message. Every template answers `None`, Home Assistant's word for "unknown", where a value is missing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from edge.board import REASONS
from edge.labels import UNCERTAIN

PREFIX = "homeassistant"

NOBODY = "none"
"""The dominant expression where there is no face. Not `None`, which would be unknown."""

_UNKNOWN = "None"


def discovery(
    device: str, base: str, model: str, labels: Sequence[str], version: str, *, prefix: str = PREFIX
) -> tuple[str, str]:
    """The message that makes Home Assistant know a device; to be retained.

    Args:
        device: the device's name.
        base: what its topics begin with.
        model: the model's name.
        labels: the model's.
        version: Mien's.
        prefix: Home Assistant's own discovery prefix.

    Returns:
        Topic and payload.
    """
    topic, identity = f"{base}/{device}", device_id(device)
    message = {
        "dev": {"ids": [identity], "name": device, "mf": "Mien", "mdl": model, "sw": version},
        "o": {"name": "Mien", "sw": version},
        "cmps": {key: {"unique_id": f"{identity}_{key}"} | component for key, component in _components(topic, labels)},
        "qos": 1,
    }
    return _topic(device, prefix), json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def removal(device: str, *, prefix: str = PREFIX) -> tuple[str, str]:
    """The message that makes Home Assistant forget the device; to be retained, so that the broker forgets it too.

    Returns:
        Topic and payload, which is empty.
    """
    return _topic(device, prefix), ""


def device_id(device: str) -> str:
    """A name for topics and ids of Home Assistant, which take letters, digits, `_` and `-` alone.

    Where that changes a name, characters of its hash keep it apart from others that would become the same.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", device)
    mark = "" if safe == device else f"_{hashlib.sha256(device.encode()).hexdigest()[:6]}"
    return f"mien_{safe}{mark}"


def _topic(device: str, prefix: str) -> str:
    return f"{prefix}/device/{device_id(device)}/config"


def _components(topic: str, labels: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    status = f"{topic}/status"
    # Alone without an availability: it tells that the device is away when all others are unavailable.
    yield "connection", _binary("Connection", "connectivity", status, payload_on="online", payload_off="offline")
    for key, component in [*_state(f"{topic}/state", labels), *_health(f"{topic}/health")]:
        yield key, component | {"availability_topic": status}


def _state(topic: str, labels: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    nobody = f"{{{{ '{NOBODY}' if value_json is mapping and value_json.count == 0 else '{_UNKNOWN}' }}}}"
    expression = _value("dominant.expression", "string", otherwise=nobody)
    confidence = _value("dominant.confidence", shown="({} * 100) | round(1)")
    yield "faces", _sensor("Faces", topic, _value("count"), state_class="measurement", icon="mdi:face-recognition")
    yield (
        "expression",
        _sensor(
            "Expression",
            topic,
            expression,
            device_class="enum",
            options=list(dict.fromkeys([*labels, UNCERTAIN, NOBODY])),
            icon="mdi:emoticon-outline",
        ),
    )
    yield (
        "confidence",
        _sensor(
            "Confidence",
            topic,
            confidence,
            unit_of_measurement="%",
            state_class="measurement",
            suggested_display_precision=0,
            icon="mdi:percent",
        ),
    )
    yield "paused", _paused(topic)


def _health(topic: str) -> Iterator[tuple[str, dict[str, Any]]]:
    def figure(name: str, path: str, shown: str = "{}", *, grows: bool = False, **more: Any) -> dict[str, Any]:
        state_class = "total_increasing" if grows else "measurement"
        value = _value(path, shown=shown)
        return _sensor(name, topic, value, state_class=state_class, entity_category="diagnostic", **more)

    def seconds(name: str, path: str, unit: str = "s") -> dict[str, Any]:
        return figure(name, path, device_class="duration", unit_of_measurement=unit)

    yield "fps", figure("Frame rate", "fps", unit_of_measurement="fps", icon="mdi:speedometer")
    yield "frame_age", seconds("Frame age", "frame_age")
    for percentile in ("p50", "p95", "p99"):
        yield f"latency_{percentile}", seconds(f"Latency {percentile}", f"latency.{percentile}", "ms")
    yield "frames", figure("Frames", "frames", grows=True, icon="mdi:filmstrip")
    yield "skipped", figure("Skipped frames", "skipped", grows=True, icon="mdi:filmstrip-off")
    yield "events", figure("Events", "events", grows=True, icon="mdi:counter")
    yield "temperature", figure("Temperature", "temperature", device_class="temperature", unit_of_measurement="°C")
    yield (
        "memory",
        figure("Memory", "memory", "({} / 1000000) | round(1)", device_class="data_size", unit_of_measurement="MB"),
    )
    yield "cpu", figure("Processor", "cpu", "({} * 100) | round(1)", unit_of_measurement="%", icon="mdi:cpu-64-bit")
    for sink, called in (("log", "Log"), ("mqtt", "MQTT")):
        yield f"{sink}_waiting", figure(f"{called} waiting", f"sinks.{sink}.waiting", icon="mdi:tray-full")
        yield f"{sink}_lost", figure(f"{called} lost", f"sinks.{sink}.lost", grows=True, icon="mdi:tray-remove")
    yield "outbox", figure("Outbox", "outbox", icon="mdi:tray-full")
    yield "uptime", seconds("Uptime", "uptime")
    for key, name in (("model", "Model"), ("version", "Version")):
        yield key, _sensor(name, topic, _value(key, "string"), entity_category="diagnostic", icon="mdi:identifier")
    yield "clock", _problem("Clock not synchronised", topic, "clock_synced", when=False)
    for reason in REASONS:
        called = reason.replace("_", " ").capitalize()
        yield reason, _problem(called, topic, f"throttling.{reason}.now")
        yield f"{reason}_since_boot", _problem(f"{called} since boot", topic, f"throttling.{reason}.since_boot")


def _sensor(name: str, topic: str, value: str, **more: Any) -> dict[str, Any]:
    return {"p": "sensor", "name": name, "state_topic": topic, "value_template": value} | more


def _binary(name: str, device_class: str, topic: str, **more: str) -> dict[str, Any]:
    known = {"p": "binary_sensor", "name": name, "state_topic": topic, "device_class": device_class}
    return known | {"entity_category": "diagnostic"} | more


def _paused(topic: str) -> dict[str, Any]:
    value = _value("paused", "boolean", shown="('ON' if {} else 'OFF')")
    return {
        "p": "binary_sensor",
        "name": "Paused",
        "state_topic": topic,
        "value_template": value,
        "icon": "mdi:eye-off",
    }


def _problem(name: str, topic: str, path: str, *, when: bool = True) -> dict[str, Any]:
    shown = "'ON' if {} else 'OFF'" if when else "'OFF' if {} else 'ON'"
    return _binary(name, "problem", topic, value_template=_value(path, "boolean", shown=f"({shown})"))


def _value(path: str, kind: str = "number", *, shown: str = "{}", otherwise: str = _UNKNOWN) -> str:
    """A Jinja template for a value below `value_json`, which is undefined where the payload is no JSON.

    Args:
        path: keys with dots between them.
        kind: the Jinja test that the value has to pass.
        shown: an expression with `{}` for the value.
        otherwise: the template's end for a value that is missing or of another kind.
    """
    keys = ["value_json", *path.split(".")]
    *above, value = [".".join(keys[: end + 1]) for end in range(len(keys))]
    good = " and ".join([f"{key} is mapping" for key in above] + [f"{value} is {kind}"])
    return f"{{% if {good} %}}{{{{ {shown.format(value)} }}}}{{% else %}}{otherwise}{{% endif %}}"
