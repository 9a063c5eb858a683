"""MobileNets for small grey faces, started from ImageNet's weights or from nothing; and a VGG to teach them.

The MobileNets are Keras's own (Howard et al. 2017, Sandler et al. 2018). Two things differ: the stem takes one grey
channel and has stride 1, since at 48 px Keras's strides leave a single point (V1: 24 M multiply-adds) and ruin the
network, where a stride-1 stem leaves 3x3 (103 M).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from edge.errors import BadDataError, InputNotFoundError, UnavailableError, UsageError
from trainer.settings import V1_BLOCKS
from trainer.vgg import STEM, build_vgg

BACKBONES = {
    "mobilenet_v1": keras.applications.MobileNet,
    "mobilenet_v2": keras.applications.MobileNetV2,
    "vgg": build_vgg,
}
_STEMS = {"mobilenet_v1": "conv1", "mobilenet_v2": "Conv1", "vgg": STEM}
_LAST_STRIDES = {
    "mobilenet_v1": ("conv_pad_12", "conv_dw_12"),
    "mobilenet_v2": ("block_13_pad", "block_13_depthwise"),
}
"""The padding and the convolution that halve the map for the last time."""
LAST_STRIDE_BLOCK = 12
"""The block of MobileNetV1 that they stand in."""
_IMAGENET_WIDTHS = {"mobilenet_v1": (0.25, 0.5, 0.75, 1.0), "mobilenet_v2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)}
"""The width multipliers that Keras has ImageNet weights for."""
_CAFFE_MEAN = np.array([103.939, 116.779, 123.68])
"""ImageNet's blue, green and red, as `keras.applications.imagenet_utils.preprocess_input` has them."""
IMAGENET = "imagenet"
SCRATCH = "none"
TRAINED = (".keras", ".tflite")
"""How files of networks of ours end; all else are `no_top` weights."""
_FILES = {
    "mobilenet_v1": ("mobilenet_{tidy}_224_tf_no_top.h5", "mobilenet_v1_{width}_224_imagenet_no_top.h5"),
    "mobilenet_v2": (
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224_no_top.h5",
        "mobilenet_v2_{width}_224_imagenet_no_top.h5",
    ),
}
"""What ImageNet `no_top` files are called: by Keras, and plainly."""


def build_network(
    backbone: str,
    *,
    labels: int,
    size: int,
    width: float,
    dropout: float,
    stem_stride: int,
    last_stride: int = 2,
    weights: str,
    weights_scaling: str = "tf",
    blocks: int = V1_BLOCKS,
) -> keras.Model:
    """A classifier of scaled grey faces.

    Args:
        backbone: a key of `BACKBONES`.
        labels: number of classes.
        size: side of the input in pixels.
        width: width multiplier (alpha).
        dropout: share of pooled features dropped in training.
        stem_stride: stride of the first convolution; 1 for faces of 48 px.
        last_stride: stride of the last convolution that has one; 1 leaves a map of twice the side. Not of a VGG.
        weights: path of a `no_top` file, `imagenet` for Keras's own download, `none` for random weights.
        weights_scaling: how the pretrained network wanted its pixels, in Keras's terms: `tf` for -1..1, `caffe` for
            blue, green, red minus ImageNet's mean. A `caffe` stem is rescaled to fit.
        blocks: of MobileNetV1, how many are kept; V2 is always whole.

    Returns:
        A model from `float32[n, size, size, 1]` in -1..1 to logits `float32[n, labels]`; all layers but `pool`,
        `dropout` and `logits` are the backbone's.

    Raises:
        UsageError: there are no ImageNet weights of that width.
        InputNotFoundError, BadDataError: the weights file is not there or does not fit.
        UnavailableError: the weights cannot be downloaded from here.
    """
    _refuse_unpublished(backbone, weights)
    pretrained = _pretrained(backbone, width, weights)
    body = _grey_copy(backbone, pretrained, size, stem_stride, last_stride)
    if weights != SCRATCH:
        _take_weights(body, pretrained)
    if weights != SCRATCH and weights_scaling == "caffe":
        _rescale_stem(body, pretrained, _STEMS[backbone])
    if backbone == "mobilenet_v1" and blocks < V1_BLOCKS:
        body = keras.Model(body.input, body.get_layer(f"conv_pw_{blocks}_relu").output)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(body.output)
    features = keras.layers.Dropout(dropout, seed=0, name="dropout")(features)
    logits = keras.layers.Dense(labels, name="logits")(features)
    return keras.Model(body.input, logits, name=f"{backbone}_{width:g}_{size}")


def find_weights(place: str, backbone: str, width: float) -> str:
    """`place` as it is, or where it is a folder the file in it that fits `backbone` at `width`.

    Raises:
        UsageError: nobody publishes any.
        InputNotFoundError: the folder holds none.
    """
    if place.endswith(TRAINED):
        return place
    _refuse_unpublished(backbone, place)
    if place in (IMAGENET, SCRATCH) or not Path(place).is_dir():
        return place
    tidy = {1.0: "1_0", 0.75: "7_5", 0.5: "5_0", 0.25: "2_5"}.get(width, str(width))
    names = [name.format(width=float(width), tidy=tidy) for name in _FILES[backbone]]
    for name in names:
        if (Path(place) / name).is_file():
            return str(Path(place) / name)
    raise InputNotFoundError(
        f"{place}: no ImageNet weights of {backbone} at width {width:g} in this folder; expected {' or '.join(names)}"
    )


def refuse_missing(weights: str, backbone: str) -> None:
    """Raise InputNotFoundError where `weights` should be a file and is none."""
    if weights in (IMAGENET, SCRATCH) or Path(weights).is_file():
        return
    if weights.endswith(TRAINED):
        raise InputNotFoundError(f"{weights}: no such file; mien-train fit writes one to RUN/model.keras")
    raise InputNotFoundError(
        f"{weights}: no such weights file; name a no_top .h5 of {backbone}, 'imagenet' to download it, or 'none'"
    )


def set_backbone_trainable(network: keras.Model, trainable: bool) -> None:
    """Freeze or free everything but the head. Frozen batch norm also keeps its statistics."""
    for layer in network.layers:
        layer.trainable = trainable or layer.name == "logits"


def _refuse_unpublished(backbone: str, weights: str) -> None:
    if backbone not in _FILES and weights != SCRATCH:
        raise UsageError(
            f"--weights {weights}: nobody publishes any for {backbone}; start from nothing with --weights none"
        )


def _pretrained(backbone: str, width: float, weights: str) -> keras.Model:
    """The stock colour network at 224 px, the size whose weights everybody has."""
    build = BACKBONES[backbone]
    kind: dict[str, Any] = {"input_shape": (224, 224, 3), "alpha": width, "include_top": False}
    if weights == SCRATCH:
        return build(weights=None, **kind)
    if weights == IMAGENET:
        if width not in _IMAGENET_WIDTHS[backbone]:
            widths = ", ".join(f"{known:g}" for known in _IMAGENET_WIDTHS[backbone])
            raise UsageError(
                f"--width {width:g}: ImageNet weights for {backbone} exist for widths {widths} alone; "
                "choose one of these, name a file with --weights PATH, or start from nothing with --weights none"
            )
        try:
            return build(weights=IMAGENET, **kind)
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise UnavailableError(
                f"ImageNet weights for {backbone} at width {width:g} cannot be downloaded ({error}); "
                "name a file with --weights PATH, or start from nothing with --weights none"
            ) from error
    path = Path(weights)
    refuse_missing(weights, backbone)
    network = build(weights=None, **kind)
    try:
        network.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise BadDataError(
            f"{path}: these weights do not fit {backbone} at width {width:g} ({str(error).splitlines()[0]})"
        ) from error
    return network


def _grey_copy(backbone: str, pretrained: keras.Model, size: int, stem_stride: int, last_stride: int) -> keras.Model:
    pad, last = _LAST_STRIDES.get(backbone, ("", ""))

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if layer.name == _STEMS[backbone]:
            config["strides"] = (stem_stride, stem_stride)
        elif last_stride == 1 and layer.name == last:
            config["strides"] = (1, 1)
        elif last_stride == 1 and layer.name == pad:
            config["padding"] = ((1, 1), (1, 1))
        return type(layer).from_config(config)

    inputs = keras.Input((size, size, 1), name="face")
    return keras.models.clone_model(pretrained, input_tensors=inputs, clone_function=copy)


def _take_weights(body: keras.Model, pretrained: keras.Model) -> None:
    for layer in body.layers:
        if not layer.weights:
            continue
        values = pretrained.get_layer(layer.name).get_weights()
        if values[0].shape != layer.weights[0].shape:
            # On R = G = B the three input kernels act as their sum, so a grey stem loses nothing.
            values[0] = np.sum(values[0], axis=2, keepdims=True)
        layer.set_weights(values)


def _rescale_stem(body: keras.Model, pretrained: keras.Model, stem: str) -> None:
    """Let a stem that was trained on 0..255 minus a mean take grey faces in -1..1."""
    kernel = np.asarray(pretrained.get_layer(stem).get_weights()[0])
    body.get_layer(stem).set_weights([127.5 * kernel.sum(axis=2, keepdims=True)])
    # A face's 0 is 127.5 of 255 and not the mean: what that adds goes into the batch norm behind the stem.
    added = (kernel.sum(axis=(0, 1)) * (127.5 - _CAFFE_MEAN)[:, np.newaxis]).sum(axis=0)
    norm = next(layer for layer in body.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_mean.assign(norm.moving_mean - added)
