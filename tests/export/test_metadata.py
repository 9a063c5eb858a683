import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadDataError
from edge.interpreter import make_interpreter
from edge.model import Model
from edge.modelfile import parse_model_file
from export.metadata import add_self_test, pack, self_test_face, strip

MODELS = Path(__file__).parents[1] / "edge" / "models"
GREY = (MODELS / "grey_int8_logits.tflite").read_bytes()
LABELS = ["angry", "disgust", "fear", "happy", "sad", "surprise", "neutral"]
CARD = {
    "name": "mien-test",
    "labels": LABELS,
    "input": {"size": 48, "channels": 1, "margin": 1.0, "scaling": "x/127.5-1"},
    "output": {"kind": "logits", "temperature": 1.0},
    "thresholds": {},
    "provenance": {"dataset": "gezeichnete Gesichter, ünïcode"},
}


def test_packing_adds_labels_and_card_and_leaves_the_model_as_it_was():
    packed = pack(GREY, CARD)
    assert packed.startswith(GREY)
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["labels.txt", "mien.json"]
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == LABELS
    file = parse_model_file(packed, "m")
    assert file.flatbuffer == GREY
    assert file.card is not None
    card = file.card.content
    assert card["schema"] == "mien/model/1"
    assert {key: card[key] for key in CARD} == CARD
    assert card["tflite"]["bytes"] == len(GREY)


def test_what_cannot_be_read_of_a_file_s_name_is_no_hindrance():
    packed = pack(GREY, CARD | {"provenance": {"dataset": "dess\udce9.npz"}})
    assert parse_model_file(packed, "m").card.content["provenance"] == {"dataset": "dess\ufffd.npz"}


def test_packing_twice_gives_the_same_bytes():
    assert pack(GREY, CARD) == pack(GREY, dict(CARD))


def test_packing_again_replaces_what_was_packed():
    assert pack(pack(GREY, CARD | {"name": "older"}), CARD) == pack(GREY, CARD)
    assert strip(pack(GREY, CARD)) == GREY
    assert strip(GREY) == GREY


def test_the_interpreter_does_not_mind_the_zip():
    bare, packed = make_interpreter(GREY), make_interpreter(pack(GREY, CARD))
    assert [bare.get_output_details()[0]["shape"].tolist()] == [packed.get_output_details()[0]["shape"].tolist()]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": ["happy", "happy"]}, "'happy' stands twice"),
        ({"name": "no spaces please"}, "name: expected"),
        ({"input": {"size": 48, "channels": 1, "scaling": "x/128"}}, "input.scaling"),
        ({"schema": "mien/model/9"}, "mien/model/9"),
    ],
)
def test_a_card_that_the_daemon_would_refuse_is_not_packed(change, said):
    with pytest.raises(BadDataError, match=said):
        pack(GREY, CARD | change)


def test_half_a_model_is_not_packed():
    with pytest.raises(BadDataError, match=r"no whole \.tflite model"):
        pack(GREY[: len(GREY) // 2], CARD)


def test_the_self_test_holds_the_face_and_what_the_model_made_of_it():
    card = add_self_test(GREY, CARD)
    face = np.frombuffer(base64.b64decode(card["self_test"]["face"]), np.uint8).reshape(48, 48)
    assert np.array_equal(face, self_test_face(48))
    model = Model(parse_model_file(pack(GREY, card), "m"))
    assert model.raw(face).tolist() == card["self_test"]["logits"]
    assert len(set(card["self_test"]["logits"])) > 1
    assert add_self_test(GREY, card) == card


def test_a_colour_model_has_a_self_test_too():
    colored = (MODELS / "rgb_uint8_softmax.tflite").read_bytes()
    sized = {"size": 32, "channels": 3, "margin": 1.0, "scaling": "x/127.5-1"}
    card = CARD | {"input": sized, "output": {"kind": "probabilities"}}
    assert Model(parse_model_file(pack(colored, add_self_test(colored, card)), "m")).channels == 3


@pytest.mark.parametrize("size", [1, 24, 48, 96])
def test_the_drawn_face_is_the_same_left_and_right_but_for_its_light(size):
    face = self_test_face(size)
    assert (face.shape, face.dtype) == ((size, size), np.uint8)
    assert np.array_equal(face, self_test_face(size))
    if size > 1:
        assert face.std() > 20
        assert np.abs((face.astype(int) - face[:, ::-1]).mean()) < 1.0


@pytest.mark.trainer
def test_a_freshly_converted_model_is_packed_and_opens():
    tf = pytest.importorskip("tensorflow")
    inputs = tf.keras.Input((16, 16, 1), batch_size=1)
    outputs = tf.keras.layers.Dense(2)(tf.keras.layers.Flatten()(inputs))
    converter = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(inputs, outputs))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.full((1, 16, 16, 1), x, np.float32)] for x in (-1.0, 0.0, 1.0))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    model = converter.convert()
    card = CARD | {"labels": ["happy", "sad"], "input": {"size": 16, "channels": 1, "scaling": "x/127.5-1"}}
    opened = Model(parse_model_file(pack(model, add_self_test(model, card)), "m"))
    assert opened.classify_face(self_test_face(16)).shape == (2,)
