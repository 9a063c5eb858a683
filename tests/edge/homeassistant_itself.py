"""Asks Home Assistant itself what it makes of our messages. Run by `test_homeassistant.py`, with a Python that has it.

Reads `{"messages": [payload], "templates": [[template, payload]]}` from standard input and prints
`{"version": [major, minor], "refusals": [text], "shown": [text]}`; a refusal is empty where the message is taken. A
component is held against the strict schema of its platform, since discovery itself drops unknown keys in silence.
"""

import asyncio
import json
import sys
import tempfile

from homeassistant.components.mqtt import binary_sensor, discovery, schemas, sensor
from homeassistant.const import MAJOR_VERSION, MINOR_VERSION
from homeassistant.core import HomeAssistant
from homeassistant.helpers import frame
from homeassistant.helpers.template import Template

STRICT = {"sensor": sensor.PLATFORM_SCHEMA_MODERN, "binary_sensor": binary_sensor.PLATFORM_SCHEMA_MODERN}


def refusal(payload: str) -> str:
    message = discovery.MQTTDiscoveryPayload(json.loads(payload))
    discovery._replace_all_abbreviations(message)
    try:
        message = schemas.DEVICE_DISCOVERY_SCHEMA(message)
        for config in message["components"].values():
            component = discovery.MQTTDiscoveryPayload(config)
            discovery._merge_common_device_options(component, message)
            STRICT[component.pop("platform")](component)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def main() -> None:
    # Templates are taken only where there is a house, though nothing of it is set up.
    house = HomeAssistant(tempfile.gettempdir())
    frame.async_setup(house)
    asked = json.load(sys.stdin)
    refusals = [refusal(payload) for payload in asked["messages"]]
    shown = [
        Template(template, house).async_render_with_possible_json_value(payload, error_value="an error")
        for template, payload in asked["templates"]
    ]
    print(json.dumps({"version": [MAJOR_VERSION, MINOR_VERSION], "refusals": refusals, "shown": shown}))


asyncio.run(main())
