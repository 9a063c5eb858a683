import os
import resource
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import OutputError, UsageError
from edge.frame import Frame
from edge.recording import fit, open_recording

GRAY = np.zeros((48, 64), np.uint8)


def picture(value=90, size=(64, 48)):
    return np.full((size[1], size[0], 3), value, np.uint8)


@contextmanager
def files_of_at_most(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def record(path, times, *, live=False, sizes=None):
    recording = open_recording(path, live=live)
    for number, time in enumerate(times):
        recording.write(Frame(GRAY, time, number), picture(20 * number, *(sizes[number : number + 1] if sizes else [])))
    recording.close()


def played(path) -> tuple[float, list[np.ndarray]]:
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    return video.get(cv2.CAP_PROP_FPS), frames


def test_a_video_has_every_frame_at_the_sources_rate(tmp_path):
    record(tmp_path / "out.mp4", [number / 12.5 for number in range(10)])
    fps, frames = played(tmp_path / "out.mp4")
    assert fps == pytest.approx(12.5)
    assert [round(frame.mean() / 20) for frame in frames] == list(range(10))


def test_a_live_recording_keeps_time_whatever_the_rate_of_vision(tmp_path):
    record(tmp_path / "out.mp4", [5.0, 5.2, 5.3, 6.0], live=True)
    fps, frames = played(tmp_path / "out.mp4")
    assert fps == pytest.approx(25.0)
    assert len(frames) == pytest.approx(25, abs=1)


def test_a_single_frame_is_a_video(tmp_path):
    record(tmp_path / "out.mp4", [0.0])
    assert len(played(tmp_path / "out.mp4")[1]) == 1


def test_nothing_recorded_is_no_video_and_no_error(tmp_path):
    record(tmp_path / "out.mp4", [])
    assert not (tmp_path / "out.mp4").exists()


def test_pictures_of_another_size_are_fitted_in(tmp_path):
    record(tmp_path / "out.mp4", [0, 1, 2], sizes=[(64, 48), (48, 64), (200, 100)])
    _, frames = played(tmp_path / "out.mp4")
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 3


@pytest.mark.parametrize(("width", "height"), [(64, 48), (48, 64), (1000, 3), (1, 1), (640, 480)])
def test_fitting_distorts_nothing(width, height):
    fitted = fit(picture(255, (width, height)), (64, 48))
    assert fitted.shape == (48, 64, 3)
    rows, columns = fitted.any(axis=(1, 2)).sum(), fitted.any(axis=(0, 2)).sum()
    assert columns == 64 or rows == 48
    if min(rows, columns) > 1:
        assert columns / rows == pytest.approx(width / height, rel=0.05)


def test_a_folder_has_a_picture_of_every_frame_named_after_it(tmp_path):
    recording = open_recording(tmp_path / "deep" / "out", live=False)
    recording.write(Frame(GRAY, 0.0, 0), picture())
    recording.write(Frame(GRAY, 1.0, 12, name="party.png"), picture())
    recording.close()
    assert sorted(path.name for path in (tmp_path / "deep" / "out").iterdir()) == ["000000.jpg", "000012_party.jpg"]
    assert cv2.imread(str(tmp_path / "deep/out/000012_party.jpg")).shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["out.avi", "out.jpg"])
def test_another_kind_of_file_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match=r"\.mp4"):
        open_recording(tmp_path / name, live=False)


def test_a_file_where_a_folder_should_be_is_refused(tmp_path):
    (tmp_path / "out").write_text("somebody's")
    with pytest.raises(UsageError, match="is a file"):
        open_recording(tmp_path / "out", live=False)


def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(OutputError, match="/proc/nowhere"):
        open_recording(Path("/proc/nowhere/out.mp4"), live=False)


def test_a_video_that_did_not_reach_the_disk_is_an_error(tmp_path, monkeypatch):
    recording = open_recording(tmp_path / "out.mp4", live=False)
    for number in range(5):
        recording.write(Frame(GRAY, number / 10, number), picture())
    (tmp_path / "full.mp4").write_bytes(b"")
    monkeypatch.setattr(recording, "_partial", tmp_path / "full.mp4")
    with pytest.raises(OutputError, match="only 0 of 5"):
        recording.close()
    assert not (tmp_path / "full.mp4").exists()


def test_a_recording_that_was_erased_while_it_ran_says_so(tmp_path):
    recording = begin(tmp_path / "out.mp4", 6)
    (tmp_path / ".out.part.mp4").unlink()
    with pytest.raises(OutputError, match="removed while it was being recorded"):
        recording.close()


def test_on_a_full_disk_nothing_of_a_recording_keeps_the_last_of_its_room(tmp_path):
    recording = begin(tmp_path / "out.mp4", 6)
    with files_of_at_most(300), pytest.raises(OutputError, match=r"out\.mp4: only \d of 6 frames"):
        recording.close()
    assert not list(tmp_path.iterdir())


def test_on_a_full_disk_the_earlier_picture_stays_whole(tmp_path):
    def write():
        folder = open_recording(tmp_path / "shown", live=False)
        folder.write(Frame(GRAY, 0.0, 0), np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8))

    write()
    before = (tmp_path / "shown/000000.jpg").read_bytes()
    with files_of_at_most(300), pytest.raises(OutputError, match=r"000000\.jpg: cannot be written \(File too large"):
        write()
    assert [path.name for path in (tmp_path / "shown").iterdir()] == ["000000.jpg"]
    assert (tmp_path / "shown/000000.jpg").read_bytes() == before
    write()


def test_a_name_that_opencv_would_fall_over_is_refused(tmp_path):
    with pytest.raises(OutputError, match="is no UTF-8; OpenCV writes none such, rename it"):
        open_recording(tmp_path / os.fsdecode(b"\xe9.mp4"), live=False)


def begin(path, frames):
    recording = open_recording(path, live=False)
    for number in range(frames):
        recording.write(Frame(GRAY, number / 10, number), picture())
    return recording


def test_a_run_that_is_killed_leaves_the_earlier_video_and_can_be_repeated(tmp_path):
    path = tmp_path / "out.mp4"
    begin(path, 3).close()
    earlier = path.read_bytes()

    killed = begin(path, 5)

    assert path.read_bytes() == earlier
    del killed
    begin(path, 4).close()
    assert path.read_bytes() != earlier
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
