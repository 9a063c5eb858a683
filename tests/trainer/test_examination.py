"""Everything that the report says, measured on a classifier whose answers can be foreseen."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the trainer extra is not installed")
pytest.importorskip("sklearn", reason="the trainer extra is not installed")

from edge.labels import FER2013_LABELS
from trainer.calibration import probabilities, reliability
from trainer.datasets import Split
from trainer.evaluation import Classifier
from trainer.examination import OWN_TEMPERATURE, examine
from trainer.robustness import CORRUPTIONS
from trainer.sensitivity import STEPS

pytestmark = pytest.mark.trainer


def split_of(faces, count: int, seed: int, wrong: float = 0.2) -> Split:
    """Drawn faces, a share of them with the next label, in rows from 1000 on."""
    images, labels = faces(count, 32, seed)
    flipped = np.random.default_rng(seed).random(count) < wrong
    return Split(images, np.where(flipped, (labels + 1) % 7, labels), np.arange(count, dtype=np.int64) + 1000)


@pytest.fixture(scope="module")
def split(faces) -> Split:
    return split_of(faces, 280, 0)


@pytest.fixture(scope="module")
def validation(faces) -> Split:
    return split_of(faces, 140, 1)


@pytest.fixture(scope="module")
def told(band_classifier, split, validation):
    """The examination, and what the progress was told."""
    steps = []
    found = examine(band_classifier, split, validation, samples=70, progress=lambda *step: steps.append(step))
    return found, steps


@pytest.fixture(scope="module")
def found(told):
    return told[0]


def test_calibration_is_fitted_on_validation_and_counted_on_the_split(found, band_classifier, split):
    logits = band_classifier.logits(split.images, None)
    errors = found.to_dict()["calibration"]["expected_calibration_error"]
    for name, temperature in (("as the network says it", 1.0), (OWN_TEMPERATURE, 2.0)):
        shares = probabilities(logits, temperature)
        counted = reliability(shares.max(axis=1), shares.argmax(axis=1) == split.labels).error
        assert errors[name] == pytest.approx(counted, abs=1e-5)
    assert errors["with the fitted temperature"] < errors["as the network says it"]


def test_where_every_face_is_answered_the_risk_is_that_of_the_split(found):
    assert found.accuracy_at(1.0) == pytest.approx(found.evaluation.accuracy)
    assert found.area_under_risk == pytest.approx(found.risk.mean())


def test_every_curve_begins_undisturbed_on_the_same_sample(found):
    starts = {curve.accuracy[0] for curve in found.corruptions} | {found.sizes.accuracy[-1], found.jitters.accuracy[0]}
    assert len(starts) == 1
    assert found.samples == 70
    assert [curve.name for curve in found.corruptions] == [kind.name for kind in CORRUPTIONS]
    assert all(len(curve.accuracy) == 6 for curve in found.corruptions)
    assert found.sizes.levels == (12, 16, 20, 24, 32)


def test_boxes_that_miss_the_bands_cost_accuracy(found):
    assert found.jitters.levels == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert found.jitters.accuracy[-1] < found.jitters.accuracy[0]
    assert found.jitters.macro_f1[-1] < found.jitters.macro_f1[0]


def test_each_expression_hangs_on_its_own_band(found):
    for label in range(7):
        rows = found.parts.drop[label].mean(axis=1)
        assert abs(int(rows.argmax()) - label) <= 1
        assert found.parts.drop[label].shape == (STEPS, STEPS)


def test_the_worst_mistakes_are_named_by_row_and_worst_first(found, band_classifier, split):
    shares = probabilities(band_classifier.logits(split.images, None), found.temperature)
    assert len(found.mistakes) == 24
    confidences = [each.confidence for each in found.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    for each in found.mistakes:
        assert each.row == 1000 + each.place
        assert each.truth == FER2013_LABELS[split.labels[each.place]] != each.answer
        assert each.confidence == pytest.approx(shares[each.place].max())


def test_mistakes_bear_their_files_names_only_where_these_are_given(found, band_classifier, split, validation):
    assert {each.file for each in found.mistakes} == {""}
    assert all("file" not in each for each in found.to_dict()["worst_mistakes"])
    files = [f"happy/{row}.png" for row in range(1000 + len(split))]
    named = examine(band_classifier, split, validation, samples=7, files=files)
    assert [each.file for each in named.mistakes] == [f"happy/{each.row}.png" for each in named.mistakes]
    assert [each["file"] for each in named.to_dict()["worst_mistakes"]] == [each.file for each in named.mistakes]


def test_the_model_file_s_own_thresholds_are_scored_by_its_own_temperature(found, band_classifier, split):
    shares = probabilities(band_classifier.logits(split.images, None), 2.0)
    sure = shares.argmax(axis=1) != FER2013_LABELS.index("sad")  # of which it is never sure enough
    right = shares.argmax(axis=1) == split.labels
    assert 0 < sure.mean() < 1
    told = found.to_dict()["own_thresholds"]
    assert told["coverage"] == pytest.approx(sure.mean(), abs=1e-5)
    assert told["accuracy"] == pytest.approx(right[sure].mean(), abs=1e-5)


def test_the_bar_runs_to_its_end(told):
    _, steps = told
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1]
    assert len({total for _, total in steps}) == 1


def test_validation_itself_is_asked_only_once(band_classifier, validation):
    asked = []

    def logits(images, progress):
        asked.append(len(images))
        return band_classifier.logits(images, progress)

    counting = Classifier(Path("x"), FER2013_LABELS, "float", None, None, {}, logits)
    found = examine(counting, validation, validation, samples=7)
    assert asked.count(len(validation)) == 1
    assert OWN_TEMPERATURE not in found.reliabilities


def test_the_mean_face_is_out_of_focus_and_that_of_few_is_not_shown(found, band_classifier, split, validation):
    assert found.mean_face.shape == (32, 32)
    assert found.mean_face.std() < 0.98 * split.images.mean(axis=0).std(), "out of focus"
    assert examine(band_classifier, validation, validation, samples=7).mean_face is None


def test_a_split_without_some_label_or_with_one_alone_gives_finite_figures(band_classifier, split):
    for kept in (split.labels != 1, split.labels == 3):
        part = split.where(kept)
        found = examine(band_classifier, part, part, samples=20)
        json.dumps(found.to_dict(), allow_nan=False)
        assert found.parts.count[1] == 0
    assert found.evaluation.support.tolist() == [0, 0, 0, len(part), 0, 0, 0]


def test_where_all_is_right_there_is_no_mistake(band_classifier, faces):
    part = split_of(faces, 70, 5, wrong=0.0)
    found = examine(band_classifier, part, part, samples=7)
    assert found.mistakes == ()
    assert found.evaluation.accuracy == 1
    assert found.area_under_risk == 0
