"""Trained networks that only answer from now on: batch norm folded into the convolutions, bfloat16 where that is fast.

For teachers, who answer every view that their student sees (`benchmarks/training_speed.py` prints what a step gains by
it), and for the exporter, which rounds what is left.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
_LIGHT = (*_CONVOLUTIONS, layers.ReLU, layers.Add, layers.ZeroPadding2D)
"""What may count in bfloat16: not the mean over a map and what follows, where no sum evens the rounding out."""


def fold(network: keras.Model, dtype: str = "float32") -> keras.Model:
    """A copy of a trained network that answers the same but for rounding, and cannot be trained.

    Args:
        network: built of layers in any way; what cannot be folded stays as it is.
        dtype: what the convolutions count in, `float32` or `bfloat16`.
    """
    if isinstance(network, keras.Sequential):  # which Keras clones in another way
        network = keras.Model(network.inputs, network.outputs)
    folded = _norms_behind_convolutions(network)
    gone = {norm.name for norm in folded.values()}

    def lighter(layer: Any) -> Any:
        config = layer.get_config()
        if isinstance(layer, _LIGHT):
            config["dtype"] = dtype
        if layer.name in folded:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def passing_norms(layer: Any, values: Any, *args: Any, **options: Any) -> Any:
        return values if layer.name in gone else layer(values, *args, **options)

    copy = keras.models.clone_model(network, clone_function=lighter, call_function=passing_norms)
    for layer in copy.layers:
        if layer.weights:
            original = network.get_layer(layer.name)
            norm = folded.get(layer.name)
            layer.set_weights(_with_norm(original, norm) if norm else original.get_weights())
    copy.trainable = False
    return copy


def fast_dtype(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What `fold` counts in fastest here: bfloat16 for TensorFlow on a processor that multiplies it, else float32."""
    if keras.backend.backend() != "tensorflow" or keras.distribution.list_devices("gpu"):
        return "float32"
    try:
        flags = cpuinfo.read_text(encoding="utf-8").split()
    except OSError:
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def _norms_behind_convolutions(network: keras.Model) -> dict[str, Any]:
    """By the names of convolutions: the batch norms that take their sums, where nobody else takes them."""
    takers: dict[int, list[Any]] = {id(values): [network] for values in network.outputs}
    for layer in network.layers:
        try:
            taken = keras.tree.flatten(layer.input)
        except ValueError:  # called more than once: who takes what cannot be told
            return {}
        for values in taken:
            takers.setdefault(id(values), []).append(layer)
    found = {}
    for conv in network.layers:
        if isinstance(conv, _CONVOLUTIONS) and conv.activation is keras.activations.linear:
            norm, *others = takers.get(id(conv.output), [None])
            by_channel = conv.data_format == "channels_last" and getattr(norm, "axis", None) in (-1, 3)
            if isinstance(norm, layers.BatchNormalization) and by_channel and not others:
                found[conv.name] = norm
    return found


def _with_norm(conv: Any, norm: Any) -> list[Any]:
    """A convolution's kernel and bias with the batch norm behind it in them."""
    kernel, *bias = conv.get_weights()
    mean, variance = (ops.convert_to_numpy(value) for value in (norm.moving_mean, norm.moving_variance))
    slope = (ops.convert_to_numpy(norm.gamma) if norm.scale else 1.0) / np.sqrt(variance + norm.epsilon)
    offset = ops.convert_to_numpy(norm.beta) if norm.center else 0.0
    # A depthwise kernel has its channels before its last axis, which counts what each of them becomes.
    by_channel = slope.reshape(kernel.shape[2:]) if isinstance(conv, layers.DepthwiseConv2D) else slope
    return [kernel * by_channel, ((bias[0] if bias else 0.0) - mean) * slope + offset]
