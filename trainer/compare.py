"""Trains the literature's networks, each in a folder of its own, and goes on there after a kill.

What was asked for and what came out lie there as `trainer.compare_plan` has them, the epochs as `trainer.run_folder`
keeps them. Order and dropout follow from the seed and the epoch, so that a training that was killed comes to the
figures of one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.crop import scale_pixels
from edge.errors import BadDataError
from edge.labels import FER2013_LABELS
from edge.modelcard import provenance_of
from trainer import model_log
from trainer.backbones import SCRATCH
from trainer.baselines import haar_faces
from trainer.compare_plan import OFFICIAL, Job, divide
from trainer.datasets import SPLITS, Dataset, Split, copied_in, pooled, unique_images
from trainer.evaluation import Evaluation, evaluate, open_classifier
from trainer.fused_norm import fuse
from trainer.output_file import write_whole
from trainer.readers import Progress
from trainer.run_folder import Epochs
from trainer.trained import name_of
from trainer.training import current_commit, jit_choice, restore_seeds

Bar = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress bar of that name."""

Look = Callable[[model_log.Entry], object]
"""Notes a look at the test split."""

FER2013_IMAGES = 35_887
"""In all its splits together. Only on these are the papers' figures something to compare with."""

PHASE = "all"
"""What every epoch trains: all layers that its network leaves free."""


def run(
    job: Job, dataset: Dataset, *, bar: Bar, say: Callable[[str], None], look: Look | None = None, command: str = ""
) -> dict[str, Any]:
    """Train, or go on training, and write `result.json`.

    Args:
        job: what to train; `compare_plan.begin` was called with it.
        dataset: as `compare_plan.plan` had it.
        bar: shows how far a step is.
        say: told of each finished epoch.
        look: told of the figures on the test split, before anybody else; None: it stays shut, and the weights are kept
            for who will open it.
        command: the command that repeats the training, for that note.

    Returns:
        What is in `result.json`.

    Raises:
        BadDataError: the loss is no number any more (the message names preset and epoch), the weights to go on from
            cannot be read, or another process trains there.
        OutputError: the folder cannot be written.
    """
    dataset, notes = divide(job, dataset), []
    if job.preset.pretrained and job.from_scratch:
        notes.append("without ImageNet's weights: trained from scratch, all layers")
    if job.preset.haar:
        with bar(f"{job.name}: faces") as progress:
            dataset, note = _cut_faces(dataset, progress)
        notes.append(note)
    network = _compiled(job, dataset)
    epochs = Epochs(job.folder)
    with epochs.guarding():
        with bar(job.name) as progress:
            _train(job, network, dataset, epochs, progress, say)
        told = _circumstances(job, dataset, network, epochs.history)
        figures = _figures(job, network, dataset, SPLITS if look else SPLITS[:-1])
        if look:
            look(_entry(job, dataset, figures["test"], {"command": command, "commit": told["commit"]}))
        result = {**told, "notes": notes, **{name: each.to_dict() for name, each in figures.items()}}
        write_whole(job.folder / "result.json", json.dumps(result, indent=1).encode())
        if look:
            epochs.remove_weights()  # no sooner: a kill before the result costs no epoch
    return result


def _cut_faces(dataset: Dataset, progress: Progress) -> tuple[Dataset, str]:
    pool = pooled(dataset)
    faces, missed = haar_faces(pool.images, progress)
    edges = np.cumsum([len(dataset.split(name)) for name in SPLITS])[:-1]
    train, validation, test = (
        replace(dataset.split(name), images=part) for name, part in zip(SPLITS, np.split(faces, edges), strict=True)
    )
    share = f"{missed:,} of {len(pool):,} images ({100 * missed / len(pool):.1f} %)"
    return replace(
        dataset, train=train, validation=validation, test=test
    ), f"Haar found no face in {share}: of those all was kept"


def _compiled(job: Job, dataset: Dataset) -> keras.Model:
    preset = job.preset
    keras.utils.set_random_seed(job.asked["seed"])
    network = preset.build(
        len(dataset.labels), dataset.train.images.shape[1], SCRATCH if job.from_scratch else job.weights
    )
    fuse(network)
    network.compile(
        optimizer=keras.optimizers.get(
            {"class_name": preset.optimizer, "config": {"learning_rate": preset.learning_rate}}
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=jit_choice(),
    )
    return network


def _train(
    job: Job,
    network: keras.Model,
    dataset: Dataset,
    epochs: Epochs,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    count = job.asked["epochs"]
    batches = FacesInTurn(dataset.train, job.preset.batch, job.asked["seed"])
    network.optimizer.build(network.trainable_variables)
    epochs.resume(network, PHASE)
    network.fit(
        batches,
        validation_data=(_scaled(dataset.validation.images), dataset.validation.labels),
        shuffle=False,  # they shuffle the images; Keras would shuffle the batches
        initial_epoch=len(epochs.history),
        epochs=count,
        verbose=0,
        callbacks=[
            Watch(job.name, count, batches, progress),  # before what it guards
            Keep(job.name, count, epochs, say),
        ],
    )


class FacesInTurn(keras.utils.PyDataset):
    """Batches `(float32[n, size, size, 1], int64[n])` in an order that follows from the seed and the epoch alone."""

    def __init__(self, split: Split, batch: int, seed: int) -> None:
        super().__init__()
        self._split, self._batch, self._seed = split, batch, seed
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Deal the images for an epoch."""
        self._order = np.random.default_rng((self._seed, epoch)).permutation(len(self._split))

    def __len__(self) -> int:
        return math.ceil(len(self._split) / self._batch)

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        return _scaled(self._split.images[chosen]), self._split.labels[chosen]


class Watch(keras.callbacks.Callback):
    """Tells how far a training is, and ends it where the loss is no number."""

    def __init__(self, name: str, epochs: int, batches: FacesInTurn, progress: Progress) -> None:
        super().__init__()
        self._name, self._epochs, self._batches, self._progress = name, epochs, batches, progress
        self._steps, self._epoch = len(batches), 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Deal images and dropout masks."""
        self._batches.begin(epoch)
        restore_seeds(self.model, epoch * self._steps)
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the loss, and move the bar."""
        if not math.isfinite((logs or {}).get("loss", math.nan)):
            self._stop(f"at step {batch + 1} of epoch {self._epoch + 1}")
        self._progress(self._epoch * self._steps + batch + 1, self._epochs * self._steps)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at what the last step did to the weights."""
        if not math.isfinite((logs or {}).get("val_loss", math.nan)):
            self._stop(f"after epoch {epoch + 1}")

    def _stop(self, where: str) -> None:
        raise BadDataError(
            f"{self._name}: the loss is not a number {where}; the same command goes on after epoch {self._epoch}. "
            "If it comes again, leave the preset out with --presets"
        )


class Keep(keras.callbacks.Callback):
    """Keeps what a killed training goes on from after each epoch, and tells of it."""

    def __init__(self, name: str, count: int, epochs: Epochs, say: Callable[[str], None]) -> None:
        super().__init__()
        self._name, self._count, self._epochs, self._say = name, count, epochs, say
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights, then note the epoch that they are of."""
        logs, seconds = logs or {}, time.monotonic() - self._began
        self._epochs.keep_weights(self.model)
        self._epochs.record(PHASE, logs, seconds)
        self._say(
            f"{self._name}: epoch {epoch + 1} of {self._count}, {logs['accuracy']:.1%} while training, "
            f"{logs['val_accuracy']:.1%} on validation, {seconds:.0f} s"
        )


def _circumstances(
    job: Job, dataset: Dataset, network: keras.Model, history: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What was trained, on what, how, and how long it took."""
    preset = job.preset
    seconds = sum(epoch["seconds"] for epoch in history)
    return {
        **job.asked,
        "network": preset.network,
        "reported": asdict(preset.reported),
        "unsaid": preset.unsaid,
        "test_share": preset.test_share,
        "drop": list(preset.drop),
        "pretrained": preset.pretrained,
        "dataset": dataset.name,
        "labels": list(dataset.labels),
        "images": {name: len(dataset.split(name)) for name in SPLITS},
        "test_images_copied_in_training": int(dataset.test_copied.sum()),
        "preset_epochs": preset.epochs,
        "batch": preset.batch,
        "optimizer": preset.optimizer,
        "learning_rate": preset.learning_rate,
        "pretraining": SCRATCH if job.from_scratch else Path(job.weights).name,
        "parameters": network.count_params(),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(history) * len(dataset.train) / max(seconds, 1e-3), 1),
        "accuracy_while_training": round(history[-1]["accuracy"], 5),
        "commit": current_commit(),
        "keras": f"{keras.__version__} on {keras.backend.backend()}",
    }


def _figures(job: Job, network: keras.Model, dataset: Dataset, splits: Sequence[str]) -> dict[str, Evaluation]:
    """Some splits' evaluations, all by the last epoch's weights, without dropout."""
    figures = {}
    for name in splits:
        split = dataset.split(name)
        logits = network.predict(_scaled(split.images), batch_size=2 * job.preset.batch, verbose=0)
        copied = dataset.test_copied if name == "test" else None
        figures[name] = evaluate(np.asarray(logits), split.labels, dataset.labels, copied=copied)
    return figures


def _entry(job: Job, dataset: Dataset, result: Evaluation, told: dict[str, str]) -> model_log.Entry:
    """A paper's network in the model log: its file is not kept, and nothing was cleaned out of its training."""
    provenance = {**told, "seed": job.asked["seed"], "left_out_of_training": {}}
    return model_log.Entry(job.name, "not kept", "float", dataset.name, result, {"provenance": provenance})


def evaluate_model(path: Path, dataset: Dataset) -> tuple[dict[str, Any], model_log.Entry]:
    """The row of a network of one's own, on the data set's own test split, and its line for the model log.

    Raises:
        BadDataError, InputNotFoundError: it is no network, or does not fit the data set.
    """
    classifier = open_classifier(path, dataset.labels, dataset.test.images.shape[1])
    logits = classifier.logits(dataset.test.images, None)
    result = evaluate(logits, dataset.test.labels, dataset.labels, copied=dataset.test_copied)
    name = name_of(path)
    row = {
        "model": name,
        "protocol": model_log.protocol(classifier.card),
        "command": provenance_of(classifier.card).get("command", ""),
        "dataset": dataset.name,
        "split": OFFICIAL,
        "test": result.to_dict(),
    }
    digest = model_log.digest(path)
    return row, model_log.Entry(name, digest, classifier.arithmetic, dataset.name, result, classifier.card)


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """What a comparison's reader has to know of its data: how many images there are more than once, and where."""
    pool = pooled(dataset)
    counts = np.bincount(dataset.test.labels, minlength=len(dataset.labels))
    fer2013 = len(pool) == FER2013_IMAGES and tuple(dataset.labels) == FER2013_LABELS
    return {
        "name": dataset.name,
        "is_the_papers": fer2013,
        "labels": list(dataset.labels),
        "images": {name: len(dataset.split(name)) for name in SPLITS},
        "unique": unique_images(pool),
        "test_images_copied_in_training": int(dataset.test_copied.sum()),
        "validation_images_copied_in_training": int(copied_in(dataset.train, dataset.validation).sum()),
        "commonest": dataset.labels[int(counts.argmax())],
        "commonest_share": round(float(counts.max() / counts.sum()), 5),
    }


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return scale_pixels(images)[..., np.newaxis]
