"""The recipe's table: each rung one piece more than the one before, and whole trainings by what they were."""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from benchmarks.recipe import as_markdown, changes, describe, measure, open_section, preset_of, read_record, rungs
from edge.errors import UsageError
from trainer import keras_file
from trainer.presets import PRESETS
from trainer.settings import VIEWS, Recipe, Settings

pytestmark = pytest.mark.trainer

ROOT = Path(__file__).parents[2]


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
    lessons = {"teachers": ["a.keras"] * len(preset.teachers), "votes": "votes.csv" if preset.votes else ""}
    settings = asdict(Settings(**options)) | {"weights": start, "seed": 9, "augmentation": asdict(Recipe(**views))}
    assert preset_of(settings | lessons) == name
    assert preset_of(settings | lessons | {"learning_rate": 0.5}) == ""


def test_every_whole_training_on_the_page_can_be_asked_for_by_name():
    for cells in read_record(ROOT / "docs" / "recipe.json")["trainings"]["rows"].values():
        assert cells[0].split("`")[1] in PRESETS


ASKED = {"size": 48, "epochs": 4, "seeds": [1, 2], "teachers": ["one"]}


def section(rows, **asked):
    return {"asked": ASKED | asked, "command": "python -m …", "rows": rows}


def test_the_page_holds_gains_and_whole_trainings(folder):
    record = {
        "ladder": section({"bare": [0.4], "more": [0.5, 0.52]}),
        "trainings": {"rows": {"mine": describe(folder)}},
    }
    page = as_markdown(record)
    assert "| + more | 51.00% | +11.00 | 50.00%, 52.00% |" in page
    assert "| `mine`: mobilenet_v1" in page
    assert "One thing changed" not in page


def test_conclusions_stand_beside_the_rows_that_they_are_drawn_from_and_nowhere_else():
    record = {"ladder": section({"bare": [0.4]}) | {"remark": "Chance."}, "changes": section({"nothing": [0.7]})}
    page = as_markdown(record)
    assert page.index("| bare |") < page.index("Chance.") < page.index("| nothing |")
    assert "Chance." not in as_markdown({"changes": record["changes"]})


def test_the_page_holds_what_each_change_of_the_whole_costs():
    page = as_markdown({"changes": section({"nothing": [0.7], "no mixup": [0.69]}, epochs=10, seeds=[1])})
    assert "for 10 epochs, and the same with one thing changed; means of one seed" in page
    assert "| nothing | 70.00% |  |\n| no mixup | 69.00% | -1.00 |" in page
    assert "Whole trainings" not in page


def test_a_row_is_trained_once_from_each_seed_and_never_again():
    trained = []

    def train(name, settings, seed):
        trained.append((name, settings.seed, seed))
        return 0.5

    known = section({"nothing": [0.7, 0.71]})
    plan = [("nothing", Settings()), ("no mixup", Settings())]
    assert list(measure(known, plan, train)) == ["no mixup"]
    assert trained == [("no mixup", 1, 1), ("no mixup", 2, 2)]
    assert known["rows"] == {"nothing": [0.7, 0.71], "no mixup": [0.5, 0.5]}
    assert list(measure(known, plan, train)) == []


def test_rows_that_were_measured_otherwise_stand_beside_no_new_ones():
    record = {"changes": section({"nothing": [0.7]})}
    assert open_section(record, "changes", ASKED, "python -m …")["rows"] == {"nothing": [0.7]}
    with pytest.raises(UsageError, match=r"changes: measured before with teachers \['one'\], not \['two'\]"):
        open_section(record, "changes", ASKED | {"teachers": ["two"]}, "python -m …")
    assert open_section(record, "ladder", ASKED, "python -m …")["rows"] == {}


def test_the_page_in_the_repository_is_the_one_that_its_record_makes():
    docs = Path(__file__).parents[2] / "docs"
    assert as_markdown(read_record(docs / "recipe.json")) == (docs / "recipe.md").read_text(encoding="utf-8")
