"""What the doctor says of the model that the daemon uses."""

import os
from pathlib import Path

import pytest

from edge.doctor_model import check_model
from edge.labels import FER2013_LABELS
from edge.model_store import FOLDER, begin, confirm, entry_of, give_up, path_of, short, use
from edge.modelfile import read_model_file

FOREIGN = Path(__file__).parent / "models/grey_int8_logits.tflite"
ENTRY = entry_of("mine", read_model_file(FOREIGN).sha256)
LABELS = {"model.labels": ",".join(FER2013_LABELS)}


@pytest.fixture
def subject(make_subject):
    """Who has state in a folder below the scripted root; returns that and the models' folder."""
    made = make_subject(keys=LABELS, environ={"STATE_DIRECTORY": "/var/lib/mien"})
    folder = made.root / "var/lib/mien" / FOLDER
    folder.mkdir(parents=True)
    path_of(folder, ENTRY).write_bytes(FOREIGN.read_bytes())
    return made, folder


def test_the_model_is_named_with_its_self_test_and_its_time(make_subject):
    assert "its self-test passes; " in check_model(make_subject()).found
    foreign = make_subject(keys={"model.path": str(FOREIGN), "model.labels": "a,b,c,d,e,f,g"})
    assert "grey_int8_logits: it holds no self-test" in check_model(foreign).found


def test_a_model_that_is_none_is_a_fault_with_advice(make_subject, tmp_path):
    (tmp_path / "junk.tflite").write_bytes(b"junk")
    finding = check_model(make_subject(keys={"model.path": str(tmp_path / "junk.tflite")}))
    assert finding.status == "fault"
    assert "junk.tflite: not a .tflite model" in finding.found


def test_without_a_choice_it_is_the_shipped_one(make_subject):
    finding = check_model(make_subject(environ={"STATE_DIRECTORY": "/var/lib/mien"}))
    assert (finding.status, finding.found.partition("@")[0]) == ("ok", "mien-v1-48")


def test_a_model_that_was_chosen_is_the_one_that_is_looked_at(subject):
    made, folder = subject
    use(folder, ENTRY)
    finding = check_model(made)
    assert finding.status == "ok"
    assert finding.found.startswith(f"{short(ENTRY)}: it holds no self-test")
    assert finding.found.endswith("ms a face, on trial")
    begin(folder), confirm(folder, ENTRY)
    assert check_model(made).found.endswith("ms a face")


def test_one_that_was_given_up_is_a_warning_with_both_ways_out(subject):
    made, folder = subject
    use(folder, ENTRY)
    give_up(folder, ENTRY, "3 starts with it ended")
    finding = check_model(made)
    assert (finding.status, f"{short(ENTRY)} was given up: 3 starts with it ended" in finding.found) == (
        "warning",
        True,
    )
    assert f"mien model use {short(ENTRY)}; or stay with this one: mien model use shipped" in finding.advice


def test_a_model_that_is_damaged_on_the_card_is_a_fault(subject):
    made, folder = subject
    use(folder, ENTRY)
    path_of(folder, ENTRY).write_bytes(FOREIGN.read_bytes()[:-1])
    finding = check_model(made)
    assert finding.status == "fault"
    assert "damaged" in finding.found


def test_a_choice_that_cannot_be_understood_is_a_warning(subject):
    made, folder = subject
    (folder / "choice.json").write_text("{")
    finding = check_model(made)
    assert (finding.status, "choice.json is damaged" in finding.found) == ("warning", True)
    assert finding.advice == "choose again: mien model use NAME"


def test_where_nobody_may_look_it_says_so(subject, monkeypatch):
    made, folder = subject

    def refuse(*_: object) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(Path, "iterdir", refuse)
    finding = check_model(made)
    assert (finding.status, finding.advice) == ("warning", "run it again: sudo mien doctor")
    assert str(folder) in finding.found
