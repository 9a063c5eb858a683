"""Batches: which faces, which views, which targets; and the table that holds the faces."""

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="the trainer extra is not installed")

from edge.crop import scale_pixels
from trainer.augmentation import mix_targets
from trainer.batches import FaceBatches, FaceTable
from trainer.settings import Recipe

pytestmark = pytest.mark.trainer


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
        assert not np.array_equal(different[0]["number"], third[0]["number"])


def test_an_epoch_shows_each_face_once(drawn):
    data = batches(drawn)
    shown = np.concatenate([data[index][0]["number"] for index in range(len(data))])
    assert len(data) == 5
    assert sorted(shown) == list(range(70))


def test_evaluation_keeps_the_order_and_the_faces(drawn):
    inputs, targets, weights = batches(drawn, recipe=None)[1]
    np.testing.assert_array_equal(inputs["number"], np.arange(16, 32))
    np.testing.assert_array_equal(targets.argmax(axis=1), drawn.train.labels[16:32])
    np.testing.assert_array_equal(inputs["affine"], np.tile(np.float32([1, 0, 0, 0, 1, 0, 0, 0]), (16, 1)))
    assert weights.tolist() == [1.0] * 16


def test_labels_and_votes_are_mixed_as_their_faces_are(drawn):
    votes = np.eye(8, dtype=np.float32)[drawn.train.labels]
    inputs, targets, _ = batches(drawn, recipe=Recipe(mixup=1.0), votes=votes)[0]
    labels = drawn.train.labels[inputs["number"]]
    np.testing.assert_allclose(targets, mix_targets(np.eye(7, dtype=np.float32)[labels], inputs["own"]), atol=1e-6)
    np.testing.assert_allclose(inputs["votes"], mix_targets(votes[inputs["number"]], inputs["own"]), atol=1e-6)
    assert (targets.max(axis=1) < 0.99).any()


def test_a_mixed_face_weighs_what_its_labels_weigh_together(drawn):
    label_weights = np.arange(1, 8, dtype=np.float32)
    _, targets, weights = batches(drawn, recipe=Recipe(mixup=1.0), label_weights=label_weights)[0]
    np.testing.assert_allclose(weights, targets @ label_weights, rtol=1e-6)
    assert (weights % 1 > 0.01).any()
    _, _, weights = batches(drawn, recipe=Recipe(mixup=1.0))[0]
    assert (weights == 1.0).all(), "exactly, or mixing would move runs without label weights"


def test_a_split_further_down_the_table_is_numbered_from_there(drawn):
    inputs, _, _ = FaceBatches(drawn.validation, labels=7, batch=4, first=70)[0]
    np.testing.assert_array_equal(inputs["number"], [70, 71, 72, 73])


def test_the_table_gives_faces_as_the_daemon_scales_them(drawn):
    faces = np.asarray(FaceTable(drawn.train.images)(np.array([3, 0, 3])))
    np.testing.assert_array_equal(faces[..., 0], scale_pixels(drawn.train.images[[3, 0, 3]]))


def test_checkpoints_hold_no_faces(drawn, tmp_path):
    number = keras.Input((), dtype="int32")
    table = FaceTable(drawn.train.images)
    model = keras.Model(number, keras.layers.Dense(2)(keras.layers.Flatten()(table(number))))
    path = tmp_path / "model.weights.h5"
    model.save_weights(path)
    assert path.stat().st_size < 40_000 < drawn.train.images.nbytes
    before = np.asarray(model(np.array([1, 2])))
    model.load_weights(path)
    np.testing.assert_array_equal(np.asarray(model(np.array([1, 2]))), before)


def test_a_batch_that_devices_cannot_share_is_filled_with_faces_that_count_for_nothing(drawn):
    inputs, _, weights = batches(drawn, devices=4)[4]
    assert len(inputs["number"]) == len(inputs["affine"]) == 8
    assert weights.tolist() == inputs["counts"].tolist() == [1.0] * 6 + [0.0] * 2
    assert len(batches(drawn, devices=4)[0][2]) == 16
