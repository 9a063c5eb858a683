"""One `.keras` in, one int8 file out that says by itself what it is."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.errors import BadDataError
from edge.interpreter import make_interpreter
from edge.labels import FER2013_LABELS
from edge.model import open_model
from edge.modelfile import read_model_file
from export.card import as_markdown
from export.conversion import convert
from export.quantization import quantize, representative_faces
from trainer.calibration import probabilities
from trainer.datasets import clean, load_dataset
from trainer.evaluation import network_logits
from trainer.thresholds import fit_thresholds

pytestmark = pytest.mark.trainer

COMMAND = "mien-export convert model.keras --data drawn.npz --calibration 64 --seed 5 --size 32"
"""What the fixture `exported` does, as the card has it."""


@pytest.fixture(scope="module")
def file(exported):
    return read_model_file(exported.tflite)


@pytest.fixture(scope="module")
def dataset(exported):
    return clean(load_dataset(exported.data, size=32, cache=False))


def test_the_file_takes_one_grey_face_in_int8_and_gives_int8_logits(file):
    interpreter = make_interpreter(file.flatbuffer)
    (face,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (face["dtype"], face["shape"].tolist()) == (np.int8, [1, 32, 32, 1])
    assert (logits["dtype"], logits["shape"].tolist()) == (np.int8, [1, 7])
    scale, zero_point = face["quantization"]
    assert scale == pytest.approx(2 / 255, rel=1e-3)
    assert zero_point in {-1, 0}


def test_nothing_in_it_is_computed_in_float(file):
    kinds = {str(np.dtype(tensor["dtype"])) for tensor in make_interpreter(file.flatbuffer).get_tensor_details()}
    assert "int8" in kinds
    assert not kinds & {"float32", "float16", "float64"}


def test_convolutions_are_quantised_per_channel(file):
    weights = [
        tensor
        for tensor in make_interpreter(file.flatbuffer).get_tensor_details()
        if tensor["dtype"] == np.int8
        and len(tensor["shape"]) == 4
        and tensor["quantization_parameters"]["scales"].size > 1
    ]
    assert len(weights) == 27  # the stem, 13 depthwise and 13 pointwise convolutions
    for tensor in weights:
        scales = tensor["quantization_parameters"]["scales"]
        assert scales.size in {tensor["shape"][0], tensor["shape"][3]}
        assert len(set(scales.tolist())) > 1


def test_labels_and_card_lie_in_the_file(file):
    assert file.labels == FER2013_LABELS
    with zipfile.ZipFile(file.name) as archive:
        assert archive.read("labels.txt").decode().split() == list(FER2013_LABELS)
    card = file.card
    assert (card.name, card.size, card.channels, card.margin) == ("mien-v1-32", 32, 1, 1.05)
    assert card.output == "logits"
    assert card.temperature > 0
    assert len(card.self_test.outputs) == 7
    told = card.content["provenance"]
    assert told["selected"] == {"epoch": 3, "validation_accuracy": 0.5}
    assert told["export_command"] == COMMAND
    assert told["calibration_faces"] == 64


def test_it_opens_passes_its_self_test_and_knows_its_name(exported, file):
    model = open_model(exported.tflite)
    assert model.name == f"mien-v1-32@{file.sha256[:8]}"
    assert model.labels == FER2013_LABELS


def test_int8_answers_as_the_float_network_does(exported, dataset):
    float_logits = network_logits(exported.keras, dataset.test, dataset.labels)
    int8_logits = network_logits(exported.tflite, dataset.test, dataset.labels)
    right = (float_logits.argmax(axis=1) == dataset.test.labels).mean()
    assert 0.5 < right < 1  # a network that knows something, and not all
    assert (float_logits.argmax(axis=1) == int8_logits.argmax(axis=1)).mean() > 0.75  # random depths amplify rounding
    assert np.corrcoef(float_logits.ravel(), int8_logits.ravel())[0, 1] > 0.75


def test_the_temperature_makes_validation_more_likely_than_its_neighbours_do(exported, dataset, file):
    logits = network_logits(exported.tflite, dataset.validation, dataset.labels).astype(float)

    def cost(temperature: float) -> float:
        scaled = logits / temperature
        likely = scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))
        return -likely[np.arange(len(logits)), dataset.validation.labels].mean()

    best = file.card.temperature
    assert cost(best) < min(cost(best * 0.9), cost(best * 1.1))


def test_thresholds_are_fitted_on_validation_after_int8_and_stand_in_the_card(exported, dataset, file):
    logits = network_logits(exported.tflite, dataset.validation, dataset.labels)
    shares = probabilities(logits, file.card.temperature)
    assert dict(file.card.thresholds) == fit_thresholds(shares, dataset.validation.labels, dataset.labels)
    assert set(file.card.thresholds) == set(FER2013_LABELS)
    assert 0 < file.card.thresholds["happy"] < 1
    told = file.card.content["provenance"]["thresholds"]
    assert told["precision"] == 0.5
    assert told["accuracy"] > (shares.argmax(axis=1) == dataset.validation.labels).mean()
    card = as_markdown(file.card.content, file_name="mien.tflite", file_bytes=1)
    assert "| happy | {:.3f} |".format(file.card.thresholds["happy"]) in card
    assert "right often enough (50% of the time)" in card


def test_the_same_network_gives_the_same_bytes(exported, dataset):
    again = convert(
        exported.keras, dataset, calibration=64, seed=5,
        command=COMMAND,
    )  # fmt: skip
    assert again == exported.tflite.read_bytes()


def test_representative_faces_are_a_seeded_sample(dataset):
    images = dataset.train.images
    one, other = representative_faces(images, 20, 1), representative_faces(images, 20, 2)
    np.testing.assert_array_equal(one, representative_faces(images, 20, 1))
    assert not np.array_equal(one, other)
    assert len({image.tobytes() for image in one}) == 20
    assert len(representative_faces(images, 10_000, 1)) == len(images)


def test_a_network_without_an_int8_form_is_refused_by_name(dataset):
    face = keras.Input((32, 32, 1))
    spectrum = keras.ops.real(keras.ops.fft2((face[..., 0], face[..., 0] * 0))[0])
    network = keras.Model(face, keras.layers.Dense(7)(keras.layers.Flatten()(spectrum)), name="fourier")
    with pytest.raises(BadDataError, match="fourier: TensorFlow cannot turn this network into full int8"):
        quantize(network, dataset.train.images[:4])


def test_labels_that_are_not_the_data_set_s_are_refused(exported, dataset):
    other = replace(dataset, labels=tuple(reversed(dataset.labels)))
    with pytest.raises(BadDataError, match=r"model\.keras: knows the labels angry, .* the data set has neutral"):
        convert(exported.keras, other, command="x")
