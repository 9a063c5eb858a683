"""Which photos there are, and of each its label, its split and who is on it: from folders or from a CSV."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edge.errors import BadDataError, InputNotFoundError
from edge.pictures import by_number, is_picture
from trainer.datasets import SPLITS
from trainer.readers import SPLIT_FOLDERS, class_names

FOLDER = "folder"
"""Says that the folder below the label's is the person's."""

NOT_A_PICTURE = "not a picture"
NO_LABEL = "no label"
SEEN_ALREADY = "folder seen already"
UNREADABLE = "unreadable"

Who = str | re.Pattern[str] | None
"""How to tell who is on a photo: `FOLDER`, a pattern, or not at all."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A picture file and what is said of it.

    Attributes:
        path: the file.
        name: its path below the folder of all photos, with "/" between the parts.
        label: in lower case, as `mien-train fit` reads it.
        split: one of `SPLITS`, empty where nobody says.
        person: who is on it, empty where nobody says.
        row: where a CSV names it, for messages; empty else.
    """

    path: Path
    name: str
    label: str
    split: str = ""
    person: str = ""
    row: str = ""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file of which no face is made.

    Attributes:
        name: see `Photo`.
        reason: in two or three words.
        detail: more, where there is more.
        photo: what is said of it, where it is a photo with a label.
    """

    name: str
    reason: str
    detail: str = ""
    photo: Photo | None = None


Listing = tuple[list[Photo], list[LeftOut]]


def list_photos(
    root: Path, *, table: Path | None = None, label: re.Pattern[str] | None = None, person: Who = None
) -> Listing:
    """All photos in a folder and below, or those that a CSV names.

    Args:
        root: holds folders with the labels' names, or `train`, `validation` and `test` with such folders in them.
            Links are followed, each folder is read once, and hidden files and folders are passed over.
        table: a CSV with the columns path (below `root`) and label and, where wanted, person and split.
        label: finds the label in a file's name, or in its path below `root` where the pattern has a "/" in it.
        person: the same for the person; `FOLDER`: the first folder of the path after those of split and label.

    Returns:
        The photos in the order of their names (of the CSV), and what is none.

    Raises:
        InputNotFoundError: the folder or the CSV is not there or cannot be read.
        BadDataError: a row is not what it should be, a pattern fits nothing, a label cannot be one, one person is
            said to stand in two splits; the message names it.
    """
    if not root.is_dir():
        raise InputNotFoundError(f"{root}: no such folder; name the folder that holds the photos")
    photos, others = _from_folders(root, label, person) if table is None else _from_table(root, table, label, person)
    _refuse_useless_pattern("--label", label, [photo.label for photo in photos], photos)
    if isinstance(person, re.Pattern):
        _refuse_useless_pattern("--person", person, [photo.person for photo in photos], photos)
    others += [LeftOut(photo.name, NO_LABEL) for photo in photos if not photo.label]
    photos = [photo for photo in photos if photo.label]
    where = str(table or root)
    if not photos:
        raise InputNotFoundError(
            f"{where}: no photo with a label in it; expected folders such as happy/*.jpg or train/happy/*.jpg, or "
            "--csv with the columns path and label"
        )
    for photo in photos:
        if "/" in photo.label or photo.label.startswith("."):
            raise BadDataError(f"{photo.row or photo.name}: label {photo.label!r} cannot be a folder's name")
    class_names({photo.label for photo in photos}, f"{where}: labels")
    _refuse_torn_persons(photos)
    return photos, others


def _from_folders(root: Path, label: re.Pattern[str] | None, person: Who) -> Listing:
    photos: list[Photo] = []
    others: list[LeftOut] = []
    for found in _walk(root):
        if isinstance(found, LeftOut):
            others.append(found)
            continue
        folders = list(PurePosixPath(found).parts[:-1])
        split = SPLITS[SPLIT_FOLDERS[folders.pop(0).lower()]] if folders and folders[0].lower() in SPLIT_FOLDERS else ""
        if label is not None:
            said = _find(label, found)
        else:
            said = folders.pop(0) if folders else ""
        who = _person(person, found, folders)
        photos.append(Photo(root / found, found, said.strip().lower(), split, who))
    return photos, others


def _walk(root: Path) -> Iterator[str | LeftOut]:
    """The names of all pictures below a folder, and what is none."""
    troubles: list[OSError] = []
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=troubles.append, followlinks=True):
        place = Path(folder).relative_to(root)
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            yield LeftOut(place.as_posix(), SEEN_ALREADY, "a link leads to it")
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted((place / name for name in files if not name.startswith(".")), key=by_number):
            yield file.as_posix() if is_picture(file) else LeftOut(file.as_posix(), NOT_A_PICTURE, file.suffix.lower())
    for trouble in troubles:
        name = Path(trouble.filename).relative_to(root).as_posix()
        yield LeftOut(name, UNREADABLE, f"{trouble.filename}: cannot be read ({trouble.strerror})")


def _from_table(root: Path, table: Path, label: re.Pattern[str] | None, person: Who) -> Listing:
    photos: list[Photo] = []
    others: list[LeftOut] = []
    rows: dict[str, str] = {}
    for where, fields in _rows(table, needed=("path",) if label else ("path", "label")):
        name = _name_below(root, fields["path"], where)
        if name in rows:
            raise BadDataError(f"{where}: {name} stands in {rows[name]} already; give each photo one row")
        rows[name] = where
        if not is_picture(Path(name)):
            others.append(LeftOut(name, NOT_A_PICTURE, Path(name).suffix.lower()))
            continue
        split = fields.get("split", "").lower()
        if split and split not in SPLIT_FOLDERS:
            raise BadDataError(f"{where}: split {split!r:.40}, expected {', '.join(SPLITS)}, or nothing")
        said = _find(label, name) if label else fields["label"]
        folders = list(PurePosixPath(name).parts[:-1])
        who = fields.get("person", "") if person is None else _person(person, name, folders)
        split = SPLITS[SPLIT_FOLDERS[split]] if split else ""
        photos.append(Photo(root / name, name, said.lower(), split, who, row=where))
    return photos, others


def _rows(table: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Every row's place, for messages, and its fields by the columns' names in lower case."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            sign = max(",;\t", key=header.count)  # spreadsheets write what their country has
            columns = [name.strip().lower() for name in next(csv.reader([header], delimiter=sign), [])]
            for name in needed:
                if name not in columns:
                    raise BadDataError(
                        f"{table}: line 1 must name the columns path and label, and may name person and split "
                        f"(it names {', '.join(columns)[:80] or 'nothing'})"
                    )
            reader = csv.reader(file, delimiter=sign)
            for row, fields in enumerate(filter(None, reader), start=1):
                where = f"{table}: row {row} (line {reader.line_num + 1})"
                if len(fields) < len(columns):
                    raise BadDataError(f"{where}: {len(fields)} fields, expected {len(columns)} ({', '.join(columns)})")
                yield where, {name: field.strip() for name, field in zip(columns, fields, strict=False)}
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataError(f"{table}: not a CSV of text ({error}); save it as CSV in UTF-8") from error
    except FileNotFoundError:
        raise InputNotFoundError(f"{table}: not there; check --csv") from None
    except OSError as error:
        raise InputNotFoundError(f"{table}: cannot be read ({error.strerror}); check --csv") from error


def _name_below(root: Path, field: str, where: str) -> str:
    if not field:
        raise BadDataError(f"{where}: path is empty")
    if "\0" in field:
        raise BadDataError(f"{where}: path {field!r:.80} cannot be a file's name")
    path = os.path.relpath(field, root.absolute()) if Path(field).is_absolute() else os.path.normpath(field)
    name = Path(path).as_posix()
    if name == ".." or name.startswith("../"):
        raise BadDataError(f"{where}: {field} lies outside {root}; name a folder that holds all photos")
    return name


def _find(pattern: re.Pattern[str], name: str) -> str:
    """The first group that is not empty, or of a pattern without groups the whole match; else nothing."""
    match = pattern.search(name if "/" in pattern.pattern else PurePosixPath(name).name)
    if match is None:
        return ""
    return next(filter(None, match.groups() if pattern.groups else [match[0]]), "").strip()


def _person(how: Who, name: str, folders: list[str]) -> str:
    if isinstance(how, re.Pattern):
        return _find(how, name)
    return folders[0] if how == FOLDER and folders else ""


def _refuse_useless_pattern(
    option: str, pattern: re.Pattern[str] | None, found: list[str], photos: list[Photo]
) -> None:
    if pattern is not None and photos and not any(found):
        what = "path" if "/" in pattern.pattern else "file name"
        raise BadDataError(
            f"{option} {pattern.pattern!r} fits no {what} of {len(photos)}, such as {photos[0].name!r}; with a / in it "
            "it is sought in the path below the folder, without one in the file's name"
        )


def _refuse_torn_persons(photos: Iterable[Photo]) -> None:
    """A split that is given may not part what is to stay together."""
    first: dict[str, Photo] = {}
    for photo in photos:
        if photo.person and photo.split:
            other = first.setdefault(photo.person, photo)
            if other.split != photo.split:
                raise BadDataError(
                    f"person {photo.person!r} is to stand in {other.split} ({other.row or other.name}) and in "
                    f"{photo.split} ({photo.row or photo.name}); give each person one split, or leave the persons out"
                )
