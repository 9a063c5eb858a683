"""Fine-tuning: head first, then everything; EMA weights, cosine schedule, distillation; resumes after a kill.

All that a run needs to go on lies in its folder, see `trainer.run_folder`. `model.keras` is always the best network so
far.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edge.modelcard import provenance_of
from trainer import keras_file, trained
from trainer.augmentation import Augment, Degrade
from trainer.averaging import AveragedWeights
from trainer.backbones import SCRATCH, TRAINED, build_network, set_backbone_trainable
from trainer.batch_norm import reestimate, restate
from trainer.batches import FaceBatches, FaceTable, batch_inputs
from trainer.callbacks import Checkpoint, KeepBest, StopAtNaN
from trainer.datasets import Dataset
from trainer.distillation import Distillation, Panel, VotesHead, open_panel
from trainer.evaluation import predict
from trainer.folding import fast_dtype
from trainer.fused_norm import fuse
from trainer.identity import file_identity
from trainer.run_folder import RunState
from trainer.settings import Settings
from trainer.votes import read_votes, votes_of

LONGEST_LAG = 0.6
"""Of averaged weights, as a share of a training's steps."""


def fit(
    dataset: Dataset, settings: Settings, folder: Path, *, source: str, command: str, verbose: str | int = "auto"
) -> Path:
    """Train, or go on training, in `folder`.

    Args:
        dataset: cleaned or not, as the protocol wants it.
        settings: what is asked for.
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
    devices = _use_all_devices()
    network = first_network(settings, len(dataset.labels))
    some = dataset.train.images[:: max(1, len(dataset.train) // 2000)]  # folders come one label after the other
    if settings.weights.endswith(TRAINED):
        trained.start_from(Path(settings.weights), network, some, dataset.labels)
    elif settings.weights_scaling == "caffe":
        restate(network, some)
    fuse(network)
    panel = open_panel(settings.teachers, dataset.labels) if settings.teachers else None
    votes = _votes(dataset, settings)
    state = RunState(folder, settings, dataset)  # once all files are known to be there: a typo begins no run
    card = _card(dataset, settings, network, source, command)
    model = with_lessons(network, settings, dataset, panel)
    steps = math.ceil(len(dataset.train) / settings.batch)
    with state.guarding():
        for phase in ("head", "all"):
            first, last = (
                (0, settings.head_epochs)
                if phase == "head"
                else (settings.head_epochs, settings.head_epochs + settings.epochs)
            )
            if len(state.history) >= last:
                continue
            compile_model(model, network, settings, phase, steps)
            state.resume(model, phase)
            if state.should_stop(settings.patience):
                break
            start = max(first, len(state.history))
            restore_seeds(network, start * steps)
            model.fit(
                FaceBatches(
                    dataset.train,
                    labels=len(dataset.labels),
                    batch=settings.batch,
                    recipe=settings.augmentation,
                    seed=settings.seed,
                    epoch=start,
                    label_weights=label_weights(dataset, settings.class_weight),
                    votes=votes,
                    devices=devices,
                ),
                validation_data=FaceBatches(
                    dataset.validation, labels=len(dataset.labels), batch=256, first=len(dataset.train), devices=devices
                ),
                shuffle=False,  # FaceBatches shuffles the images; Keras's order of batches would not survive a resume
                initial_epoch=start,
                epochs=last,
                verbose=verbose,
                callbacks=_callbacks(state, network, dataset, card, settings, phase),
            )
        if devices > 1:
            keras.distribution.set_distribution(None)
        if not state.settled:
            state.refuse_full_disk(network, "the settled network")
            _settle(state.best_path, dataset)
            state.note_settled()
    return state.best_path


def first_network(settings: Settings, labels: int) -> keras.Model:
    """The network that a training begins with. Where it goes on from one of ours it has the shape alone yet.

    Raises:
        BadDataError, InputNotFoundError: the weights do not fit, or are not there.
    """
    return build_network(
        settings.backbone,
        labels=labels,
        size=settings.size,
        width=settings.width,
        blocks=settings.blocks,
        dropout=settings.dropout,
        stem_stride=settings.stem_stride,
        last_stride=settings.last_stride,
        weights=SCRATCH if settings.weights.endswith(TRAINED) else settings.weights,
        weights_scaling=settings.weights_scaling,
    )


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
            "commit": current_commit(),  # a run may have been begun under another
        }
        keras_file.save_network(network, card, path)


def label_weights(dataset: Dataset, kind: str) -> NDArray[np.float32]:
    """Weight of each label's images in the loss: all 1, or `balanced`, inverse to how many there are (mean 1)."""
    if kind == "none":
        return np.ones(len(dataset.labels), dtype=np.float32)
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.labels))
    share = len(dataset.train) / (len(dataset.labels) * np.maximum(counts, 1))
    return share.astype(np.float32)


def _votes(dataset: Dataset, settings: Settings) -> NDArray[np.float32] | None:
    if not settings.votes:
        return None
    return votes_of(read_votes(Path(settings.votes)), dataset.train, settings.votes, dataset.rows)


def with_lessons(network: keras.Model, settings: Settings, dataset: Dataset, panel: Panel | None) -> keras.Model:
    """The network between its views and its lessons: what is compiled, and never what is saved."""
    inputs = batch_inputs()
    images = FaceTable(np.concatenate([dataset.train.images, dataset.validation.images]))(inputs["number"])
    view = Augment()({"image": images, **{key: inputs[key] for key in ("affine", "tone", "erase", "own")}})
    seen = Degrade(settings.size)({"image": view, "blur": inputs["blur"], "noise": inputs["noise"]})
    logits, features = keras.Model(network.input, [network.output, network.layers[-1].input])(seen)
    if settings.votes:
        logits = VotesHead(settings.votes_weight)([logits, features, inputs["votes"], inputs["counts"]])
    if panel:
        lesson = Distillation(panel, weight=settings.distillation, temperature=settings.temperature)
        logits = lesson([logits, view, inputs["counts"]])
    return keras.Model(inputs, logits)


def _use_all_devices() -> int:
    """Spread batches over several accelerators, by Keras's own means where its backend has them; returns how many."""
    if keras.backend.backend() == "torch":  # Keras has no such means for PyTorch, and does not count its devices
        count = int(importlib.import_module("torch").cuda.device_count())
    else:
        count = len(keras.distribution.list_devices())
    if count < 2:
        return 1
    if keras.backend.backend() != "jax":
        print(f"note: {count} devices are here, one is used; KERAS_BACKEND=jax uses all of them", file=sys.stderr)
        return 1
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    print(f"training on {count} devices", file=sys.stderr)
    return count


def compile_model(model: keras.Model, network: keras.Model, settings: Settings, phase: str, steps: int) -> None:
    """Give a model what it is trained with.

    Args:
        model: of `with_lessons`.
        network: within it.
        settings: what is asked for.
        phase: `head`, with the backbone frozen, or `all`.
        steps: of an epoch.
    """
    set_backbone_trainable(network, phase == "all")
    momentum = settings.ema
    if phase == "head":
        rate: Any = settings.head_learning_rate
    else:
        # Few faces make few steps: an average that lags behind for longer than they last stays where it began.
        momentum = min(momentum, 1 - 1 / max(1.0, LONGEST_LAG * steps * settings.epochs))
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
        ema_momentum=momentum if settings.ema else 0.99,
    )
    # Norms and biases are no place for decay: pulling them to zero only fights batch norm.
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=settings.label_smoothing, reduction="mean_with_sample_weight"
        ),
        weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
        jit_compile=jit_choice(),
    )
    optimizer.build(model.trainable_variables)


def restore_seeds(network: keras.Model, steps: int) -> None:
    """Set the dropout masks to where `steps` training steps leave them: weight files do not hold that."""
    for number, layer in enumerate(network.layers):
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            seed = number if layer.seed is None else layer.seed
            layer.seed_generator.state.assign(np.array([seed, steps]))


def jit_choice() -> str | bool:
    """Keras's choice, but for TensorFlow on a CPU: there XLA makes depthwise convolutions eight times slower."""
    if keras.backend.backend() == "tensorflow" and not keras.distribution.list_devices("gpu"):
        return False
    return "auto"


def _callbacks(
    state: RunState, network: keras.Model, dataset: Dataset, card: dict[str, Any], settings: Settings, phase: str
) -> list[keras.callbacks.Callback]:
    callbacks: list[keras.callbacks.Callback] = [StopAtNaN(state, phase=phase), Checkpoint(state)]
    if settings.ema:
        # After Checkpoint, which keeps the raw weights to go on from, and before KeepBest, which keeps the EMA ones. A
        # frozen backbone's batch norm fits as it is.
        callbacks.append(
            AveragedWeights(network, dataset.train.images, seed=settings.seed)
            if phase == "all"
            else keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
        )
    callbacks.append(KeepBest(state, network, card, phase=phase, patience=settings.patience, images=len(dataset.train)))
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


def _card(dataset: Dataset, settings: Settings, network: keras.Model, source: str, command: str) -> dict[str, Any]:
    """What the exporter and the reader of a model card have to know."""
    return {
        "labels": list(dataset.labels),
        "input": {"size": settings.size, "channels": 1, "margin": dataset.margin, "scaling": "x/127.5-1"},
        "provenance": {
            "dataset": source,
            "images": {name: len(dataset.split(name)) for name in ("train", "validation", "test")},
            "left_out_of_training": dataset.left_out,
            "architecture": settings.backbone,
            "pretraining": _pretraining(Path(settings.weights)),
            "went_on_from": _teacher(Path(settings.weights)) if settings.weights.endswith(TRAINED) else {},
            "parameters": network.count_params(),
            "seed": settings.seed,
            "settings": asdict(settings)
            | {
                "weights": Path(settings.weights).name,
                "votes": Path(settings.votes).name,
                "teachers": [_short(Path(teacher)) for teacher in settings.teachers],
            },
            "teachers": [_teacher(Path(teacher)) for teacher in settings.teachers],
            "teachers_count_in": fast_dtype() if settings.teachers else "",
            "command": command,
            "commit": current_commit(),
            "keras": f"{keras.__version__} on {keras.backend.backend()}",
        },
    }


def _pretraining(weights: Path) -> str:
    """Where a network's first weights come from, and where those came from."""
    if weights.suffix not in TRAINED:
        return weights.name
    before = provenance_of(trained.read_card(weights)).get("pretraining", "not told")
    return f"{trained.name_of(weights)}, from {before}"


def _short(path: Path) -> str:
    return trained.name_of(path).removesuffix("/model.keras")


def _teacher(path: Path) -> dict[str, Any]:
    """Where a teacher, or what a training went on from, comes from: a network's rights and leaks are theirs too."""
    card = trained.read_card(path)
    told = provenance_of(card)
    return {
        key: told.get(key, "not told") for key in ("architecture", "pretraining", "dataset", "command", "commit")
    } | {
        "file": file_identity(str(path)),
        "validation_accuracy": card.get("selected", {}).get("validation_accuracy"),
        "left_out_of_training": told.get("left_out_of_training"),
        "went_on_from": told.get("went_on_from") or {},
        "teachers": told.get("teachers", []),
    }


def current_commit() -> str:
    """The commit that this code is at; `unknown` where it is installed without its history."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip()
