"""Which faces are copies of one another: byte for byte, or the same photo re-encoded, resized, brightened, cut anew.

Two expressions of one person in one pose are nearly the same picture as a whole and differ in one place. So a pair
that looks alike in small is laid one upon the other and compared place by place, and the worst place counts.
"""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.crop import resize_face
from trainer.readers import Progress

ALIKE = 0.9
"""Least `likeness` of near duplicates. On the sample photos re-encoded at quality 30, at 0.5 to 1.3 times their size,
with contrast x0.7 or gamma 0.6 to 1.6, and each searched for its face anew, copies lie above 0.91; a mouth or brows
moved by a twentieth of the face lies below 0.88; and among 9,000 images of FER2013 all pairs above are copies to the
eye, beside 0.5 to 0.9 where watermarks differ."""

_THUMBNAIL = 16
_THUMBNAIL_ALIKE = 0.85
"""Least correlation of two thumbnails for the slow comparison. Copies whose boxes differ by a tenth keep it."""

_SIDE = 48
_BORDER = 4
_WINDOW = 11
"""Pixels of a face of `_SIDE`: as wide as half a mouth."""
_FLAT = 0.05
"""Share of the face's variance below which a place counts as flat, so that noise there says nothing."""

_COMPARED = 20
"""So many of the most alike thumbnails are compared: thousands of frames of one person would else take hours."""
_ROWS = 256
_STEPS = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)


def originals(
    faces: NDArray[np.uint8], progress: Progress | None = None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Find for each face the first one that it is a copy of.

    Args:
        faces: `uint8[n, size, size]`.
        progress: told how many are done.

    Returns:
        `int64[n]`, the place of the original, a face's own where it is one; no original is a copy of another.
        And `bool[n]`, whether a face is byte for byte the same as its original.
    """
    places = np.arange(len(faces))
    original = places.copy()
    exact = np.zeros(len(faces), dtype=bool)
    first: dict[bytes, int] = {}
    small = np.stack([_thumbnail(face) for face in faces])
    for start in range(0, len(faces), _ROWS):
        alike = small[start : start + _ROWS] @ small[: start + _ROWS].T
        for j, row in enumerate(alike, start):
            twin = first.setdefault(_digest(faces[j]), j)
            if twin != j:
                original[j], exact[j] = original[twin], original[twin] == twin
                continue
            candidates = np.flatnonzero((row[:j] >= _THUMBNAIL_ALIKE) & (original[:j] == places[:j]))
            best = candidates[np.argsort(-row[candidates], kind="stable")[:_COMPARED]]
            original[j] = next((i for i in best if likeness(faces[i], faces[j]) >= ALIKE), j)
            if progress:
                progress(j, len(faces))
    return original, exact


def copied_from(
    faces: NDArray[np.uint8], others: NDArray[np.uint8], progress: Progress | None = None
) -> NDArray[np.bool_]:
    """Tell which faces are copies of one of `others`, exact or near.

    Args:
        faces: `uint8[n, size, size]`.
        others: `uint8[m, size, size]`.
        progress: told how many of `faces` are done.

    Returns:
        `bool[n]`.
    """
    known = {_digest(face) for face in others}
    small = np.stack([_thumbnail(face) for face in others])
    found = np.zeros(len(faces), dtype=bool)
    for start in range(0, len(faces), _ROWS):
        block = faces[start : start + _ROWS]
        alike = np.stack([_thumbnail(face) for face in block]) @ small.T
        for j, (face, row) in enumerate(zip(block, alike, strict=True), start):
            candidates = np.flatnonzero(row >= _THUMBNAIL_ALIKE)
            best = candidates[np.argsort(-row[candidates], kind="stable")[:_COMPARED]]
            found[j] = _digest(face) in known or any(likeness(others[i], face) >= ALIKE for i in best)
            if progress:
                progress(j + 1, len(faces))
    return found


def likeness(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """How alike two faces are in the place where they differ most, -1 to 1; brightness and contrast do not count.

    The faces are laid one upon the other with the affine map of the greatest correlation (Evangelidis and Psarakis,
    "Parametric image alignment using enhanced correlation coefficient maximization", PAMI 2008), since no two searches
    cut alike; then compared by the structure term of SSIM (Wang et al., "Image quality assessment", TIP 2004).

    Args:
        one: `uint8[size, size]`.
        other: the same.

    Returns:
        The least of all places; -1.0 where the faces cannot be laid one upon the other.
    """
    first, second = (resize_face(face, _SIDE).astype(np.float32) for face in (one, other))
    try:
        _, warp = cv2.findTransformECC(
            second, first, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _STEPS, np.empty(0, np.uint8), 3
        )
    except cv2.error:  # it does not converge: they have nothing in common
        return -1.0
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(first, warp, (_SIDE, _SIDE), flags=how, borderMode=cv2.BORDER_REPLICATE)
    inner = slice(_BORDER, -_BORDER)
    a, b = (cv2.GaussianBlur(face, (0, 0), 0.8)[inner, inner] for face in (laid, second))
    mean_a, mean_b = _local_mean(a), _local_mean(b)
    # Rounding leaves tiny negative variances in flat places.
    spread_a = np.maximum(_local_mean(a * a) - mean_a**2, 0) + _FLAT * a.var()
    spread_b = np.maximum(_local_mean(b * b) - mean_b**2, 0) + _FLAT * b.var()
    together = _local_mean(a * b) - mean_a * mean_b + _FLAT * a.std() * b.std()
    return float((together / np.sqrt(spread_a * spread_b).clip(1e-6)).min())


def _local_mean(image: Any) -> Any:  # OpenCV's stubs widen float32 to any number
    return cv2.boxFilter(image, -1, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)


def _digest(face: NDArray[np.uint8]) -> bytes:
    return hashlib.blake2b(face.tobytes(), digest_size=16).digest()


def _thumbnail(face: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`float32[256]` of mean 0 and length 1, so that a product of two is their correlation."""
    small = cv2.resize(face, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    small -= small.mean()
    unit: NDArray[np.float32] = small / max(float(np.linalg.norm(small)), 1e-6)
    return unit
