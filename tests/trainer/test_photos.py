"""Which photos there are, and what is said of each."""

import re
from pathlib import Path

import pytest

from edge.errors import BadDataError, InputNotFoundError
from trainer.photos import FOLDER, NO_LABEL, NOT_A_PICTURE, SEEN_ALREADY, list_photos


@pytest.fixture
def make(tmp_path):
    """Makes empty files; who lists photos does not open them."""

    def write(*names: str) -> Path:
        for name in names:
            (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "photos" / name).touch()
        return tmp_path / "photos"

    return write


@pytest.fixture
def table(tmp_path):
    def write(text: str, encoding: str = "utf-8") -> Path:
        (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
        return tmp_path / "labels.csv"

    return write


def said(root, **options):
    return [(p.name, p.label, p.split, p.person) for p in list_photos(root, **options)[0]]


def left_out(root, **options):
    return [(other.name, other.reason) for other in list_photos(root, **options)[1]]


def test_a_folder_s_name_is_the_label_of_all_photos_in_it_and_below_in_their_order(make):
    root = make("happy/10.jpg", "happy/2.JPG", "happy/anna/1.png", "Sad/x.webp")
    assert said(root) == [
        ("Sad/x.webp", "sad", "", ""),
        ("happy/2.JPG", "happy", "", ""),
        ("happy/10.jpg", "happy", "", ""),
        ("happy/anna/1.png", "happy", "", ""),
    ]


def test_folders_may_give_the_split_under_any_of_its_names(make):
    root = make("train/happy/1.jpg", "PublicTest/happy/2.jpg", "test/sad/3.jpg")
    assert [(name, split) for name, _, split, _ in said(root)] == [
        ("PublicTest/happy/2.jpg", "validation"), ("test/sad/3.jpg", "test"), ("train/happy/1.jpg", "train"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options", "label", "person"),
    [
        ("happy/anna/1.jpg", {"person": FOLDER}, "happy", "anna"),
        ("happy/anna/may/1.jpg", {"person": FOLDER}, "happy", "anna"),
        ("train/happy/anna/1.jpg", {"person": FOLDER}, "happy", "anna"),
        ("happy/1.jpg", {"person": FOLDER}, "happy", ""),
        ("happy/s01_3.jpg", {"person": re.compile(r"^(s\d+)_")}, "happy", "s01"),
        ("happy/s01_3.jpg", {"person": re.compile(r"s\d+")}, "happy", "s01"),
        ("anna/happy/1.jpg", {"label": re.compile("/([^/]+)/"), "person": re.compile("^([^/]+)/")}, "happy", "anna"),
        ("anna/happy/1.jpg", {"label": re.compile("/([^/]+)/"), "person": FOLDER}, "happy", "anna"),
        ("all/Rafd090_01_Angry_left.jpg", {"label": re.compile("_(angry|happy)_", re.I),
         "person": re.compile(r"^Rafd\d+_(\d+)|^x(\d+)")}, "angry", "01"),
    ],
)  # fmt: skip
def test_label_and_person_are_found_in_names_and_folders(make, name, options, label, person):
    other = name.replace("1.jpg", "9.jpg")
    assert next(p[1::2] for p in said(make(name, other), **options)) == (label, person)


def test_whom_a_pattern_s_groups_do_not_name_is_nobody_and_no_person_of_that_rest(make):
    root = make("happy/s1_1.jpg", "happy/_2.jpg", "sad/s2_3.jpg")
    for pattern in (r"^(s\d)?_", r"^(s?\d*)_"):
        assert [person for *_, person in said(root, person=re.compile(pattern))] == ["", "s1", "s2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"person": re.compile("^(s[0-9]+)_")}, r"--person '.*' fits no file name of 2, such as 'happy/1.jpg'"),
        ({"label": re.compile("/x/(.*)")}, "--label '/x/.*' fits no path of 2"),
    ],
)
def test_a_pattern_that_fits_nothing_is_refused(make, options, message):
    with pytest.raises(BadDataError, match=message):
        list_photos(make("happy/1.jpg", "sad/2.jpg"), **options)


def test_what_is_no_photo_or_has_no_label_is_listed_and_hidden_files_are_not(make):
    root = make("1.jpg", "happy/1.jpg", "happy/film.mp4", "happy/IMG.HEIC", "sad/2.jpg", ".git/3.jpg", "sad/.4.jpg")
    assert left_out(root) == [
        ("happy/film.mp4", NOT_A_PICTURE), ("happy/IMG.HEIC", NOT_A_PICTURE), ("1.jpg", NO_LABEL),
    ]  # fmt: skip


def test_links_are_followed_and_loops_are_not(make, tmp_path):
    root = make("happy/1.jpg", "sad/2.jpg")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "3.jpg").touch()
    (root / "fear").symlink_to(elsewhere)
    (root / "happy" / "up").symlink_to(root)
    (root / "sad" / "itself").symlink_to("itself")
    assert [name for name, *_ in said(root)] == ["fear/3.jpg", "happy/1.jpg", "sad/2.jpg"]
    assert left_out(root) == [("happy/up", SEEN_ALREADY), ("sad/itself", NOT_A_PICTURE)]


def test_names_that_are_not_utf_8_are_listed(make):
    root = make("happy/1.jpg", "sad/2.jpg")
    (root / "sad" / "\udce4.jpg").touch()
    assert ("sad/\udce4.jpg", "sad", "", "") in said(root)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([], InputNotFoundError, "no such folder"),
        (["1.jpg", "2.jpg"], InputNotFoundError, "no photo with a label in it; expected folders such as happy"),
        (["calm/1.jpg"], BadDataError, "1 labels; a classifier has at least two"),
        (["uncertain/1.jpg", "calm/2.jpg"], BadDataError, "'uncertain', which Mien itself says"),
    ],
)
def test_a_folder_without_what_is_needed_is_refused(make, names, error, message):
    with pytest.raises(error, match=message):
        list_photos(make(*names))


def test_a_csv_says_it_all_and_its_photos_need_no_folders(make, table):
    root = make("a.jpg", "in/b.jpg", "c.png")
    text = (
        "Path,Label,person,split,remark\na.jpg,Happy,anna,train,x\nin/b.jpg,sad,ben,PublicTest,\n\n./c.png, sad ,,,\n"
    )
    assert said(root, table=table(text)) == [
        ("a.jpg", "happy", "train", "anna"), ("in/b.jpg", "sad", "validation", "ben"), ("c.png", "sad", "", ""),
    ]  # fmt: skip


def test_a_person_may_have_a_split_on_one_photo_and_none_on_another(make, table):
    text = "path,label,person,split\na.jpg,happy,anna,\nb.jpg,sad,anna,test\n"
    assert [split for _, _, split, _ in said(make("a.jpg", "b.jpg"), table=table(text))] == ["", "test"]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_a_spreadsheet_s_csv_is_read(make, table, sign):
    text = '\ufeffpath,label\n"a, b.jpg",happy\nä.jpg,sad\n'.replace(",", sign).replace(f"{sign} b", ", b")
    assert said(make("a, b.jpg", "ä.jpg"), table=table(text)) == [
        ("a, b.jpg", "happy", "", ""), ("ä.jpg", "sad", "", ""),
    ]  # fmt: skip


def test_a_csv_s_rows_may_name_whole_paths_and_files_that_are_no_photos(make, table):
    root = make("a.jpg", "b.jpg", "c.mp4")
    text = f"path,label\n{root.absolute()}/a.jpg,happy\nb.jpg,sad\nc.mp4,sad\n"
    assert [name for name, *_ in said(root, table=table(text))] == ["a.jpg", "b.jpg"]
    assert left_out(root, table=table(text)) == [("c.mp4", NOT_A_PICTURE)]


def test_an_option_wins_over_the_csv_s_persons(make, table):
    root = make("anna/a.jpg", "b.jpg")
    text = "path,label,person\nanna/a.jpg,happy,x\nb.jpg,sad,y\n"
    assert [person for *_, person in said(root, table=table(text), person=FOLDER)] == ["anna", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1 must name the columns path and label.*it names nothing"),
        ("file,label\na.jpg,happy\n", "line 1 must name the columns path and label.*it names file, label"),
        ("path,label\na.jpg\n", r"row 1 \(line 2\): 1 fields, expected 2 \(path, label\)"),
        ("path,label\n\n,happy\n", r"row 1 \(line 3\): path is empty"),
        ("path,label,split\na.jpg,happy,dev\n", r"row 1 \(line 2\): split 'dev', expected train, validation, test"),
        ("path,label\na.jpg,happy\n./a.jpg,sad\n", r"row 2 \(line 3\): a.jpg stands in .*row 1 \(line 2\) already"),
        ("path,label\n../a.jpg,happy\n", r"row 1 \(line 2\): ../a.jpg lies outside"),
        ("path,label\n/etc/a.jpg,happy\n", r"row 1 \(line 2\): /etc/a.jpg lies outside"),
        ("path,label\na\0.jpg,happy\n", r"row 1 \(line 2\): path 'a\\x00.jpg' cannot be a file's name"),
        ("path,label\na.jpg,../up\n", r"row 1 \(line 2\): label '../up' cannot be a folder's name"),
        ("path,label\na.jpg,\n", "no photo with a label"),
        ("path,label,person,split\na.jpg,happy,anna,train\nb.jpg,sad,anna,test\n",
         r"person 'anna' is to stand in train \(.*row 1.*\) and in test \(.*row 2"),
    ],
)  # fmt: skip
def test_a_csv_s_mistakes_are_named_with_their_row(make, table, text, message):
    with pytest.raises((BadDataError, InputNotFoundError), match=message):
        list_photos(make("a.jpg", "b.jpg"), table=table(text))


def test_a_csv_that_is_not_there_or_not_utf_8_is_refused(make, table, tmp_path):
    root = make("a.jpg")
    with pytest.raises(InputNotFoundError, match=r"none.csv: not there; check --csv"):
        list_photos(root, table=tmp_path / "none.csv")
    with pytest.raises(BadDataError, match=r"not a CSV of text .* save it as CSV in UTF-8"):
        list_photos(root, table=table("path,label\nä.jpg,happy\n", "latin-1"))
