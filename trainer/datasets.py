"""Face data sets in memory: three splits, cleaned of what would make a figure dishonest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.crop import resize_face
from edge.errors import BadDataError, InputNotFoundError, MienError, UsageError
from trainer.cache import cached
from trainer.duplicates import copied_from
from trainer.readers import FER2013_COUNTS, FER2013_SIZE, Progress, Raw, read_csv, read_folders, read_margin, read_npz

Key = Callable[[int], bytes]
"""Tells what an image of so many is known by, whatever its size."""

SPLITS = ("train", "validation", "test")


LARGE_FOR_A_FACE = 400
"""Pixels: data sets of faces have 48 to 250 a side, photos a thousand and more."""

NEAR = "near copies of a test split's"
"""Why strict cleaning leaves an image out."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split.

    Attributes:
        images: `uint8[n, size, size]`, grey.
        labels: `int64[n]`, positions in the data set's label names.
        rows: `int64[n]`, each image's place in its source, counted from 0.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: NDArray[np.bool_]) -> Split:
        """The images for which `mask` is true."""
        return Split(self.images[mask], self.labels[mask], self.rows[mask])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
        name: where it came from, for reports.
        labels: the classes' names.
        train, validation, test: FER2013's Training, PublicTest and PrivateTest.
        test_copied: `bool[len(test)]`, true where a test image also stands in the training split as it was read.
        left_out: how many training images cleaning left out, by reason. Empty before `clean`.
        warning: what its reader should be told before trusting it; empty where there is nothing.
        rows: how many rows its file has, whatever became of them; 0 for a folder, whose pictures have no order.
        margin: side of the cut-out square over the side of the face's box, as `edge.crop.crop_face` takes it.
        files: of a folder, where in it the picture of each row lies; empty for a file.
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    test_copied: NDArray[np.bool_]
    left_out: dict[str, int]
    warning: str = ""
    rows: int = 0
    margin: float = 1.0
    files: tuple[str, ...] = ()

    def split(self, name: str) -> Split:
        """The split called `train`, `validation` or `test`."""
        found: Split = getattr(self, name)
        return found


def load_dataset(
    source: Path, *, size: int = FER2013_SIZE, cache: bool = True, progress: Progress | None = None
) -> Dataset:
    """Read a CSV, an npz or a folder of images, whichever `source` is.

    Where nobody says which images are for testing, a hash of their names (in a folder) or contents deals them. So the
    others stay where they are, but for one or two of a label, when images come in later, whatever `size` is.

    Args:
        source: `fer2013.csv`, `icml_face_data.csv`, `*.npz` (pixels `uint8[n, 48, 48]`, emotion, usage), or a folder
            `train/angry/*.png` or `angry/*.png`.
        size: side in pixels that the images are brought to.
        cache: keep a parsed CSV under the user's cache folder and use it next time. Nothing else is ever copied there.
        progress: told how far reading is.

    Raises:
        InputNotFoundError: there is nothing at `source`, or the folder holds no picture.
        BadDataError: a row or file is not what it should be; the message names it.
    """
    try:
        if not source.exists():
            raise InputNotFoundError(
                f"{source}: no such file or folder; name fer2013.csv, icml_face_data.csv, an .npz or a folder of images"
            )
        (names, images, labels, usage), files, warning = _read(source, size, cache, progress)
    except OSError as error:
        if isinstance(error, MienError):
            raise
        raise InputNotFoundError(f"{source}: cannot be read ({error.strerror}); check its permissions") from error
    # What each image is told from the others by, whatever `size` is.
    usage = _complete_usage(usage, labels, lambda row: os.fsencode(files[row]) if files else images[row].tobytes())
    everything = Split(_resize_all(images, size), labels, np.arange(len(labels), dtype=np.int64))
    train, validation, test = _parts(source.name, everything, usage)
    dataset = Dataset(source.name, names, train, validation, test, copied_in(train, test), {}, warning, files=files)
    if source.is_dir():
        return replace(dataset, margin=read_margin(source))
    dataset = replace(dataset, rows=len(labels))
    if source.suffix.lower() == ".npz":
        return dataset
    return replace(dataset, warning=_unlike_fer2013(dataset))


def _unlike_fer2013(dataset: Dataset) -> str:
    """A file cut between two rows of its last split looks whole; only the counts tell."""
    counts = tuple(len(dataset.split(name)) for name in SPLITS)
    if counts == FER2013_COUNTS:
        return ""
    found, expected = ("/".join(f"{count:,}" for count in each) for each in (counts, FER2013_COUNTS))
    return (
        f"{dataset.name}: {found} rows of Training/PublicTest/PrivateTest, where FER2013 has {expected}; "
        "unless it is meant to differ, it was cut short: download it again"
    )


def _read(source: Path, size: int, cache: bool, progress: Progress | None) -> tuple[Raw, tuple[str, ...], str]:
    """What is there; of a folder its files, in the order of the images, and a warning where they are no faces."""
    if source.is_dir():
        raw, files, side = read_folders(source, size, progress)
        return raw, tuple(map(str, files)), _too_large(source.name, side)
    if source.suffix.lower() == ".npz":
        return read_npz(source), (), ""
    read = partial(read_csv, source, progress)
    return cached(source, read) if cache else read(), (), ""


def _too_large(name: str, side: int) -> str:
    if side < LARGE_FOR_A_FACE:
        return ""
    return (
        f"{name}: half of its pictures have {side} pixels or more a side; where they are photos and not faces cut out "
        "of them, mien-train prepare finds and cuts those"
    )


def _parts(name: str, everything: Split, usage: NDArray[np.int8]) -> tuple[Split, Split, Split]:
    train, validation, test = (everything.where(usage == number) for number in range(3))
    for split, part in zip(SPLITS, (train, validation, test), strict=True):
        if not len(part):
            raise BadDataError(f"{name}: no image for the {split} split; is the file cut short or a folder missing?")
    return train, validation, test


def _complete_usage(usage: NDArray[np.int8], labels: NDArray[np.int64], key: Key) -> NDArray[np.int8]:
    """Split what no one has split yet: 80:10:10, or 90:10 where a test split is there. Stratified by label."""
    usage = usage.copy()
    if (usage < 0).any():
        open_rows, shares = usage < 0, [(2, 0.1), (1, 0.1)]
    elif not (usage == 1).any() and (usage == 2).any():
        open_rows, shares = usage == 0, [(1, 0.1)]
    else:
        return usage
    usage[open_rows] = 0
    # No shuffling: one image more would deal out all of them anew, and test networks on what they were trained with.
    _deal(usage, np.array(sorted(np.flatnonzero(open_rows), key=lambda row: _digest(key(int(row))))), labels, shares)
    return usage


def _deal(
    usage: NDArray[np.int8], order: NDArray[np.int64], labels: NDArray[np.int64], shares: list[tuple[int, float]]
) -> None:
    """Give shares of each label's rows in `order`, the first of them, to splits, in place.

    Args:
        usage: `int8[n]`.
        order: rows that are to be dealt.
        labels: `int64[n]`.
        shares: the splits' numbers and shares.
    """
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        start = 0
        for number, share in shares:
            count = round(len(rows) * share)
            usage[rows[start : start + count]] = number
            start += count


def drop_labels(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Leave some classes out of all splits and number the others anew, in their order.

    Args:
        dataset: split already, so that who tests does not depend on what is dropped.
        names: labels of `dataset`, in upper or lower case; none: it comes back as it is.

    Raises:
        UsageError: a label that is not there, fewer than two left, or a split without an image.
    """
    if not names:
        return dataset
    spelled = {label.casefold(): label for label in dataset.labels}
    names = [name if name in dataset.labels else spelled.get(name.casefold(), name) for name in names]
    there = f"{dataset.name} has the labels {', '.join(dataset.labels)}"
    for name in names:
        if name not in dataset.labels:
            raise UsageError(f"cannot drop {name!r}: {there}")
    kept = tuple(label for label in dataset.labels if label not in names)
    if len(kept) < 2:
        raise UsageError(f"cannot drop {', '.join(names)}: {there}, and at least two must stay")
    number = np.array([kept.index(label) if label in kept else -1 for label in dataset.labels], dtype=np.int64)
    parts = []
    for split in SPLITS:
        part = dataset.split(split)
        part = replace(part, labels=number[part.labels])
        parts.append(part.where(part.labels >= 0))
        if not len(parts[-1]):
            raise UsageError(f"cannot drop {', '.join(names)}: no image of the {split} split of {dataset.name} is left")
    train, validation, test = parts
    return replace(
        dataset,
        name=f"{dataset.name} without {', '.join(label for label in dataset.labels if label in names)}",
        labels=kept,
        train=train,
        validation=validation,
        test=test,
        test_copied=dataset.test_copied[number[dataset.test.labels] >= 0],
    )


def labelled_for(dataset: Dataset, known: Sequence[str] | None) -> Dataset:
    """Bring a data set's labels to those of the network that it is for, or that is to be trained on it.

    A folder is read with all of FER2013's labels where its own are among them. Those of which it has no image leave
    it, so that `happy/` and `sad/` alone make a network of two, unless the network knows them.

    Args:
        dataset: any. A file is to have all of its labels, and keeps them.
        known: the network's labels, whose order is taken over where they are the same; None: it is yet to be trained.
    """
    found = set(pooled(dataset).labels.tolist())
    kept = [label for number, label in enumerate(dataset.labels) if number in found or label in (known or ())]
    if dataset.rows == 0 and len(kept) >= 2:
        dataset = replace(drop_labels(dataset, sorted({*dataset.labels} - {*kept})), name=dataset.name)
    if known is None or set(known) != set(dataset.labels):
        return dataset
    number = np.array([known.index(label) for label in dataset.labels], dtype=np.int64)
    train, validation, test = (
        replace(split, labels=number[split.labels]) for split in (dataset.train, dataset.validation, dataset.test)
    )
    return replace(dataset, labels=tuple(known), train=train, validation=validation, test=test)


def resplit(dataset: Dataset, shares: tuple[float, float, float], seed: int) -> Dataset:
    """Pool all three splits and deal them out anew, at random, each label by itself.

    Exact copies are dealt like any other image, as in the literature: `test_copied` says how many tests that spoils.

    Args:
        dataset: not cleaned; its own splits are forgotten.
        shares: of the train, validation and test split, which sum to 1.
        seed: deals.

    Raises:
        BadDataError: there are too few images for a split.
    """
    pool = pooled(dataset)
    usage = np.zeros(len(pool), dtype=np.int8)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(np.flatnonzero(pool.labels == label)) for label in np.unique(pool.labels)])
    _deal(usage, order, pool.labels, [(2, shares[2]), (1, shares[1])])
    train, validation, test = _parts(dataset.name, pool, usage)
    return replace(
        dataset, train=train, validation=validation, test=test, test_copied=copied_in(train, test), left_out={}
    )


def pooled(dataset: Dataset) -> Split:
    """All images, whatever their split."""
    parts = [dataset.split(name) for name in SPLITS]
    return Split(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.rows for part in parts]),
    )


def copied_in(train: Split, test: Split) -> NDArray[np.bool_]:
    """`bool[len(test)]`: true where exactly the same image stands in `train`, whatever its label there."""
    in_train = set(_digests(train.images))
    return np.array([digest in in_train for digest in _digests(test.images)], dtype=bool)


def unique_images(split: Split) -> int:
    """How many different images there are."""
    return len(set(_digests(split.images)))


def clean(dataset: Dataset, *, strictly: bool = False, progress: Progress | None = None) -> Dataset:
    """Leave out of training what must not be there; the other splits stay as they are, so that figures compare.

    Left out are blank images, images that stand in the validation or test split too, all but the first of exact
    duplicates, and all of those whose copies carry different labels.

    Args:
        dataset: any.
        strictly: leave out too what is the same photo as one of the validation or test split in another encoding, size
            or cut (`trainer.duplicates`). FER2013's training has some hundreds of these.
        progress: told how many faces were compared for that.

    Raises:
        BadDataError: that is all of them.
    """
    train = dataset.train
    digests = _digests(train.images)
    blank = train.images.reshape(len(train), -1).min(axis=1) == train.images.reshape(len(train), -1).max(axis=1)
    held_out = set(_digests(dataset.validation.images)) | set(_digests(dataset.test.images))
    leaked = np.array([digest in held_out for digest in digests], dtype=bool)
    numbers: dict[bytes, int] = {}
    # Not an array of the digests themselves: numpy drops the zeros at the end of bytes.
    group = np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64)
    _, first = np.unique(group, return_index=True)
    repeated = np.ones(len(train), dtype=bool)
    repeated[first] = False
    conflicting = train.labels != train.labels[first][group]
    conflicting = np.isin(group, group[conflicting])

    keep = np.ones(len(train), dtype=bool)
    left_out: dict[str, int] = {}
    reasons = {
        "blank": blank,
        "also in a test split": leaked,
        "duplicates with conflicting labels": conflicting,
        "exact duplicates": repeated,
    }
    if strictly:
        reasons[NEAR] = copied_from(
            train.images, np.concatenate([dataset.validation.images, dataset.test.images]), progress
        )
    for reason, mask in reasons.items():
        left_out[reason] = int((keep & mask).sum())
        keep &= ~mask
    if not keep.any():
        why = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise BadDataError(
            f"{dataset.name}: cleaning leaves no image to train on ({why}); give other data, or fit with --keep-copies"
        )
    return replace(dataset, train=train.where(keep), left_out=left_out)


def _digests(images: NDArray[np.uint8]) -> list[bytes]:
    return [_digest(image.tobytes()) for image in images]


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _resize_all(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if images.shape[1:] == (size, size):
        return images
    return np.stack([resize_face(image, size) for image in images])
