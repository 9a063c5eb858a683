"""The latest picture (`mien/state/1`, described by `state.schema.json`), folded from the events.

`dominant` is what the largest face shows, null where there is none. Readers ignore properties that they do not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edge.events import GONE, Event

SCHEMA = "mien/state/1"


def fold(faces: Mapping[int, Event], event: Event) -> dict[int, Event]:
    """The last event of every track that is still there, after one event more."""
    others = {track: last for track, last in faces.items() if track != event.track}
    return others if event.type == GONE else others | {event.track: event}


def state_json(device: str, faces: Mapping[int, Event], last: Event | None, *, paused: bool = False) -> str:
    """The state as one line of JSON.

    Args:
        device: the device's name.
        faces: from `fold`.
        last: the latest event, which dates the state; None before the first one.
        paused: whether the camera is not read, for which nobody is there, though some may still be on their way out.
    """
    faces = {} if paused else faces
    state = {
        "schema": SCHEMA,
        "device": device,
        "ts": last.ts if last else None,
        "clock_synced": last.clock_synced if last else None,
        "paused": paused,
        "count": len(faces),
        "dominant": _dominant(faces),
        "faces": [
            {"track": track, "expression": event.expression, "confidence": event.confidence, "box": list(event.box)}
            for track, event in sorted(faces.items())
        ],
    }
    return json.dumps(state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _dominant(faces: Mapping[int, Event]) -> dict[str, Any] | None:
    """The largest face's; of two as large, the one that came first."""
    if not faces:
        return None
    largest = max(sorted(faces.items()), key=lambda face: face[1].box[2] * face[1].box[3])[1]
    return {"track": largest.track, "expression": largest.expression, "confidence": largest.confidence}
