"""Trainings by name, their teachers first."""

import hashlib
import json
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from benchmarks import training_speed
from edge.errors import BadDataError
from trainer import presets, slimming, training
from trainer.cli import main
from trainer.datasets import NEAR
from trainer.keras_file import read_card
from trainer.presets import PRESETS, Preset
from trainer.votes import VOTED

pytestmark = pytest.mark.trainer

TINY = {"size": 32, "epochs": 1, "head_epochs": 0, "weights": "none", "batch": 32}


def small_network(backbone, *, labels, size, width=1.0, **_):
    face = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(int(4 * width), 3, strides=4, use_bias=False, name="conv")(face)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization(name="norm")(x))
    return keras.Model(face, keras.layers.Dense(labels, name="logits")(x))


@pytest.fixture(autouse=True)
def _tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "build_network", small_network)
    tiny = {
        "plain": Preset("labels alone", TINY | {"seed": 5}),
        "other": Preset("another network", TINY | {"backbone": "mobilenet_v2", "weights": "imagenet"}),
        "both": Preset("taught by two", TINY | {"weights": "none"}, teachers=("plain", "other")),
        "cut": Preset("begins as plain does", TINY | {"weights": presets.TEACHER}, teachers=("plain",)),
        "seeded": Preset("taught by plain from another seed", TINY, teachers=("plain",), seeds={"plain": 6}),
        "taught": Preset("taught by plain", TINY | {"mixup": 0.3}, teachers=("plain",), votes=True),
    }
    monkeypatch.setattr(presets, "PRESETS", tiny)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def settings(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())["settings"]


def test_a_preset_is_trained_after_its_teachers_and_repeats_itself(runs, drawn_npz, capsys):
    command = ["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--seed", "7"]
    assert main(command) == 0
    assert "taught learns from plain:" in capsys.readouterr().out
    card = read_card(runs / "taught-seed7" / "model.keras")["provenance"]
    assert card["command"] == "mien-train fit drawn.npz --preset taught --seed 7 --votes none"
    assert [teacher["command"] for teacher in card["teachers"]] == ["mien-train fit drawn.npz --preset plain"]
    assert settings(runs / "taught-seed7")["augmentation"]["mixup"] == 0.3
    assert settings(runs / "plain")["seed"] == 5, "a student's seed is not its teachers'"
    taught = (runs / "plain" / "model.keras").stat().st_mtime_ns
    assert main(command) == 0
    assert (runs / "plain" / "model.keras").stat().st_mtime_ns == taught, "a trained teacher is not trained again"


def test_options_beside_a_preset_win_wherever_they_stand(runs, drawn_npz):
    for place, command in enumerate((["--epochs", "2", "--preset", "plain"], ["--preset", "plain", "--epochs", "2"])):
        assert main(["fit", str(drawn_npz), *command, "--out", str(runs / str(place))]) == 0
        assert settings(runs / str(place))["epochs"] == 2
        assert settings(runs / str(place))["seed"] == 5


def test_a_preset_can_name_the_seed_of_its_teacher(runs, drawn_npz):
    assert main(["fit", str(drawn_npz), "--preset", "seeded", "--seed", "7"]) == 0
    teacher = runs / "plain-seed6" / "model.keras"
    assert settings(runs / "plain-seed6")["seed"] == 6
    [taught_by] = read_card(runs / "seeded-seed7" / "model.keras")["provenance"]["teachers"]
    assert taught_by["file"] == f"sha256:{hashlib.sha256(teacher.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("place", [(), ("--weights", ".")], ids=["nothing named", "a folder for others"])
def test_a_preset_can_start_from_its_teacher(runs, drawn_npz, place):
    assert main(["fit", str(drawn_npz), "--preset", "cut", *place]) == 0
    teacher = hashlib.sha256((runs / "plain" / "model.keras").read_bytes()).hexdigest()
    assert settings(runs / "cut")["weights"] == f"sha256:{teacher}"
    assert read_card(runs / "cut" / "model.keras")["provenance"]["pretraining"] == "plain/model.keras, from none"


def test_whoever_starts_from_a_teacher_has_one(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--preset", "plain", "--weights", "teacher"]) == 64
    assert "name one with --teacher" in capsys.readouterr().err


def test_named_teachers_stand_in_for_the_preset_s(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--preset", "plain", "--out", str(runs / "mine")]) == 0
    teacher = str(runs / "mine" / "model.keras")
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--teacher", teacher]) == 0
    assert "learns from plain" not in capsys.readouterr().out
    command = read_card(runs / "taught" / "model.keras")["provenance"]["command"]
    assert command == "mien-train fit drawn.npz --preset taught --teacher mine/model.keras --votes none"


def test_the_literature_s_protocol_has_a_folder_of_its_own(runs, drawn_npz):
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--keep-copies"]) == 0
    assert {path.name for path in runs.iterdir()} == {"plain-all", "taught-all"}


def test_strict_cleaning_is_the_teachers_too(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--strict"]) == 0
    assert {path.name for path in runs.iterdir()} == {"plain-strict", "taught-strict"}
    provenance = read_card(runs / "taught-strict" / "model.keras")["provenance"]
    assert NEAR in provenance["left_out_of_training"]
    assert NEAR in provenance["teachers"][0]["left_out_of_training"]
    assert provenance["command"].endswith("--preset taught --votes none --strict")
    assert main(["fit", str(drawn_npz), "--strict", "--keep-copies"]) == 64
    assert "not allowed with argument" in capsys.readouterr().err


def test_a_training_without_some_labels_and_its_teachers_have_folders_of_their_own(runs, drawn_npz):
    command = ["fit", str(drawn_npz), "--preset", "taught", "--votes", "none"]
    assert main(command) == 0
    assert main([*command, "--drop", "fear,disgust"]) == 0
    names = {"plain", "taught", "plain-without-disgust-fear", "taught-without-disgust-fear"}
    assert {path.name for path in runs.iterdir()} == names


def test_votes_that_do_not_fit_are_refused_before_a_teacher_is_trained(runs, drawn_npz, tmp_path, capsys):
    command = ["fit", str(drawn_npz), "--preset", "taught", "--votes"]
    assert main([*command, str(tmp_path / "gone.csv")]) == 66
    assert "gone.csv: cannot be read" in capsys.readouterr().err
    assert main([*command, str(tmp_path)]) == 66
    votes = tmp_path / "votes.csv"
    votes.write_text(f"{','.join(VOTED)}\n{','.join('1' * len(VOTED))}\n")
    assert main([*command, str(votes)]) == 65
    assert "votes on 1 images, the data set has 140 rows" in capsys.readouterr().err
    assert not runs.exists()


def test_weights_that_a_teacher_lacks_are_missed_before_another_is_trained(runs, drawn_npz, tmp_path, capsys):
    weights = tmp_path / "weights"
    weights.mkdir()
    command = ["fit", str(drawn_npz), "--preset", "both", "--weights"]
    (weights / "mobilenet_1_0_224_tf_no_top.h5").touch()
    assert main([*command, str(weights)]) == 66
    assert "weights: no ImageNet weights of mobilenet_v2" in capsys.readouterr().err
    assert main([*command, str(weights / "mobilenet_1_0_224_tf_no_top.h5")]) == 64
    assert "name a folder with a file for each" in capsys.readouterr().err
    assert not runs.exists()


def test_weights_that_do_not_fit_are_refused_before_a_teacher_is_trained(runs, drawn_npz, monkeypatch, capsys):
    def build(backbone, **options):
        if options["weights"] != "none":
            raise BadDataError(f"{options['weights']}: not weights of {backbone}")
        return small_network(backbone, **options)

    monkeypatch.setattr(training, "build_network", build)
    assert main(["fit", str(drawn_npz), "--preset", "both"]) == 65
    assert "imagenet: not weights of mobilenet_v2" in capsys.readouterr().err
    assert not runs.exists()


def test_a_network_to_go_on_from_that_is_not_there_or_too_small_is_refused_before_a_teacher_is_trained(
    runs, drawn_npz, capsys
):
    command = ["fit", str(drawn_npz), "--preset", "both", "--weights"]
    assert main([*command, "runs/modle.keras"]) == 66
    assert "runs/modle.keras: no such file" in capsys.readouterr().err
    assert main([*command, "shipped"]) == 64
    assert "can be cut out of" in capsys.readouterr().err
    assert main(["fit", str(drawn_npz), "--preset", "cut", "--width", "1.25"]) == 64
    assert "(conv does not fit); it takes the same network, or a wider" in capsys.readouterr().err
    assert not runs.exists()


def test_who_starts_from_nothing_leaves_a_folder_of_weights_to_the_teachers(runs, drawn_npz, tmp_path):
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "mobilenet_v2_1.0_224_imagenet_no_top.h5").write_bytes(b"weights")
    assert main(["fit", str(drawn_npz), "--preset", "both", "--weights", str(weights)]) == 0
    assert [settings(runs / name)["weights"][:6] for name in ("both", "plain", "other")] == ["none", "none", "sha256"]


def test_who_starts_from_nothing_does_so_whatever_file_its_student_starts_from(runs, drawn_npz, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"weights")
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--weights", str(weights)]) == 0
    assert [settings(runs / name)["weights"][:6] for name in ("taught", "plain")] == ["sha256", "none"]


@pytest.mark.parametrize("place", ["teacher", "shipped"])
def test_a_network_of_ours_to_start_from_is_not_handed_on_to_the_teachers(runs, drawn_npz, monkeypatch, place):
    monkeypatch.setattr(training.trained, "start_from", lambda *_: None)
    monkeypatch.setattr(slimming, "slim", lambda *_: None)  # nor does what ships fit so small a network
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none", "--weights", place]) == 0
    assert settings(runs / "plain")["weights"] == "none"
    told = read_card(runs / "taught" / "model.keras")["provenance"]
    assert told["command"] == f"mien-train fit drawn.npz --preset taught --weights {place} --votes none"
    assert told["went_on_from"]["command"].startswith("mien-train fit ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backbone", "vgg", "--last-stride", "1"], "there is no such stride in vgg"),
        (
            ["--blocks", "11", "--last-stride", "1"],
            "no such stride in mobilenet_v1 cut to --blocks 11; keep 12",
        ),
        (["--weights", "shipped", "--weights-scaling", "caffe"], "takes pixels as it did; give --weights-scaling tf"),
        (["--no-augmentation", "--mixup", "0.4"], "--mixup would do nothing: --no-augmentation leaves"),
        (["--distillation", "3"], "--distillation would do nothing: there is no --teacher"),
        (["--votes-weight", "2"], "--votes-weight would do nothing: there are no --votes"),
        (["--head-epochs", "0", "--head-learning-rate", "0.1"], "would do nothing: --head-epochs is 0"),
        (["--weights", "none", "--weights-scaling", "caffe"], "--weights-scaling would do nothing: --weights none"),
    ],
)
def test_what_would_do_nothing_is_refused(runs, drawn_npz, capsys, options, message):
    assert main(["fit", str(drawn_npz), *options]) == 64
    assert message in capsys.readouterr().err
    assert not runs.exists()


def test_all_that_will_be_trained_is_told_first_and_weights_are_looked_for_before_the_data(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--preset", "taught", "--votes", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "trainings, each in a folder of its own:"
    assert lines[1].startswith("  plain: ")
    assert lines[1].endswith(", in runs/plain")
    assert main(["fit", "none.npz", "--weights", "typo.h5"]) == 66
    assert "typo.h5: no such weights file" in capsys.readouterr().err


def test_ctrl_c_says_where_the_finished_epochs_are(runs, drawn_npz, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stop)
    assert main(["fit", str(drawn_npz), "--weights", "none", "--out", "runs/x"]) == 130
    assert "stopped; runs/x keeps every finished epoch, and the same command goes on" in capsys.readouterr().err


def test_a_network_of_another_shape_to_go_on_from_tells_its_own(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--weights", "small"]) == 64
    assert "mien-small.tflite is of --backbone mobilenet_v1 --width 0.5 --blocks 11" in capsys.readouterr().err
    assert not runs.exists()


def test_a_network_that_cannot_be_cut_says_so(runs, drawn_npz, monkeypatch, capsys):
    assert main(["fit", str(drawn_npz), "--backbone", "mobilenet_v2", "--blocks", "11"]) == 64
    assert "--blocks 11: only mobilenet_v1 can be cut; mobilenet_v2 takes --blocks 13" in capsys.readouterr().err
    monkeypatch.setitem(presets.PRESETS, "short", Preset("without its last blocks", TINY | {"blocks": 11}))
    assert main(["fit", str(drawn_npz), "--preset", "short", "--backbone", "mobilenet_v2"]) == 64
    assert "--blocks 11: only mobilenet_v1 can be cut" in capsys.readouterr().err
    assert not runs.exists()
    assert main(["fit", str(drawn_npz), "--preset", "short", "--backbone", "mobilenet_v2", "--blocks", "13"]) == 0
    assert settings(runs / "short")["blocks"] == 13


@pytest.mark.parametrize("options", [[], ["--weights", "."]])
def test_pixels_scaled_as_caffe_does_want_a_file_for_imagenet_s_are_not(runs, drawn_npz, capsys, options):
    assert main(["fit", str(drawn_npz), "--weights-scaling", "caffe", *options]) == 64
    assert "ImageNet's weights are of --weights-scaling tf; name the file" in capsys.readouterr().err


def test_a_preset_that_is_not_there_is_wrong_usage_and_the_others_are_named(capsys):
    assert main(["fit", "faces.npz", "--preset", "mein"]) == 64
    assert (
        "--preset mein: there is no such preset; choose one of plain, other, both, cut, seeded, taught"
        in capsys.readouterr().err
    )


def test_a_preset_that_learns_from_votes_asks_for_them_before_anything_is_trained(runs, drawn_npz, capsys):
    assert main(["fit", str(drawn_npz), "--preset", "taught"]) == 64
    assert "name its fer2013new.csv with --votes, or --votes none" in capsys.readouterr().err
    assert not runs.exists()


def test_teachers_come_before_their_students_in_the_list_and_every_preset_is_in_the_help(capsys, monkeypatch):
    names, shown = list(PRESETS), presets_help(capsys, monkeypatch)
    for name, preset in PRESETS.items():
        assert all(names.index(teacher) < names.index(name) for teacher in preset.teachers)
        assert preset.summary in shown


def test_what_batches_cost_can_be_measured_with_every_preset(monkeypatch):
    monkeypatch.setattr(presets, "PRESETS", PRESETS)
    for name, preset in PRESETS.items():
        settings = training_speed.settings_of(name, 64)
        assert (settings.batch, settings.augmentation.mixup) == (64, preset.options.get("mixup", 0.0))


def presets_help(capsys, monkeypatch) -> str:
    monkeypatch.setattr(presets, "PRESETS", PRESETS)
    assert main(["fit", "--help"]) == 0
    return capsys.readouterr().out
