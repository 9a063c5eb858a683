"""`mien-train prepare` on real photos: what it finds, leaves out and deals, and how it goes on."""

import csv
import json
import os
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge.camera import open_camera
from edge.classify import classify_paths
from edge.detector import Detector
from edge.errors import BadDataError
from edge.events import Reporter
from edge.frame import Face
from edge.model import Model
from edge.modelfile import SHIPPED, read_model_file
from edge.pictures import read_picture
from edge.pipeline import Vision
from edge.smoothing import Smoother
from trainer.cli import main
from trainer.datasets import SPLITS, clean, load_dataset
from trainer.faces_folder import FacesFolder

ROOT = Path(__file__).parents[2]
PLACES = ("happy/anna.png", "neutral/grace.jpg", "happy/c.png", "neutral/d.png", "happy/e.png", "neutral/f.png",
          "happy/g.png", "neutral/h.png")  # fmt: skip


def put(root: Path, name: str, picture) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(root / name), picture)
    return root / name


@pytest.fixture
def photos(tmp_path, portraits) -> Path:
    """Eight people, four a label."""
    for name, picture in zip(PLACES, portraits, strict=True):
        put(tmp_path / "photos", name, picture)
    return tmp_path / "photos"


@pytest.fixture
def prepare(tmp_path, photos, capsys):
    """Runs the command and gives back its exit code, its summary and what it said on stderr."""

    def run(*options: object, out: str = "faces"):
        code = main(["prepare", str(photos), "--out", str(tmp_path / out), "--json", *map(str, options)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else {}, said.err

    return run


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "prepare.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def fate(out: Path) -> dict[str, str]:
    return {row["path"]: row["left_out"] or row["split"] for row in rows(out)}


def contents(out: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(out)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in out.rglob("*") if path.is_file()
    }  # fmt: skip


class Watched(Model):
    """The shipped model; keeps what is handed to it."""

    def classify_face(self, face):
        self.faces.append(face.copy())
        return super().classify_face(face)


@pytest.mark.parametrize("turned", [False, True], ids=["upright", "EXIF"])
def test_a_face_is_pixel_for_pixel_what_the_daemon_hands_to_its_model(tmp_path, photos, prepare, turned):
    if turned:  # a phone's photo: stored on its side, with a note that says so
        from PIL import Image

        for path in photos.rglob("*.*"):
            sideways = Image.open(path).convert("RGB").transpose(Image.Transpose.ROTATE_90)
            exif = Image.Exif()
            exif[0x0112] = 6
            sideways.save(path.with_suffix(".jpg"), quality=95, exif=exif)
            if path.suffix == ".png":
                path.unlink()
    code, summary, _ = prepare("--faces", "all")
    assert code == 0
    assert summary["faces"] >= 8
    prepared = {}
    for row in rows(tmp_path / "faces"):
        assert not row["left_out"], row
        box = tuple(int(row[key]) for key in ("x", "y", "width", "height"))
        prepared[row["path"], box] = read_picture(tmp_path / "faces" / row["file"]).gray
    classified, watched = {}, {}
    for path in sorted(photos.rglob("*.*")):
        name = path.relative_to(photos).as_posix()
        model = Watched(read_model_file(SHIPPED))
        model.faces = []
        (photo,) = classify_paths([path], model=model, detector=Detector())
        boxes = [box for box, _ in photo.faces]
        classified |= {(name, box.as_tuple()): face for box, face in zip(boxes, model.faces, strict=True)}
        # The daemon follows a face with a box of its own; told this one, it cuts the very same square.
        model.faces = []
        told = SimpleNamespace(update=lambda _, boxes=boxes: [Face(box, number) for number, box in enumerate(boxes, 1)])
        smoother = Smoother(model.labels, model.thresholds, time_constant=0.5)
        reporter = Reporter(
            device="test", labels=model.labels, model=model.name, start=1, every=5.0,
            now=lambda _: datetime(2026, 11, 21, tzinfo=UTC), clock_synced=lambda: True,
        )  # fmt: skip
        with open_camera(str(path)) as camera:
            Vision(told, model, smoother, reporter).look(camera.read())
        watched |= {(name, box.as_tuple()): face for box, face in zip(boxes, model.faces, strict=True)}
    for faces in (classified, watched):
        assert faces.keys() == prepared.keys()
        for key, face in faces.items():
            np.testing.assert_array_equal(prepared[key], face)


def test_fit_reads_the_very_faces_and_splits_and_finds_nothing_to_clean(tmp_path, prepare):
    assert prepare()[0] == 0
    dataset = load_dataset(tmp_path / "faces")
    kept = [row for row in rows(tmp_path / "faces") if row["file"]]
    assert len(kept) == 8
    for split in SPLITS:
        part = dataset.split(split)
        expected = sorted((row for row in kept if row["split"] == split), key=lambda row: row["file"])
        assert [dataset.labels[label] for label in part.labels] == [row["label"] for row in expected]
        for image, row in zip(part.images, expected, strict=True):
            stored = cv2.imread(str(tmp_path / "faces" / row["file"]), cv2.IMREAD_UNCHANGED)
            assert stored.shape == (48, 48)
            np.testing.assert_array_equal(image, stored)
    assert sum(clean(dataset).left_out.values()) == 0


def test_other_sizes_and_margins_are_cut_as_asked(tmp_path, photos, prepare, portraits):
    from edge.crop import crop_face

    assert prepare("--size", 96, "--margin", 1.2)[0] == 0
    row = next(row for row in rows(tmp_path / "faces") if row["path"] == PLACES[0])
    gray = read_picture(photos / PLACES[0]).gray
    box = max(Detector().detect(gray), key=lambda box: box.area)
    np.testing.assert_array_equal(read_picture(tmp_path / "faces" / row["file"]).gray, crop_face(gray, box, 96, 1.2))
    assert load_dataset(tmp_path / "faces", size=96).margin == 1.2  # the model says so to the daemon
    (tmp_path / "faces" / "prepare.json").unlink()
    assert load_dataset(tmp_path / "faces", size=96).margin == 1.0


@pytest.mark.parametrize("told", ["", "{}", '{"search": {"whole": false, "margin": "wide"}}'])
def test_faces_of_which_nobody_knows_how_wide_they_are_cut_are_refused(tmp_path, prepare, told):
    assert prepare()[0] == 0
    (tmp_path / "faces" / "prepare.json").write_text(told)
    with pytest.raises(BadDataError, match=r"prepare.json: damaged, or of another program"):
        load_dataset(tmp_path / "faces")


def test_the_table_tells_of_every_file_what_became_of_it_and_the_exit_code_that_some_failed(
    tmp_path, photos, prepare, portraits
):
    whole = (photos / PLACES[1]).read_bytes()
    (photos / "happy" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "happy" / "empty.png").touch()
    (photos / "happy" / "itself.jpg").symlink_to("itself.jpg")
    (photos / "happy" / "film.mp4").write_bytes(b"x")
    put(photos, "happy/wall.png", np.full((200, 200, 3), 90, np.uint8))
    put(photos, "happy/tiny.png", portraits[0][::30, ::30])
    shutil.copy(photos / PLACES[0], photos / "happy" / "same.png")
    put(photos, "happy/again.jpg", cv2.resize(portraits[3], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
    code, summary, err = prepare()
    assert code == 1
    told = fate(tmp_path / "faces")
    assert told == {name: told[name] for name in PLACES} | {
        "happy/cut.jpg": "unreadable", "happy/empty.png": "unreadable", "happy/itself.jpg": "unreadable",
        "happy/film.mp4": "not a picture", "happy/wall.png": "no face", "happy/tiny.png": "too small",
        "happy/same.png": "exact duplicate", "happy/again.jpg": "duplicate with conflicting labels",
        PLACES[3]: "duplicate with conflicting labels",
    }  # fmt: skip
    assert {told[name] for name in PLACES} - {told[PLACES[3]]} == set(SPLITS)
    assert summary["left_out"] == {
        "unreadable": 3, "duplicate with conflicting labels": 2, "exact duplicate": 1, "no face": 1, "too small": 1,
        "not a picture": 1,
    }  # fmt: skip
    assert summary["photos"] == 15
    assert summary["faces"] == sum(sum(counts.values()) for counts in summary["splits"].values()) == 7
    assert "3 could not be read" in err
    assert "cut.jpg: the JPEG is cut short" in err
    details = {row["path"]: row["detail"] for row in rows(tmp_path / "faces")}
    assert details["happy/same.png"] == f"of {PLACES[0]}"
    assert details["happy/again.jpg"] == f"of {PLACES[3]}"


def test_a_near_copy_is_left_out_whatever_its_format(photos, prepare, portraits):
    put(photos, "happy/x/c.jpg", np.clip(portraits[2][..., ::1] * 0.8 + 20, 0, 255).astype(np.uint8))
    assert prepare()[1]["left_out"] == {"near duplicate": 1}


def test_of_copies_in_two_given_splits_the_one_held_out_stays(tmp_path, photos, prepare):
    for number, name in enumerate(PLACES):
        split = ("train", "train", "train", "train", "validation", "validation", "test", "test")[number]
        put(photos, f"{split}/{name}", cv2.imread(str(photos / name)))
    for label in ("happy", "neutral"):
        shutil.rmtree(photos / label)
    shutil.copy(photos / "test" / PLACES[6], photos / "train" / "happy" / "a copy.png")
    code, _, err = prepare()
    assert (code, err) == (0, "")
    told = fate(tmp_path / "faces")
    assert told["train/happy/a copy.png"] == "exact duplicate"
    assert all(became == path.split("/")[0] for path, became in told.items() if "copy" not in path)


@pytest.mark.parametrize(("faces", "expected"), [("largest", 1), ("all", 6), ("only", 0)])
def test_of_several_faces_those_are_taken_that_are_asked_for(tmp_path, photos, prepare, faces, expected):
    from edge.camera.synthetic import SAMPLES

    for name in PLACES[2:]:  # they are cut out of the same photo
        (photos / name).unlink()
    shutil.copy(SAMPLES / "solvay_conference.jpg", photos / "happy" / "group.jpg")
    put(photos, "neutral/own.png", np.ascontiguousarray(cv2.imread(str(photos / PLACES[1]))[:, ::-1]))
    _, summary, _ = prepare("--faces", faces)
    group = [row for row in rows(tmp_path / "faces") if row["path"] == "happy/group.jpg"]
    assert sum(bool(row["file"]) for row in group) == expected
    assert len({row["split"] for row in group}) == 1
    if faces == "all":
        assert [Path(row["file"]).name for row in group] == [f"group-{number}.png" for number in range(1, 7)]
    if faces == "only":
        assert summary["left_out"] == {"several faces": 1}


def test_whole_photos_are_read_as_fit_would_read_them(tmp_path, photos, prepare):
    put(photos, "happy/black.jpg", np.full((60, 60, 3), 3, np.uint8))
    put(photos, "happy/small.png", np.zeros((20, 60, 3), np.uint8))
    put(photos, "happy/strip.png", np.zeros((30, 50_000, 3), np.uint8))
    code, summary, _ = prepare("--whole")
    assert (code, summary["faces"]) == (0, 8)
    assert summary["left_out"] == {"blank": 1, "too small": 1, "no face": 1}
    (photos / "happy" / "strip.png").unlink()
    dataset = load_dataset(photos)
    for row in (row for row in rows(tmp_path / "faces") if row["file"]):
        stored = read_picture(tmp_path / "faces" / row["file"]).gray
        everything = np.concatenate([dataset.split(name).images for name in SPLITS])
        assert (everything == stored).all(axis=(1, 2)).any()


def test_nobody_stands_in_two_splits_where_folders_tell_who_is_who(tmp_path, photos, prepare, portraits):
    for name, picture in zip(PLACES, portraits, strict=True):
        person = Path(name).stem
        (photos / name).unlink()
        put(photos, f"{Path(name).parent}/{person}/1.png", picture)
        put(photos, f"{Path(name).parent}/{person}/2.png", np.ascontiguousarray(picture[:, ::-1]))
    code, summary, err = prepare("--person", "folder", "--split", "50:25:25")
    assert (code, err) == (0, "")
    assert (summary["persons"], summary["faces"]) == (8, 16)
    assert summary["splits"] == {
        "train": {"happy": 4, "neutral": 4}, "validation": {"happy": 2, "neutral": 2},
        "test": {"happy": 2, "neutral": 2},
    }  # fmt: skip
    places = {(row["person"], row["split"]) for row in rows(tmp_path / "faces")}
    assert len(places) == 8


def test_what_makes_figures_doubtful_is_said(prepare):
    _, summary, err = prepare()
    assert "nobody is told apart, so photos of one person may be both trained on and tested" in summary["warnings"][0]
    assert any(told.startswith("the test split has no ") for told in summary["warnings"])
    assert all(f"warning: {told}" in err for told in summary["warnings"])
    _, summary, _ = prepare("--person", "^(anna|grace)", out="named")
    assert summary["warnings"][0].startswith("6 of 8 faces have no person")


def test_the_same_command_again_does_nothing_and_says_the_same(tmp_path, photos, prepare):
    (photos / "happy" / "broken.jpg").write_bytes(b"x")
    first = prepare()
    before = contents(tmp_path / "faces")
    assert prepare() == first
    assert contents(tmp_path / "faces") == before
    assert first[0] == 1
    assert not (tmp_path / "faces" / ".prepare").exists()


def test_a_face_that_was_deleted_by_hand_stays_deleted(tmp_path, prepare):
    prepare()
    gone = next((tmp_path / "faces").rglob("*.png"))
    gone.unlink()
    code, _, err = prepare()
    assert code == 0
    assert "note: 1 faces" in err
    assert not gone.exists()


@pytest.mark.parametrize("after", [0, 3, 7])
def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been_killed(tmp_path, photos, prepare, monkeypatch, after):
    assert prepare(out="other")[0] == 0
    detect, calls = Detector.detect, []

    def counted(self, gray):
        if len(calls) == after and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        calls.append(gray.shape)
        return detect(self, gray)

    killed: list[bool] = []
    monkeypatch.setattr(Detector, "detect", counted)
    assert prepare()[0] == 130
    journal = tmp_path / "faces" / ".prepare" / "searched.jsonl"
    for crop in list(journal.parent.glob("crops/*.png"))[:1]:
        crop.write_bytes(b"")  # as a power cut leaves it
    with journal.open("ab") as file:  # as kill -9 leaves it
        file.write(b'{"name": "happy/c')
    assert prepare()[0] == 0
    assert len(calls) == (8 if after == 0 else 9)
    ours, theirs = (contents(tmp_path / name) for name in ("faces", "other"))
    assert {name: data for name, (data, _) in ours.items()} == {name: data for name, (data, _) in theirs.items()}


def test_a_photo_that_changed_under_way_is_searched_again(tmp_path, photos, prepare, portraits, monkeypatch):
    monkeypatch.setattr("trainer.prepare.deal", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert prepare()[0] == 130
    monkeypatch.undo()
    put(photos, PLACES[2], np.full((99, 99, 3), 7, np.uint8))
    prepare()
    assert fate(tmp_path / "faces")[PLACES[2]] == "no face"


def test_too_few_people_for_three_splits_are_refused_and_another_split_goes_on(photos, prepare, monkeypatch):
    code, _, err = prepare("--person", "^(happy|neutral)/")
    assert code == 65
    assert "no face for the test split: 8 faces of 2 persons or photos cannot fill all three" in err
    monkeypatch.setattr(Detector, "detect", lambda *_: pytest.fail("searched again"))
    assert prepare()[0] == 0


def test_no_face_at_all_ends_with_65_and_why(photos, prepare):
    for path in photos.rglob("*.*"):
        put(photos, str(path.relative_to(photos)), np.full((64, 64, 3), 8, np.uint8))
    code, _, err = prepare()
    assert code == 65
    assert "not one face is left (8 no face)" in err


@pytest.mark.parametrize(
    ("options", "changed"),
    [(["--size", "64"], "size = 48, not 64"), (["--seed", "2"], "seed = 1, not 2"), (["--faces", "all"], "faces = ")],
)
def test_other_settings_in_the_same_folder_end_with_65(prepare, options, changed):
    prepare()
    code, _, err = prepare(*options)
    assert code == 65
    assert f"begun with {changed}" in err


def test_other_photos_in_the_same_folder_end_with_65(photos, prepare, portraits):
    prepare()
    put(photos, "happy/new.png", np.ascontiguousarray(portraits[0][:, ::-1]))
    code, _, err = prepare()
    assert code == 65
    assert "made from other photos" in err


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path, prepare):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "letter.txt").write_text("dear")
    code, _, err = prepare()
    assert code == 73
    assert "holds something else already" in err
    assert [path.name for path in (tmp_path / "faces").iterdir()] == ["letter.txt"]


def test_pictures_that_came_between_are_not_mixed_in(tmp_path, prepare, portraits, monkeypatch):
    monkeypatch.setattr("trainer.prepare.write_faces", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert prepare()[0] == 130
    monkeypatch.undo()
    put(tmp_path / "faces", "train/happy/mine.png", portraits[0])
    code, _, err = prepare()
    assert code == 73
    assert "mine.png: lies there already" in err


def test_two_runs_at_once_are_refused(tmp_path, photos, prepare, monkeypatch):
    codes = []

    def at_work(*_):
        codes.append(main(["prepare", str(photos), "--out", str(tmp_path / "faces")]))
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.prepare.deal", at_work)
    assert "another mien-train prepare is at work here" in prepare()[2]
    assert codes == [73]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--whole", "--faces", "all"], "leave --faces and --margin out"),
        (["--split", "80:20"], "'80:20', expected three whole numbers above 0"),
        (["--split", "80:20:0"], "expected three whole numbers above 0"),
        (["--person", "(x"], "'(x' is no regular expression"),
        (["--faces", "some"], "invalid choice"),
    ],
)
def test_wrong_usage_ends_with_64(prepare, options, message):
    code, _, err = prepare(*options)
    assert code == 64
    assert message in err


def test_faces_among_the_photos_are_refused(photos, prepare):
    code, _, err = prepare(out="photos/faces")
    assert code == 64
    assert "name a folder beside it" in err


def test_photos_of_one_name_in_two_folders_and_names_in_any_writing_keep_apart(tmp_path, photos, prepare, portraits):
    for number, name in enumerate(("happy/a/Émile ☺.png", "happy/b/émile ☺.png", "happy/E\u0301mile ☺.jpg")):
        put(photos, name, portraits[2 + number])
    put(photos, f"happy/{'ü' * 120}.png", portraits[5])
    os.rename(photos / PLACES[6], photos / "happy" / "\udce4?.png")  # noqa: PTH104  # a name that is not UTF-8
    for name in PLACES[2:6]:
        (photos / name).unlink()
    assert prepare()[0] == 0
    files = {row["path"]: Path(row["file"]).name for row in rows_of_any_name(tmp_path / "faces")}
    assert files["happy/E\u0301mile ☺.jpg"] == "E\u0301mile ☺.png"
    assert files["happy/a/Émile ☺.png"] == "Émile ☺-2.png"
    assert files["happy/b/émile ☺.png"] == "émile ☺-3.png"
    assert files["happy/\udce4?.png"] == "__.png"
    assert len(load_dataset(tmp_path / "faces").train) > 0


def rows_of_any_name(out: Path) -> list[dict[str, str]]:
    with (out / "prepare.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_names_photos_and_a_missing_one_is_told_with_its_row(tmp_path, photos, prepare):
    table = tmp_path / "labels.csv"
    lines = [f"{name},{('calm', 'tense')[number % 2]},p{number}," for number, name in enumerate(PLACES)]
    table.write_text("\n".join(["path,label,person,split", *lines, "none.jpg,calm,p9,"]) + "\n")
    code, summary, err = prepare("--csv", table)
    assert code == 1
    assert (summary["faces"], summary["persons"]) == (8, 8)
    assert set(summary["splits"]["train"]) <= {"calm", "tense"}
    assert "labels.csv: row 9 (line 10): " in err
    assert "none.jpg: not there" in err


@pytest.mark.parametrize("step", ["keep", "finish"])
def test_a_full_disk_ends_with_73_leaves_no_half_picture_and_goes_on(tmp_path, prepare, monkeypatch, step):
    whole = getattr(FacesFolder, step)

    def on_a_full_disk(*arguments):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a face takes about 2,000 bytes
        try:
            whole(*arguments)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    monkeypatch.setattr(FacesFolder, step, on_a_full_disk)
    code, _, err = prepare()
    assert code == 73
    assert "cannot be written" in err
    assert bool(list((tmp_path / "faces/.prepare/crops").iterdir())) == (step == "finish")
    assert not list((tmp_path / "faces").glob("[tv]*/*/*"))
    monkeypatch.undo()
    assert prepare()[0] == 0


def test_people_read_a_table_of_counts(tmp_path, photos, capsys):
    (photos / "happy" / "IMG.HEIC").touch()
    assert main(["prepare", str(photos), "--out", str(tmp_path / "faces")]) == 0
    said = capsys.readouterr().out
    assert "faces: 8 faces from 8 photos" in said
    assert "together 6 1 1 left out: 1 not a picture" in " ".join(said.split())
    assert "not a picture that Mien reads: 1 .heic; convert" in said


def test_help_teaches_and_imports_nothing_heavy():
    script = """
import sys
from trainer.cli import main
assert main(["prepare", "--help"]) == 0
heavy = {"keras", "tensorflow", "sklearn", "matplotlib", "numpy", "cv2"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "mien-train prepare photos/ --out faces/" in done.stdout


def test_the_trainer_s_networks_are_not_needed_to_prepare():
    script = "import sys, trainer.prepare; assert not {'keras', 'tensorflow', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)
