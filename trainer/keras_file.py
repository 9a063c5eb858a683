"""Reading and writing `.keras` files: one network, with what is known about it packed in.

A `.keras` file is a ZIP; `mien.json` is one more member, which Keras passes over.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from edge.errors import BadDataError, InputNotFoundError, MienError, OutputError

CARD = "mien.json"
MAX_CARD = 1024**2
"""Bytes unpacked."""

_CONFIG = "config.json"
_MAX_CONFIG = 16 * 1024**2
# All that an image classifier is made of. Keras has layers that run code (Lambda), load other programs' models
# (TFSMLayer, TorchModuleWrapper) or read any file (StringLookup); its own safe mode has been got round before.
_LAYERS = {
    "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Dense",
    "DepthwiseConv2D", "Dropout", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D",
    "GroupNormalization", "InputLayer", "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Multiply", "PReLU",
    "ReLU", "Rescaling", "Reshape", "SeparableConv2D", "Softmax", "SpatialDropout2D", "ZeroPadding2D",
}  # fmt: skip
_OTHERS = {("keras.src.models.functional", "Functional"), ("keras", "Sequential"), ("keras", "DTypePolicy")}
_VALUE_MODULES = ("keras.initializers", "keras.regularizers", "keras.constraints")


def save_network(network: keras.Model, card: dict[str, Any], path: Path) -> None:
    """Write `network` and its card to `path`; a kill or a power cut leaves the file that was there before."""
    partial = path.with_name("partial.keras")
    try:
        network.save(partial)
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(CARD, json.dumps(card, indent=2))
        to_disk(partial)
        partial.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error})") from error


def to_disk(path: Path) -> None:
    """Wait until what was written to a file is on the disk itself, not on its way there."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def load_network(path: Path) -> tuple[keras.Model, dict[str, Any]]:
    """Read a network and its card (empty where another program wrote the file).

    Raises:
        InputNotFoundError: there is no such file.
        BadDataError: it is not a `.keras` file, is cut short, or names anything but Keras's plain layers (a Lambda
            layer is arbitrary code), which is refused before anything is loaded.
    """
    _refuse_other_kinds(path)
    try:
        with zipfile.ZipFile(path) as archive:
            card = _read_card(archive, path)
            _refuse_code(archive, path)
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except MienError:
        raise
    except Exception as error:  # Keras raises whatever its layers raise on a file that is not what it should be
        raise _not_loadable(path, error) from error
    _refuse_other_shapes(network, path)
    return network, card


def read_card(path: Path) -> dict[str, Any]:
    """The card alone, without loading the network; empty where another program wrote the file.

    Raises:
        InputNotFoundError, BadDataError: it is not there, or no `.keras` file.
    """
    _refuse_other_kinds(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_card(archive, path)
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, MienError):
            raise
        raise _not_loadable(path, error) from error


def _refuse_other_kinds(path: Path) -> None:
    if not path.is_file():
        raise InputNotFoundError(f"{path}: no such file; mien-train fit writes one to RUN/model.keras")
    if path.suffix != ".keras":  # Keras goes by the name, and would read an .h5 in its old way, unchecked
        raise BadDataError(f"{path}: not a network that can be loaded: its name must end in .keras")


def _not_loadable(path: Path, error: Exception) -> BadDataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return BadDataError(f"{path}: not a network that can be loaded: {reason}")


def _read_card(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if CARD not in archive.namelist():
        return {}
    if archive.getinfo(CARD).file_size > MAX_CARD:
        raise BadDataError(f"{path}: {CARD} in it swells to more than {MAX_CARD // 1024} KiB; it is no network of ours")
    card = json.loads(archive.read(CARD))
    if not isinstance(card, dict):
        raise BadDataError(f"{path}: {CARD} in it is not a JSON object; train it again")
    return card


def _refuse_code(archive: zipfile.ZipFile, path: Path) -> None:
    """Let nothing be named in the architecture but what networks of this house are made of."""
    if archive.getinfo(_CONFIG).file_size > _MAX_CONFIG:
        raise BadDataError(f"{path}: {_CONFIG} in it swells to more than {_MAX_CONFIG // 1024**2} MiB; it is refused")
    config = json.loads(archive.read(_CONFIG))
    if isinstance(config, dict):
        config.pop("compile_config", None)  # never loaded: networks come back uncompiled
    for module, name, registered in _named_objects(config):
        known = (
            (module == "keras.layers" and name in _LAYERS)
            or (module, name) in _OTHERS
            or module in _VALUE_MODULES
            or (module is None and name == "__keras_tensor__")  # a reference to another layer's output
        )
        if not known or registered not in (None, name):
            what = "a Lambda layer, which is arbitrary Python code" if name == "Lambda" else f"{name!r} of {module!r}"
            raise BadDataError(
                f"{path}: not a network that can be loaded: it holds {what} and is refused; only Keras's plain layers "
                "for images are read"
            )


def _named_objects(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, class and registered name of everything that Keras would look up to rebuild `config`."""
    if isinstance(config, dict):
        if "class_name" in config:
            yield config.get("module"), str(config["class_name"]), config.get("registered_name")
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from _named_objects(value)


def _refuse_other_shapes(network: Any, path: Path) -> None:
    """Only what takes one square grey face and answers with one number a label goes through this house."""
    takes, gives = getattr(network, "input_shape", None), getattr(network, "output_shape", None)
    match takes, gives:
        case (None, int(high), int(wide), 1), (None, int()) if high == wide:
            return
    raise BadDataError(f"{path}: takes {takes} and gives {gives}; expected (None, size, size, 1) and (None, labels)")


def load_weights_alone(model: keras.Model, path: Path) -> None:
    """Read the weights of a file that `Model.save_weights` wrote, and leave the optimizer as it is."""
    optimizer, model.optimizer = model.optimizer, None
    try:
        model.load_weights(path)
    finally:
        model.optimizer = optimizer
