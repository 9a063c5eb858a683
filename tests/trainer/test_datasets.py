"""Face data in three splits, brought to one size, warned of where it is not whole, and cleaned."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edge.crop import crop_face
from edge.errors import BadDataError, InputNotFoundError, UsageError
from edge.frame import Box
from trainer import datasets
from trainer.datasets import NEAR, Dataset, Split, clean, drop_labels, load_dataset, pooled, resplit, unique_images


def test_faces_are_brought_to_another_size_on_demand(fer2013):
    assert load_dataset(fer2013, size=64).test.images.shape == (7, 64, 64)
    assert load_dataset(fer2013).test.images.shape == (7, 48, 48)


# --- splits ----------------------------------------------------------------------------------------------------------


def test_folders_of_any_labels_without_splits_are_split_by_label_80_10_10(tmp_path, assert_same, make_folders):
    make_folders(tmp_path / "faces", ("tired", "Awake", "yawning"), 20)
    dataset = load_dataset(tmp_path / "faces", size=32)
    assert dataset.labels == ("awake", "tired", "yawning")
    assert [np.bincount(dataset.split(name).labels).tolist() for name in ("train", "validation", "test")] == [
        [16] * 3,
        [2] * 3,
        [2] * 3,
    ]
    rows = np.concatenate([dataset.split(name).rows for name in ("train", "validation", "test")])
    assert sorted(rows) == list(range(60))
    assert_same(load_dataset(tmp_path / "faces", size=32, cache=False), dataset)


def test_where_only_validation_is_missing_it_is_taken_from_training(tmp_path, make_folders):
    make_folders(tmp_path / "faces" / "train", ("a", "b"), 20)
    make_folders(tmp_path / "faces" / "test", ("a", "b"), 5)
    dataset = load_dataset(tmp_path / "faces", size=32)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [36, 4, 10]


@pytest.mark.parametrize(("rows", "split"), [(14, "test"), (7, "validation")])
def test_a_csv_cut_between_rows_so_that_a_split_is_missing_is_refused(fer2013, rows, split):
    fer2013.write_text("".join(fer2013.read_text().splitlines(keepends=True)[: rows + 1]))
    with pytest.raises(BadDataError, match=f"fer2013.csv: no image for the {split} split; is the file cut short"):
        load_dataset(fer2013)


def test_a_csv_cut_between_rows_of_its_last_split_is_read_with_a_warning(fer2013):
    for _ in ("read", "from the cache"):
        warning = load_dataset(fer2013).warning
        assert "fer2013.csv: 7/7/7 rows" in warning
        assert "FER2013 has 28,709/3,589/3,589" in warning


def test_a_csv_with_fer2013_s_counts_and_data_that_is_no_csv_bring_no_warning(fer2013, sample, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "FER2013_COUNTS", (7, 7, 7))
    assert load_dataset(fer2013).warning == ""
    monkeypatch.undo()
    images, labels, usage = sample
    np.savez(tmp_path / "mine.npz", pixels=images, emotion=labels, usage=usage)
    assert load_dataset(tmp_path / "mine.npz").warning == ""


# --- what is not there -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013.npz", "faces"])
def test_what_is_not_there_is_named(tmp_path, name):
    with pytest.raises(InputNotFoundError, match=f"{name}: no such file or folder"):
        load_dataset(tmp_path / name)


def test_a_name_that_no_file_system_takes_is_an_input_that_cannot_be_read(tmp_path):
    with pytest.raises(InputNotFoundError, match="cannot be read"):
        load_dataset(tmp_path / ("x" * 300))


# --- cleaning --------------------------------------------------------------------------------------------------------


def numbered(values: Sequence[int], labels: Sequence[int]) -> Split:
    """4 x 4 images, each told from the others by one pixel; value 0 is a blank one."""
    images = np.full((len(values), 4, 4), 9, np.uint8)
    images[:, 0, 0] += np.array(values, np.uint8)
    return Split(images, np.array(labels, np.int64), np.arange(len(values)))


def test_cleaning_leaves_out_blanks_duplicates_conflicts_and_leaks_and_counts_each_once():
    dataset = Dataset(
        "some",
        ("a", "b"),
        train=numbered([0, 1, 2, 2, 2, 3, 3, 4, 5, 6, 0], [0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 1]),
        validation=numbered([4, 7, 0], [0, 0, 0]),
        test=numbered([5, 8, 5], [1, 0, 0]),
        test_copied=np.array([True, False, True]),
        left_out={},
    )
    cleaned = clean(dataset)
    assert cleaned.train.rows.tolist() == [1, 2, 9]
    assert cleaned.train.labels.tolist() == [0, 1, 1]
    assert cleaned.left_out == {
        "blank": 2,
        "also in a test split": 2,
        "duplicates with conflicting labels": 2,
        "exact duplicates": 2,
    }
    assert cleaned.validation is dataset.validation
    assert cleaned.test is dataset.test
    assert clean(cleaned).left_out == dict.fromkeys(cleaned.left_out, 0)


def test_strict_cleaning_also_leaves_out_photos_of_the_test_splits_in_another_encoding(portraits):
    crops = np.stack([crop_face(cv2.cvtColor(each, cv2.COLOR_BGR2GRAY), Box(0, 0, *each.shape[1::-1]), 48)
                      for each in portraits])  # fmt: skip
    encoded = np.stack([cv2.imdecode(cv2.imencode(".jpg", crop)[1], 0) for crop in crops[:3]])
    parts = [encoded, crops[3:6]], [crops[:1], crops[6:7]], [crops[1:2], crops[7:]]
    train, validation, test = (
        Split(images := np.concatenate(part), np.zeros(len(images), np.int64), np.arange(len(images))) for part in parts
    )
    dataset = Dataset("some", ("a", "b"), train, validation, test, np.zeros(len(test), bool), {})
    assert sum(clean(dataset).left_out.values()) == 0
    cleaned = clean(dataset, strictly=True)
    assert cleaned.train.rows.tolist() == [2, 3, 4, 5]
    assert cleaned.left_out[NEAR] == 2


def test_cleaning_that_leaves_nothing_is_refused_with_what_was_wrong():
    images = numbered([1, 2, 0], [0, 1, 1])
    everything = Dataset("some.csv", ("a", "b"), images, images, images, np.ones(3, bool), {})
    with pytest.raises(BadDataError, match=r"some\.csv: cleaning leaves .* \(1 blank, 2 also in a test split\)"):
        clean(everything)


def test_of_thousands_of_leaked_images_not_one_stays():
    images = np.random.default_rng(0).integers(0, 256, (4000, 4, 4), np.uint8)
    everything = Split(images, np.zeros(4000, np.int64), np.arange(4000))
    held_out = everything.where(everything.rows < 3000)
    dataset = Dataset("some", ("a", "b"), everything, held_out, held_out, np.ones(3000, bool), {})
    cleaned = clean(dataset)
    assert cleaned.left_out["also in a test split"] == 3000
    assert cleaned.train.rows.tolist() == list(range(3000, 4000))


def test_test_images_that_also_stand_in_training_are_marked(tmp_path):
    train, validation, test = numbered([1, 2, 3], [0, 0, 1]), numbered([4], [0]), numbered([9, 2, 4, 3], [0, 0, 0, 0])
    np.savez(
        tmp_path / "some.npz",
        pixels=np.concatenate([train.images, validation.images, test.images]),
        emotion=np.zeros(8, int),
        usage=np.array([0, 0, 0, 1, 2, 2, 2, 2]),
    )
    dataset = load_dataset(tmp_path / "some.npz", size=4)
    assert dataset.test_copied.tolist() == [False, True, False, True]
    assert clean(dataset).test_copied.tolist() == [False, True, False, True]


# --- leaving classes out ---------------------------------------------------------------------------------------------


def test_dropped_labels_leave_every_split_and_the_others_are_numbered_anew(drawn):
    marked = replace(drawn, test_copied=drawn.test.labels == 3)
    dropped = drop_labels(marked, ["fear", "disgust"])
    assert dropped.labels == ("angry", "happy", "sad", "surprise", "neutral")
    assert dropped.name == "drawn.npz without disgust, fear"
    for name in ("train", "validation", "test"):
        before, after = drawn.split(name), dropped.split(name)
        assert len(after) == len(before) * 5 // 7
        for image, label, row in zip(after.images, after.labels, after.rows, strict=True):
            np.testing.assert_array_equal(image, before.images[row])
            assert dropped.labels[label] == drawn.labels[before.labels[row]]
    assert (dropped.test_copied == (dropped.test.labels == 1)).all()


def test_without_labels_to_drop_a_data_set_stays_as_it_is(drawn):
    assert drop_labels(drawn, []) is drawn


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["joy"], "cannot drop 'joy': drawn.npz has the labels angry, disgust, fear, happy"),
        (["angry", "disgust", "fear", "happy", "sad", "surprise"], "at least two must stay"),
    ],
)
def test_labels_that_cannot_be_dropped_are_refused_with_those_there_are(drawn, names, message):
    with pytest.raises(UsageError, match=message):
        drop_labels(drawn, names)


def test_dropping_that_empties_a_split_is_refused():
    one, two = numbered([1, 2, 3], [0, 1, 2]), numbered([4, 5], [0, 0])
    dataset = Dataset("some", ("a", "b", "c"), one, two, one, np.zeros(3, bool), {})
    with pytest.raises(UsageError, match="no image of the validation split of some is left"):
        drop_labels(dataset, ["a"])


# --- random splits ---------------------------------------------------------------------------------------------------


def test_a_random_split_deals_every_image_once_each_label_by_its_share(drawn):
    dealt = resplit(drawn, (0.7, 0.1, 0.2), seed=1)
    counts = {name: np.bincount(dealt.split(name).labels).tolist() for name in ("train", "validation", "test")}
    assert counts == {"train": [14] * 7, "validation": [2] * 7, "test": [4] * 7}
    everything = sorted(image.tobytes() for image in pooled(dealt).images)
    assert everything == sorted(image.tobytes() for image in pooled(drawn).images)
    assert unique_images(pooled(dealt)) == 140


def test_a_random_split_follows_from_its_seed(drawn, assert_same):
    shares = (0.7, 0.1, 0.2)
    assert_same(resplit(drawn, shares, seed=1), resplit(drawn, shares, seed=1))
    assert not np.array_equal(resplit(drawn, shares, 1).test.images, resplit(drawn, shares, 2).test.images)


def test_a_random_split_marks_the_tests_whose_copy_it_dealt_to_training():
    once, twice = numbered(range(1, 101), [0] * 100), numbered(range(1, 101), [0] * 100)
    dataset = Dataset("some", ("a", "b"), once, numbered([101], [0]), twice, np.ones(100, bool), {})
    dealt = resplit(dataset, (0.7, 0.1, 0.2), seed=0)
    in_train = {image.tobytes() for image in dealt.train.images}
    assert dealt.test_copied.tolist() == [image.tobytes() in in_train for image in dealt.test.images]
    assert 0 < dealt.test_copied.sum() < len(dealt.test)
    assert unique_images(pooled(dealt)) == 101


def test_too_few_images_for_a_random_split_are_refused():
    tiny = numbered([1], [0])
    with pytest.raises(BadDataError, match="some: no image for the validation split"):
        resplit(Dataset("some", ("a", "b"), tiny, tiny, tiny, np.zeros(1, bool), {}), (0.7, 0.1, 0.2), seed=0)


# --- the real thing --------------------------------------------------------------------------------------------------


def test_fer2013_itself_has_the_counts_that_are_known_of_it(real_fer2013):
    dataset = load_dataset(real_fer2013)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [28_709, 3_589, 3_589]
    assert int(dataset.test_copied.sum()) == 288
    assert (len(pooled(dataset)), unique_images(pooled(dataset))) == (35_887, 34_034)
    cleaned = clean(dataset)
    assert len(cleaned.train) == 28_709 - sum(cleaned.left_out.values())
    kept = {image.tobytes() for image in cleaned.train.images}
    assert len(kept) == len(cleaned.train)
    assert not kept & {image.tobytes() for image in (*dataset.validation.images, *dataset.test.images)}
    assert (len(cleaned.validation), len(cleaned.test)) == (3_589, 3_589)
