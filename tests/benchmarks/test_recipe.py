"""The recipe's table: each rung one piece more than the one before, and whole trainings by what they were."""

import json
from dataclasses import asdict
from itertools import pairwise

import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from benchmarks.recipe import as_markdown, changes, describe, preset_of, rungs
from trainer import keras_file
from trainer.augmentation import Recipe
from trainer.presets import PRESETS, VIEWS
from trainer.training import Settings

pytestmark = pytest.mark.trainer


@pytest.fixture
def folder(tmp_path, monkeypatch):
    run = tmp_path / "mine"
    run.mkdir()
    settings = asdict(Settings(weights="v1.h5", votes="votes.csv", teachers=("one", "two"), epochs=3)) | {"blocks": 11}
    told = {"architecture": "mobilenet_v1", "parameters": 1234567, "left_out_of_training": {"blank": 1}}
    card = {"provenance": told | {"settings": settings}, "selected": {"validation_accuracy": 0.5}}
    monkeypatch.setattr(keras_file, "read_card", lambda path: card)
    (run / "history.json").write_text(json.dumps([{"seconds": 100}, {"seconds": 80}]))
    return run


def test_each_rung_differs_from_the_one_before_in_one_thing():
    ladder = rungs(Settings(weights="imagenet"), "votes.csv", ("teacher.keras",))
    settings = [asdict(each) for _, each in ladder]
    for before, after in pairwise(settings):
        assert len([key for key in before if before[key] != after[key]]) == 1
    assert len({name for name, _ in ladder}) == len(ladder)


def test_each_change_of_the_whole_is_one_and_no_other_s():
    (_, whole), *changed = changes(rungs(Settings(weights="imagenet"), "votes.csv", ("teacher.keras",))[-1][1])
    for _, settings in changed:
        keys = {key for key, value in asdict(whole).items() if asdict(settings)[key] != value}
        assert len(keys) == 1 or keys == {"blocks", "last_stride"}
    assert len({name for name, _ in changed}) == len(changed) == len({repr(settings) for _, settings in changed})


def test_a_whole_training_is_told_by_its_own_card(folder):
    told, parameters, epochs, minutes, accuracy = describe(folder)
    assert told == (
        "`mine`: mobilenet_v1 1 to block 11, from v1, blurred and noisy faces, FER+'s votes, taught by one and two, "
        "seed 1"
    )
    assert (parameters, epochs, minutes, accuracy) == ("1,234,567", "2 of 4", "3", "50.00%")


@pytest.mark.parametrize("name", PRESETS)
def test_a_whole_training_is_called_by_the_preset_that_repeats_it(name):
    preset = PRESETS[name]
    options = dict(preset.options)
    views = {key: options.pop(key) for key in VIEWS if key in options}
    start = {"teacher": "model.keras", "none": "none"}.get(str(options.pop("weights", "")), "v1.h5")
    lessons = {"teachers": ["one"] if preset.teachers else [], "votes": "votes.csv" if preset.votes else ""}
    settings = asdict(Settings(**options)) | {"weights": start, "seed": 9, "augmentation": asdict(Recipe(**views))}
    assert preset_of(settings | lessons) == name
    assert preset_of(settings | lessons | {"learning_rate": 0.5}) == ""


def test_the_page_holds_gains_and_whole_trainings(folder):
    rows = [("bare", [0.4]), ("more", [0.5, 0.52])]
    page = as_markdown(rows, Settings(epochs=4), "python -m …", changed=[], longer=0, finished=[folder])
    assert "| + more | 51.00% | +11.00 | 50.00%, 52.00% |" in page
    assert "| `mine`: mobilenet_v1" in page
    assert "One thing changed" not in page


def test_the_page_holds_what_each_change_of_the_whole_costs():
    changed = [("nothing", [0.7]), ("no mixup", [0.69])]
    page = as_markdown([("bare", [0.4])], Settings(), "python -m …", changed=changed, longer=10, finished=[])
    assert "for 10 epochs, and the same with one thing changed; means of one seed" in page
    assert "| nothing | 70.00% |  |\n| no mixup | 69.00% | -1.00 |" in page
    assert "Whole trainings" not in page
