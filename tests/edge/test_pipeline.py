from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from edge.events import Reporter
from edge.frame import Box, Face, Frame
from edge.pipeline import Vision
from edge.smoothing import Smoother

LABELS = ("happy", "sad")
FACE = Face(Box(10, 10, 40, 40), 1)
MISSED = replace(FACE, seen=False)


class ScriptedTracker:
    """Says what it was told to, frame after frame."""

    def __init__(self, *said):
        self.said = iter(said)

    def update(self, frame):
        return next(self.said)

    def forget(self):
        pass


class ScriptedModel:
    """Remembers what it was asked to look at."""

    def __init__(self, channels=1):
        self.channels = channels
        self.asked = []

    def classify(self, image, box):
        self.asked.append((image, box))
        return np.float32([0.9, 0.1])


def vision_of(model, *said, every=0.0, settle=0.0):
    reporter = Reporter(
        device="kitchen",
        labels=LABELS,
        model="m",
        start=1,
        every=5.0,
        now=lambda _: datetime(2026, 11, 21, tzinfo=UTC),
        clock_synced=lambda: True,
    )
    return Vision(ScriptedTracker(*said), model, Smoother(LABELS, {}), reporter, every=every, settle=settle)


def frame(number, *, color=False):
    shown = np.ones((80, 100, 3), np.uint8) if color else None
    return Frame(np.zeros((80, 100), np.uint8), number / 10, number, color=shown)


def test_a_frame_tells_of_faces_their_expressions_and_what_is_new():
    vision = vision_of(ScriptedModel(), [FACE], [FACE])
    first, second = vision.look(frame(0)), vision.look(frame(1))
    ((face, reading),) = first.faces
    assert (face, reading.expression) == (FACE, "happy")
    assert [event.type for event in first.events] == ["appeared"]
    assert second.events == []
    assert [event.type for event in vision.finish()] == ["gone"]


def test_a_face_that_is_missed_is_held_and_not_read_anew():
    model = ScriptedModel()
    vision = vision_of(model, [FACE], [MISSED])
    vision.look(frame(0))
    held = vision.look(frame(1))
    ((face, reading),) = held.faces
    assert (face, reading.expression) == (MISSED, "happy")
    assert len(model.asked) == 1


def test_a_face_is_read_no_more_often_than_asked():
    model = ScriptedModel()
    vision = vision_of(model, *[[FACE]] * 7, every=0.3)
    read = [len(model.asked) for number in range(7) if vision.look(frame(number))]
    assert read == [1, 1, 1, 2, 2, 2, 3]


def test_a_new_face_is_read_in_every_frame_until_its_expression_has_settled():
    model = ScriptedModel()
    vision = vision_of(model, *[[FACE]] * 9, every=0.3, settle=0.4)
    read = [len(model.asked) for number in range(9) if vision.look(frame(number))]
    assert read == [1, 2, 3, 4, 4, 4, 5, 5, 5]


def test_a_face_is_read_at_once_where_the_clock_jumped_back():
    model = ScriptedModel()
    vision = vision_of(model, [FACE], [FACE], every=60.0)
    vision.look(frame(1000))
    vision.look(frame(0))
    assert len(model.asked) == 2


def test_a_face_that_is_gone_is_forgotten():
    vision = vision_of(ScriptedModel(), [FACE], [])
    vision.look(frame(0))
    gone = vision.look(frame(1))
    assert gone.faces == []
    assert [event.type for event in gone.events] == ["gone"]
    assert vision.finish() == []


@pytest.mark.parametrize(("channels", "color", "shape"), [(1, False, 2), (1, True, 2), (3, True, 3), (3, False, 2)])
def test_a_grey_model_gets_grey_even_where_there_is_colour(channels, color, shape):
    model = ScriptedModel(channels)
    vision_of(model, [FACE]).look(frame(0, color=color))
    assert model.asked[0][0].ndim == shape


def test_who_is_forgotten_has_gone_and_is_read_afresh():
    model = ScriptedModel()
    vision = vision_of(model, [FACE], [FACE], [replace(FACE, track=2)], every=60.0)
    vision.look(frame(0))
    assert vision.look(frame(1)).events == []
    [gone] = vision.forget()
    assert (gone.type, gone.track) == ("gone", 1)
    assert vision.forget() == []
    [appeared] = vision.look(frame(2)).events
    assert (appeared.type, appeared.track) == ("appeared", 2)
    assert len(model.asked) == 2
