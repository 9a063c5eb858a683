"""What a benchmark looks at, and where the faces are."""

import json

import numpy as np
import pytest

from edge.bench_score import Truth
from edge.bench_source import CHUNK_FRAMES, check_boxes, check_numbers, chunks, read_truth, scene_truth
from edge.camera.base import Camera
from edge.camera.synthetic import Scene, SyntheticCamera
from edge.errors import BadDataError, CameraSoughtError, InputNotFoundError, UsageError
from edge.frame import Box, Frame


class ListCamera(Camera):
    """Delivers what it is given; an error is raised."""

    spec = "list"

    def __init__(self, *content, live=False):
        self.live = live
        self.content = iter(content)

    def read(self):
        item = next(self.content, None)
        if isinstance(item, Exception):
            raise item
        return item

    def close(self):
        pass


def frame(number, size=(40, 30), name=""):
    return Frame(np.zeros(size[::-1], np.uint8), number / 30, number, name=name)


def lengths(camera, count=0):
    return [len(chunk) for chunk in chunks(camera, count, [])]


def test_frames_come_a_few_at_a_time():
    frames = [frame(number) for number in range(2 * CHUNK_FRAMES + 3)]
    taken = list(chunks(ListCamera(*frames), 0, []))
    assert [len(chunk) for chunk in taken] == [CHUNK_FRAMES, CHUNK_FRAMES, 3]
    assert [one for chunk in taken for one in chunk] == frames


def test_no_more_frames_are_read_than_are_wanted():
    camera = ListCamera(*map(frame, range(30)))
    assert lengths(camera, 12) == [10, 2]
    assert camera.read().number == 12


def test_large_frames_come_fewer_at_a_time():
    assert lengths(ListCamera(*(frame(number, (4000, 3000)) for number in range(7)))) == [6, 1]


def test_a_live_camera_is_taken_into_memory_before_anybody_looks():
    assert lengths(ListCamera(*map(frame, range(40)), live=True), 25) == [25]


def test_a_live_camera_needs_a_number_of_frames_that_fits_into_memory(monkeypatch):
    with pytest.raises(UsageError, match="--frames N"):
        lengths(ListCamera(frame(0), live=True))
    monkeypatch.setattr("edge.bench_source.LIVE_BYTES", 5 * 40 * 30)
    with pytest.raises(UsageError, match="less than 6"):
        lengths(ListCamera(*map(frame, range(40)), live=True), 20)


def test_a_live_camera_that_is_lost_ends_it():
    with pytest.raises(CameraSoughtError):
        lengths(ListCamera(frame(0), CameraSoughtError("gone"), live=True), 20)


def test_what_cannot_be_read_is_noted_and_what_lies_behind_it_still_comes():
    problems = []
    broken = BadDataError("b.jpg: damaged")
    taken = list(chunks(ListCamera(frame(0), broken, frame(2)), 0, problems))
    assert [[f.number for f in chunk] for chunk in taken] == [[0, 2]]
    assert problems == [broken]


def test_frames_of_changing_size_are_refused_by_name():
    with pytest.raises(BadDataError, match=r"frame 1 \(b\.jpg\) is 20x10, those before are 40x30"):
        lengths(ListCamera(frame(0), frame(1, (20, 10), "b.jpg")))


def test_a_scene_knows_its_faces_and_those_that_are_barely_seen(monkeypatch):
    camera = SyntheticCamera(scene=Scene(faces=2))
    whole, barely = Box(10, 10, 50, 50), Box(-20, 10, 50, 50)
    monkeypatch.setattr(camera, "people", lambda number, seen=0.7: {1: whole} if seen > 0.5 else {1: whole, 2: barely})
    assert scene_truth(camera, frame(0)) == Truth([whole], [barely])
    assert scene_truth(ListCamera(), frame(0)) is None


def test_labels_are_read(tmp_path):
    path = tmp_path / "truth.json"
    path.write_text(
        json.dumps(
            {
                "by": "hand",
                "frames": {
                    "0": [
                        {"box": [1, 2, 30, 40], "frontal": True},
                        {"box": [50, 2, 9, 9], "frontal": False, "why": "turned away"},
                    ],
                    "12": [],
                },
            }
        )
    )
    assert read_truth(path) == {0: Truth([Box(1, 2, 30, 40)], [Box(50, 2, 9, 9)]), 12: Truth([], [])}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("\udcff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no frames"),
        ('{"frames": {}}', "no frames"),
        ('{"frames": {"one": []}}', "'one' is no frame number"),
        ('{"frames": {"-1": []}}', "'-1' is no frame number"),
        ('{"frames": {"3": {}}}', "frame 3: expected a list"),
        ('{"frames": {"3": [[1, 2, 3, 4]]}}', "frame 3, face 0"),
        ('{"frames": {"3": [{"box": [1, 2, 3, 4]}, {"box": [1, 2, 3]}]}}', "frame 3, face 1"),
        ('{"frames": {"3": [{"box": [1, 2, 3.5, 4]}]}}', "whole pixels"),
        ('{"frames": {"3": [{"box": [1, 2, 3, true]}]}}', "whole pixels"),
        ('{"frames": {"3": [{"box": [1, 2, 0, 4]}]}}', "is empty"),
    ],
)
def test_what_is_no_label_file_is_refused_by_frame_and_face(tmp_path, content, complaint):
    path = tmp_path / "truth.json"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(BadDataError, match=complaint) as refused:
        read_truth(path)
    assert str(path) in str(refused.value)


def test_a_label_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"none\.json"):
        read_truth(tmp_path / "none.json")


def test_labels_of_another_source_are_refused(tmp_path):
    truth = {40: Truth([Box(600, 10, 60, 60)]), 50: Truth([], [Box(-10, 10, 20, 20)])}
    check_boxes(truth, tmp_path, (640, 480))
    with pytest.raises(BadDataError, match=r"frame 40: the face \[600, 10, 60, 60\] lies outside .* 320x240"):
        check_boxes(truth, tmp_path, (320, 240))
    check_numbers(truth, tmp_path, [39, 40])
    with pytest.raises(BadDataError, match=r"labels frames 40 to 50, and frames 0 to 2"):
        check_numbers(truth, tmp_path, [0, 1, 2])
