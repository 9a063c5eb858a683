"""What drawing batches costs, and what fused and folded batch norms give: images a second of a training's steps.

    python -m benchmarks.training_speed [fer2013.csv] [--preset mien-v1-48] [--steps 40]

The same steps through `fit`'s own batches; through one batch over and over; that again with batch norm as Keras writes
it out; with a teacher of the same kind, folded as `fit` does it; with that teacher as it was trained. In turns on the
same device, and the best round of each: whatever else the machine does only slows. The last column is the ratio to the
second; near 1, the input pipeline is not what limits training.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import fer2013
from edge.commandline import guarded
from trainer.backbones import SCRATCH
from trainer.batches import FaceBatches
from trainer.datasets import Dataset, clean
from trainer.distillation import Panel
from trainer.folding import fast_dtype, fold
from trainer.fused_norm import fuse
from trainer.presets import find_preset
from trainer.settings import Settings
from trainer.training import compile_model, first_network, with_lessons

FRESH, SAME, PLAIN = "its own batches", "one batch, no data loading", "one batch, Keras's batch norm"
FOLDED, TAUGHT = "one batch, a folded teacher", "one batch, the teacher as it was"


class OneBatch(keras.utils.PyDataset):
    """The same batch over and over."""

    def __init__(self, batch: Any, steps: int) -> None:
        super().__init__()
        self._batch, self._steps = batch, steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Any:
        return self._batch


def measure(dataset: Dataset, settings: Settings, steps: int, rounds: int) -> dict[str, list[float]]:
    """Images a second by what is done, `rounds` times each."""
    steps = min(steps, len(dataset.train) // settings.batch)
    few = dataset.train.where(np.arange(len(dataset.train)) < settings.batch * steps)
    fresh = FaceBatches(few, labels=len(dataset.labels), batch=settings.batch, recipe=settings.augmentation)
    same = OneBatch(fresh[0], steps)
    warm = OneBatch(fresh[0], 2)
    teacher = first_network(settings, len(dataset.labels))
    lighter = fold(teacher, fast_dtype())
    fuse(teacher)
    models = {
        SAME: _compiled(dataset, settings, steps),
        PLAIN: _compiled(dataset, settings, steps, by_kernel=False),
        FOLDED: _compiled(dataset, settings, steps, panel=Panel([lighter])),
        TAUGHT: _compiled(dataset, settings, steps, panel=Panel([teacher])),
    }
    runs = {FRESH: (models[SAME], fresh), **{name: (model, same) for name, model in models.items()}}
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (model, batches) in runs.items():
            model.fit(warm, verbose=0)  # compiles, and takes the memory back that the one before has left
            began = time.perf_counter()
            model.fit(batches, verbose=0, shuffle=False)
            speeds[name].append(settings.batch * steps / (time.perf_counter() - began))
    return speeds


def _compiled(
    dataset: Dataset, settings: Settings, steps: int, *, by_kernel: bool = True, panel: Panel | None = None
) -> keras.Model:
    network = first_network(settings, len(dataset.labels))
    if by_kernel:
        fuse(network)
    model = with_lessons(network, settings, dataset, panel)
    compile_model(model, network, settings, "all", steps)
    return model


def settings_of(preset: str, batch: int) -> Settings:
    """What a preset trains with, without teachers and votes."""
    return Settings.of_options(find_preset(preset).options, batch=batch, weights=SCRATCH)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place())
    parser.add_argument("--preset", default="teacher-v1-48")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    settings = settings_of(args.preset, args.batch)
    dataset = clean(fer2013.load(args.data, size=settings.size))
    speeds = measure(dataset, settings, args.steps, args.rounds)
    print(f"{args.preset}, batch {args.batch}, Keras on {keras.backend.backend()}, best (and worst) of {args.rounds}:")
    for name, each in speeds.items():
        ratio = max(each) / max(speeds[SAME])
        print(f"  {name:<36} {max(each):6.0f} ({min(each):.0f}) images/s {ratio:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("training_speed", main))
