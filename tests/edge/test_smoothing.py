from itertools import pairwise

import numpy as np
import pytest

from edge.labels import UNCERTAIN
from edge.smoothing import Smoother

LABELS = ("happy", "sad", "neutral")
HAPPY, SAD, NEUTRAL = np.float32([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])


def smoother(time_constant=0.5, **thresholds):
    return Smoother(LABELS, thresholds, time_constant=time_constant)


def shown(smooth, *scores, fps=10.0):
    return [smooth.update(1, number / fps, each).expression for number, each in enumerate(scores)]


def test_a_tie_of_expressions_with_unlike_thresholds_does_not_flicker():
    more, less = np.float32([0.41, 0.39, 0.2]), np.float32([0.39, 0.41, 0.2])
    smooth = smoother(time_constant=1e-6, happy=0.3, sad=0.5)
    assert set(shown(smooth, more, *[less, less, less, more, more] * 5)) == {"happy"}


def test_the_first_scores_are_taken_as_they_are():
    reading = smoother().update(1, 7.0, HAPPY)
    assert reading.expression == "happy"
    assert reading.confidence == pytest.approx(0.8)
    np.testing.assert_array_equal(reading.scores, HAPPY)


def test_scores_follow_by_the_time_constant():
    smooth = smoother(time_constant=0.5)
    smooth.update(1, 0.0, HAPPY)
    reading = smooth.update(1, 0.5, SAD)
    np.testing.assert_allclose(reading.scores, SAD + (HAPPY - SAD) * np.exp(-1), rtol=1e-6)


def test_scores_follow_alike_at_every_frame_rate():
    slow, fast = smoother(), smoother()
    slow.update(1, 0.0, HAPPY)
    fast.update(1, 0.0, HAPPY)
    for step in range(1, 31):
        last = fast.update(1, step / 30, SAD)
    np.testing.assert_allclose(slow.update(1, 1.0, SAD).scores, last.scores, atol=1e-6)


def test_scores_are_float32_and_sum_to_one():
    smooth = smoother()
    rng = np.random.default_rng(2)
    for step in range(100):
        reading = smooth.update(1, step / 15, rng.dirichlet([1, 1, 1]).astype(np.float32))
        assert reading.scores.dtype == np.float32
        assert reading.scores.sum() == pytest.approx(1.0, abs=1e-5)
        assert reading.confidence == pytest.approx(reading.scores.max())


@pytest.mark.parametrize("fps", [1.0, 5.0, 30.0])
def test_a_single_frame_flips_nothing_however_slow_the_source(fps):
    assert set(shown(smoother(), *[HAPPY] * 5, SAD, *[HAPPY] * 5, fps=fps)) == {"happy"}


def test_a_new_expression_that_lasts_is_shown_soon():
    seen = shown(smoother(), *[HAPPY] * 10, *[SAD] * 10)
    assert seen[:10] == ["happy"] * 10
    assert seen[15:] == ["sad"] * 5
    assert seen.index("sad") - 10 <= 5


def test_a_tie_does_not_flicker():
    rng = np.random.default_rng(3)
    around = [np.float32([0.45, 0.45, 0.1]) + np.float32([noise, -noise, 0]) for noise in rng.normal(0, 0.05, 300)]
    seen = shown(smoother(), HAPPY, *around, fps=30.0)
    assert set(seen) == {"happy"}


def test_a_highest_score_under_its_threshold_is_uncertain():
    reading = smoother(happy=0.9).update(1, 0.0, HAPPY)
    assert reading.expression == UNCERTAIN
    assert reading.confidence == pytest.approx(0.8)


def test_only_the_highest_labels_own_threshold_counts():
    assert smoother(sad=0.99).update(1, 0.0, HAPPY).expression == "happy"


def test_uncertain_comes_and_goes_with_the_scores():
    weak = np.float32([0.4, 0.3, 0.3])
    seen = shown(smoother(happy=0.6), *[HAPPY] * 5, *[weak] * 15, *[HAPPY] * 15)
    assert [here for here, before in zip(seen, ["", *seen], strict=False) if here != before] == [
        "happy",
        UNCERTAIN,
        "happy",
    ]


def test_a_score_that_trembles_at_its_threshold_does_not_flicker():
    rng = np.random.default_rng(4)
    around = [np.float32([0.58, 0.21, 0.21]) + np.float32([n, -n / 2, -n / 2]) for n in rng.normal(0, 0.06, 300)]
    seen = shown(smoother(happy=0.6), *around, fps=30.0)
    changes = sum(here != before for here, before in pairwise(seen))
    assert changes <= 1


def test_a_label_under_its_own_threshold_has_no_benefit_of_the_doubt():
    smooth = smoother(happy=0.6, time_constant=0.01)
    close = np.float32([0.44, 0.46, 0.1])
    assert shown(smooth, HAPPY, close, close) == ["happy", "happy", "sad"]


def test_without_a_time_constant_every_frame_stands_for_itself():
    assert shown(smoother(time_constant=0.0), HAPPY, SAD, NEUTRAL) == ["happy", "sad", "neutral"]


def test_tracks_do_not_touch_each_other():
    smooth = smoother()
    smooth.update(1, 0.0, HAPPY)
    assert smooth.update(2, 0.1, SAD).expression == "sad"
    assert smooth.last(1).expression == "happy"


def test_a_track_that_is_forgotten_begins_anew():
    smooth = smoother()
    smooth.update(1, 0.0, HAPPY)
    smooth.forget(1)
    assert smooth.last(1) is None
    assert smooth.update(1, 0.1, SAD).expression == "sad"
    smooth.forget(99)


def test_a_readings_scores_do_not_change_afterwards():
    smooth = smoother()
    first = smooth.update(1, 0.0, HAPPY)
    smooth.update(1, 1.0, SAD)
    np.testing.assert_array_equal(first.scores, HAPPY)
