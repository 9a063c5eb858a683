"""Fine-tuning: head first, then everything; EMA weights, cosine schedule, early stopping; resumes after a kill.

All that a run needs to go on lies in its folder, see `trainer.run_folder`. `model.keras` is always the best network so
far.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.crop import scale_pixels
from edge.errors import BadDataError
from trainer import keras_file
from trainer.augmentation import NO_VIEW, Augment, Recipe, draw_views
from trainer.backbones import build_network, set_backbone_trainable
from trainer.batch_norm import reestimate
from trainer.datasets import Dataset, Split
from trainer.evaluation import predict
from trainer.run_folder import RunState


@dataclass(frozen=True)
class Settings:
    """What a training depends on, apart from the data. Two runs with equal settings give the same curve."""

    backbone: str = "mobilenet_v1"
    weights: str = "imagenet"
    size: int = 48
    width: float = 1.0
    stem_stride: int = 1
    margin: float = 1.0
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


class FaceBatches(keras.utils.PyDataset):
    """Batches of scaled faces with the views that the step is to make of them.

    Yields `({"image", "affine", "tone", "erase"}, one-hot labels, sample weights)`; order and views follow from the
    seed and the epoch alone.
    """

    def __init__(
        self,
        split: Split,
        *,
        labels: int,
        batch: int,
        recipe: Recipe | None = None,
        seed: int = 0,
        epoch: int = 0,
        label_weights: NDArray[np.float32] | None = None,
    ) -> None:
        """Args: `recipe` None keeps the order and the faces as they are, for evaluation."""
        super().__init__()
        self._images = scale_pixels(split.images)[..., np.newaxis]
        self._targets = np.eye(labels, dtype=np.float32)[split.labels]
        self._weights = np.ones(labels, np.float32) if label_weights is None else label_weights
        self._batch, self._recipe, self._seed, self._epoch = batch, recipe, seed, epoch
        self._order = self._draw_order()

    def __len__(self) -> int:
        return math.ceil(len(self._targets) / self._batch)

    def __getitem__(
        self, index: int
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32], NDArray[np.float32]]:
        chosen = self._order[index * self._batch : (index + 1) * self._batch]
        rng = np.random.default_rng((self._seed, self._epoch, index))
        views = draw_views(rng, len(chosen), self._images.shape[1], self._recipe or NO_VIEW)
        targets = self._targets[chosen]
        return {"image": self._images[chosen], **views}, targets, targets @ self._weights

    def on_epoch_end(self) -> None:
        """Move on to the next epoch's order and views."""
        self._epoch += 1
        self._order = self._draw_order()

    def _draw_order(self) -> NDArray[np.int64]:
        count = len(self._targets)
        if self._recipe is None:
            return np.arange(count)
        return np.random.default_rng((self._seed, self._epoch)).permutation(count)


def fit(
    dataset: Dataset, settings: Settings, folder: Path, *, source: str, command: str, verbose: str | int = "auto"
) -> Path:
    """Train, or go on training, in `folder`.

    Args:
        dataset: cleaned or not, as the protocol wants it.
        settings: see `Settings`.
        folder: the run's folder; made where it is not there.
        source: what the data set is called in the model's provenance.
        command: the command that repeats the run, for the model card.
        verbose: Keras's: a progress bar on a terminal, a line an epoch elsewhere.

    Returns:
        The path of the best network, `folder/model.keras`.

    Raises:
        BadDataError: `folder` holds a run with other settings, or the loss is no longer a number.
        OutputError: the folder cannot be written.
    """
    keras.utils.set_random_seed(settings.seed)
    network = build_network(
        settings.backbone,
        labels=len(dataset.labels),
        size=settings.size,
        width=settings.width,
        dropout=settings.dropout,
        stem_stride=settings.stem_stride,
        weights=settings.weights,
    )
    state = RunState(folder, settings, dataset)  # once the weights are known to be there: a typo begins no run
    card = _card(dataset, settings, network, source, command)
    model = _with_augmentation(network, settings)
    steps = math.ceil(len(dataset.train) / settings.batch)
    for phase in ("head", "all"):
        first, last = (
            (0, settings.head_epochs)
            if phase == "head"
            else (settings.head_epochs, settings.head_epochs + settings.epochs)
        )
        if len(state.history) >= last:
            continue
        _compile(model, network, settings, phase, steps)
        state.resume(model, phase)
        if state.should_stop(settings.patience):
            break
        start = max(first, len(state.history))
        _restore_seeds(network, start * steps)
        model.fit(
            FaceBatches(
                dataset.train,
                labels=len(dataset.labels),
                batch=settings.batch,
                recipe=settings.augmentation,
                seed=settings.seed,
                epoch=start,
                label_weights=label_weights(dataset, settings.class_weight),
            ),
            validation_data=FaceBatches(dataset.validation, labels=len(dataset.labels), batch=256),
            shuffle=False,  # FaceBatches shuffles the images; Keras's order of batches would not survive a resume
            initial_epoch=start,
            epochs=last,
            verbose=verbose,
            callbacks=_callbacks(state, network, card, settings, phase),
        )
    if state.best_path.exists():
        _settle(state.best_path, dataset)
    return state.best_path


def _settle(path: Path, dataset: Dataset) -> None:
    """Gather the best network's batch norm statistics anew on plain faces; kept where the validation split gains."""
    network, card = keras_file.load_network(path)
    reestimate(network, dataset.train.images)
    accuracy = float((predict(network, dataset.validation).argmax(axis=1) == dataset.validation.labels).mean())
    before = card["selected"]["validation_accuracy"]
    if accuracy > before:
        card["selected"] |= {
            "validation_accuracy": accuracy,
            "batch_norm": f"re-estimated on {len(dataset.train):,} plain training faces",
            "validation_accuracy_before": before,
            "commit": _commit(),  # a run may have been begun under another
        }
        keras_file.save_network(network, card, path)


def label_weights(dataset: Dataset, kind: str) -> NDArray[np.float32]:
    """Weight of each label's images in the loss: all 1, or `balanced`, inverse to how many there are (mean 1)."""
    if kind == "none":
        return np.ones(len(dataset.labels), dtype=np.float32)
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    share = len(dataset.train) / (len(dataset.labels) * np.maximum(counts, 1))
    return share.astype(np.float32)


def _with_augmentation(network: keras.Model, settings: Settings) -> keras.Model:
    """The network behind a layer that makes views while training: what is compiled, and never what is saved."""
    size = settings.size
    inputs = {
        "image": keras.Input((size, size, 1), name="image"),
        "affine": keras.Input((8,), name="affine"),
        "tone": keras.Input((2,), name="tone"),
        "erase": keras.Input((5,), name="erase"),
    }
    return keras.Model(inputs, network(Augment()(inputs)))


def _compile(model: keras.Model, network: keras.Model, settings: Settings, phase: str, steps: int) -> None:
    set_backbone_trainable(network, phase == "all")
    if phase == "head":
        rate: Any = settings.head_learning_rate
    else:
        warmup = min(settings.warmup_steps, steps * settings.epochs // 2)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=settings.learning_rate / 100,
            warmup_target=settings.learning_rate,
            warmup_steps=warmup,
            decay_steps=max(1, steps * settings.epochs - warmup),
            alpha=0.001,
        )
    optimizer = keras.optimizers.AdamW(
        learning_rate=rate,
        weight_decay=settings.weight_decay,
        use_ema=settings.ema > 0,
        ema_momentum=settings.ema or 0.99,
    )
    # Norms and biases are no place for decay: pulling them to zero only fights batch norm.
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
        metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=_jit_compile(),
    )
    optimizer.build(model.trainable_variables)


def _restore_seeds(network: keras.Model, steps: int) -> None:
    """Set the dropout masks to where `steps` training steps leave them: weight files do not hold that."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            layer.seed_generator.state.assign(np.array([layer.seed, steps]))


def _jit_compile() -> str | bool:
    """Keras's choice, but for TensorFlow on a CPU: there XLA makes depthwise convolutions eight times slower."""
    if keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu"):
        return False
    return "auto"


def _callbacks(
    state: RunState, network: keras.Model, card: dict[str, Any], settings: Settings, phase: str
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [keras.callbacks.TerminateOnNaN(), Checkpoint(state)]
    if settings.ema:
        # After Checkpoint, which keeps the raw weights to go on from, and before KeepBest, which keeps the EMA ones.
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    callbacks.append(KeepBest(state, network, card, phase, settings.patience if phase == "all" else 0))
    if _has_tensorboard():
        callbacks.append(
            keras.callbacks.TensorBoard(log_dir=str(state.folder / "tensorboard" / phase), write_graph=False)
        )
    return callbacks


@functools.cache  # says so once, not once a phase
def _has_tensorboard() -> bool:
    """Keras's callback writes with both; TensorFlow no longer brings TensorBoard along."""
    for package in ("tensorflow", "tensorboard"):
        if importlib.util.find_spec(package) is None:
            print(f"note: no {package} here: no curves are logged for it; pip install {package}", file=sys.stderr)
            return False
    return True


class Checkpoint(keras.callbacks.Callback):
    """Keeps the weights that a killed run goes on from, after each epoch; ends a run whose loss is no number."""

    def __init__(self, state: RunState) -> None:
        super().__init__()
        self._state = state

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights."""
        logs = logs or {}
        # The last step may ruin the weights after its own loss was taken: then only validation shows it.
        if not all(math.isfinite(logs.get(key, math.nan)) for key in ("loss", "val_loss")):
            raise BadDataError(
                f"{self._state.folder}: the loss is not a number in epoch {epoch + 1}; lower --learning-rate. "
                f"The last good checkpoint is epoch {len(self._state.history)}"
            )
        self._state.keep_weights(self.model)


class KeepBest(keras.callbacks.Callback):
    """Writes the network to `model.keras` when it beats all epochs before it, and stops when patience is over.

    Only then is the epoch recorded: a run killed between the two does the epoch again and loses no best network.
    """

    def __init__(self, state: RunState, network: keras.Model, card: dict[str, Any], phase: str, patience: int) -> None:
        super().__init__()
        self._state, self._network, self._card, self._phase, self._patience = state, network, card, phase, patience
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep, record, stop."""
        logs = logs or {}
        accuracy = float(logs["val_accuracy"])
        if self._state.beats_all(accuracy):
            card = {**self._card, "selected": {"epoch": epoch + 1, "validation_accuracy": accuracy}}
            keras_file.save_network(self._network, card, self._state.best_path)
        self._state.record(self._phase, logs, time.monotonic() - self._began)
        if self._state.should_stop(self._patience):
            self.model.stop_training = True


def _card(dataset: Dataset, settings: Settings, network: keras.Model, source: str, command: str) -> dict[str, Any]:
    """What the exporter and the reader of a model card have to know."""
    return {
        "labels": list(dataset.labels),
        "input": {"size": settings.size, "channels": 1, "margin": settings.margin, "scaling": "x/127.5-1"},
        "provenance": {
            "dataset": source,
            "images": {name: len(dataset.split(name)) for name in ("train", "validation", "test")},
            "left_out_of_training": dataset.left_out,
            "architecture": settings.backbone,
            "pretraining": Path(settings.weights).name,
            "parameters": network.count_params(),
            "seed": settings.seed,
            "settings": asdict(settings) | {"weights": Path(settings.weights).name},
            "command": command,
            "commit": _commit(),
            "keras": f"{keras.__version__} on {keras.backend.backend()}",
        },
    }


def _commit() -> str:
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
