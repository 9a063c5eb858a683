"""Video files: all frames, their times, and files that break off."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.camera import open_camera
from edge.camera.synthetic import SyntheticCamera, parse_scene
from edge.errors import BadDataError, InputNotFoundError

SHARED = Path(os.environ.get("MIEN_SHARED", Path(__file__).parents[4] / "shared"))
CLIP = SHARED / "media/clip.mp4"


def write_video(path: Path, codec: str, frames: int = 60, fps: float = 30.0) -> None:
    scene = parse_scene(f"size=320x240,seconds={frames / fps},fps={fps}")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, scene.size)
    for frame in SyntheticCamera(scene=scene, color=True):
        writer.write(frame.color)
    writer.release()


@pytest.fixture(scope="module")
def avi(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "faces.avi"
    write_video(path, "MJPG")
    return path


@pytest.fixture(scope="module")
def mp4(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "faces.mp4"
    write_video(path, "mp4v", fps=25.0)
    return path


def cut(path: Path, share: float, folder: Path) -> Path:
    data = path.read_bytes()
    short = folder / f"cut{path.suffix}"
    short.write_bytes(data[: int(len(data) * share)])
    return short


def test_every_frame_comes_in_order_with_its_media_time(avi, mp4):
    for path, fps in ((avi, 30.0), (mp4, 25.0)):
        with open_camera(str(path)) as camera:
            frames = list(camera)
        assert not camera.live
        assert [frame.number for frame in frames] == list(range(60))
        assert np.allclose([frame.time for frame in frames], np.arange(60) / fps, atol=0.002)
        assert frames[0].gray.shape == (240, 320)
        assert frames[0].color is None


def test_the_pictures_are_those_that_were_filmed(avi):
    frame = open_camera(str(avi), color=True).read()
    filmed = SyntheticCamera(scene=parse_scene("size=320x240"), color=True).read()
    assert cv2.PSNR(frame.color, filmed.color) > 30
    assert cv2.PSNR(frame.gray, filmed.gray) > 30


def test_a_video_that_breaks_off_delivers_what_is_there_and_names_the_frame(avi, tmp_path, capfd):
    path = cut(avi, 0.5, tmp_path)
    frames = []
    with open_camera(str(path)) as camera:
        with pytest.raises(BadDataError, match=r"cut\.avi: breaks off at frame \d+ of 60") as caught:
            frames.extend(camera)
        assert camera.read() is None
    assert 20 <= len(frames) <= 35
    assert f"at frame {len(frames)} of 60" in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_video_that_lacks_its_index_is_refused_by_name_in_silence(mp4, tmp_path, capfd):
    with pytest.raises(BadDataError, match=r"cut\.mp4: not a video, or cut short"):
        open_camera(str(cut(mp4, 0.5, tmp_path)))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 5000])
def test_a_file_that_is_no_video_is_refused_by_name(content, tmp_path):
    path = tmp_path / "letter.mp4"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=r"letter\.mp4"):
        open_camera(str(path))


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(BadDataError, match="not a regular file"):
        open_camera(str(tmp_path / "pipe.mp4"))


def test_a_video_that_may_not_be_read_is_told_apart_from_a_broken_one(avi, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputNotFoundError, match=r"faces\.avi: cannot be read \(Permission denied\)"):
        open_camera(str(avi))


def test_a_name_that_looks_like_a_protocol_is_only_a_name(avi, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("concat-a|b.avi").write_bytes(avi.read_bytes())
    assert open_camera("concat-a|b.avi").read().number == 0


@pytest.mark.skipif(not CLIP.exists(), reason=f"{CLIP} is not here")
def test_a_real_clip_is_complete():
    *_, last = open_camera(str(CLIP))
    assert last.number == 274
    assert last.time == pytest.approx(274 / 29.97, abs=0.01)
