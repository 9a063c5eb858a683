"""`.keras` files: a network with its card in, and nothing that runs code or does not belong here."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras

from edge.errors import BadDataError, InputNotFoundError, OutputError
from trainer.keras_file import load_network, save_network

pytestmark = pytest.mark.trainer


def network(*, side: int = 8, channels: int = 1, extra: keras.layers.Layer | None = None) -> keras.Model:
    face = keras.Input((side, side, channels))
    x = keras.layers.Flatten()(face if extra is None else extra(face))
    return keras.Model(face, keras.layers.Dense(3, name="logits")(x))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    save_network(network(), {"labels": ["a", "b", "c"]}, path)
    return path


def test_a_network_and_its_card_come_back(tmp_path):
    made = network()
    save_network(made, {"labels": ["a", "b", "c"], "nested": {"é": 1}}, tmp_path / "model.keras")
    read, card = load_network(tmp_path / "model.keras")
    face = np.ones((1, 8, 8, 1), np.float32)
    np.testing.assert_array_equal(np.asarray(read(face)), np.asarray(made(face)))
    assert card == {"labels": ["a", "b", "c"], "nested": {"é": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_keras_alone_reads_the_file_too_and_a_file_of_its_own_has_no_card(saved, tmp_path):
    assert keras.saving.load_model(saved).output_shape == (None, 3)
    network().save(tmp_path / "plain.keras")
    assert load_network(tmp_path / "plain.keras")[1] == {}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"none\.keras: no such file"):
        load_network(tmp_path / "none.keras")


def test_a_lambda_layer_is_refused_before_it_runs(tmp_path):
    network(extra=keras.layers.Lambda(lambda x: x * 2)).save(tmp_path / "code.keras")
    with pytest.raises(BadDataError, match=r"code\.keras: .* holds a Lambda layer, which is arbitrary Python code"):
        load_network(tmp_path / "code.keras")


def rewrite_config(path: Path, change: Callable[[dict], None]) -> None:
    """Change the architecture in a `.keras` by hand."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | {"config.json": json.dumps(config)}).items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("module", "name", "registered"),
    [
        ("keras.src.layers.core.lambda_layer", "Lambda", None),
        ("keras.layers", "TFSMLayer", None),
        ("keras.layers", "TorchModuleWrapper", None),
        ("keras.layers", "StringLookup", None),
        ("keras.src.utils.file_utils", "get_file", None),
        ("keras", "config.enable_unsafe_deserialization", None),
        ("builtins", "function", "function"),
        ("os", "system", None),
        (None, "Flatten", None),
        ("keras.layers", "Flatten", "Custom>Flatten"),
        ("keras.layers", ["Flatten"], None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("inside", ["a layer", "a layer's settings"])
def test_whatever_is_not_a_plain_layer_is_refused_before_keras_sees_it(
    saved, monkeypatch, module, name, registered, inside
):
    named = {"module": module, "class_name": name, "registered_name": registered}

    def change(config):
        layer = config["config"]["layers"][1]
        if inside == "a layer":
            layer |= named
        else:
            layer["config"]["data_format"] = [{"deeper": named | {"config": {}}}]

    rewrite_config(saved, change)
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked to load it"))
    with pytest.raises(BadDataError, match=r"model\.keras: not a network that can be loaded: "):
        load_network(saved)


def test_an_old_h5_with_a_harmless_zip_behind_it_is_refused(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked to load it"))
    with pytest.raises(BadDataError, match=r"model\.h5: .* must end in \.keras"):
        load_network(saved.rename(tmp_path / "model.h5"))


def test_a_network_with_a_loss_and_an_optimizer_is_loaded_without_them(tmp_path):
    made = network()
    made.compile("adam", loss=keras.losses.CategoricalCrossentropy())
    made.save(tmp_path / "model.keras")
    assert not load_network(tmp_path / "model.keras")[0].compiled


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.98])
def test_a_file_that_is_cut_short_is_refused(saved, kept):
    whole = saved.read_bytes()
    saved.write_bytes(whole[: kept if kept > 1 else int(len(whole) * kept)])
    with pytest.raises(BadDataError, match=r"model\.keras: not a network that can be loaded"):
        load_network(saved)


@pytest.mark.parametrize("content", [b"no zip", b"\x89HDF\r\n\x1a\n"])
def test_something_else_is_refused(saved, content):
    saved.write_bytes(content)
    with pytest.raises(BadDataError, match=r"model\.keras: not a network that can be loaded"):
        load_network(saved)


@pytest.mark.parametrize(
    ("card", "message"),
    [("[1]", "not a JSON object"), ("{", "not a network that can be loaded"), ('"' + "x" * 2**20 + '"', "swells")],
)
def test_a_card_that_is_none_is_refused(tmp_path, card, message):
    path = tmp_path / "model.keras"
    network().save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mien.json", card)
    with pytest.raises(BadDataError, match=message):
        load_network(path)


def colour() -> keras.Model:
    return network(channels=3)


def oblong() -> keras.Model:
    face = keras.Input((8, 6, 1))
    return keras.Model(face, keras.layers.Dense(3)(keras.layers.Flatten()(face)))


def two_inputs() -> keras.Model:
    faces = [keras.Input((8, 8, 1)) for _ in range(2)]
    return keras.Model(faces, keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Add()(faces))))


def a_map() -> keras.Model:
    face = keras.Input((8, 8, 1))
    return keras.Model(face, keras.layers.Conv2D(3, 3)(face))


@pytest.mark.parametrize("build", [colour, oblong, two_inputs, a_map])
def test_a_network_of_another_shape_is_refused(tmp_path, build):
    build().save(tmp_path / "other.keras")
    with pytest.raises(BadDataError, match=r"other\.keras: takes .* expected \(None, size, size, 1\)"):
        load_network(tmp_path / "other.keras")


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_network(network(), {}, tmp_path / "file" / "model.keras")
