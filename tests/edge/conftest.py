import io
import sys
from collections.abc import Callable

import pytest

import edge.progress
from edge.events import Event


@pytest.fixture
def make_event() -> Callable[..., Event]:
    def make(number: int = 1, **changes) -> Event:
        values = {
            "id": f"kitchen-000001-{number:010d}",
            "device": "kitchen",
            "ts": "2026-11-21T03:00:00.123Z",
            "clock_synced": True,
            "type": "appeared",
            "track": 7,
            "box": (212, 96, 118, 118),
            "frame": (640, 480),
            "expression": "happy",
            "confidence": 0.83,
            "scores": {"angry": 0.17, "happy": 0.83},
            "model": "mien-v1-48@3f9c21d0",
        }
        return Event(**(values | changes))

    return make


class Terminal(io.StringIO):
    """Somebody looks."""

    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch) -> Callable[[], Terminal]:
    """Call it in the test itself: a terminal takes standard error's place, and is told of progress without a pause."""

    def open_() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(edge.progress, "EVERY_SECONDS", 0.0)
        return terminal

    return open_
