"""Packs a model's labels and card into its `.tflite`, as TFLite Model Metadata packs its files: an appended ZIP."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadDataError
from edge.flatbuffer import BrokenFlatbufferError, check_flatbuffer
from edge.model import Model
from edge.modelcard import SCHEMA, parse_card
from edge.modelfile import CARD, LABELS, parse_model_file, split

_UNREADABLE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes in file names that are no UTF-8."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time a ZIP can hold: the same model gives the same file on every day."""


def pack(tflite: bytes, card: Mapping[str, Any]) -> bytes:
    """Append labels and card to a model; what is appended already is replaced.

    The same arguments always give the same bytes: fixed times, nothing compressed.

    Args:
        tflite: the model's flatbuffer.
        card: `mien.json` without `tflite` and, if need be, without `schema`; both are filled in.

    Raises:
        BadDataError: the card is not one that the daemon would take, or `tflite` is no whole model.
    """
    flatbuffer = strip(tflite)
    try:
        check_flatbuffer(flatbuffer)
    except BrokenFlatbufferError as error:
        raise BadDataError(f"what was to be packed is no whole .tflite model: {error}") from None
    digest = hashlib.sha256(flatbuffer).hexdigest()
    whole = {"schema": SCHEMA, **card, "tflite": {"bytes": len(flatbuffer), "sha256": digest}}
    # Of file names that are no UTF-8 it keeps what can be read.
    text = _UNREADABLE.sub("\ufffd", json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"
    checked = parse_card(text, CARD)
    buffer = io.BytesIO(flatbuffer)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:
        for name, content in ((LABELS, "\n".join(checked.labels) + "\n"), (CARD, text)):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)
    packed = buffer.getvalue()
    parse_model_file(packed, "the packed model")
    return packed


def strip(data: bytes) -> bytes:
    """A model file without what is appended to it.

    Raises:
        BadDataError: what is appended is damaged.
    """
    return split(data, "the model")[0]


def add_self_test(tflite: bytes, card: Mapping[str, Any]) -> dict[str, Any]:
    """The card with a self-test: what this model makes of `self_test_face` here and now.

    Args:
        tflite: the model's flatbuffer, with a quantised output.
        card: see `pack`.

    Raises:
        BadDataError: see `pack` and `edge.model.open_model`.
    """
    bare = {key: value for key, value in card.items() if key != "self_test"}
    model = Model(parse_model_file(pack(tflite, bare), "the model"))
    face = self_test_face(model.input_size)
    if model.channels == 3:
        face = np.repeat(face[..., None], 3, axis=2)
    return bare | {
        "self_test": {
            "face": base64.b64encode(face.tobytes()).decode("ascii"),
            "logits": [int(value) for value in model.raw(face)],
        }
    }


def self_test_face(size: int) -> NDArray[np.uint8]:
    """A drawn face of soft blobs, nobody's, `uint8[size, size]`: an oval with eyes, brows, a nose and a smile.

    Args:
        size: side in pixels.
    """
    y, x = np.mgrid[0:size, 0:size] / max(size - 1, 1) * 2.0 - 1.0

    def blob(across: float, down: float, wide: float, high: float) -> NDArray[np.float64]:
        return np.asarray(np.exp(-(((x - across) / wide) ** 2) - ((y - down) / high) ** 2))

    light = 40.0 + 40.0 * (x + 1.0) / 2.0 + 130.0 * blob(0.0, 0.0, 0.85, 1.05)
    for side in (-1.0, 1.0):
        light -= 110.0 * blob(0.38 * side, -0.2, 0.16, 0.09)
        light -= 60.0 * blob(0.4 * side, -0.42, 0.24, 0.05)
    light += 35.0 * blob(0.0, 0.1, 0.1, 0.3)
    light -= 90.0 * blob(0.0, 0.5, 0.4, 0.08) * (1.0 - 0.4 * blob(0.0, 0.44, 0.2, 0.05))
    return np.asarray(np.clip(np.rint(light), 0, 255), np.uint8)
