"""Which parts of a face an answer hangs on."""

import numpy as np
import pytest

from trainer.sensitivity import STEPS, choose, measure, occluded, places


def test_the_patch_visits_every_pixel_and_stays_within_the_face():
    seen = np.zeros((48, 48), int)
    count = 0
    for rows, columns in places(48):
        seen[rows, columns] += 1
        count += 1
    assert count == STEPS**2
    assert seen.min() >= 1
    rows = [rows for rows, _ in places(48)][::STEPS]
    assert [(each.start, each.stop) for each in rows[:3]] == [(0, 9), (3, 15), (9, 21)]


def test_the_patch_has_the_face_s_own_grey_and_leaves_the_face_itself_alone(faces):
    face = faces(1, 32, 0)[0][0]
    before = face.copy()
    views = occluded(face)
    assert views.shape == (64, 32, 32)
    np.testing.assert_array_equal(face, before)
    rows, columns = next(iter(places(32)))
    assert (views[0][rows, columns] == round(face.mean())).all()


def test_what_the_answer_hangs_on_is_found_and_what_misleads_it_is_negative():
    rng = np.random.default_rng(0)
    faces = rng.integers(100, 110, (30, 48, 48)).astype(np.uint8)
    faces[:, 6:12, 36:42] = 250  # the eye that the first answer hangs on
    faces[:, 36:42, 6:12] = 0  # a mark that speaks against it

    def ask(views: np.ndarray) -> np.ndarray:
        for_it = (views[:, 6:12, 36:42].mean(axis=(1, 2)) - 100) / 150
        against = (100 - views[:, 36:42, 6:12].mean(axis=(1, 2))) / 100
        share = np.clip(0.5 + 0.4 * for_it - 0.3 * against, 0, 1)
        return np.stack([share, 1 - share], axis=1)

    found = measure(faces, np.zeros(30, int), ask(faces), ask)
    assert np.unravel_index(found.drop[0].argmax(), (STEPS, STEPS)) == (1, 6)
    assert np.unravel_index(found.drop[0].argmin(), (STEPS, STEPS)) == (6, 1)
    assert found.drop[0].max() == pytest.approx(0.4, abs=0.02)
    assert found.drop[0].min() == pytest.approx(-0.3, abs=0.03)
    assert found.count.tolist() == [30, 0]
    assert not found.drop[1].any()


def test_each_label_s_drop_is_the_mean_over_its_own_faces():
    faces = np.full((40, 16, 16), 100, np.uint8)
    truth = np.repeat([0, 1], [30, 10])
    before = np.tile([0.7, 0.3], (40, 1))
    found = measure(faces, truth, before, lambda views: np.tile([0.5, 0.5], (len(views), 1)))
    assert found.drop[0] == pytest.approx(0.2)
    assert found.drop[1] == pytest.approx(-0.2)


def test_up_to_so_many_faces_of_each_label_are_chosen():
    truth = np.repeat([0, 2], [50, 3])
    chosen = choose(truth, 3, 10, 1)
    assert np.bincount(truth[chosen], minlength=3).tolist() == [10, 0, 3]
    assert len(set(chosen.tolist())) == 13
