"""Which parts of the face each expression hangs on: occlusion sensitivity.

A grey patch slides over each face; what the right answer's probability loses tells how much the network needs what lies
below (Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PATCH = 1 / 4
"""Side of the patch, as a share of the face's: about an eye with its brow."""

STEPS = 8
"""Places of the patch along each side; at 48 px they are 6 px apart."""

_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """Averages over faces, by their true label.

    Attributes:
        drop: `float64[labels, STEPS, STEPS]`, what the true label's probability loses with the patch there; negative
            where it gains. 0 for labels without a face.
        count: `int64[labels]`, faces averaged over.
    """

    drop: NDArray[np.float64]
    count: NDArray[np.int64]


def places(size: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns below each place of the patch, from left to right and then down; cut off at the border."""
    half = max(1, round(size * PATCH / 2))
    middles = [round(size * (step + 0.5) / STEPS) for step in range(STEPS)]
    spans = [slice(max(0, middle - half), middle + half) for middle in middles]
    return ((rows, columns) for rows in spans for columns in spans)


def occluded(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A face `uint8[size, size]` with the patch in each place, `uint8[STEPS * STEPS, size, size]`.

    The patch has the face's own mean grey, so that it tells nothing of its own.
    """
    views = np.repeat(face[np.newaxis], STEPS * STEPS, axis=0)
    grey = round(float(face.mean()))
    for view, (rows, columns) in zip(views, places(face.shape[0]), strict=True):
        view[rows, columns] = grey
    return views


def choose(truth: NDArray[np.int64], labels: int, each: int, seed: int) -> NDArray[np.int64]:
    """Places of up to `each` random faces of every label."""
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(np.flatnonzero(truth == number))[:each] for number in range(labels)])


def measure(
    faces: NDArray[np.uint8],
    truth: NDArray[np.int64],
    before: NDArray[np.floating],
    ask: Callable[[NDArray[np.uint8]], NDArray[np.floating]],
) -> Sensitivity:
    """Slide the patch over every face.

    Args:
        faces: `uint8[n, size, size]`.
        truth: `int64[n]`.
        before: `float[n, labels]`, the probabilities of the uncovered faces.
        ask: gives the probabilities `float[m, labels]` of faces `uint8[m, size, size]`.
    """
    labels, cells = before.shape[1], STEPS * STEPS
    drop, count = np.zeros((labels, cells)), np.bincount(truth, minlength=labels)
    together = max(1, _AT_ONCE // cells)
    for start in range(0, len(faces), together):
        some = slice(start, start + together)
        after = ask(np.concatenate([occluded(face) for face in faces[some]])).reshape(-1, cells, labels)
        for number, true, sure in zip(range(len(after)), truth[some], before[some], strict=True):
            drop[true] += sure[true] - after[number, :, true]
    return Sensitivity((drop / np.maximum(count, 1)[:, np.newaxis]).reshape(-1, STEPS, STEPS), count)
