"""Face data sets as people have them, read into memory once and cleaned of what would make a figure dishonest.

Readers for FER2013's CSV in both its headers, image folders of any labels, and an npz. All give the same value, a
`Dataset` of three `Split`s. Reading knows nothing of networks.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face, resize_face
from edge.errors import BadDataError, InputNotFoundError, MienError
from edge.frame import Box
from edge.labels import FER2013_LABELS, check_labels
from edge.pictures import find_pictures, read_picture

SPLITS = ("train", "validation", "test")
FER2013_SIZE = 48
_USAGES = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
_SPLIT_FOLDERS = {
    "train": 0, "training": 0,
    "validation": 1, "valid": 1, "val": 1, "public": 1, "publictest": 1,
    "test": 2, "testing": 2, "private": 2, "privatetest": 2,
}  # fmt: skip
_CACHE_VERSION = 2


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
    """

    name: str
    labels: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    test_copied: NDArray[np.bool_]
    left_out: dict[str, int]

    def split(self, name: str) -> Split:
        """The split called `train`, `validation` or `test`."""
        found: Split = getattr(self, name)
        return found


Progress = Callable[[int, int], None]
"""Called with bytes or files done and their total while a source is read."""


def load_dataset(
    source: Path, *, size: int = FER2013_SIZE, seed: int = 0, cache: bool = True, progress: Progress | None = None
) -> Dataset:
    """Read a CSV, an npz or a folder of images, whichever `source` is.

    Args:
        source: `fer2013.csv`, `icml_face_data.csv`, `*.npz` (pixels `uint8[n, 48, 48]`, emotion, usage), or a folder
            `train/angry/*.png` or `angry/*.png`.
        size: side in pixels that the images are brought to.
        seed: decides who goes where in a folder that does not say which images are for testing.
        cache: keep a parsed CSV or folder under the user's cache folder and use it next time.
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
        names, images, labels, usage = _read(source, size, cache, progress)
    except OSError as error:
        if isinstance(error, MienError):
            raise
        raise InputNotFoundError(f"{source}: cannot be read ({error.strerror}); check its permissions") from error
    return _assemble(source.name, names, _resize_all(images, size), labels, usage, seed)


Raw = tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int8]]
"""Label names, images `uint8[n, size, size]`, labels `int64[n]`, usage `int8[n]` (0 to 2, -1 where not said)."""


def _read(source: Path, size: int, cache: bool, progress: Progress | None) -> Raw:
    if source.is_dir():
        stamp = _folder_stamp(source)
        return _cached(source, size, stamp, cache, lambda: _read_folders(source, size, progress))
    if source.suffix.lower() == ".npz":
        return _read_npz(source)
    stat = source.stat()
    stamp = f"{stat.st_size}-{stat.st_mtime_ns}"
    return _cached(source, FER2013_SIZE, stamp, cache, lambda: _read_csv(source, progress))


def _assemble(
    name: str,
    names: tuple[str, ...],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    usage: NDArray[np.int8],
    seed: int,
) -> Dataset:
    usage = _complete_usage(usage, labels, seed)
    rows = np.arange(len(labels), dtype=np.int64)
    everything = Split(images, labels, rows)
    train, validation, test = (everything.where(usage == number) for number in range(3))
    for split, part in zip(SPLITS, (train, validation, test), strict=True):
        if not len(part):
            raise BadDataError(f"{name}: no image for the {split} split; is the file cut short or a folder missing?")
    in_train = set(_digests(train.images))
    copied = np.array([digest in in_train for digest in _digests(test.images)], dtype=bool)
    return Dataset(name, names, train, validation, test, copied, {})


def _complete_usage(usage: NDArray[np.int8], labels: NDArray[np.int64], seed: int) -> NDArray[np.int8]:
    """Split what no one has split yet: 80:10:10, or 90:10 where a test split is there. Stratified by label."""
    usage = usage.copy()
    rng = np.random.default_rng(seed)
    if (usage < 0).any():
        open_rows, shares = usage < 0, [(2, 0.1), (1, 0.1)]
    elif not (usage == 1).any() and (usage == 2).any():
        open_rows, shares = usage == 0, [(1, 0.1)]
    else:
        return usage
    usage[open_rows] = 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(open_rows & (labels == label)))
        start = 0
        for number, share in shares:
            count = round(len(rows) * share)
            usage[rows[start : start + count]] = number
            start += count
    return usage


def clean(dataset: Dataset) -> Dataset:
    """Leave out of training what must not be there; the other splits stay as they are, so that figures compare.

    Left out are blank images, images that stand in the validation or test split too, all but the first of exact
    duplicates, and all of those whose copies carry different labels.
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
    left_out = {}
    for reason, mask in (
        ("blank", blank),
        ("also in a test split", leaked),
        ("duplicates with conflicting labels", conflicting),
        ("exact duplicates", repeated),
    ):
        left_out[reason] = int((keep & mask).sum())
        keep &= ~mask
    return replace(dataset, train=train.where(keep), left_out=left_out)


def _digests(images: NDArray[np.uint8]) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _resize_all(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if images.shape[1:] == (size, size):
        return images
    return np.stack([resize_face(image, size) for image in images])


# --- CSV -------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, progress: Progress | None) -> Raw:
    total = path.stat().st_size
    images, labels, usage = [], [], []
    try:
        with path.open("rb") as raw:
            reader = csv.reader(_decoded_lines(raw, total, progress))
            emotion_at, usage_at, pixels_at = _csv_columns(path, next(reader, []))
            for row, fields in enumerate(filter(None, reader), start=1):  # editors leave empty lines
                where = f"{path}: row {row} (line {reader.line_num})"
                if len(fields) <= max(emotion_at, usage_at, pixels_at):
                    raise BadDataError(
                        f"{where}: {len(fields)} fields, expected emotion, pixels and Usage; is the file cut short?"
                    )
                images.append(_parse_pixels(where, fields[pixels_at]))
                labels.append(_parse_emotion(where, fields[emotion_at]))
                usage.append(_parse_usage(where, fields[usage_at]))
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{path}: not a CSV of text ({error})") from error
    if not images:
        raise BadDataError(f"{path}: no rows under the header; download fer2013.csv again")
    return (
        FER2013_LABELS,
        np.stack(images).reshape(-1, FER2013_SIZE, FER2013_SIZE),
        np.array(labels, dtype=np.int64),
        np.array(usage, dtype=np.int8),
    )


def _decoded_lines(raw: IO[bytes], total: int, progress: Progress | None) -> Iterator[str]:
    done = 0
    for number, line in enumerate(raw):
        done += len(line)
        if progress and number % 256 == 0:
            progress(done, total)
        yield line.decode("utf-8-sig" if number == 0 else "utf-8")
    if progress:
        progress(total, total)


def _csv_columns(path: Path, header: list[str]) -> tuple[int, int, int]:
    """Where emotion, Usage and pixels stand: icml_face_data.csv has them in another order, with spaces."""
    names = [name.strip().lower() for name in header]
    try:
        return names.index("emotion"), names.index("usage"), names.index("pixels")
    except ValueError:
        raise BadDataError(
            f"{path}: line 1 must name the columns emotion, pixels and Usage "
            f"(it names {', '.join(header)[:80] or 'nothing'})"
        ) from None


def _parse_pixels(where: str, field: str) -> NDArray[np.uint8]:
    expected = FER2013_SIZE * FER2013_SIZE
    try:
        values = np.array(field.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise BadDataError(f"{where}: pixels must be whole numbers 0 to 255 with spaces between them") from None
    if len(values) != expected:
        raise BadDataError(f"{where}: {len(values)} pixels, expected {expected} (48 x 48)")
    if values.min() < 0 or values.max() > 255:
        raise BadDataError(f"{where}: a pixel of {values[(values < 0) | (values > 255)][0]}, expected 0 to 255")
    return values.astype(np.uint8)


def _parse_emotion(where: str, field: str) -> int:
    text = field.strip()
    if not re.fullmatch(r"[0-9]", text) or int(text) >= len(FER2013_LABELS):
        names = ", ".join(f"{number} {name}" for number, name in enumerate(FER2013_LABELS))
        raise BadDataError(f"{where}: emotion {text!r:.40}, expected one of {names}")
    return int(text)


def _parse_usage(where: str, field: str) -> int:
    try:
        return _USAGES[field.strip()]
    except KeyError:
        raise BadDataError(
            f"{where}: Usage {field.strip()!r:.40}, expected {', '.join(_USAGES)}; is the file cut short?"
        ) from None


# --- npz -------------------------------------------------------------------------------------------------------------


def _read_npz(path: Path) -> Raw:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            missing = {"pixels", "emotion", "usage"} - set(arrays.files)
            if missing:
                raise BadDataError(
                    f"{path}: array {sorted(missing)[0]!r} is missing; expected pixels, emotion and usage"
                )
            pixels, emotion, usage = (arrays[key] for key in ("pixels", "emotion", "usage"))
            names = (
                check_labels([str(name) for name in arrays["labels"]], f"{path}: labels")
                if "labels" in arrays.files
                else FER2013_LABELS
            )
    except TypeError as error:
        raise BadDataError(f"{path}: one bare array, not an npz of pixels, emotion and usage") from error
    except ValueError as error:
        if isinstance(error, BadDataError):
            raise
        raise BadDataError(
            f"{path}: holds pickled Python objects, which could run code and are refused; save plain arrays"
            if "pickle" in str(error).lower()
            else f"{path}: not a readable npz ({error})"
        ) from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BadDataError(f"{path}: not a readable npz, or cut short ({error})") from error
    if pixels.ndim != 3 or pixels.shape[1] != pixels.shape[2] or pixels.dtype != np.uint8:
        raise BadDataError(f"{path}: pixels are {pixels.dtype}{list(pixels.shape)}, expected uint8[n, size, size]")
    if not len(pixels):
        raise BadDataError(f"{path}: no image in it")
    if emotion.shape != pixels.shape[:1] or usage.shape != pixels.shape[:1]:
        raise BadDataError(
            f"{path}: {len(pixels)} images, but emotion is {list(emotion.shape)} and usage {list(usage.shape)}"
        )
    for key, array, limit in (("emotion", emotion, len(names)), ("usage", usage, 3)):
        if array.dtype.kind not in "iu":
            raise BadDataError(f"{path}: {key} is {array.dtype}, expected whole numbers")
        wrong = np.flatnonzero((array < 0) | (array >= limit))
        if len(wrong):
            raise BadDataError(f"{path}: row {wrong[0]}: {key} {array[wrong[0]]}, expected 0 to {limit - 1}")
    return names, pixels, emotion.astype(np.int64), usage.astype(np.int8)


# --- folders ---------------------------------------------------------------------------------------------------------


def _read_folders(root: Path, size: int, progress: Progress | None) -> Raw:
    files = list(_labelled_files(root))
    if not files:
        raise InputNotFoundError(f"{root}: no picture in it; expected folders such as train/angry/*.png or angry/*.png")
    names = _label_names({label for _, label, _ in files}, f"{root}: folders")
    position = {name: number for number, name in enumerate(names)}
    images = np.empty((len(files), size, size), dtype=np.uint8)
    for number, (path, _, _) in enumerate(files):
        gray = read_picture(path).gray
        images[number] = crop_face(gray, Box(0, 0, gray.shape[1], gray.shape[0]), size)
        if progress and number % 64 == 0:
            progress(number, len(files))
    if progress:
        progress(len(files), len(files))
    labels = np.array([position[label] for _, label, _ in files], dtype=np.int64)
    return names, images, labels, np.array([usage for _, _, usage in files], dtype=np.int8)


def _labelled_files(root: Path) -> Iterator[tuple[Path, str, int]]:
    """Every picture with its label (its folder's name) and its split (-1 where no folder says)."""
    folders = _subfolders(root)
    known = [folder for folder in folders if folder.name.lower() in _SPLIT_FOLDERS]
    if not known:
        yield from _class_files(folders, -1)
        return
    for folder in known:
        yield from _class_files(_subfolders(folder), _SPLIT_FOLDERS[folder.name.lower()])


def _class_files(folders: Iterable[Path], usage: int) -> Iterator[tuple[Path, str, int]]:
    for folder in folders:
        for path in find_pictures(folder):
            yield path, folder.name.lower(), usage


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _label_names(found: set[str], where: str) -> tuple[str, ...]:
    return FER2013_LABELS if found <= set(FER2013_LABELS) else check_labels(sorted(found), where)


def _folder_stamp(root: Path) -> str:
    """Changes when a file below `root` is added, removed or changed."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*")):
        stat = path.stat()
        digest.update(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


# --- cache -----------------------------------------------------------------------------------------------------------


def _cached(source: Path, size: int, stamp: str, enabled: bool, read: Callable[[], Raw]) -> Raw:
    """What `read` gives, from the cache where `source` has not changed since."""
    if not enabled:
        return read()
    key = hashlib.sha256(f"{_CACHE_VERSION}\0{source.resolve()}\0{size}".encode()).hexdigest()[:24]
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["stamp"]) == stamp:
                return tuple(map(str, arrays["names"])), arrays["images"], arrays["labels"], arrays["usage"]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or damaged: the source decides
    names, images, labels, usage = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
        np.savez(partial, stamp=np.array(stamp), names=np.array(names), images=images, labels=labels, usage=usage)
        partial.replace(path)
    except OSError as error:
        print(f"note: {path.parent}: nothing cached ({error.strerror})", file=sys.stderr)
    return names, images, labels, usage
