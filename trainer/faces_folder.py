"""The folder that `mien-train prepare` fills: goes on after a kill, does nothing twice, touches nothing of others.

While work goes on, `.prepare/` in it holds a line for each photo that was searched and the faces cut out of it. At the
end the faces are put in `train/`, `validation/` and `test/`, and `prepare.csv`, written last, says that all is done.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Self

import numpy as np
from numpy.typing import NDArray

from edge.errors import BadDataError, MienError, OutputError
from edge.frame import Box
from edge.pictures import is_picture, read_picture, write_picture
from trainer.datasets import SPLITS
from trainer.output_file import write_whole
from trainer.photos import Photo
from trainer.readers import PREPARED

MAX_STEM = 180
"""Bytes of a file's name before its suffix; file systems take 255 for the whole."""

_NOT_IN_NAMES = re.compile(r'[\\/:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]')


@dataclass(frozen=True, slots=True)
class Cut:
    """A face that was found in a photo: where, and why it is left out, if it is."""

    box: Box
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search of one photo gave: faces, or the reason why there is none."""

    cuts: tuple[Cut, ...]
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of `prepare.csv`: one face, or one file without any. Numbers are empty where there is no face."""

    path: str
    file: str = ""
    label: str = ""
    split: str = ""
    person: str = ""
    x: str = ""
    y: str = ""
    width: str = ""
    height: str = ""
    left_out: str = ""
    detail: str = ""


class FacesFolder:
    """The folder, opened for work or found finished.

    Attributes:
        out: where it is.
        finished: the rows of `prepare.csv`, where an earlier run with the same arguments wrote it; else None.
    """

    def __init__(self, out: Path, search: dict[str, Any], dealing: dict[str, Any]) -> None:
        """Open a folder, and make it where it is not there.

        Args:
            out: the folder.
            search: the settings that decide which faces are found; they may not change under way.
            dealing: what decides who goes where; may change until all is done.

        Raises:
            OutputError: it holds something else, another run is at work in it, or it cannot be written.
            BadDataError: it was begun with other settings, or is damaged.
        """
        self.out = out
        self.finished: list[Row] | None = None
        self._asked = json.loads(json.dumps({"search": search, "dealing": dealing}))
        self._work = out / ".prepare"
        self._settings = out / PREPARED
        self._table = out / "prepare.csv"
        self._searched: dict[str, dict[str, Any]] = {}
        self._journal: BinaryIO | None = None
        try:
            self._open()
        except OSError as error:
            if isinstance(error, MienError):
                raise
            raise OutputError(f"{out}: cannot be used ({error.strerror}); name another --out") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def _open(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise OutputError(f"{self.out}: a file; name a folder with --out")
        if self._settings.exists():
            self._refuse_other()
        elif self.out.exists() and any(path != self._work for path in self.out.iterdir()):
            raise OutputError(f"{self.out}: holds something else already; name another --out, or an empty folder")
        if self._table.exists():
            self.finished = _read_rows(self._table)
            shutil.rmtree(self._work, ignore_errors=True)
            return
        (self._work / "crops").mkdir(parents=True, exist_ok=True)
        journal = (self._work / "searched.jsonl").open("a+b")
        self._journal = journal
        try:
            fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            journal.close()
            raise OutputError(f"{self.out}: another mien-train prepare is at work here; wait for it") from None
        self._read_journal(journal)
        write_whole(self._settings, json.dumps({"search": self._asked["search"]}, indent=2).encode())

    def _refuse_other(self) -> None:
        try:
            before = json.loads(self._settings.read_text(encoding="utf-8"))
            kinds = ("search", "dealing") if self._table.exists() else ("search",)
            pairs = [(key, before[kind].get(key), now) for kind in kinds for key, now in self._asked[kind].items()]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadDataError(f"{self._settings}: damaged, or of another program; name another --out") from error
        for key, old, now in pairs:
            if old != now and key == "photos":
                raise BadDataError(
                    f"{self.out}: made from other photos, labels or persons than there are now; name another --out, so "
                    "that no face changes its split under a network that was trained with it"
                )
            if old != now:
                raise BadDataError(
                    f"{self.out}: this folder was begun with {key} = {old}, not {now}; give the same arguments, or "
                    "name another --out"
                )

    def _read_journal(self, journal: BinaryIO) -> None:
        """Whole lines only: a kill may have torn the last one."""
        journal.seek(0)
        content = journal.read()
        whole = content.rfind(b"\n") + 1
        journal.truncate(whole)
        try:
            for line in content[:whole].splitlines():
                entry = json.loads(line)
                self._searched[entry["name"]] = entry
        except (ValueError, KeyError, TypeError) as error:
            raise BadDataError(f"{journal.name}: damaged; remove {self.out} to start again") from error

    def searched(self, photo: Photo) -> Searched | None:
        """What an earlier run found on a photo, unless the file has changed since."""
        entry = self._searched.get(photo.name)
        if entry is None or entry["stamp"] != _stamp(photo.path):
            return None
        cuts = tuple(Cut(Box(*cut["box"]), cut["left_out"]) for cut in entry["cuts"])
        if not all(self._is_written(photo, number) for number in range(len(cuts))):
            return None
        return Searched(cuts, entry["left_out"])

    def keep(self, photo: Photo, searched: Searched, crops: Sequence[NDArray[np.uint8]]) -> None:
        """Note what a search gave, with a crop `uint8[size, size]` for each of its cuts; raises OutputError."""
        assert self._journal is not None, "all is done in this folder"  # noqa: S101
        for number, crop in enumerate(crops):
            write_picture(self._crop(photo, number), crop)
        entry = {
            "name": photo.name,
            "stamp": _stamp(photo.path),
            "left_out": searched.left_out,
            "cuts": [{"box": cut.box.as_tuple(), "left_out": cut.left_out} for cut in searched.cuts],
        }
        try:
            self._journal.write(json.dumps(entry).encode() + b"\n")
            self._journal.flush()
        except OSError as error:
            raise OutputError(
                f"{self.out}: cannot be written ({error.strerror}); make room and give the same command again"
            ) from error

    def _is_written(self, photo: Photo, number: int) -> bool:
        """A power cut may leave a name without its content, and a line about it."""
        try:
            return self._crop(photo, number).stat().st_size > 0
        except OSError:
            return False

    def crop(self, photo: Photo, number: int) -> NDArray[np.uint8]:
        """The crop `uint8[size, size]` of a photo's cut, counted from 0."""
        return read_picture(self._crop(photo, number)).gray

    def _crop(self, photo: Photo, number: int) -> Path:
        key = hashlib.blake2b(photo.name.encode(errors="surrogateescape"), digest_size=12).hexdigest()
        return self._work / "crops" / f"{key}-{number}.png"

    def finish(self, rows: Sequence[Row], cuts: Sequence[tuple[Photo, int]]) -> None:
        """Put the faces in their places and write `prepare.csv`.

        Args:
            rows: of the table.
            cuts: for each row with a `file`, in order, its photo and the number of the cut.

        Raises:
            OutputError: they cannot be written, or pictures that are none of these stand in their places.
        """
        files = [row.file for row in rows if row.file]
        self._refuse_strangers(set(files))
        for file, (photo, number) in zip(files, cuts, strict=True):
            write_picture(self.out / file, self.crop(photo, number))
        os.sync()  # all at once: the table says that they are there, and one by one would take minutes
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow([field.name for field in fields(Row)])
        table.writerows(map(astuple, rows))
        write_whole(self._settings, json.dumps(self._asked, indent=2).encode())
        write_whole(self._table, text.getvalue().encode(errors="surrogateescape"))
        shutil.rmtree(self._work, ignore_errors=True)

    def _refuse_strangers(self, files: set[str]) -> None:
        """A run that was killed while it put faces in their places, under another --split, would leave some there."""
        for split in SPLITS:
            for path in (self.out / split).glob("*/*"):
                if is_picture(path) and path.relative_to(self.out).as_posix() not in files:
                    raise OutputError(f"{path}: lies there already and is no face of this run; remove {path.parent}")


class Names:
    """Gives out names of files, none twice within a label."""

    def __init__(self) -> None:
        self._used: set[tuple[str, str]] = set()

    def take(self, label: str, photo: str, number: int | None) -> str:
        """A name that is like the photo's.

        Args:
            label: within which it is the only one of its name.
            photo: its name, with folders and suffix.
            number: of the face, where the photo has several.
        """
        stem = _NOT_IN_NAMES.sub("_", PurePosixPath(photo).stem)
        stem = stem.encode()[:MAX_STEM].decode(errors="ignore")
        stem = stem if number is None else f"{stem}-{number}"
        name, count = stem, 1
        # Sticks are often FAT, where A.png and a.png are one file, and macOS writes accents apart.
        while (label, _alike(name)) in self._used:
            count += 1
            name = f"{stem}-{count}"
        self._used.add((label, _alike(name)))
        return f"{name}.png"


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def digest_photos(photos: Sequence[Photo]) -> str:
    """Of the photos' names and sizes and of all that is said of them."""
    digest = hashlib.sha256()
    for photo in photos:
        said = [photo.name, photo.label, photo.split, photo.person, _stamp(photo.path)[0]]
        digest.update(json.dumps(said).encode())
    return f"sha256:{digest.hexdigest()}"


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError:
        return [-1, -1]
    return [status.st_size, status.st_mtime_ns]


def _read_rows(table: Path) -> list[Row]:
    try:
        with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            return [Row(**fields) for fields in csv.DictReader(file)]
    except (TypeError, csv.Error) as error:
        raise BadDataError(f"{table}: damaged, or not written by mien-train prepare; name another --out") from error
