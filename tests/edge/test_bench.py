"""`mien bench`, from the source to what is printed."""

import json
import os

import cv2
import numpy as np
import pytest

import edge.bench
from edge.bench import measure
from edge.camera.synthetic import Scene, SyntheticCamera
from edge.cli import main as mien
from edge.cli import make_parser
from edge.cli_bench import EPILOG
from edge.config import load_config
from edge.control import open_folder
from edge.frame import Box
from edge.pause import pause

SCENE = "synthetic:seconds=1,size=320x240,faces=1"
FRAMES, PIXELS = 30, 320 * 240


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


def config_of(spec, **overrides):
    return load_config(None, environ={}, overrides={"source.spec": spec} | overrides)


@pytest.fixture(scope="module")
def done():
    return measure(config_of(SCENE))


@pytest.fixture
def film(tmp_path):
    """A video of twenty small frames."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 30.0, (160, 120))
    for number in range(20):
        writer.write(np.full((120, 160, 3), 5 * number, np.uint8))
    writer.release()
    return path


def test_both_look_at_the_same_frames(done):
    assert done.numbers == list(range(FRAMES))
    assert len(done.naive) == len(done.mien) == FRAMES
    assert done.size == (320, 240)
    assert not done.interrupted
    assert done.problems == []


def test_the_naive_loop_searches_every_frame_whole_and_classifies_every_face(done):
    assert all((look.cost.haar_calls, look.cost.haar_pixels) == (1, PIXELS) for look in done.naive)
    assert all(look.cost.classifications == len(look.boxes) for look in done.naive)
    assert sum(len(look.boxes) for look in done.naive) >= FRAMES - 2


def test_this_pipeline_searches_less_and_finds_the_face(done):
    assert 0 < sum(look.cost.haar_pixels for look in done.mien) < FRAMES * PIXELS
    assert all(set(look.seen) <= set(look.boxes) for look in done.mien)
    assert all(look.cost.classifications <= len(look.seen) for look in done.mien)
    late = [look.boxes for look in done.mien[FRAMES // 2 :]]
    assert all(len(boxes) == 1 for boxes in late)


def test_every_look_took_time_that_is_more_than_its_parts(done):
    for look in done.naive + done.mien:
        assert look.cost.wall.total > look.cost.wall.haar + look.cost.wall.interpreter >= 0
        assert look.cost.wall.classify >= look.cost.wall.interpreter
        assert look.cost.cpu.total > 0
    assert 0 < done.memory_before <= done.memory_peak
    assert 0 < done.memory_after <= done.memory_peak


def test_a_scene_knows_where_its_faces_are(done):
    camera = SyntheticCamera(scene=Scene(seconds=1, size=(320, 240), faces=1))
    assert {number: list(known.faces) for number, known in done.truth.items()} == {
        number: camera.truth(number) for number in range(FRAMES)
    }


def test_opencv_keeps_as_many_threads_as_it_had():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        measure(config_of(SCENE), count=1)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


def test_without_a_source_it_makes_a_scene_of_its_own_whatever_the_daemon_watches(tmp_path, capsys):
    path = tmp_path / "mien.toml"
    path.write_text('[source]\nspec = "v4l2:/dev/video99"\n')
    assert mien(["bench", "--frames", "3", "--json", "--config", str(path)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["source"] == {"spec": "synthetic", "frames": 3, "size": [640, 480]}
    assert told["truth"]["faces"] == 3


def test_a_table_is_for_people_and_json_for_machines(capsys):
    assert mien(["bench", "--source", SCENE, "--frames", "12"]) == 0
    table = capsys.readouterr().out
    assert "12 frames of 320x240" in table
    assert "frames/s" in table
    assert mien(["bench", "--source", SCENE, "--frames", "12", "--min-face", "0.2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["naive"]["haar_calls_per_frame"] == 1.0
    assert told["naive"]["haar_pixels_per_frame"] == PIXELS
    assert told["faces"]["both"] + told["faces"]["naive_only"] == round(12 * told["naive"]["faces_per_frame"])
    assert told["truth"]["frames"] == told["truth"]["faces"] == 12
    assert told["settings"]["mien"]["detector"]["min_face"] == 0.2


def test_labels_made_by_hand_judge_the_frames_that_they_name(tmp_path, capsys):
    camera = SyntheticCamera(scene=Scene(seconds=1, size=(320, 240), faces=1))
    path = tmp_path / "truth.json"
    wrong = Box(0, 0, 20, 20)
    faces = {5: camera.truth(5)[0], 6: camera.truth(6)[0], 29: wrong, 400: wrong}
    path.write_text(json.dumps({"frames": {number: [{"box": box.as_tuple()}] for number, box in faces.items()}}))
    assert mien(["bench", "--source", SCENE, "--frames", "0", "--truth", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["truth"]["frames"], told["truth"]["faces"]) == (3, 3)
    assert told["truth"]["naive"]["missed_in"] == told["truth"]["naive"]["false_in"] == [29]


@pytest.mark.parametrize(("box", "complaint"), [([300, 10, 50, 50], "outside"), ([1, 1, 50, 50], "labels frames 90")])
def test_labels_of_another_source_are_refused(tmp_path, capsys, film, box, complaint):
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"frames": {"90": [{"box": box}]}}))
    assert mien(["bench", "--source", str(film), "--truth", str(path)]) == 65
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.out == ""


def test_a_video_without_faces_is_measured_too(film, capsys):
    assert mien(["bench", "--source", str(film)]) == 0
    table = capsys.readouterr().out
    assert "20 frames of 160x120" in table
    assert "0 found by both, 0 by the naive loop alone, 0 by mien alone" in table


def test_a_folder_of_pictures_that_differ_in_size_is_refused(tmp_path, capsys):
    for name, size in (("a.png", (40, 60)), ("b.png", (50, 60))):
        cv2.imwrite(str(tmp_path / name), np.zeros(size, np.uint8))
    assert mien(["bench", "--source", str(tmp_path)]) == 65
    assert "b.png" in capsys.readouterr().err


def test_a_picture_that_is_damaged_is_named_after_the_figures(tmp_path, capsys):
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((60, 80), np.uint8))
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert mien(["bench", "--source", str(tmp_path), "--json"]) == 65
    said = capsys.readouterr()
    assert "b.png" in said.err
    told = json.loads(said.out)
    assert (told["complete"], told["source"]["frames"]) == (False, 2)


def test_while_it_is_paused_no_camera_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    pause(open_folder(tmp_path / "mien", shared=False))
    assert mien(["bench", "--source", "synthetic:realtime=1", "--frames", "2"]) == 69
    assert "mien resume" in capsys.readouterr().err
    assert mien(["bench", "--source", SCENE, "--frames", "2"]) == 0


@pytest.mark.parametrize(
    ("options", "code", "complaint"),
    [
        (["--source", "none.mp4"], 66, "none.mp4"),
        (["--source", "synthetic:seconds=0.001"], 65, "no frame came from it"),
        (["--source", "synthetic:die_at=0"], 69, "gone"),
        (["--source", "synthetic:realtime=1", "--frames", "0"], 64, "--frames N"),
        (["--frames", "some"], 64, "'some'"),
        (["--frames", "-1"], 64, "'-1'"),
        (["--min-face", "2"], 64, "0.01 to 1"),
        (["--truth", "none.json"], 66, "none.json"),
        (["--model", "none.tflite"], 66, "none.tflite"),
        (["--config", "none.toml"], 66, "none.toml"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, code, complaint, capsys):
    assert mien(["bench", *options]) == code
    said = capsys.readouterr()
    assert complaint in said.err
    assert said.out == ""


def test_ctrl_c_ends_it_with_what_was_measured_until_then(capsys, monkeypatch):
    looks = []

    def look(vision, frame, meter, *, before=edge.bench._look):
        looks.append(frame)
        if len(looks) > 15:
            raise KeyboardInterrupt
        return before(vision, frame, meter)

    monkeypatch.setattr(edge.bench, "_look", look)
    assert mien(["bench", "--source", SCENE, "--json"]) == 130
    told = json.loads(capsys.readouterr().out)
    assert (told["complete"], told["source"]["frames"]) == (False, 10)


def test_ctrl_c_before_anything_was_measured_tells_nothing(capsys, monkeypatch):
    def look(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(edge.bench, "_look", look)
    assert mien(["bench", "--source", SCENE]) == 130
    assert capsys.readouterr().out == ""


def test_a_terminal_sees_how_far_it_is(open_terminal, capsys):
    terminal = open_terminal()
    assert mien(["bench", "--source", SCENE, "--frames", "20"]) == 0
    assert "20 of 20 frames" in terminal.getvalue()
    assert "frames/s" in capsys.readouterr().out


def test_the_examples_are_understood():
    commands = [line.split() for line in EPILOG.splitlines() if line.startswith("  mien bench")]
    assert len(commands) >= 4
    for command in commands:
        arguments = command[1 : command.index(">")] if ">" in command else command[1:]
        assert make_parser().parse_args(arguments).call
