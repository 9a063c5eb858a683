"""Reads face data from the files that people have: FER2013's CSV under both its headers, an npz, picture folders."""

from __future__ import annotations

import csv
import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face
from edge.errors import BadDataError, InputNotFoundError
from edge.frame import Box
from edge.labels import FER2013_LABELS, check_labels
from edge.pictures import MAX_PIXELS, find_pictures, read_picture

FER2013_SIZE = 48
FER2013_COUNTS = (28_709, 3_589, 3_589)
"""Rows of Training, PublicTest and PrivateTest in Kaggle's file (Goodfellow et al. 2013)."""

_USAGES = {"Training": 0, "PublicTest": 1, "PrivateTest": 2}
SPLIT_FOLDERS = {
    "train": 0, "training": 0,
    "validation": 1, "valid": 1, "val": 1, "public": 1, "publictest": 1,
    "test": 2, "testing": 2, "private": 2, "privatetest": 2,
}  # fmt: skip
"""Names of folders, in lower case, that say which split lies in them: 0 to train on, 1 to choose on, 2 held out."""

PREPARED = "prepare.json"
"""What `mien-train prepare` tells of the faces in a folder."""

Progress = Callable[[int, int], None]
"""Called with bytes or files done and their total while a source is read."""

Raw = tuple[tuple[str, ...], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int8]]
"""Label names, images `uint8[n, size, size]`, labels `int64[n]`, usage `int8[n]` (0 to 2, -1 where not said)."""


def read_csv(path: Path, progress: Progress | None = None) -> Raw:
    """Read `fer2013.csv` or `icml_face_data.csv`, row by row.

    Raises:
        BadDataError: a row is not what it should be, the message names it; or the last one may have lost digits.
    """
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
            if images and pixels_at > max(emotion_at, usage_at):
                _refuse_lost_digits(path, raw)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(
            f"{path}: not a CSV of text ({error}); expected fer2013.csv, icml_face_data.csv, an .npz or a folder"
        ) from error
    if not images:
        raise BadDataError(f"{path}: no rows under the header; download fer2013.csv again")
    return (
        FER2013_LABELS,
        np.stack(images).reshape(-1, FER2013_SIZE, FER2013_SIZE),
        np.array(labels, dtype=np.int64),
        np.array(usage, dtype=np.int8),
    )


def _refuse_lost_digits(path: Path, raw: IO[bytes]) -> None:
    """A 12 at the very end may have been a 127: where pixels come last, only the line break shows that it is whole."""
    raw.seek(-1, os.SEEK_END)
    if raw.read(1) != b"\n":
        raise BadDataError(
            f"{path}: the last line has no line break, so its last pixel may have lost digits; "
            "download the file again, or end it with a line break if it is whole"
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


def read_npz(path: Path) -> Raw:
    """Read arrays `pixels` `uint8[n, size, size]`, `emotion`, `usage` and, where other than FER2013's, `labels`.

    Raises:
        BadDataError: an array is missing, does not fit the others, or is a pickle.
    """
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
    if not pixels.size:
        raise BadDataError(f"{path}: no image in it" + (", but rows without pixels" if len(pixels) else ""))
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


def read_folders(root: Path, size: int, progress: Progress | None = None) -> tuple[Raw, list[Path], int]:
    """Read `train/angry/*.png` or `angry/*.png`, each picture one face, brought to `size` as the daemon's crop does.

    Returns:
        The pictures, their paths within `root`, and the median of their shorter sides in pixels.

    Raises:
        InputNotFoundError: there is no picture.
        BadDataError: a picture cannot be read; the message names it.
    """
    files = list(_labelled_files(root))
    if not files:
        raise InputNotFoundError(f"{root}: no picture in it; expected folders such as train/angry/*.png or angry/*.png")
    names = class_names({label for _, label, _ in files}, f"{root}: folders")
    position = {name: number for number, name in enumerate(names)}
    images = np.empty((len(files), size, size), dtype=np.uint8)
    sides = []
    for number, (path, _, _) in enumerate(files):
        gray = read_picture(path).gray
        if max(gray.shape) ** 2 > MAX_PIXELS:  # a strip, whose square would fill the memory
            raise BadDataError(f"{path}: {gray.shape[1]} x {gray.shape[0]} pixels are no face; cut one out of it")
        sides.append(min(gray.shape))
        images[number] = crop_face(gray, Box(0, 0, gray.shape[1], gray.shape[0]), size)
        if progress and number % 64 == 0:
            progress(number, len(files))
    if progress:
        progress(len(files), len(files))
    labels = np.array([position[label] for _, label, _ in files], dtype=np.int64)
    usages = np.array([usage for _, _, usage in files], dtype=np.int8)
    inside = [path.relative_to(root) for path, _, _ in files]
    return (names, images, labels, usages), inside, int(np.median(sides))


def read_margin(root: Path) -> float:
    """What `mien-train prepare` cut the faces of a folder with; 1 where another program filled it.

    Raises:
        BadDataError: what it told of itself is damaged.
    """
    told = root / PREPARED
    if not told.exists():
        return 1.0
    try:
        search = json.loads(told.read_text(encoding="utf-8"))["search"]
        return 1.0 if search["whole"] else float(search["margin"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataError(
            f"{told}: damaged, or of another program; remove it where the faces are cut as FER2013's are"
        ) from error


def _labelled_files(root: Path) -> Iterator[tuple[Path, str, int]]:
    """Every picture with its label (its folder's name) and its split (-1 where no folder says)."""
    folders = _subfolders(root)
    known = [folder for folder in folders if folder.name.lower() in SPLIT_FOLDERS]
    if not known:
        yield from _class_files(folders, -1)
        return
    for folder in known:
        yield from _class_files(_subfolders(folder), SPLIT_FOLDERS[folder.name.lower()])


def _class_files(folders: Iterable[Path], usage: int) -> Iterator[tuple[Path, str, int]]:
    for folder in folders:
        if folder.name == "__MACOSX" or not any(not path.name.startswith(".") for path in folder.iterdir()):
            continue  # what macOS puts into archives; a class of which nothing is left in this split
        for path in find_pictures(folder):
            yield path, folder.name.strip().lower(), usage


def _subfolders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def class_names(found: set[str], where: str) -> tuple[str, ...]:
    """The labels found, in the order of the classes: FER2013's where all are among them, else that of the alphabet.

    Args:
        found: the labels.
        where: what messages call their origin.

    Raises:
        BadDataError: fewer than two labels of another set, or one that cannot be one.
    """
    return FER2013_LABELS if found <= set(FER2013_LABELS) else check_labels(sorted(found), where)
