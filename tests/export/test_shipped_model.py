"""What the models that ship must reach, by their own records and, where FER2013 is at hand, measured anew."""

import copy

import pytest

from edge.labels import FER2013_LABELS
from edge.model import open_model
from edge.modelfile import SHIPPED, SMALL

pytest.importorskip("sklearn", reason="the trainer extra is not installed")

from benchmarks import fer2013
from benchmarks.shipped_model import LIMITS, SAME, shortcomings
from export.card import as_markdown


@pytest.fixture(scope="module", params=[SHIPPED, SMALL], ids=["full", "small"])
def path(request):
    return request.param


@pytest.fixture(scope="module")
def model(path):
    return open_model(path)


def test_a_shipped_model_reaches_by_its_record_what_it_must(model, path):
    assert shortcomings(model.card.content["accuracy"], path.stat().st_size, LIMITS[path]) == []
    assert model.labels == FER2013_LABELS


def test_a_model_that_falls_short_anywhere_is_told_so(model, path):
    accuracy = copy.deepcopy(model.card.content["accuracy"])
    accuracy["test"]["int8"] = 0.65
    accuracy["together"] |= {"agreement": 0.9, "difference_points": -0.7}
    assert len(shortcomings(accuracy, 4_000_001, LIMITS[path])) == 4


def test_it_was_trained_clean_from_imagenet_weights_by_a_command_that_its_card_names(model):
    provenance = model.card.content["provenance"]
    for origin in [provenance, *provenance["teachers"]]:
        assert "imagenet" in origin["pretraining"]
        assert origin["left_out_of_training"]["also in a test split"] > 0
    assert provenance["command"].startswith("mien-train fit fer2013.csv")


def test_the_card_beside_it_is_the_one_that_its_file_makes(model, path):
    made = as_markdown(model.card.content, file_name=path.name, file_bytes=path.stat().st_size)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == made


def test_its_accuracy_on_public_test_is_the_recorded_one(model):
    from trainer.evaluation import evaluate, tflite_logits

    if not fer2013.place().exists():
        pytest.skip(f"FER2013 is not at {fer2013.place()}; name it with MIEN_FER2013")
    dataset = fer2013.load(fer2013.place())
    chosen_on = dataset.validation  # PrivateTest opens with --final alone
    result = evaluate(tflite_logits(model, chosen_on), chosen_on.labels, dataset.labels)
    assert result.accuracy == pytest.approx(model.card.content["accuracy"]["validation"]["int8"], abs=SAME)
