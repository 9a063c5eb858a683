"""`mien-train` as a person types it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.labels import FER2013_LABELS
from trainer.cli import main
from trainer.commandline import load

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["fit", "--help"], ["evaluate", "--help"], ["compare", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(arguments):
    script = f"""
import sys
from trainer.cli import main
assert main({arguments!r}) == 0
heavy = {{"keras", "tensorflow", "jax", "torch", "sklearn", "matplotlib", "numpy", "cv2"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["fit"], "required: data"),
        (["train", "x.csv"], "invalid choice"),
        (["fit", "x.csv", "--epochs", "0"], "0 is not within 1 to 10000"),
        (["fit", "x.csv", "--size", "16"], "16 is not within 32 to 512"),
        (["fit", "x.csv", "--dropout", "much"], "invalid number value: 'much'"),
        (["fit", "x.csv", "--learning-rate", "nan"], "nan is not within"),
        (["fit", "x.csv", "--drop", "fear,"], "'fear,', expected labels with commas between them"),
        (["fit", "x.csv", "--backbone", "resnet"], "invalid choice: 'resnet'"),
        (["evaluate", "x.keras", "x.csv", "--split", "dev"], "invalid choice: 'dev'"),
        (["evaluate", "x.keras", "x.csv", "--split", "test"], "nothing is chosen on the test split"),
        (["evaluate", "x.keras", "x.csv", "--split", "train", "--final"], "not allowed with"),
    ],
)
def test_wrong_usage_ends_with_64(capsys, arguments, message):
    assert main(arguments) == 64
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_help_says_where_a_csv_s_images_are_kept(capsys, command):
    assert main([command, "--help"]) == 0
    assert "~/.cache/mien" in " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def trained(drawn_npz, tmp_path_factory) -> tuple[Path, str]:
    """A quarter-width MobileNetV1, two epochs long, as the command trains it; and what the command said."""
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    out = tmp_path_factory.mktemp("runs") / "first"
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", *fit_arguments(drawn_npz, out)],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out / "model.keras", done.stdout


def fit_arguments(data: Path, out: Path) -> list[str]:
    options = "--weights none --width 0.25 --size 32 --epochs 1 --head-epochs 1 --batch 32 --class-weight balanced"
    return ["fit", str(data), "--out", str(out), *options.split()]


@pytest.mark.trainer
def test_fit_says_what_it_trains_on_and_where_the_network_lies(trained):
    path, said = trained
    assert "drawn.npz: 70 to train on, 35 to choose on, 35 held out; labels angry, disgust" in said
    assert "left out of training: 0 blank, 0 also in a test split" in said
    assert f"{path}: best of 2 epochs is epoch " in said
    assert path.is_file()


@pytest.mark.trainer
def test_the_card_tells_the_command_without_this_machine_s_paths(trained):
    from trainer.keras_file import load_network

    command = load_network(trained[0])[1]["provenance"]["command"]
    assert command == (
        "mien-train fit drawn.npz --weights none --size 32 --width 0.25 --epochs 1 --batch 32 --class-weight balanced"
    )


@pytest.mark.trainer
def test_labels_can_be_left_out_of_a_training_and_must_be_of_its_evaluation_too(drawn_npz, tmp_path, capsys):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    from trainer.keras_file import load_network

    run = tmp_path / "run"
    assert main([*fit_arguments(drawn_npz, run), "--drop", "disgust,fear"]) == 0
    assert "50 to train on, 25 to choose on, 25 held out; labels angry, happy, sad" in capsys.readouterr().out
    card = load_network(run / "model.keras")[1]
    assert card["labels"] == ["angry", "happy", "sad", "surprise", "neutral"]
    assert card["provenance"]["command"].endswith(" --drop disgust,fear")
    evaluate = ["evaluate", str(run / "model.keras"), str(drawn_npz), "--size", "32"]
    assert main(evaluate) == 65
    assert "give --drop disgust,fear" in capsys.readouterr().err
    assert main([*evaluate, "--drop", "disgust,fear", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["data"], told["count"]) == ("drawn.npz without disgust, fear", 25)
    assert main([*evaluate, "--drop", "joy"]) == 64
    assert "cannot drop 'joy': drawn.npz has the labels angry" in capsys.readouterr().err


def save_dense(labels, path):
    import keras

    from trainer.keras_file import save_network

    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(len(labels))])
    save_network(network, {"labels": list(labels)}, path)


@pytest.mark.trainer
def test_labels_without_a_training_image_are_told_with_what_leaves_them_out(make_folders, tmp_path, capsys):
    make_folders(tmp_path, ("happy", "sad", "neutral"), 20)
    unseen = ("angry", "disgust", "fear", "surprise")
    network = tmp_path / "network.keras"
    save_dense(FER2013_LABELS, network)
    load(tmp_path, size=32, cache=False, network=network)
    told = f"there is no training image of {', '.join(unseen)}: --drop {','.join(unseen)} leaves them out"
    assert told in capsys.readouterr().err
    load(tmp_path, size=32, cache=False, drop=unseen)
    assert "no training image" not in capsys.readouterr().err


def test_a_folder_of_photos_and_not_of_faces_is_told_of(tmp_path, capsys):
    for side, told in ((399, False), (400, True)):
        for number in range(40):
            folder = tmp_path / str(side) / ("happy", "sad")[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number}.png"), np.full((side, 500), number, np.uint8))
        load(tmp_path / str(side), size=32, cache=False)
        assert ("mien-train prepare finds and cuts" in capsys.readouterr().err) is told


@pytest.mark.trainer
def test_a_folder_has_the_labels_of_its_folders_and_what_is_for_a_network_has_that_ones(make_folders, tmp_path, capsys):
    make_folders(tmp_path, ("sad", "happy"), 20)
    network = tmp_path / "network.keras"
    save_dense(["sad", "happy"], network)
    own, known = load(tmp_path, size=32, cache=False), load(tmp_path, size=32, cache=False, network=network)
    assert (own.labels, own.name, known.labels) == (("happy", "sad"), tmp_path.name, ("sad", "happy"))
    assert (own.train.images == known.train.images).all()
    assert (own.train.labels == 1 - known.train.labels).all()
    assert "note" not in capsys.readouterr().err


@pytest.mark.trainer
def test_the_same_command_again_finds_nothing_left_to_do(trained, drawn_npz, capsys):
    path, _ = trained
    before = path.read_bytes()
    assert main(fit_arguments(drawn_npz, path.parent)) == 0
    assert path.read_bytes() == before
    assert "best of 2 epochs" in capsys.readouterr().out


@pytest.mark.trainer
def test_other_settings_in_the_same_folder_end_with_65(trained, drawn_npz, capsys):
    arguments = [*fit_arguments(drawn_npz, trained[0].parent), "--seed", "9"]
    assert main(arguments) == 65
    assert "begun with settings.seed = 1, not 9" in capsys.readouterr().err


@pytest.mark.trainer
def test_evaluate_prints_json_and_draws_the_confusion_matrix(trained, drawn, drawn_npz, tmp_path, capsys):
    from trainer.evaluation import network_logits

    picture = tmp_path / "confusion.png"
    arguments = ["evaluate", str(trained[0]), str(drawn_npz), "--size", "32", "--json"]
    assert main([*arguments, "--final", "--log", str(tmp_path / "log.md"), "--png", str(picture)]) == 0
    told = json.loads(capsys.readouterr().out)
    guess = network_logits(trained[0], drawn.test, drawn.labels).argmax(axis=1)
    assert told["accuracy"] == pytest.approx((guess == drawn.test.labels).mean(), abs=1e-5)
    assert told["accuracy_without_copies"] == told["accuracy"]
    assert (told["data"], told["split"], told["count"]) == ("drawn.npz", "test", 35)
    assert np.sum(told["confusion"]) == 35
    assert cv2.imread(str(picture)) is not None


@pytest.mark.trainer
def test_evaluate_prints_a_report_for_people(trained, drawn_npz, capsys):
    assert main(["evaluate", str(trained[0]), str(drawn_npz), "--size", "32"]) == 0
    said = capsys.readouterr().out
    assert "validation split of drawn.npz" in said
    assert "macro F1" in said


@pytest.mark.trainer
def test_faces_of_another_size_than_the_network_s_end_with_65_and_the_way_out(trained, drawn_npz, capsys):
    assert main(["evaluate", str(trained[0]), str(drawn_npz)]) == 65
    assert "give --size 32" in capsys.readouterr().err


@pytest.mark.trainer
def test_an_image_folder_is_split_the_same_for_every_seed_and_command(tmp_path, monkeypatch, faces):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    from trainer import training
    from trainer.commandline import load

    images, labels = faces(70, 32, 0)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        folder = tmp_path / "faces" / f"label{label}"
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), image)
    seen = []

    def fit(dataset, settings, folder, **_):
        seen.append(dataset.test.rows.tolist())
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", fit)
    for seed in ("1", "2"):
        options = ["--size", "32", "--keep-copies", "--seed", seed]
        assert main(["fit", str(tmp_path / "faces"), "--out", str(tmp_path / "run"), *options]) == 130
    assert seen[0] == seen[1] == load(tmp_path / "faces", size=32).test.rows.tolist()


@pytest.mark.trainer
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_a_csv_that_has_not_fer2013_s_counts_is_warned_of_on_stderr(tmp_path, capsys, monkeypatch, command):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    from trainer import training

    pixels = " ".join(["7", *["9"] * 2303])
    rows = [f"0,{pixels},{usage}\n" for usage in ("Training", "PublicTest", "PrivateTest")]
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n" + "".join(rows))

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stop)
    model = [str(tmp_path / "none.keras")] if command == "evaluate" else []
    main([command, *model, str(tmp_path / "fer2013.csv")])
    assert "warning: fer2013.csv: 1/1/1 rows" in capsys.readouterr().err


@pytest.mark.trainer
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_data_that_is_not_there_ends_with_66_and_bad_data_with_65(tmp_path, capsys, command):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    model = [str(tmp_path / "model.keras")] if command == "evaluate" else []
    out = ["--out", str(tmp_path / "run")] if command == "fit" else []
    assert main([command, *model, str(tmp_path / "fer2013.csv"), *out]) == 66
    assert "fer2013.csv: no such file" in capsys.readouterr().err
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n7,1 2 3,Training\n")
    assert main([command, *model, str(tmp_path / "fer2013.csv"), *out]) == 65
    assert "row 1 (line 2): 3 pixels" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.trainer
def test_a_network_that_is_not_there_ends_with_66(drawn_npz, tmp_path, capsys):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    for name in ("none.keras", "none.tflite"):
        assert main(["evaluate", str(tmp_path / name), str(drawn_npz), "--size", "32"]) == 66
        assert f"{name}: no such" in capsys.readouterr().err


@pytest.mark.trainer
def test_a_folder_that_cannot_be_written_ends_with_73(drawn_npz, tmp_path, capsys):
    pytest.importorskip("tensorflow", reason="the trainer extra is not installed")
    (tmp_path / "file").touch()
    assert main(fit_arguments(drawn_npz, tmp_path / "file" / "run")) == 73
    assert "cannot be used" in capsys.readouterr().err


def test_without_the_trainer_extra_the_message_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "keras", None)
    assert main(["fit", "fer2013.csv"]) == 69
    assert "pip install 'mien[trainer]'" in capsys.readouterr().err
