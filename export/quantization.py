"""A Keras network to one full-int8 TFLite file.

Weights int8 per channel, activations int8, input int8, output int8 logits: an int8 softmax has steps of 1/256 and caps
at 0.996, so temperature and softmax are left to `edge.model`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face, scale_pixels
from edge.errors import BadDataError
from edge.frame import Box
from export.equalization import correct_biases, equalize
from trainer.folding import fold


def quantize(network: Any, faces: NDArray[np.uint8]) -> bytes:
    """Convert `network` to full int8.

    Args:
        network: a Keras model from `float32[n, size, size, 1]` in -1..1 to logits `float32[n, labels]`.
        faces: `uint8[n, size, size]`, representative training faces. They pass through the daemon's own crop and
            scaling before they set the activations' ranges.

    Returns:
        The flatbuffer.

    Raises:
        BadDataError: the network holds something that has no int8 form.
    """
    images = np.stack([_as_the_daemon_sees(face, network.input_shape[1]) for face in faces])
    prepared = fold(network)
    equalize(prepared, images)
    correct_biases(prepared, images)
    return to_int8(prepared, images)


def to_int8(network: Any, images: NDArray[np.float32]) -> bytes:
    """Convert `network` as it stands, its ranges set by `images`, scaled faces `float32[n, size, size, 1]`.

    Raises:
        BadDataError: see `quantize`.
    """
    import tensorflow as tf  # heavy, and only here

    size = network.input_shape[1]
    # A fixed batch of one: the interpreter then plans its memory once. Fixed names: Keras counts its own up.
    inputs = tf.keras.Input((size, size, 1), batch_size=1, name="face")
    fixed = tf.keras.Model(inputs, network(inputs), name="int8")
    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    # Keras prints what it hands to the converter on standard output, which is for our results.
    with _captured_stderr() as chatter, contextlib.redirect_stdout(sys.stderr):
        try:
            flatbuffer: bytes = converter.convert()
        except Exception as error:  # the converter raises bare Exceptions of many kinds
            reason = _last_line(str(error))
            raise BadDataError(
                f"{network.name}: TensorFlow cannot turn this network into full int8 ({reason})\n{chatter()}"
            ) from error
    return flatbuffer


def _as_the_daemon_sees(face: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    whole = Box(0, 0, face.shape[1], face.shape[0])
    return scale_pixels(crop_face(face, whole, size))[..., np.newaxis]


def representative_faces(images: NDArray[np.uint8], count: int, seed: int) -> NDArray[np.uint8]:
    """A seeded sample of `count` training faces."""
    rng = np.random.default_rng(seed)
    return images[rng.permutation(len(images))[:count]]


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"


@contextlib.contextmanager
def _captured_stderr() -> Iterator[Any]:
    """Keep the converter's hundreds of lines of C++ notes off the terminal; shown only when it fails."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stderr"
        kept = os.dup(2)
        with path.open("wb") as sink:
            os.dup2(sink.fileno(), 2)
            try:
                yield lambda: path.read_text(errors="replace")[-2000:]
            finally:
                os.dup2(kept, 2)
                os.close(kept)
