"""Batch norm by TensorFlow's fused kernel, where Keras 3 writes it out.

Keras computes batch norm from a dozen operations that each read and write whole feature maps. On a CPU that takes
more than a third of a training step: with one kernel instead, MobileNetV1 trains 1.6 times as fast
(`benchmarks/training_speed.py` prints it). Other backends compile the dozen into one by themselves.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import keras
from keras import ops


def fuse(network: keras.Model) -> None:
    """Let each batch norm of feature maps run as one operation, in place; on other backends nothing changes.

    What is saved of the network is Keras's own layers, as before.
    """
    if keras.backend.backend() != "tensorflow":
        return
    for layer in network.layers:
        if isinstance(layer, keras.Model):
            fuse(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and len(layer.input.shape) == 4 and _is_plain(layer):
            layer.call = MethodType(_fused_call, layer)


def _is_plain(norm: Any) -> bool:
    """Whether it is of the kind that the kernel computes."""
    return norm.scale and norm.center and not norm.renorm and norm.axis in (-1, 3)


def _fused_call(norm: Any, inputs: Any, training: bool | None = None, mask: None = None) -> Any:
    """As `keras.layers.BatchNormalization.call`, for `[n, height, width, channels]` with scale and offset."""
    from tensorflow.compat.v1.nn import fused_batch_norm

    maps = ops.cast(inputs, "float32")
    gamma, beta, moving_mean, moving_variance = (
        ops.convert_to_tensor(value) for value in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    if not (training and norm.trainable):
        outputs, _, _ = fused_batch_norm(
            maps, gamma, beta, moving_mean, moving_variance, epsilon=norm.epsilon, is_training=False
        )
        return ops.cast(outputs, norm.compute_dtype)
    outputs, mean, variance = fused_batch_norm(maps, gamma, beta, epsilon=norm.epsilon)
    # The kernel gives the unbiased variance, and Keras keeps the plain one.
    count = ops.cast(ops.size(maps), "float32") / ops.cast(ops.shape(maps)[-1], "float32")
    variance *= (count - 1.0) / count
    norm.moving_mean.assign(moving_mean * norm.momentum + mean * (1.0 - norm.momentum))
    norm.moving_variance.assign(moving_variance * norm.momentum + variance * (1.0 - norm.momentum))
    return ops.cast(outputs, norm.compute_dtype)
