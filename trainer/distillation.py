"""What a student learns beside its labels: teachers' opinions of the view it sees, and people's votes on the face.

Teachers look at the same augmented and mixed view as the student (Beyer et al. 2022, "Knowledge distillation: a good
teacher is patient and consistent"), before it is blurred and noised for the student alone. Both are layers that hand
the logits through and add their loss while training, so that the finished network knows nothing of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
from keras import ops

from edge.errors import BadDataError
from trainer.folding import fast_dtype, fold
from trainer.fused_norm import fuse
from trainer.trained import open_trained
from trainer.votes import VOTED


class Panel:
    """Trained networks asked together.

    Not a Keras layer, and hence in no list of a model's weights: the teachers do not learn and are in no checkpoint.
    """

    def __init__(self, networks: Sequence[keras.Model]) -> None:
        for network in networks:
            network.trainable = False
        self._networks = tuple(networks)

    def shares(self, view: Any, temperature: float) -> Any:
        """Mean of the softened answers `float32[n, labels]` to faces `float32[n, size, size, 1]`, scaled as usual.

        A network that wants another size gets the view resized.
        """
        opinions = []
        for network in self._networks:
            side = network.input_shape[1]
            seen = view if side == view.shape[1] else ops.image.resize(view, (side, side), antialias=True)
            opinions.append(ops.softmax(network(seen, training=False) / temperature))
        return ops.stop_gradient(sum(opinions) / len(opinions))


def open_panel(paths: Sequence[str], labels: tuple[str, ...]) -> Panel:
    """Open teachers, folded: they answer as they were trained to, but for rounding.

    Raises:
        InputNotFoundError, BadDataError: one is not there, is damaged, or knows other labels.
    """
    networks = []
    for path in paths:
        network, card = open_trained(Path(path))
        known = tuple(card.get("labels", labels))
        if known != labels or network.output_shape[-1] != len(labels):
            raise BadDataError(
                f"{path}: this teacher knows the labels {', '.join(known)}; the data set has {', '.join(labels)}: name "
                "one that was trained on these, with the same --drop"
            )
        folded = fold(network, fast_dtype())
        fuse(folded)  # what could not be folded
        networks.append(folded)
    return Panel(networks)


class Distillation(keras.layers.Layer):
    """Draws a student's logits towards its teachers' while training (Hinton et al. 2015).

    Inputs: logits `float32[n, labels]`, the view `float32[n, size, size, 1]` and which of them count `float32[n]`, 1 or
    0. Returns the logits as they are. The loss is `weight` times the cross entropy of both answers softened by
    `temperature`, times its square, so that the gradient keeps its size at any temperature.
    """

    def __init__(self, panel: Panel, *, weight: float, temperature: float) -> None:
        super().__init__(name="distillation")
        self._panel, self._weight, self._temperature = panel, weight, temperature

    def call(self, inputs: tuple[Any, Any, Any], training: bool = False) -> Any:
        """Add the loss."""
        logits, view, counts = inputs
        if training:
            taught = self._panel.shares(view, self._temperature)
            surprise = ops.sum(-taught * ops.log_softmax(logits / self._temperature), axis=-1)
            self.add_loss(self._weight * self._temperature**2 * _mean(surprise, counts))
        return logits


class VotesHead(keras.layers.Layer):
    """A second head that learns FER+'s votes from the same features.

    Inputs: logits `float32[n, labels]`, features `float32[n, f]`, shares of votes `float32[n, 8]` (all 0: nobody
    voted) and which faces count `float32[n]`, 1 or 0. Returns the logits as they are; the loss is `weight` times the
    cross entropy of the votes.
    """

    def __init__(self, weight: float) -> None:
        super().__init__(name="votes_head")
        self._weight = weight
        self._head = keras.layers.Dense(len(VOTED), name="votes_logits")

    def build(self, shapes: Any) -> None:
        """Build the head."""
        self._head.build(shapes[1])
        self.built = True

    def call(self, inputs: tuple[Any, Any, Any, Any], training: bool = False) -> Any:
        """Add the loss."""
        logits, features, votes, counts = inputs
        if training:
            surprise = ops.sum(-votes * ops.log_softmax(self._head(features)), axis=-1)
            self.add_loss(self._weight * _mean(surprise, counts))
        return logits


def _mean(losses: Any, counts: Any) -> Any:
    return ops.sum(losses * counts) / ops.sum(counts)
