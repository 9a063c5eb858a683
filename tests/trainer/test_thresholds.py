"""From which confidence on an expression is named."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the trainer extra is not installed")

from trainer.thresholds import MIN_ANSWERS, fit_thresholds, name_sure

LABELS = ("happy", "sad")


def answers(label: int, confidence: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and truths of so many answers `label`."""
    shares = np.empty((len(confidence), 2))
    shares[:, label], shares[:, 1 - label] = confidence, 1 - confidence
    return shares, np.where(right, label, 1 - label)


def both(*parts: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def spread(count: int = 2000) -> np.ndarray:
    return np.linspace(0.5001, 0.9999, count)


def right_half_of_the_time_at(threshold: float, sure: np.ndarray, seed: int) -> np.ndarray:
    """Whether answers are right whose odds are those of their confidence over those of the threshold."""
    odds = sure / (1 - sure) / (threshold / (1 - threshold))
    return np.random.default_rng(seed).random(len(sure)) < odds / (1 + odds)


def test_each_label_is_named_from_where_its_own_answers_are_right_often_enough():
    sure = spread()
    happy = answers(0, sure, right_half_of_the_time_at(0.6, sure, 0))
    sad = answers(1, sure, right_half_of_the_time_at(0.8, sure, 1))
    found = fit_thresholds(*both(happy, sad), LABELS)
    assert found["happy"] == pytest.approx(0.6, abs=0.03)
    assert found["sad"] == pytest.approx(0.8, abs=0.03)


def test_more_precision_asks_for_more_confidence():
    sure = spread()
    calibrated = answers(0, sure, right_half_of_the_time_at(0.5, sure, 2))
    for wanted in (0.6, 0.7, 0.8, 0.9):
        assert fit_thresholds(*calibrated, LABELS, precision=wanted)["happy"] == pytest.approx(wanted, abs=0.03)


def test_what_is_always_right_is_always_named_and_what_never_is_never():
    right = answers(0, spread(), np.ones(2000, bool))
    wrong = answers(1, spread(), np.zeros(2000, bool))
    assert fit_thresholds(*both(right, wrong), LABELS) == {"happy": 0.0, "sad": 1.0}


def test_a_threshold_that_no_answer_can_miss_is_none():
    sure = spread()
    assert fit_thresholds(*answers(0, sure, right_half_of_the_time_at(0.3, sure, 3)), LABELS)["happy"] == 0.0


@pytest.mark.parametrize(("share", "threshold"), [(0.7, 0.0), (0.3, 1.0)])
def test_where_confidence_tells_nothing_all_are_named_or_none(share, threshold):
    sure = spread()
    backwards = np.arange(len(sure)) < share * len(sure)  # the surer, the wronger
    assert fit_thresholds(*answers(0, sure, backwards), LABELS)["happy"] == threshold


@pytest.mark.parametrize(("precision", "threshold"), [(0.0, 0.0), (1.0, 1.0)])
def test_any_precision_and_perfection_are_answered_too(precision, threshold):
    sure = spread()
    table = answers(0, sure, right_half_of_the_time_at(0.6, sure, 4))
    assert fit_thresholds(*table, LABELS, precision=precision)["happy"] == threshold


def test_a_few_faces_leave_the_precision_itself_which_calibrated_answers_keep():
    few, right = spread(MIN_ANSWERS - 1), np.ones(MIN_ANSWERS - 1, bool)
    probabilities, truth = answers(0, few, right)
    assert fit_thresholds(probabilities, truth, LABELS, precision=0.6) == dict.fromkeys(LABELS, 0.6)


def test_a_label_with_few_answers_or_none_takes_the_threshold_of_all_together():
    sure = spread()
    common = answers(0, sure, right_half_of_the_time_at(0.7, sure, 5))
    rare = answers(1, spread(MIN_ANSWERS - 1), np.zeros(MIN_ANSWERS - 1, bool))
    found = fit_thresholds(*both(common, rare), LABELS)
    assert found["sad"] == pytest.approx(0.71, abs=0.04)
    assert found["happy"] != found["sad"]
    assert fit_thresholds(*common, LABELS)["sad"] == fit_thresholds(*common, LABELS)["happy"]


def test_a_network_that_is_quite_sure_breaks_nothing():
    shares, truth = answers(0, np.ones(200), np.arange(200) % 3 > 0)
    assert 0 <= fit_thresholds(shares, truth, LABELS)["happy"] <= 1


def test_what_is_left_is_counted_as_by_hand():
    shares = np.array([[0.9, 0.1], [0.6, 0.4], [0.55, 0.45], [0.2, 0.8]])
    naming = name_sure(shares, np.array([0, 1, 0, 1]), {"happy": 0.6, "sad": 0.9})
    assert naming.coverage == 0.5
    assert naming.accuracy == 0.5
    assert naming.to_dict()["classes"] == {
        "happy": {"threshold": 0.6, "answers": 3, "coverage": 0.66667, "precision": 0.5},
        "sad": {"threshold": 0.9, "answers": 1, "coverage": 0.0, "precision": None},
    }


def test_where_nothing_is_named_there_is_no_accuracy():
    assert name_sure(np.array([[0.6, 0.4]]), np.array([0]), {"happy": 1.0, "sad": 1.0}).accuracy is None
