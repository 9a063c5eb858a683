"""`mien-train compare`: planned, trained, resumed, refused and reported. One dense layer stands for the papers'."""

import copy
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras
from rich.console import Console

from edge.errors import BadDataError, OutputError, UsageError
from edge.labels import FER2013_LABELS
from trainer import baselines, compare, compare_report, keras_file, model_log, run_folder
from trainer.baselines import PaperNetwork, Reported, find_presets
from trainer.cli import main
from trainer.compare_plan import Job, begin, divide, plan
from trainer.datasets import Dataset

pytestmark = pytest.mark.trainer


def dense(labels: int, size: int, weights: str) -> keras.Model:
    face = keras.Input((size, size, 1))
    return keras.Model(face, keras.layers.Dense(labels)(keras.layers.Flatten()(face)))


def dropping(labels: int, size: int, weights: str) -> keras.Model:
    face = keras.Input((size, size, 1))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(face))
    return keras.Model(face, keras.layers.Dense(labels)(x))


SMALL = PaperNetwork("small", "one dense layer", dense, Reported("50 % test", 0.5), "All of it.", epochs=3, batch=16)
DROPPING = replace(SMALL, build=dropping)
RANDOM = replace(SMALL, name="random", test_share=0.2, drop=("disgust", "fear"), learning_rate=1e-4)


def planned(
    dataset: Dataset, out: Path, presets: list[PaperNetwork] | None = None, split: str = "both", **options: Any
) -> list[Job]:
    weights = {"mobilenet": "imagenet", "vgg16": "imagenet"}
    options = {"seed": 1, "epochs": None, "weights": weights} | options
    return plan(presets or [SMALL], dataset, out, split=split, **options)


def train(
    job: Job,
    dataset: Dataset,
    say: Callable[[str], None] = lambda line: None,
    look: Callable[[Any], None] | None = lambda entry: None,
) -> dict[str, Any]:
    begin([job], 32)
    return compare.run(job, dataset, bar=lambda what: nullcontext(lambda done, total: None), say=say, look=look)


@pytest.fixture(scope="module")
def trained(drawn, tmp_path_factory) -> list[dict[str, Any]]:
    jobs = planned(drawn, tmp_path_factory.mktemp("compare"), [SMALL, RANDOM])
    return [train(job, drawn) for job in jobs]


# --- plan ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("official", ["small-official", "random-official"]),
        ("paper", ["small-official", "random-paper"]),
        ("both", ["small-official", "random-official", "random-paper"]),
    ],
)
def test_a_preset_without_a_split_of_its_own_takes_the_official_one(drawn, tmp_path, split, names):
    assert [job.name for job in planned(drawn, tmp_path, [SMALL, RANDOM], split)] == names
    assert list(tmp_path.iterdir()) == []


def test_the_paper_s_split_is_random_and_without_the_labels_that_it_leaves_out(drawn, tmp_path):
    official, paper = planned(drawn, tmp_path, [RANDOM])
    assert [len(divide(official, drawn).split(name)) for name in ("train", "validation", "test")] == [50, 25, 25]
    dealt = divide(paper, drawn)
    assert [len(dealt.split(name)) for name in ("train", "validation", "test")] == [70, 10, 20]
    assert dealt.labels == ("angry", "happy", "sad", "surprise", "neutral")


def test_a_copy_under_a_label_that_is_left_out_does_not_count(drawn, tmp_path):
    test = replace(drawn.train, labels=(drawn.train.labels + 1) % 7)
    twice = replace(drawn, test=test, test_copied=np.ones(len(test), bool))
    divided = divide(planned(twice, tmp_path, [RANDOM])[0], twice)
    in_train = {image.tobytes() for image in divided.train.images}
    assert divided.test_copied.tolist() == [image.tobytes() in in_train for image in divided.test.images]
    assert 0 < divided.test_copied.sum() < len(divided.test)


def test_data_without_the_labels_that_a_paper_leaves_out_are_refused(drawn, tmp_path):
    mine = replace(drawn, name="my_faces", labels=("a", "b", "c", "d", "e", "f", "g"))
    with pytest.raises(
        UsageError, match=r"preset random leaves out 'disgust', which is no label of my_faces \(it has a,"
    ):
        planned(mine, tmp_path, [RANDOM])


def test_epochs_are_cut_short_and_never_added(drawn, tmp_path):
    for epochs, expected in ((2, 2), (9, 3), (None, 3)):
        assert planned(drawn, tmp_path, epochs=epochs)[0].asked["epochs"] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [({"epochs": 2}, "epochs = 3, not 2"), ({"seed": 5}, "seed = 1, not 5")],
)
def test_a_training_that_was_begun_otherwise_is_refused(drawn, tmp_path, options, message):
    begin(planned(drawn, tmp_path), 32)
    with pytest.raises(BadDataError, match=rf"small-official/run.json: .*begun with {message}.*name another --out"):
        planned(drawn, tmp_path, **options)
    with pytest.raises(BadDataError, match="begun with data = sha256:"):
        planned(replace(drawn, train=drawn.test), tmp_path)


def test_a_damaged_file_of_a_training_is_named(drawn, tmp_path):
    begin(planned(drawn, tmp_path), 32)
    (tmp_path / "small-official" / "run.json").write_text('{"asked": ')
    with pytest.raises(BadDataError, match=r"run.json: not written by mien-train compare, or damaged"):
        planned(drawn, tmp_path)


def test_a_result_without_something_that_is_shown_of_it_is_named_before_anything_is_trained(drawn, data, tmp_path):
    [job] = planned(drawn, tmp_path)
    whole = train(job, drawn)
    refused = []
    whole_parts = [[key] for key in whole if key != "test"]  # which is not there before somebody has looked at it
    for path in whole_parts + [[key, name] for key in ("train", "test") for name in whole[key]]:
        lacking = copy.deepcopy(whole)
        (lacking if len(path) == 1 else lacking[path[0]]).pop(path[-1])
        (job.folder / "result.json").write_text(json.dumps(lacking))
        with suppress(KeyError):
            assert compare_report.as_table([lacking], [], data).row_count == 1
            assert compare_report.draw([lacking], [], data)
            assert compare_report.as_markdown([lacking], [], data, command="", picture="")
            assert lacking["test"]["count"]
            continue
        with pytest.raises(BadDataError, match=rf"result.json: holds no '{path[0]}.*remove .*small-official to start"):
            planned(drawn, tmp_path)
        refused.append(".".join(path))
    assert {"epochs", "train", "train.accuracy", "test.macro_f1", "test.count"} < set(refused)
    (job.folder / "result.json").write_text(json.dumps({**whole, "test": None}))
    with pytest.raises(BadDataError, match=r"result.json: holds no 'test.count'"):
        planned(drawn, tmp_path)
    del whole["test"]
    (job.folder / "result.json").write_text(json.dumps(whole))
    assert planned(drawn, tmp_path)[0].result == whole


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(drawn, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/small-official/run.json: cannot be written"):
        begin(planned(drawn, tmp_path / "file"), 32)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_result_has_every_figure_and_what_it_depends_on(trained, drawn):
    small, _, paper = trained
    assert (small["epochs"], small["seed"], small["split"], small["dataset"]) == (3, 1, "official", "drawn.npz")
    assert small["parameters"] == 32 * 32 * 7 + 7
    assert small["images"] == {"train": 70, "validation": 35, "test": 35}
    assert small["train"]["accuracy"] > 0.5
    for name in ("train", "validation", "test"):
        assert small[name]["count"] == small["images"][name]
        assert small[name].keys() >= {"accuracy", "macro_f1", "interval_95"}
    assert small["images_per_second"] == pytest.approx(210 / small["seconds"], rel=0.01)
    assert paper["dataset"] == "drawn.npz without disgust, fear"
    assert len(paper["test"]["classes"]) == 5


def test_nothing_is_left_in_a_finished_folder_but_what_tells_of_it(drawn, tmp_path):
    [job] = planned(drawn, tmp_path)
    result = train(job, drawn)
    assert job.result == json.loads(json.dumps(result))
    assert sorted(path.name for path in job.folder.iterdir()) == ["history.json", "result.json", "run.json"]


def test_the_test_split_stays_shut_until_somebody_looks_and_nothing_is_trained_again_for_it(drawn, tmp_path):
    [job] = planned(drawn, tmp_path / "later", [DROPPING])
    [at_once] = planned(drawn, tmp_path / "at once", [DROPPING])
    told: list[str] = []
    looks: list[Any] = []
    shut = train(job, drawn, told.append, look=None)
    assert "test" not in shut
    assert job.result == json.loads(json.dumps(shut))
    opened = train(job, drawn, told.append, look=looks.append)
    assert len(told) == 3
    assert opened["test"] == train(at_once, drawn)["test"]
    assert [(look.model, look.sha256, look.result.to_dict()) for look in looks] == [
        ("small-official", "not kept", opened["test"])
    ]
    assert model_log.protocol(looks[0].card) == "literature's"
    assert not list(job.folder.glob("*.h5"))


def test_a_look_that_cannot_be_noted_shows_nothing(drawn, tmp_path):
    [job] = planned(drawn, tmp_path)

    def full(entry: Any) -> None:
        raise OutputError("the model log cannot be written")

    with pytest.raises(OutputError, match="model log"):
        train(job, drawn, look=full)
    assert job.result is None


def test_a_killed_training_goes_on_to_the_figures_of_one_that_was_not(drawn, tmp_path):
    [job] = planned(drawn, tmp_path / "killed", [DROPPING])
    [through] = planned(drawn, tmp_path / "through", [DROPPING])
    told: list[str] = []

    def killed(line: str) -> None:
        told.append(line)
        if "epoch 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(job, drawn, killed)
    assert job.result is None
    result, expected = train(job, drawn, told.append), train(through, drawn)
    assert [line.split(",")[0] for line in told] == [f"small-official: epoch {epoch} of 3" for epoch in (1, 2, 3)]
    assert result["images_per_second"] == pytest.approx(210 / result["seconds"], rel=0.01)
    one, other = (json.loads((each.folder / "history.json").read_text()) for each in (job, through))
    for resumed, uninterrupted in zip(one, other, strict=True):
        for figure in ("loss", "val_loss", "accuracy"):
            assert resumed[figure] == pytest.approx(uninterrupted[figure], rel=1e-5)
    assert result["test"] == expected["test"]
    assert len({epoch["loss"] for epoch in other}) == 3


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_kill_while_the_weights_are_written_costs_that_epoch_alone(drawn, tmp_path, monkeypatch, epoch):
    [job] = planned(drawn, tmp_path / "killed", [DROPPING])
    [through] = planned(drawn, tmp_path / "through", [DROPPING])
    told: list[str] = []
    whole = keras.Model.save_weights

    def half(model: keras.Model, path: Path) -> None:
        whole(model, path)
        if len(told) == epoch - 1:
            path.write_bytes(path.read_bytes()[:1000])
            raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save_weights", half)
    with pytest.raises(KeyboardInterrupt):
        train(job, drawn, told.append)
    monkeypatch.undo()
    again: list[str] = []
    assert train(job, drawn, again.append)["test"] == train(through, drawn)["test"]
    assert [line.split(",")[0] for line in again] == [
        f"small-official: epoch {number} of 3" for number in range(epoch, 4)
    ]
    assert sorted(path.name for path in job.folder.iterdir()) == ["history.json", "result.json", "run.json"]


def test_damaged_weights_to_go_on_from_are_named(drawn, tmp_path):
    [job] = planned(drawn, tmp_path)
    job.folder.mkdir(parents=True)
    (job.folder / "resume-0001.weights.h5").write_bytes(b"cut short")
    (job.folder / "history.json").write_text('[{"phase": "all"}]')
    with pytest.raises(BadDataError, match=r"resume-0001.weights.h5: cannot go on from here \(.*; remove .*small"):
        train(job, drawn)


def test_two_comparisons_in_one_folder_at_once_are_refused(drawn, tmp_path):
    [job] = planned(drawn, tmp_path)
    job.folder.mkdir(parents=True)
    with run_folder.alone(job.folder), pytest.raises(BadDataError, match="another mien-train is training here; wait"):
        train(job, drawn)


def test_a_full_disk_ends_a_training_before_it_is_written_to_and_room_lets_it_go_on(drawn, tmp_path, monkeypatch):
    [job] = planned(drawn, tmp_path)
    told: list[str] = []
    full = shutil.disk_usage(tmp_path)._replace(free=1_000_000)

    def fill(line: str) -> None:
        told.append(line)
        if "epoch 1" in line:
            monkeypatch.setattr(shutil, "disk_usage", lambda _: full)

    with pytest.raises(OutputError, match=r"small-official: epoch 2 cannot be written \(\d+ MB are needed, 1 MB"):
        train(job, drawn, fill)
    monkeypatch.undo()
    train(job, drawn, told.append)
    assert [line.split(",")[0] for line in told] == [f"small-official: epoch {epoch} of 3" for epoch in (1, 2, 3)]


def test_a_kill_between_the_last_epoch_and_the_result_costs_no_epoch(drawn, tmp_path, monkeypatch):
    [job] = planned(drawn, tmp_path)
    told: list[str] = []
    monkeypatch.setattr(compare, "_figures", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(job, drawn, told.append)
    monkeypatch.undo()
    assert (len(told), job.result) == (3, None)
    assert train(job, drawn, told.append)["epochs"] == 3
    assert len(told) == 3


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_loss_that_is_no_number_ends_the_training_with_preset_step_and_epoch(drawn, tmp_path):
    [job] = planned(drawn, tmp_path, [replace(SMALL, name="wild", learning_rate=1e38)])
    with pytest.raises(BadDataError, match=r"wild-official: the loss is not a number at step \d of epoch 1"):
        train(job, drawn)
    assert job.result is None


def test_tests_with_a_copy_in_training_are_counted_and_scored_apart(drawn, tmp_path):
    twice = replace(drawn, test=drawn.train)
    result = train(planned(twice, tmp_path, [replace(SMALL, test_share=0.2)], "paper")[0], twice)
    assert 0 < result["test_images_copied_in_training"] < result["images"]["test"]
    assert result["test"]["accuracy_without_copies"] is not None


def test_haar_crops_are_what_a_preset_that_wants_them_sees(drawn, tmp_path):
    result = train(planned(drawn, tmp_path, [replace(SMALL, haar=True)])[0], drawn)
    assert result["notes"] == ["Haar found no face in 140 of 140 images (100.0 %): of those all was kept"]


def test_a_model_of_one_s_own_gets_a_row_and_its_look_at_the_test_split_is_logged(
    drawn, drawn_npz, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "find_presets", lambda names: [])
    keras_file.save_network(dense(7, 32, ""), {"labels": list(drawn.labels)}, tmp_path / "model.keras")
    assert main(["compare", str(drawn_npz), "--size", "32", "--model", "model.keras", "--final", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert (row["model"], row["test"]["count"]) == (f"{tmp_path.name}/model.keras", 35)
    assert f"| {tmp_path.name}/model.keras | " in (tmp_path / "docs" / "model-log.md").read_text().splitlines()[-1]


def test_no_result_overwrites_what_is_read_nor_the_log_of_looks_at_the_test_split(drawn_npz, tmp_path, capsys):
    model, weights = tmp_path / "m.keras", tmp_path / "w.h5"
    final = ["--model", str(model), "--final", "--log", str(tmp_path / "log.md")]
    for options, message in (
        (["--markdown", str(drawn_npz)], "--markdown .* would overwrite what is read"),
        (["--mobilenet-weights", str(weights), "--png", str(weights)], "--png .* would overwrite what is read"),
        ([*final, "--png", str(model)], "--png .* would overwrite what is read"),
        ([*final, "--markdown", str(tmp_path / "log.md")], "--markdown .* would overwrite the file of --log"),
        (["--png", str(tmp_path / "x"), "--markdown", str(tmp_path / "x")], "--png .* would overwrite the file of"),
    ):
        assert main(["compare", str(drawn_npz), *options]) == 64
        assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_data_whose_name_is_no_utf_8_get_their_page(drawn_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines, "PRESETS", (SMALL,))
    odd = tmp_path / os.fsdecode(b"dess\xe9.npz")
    shutil.copy(drawn_npz, odd)
    page = tmp_path / "p.md"
    options = ["--size", "32", "--out", str(tmp_path / "runs"), "--epochs", "1", "--markdown", str(page)]
    assert main(["compare", str(odd), *options]) == 0
    assert r"dess\udce9.npz" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "m.keras"], "give --final with it"),
        (["--log", "l.md"], "--log"),
    ],
)
def test_the_test_split_opens_with_final_alone(capsys, options, message):
    assert main(["compare", "none.csv", *options]) == 64
    assert message in capsys.readouterr().err


def test_a_model_of_other_labels_is_refused(drawn, tmp_path):
    keras_file.save_network(dense(6, 32, ""), {"labels": list(drawn.labels[:6])}, tmp_path / "six.keras")
    with pytest.raises(BadDataError, match="give --drop neutral"):
        compare.evaluate_model(tmp_path / "six.keras", drawn)


# --- report ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows(trained) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return trained, [
        {
            "model": "ours.tflite",
            "protocol": "clean",
            "command": "mien-train fit x",
            "split": "official",
            "test": trained[0]["test"],
        }
    ]


@pytest.fixture(scope="module")
def data(drawn) -> dict[str, Any]:
    twice = replace(drawn, validation=drawn.train.where(drawn.train.rows < 10))
    return compare.describe_data(twice) | {"is_the_papers": True}


def test_the_data_s_copies_are_counted(data):
    assert data["images"] == {"train": 70, "validation": 10, "test": 35}
    assert (data["unique"], data["validation_images_copied_in_training"]) == (105, 10)
    assert data["commonest_share"] == pytest.approx(5 / 35, abs=1e-5)


@pytest.mark.parametrize(("width", "columns"), [(140, 11), (80, 6)])
def test_the_table_fits_its_terminal(rows, data, width, columns):
    table = compare_report.as_table(*rows, data, width)
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    console.print(table)
    lines = console.export_text().splitlines()
    assert len(table.columns) == columns
    assert [line.split()[0] for line in lines[1:]] == ["small", "random", "random", "ours.tflite"]
    assert "random 80:20" in lines[3]
    assert f"{100 * rows[0][0]['test']['accuracy']:.1f} % ±" in lines[1]


@pytest.mark.parametrize(("width", "columns"), [(140, 9), (80, 6)])
def test_of_a_test_split_that_is_shut_nothing_is_shown(trained, data, width, columns):
    shut = [{key: value for key, value in each.items() if key != "test"} for each in trained]
    table = compare_report.as_table(shut, [], data, width)
    assert len(table.columns) == columns
    assert "test" not in [column.header for column in table.columns]
    page = compare_report.as_markdown(shut, [], data, command="mien-train compare x", picture="")
    assert f"| {100 * shut[0]['validation']['accuracy']:.1f} % ± " in page
    assert "the points by which our validation lies over the paper's" in page
    assert "*No copies*" not in page
    assert compare_report.draw(shut, [], data).startswith(b"\x89PNG")


def test_other_images_than_the_papers_have_no_difference_from_them(rows, data):
    other = data | {"is_the_papers": False}
    assert "difference" not in [column.header for column in compare_report.as_table(*rows, other).columns]
    page = compare_report.as_markdown(*rows, other, command="mien-train compare x", picture="")
    assert "not FER2013 as the papers have it" in page


def test_the_page_tells_what_was_measured_what_leaks_and_what_is_unsaid(rows, data):
    cut = [rows[0][0] | {"epochs": 1}, *rows[0][1:]]
    page = compare_report.as_markdown(cut, rows[1], data, command="mien-train compare x", picture="p.png")
    assert "```\nmien-train compare x\n```" in page
    assert "![The papers' figures and those measured](p.png)" in page
    assert "- ours.tflite: trained without images that are also in a test split; `mien-train fit x`." in page
    assert "Of the 115 images 105 are different; 10 are exact copies of others." in page
    assert "0 of 35 test images and 10 of 10 validation images have a copy in training" in page
    assert "`--epochs` cut these short, so they say nothing of the papers: `small`." in page
    points = 100 * (rows[0][0]["test"]["accuracy"] - 0.5)
    assert f"| {points:+.1f} |".replace("-", "−") in page
    assert page.count("- **random.** All of it.") == 1
    assert "| random | random 80:20 | 0 of 20 (0.0 %) | +0.0 |" in page


def test_the_picture_has_a_row_for_each_network(rows, data):
    heights = []
    for results, models in ((rows[0][:1], []), rows):
        png = compare_report.draw(results, models, data)
        picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.std() > 10
        heights.append(picture.shape[0])
    assert heights[1] - heights[0] == pytest.approx(2 * 0.5 * 150, abs=40)


# --- command line ----------------------------------------------------------------------------------------------------


def test_the_command_prints_draws_writes_and_trains_nothing_twice(drawn_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "PRESETS", (SMALL, RANDOM))
    page, picture = tmp_path / "docs" / "papers.md", tmp_path / "docs" / "papers.png"
    command = ["compare", str(drawn_npz), "--size", "32", "--out", str(tmp_path / "runs"), "--epochs", "1"]
    command += ["--final", "--log", str(tmp_path / "log.md")]
    written = ["--markdown", str(page), "--png", str(picture)]
    assert main([*command, *written]) == 0
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines()[1:4]] == [
        ["small", "50"],
        ["random", "50"],
        ["random", "50"],
    ]
    assert "random-paper: epoch 1 of 1" in said.err
    assert "3 of 3, random-paper: " in said.err
    assert "note: drawn.npz is not FER2013 as the papers have it" in said.err
    options = "--epochs 1 --size 32 --markdown papers.md --png papers.png --final"
    assert f"mien-train compare drawn.npz {options}\n" in page.read_text()
    assert "](papers.png)" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(compare, "run", interrupted)
    assert main([*command, "--json"]) == 0
    again = capsys.readouterr()
    assert again.err.count("finished before") == 3
    looks = [line for line in (tmp_path / "log.md").read_text().splitlines() if "not kept" in line]
    assert [line.split(" | ")[1] for line in looks] == ["small-official", "random-official", "random-paper"]
    assert "| mien-train compare drawn.npz --presets random --split paper --epochs 1 --size 32 --final |" in looks[2]
    told = json.loads(again.out)
    assert [each["split"] for each in told["results"]] == ["official", "official", "paper"]
    assert told["data"]["images"]["test"] == 35


def test_without_final_the_command_scores_on_validation_and_an_earlier_look_is_not_shown(
    drawn_npz, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(baselines, "PRESETS", (SMALL,))
    monkeypatch.chdir(tmp_path)
    command = ["compare", str(drawn_npz), "--size", "32", "--epochs", "1"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "on 35 validation images" in said.err
    assert "The test split stays shut; --final opens it" in said.out
    assert not (tmp_path / "docs").exists()
    assert main([*command, "--final"]) == 0
    assert "on 35 test images" in capsys.readouterr().err
    assert main([*command, "--json"]) == 0
    assert "test" not in json.loads(capsys.readouterr().out)["results"][0]


def test_what_a_network_lacks_is_said_where_it_is_trained(drawn_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "PRESETS", (replace(SMALL, pretrained="vgg16"),))
    command = ["compare", str(drawn_npz), "--size", "32", "--epochs", "1", "--out", str(tmp_path)]
    assert main([*command, "--vgg16-weights", "none"]) == 0
    assert "  without ImageNet's weights: trained from scratch, all layers" in capsys.readouterr().err.splitlines()


def test_the_command_leaves_labels_out_before_anything_else(drawn_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "PRESETS", (SMALL,))
    options = ["--size", "32", "--out", str(tmp_path / "runs"), "--epochs", "1", "--drop", "sad", "--json"]
    assert main(["compare", str(drawn_npz), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "sad" not in told["results"][0]["labels"]
    assert len(told["results"][0]["labels"]) == 6


def test_a_copy_that_is_left_out_of_training_with_its_label_is_none_in_any_row(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(baselines, "PRESETS", (SMALL,))
    images = drawn.train.images.copy()
    images[drawn.train.labels == FER2013_LABELS.index("fear")] = drawn.test.images[0]  # which is angry
    splits = (replace(drawn.train, images=images), drawn.validation, drawn.test)
    np.savez(
        tmp_path / "copied.npz",
        pixels=np.concatenate([split.images for split in splits]),
        emotion=np.concatenate([split.labels for split in splits]).astype(np.uint8),
        usage=np.repeat(np.arange(3, dtype=np.uint8), [len(split) for split in splits]),
    )
    command = ["compare", str(tmp_path / "copied.npz"), "--size", "32", "--epochs", "1", "--json", "--out"]
    for options, copies in (([], 1), (["--drop", "fear"], 0)):
        assert main([*command, str(tmp_path / f"runs{copies}"), *options]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["data"]["test_images_copied_in_training"] == copies
        assert told["results"][0]["test_images_copied_in_training"] == copies


def test_presets_that_do_not_fit_the_labels_are_left_out_with_a_note_and_refused_by_name(
    drawn_npz, tmp_path, monkeypatch, capsys
):
    command = ["compare", str(drawn_npz), "--size", "32", "--out", str(tmp_path), "--epochs", "1", "--json"]
    monkeypatch.setattr(baselines, "PRESETS", (SMALL, replace(RANDOM, drop=("disgust", "smug"))))
    assert main(command) == 0
    told = capsys.readouterr()
    assert {each["preset"] for each in json.loads(told.out)["results"]} == {"small"}
    assert "note: without random: it leaves out smug: not among the labels" in told.err
    assert main([*command, "--presets", "random"]) == 64
    assert "preset random leaves out 'smug'" in capsys.readouterr().err
    monkeypatch.setattr(baselines, "PRESETS", (SMALL, RANDOM))
    command += ["--drop", "angry,happy,sad,surprise", "--out", str(tmp_path / "three")]
    assert main(command) == 0
    assert "note: without random: it leaves out disgust and fear: fewer than two labels" in capsys.readouterr().err
    assert main([*command, "--presets", "random"]) == 64
    assert "preset random leaves out disgust and fear, and then fewer than two of disgust" in capsys.readouterr().err


def test_labels_that_are_left_out_already_are_no_hindrance_to_a_preset_that_leaves_them_out(
    drawn_npz, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(baselines, "PRESETS", (RANDOM,))
    command = ["compare", str(drawn_npz), "--size", "32", "--out", str(tmp_path), "--epochs", "1", "--json"]
    assert main([*command, "--drop", "fear", "--split", "official"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["labels"] == ["angry", "happy", "sad", "surprise", "neutral"]


def test_a_preset_that_does_not_exist_ends_with_64_before_anything_is_read(tmp_path, capsys):
    assert main(["compare", str(tmp_path / "none.csv"), "--presets", "resnet"]) == 64
    assert "--presets resnet: no such preset; there are cnn2, cnn3" in capsys.readouterr().err


def test_the_help_lists_every_preset_with_its_figure_in_the_order_of_their_cost(capsys):
    assert main(["compare", "--help"]) == 0
    said = capsys.readouterr().out
    listed = " ".join(said[said.index("presets, from cheap") : said.index("docs/papers.md tells")].split())
    places = [listed.index(f" {each.name} ") for each in find_presets([])]
    assert places == sorted(places)
    for each in find_presets([]):
        assert f"{each.name} {'about ' * ('about' in each.reported.text)}{100 * each.reported.unseen:.4g} %" in listed
