"""One temperature for the logits."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="the trainer extra is not installed")

from trainer.calibration import MIN_OF_EACH, fit_temperature, reliability, risk_by_coverage


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def drawn(count: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are too sure by a factor of `temperature`, and truths drawn as often as the right ones say."""
    rng = np.random.default_rng(0)
    right = rng.normal(0, 2, (count, 7))
    likely = softmax(right).cumsum(axis=1)
    truth = (rng.random((count, 1)) > likely).sum(axis=1).clip(0, 6)
    return (right * temperature).astype(np.float32), truth.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_a_known_temperature_is_found_again(temperature):
    logits, truth = drawn(20_000, temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.03)


def answered(right, wrong):
    """Logits that are as sure of each answer, and the truth that makes so many of them right and wrong."""
    truth = np.arange(right + wrong) % 7
    guess = np.where(np.arange(right + wrong) < right, truth, (truth + 1) % 7)
    return np.eye(7, dtype=np.float32)[guess] * 5, truth


def test_logits_that_are_nearly_always_wrong_stay_within_bounds():
    assert fit_temperature(*answered(MIN_OF_EACH, 10_000)) == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize("right", [12, 1000])
def test_a_few_wrong_answers_or_right_ones_leave_the_temperature_at_1(right):
    for few in (0, MIN_OF_EACH - 1):
        assert fit_temperature(*answered(right, few)) == 1
        assert fit_temperature(*answered(few, right)) == 1
    assert fit_temperature(*answered(1000, MIN_OF_EACH)) != 1


def test_the_fitted_temperature_calibrates():
    logits, truth = drawn(20_000, 3.0)
    right = logits.argmax(axis=1) == truth
    before = reliability(softmax(logits).max(axis=1), right).error
    after = reliability(softmax(logits / fit_temperature(logits, truth)).max(axis=1), right).error
    assert before > 0.1
    assert after < 0.02


def test_the_calibration_error_is_the_one_counted_by_hand():
    bins = reliability(np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, False, True, True]), bins=10)
    assert bins.error == pytest.approx(0.45)
    full = reliability(np.array([1.0, 0.96]), np.array([True, True]), bins=10)
    assert (full.count.tolist(), full.error) == ([2], pytest.approx(0.02))


def test_bins_without_an_image_are_left_out_of_the_reliability_diagram():
    bins = reliability(np.array([0.95, 0.97, 0.55]), np.array([True, False, True]), bins=10)
    assert bins.confidence.tolist() == pytest.approx([0.55, 0.96])
    assert bins.accuracy.tolist() == [1.0, 0.5]
    assert bins.count.tolist() == [1, 2]
    assert bins.error == pytest.approx((0.45 + 2 * 0.46) / 3)


def test_risk_grows_from_the_most_confident_answer_on_as_counted_by_hand():
    confidence, right = np.array([0.5, 0.9, 0.7, 0.6]), np.array([False, True, False, True])
    assert risk_by_coverage(confidence, right).tolist() == pytest.approx([0, 1 / 2, 1 / 3, 2 / 4])
