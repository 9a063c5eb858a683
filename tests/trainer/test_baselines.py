"""The literature's networks: each is built, learns, starts from what it is given, and sees the faces it should see."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.crop import crop_face
from edge.detector import Detector
from edge.errors import BadDataError, InputNotFoundError, UnavailableError, UsageError
from trainer import backbones, baselines
from trainer.baselines import PRESETS, find_presets, haar_faces, obtain_weights

pytestmark = pytest.mark.trainer

SAMPLE = Path(__file__).parents[2] / "edge" / "samples" / "astronaut.png"


def preset(name: str) -> baselines.PaperNetwork:
    return find_presets([name])[0]


@pytest.mark.parametrize("name", [each.name for each in PRESETS if each.name != "mobilenet-5class"])
def test_each_network_takes_a_step_from_scaled_grey_faces_to_a_logit_a_label(name):
    network = preset(name).build(5, 32, "none")
    assert (network.input_shape, network.output_shape) == ((None, 32, 32, 1), (None, 5))
    before = network.layers[-1].get_weights()[0]
    network.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), run_eagerly=True)
    faces = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 1)).astype(np.float32)
    assert np.isfinite(network.train_on_batch(faces, np.array([0, 4])))
    assert not np.array_equal(network.layers[-1].get_weights()[0], before)


def test_the_five_class_network_is_that_of_75_25_without_two_labels():
    five, seven = preset("mobilenet-5class"), preset("mobilenet-75-25")
    assert five.drop == ("disgust", "fear")
    assert (five.shares, five.epochs, five.learning_rate) == (seven.shares, seven.epochs, seven.learning_rate)
    assert five.build(5, 32, "none").count_params() == seven.build(5, 32, "none").count_params()


def test_a_random_split_holds_a_tenth_of_its_training_images_out():
    assert preset("pfems").shares == pytest.approx((0.72, 0.08, 0.20))
    assert preset("mobilenet-75-25").shares == pytest.approx((0.675, 0.075, 0.25))
    assert preset("cnn4").shares is None


def test_presets_come_from_cheap_to_costly_however_they_are_named():
    assert [each.name for each in find_presets(["mobilenet-224", "cnn2"])] == ["cnn2", "mobilenet-224"]
    assert find_presets([]) == list(PRESETS)


def test_a_preset_that_does_not_exist_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="--presets cnn5: no such preset; there are cnn2, cnn3, cnn3-dropout, vgg16"):
        find_presets(["cnn2", "cnn5"])


# --- pretrained weights ----------------------------------------------------------------------------------------------


def test_vgg16_with_weights_is_frozen_and_without_them_is_not(tmp_path):
    stock = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "vgg16.weights.h5"
    stock.save_weights(path)
    network = preset("vgg16").build(7, 32, str(path))
    assert [variable.path.split("/")[-1] for variable in network.trainable_variables] == ["kernel", "bias"]
    np.testing.assert_array_equal(network.get_layer("vgg16").get_weights()[-2], stock.get_weights()[-2])
    assert len(preset("vgg16").build(7, 32, "none").trainable_variables) == len(stock.weights) + 2


def test_vgg16_sees_blue_green_red_less_imagenet_s_means():
    network = preset("vgg16").build(7, 32, "none")
    seen = next(layer for layer in network.layers if isinstance(layer, keras.layers.Rescaling)).output
    white = keras.Model(network.input, seen)(np.ones((1, 32, 32, 1), np.float32))
    assert np.asarray(white)[0, 0, 0] == pytest.approx([255 - 103.939, 255 - 116.779, 255 - 123.68], abs=1e-3)


def test_where_vgg16_cannot_be_downloaded_it_is_trained_from_scratch(monkeypatch):
    build = keras.applications.VGG16
    monkeypatch.setattr(keras.applications, "VGG16", lambda weights, **kind: no_network(weights, build, kind))
    assert obtain_weights(preset("vgg16"), "imagenet", 32) == "none"


def test_where_mobilenet_cannot_be_downloaded_the_way_out_is_named(monkeypatch):
    build = keras.applications.MobileNet
    monkeypatch.setitem(backbones.BACKBONES, "mobilenet_v1", lambda weights, **kind: no_network(weights, build, kind))
    with pytest.raises(UnavailableError, match=r"mobilenet-75-25: .*--mobilenet-weights FILE, or other presets"):
        obtain_weights(preset("mobilenet-75-25"), "imagenet", 32)


def no_network(weights, build, kind):
    if weights == "imagenet":
        raise Exception("URL fetch failure")  # as Keras does
    return build(weights=weights, **kind)


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras on its way to the refusal, layer by layer
@pytest.mark.parametrize("name", ["vgg16", "mobilenet-224"])
def test_weights_that_do_not_fit_are_refused_with_file_and_preset(tmp_path, name):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(BadDataError, match=rf"preset {name}: .*other.weights.h5: these weights do not fit"):
        obtain_weights(preset(name), str(path), 32)
    with pytest.raises(InputNotFoundError, match=rf"preset {name}: .*missing.h5: no such weights file"):
        obtain_weights(preset(name), str(tmp_path / "missing.h5"), 32)


def test_a_network_without_pretraining_asks_for_no_weights(tmp_path):
    assert obtain_weights(preset("cnn2"), str(tmp_path / "missing.h5"), 32) == "none"


# --- Haar crops ------------------------------------------------------------------------------------------------------


def test_a_face_with_room_around_it_is_cut_out_and_its_histogram_levelled():
    picture = np.asarray(cv2.imread(str(SAMPLE), cv2.IMREAD_GRAYSCALE))
    box = max(Detector().detect(picture), key=lambda box: box.area)
    roomy = crop_face(picture, box, 48, margin=1.5)
    faces, missed = haar_faces(roomy[np.newaxis])
    expected = cv2.equalizeHist(crop_face(picture, box, 48))
    assert missed == 0
    assert np.corrcoef(faces[0].ravel(), expected.ravel())[0, 1] > 0.9
    assert np.corrcoef(faces[0].ravel(), cv2.equalizeHist(roomy).ravel())[0, 1] < 0.7


def test_a_face_that_fills_its_picture_as_those_of_fer2013_do_is_found_too():
    picture = np.asarray(cv2.imread(str(SAMPLE), cv2.IMREAD_GRAYSCALE))
    box = max(Detector().detect(picture), key=lambda box: box.area)
    close = crop_face(picture, box, 48, margin=0.95)
    faces, missed = haar_faces(close[np.newaxis])
    assert missed == 0
    assert np.corrcoef(faces[0].ravel(), cv2.equalizeHist(close).ravel())[0, 1] > 0.8


def test_a_picture_without_a_face_is_kept_whole_and_counted(faces):
    images, _ = faces(3, 48, 0)
    seen = []
    levelled, missed = haar_faces(images, lambda done, total: seen.append((done, total)))
    assert missed == 3
    assert seen == [(0, 3)]
    for image, level in zip(images, levelled, strict=True):
        np.testing.assert_array_equal(level, cv2.equalizeHist(image))
