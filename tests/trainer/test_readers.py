"""Face data as people have it: read whatever it comes in, and refused by name where it is broken."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import BadDataError, InputNotFoundError
from edge.labels import FER2013_LABELS
from trainer.datasets import copied_in, load_dataset

USAGES = ("Training", "PublicTest", "PrivateTest")
HEADER = "emotion,pixels,Usage"
PIXELS = " ".join(["7"] * 2304)


def test_fer2013_csv_gives_its_three_splits_in_the_order_of_its_rows(fer2013, sample):
    dataset = load_dataset(fer2013)
    images, labels, _ = sample
    assert (dataset.name, dataset.labels) == ("fer2013.csv", FER2013_LABELS)
    for number, name in enumerate(("train", "validation", "test")):
        split = dataset.split(name)
        rows = slice(7 * number, 7 * number + 7)
        np.testing.assert_array_equal(split.images, images[rows])
        np.testing.assert_array_equal(split.labels, labels[rows])
        np.testing.assert_array_equal(split.rows, np.arange(21)[rows])


def test_the_challenge_s_own_csv_with_spaces_and_another_order_gives_the_same(
    fer2013, sample, tmp_path, csv_rows, write_csv, assert_same
):
    rows = [",".join((row.split(",")[0], row.split(",")[2], row.split(",")[1])) for row in csv_rows(*sample)]
    icml = write_csv(tmp_path / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    assert_same(load_dataset(icml), load_dataset(fer2013))


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_change_nothing(
    fer2013, sample, tmp_path, csv_rows, assert_same
):
    other = tmp_path / "saved_by_a_spreadsheet.csv"
    other.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *csv_rows(*sample), "", ""]).encode())
    assert_same(load_dataset(other), load_dataset(fer2013))


def test_an_npz_gives_the_same(fer2013, sample, tmp_path, assert_same):
    images, labels, usage = sample
    np.savez(tmp_path / "fer2013.npz", pixels=images, emotion=labels.astype(np.uint8), usage=usage.astype(np.uint8))
    assert_same(load_dataset(tmp_path / "fer2013.npz"), load_dataset(fer2013))


def test_folders_give_the_same_images(fer2013, sample, tmp_path):
    for row, (image, label, usage) in enumerate(zip(*sample, strict=True)):
        folder = tmp_path / "faces" / ("train", "public", "private")[usage] / FER2013_LABELS[label]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{row}.png"), image)
    folders, csv = load_dataset(tmp_path / "faces"), load_dataset(fer2013)
    assert folders.labels == FER2013_LABELS
    for name in ("train", "validation", "test"):
        order = np.argsort(folders.split(name).labels)
        np.testing.assert_array_equal(folders.split(name).images[order], csv.split(name).images)


@pytest.fixture
def unsplit(tmp_path):
    """A folder of pictures that nobody has split: a hundred for each of three labels."""
    rng = np.random.default_rng(0)
    for label in ("angry", "happy", "sad"):
        (tmp_path / "faces" / label).mkdir(parents=True)
        for number in range(100):
            cv2.imwrite(str(tmp_path / "faces" / label / f"{number}.png"), rng.integers(0, 256, (48, 48), np.uint8))
    return tmp_path / "faces"


def test_pictures_that_nobody_has_split_are_dealt_eight_to_one_to_one_in_each_label(unsplit):
    dataset = load_dataset(unsplit)
    for name, count in (("train", 80), ("validation", 10), ("test", 10)):
        assert np.unique(dataset.split(name).labels, return_counts=True)[1].tolist() == [count] * 3


def test_pictures_that_come_in_later_do_not_test_a_network_on_what_it_was_trained_with(unsplit):
    before = load_dataset(unsplit)
    for label in ("angry", "happy", "sad"):
        for number in range(5):
            cv2.imwrite(str(unsplit / label / f"later{number}.png"), np.full((48, 48), number, np.uint8))
    moved = copied_in(before.train, load_dataset(unsplit).test)
    assert moved.sum() <= 3


def test_the_same_pictures_test_at_another_size(unsplit):
    small, large = load_dataset(unsplit), load_dataset(unsplit, size=96)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(small.split(name).rows, large.split(name).rows)


def test_a_large_csv_says_how_far_it_is(sample, tmp_path, csv_rows, write_csv):
    images, labels, _ = (np.tile(part, (15, *[1] * (part.ndim - 1))) for part in sample)
    path = write_csv(tmp_path / "long.csv", csv_rows(images, labels, np.arange(len(labels)) % 3))
    calls = []
    load_dataset(path, progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert len(calls) >= 3
    assert calls == sorted(calls)
    assert 0 < calls[1][0] < size
    assert calls[-1] == (size, size)


def test_fewer_of_fer2013_s_labels_keep_fer2013_s_order(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("neutral", "happy"), 10)
    dataset = load_dataset(tmp_path / "faces", size=32)
    assert dataset.labels == FER2013_LABELS
    assert set(dataset.train.labels) == {3, 6}


def test_a_picture_of_any_size_and_colour_becomes_one_grey_face(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("a", "b"), 10)
    cv2.imwrite(str(tmp_path / "faces" / "a" / "wide.jpg"), np.full((60, 100, 3), (0, 0, 255), np.uint8))
    dataset = load_dataset(tmp_path / "faces", size=40)
    everything = np.concatenate([dataset.split(name).images for name in ("train", "validation", "test")])
    assert everything.shape == (21, 40, 40)
    assert any(np.abs(image.astype(int) - 76).max() <= 2 for image in everything)  # red is 0.299 of white


# --- CSV -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"0,{PIXELS[:-2]},Training", "row 3 (line 4): 2303 pixels, expected 2304"),
        (f"0,{PIXELS} 7,Training", "row 3 (line 4): 2305 pixels"),
        (f"0,{PIXELS[:-1]}256,Training", "row 3 (line 4): a pixel of 256"),
        (f"0,{PIXELS[:-1]}-1,Training", "row 3 (line 4): a pixel of -1"),
        (f"0,{PIXELS[:-1]}99999999999999999999,Training", "row 3 (line 4): pixels must be whole numbers"),
        (f"0,{PIXELS[:-1]}white,Training", "row 3 (line 4): pixels must be whole numbers"),
        (f"0,{PIXELS[:-1]}7.5,Training", "row 3 (line 4): pixels must be whole numbers"),
        ("0,,Training", "row 3 (line 4): 0 pixels"),
        (f"7,{PIXELS},Training", "row 3 (line 4): emotion '7', expected one of 0 angry"),
        (f"-1,{PIXELS},Training", "row 3 (line 4): emotion '-1'"),
        (f"happy,{PIXELS},Training", "row 3 (line 4): emotion 'happy'"),
        (f"²,{PIXELS},Training", "row 3 (line 4): emotion '²'"),
        (f",{PIXELS},Training", "row 3 (line 4): emotion ''"),
        (f"0,{PIXELS},Testing", "row 3 (line 4): Usage 'Testing', expected Training, PublicTest, PrivateTest"),
        (f"0,{PIXELS}", "row 3 (line 4): 2 fields"),
        (f"0,{PIXELS[:100]}", "row 3 (line 4): 2 fields"),
        ("0", "row 3 (line 4): 1 fields"),
    ],
)  # fmt: skip
def test_a_bad_row_is_named_with_its_number_and_line(tmp_path, row, message, write_csv):
    good = [f"0,{PIXELS},{usage}" for usage in USAGES]
    path = write_csv(tmp_path / "bad.csv", [*good[:2], row, good[2]])
    with pytest.raises(BadDataError) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_csv_cut_inside_a_row_is_refused(fer2013):
    fer2013.write_bytes(fer2013.read_bytes()[:-3000])
    with pytest.raises(BadDataError, match=r"fer2013.csv: row 21 \(line 22\): .* is the file cut short"):
        load_dataset(fer2013)


def test_a_csv_cut_inside_the_last_word_is_refused(fer2013):
    fer2013.write_bytes(fer2013.read_bytes()[:-4])
    with pytest.raises(BadDataError, match=r"row 21 .* Usage 'Private.*is the file cut short"):
        load_dataset(fer2013)


def test_where_pixels_come_last_a_last_line_without_its_break_is_refused(sample, tmp_path, csv_rows, write_csv):
    rows = [",".join((row.split(",")[0], row.split(",")[2], row.split(",")[1])) for row in csv_rows(*sample)]
    rows[-1] = rows[-1].rpartition(" ")[0] + " 127"
    icml = write_csv(tmp_path / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    for _ in ("127", "12"):
        icml.write_bytes(icml.read_bytes()[:-1])
        with pytest.raises(BadDataError, match=r"icml_face_data\.csv: the last line has no line break"):
            load_dataset(icml)


def test_where_another_column_comes_last_the_break_may_be_missing(fer2013, assert_same):
    whole = load_dataset(fer2013)
    fer2013.write_bytes(fer2013.read_bytes()[:-1])
    assert_same(load_dataset(fer2013), whole)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 must name the columns emotion, pixels and Usage (it names nothing)"),
        (f"0,{PIXELS},Training\n".encode(), "line 1 must name the columns"),
        (b"emotion,pixels\n0,1 2 3\n", "line 1 must name the columns emotion, pixels and Usage (it names emotion, "),
        (f"{HEADER}\n".encode(), "no rows under the header"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not a CSV of text"),
        (f"{HEADER}\n0,{'7 ' * 100_000},Training\n".encode(), "not a CSV of text"),
    ],
    ids=["empty", "no header", "a column missing", "header alone", "a picture", "an endless field"],
)
def test_a_file_that_is_no_fer2013_is_refused(tmp_path, content, message):
    path = tmp_path / "fer2013.csv"
    path.write_bytes(content)
    with pytest.raises(BadDataError) as caught:
        load_dataset(path)
    assert str(caught.value).startswith(f"{path}: {message}")


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [[], ["notes.txt"], ["lonely.png"], ["train/"], ["train/angry/"]])
def test_a_folder_without_a_labelled_picture_is_refused(tmp_path, inside):
    root = tmp_path / "faces"
    root.mkdir()
    for name in inside:
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        else:
            cv2.imwrite(str(root / name), np.zeros((8, 8), np.uint8)) if name.endswith("png") else (root / name).touch()
    with pytest.raises(InputNotFoundError, match=r"faces.*: no picture in"):
        load_dataset(root)


def test_a_class_of_which_a_split_has_nothing_left_is_no_hindrance(tmp_path, make_folders):
    for split in ("train", "test"):
        make_folders(tmp_path / "faces" / split, ("a", "b"), 10)
    for path in (tmp_path / "faces/test/b").iterdir():
        path.unlink()
    (tmp_path / "faces/test/b/.DS_Store").touch()
    (tmp_path / "faces/train/__MACOSX/a").mkdir(parents=True)
    dataset = load_dataset(tmp_path / "faces")
    assert (dataset.labels, len(dataset.test)) == (("a", "b"), 10)
    (tmp_path / "faces/test/b/notes.txt").touch()
    with pytest.raises(InputNotFoundError, match=r"test/b: no picture in this folder"):
        load_dataset(tmp_path / "faces")


def test_a_picture_that_is_none_is_named(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("a", "b"), 10)
    (tmp_path / "faces" / "b" / "broken.png").write_bytes(b"this is no picture")
    with pytest.raises(BadDataError, match=r"broken\.png"):
        load_dataset(tmp_path / "faces")


def test_a_strip_whose_square_would_fill_the_memory_is_no_face(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("a", "b"), 10)
    cv2.imwrite(str(tmp_path / "faces" / "b" / "strip.png"), np.zeros((2, 50_000), np.uint8))
    with pytest.raises(BadDataError, match=r"strip\.png: 50000 x 2 pixels are no face"):
        load_dataset(tmp_path / "faces")


def test_spaces_around_a_folder_s_name_are_none_of_the_label_s(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("calm ", "tense"), 10)
    assert load_dataset(tmp_path / "faces").labels == ("calm", "tense")


def test_one_label_alone_is_nothing_to_tell_apart(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("cat",), 20)
    with pytest.raises(BadDataError, match=r"faces: folders: 1 labels; a classifier has at least two"):
        load_dataset(tmp_path / "faces")


# --- npz -------------------------------------------------------------------------------------------------------------


class _Trap:
    def __reduce__(self):
        return (os.mkdir, ("pwned",))


def test_an_npz_with_pickles_is_refused_and_runs_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trap = np.array([_Trap()] * 3, dtype=object)
    np.savez("trap.npz", pixels=np.zeros((3, 48, 48), np.uint8), emotion=trap, usage=np.arange(3))
    with pytest.raises(BadDataError, match=r"trap\.npz: holds pickled Python objects"):
        load_dataset(Path("trap.npz"))
    assert not Path("pwned").exists()


def good_arrays() -> dict[str, np.ndarray]:
    return {"pixels": np.zeros((3, 48, 48), np.uint8), "emotion": np.array([0, 1, 2]), "usage": np.arange(3)}


@pytest.mark.parametrize("key", ["pixels", "emotion", "usage"])
def test_an_npz_with_an_array_missing_is_refused(tmp_path, key):
    np.savez(tmp_path / "some.npz", **{name: array for name, array in good_arrays().items() if name != key})
    with pytest.raises(BadDataError, match=f"some.npz: array '{key}' is missing"):
        load_dataset(tmp_path / "some.npz")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pixels", np.zeros((3, 2304), np.uint8), r"pixels are uint8\[3, 2304\]"),
        ("pixels", np.zeros((3, 48, 40), np.uint8), r"pixels are uint8\[3, 48, 40\]"),
        ("pixels", np.zeros((3, 48, 48), np.float32), r"pixels are float32"),
        ("emotion", np.zeros(2, int), r"3 images, but emotion is \[2\]"),
        ("emotion", np.array([0, 7, 0]), "row 1: emotion 7, expected 0 to 6"),
        ("emotion", np.array(["a", "b", "c"]), "emotion is <U1, expected whole numbers"),
        ("emotion", np.array([0.0, np.nan, 1.0]), "emotion is float64, expected whole numbers"),
        ("usage", np.array([0, 1, 3]), "row 2: usage 3, expected 0 to 2"),
        ("labels", np.array(["a", "a"]), "labels: label 'a' stands twice"),
    ],
)
def test_an_npz_with_wrong_arrays_is_refused(tmp_path, key, value, message):
    np.savez(tmp_path / "some.npz", **(good_arrays() | {key: value}))
    with pytest.raises(BadDataError, match=rf"some\.npz: {message}"):
        load_dataset(tmp_path / "some.npz")


def test_an_npz_without_images_is_refused(tmp_path):
    np.savez(tmp_path / "none.npz", **{name: array[:0] for name, array in good_arrays().items()})
    with pytest.raises(BadDataError, match=r"none\.npz: no image"):
        load_dataset(tmp_path / "none.npz", size=32)
    np.savez(tmp_path / "none.npz", **(good_arrays() | {"pixels": np.zeros((3, 0, 0), np.uint8)}))
    with pytest.raises(BadDataError, match=r"none\.npz: no image in it, but rows without pixels"):
        load_dataset(tmp_path / "none.npz", size=32)


def test_an_npz_that_is_cut_short_damaged_or_something_else_is_refused(tmp_path):
    path = tmp_path / "some.npz"
    np.savez_compressed(path, **good_arrays())
    whole = path.read_bytes()
    bare = tmp_path / "bare.npy"
    np.save(bare, np.zeros(3))
    flipped = bytearray(whole)
    flipped[whole.index(b"pixels.npy") + 40] ^= 0xFF
    for content in (whole[:-50], whole[:40], b"", b"no zip", bare.read_bytes(), bytes(flipped)):
        path.write_bytes(content)
        with pytest.raises(BadDataError, match=r"some\.npz: "):
            load_dataset(path)
