"""The steps that are laid beside another processor's: which there are, and how a difference is told."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.arm64_operations import SIDES, differences, save
from edge.model import open_model

PHOTO = Path(__file__).parents[2] / "docs/astronaut.jpg"


def test_values_are_compared_one_by_one():
    one, other = np.array([1, 2, 3, 250], np.uint8), np.array([1, 2, 5, 247], np.uint8)
    (found,) = differences({"step": one}, {"step": other}).values()
    assert (found.values, found.equal, found.most_off) == ((4, 4), 0.5, 3.0)


def test_results_of_different_sizes_are_not_equal_and_have_no_distance():
    (found,) = differences({"boxes": np.zeros(10)}, {"boxes": np.zeros(15)}).values()
    assert (found.values, found.equal, found.most_off) == ((10, 15), 0.0, None)


def test_a_step_that_the_other_side_lacks_is_an_error():
    with pytest.raises(KeyError):
        differences({"step": np.zeros(1)}, {})


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("steps")
    picture = cv2.resize(cv2.imread(str(PHOTO), cv2.IMREAD_GRAYSCALE), (320, 320))
    pictures = [folder / name for name in ("one.png", "mirrored.png")]
    for path, shown in zip(pictures, (picture, picture[:, ::-1]), strict=True):
        cv2.imwrite(str(path), shown)
    save(pictures, folder / "steps.npz")
    with np.load(folder / "steps.npz") as file:
        return dict(file)


def test_every_step_from_the_picture_to_the_logits_is_kept_for_every_picture(results):
    model = open_model()
    size, labels = model.input_size, len(model.labels)
    assert results["the picture, decoded"].size == 2 * 320 * 320
    assert results["halved (INTER_AREA)"].size == 2 * (160 * 160 + 80 * 80 + 40 * 40)
    assert results["correlated (TM_CCOEFF_NORMED)"].size == 2 * 65 * 65
    assert results["mean grey"].size == 2
    assert results["faces, shrunk"].size + results["faces, enlarged"].size == 2 * len(SIDES) * size * size
    logits = results["int8 logits of the shrunk faces"], results["int8 logits of the enlarged faces"]
    assert sum(each.size for each in logits) == 2 * len(SIDES) * labels
    assert all(each.dtype == np.int8 for each in logits)


def test_both_kinds_of_faces_and_a_face_for_haar_are_among_them(results):
    assert results["faces, shrunk"].size
    assert results["faces, enlarged"].size
    assert results["Haar's boxes with their support"].size >= 10  # one in each picture
    assert results["correlated (TM_CCOEFF_NORMED)"].max() > 0.99  # where it was cut out


def test_a_processor_agrees_with_itself(results):
    assert {(found.equal, found.most_off) for found in differences(results, results).values()} == {(1.0, 0.0)}
