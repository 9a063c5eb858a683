"""Float against int8: the figures are those counted by hand, and may be kept in the model."""

import contextlib
import json
import os
import pty
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.model import open_model
from edge.modelfile import read_model_file
from export.cli import main
from export.verification import FINAL, Comparison, Verification, shortfalls
from export.verification import verify as count
from trainer.datasets import load_dataset
from trainer.keras_file import load_network

pytestmark = pytest.mark.trainer


@pytest.fixture
def model(exported, tmp_path) -> Path:
    return shutil.copy(exported.tflite, tmp_path / "mien.tflite")


@pytest.fixture
def log(tmp_path) -> Path:
    return tmp_path / "docs" / "model-log.md"


def verify(exported, model, *options: str | Path) -> int:
    arguments = [str(exported.keras), str(model), "--data", str(exported.data), "--size", "32", *map(str, options)]
    return main(["verify", *arguments])


@pytest.fixture(scope="module")
def counted(exported):
    """Rights and sames, one face after the other."""
    dataset = load_dataset(exported.data, size=32, cache=False)
    network, _ = load_network(exported.keras)
    model = open_model(exported.tflite)
    table = {}
    for name in ("validation", "test"):
        split = dataset.split(name)
        exact = [int(np.argmax(network(image[None, ..., None] / np.float32(127.5) - 1))) for image in split.images]
        rounded = [int(np.argmax(model.logits(image))) for image in split.images]
        table[name] = np.array([exact, rounded, split.labels])
    return table


def figures(guesses: np.ndarray) -> dict[str, float]:
    exact, rounded, truth = guesses
    return {
        "count": len(truth),
        "float": (exact == truth).mean(),
        "int8": (rounded == truth).mean(),
        "difference_points": 100 * ((rounded == truth).mean() - (exact == truth).mean()),
        "agreement": (exact == rounded).mean(),
    }


def test_the_figures_are_those_counted_by_hand(exported, model, counted, log, capsys):
    assert verify(exported, model, "--json", "--final", "--log", log) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["data"] == "drawn.npz"
    both = np.concatenate([counted["validation"], counted["test"]], axis=1)
    for name, guesses in (*counted.items(), ("together", both)):
        for key, value in figures(guesses).items():
            assert told[name][key] == pytest.approx(value, abs=6e-4), (name, key)
    without = np.arange(140) != 5  # row 565, the test split's sixth
    _, rounded, truth = counted["test"][:, without]
    assert told["test"]["int8_without_copies"] == pytest.approx((rounded == truth).mean(), abs=1e-5)
    assert "int8_without_copies" not in told["validation"]


def test_the_test_split_is_looked_at_only_with_final(exported, model, counted, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert verify(exported, model, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"data", "validation"}
    assert told["validation"]["int8"] == pytest.approx(figures(counted["validation"])["int8"], abs=1e-5)
    assert not (tmp_path / "docs").exists()


def test_final_adds_a_line_for_each_network_under_the_digest_that_its_file_then_has(exported, model, log, capsys):
    assert verify(exported, model, "--json", "--final", "--log", log, "--record") == 0
    told = json.loads(capsys.readouterr().out)["test"]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in log.read_text().splitlines()[-2:]]
    assert [row[1] for row in rows] == ["model.keras", "mien.tflite"]
    assert [row[3] for row in rows] == ["float", "int8"]
    assert rows[0][6].startswith(f"{told['float']:.2%} ±")
    assert rows[1][6].startswith(f"{told['int8']:.2%} ±")
    assert rows[1][7] == f"{told['int8_without_copies']:.2%}"
    assert rows[1][2] == read_model_file(model).sha256[:8]


def test_people_get_a_table(exported, model, counted, log, capsys):
    assert verify(exported, model, "--final", "--log", log) == 0
    said = capsys.readouterr().out
    both = figures(np.concatenate([counted["validation"], counted["test"]], axis=1))
    together = next(line for line in said.splitlines() if line.startswith("together"))
    assert together.split() == [
        "together", "280", f"{both['float']:.2%}", f"{both['int8']:.2%}",
        f"{both['difference_points']:+.2f}", "pts", f"{both['agreement']:.2%}",
    ]  # fmt: skip
    assert "no copy in the training rows" in said


def test_recorded_figures_stay_in_a_model_that_still_opens_and_make_its_card(exported, model, counted, log, capsys):
    before = read_model_file(model)
    final = ("--final", "--log", log)
    assert verify(exported, model, "--record", "--json", *final) == 0
    told = json.loads(capsys.readouterr().out)
    after = read_model_file(model)
    assert after.flatbuffer == before.flatbuffer
    assert after.card.content["accuracy"]["test"] == told["test"]
    command = "mien-export verify model.keras mien.tflite --data drawn.npz --size 32 --final"
    assert after.card.content["accuracy"]["command"] == command
    face = np.zeros((32, 32), np.uint8)
    np.testing.assert_array_equal(open_model(model).logits(face), open_model(exported.tflite).logits(face))
    assert verify(exported, model, "--record", *final) == 0  # a second time replaces the first

    capsys.readouterr()
    assert main(["card", str(model)]) == 0
    card = capsys.readouterr().out
    assert card.startswith("# mien-v1-32\n")
    row = next(line for line in card.splitlines() if line.startswith("| PrivateTest"))
    for key in ("float", "int8", "int8_without_copies", "agreement"):
        assert f"{told['test'][key]:.2%}" in row
    assert f"`{command}`" in card
    assert "`mien-export convert model.keras --data drawn.npz --calibration 64 --seed 5 --size 32`" in card
    assert "epoch 3, the best on the validation split" in card
    assert "1,234 parameters" in card
    assert "not what a person feels" in card


def test_a_card_without_figures_claims_none_and_comes_as_json_too(model, capsys):
    assert main(["card", str(model)]) == 0
    assert "How good it is" not in capsys.readouterr().out
    assert main(["card", str(model), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schema"] == "mien/model/1"


def test_a_demand_that_is_missed_ends_with_1_and_a_line_that_says_which(exported, model, capsys):
    assert verify(exported, model, "--json") == 0
    told = json.loads(capsys.readouterr().out)["validation"]
    agreement, apart = 100 * told["agreement"], abs(told["difference_points"])
    assert 0 < agreement < 99
    assert verify(exported, model, "--min-agreement", f"{agreement - 0.1}", "--max-difference", f"{apart + 0.01}") == 0
    assert capsys.readouterr().err == ""
    assert verify(exported, model, "--min-agreement", f"{agreement + 0.1}", "--max-difference", f"{apart + 0.01}") == 1
    said = capsys.readouterr()
    assert f"mien.tflite: float and int8 agree on {agreement:.3f} %, under --min-agreement" in said.err
    assert "PublicTest" in said.out
    assert len(said.err.splitlines()) == 1


def of_both(float_accuracy: float, int8_accuracy: float, agreement: float) -> Verification:
    one, both = Comparison(500, 0.5, 0.9, 0.1), Comparison(1000, float_accuracy, int8_accuracy, agreement)
    return Verification({"validation": one, "test": one, "together": both}, {}, {})


@pytest.mark.parametrize(("int8", "missed"), [(0.665, 0), (0.675, 0), (0.664, 1), (0.676, 1)])
def test_half_a_point_up_or_down_is_half_a_point(int8, missed):
    found = shortfalls(of_both(0.67, int8, 0.9), min_agreement=90, max_difference=0.5)
    assert len(found) == missed
    assert all("over --max-difference 0.5" in line for line in found)


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_leaves_when_done(exported, model, monkeypatch, capsys):
    screen, terminal = pty.openpty()
    seen: list[bytes] = []

    def watch() -> None:
        with contextlib.suppress(OSError):  # the terminal's end
            while piece := os.read(screen, 4096):
                seen.append(piece)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with os.fdopen(terminal, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        patch.setenv("TERM", "xterm")
        assert verify(exported, model) == 0
    watcher.join(10)
    os.close(screen)
    shown = b"".join(seen).decode()
    assert "verifying mien.tflite" in shown
    assert "%" in shown
    assert "verifying" not in capsys.readouterr().out


def test_the_bar_runs_to_its_end_over_both_networks_and_splits(exported, model):
    told = []
    dataset = load_dataset(exported.data, size=32)
    count(exported.keras, model, dataset, splits=FINAL, progress=lambda *call: told.append(call))
    assert told == sorted(told)
    assert len(told) > 8
    assert told[-1] == (560, 560)


# --- bad input -------------------------------------------------------------------------------------------------------


def convert(network, data, out, *options: str) -> int:
    return main(["convert", str(network), "--data", str(data), "--out", str(out), "--size", "32", *options])


def test_a_network_with_a_lambda_layer_ends_with_65_and_writes_nothing(exported, tmp_path, capsys):
    face = keras.Input((32, 32, 1))
    flat = keras.layers.Flatten()(keras.layers.Lambda(lambda x: x * 2)(face))
    keras.Model(face, keras.layers.Dense(7)(flat)).save(tmp_path / "code.keras")
    assert convert(tmp_path / "code.keras", exported.data, tmp_path / "out.tflite") == 65
    assert "code.keras: not a network that can be loaded: it holds a Lambda layer" in capsys.readouterr().err
    assert not (tmp_path / "out.tflite").exists()


def test_what_is_not_there_ends_with_66_and_is_named(exported, tmp_path, capsys):
    assert convert(tmp_path / "none.keras", exported.data, tmp_path / "out.tflite") == 66
    assert "none.keras: no such file" in capsys.readouterr().err
    assert convert(exported.keras, tmp_path / "none.csv", tmp_path / "out.tflite") == 66
    assert "none.csv: no such file" in capsys.readouterr().err
    assert verify(exported, tmp_path / "none.tflite") == 66
    assert "none.tflite: no such model file" in capsys.readouterr().err
    assert main(["card", str(tmp_path / "none.tflite")]) == 66


def test_a_model_that_is_cut_short_ends_with_65(exported, model, capsys):
    whole = exported.tflite.read_bytes()
    for kept in (len(whole) // 2, len(whole) - 20):
        model.write_bytes(whole[:kept])
        assert verify(exported, model, "--record") == 65
        assert main(["card", str(model)]) == 65
        assert capsys.readouterr().err.count("mien.tflite: ") == 2
        assert model.read_bytes() == whole[:kept]


def test_a_model_without_a_card_has_no_place_for_figures(exported, model, capsys):
    model.write_bytes(read_model_file(exported.tflite).flatbuffer)
    assert main(["card", str(model)]) == 65
    assert "without mien.json" in capsys.readouterr().err


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr("export.conversion.convert", lambda *_, **__: pytest.fail("worked first"))
    monkeypatch.setattr("export.verification.verify", lambda *_, **__: pytest.fail("worked first"))


@pytest.mark.usefixtures("no_work")
def test_a_place_that_cannot_be_written_ends_with_73_before_any_work(exported, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert convert(exported.keras, exported.data, tmp_path / "file" / "mien.tflite") == 73
    assert "file/mien.tflite: cannot be written" in capsys.readouterr().err
    assert convert(exported.keras, exported.data, tmp_path) == 73
    assert f"{tmp_path}: cannot be written (it is a folder" in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
def test_a_model_never_overwrites_what_it_is_made_from(exported, capsys):
    before = exported.keras.read_bytes()
    for path in (exported.keras, exported.data):
        assert convert(exported.keras, exported.data, path) == 64
        assert f"--out {path} would overwrite what is read" in capsys.readouterr().err
    assert exported.keras.read_bytes() == before


@pytest.mark.usefixtures("no_work")
def test_nor_are_figures_counted_that_have_nowhere_to_go(exported, model, tmp_path, capsys):
    (tmp_path / "mien.tflite.part").mkdir()
    assert verify(exported, model, "--record") == 73
    assert "mien.tflite: cannot be written" in capsys.readouterr().err
    (tmp_path / "mien.tflite.part").rmdir()
    foreign = tmp_path / "mien.tflite"
    foreign.write_bytes(read_model_file(exported.tflite).flatbuffer)
    assert verify(exported, foreign, "--record") == 65
    assert "without mien.json" in capsys.readouterr().err


@pytest.mark.usefixtures("no_work")
def test_nor_is_the_test_split_looked_at_where_that_cannot_be_noted(exported, model, tmp_path, capsys):
    (tmp_path / "notes.md").write_text("Milk, bread.\n")
    assert verify(exported, model, "--final", "--log", tmp_path / "notes.md") == 73
    assert "notes.md: holds something else than a model log" in capsys.readouterr().err
    assert verify(exported, model, "--log", tmp_path / "log.md") == 64
    assert "--log names the log of --final" in capsys.readouterr().err


def test_a_card_may_hold_validation_figures_alone(exported, model, capsys):
    assert verify(exported, model, "--record") == 0
    assert main(["card", str(model)]) == 0
    card = capsys.readouterr().out
    assert "| PublicTest (chosen on) | 140 |" in card
    assert "PrivateTest" not in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibration", "1"], "1 is not within 16 to 100000"),
        (["--calibration", "all"], "invalid whole number value: 'all'"),
        (["--name", "a name"], "'a name', expected 1 to 64 letters, digits"),
        (["--name", ""], "'', expected 1 to 64 letters, digits"),
    ],
)
def test_wrong_usage_ends_with_64(exported, tmp_path, capsys, options, message):
    assert convert(exported.keras, exported.data, tmp_path / "out.tflite", *options) == 64
    assert message in capsys.readouterr().err


def test_a_network_and_a_model_that_stand_in_each_other_s_place_are_refused(exported, model, log, capsys):
    for first, second in ((model, exported.keras), (exported.keras, exported.keras), (model, model)):
        assert main(["verify", str(first), str(second), "--data", str(exported.data), "--final"]) == 64
        assert "is expected here; the order is NETWORK.keras MODEL.tflite" in capsys.readouterr().err
    assert not log.exists()
