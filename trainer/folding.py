"""Trained networks that only answer from now on: batch norm folded into the convolutions, bfloat16 where that is fast.

For teachers, who answer every view that their student sees (`benchmarks/training_speed.py` prints what a step gains by
it), and for the exporter, which rounds what is left.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

_CONVOLUTIONS = (layers.Conv2D, layers.DepthwiseConv2D)
_LIGHT = (*_CONVOLUTIONS, layers.ReLU, layers.Add, layers.ZeroPadding2D, layers.MaxPooling2D)
"""What may count in bfloat16: not means and dense layers, where no long sum evens the rounding out."""


def fold(network: keras.Model, dtype: str = "float32") -> keras.Model:
    """A copy of a trained network that answers the same but for rounding, and cannot be trained.

    Args:
        network: built of layers in any way; what cannot be folded, and networks within it, stay as they are.
        dtype: what the convolutions count in, `float32` or `bfloat16`.
    """
    if isinstance(network, keras.Sequential):  # which Keras clones in another way
        network = keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    folded = norms_behind_convolutions(network)
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
    """What `fold` counts in fastest here: bfloat16 where TensorFlow's oneDNN has a processor that multiplies it."""
    on_processor = keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu")
    if not on_processor or os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return "float32"
    try:
        flags = cpuinfo.read_text(encoding="utf-8").split()
    except OSError:
        return "float32"
    return "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "float32"


def norms_behind_convolutions(network: keras.Model) -> dict[str, Any]:
    """By the names of convolutions: the batch norms that take their sums, where nobody else takes them.

    Both are called once. A layer's `input` and `output` are those of its first call alone, and after loading maybe of
    another network, so the calls themselves are looked at.
    """
    calls = [call for depth in network._nodes_by_depth.values() for call in depth]  # noqa: SLF001  # no public way
    times = Counter(call.operation.name for call in calls)
    takers: dict[int, list[Any]] = defaultdict(list)
    for call in calls:
        for values in call.input_tensors:
            takers[id(values)].append(call.operation)
    for values in network.outputs:
        takers[id(values)].append(network)
    found = {}
    for call in calls:
        conv = call.operation
        if isinstance(conv, _CONVOLUTIONS) and conv.activation is keras.activations.linear and times[conv.name] == 1:
            norm, *others = takers[id(call.output_tensors[0])]
            by_channel = conv.data_format == "channels_last" and getattr(norm, "axis", None) in (-1, 3)
            if isinstance(norm, layers.BatchNormalization) and by_channel and times[norm.name] == 1 and not others:
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
