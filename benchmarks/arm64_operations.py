"""What the steps from a picture to a face's scores give on this processor, to be laid beside another's.

python -m benchmarks.arm64_operations PICTURE… OUT.npz

`benchmarks.arm64_events` runs it on both processors: it tells where a difference between events comes from.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.crop import crop_face
from edge.detector import SMALLEST, Detector
from edge.frame import Box
from edge.model import Model, open_model
from edge.pictures import read_picture
from edge.pyramid import Pyramid

SCALES = (0.17, 0.4, 0.9, 1.6)
SIDES = (30, 36, 45, 50, 77, 120, 200)
"""Of the faces that are cut out, in pixels: some smaller than what the network takes, some larger."""

LOOKS = 16
"""Side in pixels of what is sought by correlation."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one step's results on two processors are apart.

    Attributes:
        values: how many there are on either side.
        equal: share of them that are the same; 0.0 where there are not even equally many.
        most_off: the largest difference between two; None where they cannot be paired.
    """

    values: tuple[int, int]
    equal: float
    most_off: float | None


def steps(picture: NDArray[np.uint8], detector: Detector, model: Model) -> dict[str, NDArray[Any]]:
    """Step -> what it makes of a picture.

    Args:
        picture: `uint8[H, W]`.
        detector: for Haar.
        model: for the faces.
    """
    height, width = picture.shape
    pyramid = Pyramid(picture)
    quarter = pyramid.level(2)
    kept = quarter[LOOKS : 2 * LOOKS, LOOKS : 2 * LOOKS].copy()
    boxes = [
        Box(round((width - side) * at), round((height - side) * at), side, side)
        for side, at in zip(SIDES, np.linspace(0.1, 0.9, len(SIDES)), strict=True)
    ]
    shrunk, enlarged = (
        [crop_face(picture, box, model.input_size, model.margin) for box in boxes if large == _is_shrunk(box, model)]
        for large in (True, False)
    )
    hits, supports = detector.cascade.detectMultiScale2(
        picture, scaleFactor=detector.scale_factor, minNeighbors=1, minSize=(SMALLEST, SMALLEST)
    )
    found = np.column_stack((np.reshape(hits, (-1, 4)), np.reshape(supports, (-1, 1)))).astype(np.int64)
    return {
        "the picture, decoded": picture,
        "halved (INTER_AREA)": _in_a_row([pyramid.level(number) for number in (1, 2, 3)]),
        "resized (INTER_LINEAR_EXACT)": _in_a_row([pyramid.piece(Box(0, 0, width, height), scale) for scale in SCALES]),
        "resized (INTER_LINEAR), for comparison": _in_a_row(
            [cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) for scale in SCALES]
        ),
        "correlated (TM_CCOEFF_NORMED)": cv2.matchTemplate(quarter, kept, cv2.TM_CCOEFF_NORMED),
        "mean grey": np.array(cv2.mean(picture)[0]),
        "Haar's boxes with their support": found[np.lexsort(found.T)],
        "faces, shrunk": np.stack(shrunk),
        "faces, enlarged": np.stack(enlarged),
        "int8 logits of the shrunk faces": np.stack([model.raw(face) for face in shrunk]),
        "int8 logits of the enlarged faces": np.stack([model.raw(face) for face in enlarged]),
    }


def _is_shrunk(box: Box, model: Model) -> bool:
    return box.width * model.margin >= model.input_size


def _in_a_row(pictures: list[Any]) -> NDArray[np.uint8]:
    return np.concatenate([picture.ravel() for picture in pictures])


def differences(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> dict[str, Difference]:
    """Step -> how far two processors' results are apart.

    Args:
        one: what `save` wrote on one of them.
        other: what it wrote on the other, of the same pictures.
    """
    return {name: _difference(one[name], other[name]) for name in one}


def _difference(one: NDArray[Any], other: NDArray[Any]) -> Difference:
    if one.shape != other.shape:
        return Difference((one.size, other.size), 0.0, None)
    off = np.abs(one.astype(np.float64) - other.astype(np.float64))
    return Difference((one.size, other.size), float((one == other).mean()), float(off.max(initial=0.0)))


def save(pictures: list[Path], out: Path) -> None:
    """Write what the steps make of some pictures, step -> all of them in a row, as an .npz file."""
    detector, model = Detector(), open_model()
    each = [steps(read_picture(path).gray, detector, model) for path in pictures]
    joined: dict[str, Any] = {name: np.concatenate([told[name].ravel() for told in each]) for name in each[0]}
    np.savez(out, **joined)


if __name__ == "__main__":
    save([Path(path) for path in sys.argv[1:-1]], Path(sys.argv[-1]))
