"""What drawing batches costs: images a second through `fit`'s own batches, and through one batch over and over.

    python -m benchmarks.training_speed [fer2013.csv] [--preset mien-v1-48] [--steps 40]

Both run the same compiled step on the same device, in turns, so that a busy machine slows both. A ratio near 1 says
that the input pipeline is not what limits training.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import fer2013
from trainer.augmentation import Recipe
from trainer.backbones import build_network
from trainer.batches import FaceBatches
from trainer.datasets import Dataset, clean
from trainer.presets import find_preset
from trainer.readers import FER2013_SIZE
from trainer.training import Settings, _compile, _with_lessons


class OneBatch(keras.utils.PyDataset):
    """The same batch over and over."""

    def __init__(self, batch: Any, steps: int) -> None:
        super().__init__()
        self._batch, self._steps = batch, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Any:
        return self._batch


def measure(dataset: Dataset, settings: Settings, steps: int, rounds: int) -> tuple[list[float], list[float]]:
    """Images a second, `rounds` times each: through fresh batches, through one batch over and over."""
    network = build_network(
        settings.backbone, labels=len(dataset.labels), size=settings.size, width=settings.width,
        dropout=settings.dropout, stem_stride=settings.stem_stride, weights="none",
    )  # fmt: skip
    steps = min(steps, len(dataset.train) // settings.batch)
    model = _with_lessons(network, settings, dataset, None)
    _compile(model, network, settings, "all", steps)
    few = dataset.train.where(np.arange(len(dataset.train)) < settings.batch * steps)
    fresh = FaceBatches(few, labels=len(dataset.labels), batch=settings.batch, recipe=settings.augmentation)
    same = OneBatch(fresh[0], steps)
    model.fit(same, verbose=0)  # compiles
    speeds: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for batches, speed in zip((fresh, same), speeds, strict=True):
            began = time.perf_counter()
            model.fit(batches, verbose=0, shuffle=False)
            speed.append(settings.batch * steps / (time.perf_counter() - began))
    return speeds


def settings_of(preset: str, batch: int) -> Settings:
    """What a preset trains with, at the size that FER2013's faces have, without teachers and votes."""
    options = dict(find_preset(preset).options) | {"batch": batch, "size": FER2013_SIZE}
    drawn = {key: options.pop(key) for key in ("mixup", "blur", "noise") if key in options}
    return Settings(**options, augmentation=Recipe(**drawn))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place())
    parser.add_argument("--preset", default="teacher-v1-48")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    dataset = clean(fer2013.load(args.data))
    fresh, same = measure(dataset, settings_of(args.preset, args.batch), args.steps, args.rounds)
    ratio = statistics.median(one / other for one, other in zip(fresh, same, strict=True))
    print(f"{args.preset}, batch {args.batch}, Keras on {keras.backend.backend()}, {args.rounds} rounds, median:")
    print(f"  with its batches       {statistics.median(fresh):8.0f} images/s")
    print(f"  without data loading   {statistics.median(same):8.0f} images/s")
    print(f"  ratio                  {ratio:8.2f}")


if __name__ == "__main__":
    main()
