"""A training's folder: what was asked for, what each finished epoch gave, and the weights to go on from.

`run.json`, `history.json` and one file of weights with the optimizer's state, each replaced as a whole.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from edge.errors import BadDataError, MienError, OutputError
from trainer import keras_file
from trainer.augmentation import Degrade
from trainer.batches import FaceTable
from trainer.datasets import Dataset
from trainer.identity import data_identity, file_identity
from trainer.output_file import replace_file

if TYPE_CHECKING:
    from trainer.settings import Settings


class Epochs:
    """The finished epochs of a training in its folder, and what the next one starts from."""

    def __init__(self, folder: Path) -> None:
        """Knows of no epoch before `guarding`."""
        self.folder = folder
        self.history: list[dict[str, Any]] = []

    @property
    def _history_path(self) -> Path:
        return self.folder / "history.json"

    def _read_history(self) -> None:
        if self._history_path.exists():
            self.history = _read_json(self._history_path, list)

    def _weights_path(self, epoch: int) -> Path:
        return self.folder / f"resume-{epoch:04d}.weights.h5"

    @property
    def checkpoint(self) -> Path:
        """The weights that the next epoch starts from."""
        return self._weights_path(len(self.history))

    def resume(self, model: keras.Model, phase: str) -> None:
        """Take weights and optimizer where the last finished epoch left them."""
        if not self.history:
            return
        path = self.checkpoint
        # The optimizer's state only fits the phase that it was saved in; the weights always fit.
        try:
            if self.history[-1]["phase"] == phase:
                model.load_weights(path)
            else:
                keras_file.load_weights_alone(model, path)
        except (OSError, ValueError, KeyError) as error:
            raise BadDataError(
                f"{path}: cannot go on from here ({error}); remove {self.folder} to start again"
            ) from error

    def keep_weights(self, model: keras.Model) -> None:
        """Write what the epoch after this one starts from. Until `record` the run still stands at the epoch before."""
        epoch = len(self.history) + 1
        self.refuse_full_disk(model, f"epoch {epoch}")
        with self._writing(f"epoch {epoch}"):
            save_weights(model, self._weights_path(epoch))

    def refuse_full_disk(self, model: keras.Model, what: str) -> None:
        """Look whether `model` fits on the disk, before anything of it is written.

        Raises:
            OutputError: it does not; the message calls it `what`.
        """
        if lack := lacking_room(model, self.folder):
            raise self._unwritten(what, lack)

    def record(self, phase: str, logs: dict[str, Any], seconds: float) -> None:
        """Note a finished epoch whose weights are kept. A kill leaves the epoch before or this one to go on from."""
        self.history.append(
            {"phase": phase, "seconds": round(seconds, 3), **{key: float(value) for key, value in logs.items()}}
        )
        epoch = len(self.history)
        with self._writing(f"epoch {epoch}"):
            self._write_history()
            for old in self.folder.glob("resume-*.weights.h5"):
                if old != self._weights_path(epoch):
                    old.unlink()

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Train here alone, from where this or another process stopped.

        A full disk is named, whoever was writing to it, and nothing half written stays behind.

        Raises:
            BadDataError: another process trains here.
            OutputError: the disk is full.
        """
        with alone(self.folder):
            self._read_history()  # another process may have been training here until now
            try:
                yield
            except Exception as error:
                # TensorBoard's writer has errors of its own for it, h5py a text.
                if isinstance(error, MienError) or os.strerror(errno.ENOSPC) not in str(error):
                    raise
                raise self._unwritten(f"epoch {len(self.history) + 1}", os.strerror(errno.ENOSPC)) from error
            finally:
                for partial in self.folder.glob("partial.*"):
                    partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unwritten(what, os.strerror(error.errno) if error.errno else str(error)) from error

    def _unwritten(self, what: str, reason: str) -> OutputError:
        return OutputError(
            f"{self.folder}: {what} cannot be written ({reason}); make room and give the same command again to go on"
        )

    def _write_history(self) -> None:
        replace_file(self._history_path, json.dumps(self.history, indent=2).encode())

    def remove_weights(self) -> None:
        """Remove what another epoch would start from: there is none to come."""
        for path in self.folder.glob("resume-*.weights.h5"):
            path.unlink()


class RunState(Epochs):
    """A run's folder: what was asked for, what each epoch gave, where to go on."""

    def __init__(self, folder: Path, settings: Settings, dataset: Dataset) -> None:
        super().__init__(folder)
        self.best_path = folder / "model.keras"
        try:
            asked = {
                "settings": _identified(asdict(settings)),
                "labels": list(dataset.labels),
                "images": {name: len(dataset.split(name)) for name in ("train", "validation", "test")},
                "training_data": data_identity([dataset.train, dataset.validation]),
            }
            asked = json.loads(json.dumps(asked))
            folder.mkdir(parents=True, exist_ok=True)
            run = folder / "run.json"
            if run.exists():
                begun = _read_json(run, dict)
                told = begun.get("settings")  # of a run that may be older than a setting
                begun["settings"] = type(settings).complete(told if isinstance(told, dict) else {})
                self._refuse_other(run, _flatten(begun), _flatten(asked))
            else:
                replace_file(run, json.dumps(asked, indent=2).encode())
            self._read_history()
        except OSError as error:
            if isinstance(error, MienError):
                raise
            raise OutputError(f"{folder}: the run's folder cannot be used ({error.strerror})") from error

    @staticmethod
    def _refuse_other(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
        changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        if changed:
            key = changed[0]
            raise BadDataError(
                f"{path}: this run was begun with {key} = {old.get(key)}, not {new.get(key)}; "
                "go on with the same settings and data, or name another --out"
            )

    def beats_all(self, val_accuracy: float) -> bool:
        """True where no epoch so far was as good on the validation split."""
        return val_accuracy > max((epoch["val_accuracy"] for epoch in self.history), default=-1.0)

    def should_stop(self, patience: int) -> bool:
        """True where the last `patience` epochs, all over all layers, brought nothing. 0 never stops."""
        scores = [epoch["val_accuracy"] for epoch in self.history]
        free = sum(epoch["phase"] == "all" for epoch in self.history)
        return bool(patience and free and min(free, len(scores) - 1 - int(np.argmax(scores))) >= patience)

    @property
    def settled(self) -> bool:
        """True where the best network is final. Students know it by its content, so it must stay as it is."""
        return bool(self.history and self.history[-1].get("settled"))

    def note_settled(self) -> None:
        """Note that the best network is final."""
        self.history[-1]["settled"] = True
        with self._writing("the settled network"):
            self._write_history()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold `folder` against other processes that train there.

    Raises:
        BadDataError: another one does.
    """
    held = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadDataError(
                f"{folder}: another mien-train is training here; wait for it, or name another --out"
            ) from error
        yield
    finally:
        os.close(held)


def save_weights(model: keras.Model, path: Path) -> None:
    """Write weights and the optimizer's state; a kill or a power cut leaves what was there, or this file whole."""
    partial = path.with_name("partial.weights.h5")
    model.save_weights(partial)
    keras_file.to_disk(partial)  # what names it must not reach the disk before it
    partial.replace(path)


def lacking_room(model: keras.Model, folder: Path) -> str:
    """How much room a checkpoint and the network itself need and there is; empty where it is enough.

    To be asked before HDF5 writes: it does not survive a full disk, but takes the whole process down at the end.
    """
    optimizer = getattr(model, "optimizer", None)  # only what was compiled has one
    state = optimizer.variables if optimizer else ()
    weights = [
        each for layer in model.layers if not isinstance(layer, (Degrade, FaceTable)) for each in layer.variables
    ]
    floats = sum(math.prod(value.shape) for value in (*weights, *weights, *state) if value.dtype == "float32")
    needed, free = 4 * floats + 1024**2, shutil.disk_usage(folder).free
    return "" if free >= needed else f"{needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free"


def _identified(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with files named by their content, since paths depend on the folder that the command is given in."""
    return settings | {
        "weights": file_identity(settings["weights"]),
        "votes": file_identity(settings["votes"]),
        "teachers": [file_identity(teacher) for teacher in settings["teachers"]],
    }


def _read_json(path: Path, kind: type) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, kind):
            raise TypeError(f"holds a {type(content).__name__}")
    except (ValueError, TypeError) as error:
        raise BadDataError(f"{path}: not written by mien-train, or damaged ({error}); name another --out") from error
    return content


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
