"""The log of every look at a test split: lines are added and never lost."""

import os
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("keras", reason="the trainer extra is not installed")
pytest.importorskip("sklearn", reason="the trainer extra is not installed")

from edge.errors import InputNotFoundError, OutputError
from trainer.datasets import NEAR
from trainer.evaluation import evaluate
from trainer.model_log import COLUMNS, Entry, append, digest, protocol, refuse_unusable

pytestmark = pytest.mark.trainer

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
RESULT = evaluate(
    np.eye(2, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 1, 1, 1]), ("happy", "sad"),
    copied=np.array([True, False, False, False]),
)  # fmt: skip
CARD = {
    "provenance": {
        "left_out_of_training": {"blank": 3},
        "seed": 2,
        "command": "mien-train fit fer2013.csv --seed 2",
        "commit": "0123456789abcdef",
    }
}


def entry(name: str = "mien.tflite", card: dict | None = None) -> Entry:
    return Entry(name, "8c33fa74" + "0" * 56, "int8", "fer2013.csv", RESULT, CARD if card is None else card)


def rows(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.replace("\\|", "¦").split("|")[1:-1]] for line in lines]


def test_a_new_log_has_a_heading_a_table_and_a_line_with_everything(tmp_path):
    log = tmp_path / "model-log.md"
    append(log, [entry()], now=NOW)
    assert log.read_text().startswith("# Model log\n")
    head, _, line = rows(log)
    assert tuple(head) == COLUMNS
    assert line == [
        "2026-11-21 09:30", "mien.tflite", "8c33fa74", "int8", "fer2013.csv", "4", "75.00% ± 32.69", "66.67%", "0.7333",
        "clean", "2", "mien-train fit fer2013.csv --seed 2", "01234567",
    ]  # fmt: skip


def test_later_lines_come_after_earlier_ones_which_stay_as_they_are(tmp_path):
    log = tmp_path / "model-log.md"
    append(log, [entry("a.keras"), entry("b.tflite")], now=NOW)
    before = log.read_text()
    append(log, [entry("c.tflite")])
    assert log.read_text().startswith(before)
    assert [row[1] for row in rows(log)[2:]] == ["a.keras", "b.tflite", "c.tflite"]
    assert log.read_text().count("# Model log") == 1


def test_what_somebody_wrote_in_it_stays_and_the_table_goes_on_below(tmp_path):
    log = tmp_path / "model-log.md"
    append(log, [entry("a.keras")], now=NOW)
    with log.open("a") as file:
        file.write("\nThe first one was a trial.")
    append(log, [entry("b.keras")], now=NOW)
    text = log.read_text()
    assert "The first one was a trial.\n\n| date" in text
    assert [row[1] for row in rows(log)] == ["model", "---", "a.keras", "model", "---", "b.keras"]


def test_a_name_with_a_bar_or_a_line_break_makes_no_cell_or_line_of_its_own(tmp_path):
    log = tmp_path / "model-log.md"
    append(log, [entry("a|b\nc.tflite")], now=NOW)
    assert rows(log)[-1][1] == "a¦b\\nc.tflite"
    assert len(rows(log)[-1]) == len(COLUMNS)


def test_a_network_that_tells_little_is_logged_all_the_same(tmp_path):
    log = tmp_path / "model-log.md"
    append(log, [entry(card={})], now=NOW)
    assert rows(log)[-1][-4:] == ["not told", "not told", "not told", "not told"]


def test_the_protocol_is_what_was_left_out_of_training():
    assert protocol(CARD) == "clean"
    assert protocol({"provenance": {"left_out_of_training": {}}}) == "literature's"
    assert protocol({}) == "not told"
    strict = {"left_out_of_training": {NEAR: 0}}
    assert protocol({"provenance": strict}) == "strictly clean"
    assert protocol({"provenance": strict | {"teachers": [strict]}}) == "strictly clean"
    assert protocol({"provenance": strict | {"teachers": [{"left_out_of_training": {"blank": 1}}]}}) == "clean"


@pytest.mark.parametrize("before", [lambda seen: {"teachers": [seen]}, lambda seen: {"went_on_from": seen}])
def test_what_a_network_learned_from_must_not_have_seen_them_either(before):
    clean = {"left_out_of_training": {"blank": 11}}
    for seen, expected in (
        (clean, "clean"),
        ({"left_out_of_training": {}}, "literature's"),
        ({"command": "?"}, "not told"),
    ):
        assert protocol({"provenance": clean | before(seen)}) == expected
        assert protocol({"provenance": clean | {"teachers": [clean | before(seen)]}}) == expected


def add_many(path: Path, name: str) -> None:
    for _ in range(20):
        append(path, [entry(name)], now=NOW)


def test_writers_at_the_same_time_lose_no_line(tmp_path):
    log = tmp_path / "model-log.md"
    writers = [get_context("fork").Process(target=add_many, args=(log, f"{number}.keras")) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert sorted(row[1] for row in rows(log)[2:]) == sorted([f"{n}.keras" for n in range(3)] * 20)
    assert log.read_text().count("# Model log") == 1


def test_a_disk_that_fills_leaves_the_log_as_it_was_and_the_error_holds_the_line(tmp_path, monkeypatch):
    log = tmp_path / "model-log.md"
    append(log, [entry("a.keras")], now=NOW)
    before = log.read_bytes()
    write = os.write

    def full(descriptor: int, content: bytes) -> int:
        if len(content) < 20:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[:-10])

    monkeypatch.setattr("trainer.model_log.os.write", full)
    with pytest.raises(OutputError, match=r"No space left on device(.|\n)*\| b\.keras \|"):
        append(log, [entry("b.keras")], now=NOW)
    assert log.read_bytes() == before


def test_a_log_that_cannot_be_added_to_is_refused_beforehand(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "log.md"):
        with pytest.raises(OutputError, match=r"the model log cannot be written .* name another with --log"):
            refuse_unusable(path)
    (tmp_path / "notes.md").write_text("Milk, bread.\n")
    with pytest.raises(OutputError, match=r"notes\.md: holds something else than a model log"):
        refuse_unusable(tmp_path / "notes.md")


def test_trying_a_log_out_makes_its_folder_alone(tmp_path):
    log = tmp_path / "docs" / "model-log.md"
    refuse_unusable(log)
    assert list(log.parent.iterdir()) == []
    append(log, [entry()], now=NOW)
    before = log.read_bytes()
    refuse_unusable(log)
    assert log.read_bytes() == before


def test_a_file_is_known_by_its_digest(tmp_path):
    (tmp_path / "empty").touch()
    assert digest(tmp_path / "empty").startswith("e3b0c442")
    with pytest.raises(InputNotFoundError, match="none: cannot be read"):
        digest(tmp_path / "none")
