"""Deals faces to training, validation and test so that what belongs together, such as one person, stays together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

OPEN = -1
"""In an array of splits: nobody has said."""


def split_groups(
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    given: NDArray[np.int8],
    shares: Sequence[float],
    seed: int,
) -> NDArray[np.int8]:
    """Deal whole groups to three splits, each label in the same shares as far as the groups allow it.

    What is given stays, and a group that has some faces in a given split goes there as a whole. What is open is dealt
    out; where nothing is, a split that has no face at all is taken from the training split.

    Args:
        labels: `int64[n]`, from 0.
        groups: `int64[n]`, from 0; faces of one group never stand in two splits, unless they are given so.
        given: `int8[n]`, 0 training, 1 validation, 2 test, `OPEN` where nobody has said.
        shares: of the three splits, which sum to 1.
        seed: decides among groups that would do equally well.

    Returns:
        `int8[n]`, 0 to 2. A split gets nothing where there are fewer groups than splits.
    """
    told = given != OPEN
    of_group = np.full(int(groups.max()) + 1, OPEN, dtype=np.int8)
    of_group[groups[told]] = given[told]
    splits = np.where(told, given, of_group[groups])
    missing = [split for split in range(3) if not (splits == split).any()]
    wanted = np.array(shares, dtype=np.float64)
    if not (splits == OPEN).any():
        if not missing or 0 in missing:
            return splits
        splits[splits == 0] = OPEN
        wanted = np.array([share if split in missing else 0.0 for split, share in enumerate(shares)])
        wanted[0] = 1.0 - wanted.sum()
    places = np.flatnonzero(splits == OPEN)
    names, position = np.unique(groups[places], return_inverse=True)
    counts = np.zeros((len(names), int(labels.max()) + 1))
    np.add.at(counts, (position, labels[places]), 1)
    splits[places] = _deal(counts, wanted, seed)[position]
    return splits


def _deal(counts: NDArray[np.float64], shares: NDArray[np.float64], seed: int) -> NDArray[np.int8]:
    """Give each group, the largest first, to the split that lacks most of what is in it.

    Args:
        counts: `float64[groups, labels]`.
        shares: `float64[3]`.
        seed: orders groups of equal size.
    """
    total = counts.sum(axis=0)
    weight = 1 / total.clip(1)  # a rare label counts as much as a common one
    lacking = shares[:, None] * total
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    dealt = np.zeros(len(counts), dtype=np.int8)
    empty = {split for split in range(3) if shares[split] > 0}
    for done, group in enumerate(order):
        # Of equals the split that lacks most of all labels, so that rounding does not favour one of them.
        score = lacking @ (counts[group] * weight) + 1e-6 * (lacking @ weight)
        score[shares == 0] = -np.inf
        if len(order) - done <= len(empty):  # better a split that is too large than one without a face
            score[[split for split in range(3) if split not in empty]] = -np.inf
        split = int(np.argmax(score))
        dealt[group] = split
        lacking[split] -= counts[group]
        empty.discard(split)
    return dealt
