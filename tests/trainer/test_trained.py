"""What ships is a `.tflite` alone: here it becomes a network again, that answers the same and can be trained."""

import json
import shutil
import zipfile
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.crop import scale_pixels
from edge.errors import BadDataError, InputNotFoundError, UsageError
from edge.labels import FER2013_LABELS
from edge.model import open_model
from edge.modelfile import SHIPPED, SMALL
from trainer import training
from trainer.backbones import build_network
from trainer.batch_norm import reestimate
from trainer.datasets import load_dataset
from trainer.distillation import open_panel
from trainer.keras_file import save_network
from trainer.settings import Settings
from trainer.slimming import slim
from trainer.trained import open_trained, read_card, start_from

pytestmark = pytest.mark.trainer


def network(width=0.5, size=48, labels=7, blocks=13, backbone="mobilenet_v1"):
    return build_network(
        backbone, labels=labels, size=size, width=width, dropout=0.0, stem_stride=1, weights="none", blocks=blocks
    )


def answers(opened, faces):
    return np.asarray(opened(scale_pixels(faces)[..., np.newaxis]))


@pytest.fixture(scope="module")
def faces():
    """200 pictures with what photos have, edges and shades."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0, 255, (200, 6, 6))
    fine = np.kron(coarse, np.ones((8, 8))) + rng.normal(0, 12, (200, 48, 48))
    return fine.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shipped", [SHIPPED, SMALL], ids=["mien", "mien-small"])
def test_an_exported_model_comes_back_as_a_network_that_answers_the_same_but_for_rounding(shipped, faces):
    opened, card = open_trained(shipped)
    model = open_model(shipped)
    exact, rounded = answers(opened, faces), np.stack([model.logits(face) for face in faces])
    assert np.abs(exact - rounded).mean() < 0.1 * rounded.std()
    assert (exact.argmax(axis=1) == rounded.argmax(axis=1)).mean() > 0.9
    assert card["labels"] == list(FER2013_LABELS)
    assert card["provenance"]["settings"]["backbone"] == "mobilenet_v1"
    assert card == read_card(shipped)


def test_a_real_face_is_read_as_well_as_by_the_exported_model(real_fer2013):
    chosen = load_dataset(real_fer2013, size=48).validation
    opened, card = open_trained(SHIPPED)
    right = answers(opened, chosen.images[:1000]).argmax(axis=1) == chosen.labels[:1000]
    assert abs(right.mean() - card["selected"]["validation_accuracy"]) < 0.04


def test_a_network_that_starts_from_it_answers_the_same_and_has_statistics_of_its_own(faces):
    started = network(0.5, blocks=11)
    start_from(SMALL, started, faces, FER2013_LABELS)
    opened, _ = open_trained(SMALL)
    np.testing.assert_allclose(answers(started, faces), answers(opened, faces), atol=0.3)
    norms = [layer for layer in started.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert all(np.asarray(norm.moving_variance).std() > 0 for norm in norms)


def test_a_narrower_network_gets_the_most_important_channels_of_a_file(tmp_path, faces):
    wide = network(0.5)
    save_network(wide, {}, tmp_path / "wide.keras")
    started, expected = network(0.25), network(0.25)
    start_from(tmp_path / "wide.keras", started, faces, FER2013_LABELS)
    slim(wide, expected)
    for one, other in zip(started.trainable_weights, expected.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_labels_that_it_knows_are_found_in_any_order_and_others_begin_anew(faces):
    labels = ("smug", "surprise", "happy")
    started = network(0.5, labels=3, blocks=11)
    before = started.get_layer("logits").get_weights()
    start_from(SMALL, started, faces, labels)
    kernel, bias = started.get_layer("logits").get_weights()
    known, offsets = open_trained(SMALL)[0].get_layer("logits").get_weights()
    for number, label in enumerate(labels[1:], start=1):
        np.testing.assert_array_equal(kernel[:, number], known[:, FER2013_LABELS.index(label)])
        assert bias[number] == offsets[FER2013_LABELS.index(label)]
    np.testing.assert_array_equal(kernel[:, 0], before[0][:, 0])


def test_faces_of_another_size_are_no_hindrance(faces):
    started = network(0.5, size=32, blocks=11)
    start_from(SMALL, started, faces[:, :32, :32], FER2013_LABELS)
    stem = open_trained(SMALL)[0].get_layer("conv1").get_weights()[0]
    np.testing.assert_array_equal(started.get_layer("conv1").get_weights()[0], stem)


def test_another_kind_of_network_cannot_start_from_it(faces):
    with pytest.raises(UsageError, match="can be cut out of"):
        start_from(SMALL, network(1.0), faces, FER2013_LABELS)


def test_a_training_goes_on_from_what_ships_is_taught_by_it_and_says_so(drawn, tmp_path):
    settings = Settings(
        weights=str(SMALL), teachers=(str(SMALL),), width=0.5, blocks=11, size=32, epochs=1, head_epochs=0, batch=35
    )
    path = training.fit(drawn, settings, tmp_path, source="drawn.npz", command="mien-train fit", verbose=0)
    told = read_card(path)["provenance"]
    assert told["pretraining"].startswith("mien-small.tflite, from ")
    assert told["pretraining"].endswith("mobilenet_v1_1.0_224_imagenet_no_top.h5")
    assert told["teachers"][0]["architecture"] == "mobilenet_v1"
    assert told["teachers"][0]["validation_accuracy"] > 0.6


@pytest.mark.parametrize(
    ("backbone", "width", "last_stride"), [("mobilenet_v2", 0.35, 2), ("mobilenet_v1", 0.25, 1), ("vgg", 0.25, 2)]
)
def test_networks_of_every_kind_come_back(tmp_path, faces, backbone, width, last_stride):
    from export.conversion import convert
    from trainer.datasets import Dataset, Split

    keras.utils.set_random_seed(1)
    made = build_network(
        backbone, labels=7, size=48, width=width, dropout=0.0, stem_stride=1, last_stride=last_stride, weights="none"
    )
    reestimate(made, faces)
    settings = {"width": width, "stem_stride": 1, "last_stride": last_stride}
    card = {"labels": list(FER2013_LABELS), "provenance": {"architecture": backbone, "settings": settings}}
    save_network(made, card, tmp_path / "model.keras")
    split = Split(faces, np.arange(200) % 7, np.arange(200))
    data = Dataset("drawn.npz", FER2013_LABELS, split, split, split, np.zeros(200, bool), {})
    (tmp_path / "m.tflite").write_bytes(convert(tmp_path / "model.keras", data, calibration=200, command="convert"))
    exact, opened = answers(made, faces), answers(open_trained(tmp_path / "m.tflite")[0], faces)
    assert np.abs(opened - exact).mean() < 0.2 * exact.std()


def test_a_teacher_with_other_labels_is_refused():
    with pytest.raises(BadDataError, match="this teacher knows the labels angry"):
        open_panel([str(SMALL)], ("happy", "sad"))


def test_what_is_no_model_of_ours_is_refused(tmp_path):
    with pytest.raises(InputNotFoundError):
        open_trained(tmp_path / "none.tflite")
    content = SMALL.read_bytes()
    (tmp_path / "short.tflite").write_bytes(content[:-4000])
    with pytest.raises(BadDataError, match="cut short"):
        open_trained(tmp_path / "short.tflite")
    with zipfile.ZipFile(SMALL) as archive:
        bare = content[: min(info.header_offset for info in archive.infolist())]
    (tmp_path / "foreign.tflite").write_bytes(bare)
    with pytest.raises(BadDataError, match="does not tell what network it is"):
        open_trained(tmp_path / "foreign.tflite")


def with_card(path, provenance):
    """The small model with another provenance in its card, or none."""
    shutil.copy(SMALL, path)
    with zipfile.ZipFile(SMALL) as archive:
        texts = {name: archive.read(name) for name in archive.namelist()}
        start = min(info.header_offset for info in archive.infolist())
    card = json.loads(texts["mien.json"])
    card["provenance"] = provenance and card["provenance"] | provenance
    path.write_bytes(SMALL.read_bytes()[:start])
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (texts | {"mien.json": json.dumps(card).encode()}).items():
            archive.writestr(name, text)
    return path


@pytest.mark.parametrize(
    "provenance",
    [
        {"architecture": "resnet"},
        {"settings": {}},
        {"settings": {"width": 1e9, "stem_stride": 1}},
        {"settings": {"width": "wide", "stem_stride": 1}},
        {"settings": {"width": 0.5, "stem_stride": 1, "blocks": 12.5}},
        {"settings": None},
        None,
    ],
    ids=["another network", "no settings", "an outlandish width", "no number", "half a block", "null", "nothing"],
)
def test_a_card_that_does_not_tell_the_network_s_shape_is_refused(tmp_path, provenance):
    with pytest.raises(BadDataError, match="does not tell its network's shape"):
        open_trained(with_card(tmp_path / "m.tflite", provenance))


def test_a_card_that_tells_of_another_network_is_refused(tmp_path):
    with pytest.raises(BadDataError, match="is not the mobilenet_v1 that its card tells of"):
        open_trained(with_card(tmp_path / "m.tflite", {"settings": {"width": 1.0, "stem_stride": 1}}))


def test_shipped_is_a_place_for_weights(drawn, tmp_path, monkeypatch):
    from trainer.cli import main

    asked = []
    monkeypatch.setattr(training, "fit", lambda dataset, settings, *_, **__: asked.append(settings) or exit_early())

    def exit_early():
        raise InputNotFoundError("seen enough")

    np.savez(
        tmp_path / "faces.npz", pixels=drawn.train.images, emotion=drawn.train.labels.astype(np.uint8),
        usage=np.arange(70, dtype=np.uint8) % 3,
    )  # fmt: skip
    assert main(["fit", str(tmp_path / "faces.npz"), "--size", "32", "--weights", "shipped"]) == 66
    assert asked == [replace(asked[0], weights=str(SHIPPED))]
