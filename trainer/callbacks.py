"""What watches a training: keeps weights to go on from, keeps the best network, stops what leads nowhere."""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from edge.errors import BadDataError
from trainer import keras_file
from trainer.run_folder import RunState


class StopAtNaN(keras.callbacks.Callback):
    """Ends a run at the step whose loss is no number.

    A step's loss is looked at when the next one is under way, so that an accelerator never waits for the host.
    """

    def __init__(self, state: RunState, *, phase: str) -> None:
        super().__init__()
        self._state, self._phase = state, phase
        self._epoch = 0
        self._before: tuple[int, Any] | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Count from here."""
        self._epoch, self._before = epoch, None

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the step before this one."""
        self._look()
        self._before = (batch, (logs or {}).get("loss"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the last step, and at what it did to the weights: only validation shows that."""
        self._look()
        if not math.isfinite((logs or {}).get("val_loss", math.nan)):
            self._stop(f"after epoch {epoch + 1}")

    def _look(self) -> None:
        if self._before is not None and not math.isfinite(float(self._before[1])):
            self._stop(f"at step {self._before[0] + 1} of epoch {self._epoch + 1}")

    def _stop(self, where: str) -> None:
        good = len(self._state.history)
        kept = (
            f"The last good checkpoint is epoch {good}, {self._state.checkpoint}" if good else "No epoch was finished"
        )
        start = f" and --weights {self._state.best_path}, the best network so far" if good else ""
        rate = "--head-learning-rate" if self._phase == "head" else "--learning-rate"
        raise BadDataError(
            f"{self._state.folder}: the loss is not a number {where}; lower {rate}, with another --out{start}. {kept}"
        )


class Checkpoint(keras.callbacks.Callback):
    """Keeps the weights that a killed run goes on from, after each epoch."""

    def __init__(self, state: RunState) -> None:
        super().__init__()
        self._state = state

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep the weights."""
        self._state.keep_weights(self.model)


class KeepBest(keras.callbacks.Callback):
    """Writes the network to `model.keras` when it beats all epochs before it, and stops when patience is over.

    Only then is the epoch recorded: a run killed between the two does the epoch again and loses no best network.
    """

    def __init__(
        self, state: RunState, network: keras.Model, card: dict[str, Any], *, phase: str, patience: int, images: int
    ) -> None:
        """Args: `images`, how many an epoch trains on."""
        super().__init__()
        self._state, self._network, self._card = state, network, card
        self._phase, self._patience, self._images = phase, patience, images
        self._began = self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Start the clock."""
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Note when the epoch's last step was taken: what comes before validation is not training."""
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep, record, stop."""
        logs = logs or {}
        accuracy = float(logs["val_accuracy"])
        if self._state.beats_all(accuracy):
            card = {**self._card, "selected": {"epoch": epoch + 1, "validation_accuracy": accuracy}}
            keras_file.save_network(self._network, card, self._state.best_path)
        logs = {**logs, "images_per_second": self._images / (self._trained - self._began)}
        self._state.record(self._phase, logs, time.monotonic() - self._began)
        if self._state.should_stop(self._patience):
            self.model.stop_training = True
