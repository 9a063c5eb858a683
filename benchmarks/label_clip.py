"""Draws the hand-made boxes of clip_faces.json into the clip's frames, four frames a sheet, for checking by eye.

python -m benchmarks.label_clip clip.mp4 --out sheets [--every 7]

Green: a frontal face by hand; yellow: one that a frontal cascade need not find; blue: what Haar finds. A grid of
20 pixels lies over each frame, so that a box can be read off. The sheets show people: keep them out of the project.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.camera import open_camera
from edge.cascade import find_cascade
from edge.commandline import guarded
from edge.errors import BadDataError, InputNotFoundError
from edge.frame import Box
from edge.pictures import write_picture

LABELS = Path(__file__).with_name("clip_faces.json")
FRONTAL, TURNED, FOUND, GRID = (60, 220, 60), (0, 220, 255), (255, 120, 0), (255, 255, 255)
"""Colours, as blue, green, red."""


@dataclass(frozen=True, slots=True)
class LabelledFace:
    """A face that a person sees in a frame.

    Attributes:
        box: square, from the middle of the forehead to the chin, as Haar gives it; may reach over the edge.
        frontal: whether a frontal cascade could be asked to find it: both eyes seen, upright, most of it inside.
    """

    box: Box
    frontal: bool


def read_labels(clip: Path, labels: Path = LABELS) -> dict[int, list[LabelledFace]]:
    """The faces in each frame of the clip that was looked at, by the frame's number.

    Raises:
        InputNotFoundError: the clip is not there.
        BadDataError: it is another clip than the one that was labelled.
    """
    known = json.loads(labels.read_text(encoding="utf-8"))
    if not clip.is_file():
        raise InputNotFoundError(f"{clip}: not there; name the video that {labels.name} was made for")
    if hashlib.sha256(clip.read_bytes()).hexdigest() != known["sha256"]:
        raise BadDataError(f"{clip}: not the video that {labels} was made for (its SHA-256 differs)")
    return {
        int(number): [LabelledFace(Box(*face["box"]), face["frontal"]) for face in faces]
        for number, faces in known["frames"].items()
    }


def show(
    image: NDArray[np.uint8], title: str, faces: list[LabelledFace], found: list[tuple[int, int, int, int]]
) -> NDArray[np.uint8]:
    """The frame, twice as large, under its grid and boxes."""
    shown = cv2.resize(image, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    height, width = image.shape[:2]
    lines = shown.copy()
    for x in range(0, width, 20):
        cv2.line(lines, (2 * x, 0), (2 * x, 2 * height), GRID, 2 if x % 100 == 0 else 1)
    for y in range(0, height, 20):
        cv2.line(lines, (0, 2 * y), (2 * width, 2 * y), GRID, 2 if y % 100 == 0 else 1)
    shown = cv2.addWeighted(lines, 0.3, shown, 0.7, 0)
    for x in range(0, width, 100):
        cv2.putText(shown, str(x), (2 * x + 3, 2 * height - 6), cv2.FONT_HERSHEY_PLAIN, 1.3, GRID, 2)
    for y in range(100, height, 100):
        cv2.putText(shown, str(y), (3, 2 * y - 4), cv2.FONT_HERSHEY_PLAIN, 1.3, GRID, 2)
    cv2.putText(shown, title, (3, 28), cv2.FONT_HERSHEY_PLAIN, 2.2, GRID, 3)
    for face in faces:
        _frame(shown, face.box.as_tuple(), FRONTAL if face.frontal else TURNED, 3)
    for box in found:
        _frame(shown, box, FOUND, 1)
    return shown  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number


def _frame(image: NDArray[np.uint8], box: tuple[int, int, int, int], color: tuple[int, int, int], thick: int) -> None:
    x, y, width, height = (2 * value for value in box)
    cv2.rectangle(image, (x, y), (x + width, y + height), color, thick)


def sheets(clip: Path, labels: dict[int, list[LabelledFace]], every: int) -> Iterator[NDArray[np.uint8]]:
    """Four frames on each: those that are labelled and every so-many-th other."""
    cascade = cv2.CascadeClassifier(str(find_cascade()))
    tiles: list[NDArray[np.uint8]] = []
    for frame in open_camera(str(clip), color=True):
        if frame.color is None or (frame.number not in labels and frame.number % every):
            continue
        found = cascade.detectMultiScale(frame.gray, scaleFactor=1.1, minNeighbors=5, minSize=(30, 30))
        boxes = [tuple(map(int, box)) for box in found]
        tiles.append(show(frame.color, f"frame {frame.number}", labels.get(frame.number, []), boxes))
        if len(tiles) == 4:
            yield np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])
            tiles = []
    if tiles:
        tiles += [np.zeros_like(tiles[0])] * (4 - len(tiles))
        yield np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="the video that was labelled")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the sheets go")
    parser.add_argument("--every", type=int, default=7, metavar="N", help="show every N-th frame too (default: 7)")
    given = parser.parse_args()
    labels = read_labels(given.clip)
    count = 0
    for count, sheet in enumerate(sheets(given.clip, labels, max(1, given.every)), start=1):
        write_picture(given.out / f"sheet-{count:02d}.png", sheet)
    faces = [face for frame in labels.values() for face in frame]
    frontal = sum(face.frontal for face in faces)
    print(
        f"{count} sheets in {given.out}: {len(labels)} labelled frames, {len(faces)} faces, {frontal} of them frontal"
    )
    return 0


if __name__ == "__main__":
    sys.exit(guarded("label_clip", main))
