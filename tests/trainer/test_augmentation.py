"""Views of training faces: what they do to pixels, and what they depend on."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

import keras
import tensorflow as tf

from edge.crop import scale_pixels
from trainer.augmentation import BLURS, GRAINS, Augment, Degrade, draw_views, mix_targets
from trainer.settings import NO_VIEW, Recipe

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


def test_a_model_with_views_is_not_given_to_xla_which_cannot_compile_them(images):
    # TensorFlow with a GPU would choose XLA by itself.
    inputs = {key: keras.Input(value.shape[1:], name=key) for key, value in views_of(images).items()}
    model = keras.Model(inputs, Augment()({key: inputs[key] for key in ("image", "affine", "tone", "erase", "own")}))
    with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
        model.compile(jit_compile=True)
    compiled = tf.function(lambda batch: model(batch, training=True), jit_compile=model.jit_compile)
    views = views_of(images)
    np.testing.assert_allclose(compiled(views), model(views, training=True), atol=1e-5)


def views_of(images: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": images, **draw_views(np.random.default_rng(0), len(images), 32, Recipe())}


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


def test_a_view_may_come_closer_than_the_crop_by_more_than_it_stays_off():
    views = draw_views(np.random.default_rng(0), 20_000, 48, Recipe(closer=0.17))
    zoom = np.hypot(views["affine"][:, 0], views["affine"][:, 3])
    haars = np.exp(-1.2816 * 0.17), np.exp(1.2816 * 0.10)
    np.testing.assert_allclose(np.percentile(zoom, [10, 50, 90]), (haars[0], 1.0, haars[1]), atol=0.01)


def test_mixing_blends_each_face_with_the_one_before_it_by_its_share(images):
    own = np.linspace(0.5, 1.0, len(images), dtype=np.float32)[:, np.newaxis]
    mixed = augmented(images, NO_VIEW, own=own)
    share = own[:, :, np.newaxis, np.newaxis]
    np.testing.assert_allclose(mixed, share * images + (1 - share) * np.roll(images, 1, axis=0), atol=1e-6)


def test_targets_are_mixed_by_the_same_shares_as_their_faces():
    targets = np.eye(3, dtype=np.float32)
    own = np.array([[0.6], [0.7], [1.0]], np.float32)
    expected = [[0.6, 0, 0.4], [0.3, 0.7, 0], [0, 0, 1]]
    np.testing.assert_allclose(mix_targets(targets, own), expected, atol=1e-6)


def test_the_larger_share_is_a_face_s_own():
    own = draw_views(np.random.default_rng(0), 1000, 48, Recipe(mixup=0.5))["own"]
    assert own.min() >= 0.5
    assert own.max() <= 1.0
    assert own.std() > 0.1
    assert (draw_views(np.random.default_rng(0), 1000, 48, Recipe())["own"] == 1.0).all()


def test_mixing_changes_no_other_draw():
    plain, mixed = (draw_views(np.random.default_rng(3), 16, 48, Recipe(mixup=alpha)) for alpha in (0.0, 0.5))
    for key in ("affine", "tone", "erase"):
        np.testing.assert_array_equal(plain[key], mixed[key])


def degraded(images: np.ndarray, *, training: bool = True, **views: np.ndarray) -> np.ndarray:
    nothing = np.zeros((len(images), 2), np.float32)
    inputs = {"image": images, "blur": nothing, "noise": nothing, **views}
    return np.asarray(Degrade(images.shape[1])(inputs, training=training))


@pytest.mark.parametrize("number", [0, 1])
def test_a_blur_is_a_gaussian_that_repeats_the_border(images, number):
    shares = np.tile(np.eye(2, dtype=np.float32)[number], (len(images), 1))
    expected = [cv2.GaussianBlur(image, (0, 0), BLURS[number], borderType=cv2.BORDER_REPLICATE) for image in images]
    np.testing.assert_allclose(degraded(images, blur=shares)[..., 0], np.stack(expected), atol=2e-3)


def test_blurs_in_between_are_blends(images):
    halves = np.full((len(images), 2), 0.25, np.float32)
    ends = [degraded(images, blur=np.tile(np.eye(2, dtype=np.float32)[i], (len(images), 1))) for i in (0, 1)]
    expected = 0.5 * images + 0.25 * ends[0] + 0.25 * ends[1]
    np.testing.assert_allclose(degraded(images, blur=halves), expected, atol=1e-5)


def test_noise_has_the_deviation_that_was_drawn_and_is_the_same_for_the_same_number(images):
    noise = np.array([[0.05 * (i % 3), i // 2] for i in range(len(images))], np.float32)
    grey = np.zeros_like(images)
    noisy = degraded(grey, noise=noise)
    np.testing.assert_allclose(noisy.std(axis=(1, 2, 3)), noise[:, 0], rtol=0.1)
    np.testing.assert_array_equal(noisy, degraded(grey, noise=noise))


def test_degraded_faces_stay_within_the_range_and_outside_training_as_they_are(images):
    loud = np.tile(np.array([1.0, 3.0], np.float32), (len(images), 1))
    assert np.abs(degraded(images, noise=loud)).max() == 1.0
    np.testing.assert_array_equal(degraded(images, noise=loud, training=False), images)


def test_a_quarter_of_the_views_is_blurred_and_a_quarter_noisy():
    views = draw_views(np.random.default_rng(0), 4000, 48, Recipe())
    shares = views["blur"].sum(axis=1)
    assert 0.22 < (shares > 0).mean() < 0.28
    assert shares.max() <= 1.0
    assert 0.22 < (views["noise"][:, 0] > 0).mean() < 0.28
    assert views["noise"][:, 0].max() <= 25 / 127.5
    assert 0 <= views["noise"][:, 1].min() < views["noise"][:, 1].max() < GRAINS
