"""Copies of faces: the sample photos changed as photos are changed on their way, and expressions changed in a face."""

import itertools

import cv2
import numpy as np
import pytest

from edge.crop import crop_face
from edge.detector import Detector
from trainer.duplicates import ALIKE, copied_from, likeness, originals


def gray(picture):
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


def find(picture):
    """The uppermost box: in changed copies Haar takes the astronaut's sleeve for a second face."""
    return min(Detector().detect(picture), key=lambda box: box.y)


@pytest.fixture(scope="module")
def found(portraits):
    """Each portrait in grey, with the box of its face."""
    return [(picture, find(picture)) for picture in map(gray, portraits)]


@pytest.fixture(scope="module")
def crops(found):
    return np.stack([crop_face(picture, box, 48) for picture, box in found])


def search(picture):
    return crop_face(picture, find(picture), 48)


def encode(quality):
    return lambda picture: cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def scale(factor):
    return lambda picture: cv2.resize(
        picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )


def tone(contrast=1.0, brightness=0, gamma=1.0):
    table = np.clip(((np.arange(256) / 255) ** gamma * 255) * contrast + brightness, 0, 255).astype(np.uint8)
    return lambda picture: table[picture]


@pytest.mark.parametrize(
    "change",
    [
        encode(60), encode(30), scale(0.9), scale(0.6), scale(1.3), tone(brightness=30), tone(0.7, 20), tone(gamma=0.7),
        tone(gamma=1.5), lambda picture: picture[4:, 3:-2],
        lambda picture: encode(50)(tone(1.1, 10)(scale(0.8)(picture))),
    ],
    ids=["q60", "q30", "x0.9", "x0.6", "x1.3", "bright", "flat", "gamma0.7", "gamma1.5", "trimmed", "all"],
)  # fmt: skip
def test_a_changed_copy_of_a_photo_is_found_although_its_face_is_searched_anew(found, crops, change):
    changed = np.stack([search(change(picture)) for picture, _ in found])
    assert (changed != crops).any(axis=(1, 2)).all()
    original, exact = originals(np.concatenate([crops, changed]))
    assert original.tolist() == [*range(8), *range(8)]
    assert not exact.any()


def test_faces_that_stand_changed_or_unchanged_among_others_are_told(found, crops):
    changed = np.stack([search(encode(50)(picture)) for picture, _ in found[:3]])
    others = np.concatenate([changed, crops[3:5]])
    assert copied_from(crops, others).tolist() == [True] * 5 + [False] * 3
    assert not copied_from(crops[5:], others).any()


def bend(picture, box, spots):
    """Moves places of a face: each spot is (x, y, radius, right, down), all as shares of the face's side."""
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    for x, y, radius, right, down in spots:
        distance = (columns - box.x - x * box.width) ** 2 + (rows - box.y - y * box.height) ** 2
        weight = np.exp(-distance / (2 * (radius * box.width) ** 2))
        picture = cv2.remap(
            picture, columns - right * box.width * weight, rows - down * box.height * weight, cv2.INTER_LINEAR
        )
    return picture


@pytest.mark.parametrize(
    "spots",
    [
        [(0.33, 0.75, 0.08, -0.03, -0.06), (0.67, 0.75, 0.08, 0.03, -0.06)],
        [(0.33, 0.75, 0.08, 0, 0.06), (0.67, 0.75, 0.08, 0, 0.06)],
        [(0.5, 0.85, 0.1, 0, 0.1)],
        [(0.5, 0.85, 0.1, 0, 0.1), (0.3, 0.25, 0.1, 0, -0.07), (0.7, 0.25, 0.1, 0, -0.07)],
    ],
    ids=["smile", "mouth down", "mouth open", "surprise"],
)
def test_another_expression_of_one_person_in_one_pose_is_no_copy(found, crops, spots):
    bent = np.stack([crop_face(bend(picture, box, spots), box, 48) for picture, box in found])
    assert [
        number for number, (one, other) in enumerate(zip(crops, bent, strict=True)) if likeness(one, other) >= ALIKE
    ] == []


def test_different_people_in_one_photo_are_no_copies(crops):
    assert max(likeness(one, other) for one, other in itertools.combinations(crops, 2)) < 0.6
    assert originals(crops)[0].tolist() == [*range(8)]


def test_bytes_that_are_the_same_are_told_from_copies_that_are_only_alike(crops):
    near = encode(40)(crops[0])
    original, exact = originals(np.stack([crops[1], crops[0], near, crops[0], near]))
    assert original.tolist() == [0, 1, 1, 1, 1]
    assert exact.tolist() == [False, False, False, True, False]


def test_any_number_of_copies_has_one_original(crops):
    rng = np.random.default_rng(0)
    noisy = np.clip(crops[0] + rng.normal(0, 3, (60, 48, 48)), 0, 255).astype(np.uint8)
    original, _ = originals(np.concatenate([crops[:1], noisy, crops[1:2]]))
    assert original.tolist() == [0] * 61 + [61]


def test_faces_of_any_size_are_compared(crops):
    large = np.stack([cv2.resize(crop, (96, 96)) for crop in crops[:2]])
    assert originals(np.concatenate([large, large]))[0].tolist() == [0, 1, 0, 1]
    assert likeness(large[0], encode(50)(large[0])) >= ALIKE


def test_faces_without_anything_in_common_have_no_likeness():
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 48, 48), dtype=np.uint8)
    assert likeness(one, other) < 0.3
    assert likeness(np.full((48, 48), 9, np.uint8), one) < 0.3


def test_progress_is_told(crops):
    seen = []
    originals(crops, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (7, 8)
