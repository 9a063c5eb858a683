"""Views of training faces: what they do to pixels, and what they depend on."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from edge.crop import scale_pixels
from trainer.augmentation import NO_VIEW, Augment, Recipe, draw_views
from trainer.training import FaceBatches

pytestmark = pytest.mark.trainer

FLIP = replace(NO_VIEW, flip=1)


@pytest.fixture(scope="module")
def images(faces) -> np.ndarray:
    return scale_pixels(faces(14, 32, 3)[0])[..., np.newaxis]


def augmented(images: np.ndarray, recipe: Recipe, *, training: bool = True, **changed: np.ndarray) -> np.ndarray:
    views = draw_views(np.random.default_rng(0), len(images), images.shape[1], recipe)
    return np.asarray(Augment()({"image": images, **views, **changed}, training=training))


def test_without_a_recipe_faces_stay_as_they_are(images):
    np.testing.assert_allclose(augmented(images, NO_VIEW), images, atol=1e-6)


def test_a_flip_is_an_exact_mirror_image(images):
    np.testing.assert_allclose(augmented(images, FLIP), images[:, :, ::-1], atol=1e-5)


def test_half_of_the_faces_are_flipped():
    views = draw_views(np.random.default_rng(0), 1000, 48, Recipe())
    determinant = views["affine"][:, 0] * views["affine"][:, 4] - views["affine"][:, 1] * views["affine"][:, 3]
    assert 440 < (determinant < 0).sum() < 560


def test_outside_training_nothing_happens(images):
    np.testing.assert_array_equal(augmented(images, Recipe(), training=False), images)


def test_a_shift_moves_whole_pixels_and_repeats_the_border(images):
    right_5_down_3 = np.tile(np.array([1, 0, -5, 0, 1, -3, 0, 0], np.float32), (len(images), 1))
    moved = augmented(images, NO_VIEW, affine=right_5_down_3)
    expected = np.pad(images, ((0, 0), (3, 0), (5, 0), (0, 0)), mode="edge")[:, :32, :32]
    np.testing.assert_allclose(moved, expected, atol=1e-6)


def test_turning_and_zooming_keep_the_middle_in_place():
    image = np.full((1, 33, 33, 1), -1.0, np.float32)
    image[0, 16, 16] = 1.0
    for seed in range(8):
        views = draw_views(np.random.default_rng(seed), 1, 33, Recipe(shift=0, gain=0, offset=0, erase=0))
        moved = np.asarray(Augment()({"image": image, **views}, training=True))
        assert np.unravel_index(moved.argmax(), moved.shape)[1:3] == (16, 16)


def test_tone_scales_and_offsets_and_stays_within_the_range(images):
    tone = np.tile(np.array([0.5, 0.2], np.float32), (len(images), 1))
    np.testing.assert_allclose(augmented(images, NO_VIEW, tone=tone), images * 0.5 + 0.2, atol=1e-6)
    glare = np.tile(np.array([3.0, 0.5], np.float32), (len(images), 1))
    toned = augmented(images, NO_VIEW, tone=glare)
    assert toned.max() == 1.0
    assert toned.min() == -1.0


def test_an_erased_rectangle_is_grey_and_the_rest_untouched(images):
    erase = np.tile(np.array([4, 8, 12, 20, 0.25], np.float32), (len(images), 1))
    erased = augmented(images, NO_VIEW, erase=erase)
    expected = images.copy()
    expected[:, 8:20, 4:12] = 0.25
    np.testing.assert_allclose(erased, expected, atol=1e-6)


def test_draws_stay_within_two_standard_deviations():
    views = draw_views(np.random.default_rng(0), 5000, 48, Recipe(flip=0))
    angle = np.rad2deg(np.arctan2(views["affine"][:, 3], views["affine"][:, 0]))
    zoom = np.hypot(views["affine"][:, 0], views["affine"][:, 3])
    assert np.abs(angle).max() == pytest.approx(14.0, abs=1e-3)
    assert np.log(zoom).max() == pytest.approx(0.2, abs=1e-4)
    assert views["tone"][:, 1].min() == pytest.approx(-0.2, abs=1e-6)
    left, top, right, bottom, _ = views["erase"].T
    assert 0.22 < (right > left).mean() < 0.28
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (right <= 48).all()
    assert (bottom <= 48).all()


def batches(drawn, **options) -> FaceBatches:
    return FaceBatches(drawn.train, labels=7, batch=16, **({"recipe": Recipe(), "seed": 5} | options))


def assert_equal(one, other) -> None:
    for key in one[0]:
        np.testing.assert_array_equal(one[0][key], other[0][key])
    np.testing.assert_array_equal(one[1], other[1])


def test_views_and_order_depend_on_seed_epoch_and_batch_alone(drawn):
    one, other = batches(drawn), batches(drawn)
    third = other[3]
    other[0]
    assert_equal(one[3], third)
    one.on_epoch_end()
    assert_equal(one[3], batches(drawn, epoch=1)[3])
    for different in (batches(drawn)[2], batches(drawn, epoch=1)[3], batches(drawn, seed=6)[3]):
        assert not np.array_equal(different[0]["affine"], third[0]["affine"])
        assert not np.array_equal(different[0]["image"], third[0]["image"])


def test_an_epoch_shows_each_face_once(drawn):
    data = batches(drawn)
    shown = np.concatenate([data[index][0]["image"] for index in range(len(data))])
    assert len(data) == 5
    assert {image.tobytes() for image in shown} == {
        image.tobytes() for image in scale_pixels(drawn.train.images)[..., np.newaxis]
    }


def test_evaluation_keeps_the_order_and_the_faces(drawn):
    inputs, targets, weights = batches(drawn, recipe=None)[1]
    np.testing.assert_array_equal(inputs["image"][..., 0], scale_pixels(drawn.train.images[16:32]))
    np.testing.assert_array_equal(targets.argmax(axis=1), drawn.train.labels[16:32])
    np.testing.assert_array_equal(inputs["affine"], np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0]), (16, 1)))
    assert weights.tolist() == [1.0] * 16
