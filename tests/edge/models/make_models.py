"""Makes the small models beside it: python tests/edge/models/make_models.py (needs TensorFlow).

Nobody trained them: weights are random and fixed. They are for tests of everything around a model.
"""

import os
from collections.abc import Callable
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

HERE = Path(__file__).parent
SEED = 7

# Name, input shape without the batch, input and output type, whether it ends in a softmax.
MODELS = [
    ("grey_int8_logits", (48, 48, 1), tf.int8, False),
    ("rgb_uint8_softmax", (32, 32, 3), tf.uint8, True),
    ("grey_float", (24, 24, 1), tf.float32, False),
    ("oblong", (24, 32, 1), tf.float32, False),
    ("five_channels", (24, 24, 5), tf.float32, False),
]


def network(shape: tuple[int, int, int], softmax: bool) -> keras.Model:
    """Four layers and seven outputs that differ enough between pictures to be told apart."""
    keras.utils.set_random_seed(SEED)
    inputs = keras.Input(shape, batch_size=1)
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu6")(inputs)
    x = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = keras.layers.Flatten()(x)
    outputs = keras.layers.Dense(7, activation="softmax" if softmax else None)(x)
    return keras.Model(inputs, outputs)


def convert(shape: tuple[int, int, int], kind: tf.DType, softmax: bool) -> bytes:
    """The network as a flatbuffer, in full int8 unless `kind` is float."""
    converter = tf.lite.TFLiteConverter.from_keras_model(network(shape, softmax))
    if kind != tf.float32:
        rng = np.random.default_rng(SEED)

        def pictures():
            yield [np.full((1, *shape), -1.0, np.float32)]
            yield [np.full((1, *shape), 1.0, np.float32)]
            for _ in range(16):
                yield [rng.uniform(-1.0, 1.0, (1, *shape)).astype(np.float32)]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = pictures
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = kind
    return converter.convert()


def seven(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, (1, -1))[:, :7]


def hungry(x: tf.Tensor) -> tf.Tensor:
    """Swells a face to 3.6 GB on its way."""
    return seven(tf.image.resize(x, (30_000, 30_000))[:, :3, :3, :])


def endless(x: tf.Tensor) -> tf.Tensor:
    """Counts to 2,147,483,000."""
    return tf.while_loop(lambda i, _: i < 2_147_483_000, lambda i, y: (i + 1, y * 1.0001), [tf.constant(0), seven(x)])[
        1
    ]


def trap(work: Callable[[tf.Tensor], tf.Tensor]) -> bytes:
    """A model that is whole by its bytes, and does this to whoever runs it."""
    signature = tf.function(work, input_signature=[tf.TensorSpec((1, 24, 24, 1), tf.float32)])
    return tf.lite.TFLiteConverter.from_concrete_functions([signature.get_concrete_function()]).convert()


if __name__ == "__main__":
    for work in (hungry, endless):
        (HERE / f"{work.__name__}.tflite").write_bytes(trap(work))
    for name, shape, kind, softmax in MODELS:
        path = HERE / f"{name}.tflite"
        path.write_bytes(convert(shape, kind, softmax))
        print(path.name, path.stat().st_size, "bytes")
