"""Rewrites a trained and folded network into one that loses less in int8, before any number is rounded.

Two steps. The channels behind each ReLU6 that a depthwise convolution reads are brought to one range, so that a channel
which never passes 0.5 is not left with 20 of the 256 steps. And each bias takes back the mean error that rounding its
kernel will make. They are cross-layer equalisation and bias correction (Nagel et al. 2019, "Data-free quantization
through weight equalization and bias correction"), with the ranges and means measured on data.

`benchmarks/quantization_steps.py` prints what each is worth. Equalising before pointwise kernels too, and choosing
their roundings one after the other (GPTQ), gave nothing when tried and are not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

HEADROOM = 1.05
"""How far above the largest calibration value a channel's range reaches."""

_ROUNDED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)
_BATCH = 64


def equalize(network: keras.Model, images: NDArray[np.float32]) -> None:
    """Bring the channels behind each ReLU6 that a depthwise convolution reads to the range of the cap, in place.

    Depthwise kernels have a scale for each channel in int8, so what they are divided by costs them nothing.

    Args:
        network: folded, by `trainer.folding`.
        images: scaled calibration faces `float32[n, size, size, 1]`.
    """
    triples = list(_equalizable(network))
    if not triples:
        return
    tops = _over_batches(
        network, [relu.output for _, relu, _ in triples], images, np.maximum, lambda x: x.max((0, 1, 2))
    )
    for (producer, relu, consumer), top in zip(triples, tops, strict=True):
        cap = float(relu.max_value)
        _scale(producer, consumer, np.maximum(cap / np.maximum(top * HEADROOM, cap / 100), 1.0))


def correct_biases(network: keras.Model, images: NDArray[np.float32]) -> None:
    """Take from each bias the mean error that rounding its kernel to int8 will make, in place.

    Args: see `equalize`.
    """
    layers = [layer for layer in network.layers if isinstance(layer, _ROUNDED) and layer.use_bias]
    # A kernel acts linearly, so its mean output over the faces is its output for the mean of the faces.
    sums = _over_batches(network, [layer.input for layer in layers], images, np.add, lambda x: x.sum(0, keepdims=True))
    for layer, total in zip(layers, sums, strict=True):
        mean = total / len(images)
        kernel, bias = layer.get_weights()
        exact = np.asarray(layer(mean))
        layer.set_weights([_rounded(layer, kernel), bias])
        error = np.asarray(layer(mean)) - exact
        layer.set_weights([kernel, bias - error.reshape(-1, error.shape[-1]).mean(axis=0)])


def _over_batches(
    network: keras.Model,
    outputs: list[Any],
    images: NDArray[np.float32],
    combine: Callable[[Array, Array], Array],
    reduce: Callable[[Array], Array],
) -> list[Array]:
    """Each output's activations, reduced batch by batch: all of them at once would not fit into memory."""
    watch = keras.Model(network.input, outputs)
    found: list[Array] = []
    for start in range(0, len(images), _BATCH):
        seen = watch(images[start : start + _BATCH])
        # Keras hands out a lone output without its list.
        parts = [reduce(np.asarray(part)) for part in (seen if isinstance(seen, list | tuple) else [seen])]
        found = [combine(before, part) for before, part in zip(found, parts, strict=True)] if found else parts
    return found


def _rounded(layer: Any, kernel: Array) -> Array:
    """A kernel as int8 will hold it: symmetric, one scale for each output channel, as TensorFlow Lite has it."""
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    others = (0, 1, 3) if depthwise else tuple(range(kernel.ndim - 1))
    step = np.maximum(np.abs(kernel).max(axis=others, keepdims=True), 1e-12) / 127
    return np.asarray(np.round(kernel / step) * step, dtype=np.float32)


def _equalizable(network: keras.Model) -> Iterator[tuple[Any, Any, Any]]:
    """Each ReLU6 whose one reader is a depthwise convolution: what feeds it, itself, that reader."""
    for relu in network.layers:
        if not isinstance(relu, keras.layers.ReLU) or relu.max_value is None:
            continue
        producer, reader = _producer(relu), _reader(relu)
        if producer is not None and isinstance(reader, keras.layers.DepthwiseConv2D):
            yield producer, relu, reader


def _producer(layer: Any) -> Any:
    """The convolution above."""
    above = [node.operation for node in layer._inbound_nodes[0].parent_nodes]  # noqa: SLF001  # Keras has no public way up
    plain = len(above) == 1 and isinstance(above[0], keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
    return above[0] if plain else None


def _reader(layer: Any) -> Any:
    """The one layer below, with nothing but padding between."""
    below = _consumers(layer)
    if len(below) == 1 and isinstance(below[0], keras.layers.ZeroPadding2D):
        return _reader(below[0])
    return below[0] if len(below) == 1 else None


def _consumers(layer: Any) -> list[Any]:
    return [node.operation for node in layer._outbound_nodes]  # noqa: SLF001  # as above, down


def _scale(producer: Any, reader: Any, factor: Array) -> None:
    kernel, bias = producer.get_weights()
    depthwise = isinstance(producer, keras.layers.DepthwiseConv2D)
    producer.set_weights([kernel * (factor[:, np.newaxis] if depthwise else factor), bias * factor])
    kernel, *rest = reader.get_weights()
    reader.set_weights([kernel / factor.reshape(1, 1, -1, 1), *rest])
