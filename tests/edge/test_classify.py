import csv
import json
import os
import re
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.classify import classify_paths, find_inputs
from edge.cli_classify import add_command
from edge.commandline import Parser, guarded
from edge.config import DetectorConfig
from edge.detector import Detector
from edge.frame import Box
from edge.labels import FER2013_LABELS
from edge.model import open_model
from edge.pictures import read_picture
from edge.progress import CLEAR
from export.metadata import add_self_test, pack, self_test_face

SAMPLES = Path(__file__).parents[2] / "edge" / "samples"
GRACE = SAMPLES / "grace_hopper.jpg"
GREY = (Path(__file__).parent / "models" / "grey_int8_logits.tflite").read_bytes()
CARD = {
    "name": "mien-test",
    "labels": list(FER2013_LABELS),
    "input": {"size": 48, "channels": 1, "margin": 1.1, "scaling": "x/127.5-1"},
    "output": {"kind": "logits", "temperature": 1.0},
    "thresholds": {},
}


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "test.tflite"
    path.write_bytes(pack(GREY, add_self_test(GREY, CARD)))
    return path


@pytest.fixture(scope="module")
def face_file(tmp_path_factory) -> Path:
    """A picture of 160 x 160 pixels in which Haar finds one face: Grace Hopper's."""
    path = tmp_path_factory.mktemp("face") / "face.png"
    picture = read_picture(GRACE)
    box = Detector().detect(picture.gray)[0]
    around = picture.color[box.y - 60 : box.y + box.height + 60, box.x - 60 : box.x + box.width + 60]
    cv2.imwrite(str(path), cv2.resize(around, (160, 160), interpolation=cv2.INTER_AREA))
    return path


@pytest.fixture(scope="module")
def video_file(tmp_path_factory, face_file) -> Path:
    """Ten frames at 5 frames a second, the face in each."""
    path = tmp_path_factory.mktemp("video") / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (160, 160))
    for _ in range(10):
        writer.write(cv2.imread(str(face_file)))
    writer.release()
    return path


@pytest.fixture
def mien(model_file, capsys):
    """Runs `mien classify` with these arguments: exit code, standard output, standard error."""

    def command(*arguments: object, model: Path | None = model_file) -> tuple[int, str, str]:
        parser = Parser("mien")
        add_command(parser.add_subparsers())
        argv = ["classify", *map(str, arguments), *(["--model", str(model)] if model else [])]

        def call() -> int:
            parsed = parser.parse_args(argv)
            return parsed.call(parsed)

        code = guarded("mien", call, argv)
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def objects(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_photo_gives_its_faces_with_boxes_and_scores_that_sum_to_one(mien, model_file):
    code, out, err = mien(GRACE, "--format", "json")
    (picture,) = objects(out)
    (face,) = picture["faces"]
    assert (code, err, set(picture)) == (0, "", {"path", "faces"})
    assert picture["path"] == str(GRACE)
    assert list(face["scores"]) == list(FER2013_LABELS)
    assert sum(face["scores"].values()) == pytest.approx(1.0)
    assert face["confidence"] == max(face["scores"].values()) == face["scores"][face["expression"]]
    gray, model = read_picture(GRACE).gray, open_model(model_file)
    box = Detector().detect(gray)[0]
    assert face["box"] == list(box.as_tuple())
    assert list(face["scores"].values()) == pytest.approx(model.classify(gray, box).tolist(), abs=1e-3)


def test_a_face_below_its_labels_threshold_is_uncertain(tmp_path, mien):
    path = tmp_path / "strict.tflite"
    path.write_bytes(pack(GREY, CARD | {"thresholds": dict.fromkeys(FER2013_LABELS, 1.0)}))
    _, out, _ = mien(GRACE, "--format", "json", model=path)
    face = objects(out)[0]["faces"][0]
    assert face["expression"] == "uncertain"
    assert face["confidence"] == max(face["scores"].values())


def test_whole_pictures_are_classified_as_they_are(tmp_path, mien, model_file):
    path = tmp_path / "face.png"
    cv2.imwrite(str(path), self_test_face(48))
    _, out, _ = mien(path, "--whole", "--format", "json")
    (face,) = objects(out)[0]["faces"]
    assert face["box"] == [0, 0, 48, 48]
    expected = open_model(model_file).classify_face(self_test_face(48))
    assert list(face["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-3)


def test_a_folder_is_searched_with_all_folders_inside_numbers_by_value(tmp_path):
    for name in ("10.jpg", "2.JPG", "b/c/film.mp4", "b/1.png", ".hidden/3.jpg", ".thumb.jpg", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_inputs(tmp_path)]
    assert found == ["2.JPG", "10.jpg", "b/1.png", "b/c/film.mp4"]


def test_a_video_gives_one_object_a_frame_with_its_time(video_file, mien):
    code, out, _ = mien(video_file, "--format", "json")
    frames = objects(out)
    assert code == 0
    assert [frame["time"] for frame in frames] == pytest.approx([number / 5 for number in range(10)])
    assert {frame["path"] for frame in frames} == {str(video_file)}
    assert all(len(frame["faces"]) == 1 for frame in frames)


def test_a_video_that_breaks_off_gives_its_frames_and_then_the_failure(video_file, tmp_path, mien):
    cut = tmp_path / "cut.avi"
    data = video_file.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    code, out, err = mien(cut, "--whole", "--format", "json")
    *frames, last = objects(out)
    assert code == 1
    assert 3 <= len(frames) <= 6
    assert "breaks off at frame" in last["error"]
    assert set(last) == {"path", "error"}
    assert "breaks off at frame" in err


def test_a_bad_file_does_not_stop_the_others_and_is_named_at_the_end(tmp_path, face_file, mien):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture at all")
    shutil.copy(face_file, tmp_path / "good.png")
    code, out, err = mien(tmp_path, tmp_path / "gone.jpg", GRACE, "--whole", "--format", "json")
    assert code == 1
    assert [(Path(line["path"]).name, "faces" in line) for line in objects(out)] == [
        ("bad.jpg", False),
        ("good.png", True),
        ("gone.jpg", False),
        ("grace_hopper.jpg", True),
    ]
    summary, *failures = err.splitlines()
    assert summary == "mien classify: 2 failed, 2 read:"
    assert "bad.jpg: not a picture" in failures[0]
    assert "gone.jpg: not there" in failures[1]


def test_a_picture_of_gigantic_size_is_refused_by_its_header(tmp_path, mien):
    path = tmp_path / "huge.png"
    data = bytearray(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1].tobytes())
    data[16:24] = (30_000).to_bytes(4, "big") * 2
    path.write_bytes(data)
    code, _, err = mien(path, "--whole")
    assert code == 65
    assert "30,000 x 30,000 pixels" in err


@pytest.mark.parametrize(
    ("names", "code"), [(["gone.jpg", "gone too/"], 66), (["bad.jpg"], 65), (["bad.jpg", "gone.jpg"], 1)]
)
def test_where_nothing_could_be_read_the_one_reason_is_the_exit_code(tmp_path, mien, names, code):
    (tmp_path / "bad.jpg").write_text("no picture")
    assert mien(*(tmp_path / name for name in names))[0] == code


def test_a_folder_without_pictures_is_a_missing_input(tmp_path, mien):
    (tmp_path / "notes.txt").touch()
    code, _, err = mien(tmp_path)
    assert code == 66
    assert f"{tmp_path}: no picture or video" in err


def test_a_folder_of_kinds_that_mien_does_not_read_says_how_many_were_passed_over(tmp_path, mien):
    for name in ("1.HEIC", "b/2.heic", "notes.txt", "README", ".hidden.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    code, _, err = mien(tmp_path)
    assert code == 66
    assert "4 files of other kinds passed over (2 .heic, 1 " in err


def test_the_smallest_face_that_is_looked_for_can_be_set(mien):
    found = [
        len(objects(mien(GRACE, "--format", "json", *options)[1])[0]["faces"])
        for options in ((), ("--min-face", "0.08"), ("--min-face", "0.9"))
    ]
    assert found == [1, 1, 0]
    for wrong in ("0", "1.5", "nan", "small"):
        code, _, err = mien(GRACE, f"--min-face={wrong}")
        assert code == 64
        assert "expected a number from 0.01 to 1" in err


def test_help_tells_the_smallest_face_that_run_looks_for_too(mien):
    _, said, _ = mien("--help")
    assert f"picture's height (default: {DetectorConfig().min_face:g})" in " ".join(said.split())


def test_a_name_that_the_system_cannot_take_is_a_missing_input(tmp_path, mien):
    code, _, err = mien(tmp_path / ("x" * 300))
    assert code == 66
    assert "cannot be read" in err


def test_the_table_is_aligned_and_ends_in_the_path(tmp_path, face_file, video_file, mien):
    empty, bad = tmp_path / "empty.png", tmp_path / "bad\x1b[31m.png"
    cv2.imwrite(str(empty), np.zeros((40, 40), np.uint8))
    bad.touch()
    _, out, err = mien(face_file, empty, bad, video_file)
    header, face, nobody, failed, *frames = out.splitlines()
    assert header.split() == ["EXPRESSION", "SCORE", "BOX", "TIME", "PATH"]
    start = header.index("PATH")
    paths = [line[start:] for line in (face, nobody, failed, *frames)]
    assert paths == [str(face_file), str(empty), f"{tmp_path}/bad\\x1b[31m.png", *[str(video_file)] * 10]
    assert nobody.startswith("no face ")
    assert failed.startswith("failed ")
    assert "1.800 s" in frames[9]
    assert "\x1b" not in out + err


def test_the_csv_has_one_row_a_face_and_a_column_a_label(tmp_path, face_file, mien):
    empty = tmp_path / "empty, with a comma.png"
    cv2.imwrite(str(empty), np.zeros((40, 40), np.uint8))
    _, out, _ = mien(face_file, empty, tmp_path / "gone.png", "--format", "csv")
    face, nobody, gone = csv.DictReader(out.splitlines())
    assert (face["path"], face["face"], face["time"], face["error"]) == (str(face_file), "1", "", "")
    assert sum(float(face[label]) for label in FER2013_LABELS) == pytest.approx(1.0)
    assert float(face["confidence"]) == float(face[face["expression"]])
    assert Box(*(int(face[key]) for key in ("x", "y", "width", "height"))).area > 0
    assert (nobody["path"], nobody["expression"], nobody["error"]) == (str(empty), "", "")
    assert "not there" in gone["error"]


def test_a_file_name_that_is_no_text_is_printed_all_the_same(tmp_path, face_file, mien):
    odd = os.fsencode(tmp_path) + b"/\xff.png"
    shutil.copy(face_file, odd)
    code, out, _ = mien(os.fsdecode(odd), "--whole", "--format", "json")
    assert code == 0
    assert json.loads(out)["path"].endswith("\udcff.png")


def test_a_video_whose_name_opencv_would_fall_over_is_named_and_the_others_are_read(
    tmp_path, face_file, video_file, mien
):
    shutil.copy(video_file, os.fsencode(tmp_path) + b"/caf\xe9.mp4")
    code, out, err = mien(tmp_path / os.fsdecode(b"caf\xe9.mp4"), face_file, "--whole", "--format", "json")
    assert code == 1
    assert "caf\\udce9.mp4: its name or a folder's is no UTF-8; OpenCV opens none such, rename it" in err
    assert json.loads(out.splitlines()[-1])["path"] == str(face_file)


def test_annotated_pictures_and_videos_are_written_under_names_of_their_own(tmp_path, face_file, video_file, mien):
    for name in ("a/face.png", "b/face.png", "b/FACE.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(face_file, tmp_path / name)
    shown = tmp_path / "shown"
    code, _, err = mien(tmp_path / "a", tmp_path / "b", video_file, "--annotate", shown)
    assert (code, err) == (0, "")
    assert {path.name for path in shown.iterdir()} == {"face.png", "FACE-2.png", "face-3.png", "film.mp4"}
    drawn, plain = cv2.imread(str(shown / "face.png")), cv2.imread(str(face_file))
    plain = cv2.resize(plain, drawn.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    assert (np.abs(drawn.astype(int) - plain) > 40).any(axis=2).mean() > 0.005
    film = cv2.VideoCapture(str(shown / "film.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 10
    assert film.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)


def test_annotated_pictures_inside_a_searched_folder_are_no_input_the_next_time(tmp_path, face_file, mien):
    shutil.copy(face_file, tmp_path / "face.png")
    for _ in range(2):
        _, out, _ = mien(tmp_path, "--whole", "--annotate", tmp_path / "shown", "--format", "json")
        assert len(objects(out)) == 1
    assert [path.name for path in (tmp_path / "shown").iterdir()] == ["face.png"]


def test_annotating_into_the_folder_of_the_pictures_is_refused(tmp_path, face_file, mien):
    photo = tmp_path / "face.png"
    shutil.copy(face_file, photo)
    before = photo.read_bytes()
    for named in (photo, tmp_path):
        code, _, err = mien(named, "--annotate", tmp_path)
        assert code == 64
        assert "could be overwritten" in err
    assert photo.read_bytes() == before
    assert mien(photo, "--annotate", face_file)[0] == 64


@pytest.mark.parametrize("original", ["face.png", "another.jpg"])
def test_originals_in_the_folder_for_annotated_pictures_stay_as_they_are(tmp_path, face_file, mien, original):
    (tmp_path / "sub").mkdir()
    for name in ("face.png", f"sub/{original}"):
        shutil.copy(face_file, tmp_path / name)
    for named in (tmp_path, face_file):
        code, out, err = mien(named, "--whole", "--annotate", tmp_path / "sub")
        assert (code, out) == (73, "")
        assert f"sub/{original} is there already" in err
    assert [path.name for path in (tmp_path / "sub").iterdir()] == [original]
    assert (tmp_path / "sub" / original).read_bytes() == face_file.read_bytes()


def test_a_folder_that_cannot_be_written_ends_the_job_with_73_and_what_failed_before(tmp_path, face_file, mien):
    blocked = tmp_path / "file"
    blocked.touch()
    code, _, err = mien(tmp_path / "gone.png", face_file, "--whole", "--annotate", blocked / "shown")
    assert code == 73
    assert "gone.png: not there" in err
    assert str(blocked / "shown") in err


def test_a_person_at_a_terminal_sees_how_far_the_job_is(tmp_path, face_file, video_file, mien, open_terminal):
    terminal = open_terminal()
    (tmp_path / "bad.png").touch()
    assert mien(tmp_path, face_file, video_file, "--whole", "--format", "csv")[0] == 1
    *lines, rest = terminal.getvalue().split(CLEAR)[1:]
    assert lines[0] == "1 of 3 files, 0.0 frames/s, 1 failed"
    assert len(lines) == 12
    assert re.fullmatch(r"3 of 3 files, [0-9.]+ frames/s, 1 failed", lines[-1])
    assert rest.startswith("mien classify: 1 failed, 2 read:")


def test_results_on_a_terminal_are_progress_enough(face_file, mien, open_terminal, monkeypatch):
    terminal = open_terminal()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert mien(face_file, "--whole")[0] == 0
    assert terminal.getvalue() == ""


def test_a_missing_model_is_named(tmp_path, mien):
    code, out, err = mien(GRACE, model=tmp_path / "none.tflite")
    assert (code, out) == (66, "")
    assert "none.tflite: no such model file" in err


def test_labels_can_be_given_for_a_foreign_model(tmp_path, face_file, mien):
    path = tmp_path / "theirs.tflite"
    path.write_bytes(GREY)
    assert mien(face_file, model=path)[0] == 65
    code, out, _ = mien(face_file, "--whole", "--format", "json", "--labels", "a,b,c,d,e,f,g", model=path)
    assert code == 0
    assert list(objects(out)[0]["faces"][0]["scores"]) == list("abcdefg")


def test_results_come_as_they_are_made(face_file, model_file, tmp_path):
    paths = iter([face_file, tmp_path / "gone.png"])
    results = classify_paths(paths, model=open_model(model_file), detector=None, whole=True)
    first = next(results)
    assert first.error is None
    assert next(paths, None) == tmp_path / "gone.png"  # not yet asked for


def test_help_shows_examples_and_the_formats(capsys):
    parser = Parser("mien")
    add_command(parser.add_subparsers())
    with pytest.raises(SystemExit):
        parser.parse_args(["classify", "--help"])
    said = capsys.readouterr().out
    assert "mien classify photos/ --format json" in said
    assert '{"path": "b.jpg", "error": "..."}' in said
