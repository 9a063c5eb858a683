"""What a training is asked for, apart from the data: the one place where the defaults of `mien-train fit` stand.

Free of Keras, so that `--help` need not wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

V1_BLOCKS = 13
"""MobileNetV1's depthwise-separable convolutions; its last two hold half of its weights (1.6 of 3.2 M)."""

OTHERWISE = {"augmentation", "teachers", "votes"}
"""Settings that no single option of that name tells as it stands."""

VIEWS = ("mixup", "blur", "noise", "closer")
"""The options of `mien-train fit` that are `Recipe`'s."""


@dataclass(frozen=True)
class Recipe:
    """How far views may stray.

    Real Haar boxes around FER2013's crops have 0.79 to 1.13 times their side at the 10th and 90th percentile
    (`trainer.robustness` tries them); `scale` alone spreads from 0.88 to 1.14, and `closer` 0.17 begins at 0.80.

    Attributes:
        flip: probability of a mirror image.
        rotation: standard deviation in degrees.
        scale: standard deviation of the logarithm of the scale, where a view shows more than the crop.
        closer: the same where it shows less.
        shift: standard deviation as a share of the side.
        gain: standard deviation of the logarithm of the contrast.
        offset: standard deviation of the brightness, in the scaled pixel range -1..1.
        erase: probability of a grey rectangle over part of the face.
        mixup: both parameters of the Beta distribution that shares are drawn from when two faces are mixed (Zhang et
            al. 2018, "mixup"); 0 mixes nothing.
        blur: probability that the network sees a view out of focus, as far away faces and cheap lenses are.
        noise: probability that it sees a view with a sensor's noise, of up to 25 grey levels' standard deviation.
    """

    flip: float = 0.5
    rotation: float = 7.0
    scale: float = 0.10
    closer: float = 0.10
    shift: float = 0.05
    gain: float = 0.20
    offset: float = 0.10
    erase: float = 0.25
    mixup: float = 0.0
    blur: float = 0.25
    noise: float = 0.25


NO_VIEW = Recipe(flip=0, rotation=0, scale=0, closer=0, shift=0, gain=0, offset=0, erase=0, mixup=0, blur=0, noise=0)


@dataclass(frozen=True)
class Settings:
    """What a training depends on, apart from the data: equal settings give the same curve on the same machine."""

    backbone: str = "mobilenet_v1"
    weights: str = "imagenet"
    weights_scaling: str = "tf"
    size: int = 48
    width: float = 1.0
    blocks: int = V1_BLOCKS
    stem_stride: int = 1
    last_stride: int = 2
    dropout: float = 0.2
    head_epochs: int = 1
    epochs: int = 15
    batch: int = 128
    learning_rate: float = 1e-3
    head_learning_rate: float = 3e-3
    warmup_steps: int = 200
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    ema: float = 0.998
    class_weight: str = "none"
    patience: int = 6
    seed: int = 1
    augmentation: Recipe = field(default_factory=Recipe)
    teachers: tuple[str, ...] = ()
    distillation: float = 1.0
    temperature: float = 2.0
    votes: str = ""
    votes_weight: float = 0.5

    @classmethod
    def of_options(cls, options: Mapping[str, Any], **known: Any) -> Self:
        """What options of `mien-train fit` come to; those that are not given are at their defaults.

        Args:
            options: by the names that its parser keeps them under; others than settings' pass.
            known: settings that are known better than the options tell.
        """
        own = {each.name for each in fields(cls)} - OTHERWISE
        recipe = Recipe(**{name: options[name] for name in VIEWS if name in options})
        told = {name: value for name, value in options.items() if name in own}
        return cls(**told | known, augmentation=NO_VIEW if options.get("no_augmentation") else recipe)

    @classmethod
    def complete(cls, told: Mapping[str, Any]) -> dict[str, Any]:
        """Settings as JSON tells them, with those that there were only later at what they were before."""
        views = told.get("augmentation", {})
        before = {"blur": 0.0, "noise": 0.0, "closer": views.get("scale", Recipe.scale)}
        usual: dict[str, Any] = json.loads(json.dumps(asdict(cls())))
        still = {name: value for name, value in told.items() if name != "margin"}  # the data set's, and never asked for
        return usual | still | {"augmentation": usual["augmentation"] | before | views}
