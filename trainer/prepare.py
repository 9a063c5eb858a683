"""From people's photos to faces to train on: found and cut as the daemon does it, cleaned, dealt to three splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face
from edge.detector import SMALLEST, Detector
from edge.errors import BadDataError, MienError
from edge.frame import Box
from edge.pictures import MAX_PIXELS, read_picture
from trainer.datasets import SPLITS
from trainer.duplicates import originals
from trainer.faces_folder import Cut, FacesFolder, Names, Row, Searched
from trainer.photos import NOT_A_PICTURE, SEEN_ALREADY, UNREADABLE, LeftOut, Photo
from trainer.readers import Progress
from trainer.splitting import OPEN, split_groups

NO_FACE = "no face"
SEVERAL = "several faces"
TOO_SMALL = "too small"
BLANK = "blank"
EXACT = "exact duplicate"
NEAR = "near duplicate"
CONFLICT = "duplicate with conflicting labels"

BLANK_SPREAD = 2.0
"""Standard deviation, in grey levels, below which a face shows nothing: a JPEG of one colour stays below 1."""

OFF_BY = 0.05
"""A split whose share is off by more than this is spoken of."""


@dataclass(frozen=True, slots=True)
class Search:
    """How faces are found and cut.

    Attributes:
        faces: of several in a photo: `largest`, `all`, or none (`only`: photos with exactly one).
        whole: each photo is one face already.
        size: side in pixels of the result.
        margin: side of the square that is cut out over the side of the face's box.
        min_face: the smallest face that is looked for, as a fraction of the photo's height.
        min_pixels: the smallest face that is kept, in pixels of the photo.
    """

    faces: str = "largest"
    whole: bool = False
    size: int = 48
    margin: float = 1.0
    min_face: float = 0.08
    min_pixels: int = SMALLEST


@dataclass(slots=True)
class Face:
    """A face on its way: what becomes of it is written into it step by step.

    Attributes:
        photo: where it comes from.
        number: which of the photo's cuts it is, from 0.
        several: whether the photo has more than one.
        box: where it is.
        split: one of `SPLITS`; empty where none has been chosen, or the face is left out.
        left_out: the reason; empty while it stays in.
        detail: more of the reason.
    """

    photo: Photo
    number: int
    several: bool
    box: Box
    split: str = ""
    left_out: str = ""
    detail: str = ""


@dataclass(slots=True)
class Found:
    """All faces, in the order of the photos, and the files without any."""

    faces: list[Face] = field(default_factory=list)
    others: list[LeftOut] = field(default_factory=list)


def find_faces(photos: Sequence[Photo], folder: FacesFolder, search: Search, progress: Progress) -> Found:
    """Search all photos that the folder has not seen yet, and keep what is found there.

    A photo that cannot be read stops nothing; it is looked at again the next time.

    Args:
        photos: what to search.
        folder: keeps what is found, and knows what was.
        search: how.
        progress: told how many photos are done.

    Raises:
        OutputError: the folder cannot be written.
    """
    detector = None if search.whole else Detector(min_face=search.min_face)
    found = Found()
    for done, photo in enumerate(photos):
        progress(done, len(photos))
        known = folder.searched(photo)
        if known is None:
            try:
                gray = read_picture(photo.path).gray
            except (MienError, OSError) as error:
                found.others.append(
                    LeftOut(photo.name, UNREADABLE, f"{photo.row}: {error}" if photo.row else str(error))
                )
                continue
            known, crops = search_picture(gray, detector, search)
            folder.keep(photo, known, crops)
        if known.left_out:
            found.others.append(LeftOut(photo.name, known.left_out, photo=photo))
        several = len(known.cuts) > 1
        for number, cut in enumerate(known.cuts):
            found.faces.append(Face(photo, number, several, cut.box, left_out=cut.left_out))
    progress(len(photos), len(photos))
    return found


def search_picture(
    gray: NDArray[np.uint8], detector: Detector | None, search: Search
) -> tuple[Searched, list[NDArray[np.uint8]]]:
    """Find and cut the faces in one picture.

    Args:
        gray: `uint8[H, W]`.
        detector: the daemon's; None where the picture is one face already.
        search: how.

    Returns:
        What was found, and `uint8[size, size]` for each cut.
    """
    height, width = gray.shape
    boxes = [Box(0, 0, width, height)]
    margin = search.margin
    if detector is None:
        if max(height, width) ** 2 > MAX_PIXELS:  # a strip, whose square would fill the memory
            return Searched((), NO_FACE), []
        margin = 1.0  # a face that is cut out already has its margin
    elif min(height, width) < SMALLEST:
        return Searched((), TOO_SMALL), []
    else:
        boxes = detector.detect(gray)
        if not boxes:
            return Searched((), NO_FACE), []
        if search.faces == "only" and len(boxes) > 1:
            return Searched((), SEVERAL), []
        if search.faces != "all":
            boxes = [max(boxes, key=lambda box: box.area)]
    crops = [crop_face(gray, box, search.size, margin) for box in boxes]
    cuts = tuple(Cut(box, _flaw(box, crop, search)) for box, crop in zip(boxes, crops, strict=True))
    return Searched(cuts), crops


def _flaw(box: Box, crop: NDArray[np.uint8], search: Search) -> str:
    if min(box.width, box.height) < search.min_pixels:
        return TOO_SMALL
    return BLANK if crop.std() < BLANK_SPREAD else ""


def leave_out_copies(faces: Iterable[Face], folder: FacesFolder, progress: Progress) -> None:
    """Mark all but one of each photo's copies, and all of those whose labels differ.

    Of copies that a folder or CSV puts into two splits the one that is held out stays: training must not see it.

    Args:
        faces: marked in place; those that are left out already are passed over.
        folder: has their crops.
        progress: told how many were compared.
    """
    held_out_first = {split: place for place, split in enumerate(("test", "validation", "train", ""))}
    kept = sorted((face for face in faces if not face.left_out), key=lambda face: held_out_first[face.photo.split])
    if not kept:
        return
    crops = np.stack([folder.crop(face.photo, face.number) for face in kept])
    original, exact = originals(crops, progress)
    groups: dict[int, list[int]] = {}
    for place, first in enumerate(original):
        groups.setdefault(int(first), []).append(place)
    for first, places in groups.items():
        for place in places:
            face = kept[place]
            other = next((kept[i].photo for i in places if kept[i].photo.label != face.photo.label), None)
            if other is not None:
                face.left_out, face.detail = CONFLICT, f"of {other.name}"
            elif place != first:
                face.left_out, face.detail = (EXACT if exact[place] else NEAR), f"of {kept[first].photo.name}"


def deal(found: Found, shares: Sequence[float], seed: int) -> None:
    """Choose each face's split; a person's faces, or those of one photo, stay together.

    Args:
        found: its faces are marked in place; those that are left out are passed over.
        shares: of training, validation and test, which sum to 1.
        seed: chooses among equals.

    Raises:
        BadDataError: no face is left, or a split stays empty.
    """
    kept = [face for face in found.faces if not face.left_out]
    if not kept:
        reasons = Counter([face.left_out for face in found.faces] + [other.reason for other in found.others])
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        advice = (
            "keep each photo once, under one label"
            if found.faces
            else "frontal faces are found, --min-face 0.03 finds smaller ones, and --whole takes each photo as one "
            "face that is cut out already"
        )
        raise BadDataError(f"not one face is left ({why}); {advice}")
    names = sorted({face.photo.label for face in kept})
    numbers: dict[tuple[str, str], int] = {}
    groups = [numbers.setdefault(_group(face.photo), len(numbers)) for face in kept]
    splits = split_groups(
        np.array([names.index(face.photo.label) for face in kept], dtype=np.int64),
        np.array(groups, dtype=np.int64),
        np.array([SPLITS.index(face.photo.split) if face.photo.split else OPEN for face in kept], dtype=np.int8),
        shares,
        seed,
    )
    for face, split in zip(kept, splits, strict=True):
        face.split = SPLITS[split]
    for split in SPLITS:
        if not any(face.split == split for face in kept):
            raise BadDataError(
                f"no face for the {split} split: {len(kept)} faces of {len(numbers)} persons or photos cannot fill all "
                "three; bring more, or tell persons and splits otherwise in the same command, which goes on with the "
                "faces that are found"
            )


def _group(photo: Photo) -> tuple[str, str]:
    return ("person", photo.person) if photo.person else ("photo", photo.name)


def write_faces(found: Found, folder: FacesFolder) -> list[Row]:
    """Put the faces in their places, and give back the rows of `prepare.csv`; raises OutputError."""
    names = Names()
    rows: list[Row] = []
    cuts: list[tuple[Photo, int]] = []
    for face in found.faces:
        photo = face.photo
        x, y, width, height = map(str, face.box.as_tuple())
        row = Row(
            photo.name, "", photo.label, face.split, photo.person, x, y, width, height, face.left_out, face.detail
        )
        if not face.left_out:
            name = names.take(photo.label, photo.name, face.number + 1 if face.several else None)
            row = replace(row, file=f"{face.split}/{photo.label}/{name}")
            cuts.append((photo, face.number))
        rows.append(row)
    for other in found.others:
        label, person = (other.photo.label, other.photo.person) if other.photo else ("", "")
        rows.append(Row(other.name, label=label, person=person, left_out=other.reason, detail=other.detail))
    folder.finish(rows, cuts)
    return rows


def summarize(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of `prepare.csv`'s rows: photos, faces, persons, faces by split and label, what is left out and why."""
    kept = [row for row in rows if row.file]
    return {
        "photos": len({row.path for row in rows if row.left_out not in {NOT_A_PICTURE, SEEN_ALREADY}}),
        "faces": len(kept),
        "persons": len({row.person for row in kept if row.person}),
        "splits": {
            split: dict(sorted(Counter(row.label for row in kept if row.split == split).items())) for split in SPLITS
        },
        "left_out": dict(Counter(row.left_out for row in rows if row.left_out).most_common()),
        "failed": [{"path": row.path, "error": row.detail} for row in rows if row.left_out == UNREADABLE],
    }


def warnings(rows: Sequence[Row], shares: Sequence[float], *, given: bool) -> Iterator[str]:
    """What a person should know before trusting figures that come from these faces.

    Args:
        rows: of `prepare.csv`.
        shares: that were asked for.
        given: whether every photo came with a split.
    """
    kept = [row for row in rows if row.file]
    named = {row.person for row in kept if row.person}
    nameless = sum(not row.person for row in kept)
    if not named and not given:
        yield (
            "nobody is told apart, so photos of one person may be both trained on and tested, which flatters the "
            "figures; tell who is who with --person or a CSV's column person"
        )
    elif named and nameless:
        yield f"{nameless} of {len(kept)} faces have no person; each of their photos is dealt out by itself"
    counts = {split: Counter(row.label for row in kept if row.split == split) for split in SPLITS}
    for split, share in zip(SPLITS, shares, strict=True):
        lacking = sorted({row.label for row in kept} - counts[split].keys())
        if lacking:
            yield f"the {split} split has no {', '.join(lacking)}; bring more photos of it, of more people"
        real = counts[split].total() / len(kept)
        if abs(real - share) > OFF_BY and not given:
            yield (
                f"the {split} split holds {real:.0%} of the faces instead of {share:.0%}: "
                f"{f'{len(named)} persons are' if named else 'there are'} too few or too unequal for better"
            )
