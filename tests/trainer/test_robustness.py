"""Faces under bad light, from bad cameras and careless detectors."""

import numpy as np
import pytest

from trainer import robustness
from trainer.robustness import CORRUPTIONS, add_noise, blur, cover, darken, expose, face_sizes, jitter, sample, shrink


@pytest.fixture(scope="module")
def views(faces) -> np.ndarray:
    return faces(14, 48, 3)[0]


@pytest.mark.parametrize("kind", CORRUPTIONS, ids=[kind.name for kind in CORRUPTIONS])
def test_every_corruption_is_pure_seeded_and_worse_with_each_severity(kind, views):
    before = views.copy()
    damage = []
    for level in kind.levels:
        disturbed = kind.apply(views, level, 7)
        assert disturbed.dtype == np.uint8
        assert disturbed.shape == views.shape
        np.testing.assert_array_equal(disturbed, kind.apply(views, level, 7))
        damage.append(np.abs(disturbed.astype(int) - views).mean())
    np.testing.assert_array_equal(views, before)
    assert len(damage) == 5
    assert damage == sorted(damage)
    assert damage[0] > 0


def test_a_stop_of_light_doubles_it_before_the_camera_s_curve():
    grey = np.full((1, 2, 2), 100, np.uint8)
    assert expose(grey, 1.0)[0, 0, 0] == round(100 * 2 ** (1 / 2.2))
    assert darken(grey, 1.0)[0, 0, 0] == round(100 * 2 ** (-1 / 2.2))
    assert expose(grey, 9.0).min() == 255
    assert expose(grey, 0.0)[0, 0, 0] == 100


def test_blur_spreads_a_point_by_its_standard_deviation():
    point = np.zeros((1, 101, 101), np.uint8)
    point[0, 50, 50] = 255
    column = blur(np.repeat(point, 1, axis=0), 2.0)[0].astype(float).sum(axis=0)
    away = np.arange(101) - 50
    assert np.sqrt((column * away**2).sum() / column.sum()) == pytest.approx(2.02, rel=0.15)


def test_the_square_covers_the_share_it_names_within_the_picture():
    faces = np.tile(np.arange(48, dtype=np.uint8) * 5, (40, 48, 1))
    hidden = (cover(faces, 20.0, 1) != faces).mean(axis=(1, 2))
    assert hidden.mean() == pytest.approx(0.2, abs=0.02)
    assert len({face.tobytes() for face in cover(faces, 20.0, 1)}) == 40


def test_the_square_may_lie_anywhere_up_to_the_last_pixel():
    covered = (cover(np.zeros((2000, 48, 48), np.uint8), 20.0, 1) > 0).any(axis=0)
    assert covered.all()


def test_noise_has_the_deviation_it_names():
    grey = np.full((20, 48, 48), 128, np.uint8)
    noisy = add_noise(grey, 10.0, 0).astype(float)
    assert noisy.std() == pytest.approx(10, rel=0.02)
    assert noisy.mean() == pytest.approx(128, abs=0.2)


def test_a_shrunk_face_keeps_its_size_and_loses_detail(views):
    rough = [np.abs(np.diff(shrink(views, side).astype(int), axis=2)).mean() for side in (48, 32, 16)]
    assert rough == sorted(rough, reverse=True)
    np.testing.assert_array_equal(shrink(views, 48), views)
    assert shrink(views, 16).shape == views.shape


def test_the_sizes_end_with_the_network_s_own():
    assert face_sizes(48) == (12, 16, 20, 24, 32, 40, 48)
    assert face_sizes(32) == (12, 16, 20, 24, 32)
    assert face_sizes(64)[-2:] == (48, 64)


def test_no_jitter_leaves_faces_alone_and_more_moves_them_further(views):
    np.testing.assert_array_equal(jitter(views, 0.0, 5), views)
    np.testing.assert_array_equal(jitter(views, 1.0, 5), jitter(views, 1.0, 5))
    moved = [np.abs(jitter(views, times, 5).astype(int) - views).mean() for times in (0.5, 2.0)]
    assert 0 < moved[0] < moved[1]


def test_boxes_spread_as_real_ones_do(monkeypatch):
    boxes = []

    def crop(face, box, size):
        boxes.append(box)
        return face

    monkeypatch.setattr(robustness, "crop_face", crop)
    jitter(np.zeros((4000, 100, 100), np.uint8), 1.0, 0)
    widths = np.array([box.width for box in boxes]) / 100
    middles = np.array([box.x + box.width / 2 for box in boxes]) / 100 - 0.5
    assert np.percentile(widths, [10, 50, 90]) == pytest.approx([0.79, 0.98, 1.13], abs=0.015)
    assert middles.std() == pytest.approx(0.05, abs=0.004)


def test_a_sample_keeps_the_shares_of_the_labels_and_is_seeded():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = sample(labels, 100, 3)
    assert np.bincount(labels[chosen]) == pytest.approx([60, 30, 10], abs=1)
    assert len(set(chosen.tolist())) == 100
    np.testing.assert_array_equal(chosen, sample(labels, 100, 3))
    assert not np.array_equal(chosen, sample(labels, 100, 4))
    assert sample(labels, 5000, 3).tolist() == list(range(1000))
