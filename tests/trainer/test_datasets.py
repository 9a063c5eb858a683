"""Face data as people have it: read, refused by name where it is broken, and cleaned."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import BadDataError, InputNotFoundError
from edge.labels import FER2013_LABELS
from trainer import datasets
from trainer.datasets import Dataset, Split, clean, load_dataset

USAGES = ("Training", "PublicTest", "PrivateTest")
HEADER = "emotion,pixels,Usage"
PIXELS = " ".join(["7"] * 2304)


def rows_of(images, labels, usage) -> list[str]:
    return [
        f"{label},{' '.join(map(str, image.ravel()))},{USAGES[split]}"
        for image, label, split in zip(images, labels, usage, strict=True)
    ]


def write(path: Path, rows: Sequence[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def sample(faces):
    """21 faces of FER2013's size, seven a split."""
    images, labels = faces(21, 48, 0)
    return images, labels, np.repeat([0, 1, 2], 7)


@pytest.fixture
def fer2013(sample, tmp_path: Path) -> Path:
    return write(tmp_path / "fer2013.csv", rows_of(*sample))


def assert_same(one: Dataset, other: Dataset) -> None:
    assert one.labels == other.labels
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(one.split(name).images, other.split(name).images)
        np.testing.assert_array_equal(one.split(name).labels, other.split(name).labels)
        np.testing.assert_array_equal(one.split(name).rows, other.split(name).rows)


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


def test_the_challenge_s_own_csv_with_spaces_and_another_order_gives_the_same(fer2013, sample, tmp_path):
    rows = [",".join((row.split(",")[0], row.split(",")[2], row.split(",")[1])) for row in rows_of(*sample)]
    icml = write(tmp_path / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    assert_same(load_dataset(icml), load_dataset(fer2013))


def test_a_byte_order_mark_windows_line_ends_and_empty_lines_change_nothing(fer2013, sample, tmp_path):
    other = tmp_path / "saved_by_a_spreadsheet.csv"
    other.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([HEADER, *rows_of(*sample), "", ""]).encode())
    assert_same(load_dataset(other), load_dataset(fer2013))


def test_an_npz_gives_the_same(fer2013, sample, tmp_path):
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


def test_faces_are_brought_to_another_size_on_demand(fer2013):
    assert load_dataset(fer2013, size=64).test.images.shape == (7, 64, 64)
    assert load_dataset(fer2013).test.images.shape == (7, 48, 48)


def test_a_large_csv_says_how_far_it_is(sample, tmp_path):
    images, labels, _ = (np.tile(part, (15, *[1] * (part.ndim - 1))) for part in sample)
    path = write(tmp_path / "long.csv", rows_of(images, labels, np.arange(len(labels)) % 3))
    calls = []
    load_dataset(path, progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert len(calls) >= 3
    assert calls == sorted(calls)
    assert 0 < calls[1][0] < size
    assert calls[-1] == (size, size)


# --- the cache -------------------------------------------------------------------------------------------------------


def overwrite_unseen(path: Path) -> None:
    """Change a file's content behind its size and time."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_second_time_the_csv_is_not_read(fer2013):
    first = load_dataset(fer2013)
    overwrite_unseen(fer2013)
    calls = []
    assert_same(load_dataset(fer2013, progress=lambda *call: calls.append(call)), first)
    assert not calls


def test_without_the_cache_it_is(fer2013):
    load_dataset(fer2013)
    overwrite_unseen(fer2013)
    with pytest.raises(BadDataError):
        load_dataset(fer2013, cache=False)


def test_a_csv_that_changed_is_parsed_again_and_takes_no_second_place_in_the_cache(fer2013, sample, tmp_path):
    load_dataset(fer2013)
    images, labels, usage = sample
    write(fer2013, rows_of(255 - images, labels, usage))
    os.utime(fer2013, (1, 1))
    np.testing.assert_array_equal(load_dataset(fer2013).train.images, 255 - images[:7])
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


@pytest.mark.parametrize("damage", [b"", b"not an npz", None], ids=["empty", "something else", "cut short"])
def test_a_damaged_cache_file_is_passed_over(fer2013, tmp_path, damage):
    first = load_dataset(fer2013)
    (cached,) = (tmp_path / "cache").rglob("*.npz")
    cached.write_bytes(cached.read_bytes()[:-100] if damage is None else damage)
    assert_same(load_dataset(fer2013), first)
    overwrite_unseen(fer2013)
    assert_same(load_dataset(fer2013), first)  # and was written anew


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(fer2013, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert len(load_dataset(fer2013).train) == 7
    assert "nothing cached" in capsys.readouterr().err


def test_only_the_owner_may_look_into_the_cache(fer2013, tmp_path):
    place = tmp_path / "cache" / "mien"
    place.mkdir(parents=True, mode=0o755)
    before = os.umask(0o022)
    try:
        load_dataset(fer2013)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()] == [0o600]


def test_pictures_of_a_folder_are_copied_nowhere(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("cat", "dog"), 20)
    load_dataset(tmp_path / "faces", size=32)
    assert not (tmp_path / "cache").exists()


# --- folders ---------------------------------------------------------------------------------------------------------


def make_folders(root: Path, faces: Callable, labels: Sequence[str], count: int) -> None:
    images, _ = faces(count * len(labels), 32, 1)
    for number, image in enumerate(images):
        folder = root / labels[number % len(labels)]
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), image)


def test_folders_of_any_labels_without_splits_are_split_by_label_80_10_10(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("tired", "Awake", "yawning"), 20)
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


def test_where_only_validation_is_missing_it_is_taken_from_training(tmp_path, faces):
    make_folders(tmp_path / "faces" / "train", faces, ("a", "b"), 20)
    make_folders(tmp_path / "faces" / "test", faces, ("a", "b"), 5)
    dataset = load_dataset(tmp_path / "faces", size=32)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [36, 4, 10]


def test_fewer_of_fer2013_s_labels_keep_fer2013_s_order(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("neutral", "happy"), 10)
    dataset = load_dataset(tmp_path / "faces", size=32)
    assert dataset.labels == FER2013_LABELS
    assert set(dataset.train.labels) == {3, 6}


def test_a_picture_of_any_size_and_colour_becomes_one_grey_face(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("a", "b"), 10)
    cv2.imwrite(str(tmp_path / "faces" / "a" / "wide.jpg"), np.full((60, 100, 3), (0, 0, 255), np.uint8))
    dataset = load_dataset(tmp_path / "faces", size=40)
    everything = np.concatenate([dataset.split(name).images for name in ("train", "validation", "test")])
    assert everything.shape == (21, 40, 40)
    assert any(np.abs(image.astype(int) - 76).max() <= 2 for image in everything)  # red is 0.299 of white


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fer2013.csv", "fer2013.npz", "faces"])
def test_what_is_not_there_is_named(tmp_path, name):
    with pytest.raises(InputNotFoundError, match=f"{name}: no such file or folder"):
        load_dataset(tmp_path / name)


def test_a_name_that_no_file_system_takes_is_an_input_that_cannot_be_read(tmp_path):
    with pytest.raises(InputNotFoundError, match="cannot be read"):
        load_dataset(tmp_path / ("x" * 300))


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
def test_a_bad_row_is_named_with_its_number_and_line(tmp_path, row, message):
    good = [f"0,{PIXELS},{usage}" for usage in USAGES]
    path = write(tmp_path / "bad.csv", [*good[:2], row, good[2]])
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


@pytest.mark.parametrize(("rows", "split"), [(14, "test"), (7, "validation")])
def test_a_csv_cut_between_rows_so_that_a_split_is_missing_is_refused(fer2013, rows, split):
    fer2013.write_text("".join(fer2013.read_text().splitlines(keepends=True)[: rows + 1]))
    with pytest.raises(BadDataError, match=f"fer2013.csv: no image for the {split} split; is the file cut short"):
        load_dataset(fer2013)


def test_where_pixels_come_last_a_last_line_without_its_break_is_refused(sample, tmp_path):
    rows = [",".join((row.split(",")[0], row.split(",")[2], row.split(",")[1])) for row in rows_of(*sample)]
    rows[-1] = rows[-1].rpartition(" ")[0] + " 127"
    icml = write(tmp_path / "icml_face_data.csv", rows, "emotion, Usage, pixels")
    for _ in ("127", "12"):
        icml.write_bytes(icml.read_bytes()[:-1])
        with pytest.raises(BadDataError, match=r"icml_face_data\.csv: the last line has no line break"):
            load_dataset(icml)


def test_where_another_column_comes_last_the_break_may_be_missing(fer2013):
    whole = load_dataset(fer2013)
    fer2013.write_bytes(fer2013.read_bytes()[:-1])
    assert_same(load_dataset(fer2013), whole)


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


def test_a_picture_that_is_none_is_named(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("a", "b"), 10)
    (tmp_path / "faces" / "b" / "broken.png").write_bytes(b"this is no picture")
    with pytest.raises(BadDataError, match=r"broken\.png"):
        load_dataset(tmp_path / "faces")


def test_one_label_alone_is_nothing_to_tell_apart(tmp_path, faces):
    make_folders(tmp_path / "faces", faces, ("cat",), 20)
    with pytest.raises(BadDataError, match=r"faces: folders: 1 labels; a classifier has at least two"):
        load_dataset(tmp_path / "faces")


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


# --- the real thing --------------------------------------------------------------------------------------------------


def test_fer2013_itself_has_the_counts_that_are_known_of_it(real_fer2013):
    dataset = load_dataset(real_fer2013)
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [28_709, 3_589, 3_589]
    assert int(dataset.test_copied.sum()) == 288
    cleaned = clean(dataset)
    assert len(cleaned.train) == 28_709 - sum(cleaned.left_out.values())
    kept = {image.tobytes() for image in cleaned.train.images}
    assert len(kept) == len(cleaned.train)
    assert not kept & {image.tobytes() for image in (*dataset.validation.images, *dataset.test.images)}
    assert (len(cleaned.validation), len(cleaned.test)) == (3_589, 3_589)
