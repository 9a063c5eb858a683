"""The synthetic camera is deterministic, shows faces that Haar finds where it says, and fails when told to."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from edge.camera import open_camera
from edge.camera.synthetic import SyntheticCamera, parse_scene
from edge.detector import Detector
from edge.errors import CameraError, UsageError


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_the_same_spec_gives_the_same_frames_and_another_seed_others():
    def last(seed):
        return list(open_camera(f"synthetic:seconds=0.2,faces=2,seed={seed}"))[-1].gray

    assert np.array_equal(last(3), last(3))
    assert not np.array_equal(last(3), last(4))


def test_it_is_a_file_by_default_and_ends():
    camera = open_camera("synthetic:seconds=0.5,fps=20,size=320x200")
    frames = list(camera)
    assert not camera.live
    assert [frame.number for frame in frames] == list(range(10))
    assert frames[-1].time == pytest.approx(9 / 20)
    assert frames[0].size == (320, 200)


def test_colour_is_drawn_where_asked_and_grey_stays_the_same():
    spec = "synthetic:seconds=0.1,faces=2"
    plain, colored = open_camera(spec).read(), open_camera(spec, color=True).read()
    assert plain.color is None
    assert colored.color.shape == (480, 640, 3)
    assert np.array_equal(plain.gray, colored.gray)


@pytest.mark.parametrize(
    "spec", ["faces=1", "faces=2,seed=3", "faces=4,seed=1,background=plain", "faces=9,size=960x540"]
)
def test_haar_finds_every_face_where_the_truth_says(spec):
    camera = open_camera(f"synthetic:{spec},seconds=6,fps=1")
    detector = Detector()
    for frame in camera:
        found = detector.detect(frame.gray)
        for face in camera.truth(frame.number):
            assert max(face.iou(box) for box in found) > 0.6


def test_faces_move_smoothly_and_stay_inside_the_frame_and_apart():
    camera = SyntheticCamera(scene=parse_scene("faces=6,seconds=60"))
    before = camera.truth(0)
    for number in range(1, 1800):
        boxes = camera.truth(number)
        for box, old in zip(boxes, before, strict=True):
            assert 0 <= box.x <= 640 - box.width
            assert 0 <= box.y <= 480 - box.height
            assert abs(box.x - old.x) + abs(box.y - old.y) <= 8
        assert all(a.iou(b) == 0 for a in boxes for b in boxes if a is not b)
        before = boxes


def test_an_empty_scene_has_no_faces():
    camera = open_camera("synthetic:faces=0,seconds=0.1")
    assert camera.truth(0) == []
    assert Detector().detect(camera.read().gray) == []


def test_in_real_time_frames_wait_for_their_moment_and_are_lost_when_nobody_comes():
    clock = Clock()
    camera = SyntheticCamera(scene=parse_scene("realtime=1,fps=10"), clock=clock, sleep=clock.sleep)
    assert camera.live
    first, second = camera.read(), camera.read()
    assert (first.number, first.time) == (0, 1000.0)
    assert (second.number, second.time) == (1, pytest.approx(1000.1))
    assert clock.now == pytest.approx(1000.1)
    clock.sleep(0.55)
    assert camera.read().number == 6
    clock.sleep(60)
    assert camera.read() is None


def test_it_dies_when_told():
    camera = open_camera("synthetic:die_at=0.2,fps=10")
    assert [camera.read().number, camera.read().number] == [0, 1]
    with pytest.raises(CameraError, match="gone"):
        camera.read()


def test_it_stalls_when_told_and_its_reader_waits_the_timeout_out():
    clock = Clock()
    camera = SyntheticCamera(scene=parse_scene("stall_at=0"), timeout=5.0, clock=clock, sleep=clock.sleep)
    with pytest.raises(CameraError, match="no picture for 5 s"):
        camera.read()
    assert clock.now == 1005.0


def test_it_delivers_garbage_when_told():
    camera = open_camera("synthetic:garbage_at=0.1,fps=10,seconds=0.2")
    good, bad = camera
    assert len(camera.truth(good.number)) == 1
    assert camera.truth(bad.number) == []
    assert bad.gray.std() > 60 > good.gray.std()


def test_a_script_brings_its_own_number_of_faces_and_noise_and_what_is_said_goes_first():
    assert (open_camera("synthetic").scene.faces, open_camera("synthetic").scene.noise) == (1, 0.0)
    scene = open_camera("synthetic:script=enter,seed=2", size=(320, 240)).scene
    assert (scene.faces, scene.noise, scene.size, scene.seed) == (3, 2.0, (320, 240), 2)
    for spec in ("script=enter,faces=5,noise=0", "faces=5,noise=0,script=enter"):
        scene = open_camera(f"synthetic:{spec}").scene
        assert (scene.faces, scene.noise) == (5, 0.0)


def test_a_face_counts_as_there_once_most_of_it_is_inside_the_frame():
    camera = open_camera("synthetic:script=enter,faces=1")
    shares = (0.05, 0.5, 0.7, 1.0)
    first = [next(n for n in range(300) if camera.people(n, seen=share)) for share in shares]
    assert first == sorted(set(first))
    half, most = (camera.people(number, seen=0)[0] for number in first[1:3])
    assert half.x + half.width == pytest.approx(0.5 * half.width, abs=20)
    assert most.x + most.width == pytest.approx(0.7 * most.width, abs=20)
    assert camera.truth(first[2]) == [most]
    assert camera.truth(first[2] - 1) == []


def test_noise_is_another_in_every_frame_and_as_strong_as_asked():
    frames = [frame.gray.astype(float) for frame in open_camera("synthetic:script=empty,seconds=0.2,noise=3")]
    for before, after in pairwise(frames):
        assert (after - before).std() == pytest.approx(3 * 2**0.5, rel=0.05)
        assert abs((after - before).mean()) < 0.05


@pytest.mark.parametrize("noise", [0, 2])
def test_flicker_lifts_and_lowers_the_whole_picture(noise):
    means = [f.gray.mean() for f in open_camera(f"synthetic:script=empty,seconds=15,fps=4,noise={noise},flicker=6")]
    assert 8 <= max(means) - min(means) <= 12.5
    assert open_camera("synthetic:script=empty,noise=0,seconds=1").read().gray.mean() == pytest.approx(
        means[0], abs=0.1
    )


def test_people_are_where_they_are_whatever_is_behind_them():
    rooms = [open_camera(f"synthetic:script=still,background={kind}") for kind in ("plain", "textured", "photo")]
    assert all(room.people(0) == rooms[0].people(0) for room in rooms)
    assert not np.array_equal(rooms[1].read().gray, rooms[2].read().gray)


def test_colour_frames_flicker_and_are_noisy_too():
    camera = open_camera("synthetic:script=sit,flicker=5,fps=5,seconds=5,faces=2", color=True)
    for frame in camera:
        assert np.abs(cv2.cvtColor(frame.color, cv2.COLOR_BGR2GRAY).astype(int) - frame.gray).max() <= 4


def test_an_unknown_option_is_named_with_those_there_are():
    with pytest.raises(UsageError, match=r"no option 'people'; it has seconds, faces, .*garbage_at"):
        open_camera("synthetic:people=2")


@pytest.mark.parametrize(
    "option",
    [
        "faces=many",
        "faces=-1",
        "faces=65",
        "size=640",
        "size=0x0",
        "fps=0",
        "fps=nan",
        "realtime=yes",
        "die_at=",
        "seed=-1",
        "script=stampede",
        "noise=-1",
        "noise=nan",
        "flicker=loud",
        "background=beach",
    ],
)
def test_a_value_that_makes_no_sense_is_refused_with_what_was_expected(option):
    with pytest.raises(UsageError, match=rf"synthetic: {option} makes no sense; expected"):
        open_camera(f"synthetic:{option}")
