"""Nothing is ever replaced that Mien did not write."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import OutputError
from edge.frame import Frame
from edge.mark import check_folder, check_replaceable
from edge.pictures import PICTURE_SUFFIXES, read_picture
from edge.recording import VideoRecording, write_marked

HOPPER = Path(__file__).parents[2] / "edge" / "samples" / "grace_hopper.jpg"
PICTURE = cv2.resize(cv2.imread(str(HOPPER)), (96, 64), interpolation=cv2.INTER_AREA)


def film(path: Path) -> None:
    recording = VideoRecording(path, live=False)
    for number in range(5):
        recording.write(Frame(PICTURE[..., 0], number / 5, number), PICTURE)
    recording.close()


@pytest.mark.parametrize("suffix", sorted(PICTURE_SUFFIXES))
def test_an_annotated_picture_of_any_kind_is_whole_and_may_be_replaced(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    for brightness in (0, 40):
        write_marked(path, np.clip(PICTURE.astype(int) // 2 + brightness, 0, 255).astype(np.uint8))
    assert read_picture(path).gray.mean() == pytest.approx(cv2.cvtColor(PICTURE, 7).mean() / 2 + 40, abs=3)


def test_an_annotated_video_plays_and_may_be_replaced(tmp_path):
    for _ in range(2):
        film(tmp_path / "film.mp4")
    video = cv2.VideoCapture(str(tmp_path / "film.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 5
    assert [video.read()[0] for _ in range(6)] == [True] * 5 + [False]


@pytest.mark.parametrize("name", ["a.jpg", "film.mp4"])
@pytest.mark.parametrize("content", [HOPPER.read_bytes(), b"", b"notes"], ids=["photo", "empty", "short"])
def test_what_mien_did_not_write_stays_as_it_is(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(OutputError, match=f"{name} is there already"):
        film(path) if name.endswith("mp4") else write_marked(path, PICTURE)
    assert path.read_bytes() == content


def test_a_link_to_an_original_does_not_lead_around_it(tmp_path):
    shutil.copy(HOPPER, tmp_path / "original.jpg")
    (tmp_path / "a.jpg").symlink_to("original.jpg")
    with pytest.raises(OutputError):
        write_marked(tmp_path / "a.jpg", PICTURE)
    assert (tmp_path / "original.jpg").read_bytes() == HOPPER.read_bytes()


def test_a_folder_may_hold_annotated_pictures_and_other_files_but_no_original(tmp_path):
    check_folder(tmp_path / "none")
    write_marked(tmp_path / "a.png", PICTURE)
    (tmp_path / "notes.txt").touch()
    check_folder(tmp_path)
    shutil.copy(HOPPER, tmp_path / "b.jpg")
    with pytest.raises(OutputError, match=r"b\.jpg"):
        check_folder(tmp_path)


def test_a_folder_with_a_pictures_name_is_not_replaced(tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match=r"a\.png is there already"):
        check_replaceable(tmp_path / "a.png")
