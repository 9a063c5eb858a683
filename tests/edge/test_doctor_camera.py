"""The configured camera: devices that are scripted below a folder, and sources that need none."""

import os
import socket
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

import edge
from edge import doctor_camera
from edge.control import open_folder
from edge.doctor_apart import run_apart
from edge.doctor_camera import check_camera, pi_devices, v4l2_device
from edge.doctor_finding import fault, ok
from edge.doctor_processes import find_daemons, find_holders
from edge.doctor_service import Runner
from edge.pause import pause

SAMPLES = Path(edge.__file__).parent / "samples"
DAEMON = "/opt/mien/venv/bin/python\0/opt/mien/venv/bin/mien\0run\0--config\0/etc/mien/mien.toml\0"


@pytest.fixture
def no_ioctl(monkeypatch):
    """Scripted device files are no devices."""
    monkeypatch.setattr(doctor_camera, "_no_capture", lambda _: "")


@pytest.fixture
def pictures(monkeypatch):
    """How often a picture is taken, and what comes of it."""
    outcome = [ok("a picture")]
    taken = []
    monkeypatch.setattr(doctor_camera, "_take_picture", lambda subject: taken.append(subject) or outcome[0])
    return taken, outcome


def hold(root, pid, device, words="guvcview\0", name="guvcview\n"):
    folder = root / f"proc/{pid}"
    (folder / "fd").mkdir(parents=True)
    (folder / "fd/7").symlink_to(device)
    (folder / "cmdline").write_text(words)
    (folder / "comm").write_text(name)


def test_a_source_that_needs_no_camera_delivers_a_picture(make_subject):
    finding = check_camera(make_subject(keys={"source.spec": f"images:{SAMPLES}"}))
    assert finding.status == "ok"
    assert "the first picture after" in finding.found


@pytest.mark.parametrize(
    ("spec", "said"),
    [("/no/such/film.mp4", "not there"), ("sauce", "no such kind of source"), ("images:/nowhere", "/nowhere")],
)
def test_a_source_that_is_none_is_a_fault_with_advice(make_subject, spec, said):
    finding = check_camera(make_subject(keys={"source.spec": spec}))
    assert (finding.status, said in finding.found) == ("fault", True)
    assert finding.advice


def test_a_lens_under_its_cap_is_told(make_subject, tmp_path):
    cv2.imwrite(str(tmp_path / "dark.png"), np.zeros((48, 64), np.uint8))
    finding = check_camera(make_subject(keys={"source.spec": f"images:{tmp_path}"}))
    assert (finding.status, "64x48" in finding.found) == ("warning", True)


@pytest.mark.parametrize(
    ("spec", "device"),
    [("v4l2:/dev/video2", "/dev/video2"), ("V4L2:0", "/dev/video0"), ("/dev/video1", "/dev/video1")],
)
def test_a_source_names_its_device_in_three_ways(spec, device):
    assert v4l2_device(spec) == Path(device)


def test_a_camera_that_is_not_there_is_told_beside_those_that_are(make_subject):
    finding = check_camera(make_subject({"dev/video4": ""}, {"source.spec": "v4l2:/dev/video0"}))
    assert finding.status == "fault"
    assert "/dev/video0 is not there; video devices: /dev/video4" in finding.found


def test_a_pi_without_a_camera_is_told_where_the_cable_goes(make_subject):
    finding = check_camera(make_subject(keys={"source.spec": "picamera2"}))
    assert (finding.status, "the Raspberry Pi's camera is not there" in finding.found) == ("fault", True)
    assert "rpicam-hello --list-cameras" in finding.advice


def test_a_file_that_is_no_video_device_is_told(make_subject):
    finding = check_camera(make_subject({"dev/video0": ""}, {"source.spec": "v4l2:0"}))
    assert (finding.status, "/dev/video0: is no video device" in finding.found) == ("fault", True)


@pytest.mark.usefixtures("no_ioctl")
def test_a_camera_that_the_user_may_not_use_is_told_with_the_command(make_subject, monkeypatch):
    monkeypatch.setattr(Runner, "may", lambda self, path, wanted: False)
    finding = check_camera(make_subject({"dev/video0": ""}, {"source.spec": "v4l2:0"}))
    assert finding.status == "fault"
    assert "sudo usermod -aG video" in finding.advice


@pytest.mark.usefixtures("no_ioctl")
def test_a_camera_that_the_daemon_uses_is_left_to_it(make_subject, pictures):
    subject = make_subject({"dev/video0": ""}, {"source.spec": "v4l2:0"})
    hold(subject.root, 77, "/dev/video0", DAEMON, "mien\n")
    finding = check_camera(subject)
    assert (finding.status, "Mien runs (process 77)" in finding.found) == ("ok", True)
    assert pictures[0] == []


@pytest.mark.usefixtures("no_ioctl")
def test_who_holds_a_camera_that_does_not_open_is_named(make_subject, pictures):
    taken, outcome = pictures
    subject = make_subject({"dev/video0": ""}, {"source.spec": "v4l2:/dev/v4l/by-id/usb-cam"})
    (subject.root / "dev/v4l/by-id").mkdir(parents=True)
    (subject.root / "dev/v4l/by-id/usb-cam").symlink_to("../../video0")
    hold(subject.root, 88, "/dev/video0")
    assert check_camera(subject).status == "ok"
    outcome[0] = fault("/dev/video0: does not open as a camera", "see fuser")
    finding = check_camera(subject)
    assert "it is open in guvcview (process 88)" in finding.found
    assert len(taken) == 2


def test_what_libcamera_opens_is_every_device_of_its(machine):
    root = machine({"dev/media0": "", "dev/video0": "", "dev/dma_heap/linux,cma": "", "dev/null": ""})
    assert set(map(str, pi_devices(root))) == {"/dev/media0", "/dev/video0", "/dev/dma_heap/linux,cma"}


def test_daemons_are_told_from_other_commands(machine):
    root = machine(
        {
            "proc/7/cmdline": DAEMON,
            "proc/8/cmdline": "/usr/bin/python3\0/home/pi/env/bin/mien\0doctor\0",
            "proc/9/cmdline": "vim\0mien\0",
            "proc/self/cmdline": DAEMON,
        }
    )
    assert find_daemons(root) == [7]
    assert find_holders(root, {"/dev/video0"}) == {}


def test_a_network_camera_that_is_not_there_is_told_apart_from_one_that_refuses(make_subject):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    finding = check_camera(make_subject(keys={"source.spec": f"rtsp://me@127.0.0.1:{port}/x"}))
    assert (finding.status, "Connection refused" in finding.found) == ("fault", True)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse():
            for _ in range(3):
                connection, _ = server.accept()
                connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        there = make_subject(keys={"source.spec": f"rtsp://me@127.0.0.1:{server.getsockname()[1]}/x"})
        finding = check_camera(there)
        assert (finding.status, "source.password_file" in finding.advice + finding.found) == ("fault", True)


def test_a_password_never_shows_and_one_that_is_for_others_is_not_tried(make_subject, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    keys = {"source.spec": "rtsp://me@127.0.0.1:1/x", "source.password_file": str(secret)}
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    mien = Runner("mien", 64001, frozenset(), ourselves=False)
    finding = check_camera(make_subject(keys=keys, runner=mien))
    assert (finding.status, finding.advice) == ("warning", "run it again: sudo mien doctor")


def test_a_driver_that_hangs_is_given_up(make_subject, monkeypatch, tmp_path):
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2/__init__.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finding = run_apart("camera", make_subject(keys={"source.spec": "synthetic"}), 0.5, advice="take the cable out")
    assert (finding.status, finding.advice) == ("fault", "take the cable out")


@pytest.mark.parametrize(
    ("own", "status", "said"), [(0x04200001, "ok", ""), (0x04A00000, "fault", "HD Webcam delivers no")]
)
def test_the_second_device_of_a_webcam_which_delivers_no_pictures_is_told(
    make_subject, monkeypatch, pictures, own, status, said
):
    def answer(_, request, buffer):
        assert request == doctor_camera.QUERY_CAPABILITIES
        whole = own | 0x84A00001
        doctor_camera.CAPABILITIES.pack_into(buffer, 0, b"uvcvideo", b"HD Webcam", b"usb-1", 6, whole, own, 0, 0, 0)

    monkeypatch.setattr(doctor_camera.fcntl, "ioctl", answer)
    finding = check_camera(make_subject({"dev/video0": ""}, {"source.spec": "v4l2:0"}))
    assert (finding.status, said in finding.found) == (status, True)


def test_while_it_is_paused_no_camera_is_opened(make_subject, tmp_path):
    pause(open_folder(tmp_path / "mien", shared=False))
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    found = check_camera(make_subject(keys={"source.spec": "synthetic:realtime=1"}, environ=environ))
    assert (found.status, found.found) == ("warning", "paused: nobody may look now")
    assert check_camera(make_subject(keys={"source.spec": "synthetic"}, environ=environ)).status == "ok"
