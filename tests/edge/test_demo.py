"""`mien demo`: what a newcomer sees first."""

import json
from dataclasses import replace

import cv2
import pytest

import edge.demo
from edge.cli import main


@pytest.fixture(autouse=True)
def _own_state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_demo_leaves_annotated_pictures_a_video_and_the_events_and_says_where(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(edge.demo, "SCENE", replace(edge.demo.SCENE, seconds=0.8))
    out = tmp_path / "shown"

    assert main(["demo", "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["demo", "--out", str(out)]) == 0  # over its own results

    told = capsys.readouterr().out
    for name in ("astronaut.png", "grace_hopper.jpg", "solvay_conference.jpg"):
        assert cv2.imread(str(out / "photos" / name)) is not None
        assert name in told
    assert str(out / "events.jsonl") in told
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    assert [event["type"] for event in events[:2]] == ["appeared", "appeared"]
    assert {event["track"] for event in events} == {1, 2}
    video = cv2.VideoCapture(str(out / "scene-annotated.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 20


def test_a_demo_that_cannot_write_says_so(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")

    assert main(["demo", "--out", str(tmp_path / "file" / "below")]) == 73

    assert str(tmp_path / "file" / "below") in capsys.readouterr().err


@pytest.mark.parametrize("name", ["events.jsonl", "scene.mp4"])
def test_a_demo_replaces_nothing_that_is_not_a_demos(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setattr(edge.demo, "SCENE", replace(edge.demo.SCENE, seconds=0.1))
    (tmp_path / name).write_text("somebody's\n")

    assert main(["demo", "--out", str(tmp_path)]) == 73

    assert str(tmp_path / name) in capsys.readouterr().err
    assert (tmp_path / name).read_text() == "somebody's\n"
