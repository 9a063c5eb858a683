"""Stopwatches that count what they time."""

import numpy as np
import pytest

from edge.bench_meter import Meter, Stopwatch, TimedModel, Times, timed_cascade
from edge.frame import Box
from edge.model import open_model
from edge.modelfile import SHIPPED, read_model_file


class Cascade:
    def detectMultiScale(self, image, scaleFactor):  # noqa: N802, N803
        return [("one", image.shape, scaleFactor)]

    def detectMultiScale2(self, image):  # noqa: N802
        return [], [image.sum()]

    def empty(self):
        return False


def test_the_cascade_and_the_interpreter_leave_the_rest():
    times = Times(total=10.0, haar=6.0, interpreter=1.0, classify=1.5)
    assert times.own == pytest.approx(3.0)
    assert times.unclassified == pytest.approx(8.5)


def test_a_frame_is_measured_by_both_clocks_and_begins_anew():
    meter = Meter()
    watch = Stopwatch(meter, "haar")
    with meter.frame() as first, watch:
        sum(range(10_000))
    with meter.frame() as second:
        pass
    assert 0 < first.wall.haar <= first.wall.total
    assert 0 < first.cpu.haar <= first.cpu.total
    assert second.wall.haar == second.cpu.haar == 0.0


def test_a_stopwatch_adds_up():
    meter = Meter()
    watch = Stopwatch(meter, "haar")
    with meter.frame() as cost:
        with watch:
            sum(range(1000))
        once = cost.wall.haar
        with watch:
            sum(range(1000))
    assert once < cost.wall.haar <= cost.wall.total


def test_every_search_of_a_cascade_is_counted_and_answers_as_before():
    meter = Meter()
    cascade = timed_cascade(Cascade(), meter)
    image = np.ones((30, 40), np.uint8)
    with meter.frame() as cost:
        assert cascade.detectMultiScale(image, scaleFactor=1.2) == [("one", (30, 40), 1.2)]
        assert cascade.detectMultiScale2(image[:10]) == ([], [400])
        assert cascade.detectMultiScale2(image[:10]) == ([], [400])
        assert not cascade.empty()
    assert (cost.haar_calls, cost.haar_pixels) == (3, 1200 + 400 + 400)
    assert 0 < cost.wall.haar <= cost.wall.total


def test_a_timed_model_says_what_the_model_says_and_counts_each_face():
    meter = Meter()
    timed, plain = TimedModel(read_model_file(SHIPPED), meter), open_model()
    image = np.random.default_rng(3).integers(0, 256, (90, 120), np.uint8)
    boxes = [Box(10, 10, 60, 60), Box(40, 20, 50, 50)]
    with meter.frame() as cost:
        scores = [timed.classify(image, box) for box in boxes]
    np.testing.assert_array_equal(scores, [plain.classify(image, box) for box in boxes])
    assert cost.classifications == 2
    assert 0 < cost.wall.interpreter < cost.wall.classify <= cost.wall.total
