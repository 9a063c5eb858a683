"""`mien-train evaluate` as a person types it: the report, and the one look at the test split."""

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.labels import FER2013_LABELS
from edge.model import open_model
from edge.modelfile import SHIPPED
from trainer.cli import main

pytestmark = pytest.mark.trainer


@pytest.fixture(scope="module")
def network(tmp_path_factory, drawn) -> Path:
    """One layer, solved by least squares for half the drawn expressions, so that it knows something and not all."""
    from edge.crop import scale_pixels
    from trainer.keras_file import save_network

    network = keras.Sequential([keras.Input((32, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(7)])
    seen = scale_pixels(drawn.train.images).reshape(len(drawn.train), -1)
    wanted = 6 * np.eye(7, dtype=np.float32)[np.minimum(drawn.train.labels, 4)]
    network.layers[-1].set_weights([np.linalg.lstsq(seen, wanted, rcond=None)[0], np.zeros(7, np.float32)])
    path = tmp_path_factory.mktemp("network") / "model.keras"
    provenance = {"dataset": "drawn.npz", "seed": 3, "left_out_of_training": {"blank": 0}, "command": "mien-train fit"}
    save_network(network, {"labels": list(FER2013_LABELS), "provenance": provenance}, path)
    return path


def evaluate(network: Path, data: Path, *options: str | Path) -> int:
    return main(["evaluate", str(network), str(data), "--size", "32", *map(str, options)])


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr("trainer.evaluation.open_classifier", lambda *_: pytest.fail("worked first"))


@pytest.fixture(scope="module")
def reported(network, drawn_npz, tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    """A report on the validation split, and what was printed as JSON beside it."""
    report = tmp_path_factory.mktemp("report") / "new" / "report.html"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert evaluate(network, drawn_npz, "--report", report, "--samples", "7", "--json") == 0
    return report, json.loads(printed.getvalue())


def test_a_report_is_written_and_json_carries_its_figures(network, reported):
    report, told = reported
    assert (told["split"], told["count"], told["samples"]) == ("validation", 35, 7)
    assert len(told["robustness"]) == 5
    assert set(told["parts_of_the_face"]) == set(FER2013_LABELS)
    page = report.read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert f"{told['accuracy']:.2%}" in page
    assert "mien-train fit" in page
    assert "clean" in page
    assert str(network.parent) not in page


def test_final_with_a_report_fits_on_validation_still(network, drawn_npz, reported, tmp_path, capsys):
    report = tmp_path / "test.html"
    options = ("--final", "--log", tmp_path / "log.md", "--report", report, "--samples", "7")
    assert evaluate(network, drawn_npz, *options) == 0
    said = capsys.readouterr().out
    assert "test split of drawn.npz" in said
    assert "named only where right at least 50% of the time, else uncertain" in said
    for label, each in reported[1]["thresholds"]["classes"].items():
        assert f"  {label:<9}  {each['threshold']:9.3f}  " in said
    assert f"report    {report}" in said
    temperature = reported[1]["calibration"]["temperature"]
    assert f"Dividing the logits by {temperature:g} before" in report.read_text(encoding="utf-8")


def test_without_a_report_the_figures_are_the_few_of_always(network, drawn_npz, capsys):
    assert evaluate(network, drawn_npz, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert "robustness" not in told
    assert told["split"] == "validation"


def test_the_shipped_model_is_examined_through_its_interpreter(tmp_path, faces, capsys):
    images, labels = faces(42, 48, 0)
    np.savez(tmp_path / "d.npz", pixels=images, emotion=labels.astype(np.uint8), usage=np.arange(42) // 14)
    options = ["--report", str(tmp_path / "r.html"), "--samples", "7", "--precision", "0.7", "--json"]
    assert main(["evaluate", str(SHIPPED), str(tmp_path / "d.npz"), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["calibration"]["own_temperature"] == open_model().card.temperature
    assert told["thresholds"]["precision"] == 0.7
    assert "mien.tflite, int8, SHA-256" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_final_looks_at_the_test_split_and_notes_it_by_itself(network, drawn_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for looks in (1, 2):
        assert evaluate(network, drawn_npz, "--final", "--json") == 0
        said = capsys.readouterr()
        told = json.loads(said.out)
        lines = (tmp_path / "docs" / "model-log.md").read_text().splitlines()
        assert sum("model.keras" in line for line in lines) == looks
    assert told["split"] == "test"
    cells = [cell.strip() for cell in lines[-1].split("|")[1:-1]]
    assert cells[3:6] == ["float", "drawn.npz", "35"]
    assert cells[6].startswith(f"{told['accuracy']:.2%} ±")
    assert cells[8:12] == [f"{told['macro_f1']:.4f}", "clean", "3", "mien-train fit"]
    assert "docs/model-log.md: a line added" in said.err


def test_data_and_network_whose_names_are_no_utf_8_are_examined_and_told_of(network, drawn_npz, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    odd = folder / os.fsdecode(b"dess\xe9.npz"), folder / os.fsdecode(b"r\xe9seau.keras")
    shutil.copy(drawn_npz, odd[0])
    shutil.copy(network, odd[1])
    assert evaluate(odd[1], odd[0], "--report", tmp_path / "r.html", "--samples", "7") == 0
    assert r"dess\udce9.npz" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_a_card_that_tells_nothing_of_the_training_keeps_no_look_out_of_the_log(drawn_npz, tmp_path):
    from trainer.keras_file import save_network

    silent = tmp_path / "silent.keras"
    network = keras.Sequential(
        [keras.Input((32, 32, 1)), keras.layers.Flatten(), keras.layers.Dense(7, kernel_initializer="zeros")]
    )
    save_network(network, {"labels": list(FER2013_LABELS), "provenance": None}, silent)
    options = ("--report", tmp_path / "r.html", "--samples", "7", "--final", "--log", tmp_path / "log.md")
    assert evaluate(silent, drawn_npz, *options) == 0
    assert "| not told | not told | not told | not told |" in (tmp_path / "log.md").read_text().splitlines()[-1]


def test_without_final_no_log_is_begun(network, drawn_npz, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert evaluate(network, drawn_npz) == 0
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "cache"])


@pytest.mark.usefixtures("no_work")
def test_a_place_that_cannot_be_written_ends_with_73_before_any_work(network, drawn_npz, tmp_path, capsys):
    (tmp_path / "file").touch()
    for options in (
        ["--report", tmp_path / "file" / "report.html"],
        ["--png", tmp_path / "file" / "confusion.png"],
        ["--final", "--log", tmp_path / "file" / "log.md"],
    ):
        assert evaluate(network, drawn_npz, *options) == 73
        assert "cannot be written" in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--log", "log.md"], "--log names the log of --final"),
        (["--samples", "50"], "--samples is about the report"),
        (["--precision", "0.6"], "--precision is about the report"),
        (["--show-faces"], "--show-faces is about the report"),
        (["--report", "r.html", "--samples", "0"], "0 is not within 1 to 1000000"),
        (["--report", "r.html", "--precision", "60"], "60.0 is not within 0 to 1"),
    ],
)
def test_options_that_go_nowhere_end_with_64(network, drawn_npz, capsys, options, message):
    assert evaluate(network, drawn_npz, *options) == 64
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
def test_no_result_overwrites_what_is_evaluated_nor_another_result(network, drawn_npz, tmp_path, capsys):
    before = network.read_bytes()
    for path in (network, drawn_npz):
        for option in ("--report", "--png"):
            assert evaluate(network, drawn_npz, option, path) == 64
            assert f"{option} {path} would overwrite what is read" in capsys.readouterr().err
    assert network.read_bytes() == before
    same = tmp_path / "same"
    assert evaluate(network, drawn_npz, "--final", "--log", same, "--report", same) == 64
    assert f"--report {same} would overwrite the file of --log" in capsys.readouterr().err
    assert not same.exists()


def test_labels_that_do_not_fit_and_a_file_that_is_no_network_end_with_65(network, drawn_npz, tmp_path, capsys):
    report = ("--report", tmp_path / "r.html")
    with np.load(drawn_npz) as arrays:
        np.savez(tmp_path / "other.npz", labels=np.array([*FER2013_LABELS[:6], "bored"]), **arrays)
    assert evaluate(network, tmp_path / "other.npz", *report) == 65
    assert "the data set has angry, disgust, fear, happy, sad, surprise, bored" in capsys.readouterr().err
    for name in ("broken.keras", "broken.tflite", "broken.h5"):
        (tmp_path / name).write_bytes(b"not a network")
        assert evaluate(tmp_path / name, drawn_npz, *report) == 65
        assert f"{name}: not a" in capsys.readouterr().err
    assert not report[1].exists()


def test_a_failed_look_leaves_no_line(drawn_npz, tmp_path):
    (tmp_path / "broken.keras").write_bytes(b"not a network")
    assert evaluate(tmp_path / "broken.keras", drawn_npz, "--final", "--log", tmp_path / "log.md") == 65
    assert not (tmp_path / "log.md").exists()
