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


def damage(path: Path, folder: Path) -> Path:
    """A copy with a tenth in its middle overwritten."""
    data = bytearray(path.read_bytes())
    start, end = int(len(data) * 0.4), int(len(data) * 0.5)
    data[start:end] = np.random.default_rng(1).integers(0, 256, end - start, np.uint8).tobytes()
    damaged = folder / f"damaged{path.suffix}"
    damaged.write_bytes(data)
    return damaged


def test_what_lies_behind_broken_frames_is_read_and_the_broken_ones_are_counted(mp4, tmp_path, capfd):
    frames = []
    with open_camera(str(damage(mp4, tmp_path))) as camera:
        with pytest.raises(BadDataError, match=r"damaged\.mp4: \d+ of 60 frames cannot be decoded") as caught:
            frames.extend(camera)
        assert camera.read() is None
    numbers = [frame.number for frame in frames]
    missing = sorted(set(range(60)) - set(numbers))
    assert 1 <= len(missing) <= 12
    assert numbers == sorted(numbers)
    assert numbers[-1] == 59
    assert f"{len(missing)} of 60 frames" in str(caught.value)
    assert f"frame {missing[0]};" in str(caught.value)
    assert np.allclose([frame.time for frame in frames], np.array(numbers) / 25, atol=0.002)
    assert capfd.readouterr().err == ""


def test_damage_that_the_container_hides_still_ends_in_an_error(avi, tmp_path, capfd):
    frames = []
    with open_camera(str(damage(avi, tmp_path))) as camera, pytest.raises(BadDataError, match=r"damaged\.avi"):
        frames.extend(camera)
    assert 40 <= len(frames) <= 60
    assert np.all(np.diff([frame.time for frame in frames]) > 0)
    assert capfd.readouterr().err == ""


class Film:
    """In place of OpenCV's capture: pictures with the times that a container tells of them; None is broken."""

    def __init__(self, *pictures):
        self.pictures, self.at = pictures, -1

    def isOpened(self):  # noqa: N802  # OpenCV's name
        return True

    def get(self, key):
        if key == cv2.CAP_PROP_POS_MSEC:
            return self.pictures[self.at][0]
        return {cv2.CAP_PROP_FPS: 10.0, cv2.CAP_PROP_FRAME_COUNT: len(self.pictures)}.get(key, 0.0)

    def read(self):
        self.at += 1
        if self.at >= len(self.pictures) or self.pictures[self.at][1] is None:
            return False, None
        if isinstance(self.pictures[self.at][1], Exception):
            raise self.pictures[self.at][1]
        return True, self.pictures[self.at][1]

    def release(self):
        pass


@pytest.fixture
def film(tmp_path, monkeypatch):
    def shoot(*pictures):
        monkeypatch.setattr("edge.camera.video.cv2.VideoCapture", lambda *_: Film(*pictures))
        (tmp_path / "film.mp4").write_bytes(b"film")
        return open_camera(str(tmp_path / "film.mp4"), color=True)

    return shoot


def picture(width=64, height=48, value=90):
    return np.full((height, width, 3), value, np.uint8)


def test_media_times_never_run_backwards_whatever_the_container_says(film):
    told = [0.0, 100.0, -5000.0, 50.0, float("nan"), 100.0, 900.0, 900.0, 1000.0]
    times = [frame.time for frame in film(*((time, picture()) for time in told))]
    assert times == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0, 1.1])


def test_frames_may_change_their_size(film):
    sizes = [(64, 48), (1, 1), (4000, 3000), (48, 64)]
    frames = list(film(*((100.0 * number, picture(*size)) for number, size in enumerate(sizes))))
    assert [frame.size for frame in frames] == sizes
    assert [frame.color.shape[:2] for frame in frames] == [(height, width) for width, height in sizes]


@pytest.mark.parametrize(
    "broken",
    [None, cv2.error("no memory"), np.zeros((0, 0, 3), np.uint8), np.zeros((48, 64, 3), np.float32)],
    ids=["not decoded", "refused by OpenCV", "empty", "floats"],
)
def test_a_broken_frame_is_passed_over_and_told_at_the_end(film, broken):
    camera = film((0.0, picture()), (100.0, broken), (200.0, broken), (300.0, picture()), (400.0, broken))
    assert [camera.read().number, camera.read().number] == [0, 3]
    with pytest.raises(BadDataError, match="2 of 4 frames cannot be decoded, the first of them frame 1; "):
        camera.read()
    assert camera.read() is None


def test_damage_without_end_is_the_end(film):
    camera = film((0.0, picture()), *[(100.0, None)] * 300, (400.0, picture()))
    camera.read()
    with pytest.raises(BadDataError, match="breaks off at frame 1 of 302"):
        camera.read()
    assert camera.read() is None


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
