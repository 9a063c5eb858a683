"""What the literature of Mien's users reports on FER2013, rebuilt: one preset a figure, to be run by `trainer.compare`.

Everything that a paper does not say had to be chosen; `PaperNetwork.unsaid` tells what. Nothing was tuned towards a
figure on images that were not trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from edge.crop import PADDING, crop_face
from edge.detector import Detector
from edge.errors import BadDataError, InputNotFoundError, MienError, UnavailableError, UsageError
from trainer.backbones import IMAGENET, SCRATCH, build_network
from trainer.readers import Progress

VALIDATION_SHARE = 0.1
"""Of what a random split leaves to train on, held out to look at while training; nothing is chosen on it."""

_LARGE = 224
_BGR_MEANS = (103.939, 116.779, 123.68)  # VGG16's (Simonyan & Zisserman 2014), as Keras's weights want them
_HAAR_ZOOM = 3
_HAAR_BORDER = 0.25
"""Of a picture's side: FER2013's are cut so closely that boxes reach over their edges."""


@dataclass(frozen=True)
class Reported:
    """A paper's own figures.

    Attributes:
        text: in its words.
        unseen: accuracy on images that were not trained on, whatever the paper calls them; 0 to 1.
        train: accuracy on images that were; None where it does not say.
    """

    text: str
    unseen: float
    train: float | None = None


@dataclass(frozen=True)
class PaperNetwork:
    """One network of the literature and how it is trained.

    Attributes:
        name: what the command line calls it.
        network: in words.
        build: labels, side of the faces in pixels and pretrained weights to a model from scaled grey faces
            `float32[n, side, side, 1]` in -1..1 to logits `float32[n, labels]`.
        reported: the paper's figures.
        unsaid: what the paper leaves open, and what was chosen.
        epochs, batch, learning_rate, optimizer: the paper's, or chosen.
        test_share: of the paper's own random split; None where it has none: then only the official splits are run.
        drop: labels that the paper leaves out.
        haar: cut each face out with the Haar cascade and level its histogram first, see `haar_faces`.
        pretrained: whose weights it starts from.
    """

    name: str
    network: str
    build: Callable[[int, int, str], keras.Model]
    reported: Reported
    unsaid: str
    epochs: int
    batch: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    test_share: float | None = None
    drop: tuple[str, ...] = ()
    haar: bool = False
    pretrained: Literal["", "mobilenet", "vgg16"] = ""

    @property
    def shares(self) -> tuple[float, float, float] | None:
        """Of the paper's own split: train, validation, test."""
        if self.test_share is None:
            return None
        rest = 1 - self.test_share
        return rest * (1 - VALIDATION_SHARE), rest * VALIDATION_SHARE, self.test_share


# --- networks --------------------------------------------------------------------------------------------------------


def _plain_cnn(
    widths: tuple[int, ...], dense: int, *, dropout: float = 0.0, standardise: bool = False, batch_norm: bool = False
) -> Callable[[int, int, str], keras.Model]:
    """A convolution of 3x3 and a 2x2 pooling for each of `widths`, then one dense layer."""

    def build(labels: int, size: int, weights: str) -> keras.Model:
        face = x = keras.Input((size, size, 1), name="face")
        if standardise:  # each face by its own mean and deviation
            x = keras.layers.LayerNormalization(axis=(1, 2, 3), center=False, scale=False)(x)
        for width in widths:
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=not batch_norm)(x)
            if batch_norm:
                x = keras.layers.BatchNormalization()(x)
            x = keras.layers.MaxPooling2D()(keras.layers.ReLU()(x))
            if dropout:
                x = keras.layers.Dropout(dropout / 2)(x)
        x = keras.layers.Dense(dense, activation="relu")(keras.layers.Flatten()(x))
        if dropout:
            x = keras.layers.Dropout(dropout)(x)
        return keras.Model(face, keras.layers.Dense(labels)(x))

    return build


def _mobilenet(side: int | None = None) -> Callable[[int, int, str], keras.Model]:
    """MobileNetV1 with the strides it came with, all layers trained, and two new dense layers.

    Args:
        side: enlarge the faces to so many pixels, inside the model: no large copies are kept; None: as they are.
    """

    def build(labels: int, size: int, weights: str) -> keras.Model:
        stock = build_network(
            "mobilenet_v1", labels=labels, size=side or size, width=1.0, dropout=0.0, stem_stride=2, weights=weights
        )
        face = x = keras.Input((size, size, 1), name="face")
        if side:
            x = keras.layers.Resizing(side, side)(x)
        x = keras.Model(stock.input, stock.get_layer("pool").output, name="mobilenet")(x)
        x = keras.layers.Dropout(0.3)(keras.layers.Dense(256, activation="relu")(x))
        return keras.Model(face, keras.layers.Dense(labels)(x))

    return build


def _vgg16(labels: int, size: int, weights: str) -> keras.Model:
    """VGG16 with a pooled head: frozen where it has weights, trained from scratch where it has none."""
    stock = _stock_vgg16(size, weights)
    stock.trainable = weights == SCRATCH
    face = keras.Input((size, size, 1), name="face")
    x = keras.layers.Concatenate()([face] * 3)
    x = keras.layers.Rescaling(127.5, offset=[127.5 - mean for mean in _BGR_MEANS])(x)
    x = keras.layers.GlobalAveragePooling2D()(stock(x, training=False))
    return keras.Model(face, keras.layers.Dense(labels)(x))


def _stock_vgg16(size: int, weights: str) -> keras.Model:
    kind: dict[str, Any] = {"include_top": False, "input_shape": (size, size, 3)}
    if weights == IMAGENET:
        try:
            return keras.applications.VGG16(weights=IMAGENET, **kind)
        except Exception as error:  # Keras raises a bare Exception when a download fails
            raise UnavailableError(f"ImageNet weights for VGG16 cannot be downloaded ({error})") from error
    network = keras.applications.VGG16(weights=None, **kind)
    if weights == SCRATCH:
        return network
    if not Path(weights).is_file():
        raise InputNotFoundError(f"{weights}: no such weights file; name a no_top .h5 of VGG16")
    try:
        network.load_weights(weights)
    except (ValueError, OSError, KeyError) as error:
        raise BadDataError(
            f"{weights}: these weights do not fit VGG16 without its top ({str(error).splitlines()[0]})"
        ) from error
    return network


# --- presets ---------------------------------------------------------------------------------------------------------

_ONE_EPOCH = "The optimizer, its rate, the batch, the widths, which images tested"
PRESETS = (
    PaperNetwork(
        name="cnn2",
        network="two convolutions with pooling, 256 dense",
        build=_plain_cnn((32, 64), 256),
        reported=Reported("37.8 % test", 0.378),
        unsaid=f"{_ONE_EPOCH}. Chosen: Adam at 0.001, batch 64, widths 32 and 64, the official splits.",
        epochs=1,
    ),
    PaperNetwork(
        name="cnn3",
        network="three convolutions with pooling, 256 dense",
        build=_plain_cnn((32, 64, 128), 256),
        reported=Reported("36.2 % test", 0.362),
        unsaid=f"{_ONE_EPOCH}. Chosen: as for cnn2, a third width of 128.",
        epochs=1,
    ),
    PaperNetwork(
        name="cnn3-dropout",
        network="cnn3 with dropout",
        build=_plain_cnn((32, 64, 128), 256, dropout=0.5),
        reported=Reported("24.9 % test", 0.249),
        unsaid=f"{_ONE_EPOCH}, where and how much is dropped. Chosen: as for cnn3; 25 % after each pooling, 50 % "
        "after the dense layer.",
        epochs=1,
    ),
    PaperNetwork(
        name="vgg16",
        network="frozen ImageNet VGG16, pooled head",
        build=_vgg16,
        reported=Reported("21.9 % test", 0.219),
        unsaid="The optimizer, its rate, the batch, the size of the input, which images tested. Chosen: Adam at 0.001, "
        "batch 64, the data's own size, the official splits.",
        epochs=1,
        pretrained="vgg16",
    ),
    PaperNetwork(
        name="mobilenet-75-25",
        network="ImageNet MobileNet, new dense layers",
        build=_mobilenet(),
        reported=Reported("58.82 % test", 0.5882),
        unsaid="The size of the input, which layers are trained and how long, the new layers' widths, the optimizer. "
        "Chosen: V1 at the data's own size with its stock strides, all layers, 15 epochs of Adam at 0.001, 256 dense.",
        epochs=15,
        test_share=0.25,
        pretrained="mobilenet",
    ),
    PaperNetwork(
        name="mobilenet-5class",
        network="the same without disgust and fear",
        build=_mobilenet(),
        reported=Reported("about 69 % test", 0.69),
        unsaid="As for mobilenet-75-25. A task of five classes is an easier one: its figure compares with no other "
        "in this table.",
        epochs=15,
        test_share=0.25,
        drop=("disgust", "fear"),
        pretrained="mobilenet",
    ),
    PaperNetwork(
        name="pfems",
        network="custom CNN on Haar crops with levelled histograms",
        build=_plain_cnn((32, 64, 128, 256), 256, dropout=0.3, standardise=True, batch_norm=True),
        reported=Reported("90 % train, 66 % validation", 0.66, train=0.90),
        unsaid="The network's layers and dropout, the optimizer, how long; whether the 66 % were the best epoch's or "
        "the last's. Its validation images are the 20 % that were not trained on: the test split here. Chosen: four "
        "convolutions of 32 to 256 with batch norm, 15 % dropped after poolings and 30 % after the dense layer (with "
        "25 and 50 % it could not learn its training images), 30 epochs of Adam at 0.001; FER2013 is grey, so of its "
        "normalisation of colour that of intensity stays.",
        epochs=30,
        test_share=0.2,
        haar=True,
    ),
    PaperNetwork(
        name="cnn4",
        network="4-layer CNN",
        build=_plain_cnn((32, 64, 128, 128), 256, dropout=0.5),
        reported=Reported("85 % train, 63.2 % test", 0.632, train=0.85),
        unsaid="The widths, the dense layer, the dropout, which images tested. Chosen: 32, 64, 128, 128 and 256 dense, "
        "25 % dropped after each pooling and 50 % after the dense layer, the official splits.",
        epochs=50,
        learning_rate=1e-4,
    ),
    PaperNetwork(
        name="mobilenet-224",
        network="MobileNet at 224x224",
        build=_mobilenet(_LARGE),
        reported=Reported("90 % claimed", 0.90),
        unsaid="On which images the 90 % were seen, what the weights started from, which layers are trained and how "
        "long. Chosen: ImageNet's weights, all layers, 5 epochs of Adam at 0.0001.",
        epochs=5,
        batch=32,
        learning_rate=1e-4,
        test_share=0.2,
        pretrained="mobilenet",
    ),
)
"""From cheap to costly, as they are run."""


def find_presets(names: list[str]) -> list[PaperNetwork]:
    """The presets of these names, from cheap to costly; all where there are none.

    Raises:
        UsageError: there is no such preset.
    """
    known = {preset.name: preset for preset in PRESETS}
    for name in names:
        if name not in known:
            raise UsageError(f"--presets {name}: no such preset; there are {', '.join(known)}")
    return [preset for preset in PRESETS if not names or preset.name in names]


def obtain_weights(preset: PaperNetwork, weights: str, size: int) -> str:
    """Try out, before hours of training, whether a preset's weights are there and fit.

    Args:
        preset: any.
        weights: a file, `imagenet` to download them, `none` for random ones.
        size: side of the faces in pixels.

    Returns:
        What to build with: `weights`, or `none` for a VGG16 whose weights cannot be downloaded from here.

    Raises:
        InputNotFoundError, BadDataError: the file is not there or does not fit; the message names it and the preset.
        UnavailableError: MobileNet's weights cannot be downloaded from here.
    """
    if not preset.pretrained or weights == SCRATCH:
        return SCRATCH
    try:
        preset.build(2, size, weights)
    except UnavailableError as error:
        if preset.pretrained == "vgg16":
            return SCRATCH
        raise UnavailableError(
            f"preset {preset.name}: ImageNet weights for MobileNet cannot be downloaded; name a no_top .h5 with "
            "--mobilenet-weights FILE, or other presets with --presets"
        ) from error
    except MienError as error:
        raise type(error)(f"preset {preset.name}: {error}") from error
    return weights


# --- faces -----------------------------------------------------------------------------------------------------------


def haar_faces(images: NDArray[np.uint8], progress: Progress | None = None) -> tuple[NDArray[np.uint8], int]:
    """Cut the largest face out of each picture with the Haar cascade and level its histogram.

    The cascade needs room: it looks at pictures enlarged threefold and continued beyond their edges, for faces of at
    least half their height.

    Args:
        images: `uint8[n, size, size]`.
        progress: told how many are done.

    Returns:
        `uint8[n, size, size]`, and in how many pictures no face was found: of those all is kept.
    """
    side = images.shape[1] * _HAAR_ZOOM
    around = round(side * _HAAR_BORDER)
    detector = Detector(min_face=0.5 * side / (side + 2 * around))
    faces, missed = np.empty_like(images), 0
    for number, image in enumerate(images):
        large = cv2.resize(image, None, fx=_HAAR_ZOOM, fy=_HAAR_ZOOM, interpolation=cv2.INTER_CUBIC)
        large = cv2.copyMakeBorder(large, around, around, around, around, PADDING)
        boxes = detector.detect(large)
        missed += not boxes
        face = crop_face(large, max(boxes, key=lambda box: box.area), len(image)) if boxes else image
        faces[number] = cv2.equalizeHist(face)
        if progress and number % 64 == 0:
            progress(number, len(images))
    return faces, missed
