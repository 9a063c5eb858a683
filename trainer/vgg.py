"""A VGG for small faces: plain 3x3 convolutions, which see a face otherwise than a MobileNet does.

Meant as a teacher: two MobileNets err alike, whatever they started from. Eight convolutions in four stages, each with
batch norm, as the best single network of Pramerdorfer & Kampel 2016, "Facial Expression Recognition using
Convolutional Neural Networks: State of the Art"; architecture after Simonyan & Zisserman 2014.
"""

from __future__ import annotations

import keras
from keras import layers

STEM = "conv1_1"
_WIDTHS = (64, 128, 256, 512)
_DEPTH = 2


def build_vgg(*, input_shape: tuple[int, int, int], alpha: float, include_top: bool, weights: None) -> keras.Model:
    """The convolutions, called as Keras's own applications are.

    Args:
        input_shape: height, width and channels; each of four stages halves height and width.
        alpha: width multiplier of 64, 128, 256 and 512 channels.
        include_top: False: there is no head.
        weights: None: nobody publishes any for grey faces.

    Returns:
        A model from `float32[n, height, width, channels]` to `float32[n, height / 16, width / 16, 512 * alpha]`.
    """
    del include_top, weights
    images = values = keras.Input(input_shape)
    for stage, width in enumerate(_WIDTHS, start=1):
        for depth in range(1, _DEPTH + 1):
            name = f"conv{stage}_{depth}"
            values = layers.Conv2D(int(alpha * width), 3, padding="same", use_bias=False, name=name)(values)
            values = layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(values))
        values = layers.MaxPooling2D(name=f"pool{stage}")(values)
    return keras.Model(images, values, name="vgg")
