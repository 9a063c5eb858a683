"""The model card: what stands in the file, in words, and nothing else."""

from export.card import as_markdown

BARE = {"name": "some", "labels": ["a|b", "c"], "input": {"size": 48}, "output": {}}


def test_what_the_file_does_not_say_is_not_told():
    card = as_markdown(BARE, file_name="some.tflite", file_bytes=1)
    assert "| left out of training | not told |" in card
    assert "How good it is" not in card


def test_a_provenance_that_is_none_and_figures_without_a_command_are_not_told_either():
    card = BARE | {"provenance": None, "accuracy": {"validation": {"count": 3, "float": 0.5}}}
    assert "| left out of training | not told |" in as_markdown(card, file_name="some.tflite", file_bytes=1)
    assert "Measured by `not told`" in as_markdown(card, file_name="some.tflite", file_bytes=1)


def test_whether_anything_was_left_out_of_training_is_told():
    def of(left_out):
        return as_markdown(
            BARE | {"provenance": {"left_out_of_training": left_out}}, file_name="some.tflite", file_bytes=1
        )

    assert "| left out of training | nothing |" in of({})
    assert "| left out of training | 1,234 blank, 5 exact duplicates |" in of({"blank": 1234, "exact duplicates": 5})


def test_a_label_with_a_bar_breaks_no_table():
    card = as_markdown(BARE | {"thresholds": {"a|b": 0.5, "c": 0.0}}, file_name="some.tflite", file_bytes=1)
    assert "| a\\|b | 0.500 |  |  |" in card


def test_what_a_training_went_on_from_is_told_with_what_that_had_seen():
    before = {"dataset": "fer2013.csv", "command": "mien-train fit fer2013.csv", "left_out_of_training": {"blank": 11}}
    card = as_markdown(BARE | {"provenance": {"went_on_from": before}}, file_name="some.tflite", file_bytes=1)
    assert "| which was trained on | fer2013.csv, by `mien-train fit fer2013.csv`; left out: 11 blank |" in card
    assert "which was trained on" not in as_markdown(
        BARE | {"provenance": {"went_on_from": {}}}, file_name="s", file_bytes=1
    )


def test_teachers_and_votes_are_told_where_there_were_any():
    teacher = {
        "architecture": "mobilenet_v2", "pretraining": "none", "validation_accuracy": 0.675, "command": "mien-train fit"
    }  # fmt: skip
    provenance = {
        "teachers": [teacher, teacher | {"commit": "5eed", "file": "sha256:0ff"}],
        "settings": {"votes": "ferplus.csv"},
    }
    card = as_markdown(BARE | {"provenance": provenance}, file_name="some.tflite", file_bytes=1)
    told = "mobilenet_v2 from none, 67.50% on the validation split, trained by `mien-train fit`"
    assert f"| taught by | {told}; {told} at 5eed, sha256:0ff |" in card
    assert "| votes | FER+'s, `ferplus.csv`, by a second head |" in card
    assert "taught by" not in as_markdown(BARE, file_name="some.tflite", file_bytes=1)
