"""Network cameras, against a small RTSP server on the loopback interface that FFmpeg itself talks to.

It speaks RTSP 1.0 (RFC 2326) with MPEG-TS over RTP (RFC 2250) interleaved in the TCP connection.
"""

import itertools
import re
import socket
import struct
import threading
import time
from contextlib import suppress

import cv2
import pytest

from edge.camera import Limits, open_camera
from edge.camera.live import Reconnect
from edge.camera.rtsp import open_rtsp
from edge.camera.synthetic import SyntheticCamera, parse_scene
from edge.errors import CameraError, CameraSoughtError
from edge.frame import Frame

SCENE = "size=160x120,fps=25,seconds=2"
PACKETS = 7 * 188
"""Bytes of MPEG-TS in one RTP packet."""

QUICK = Reconnect(within=20.0, first=0.05, longest=0.05)

SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track1\r\n"
ANSWERS = {
    "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n",
    "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n\r\n{SDP}",
    "SETUP": "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
    "PLAY": "Session: 1\r\n\r\n",
    "TEARDOWN": "Session: 1\r\n\r\n",
}


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Two seconds of MPEG-TS."""
    path = tmp_path_factory.mktemp("film") / "film.ts"
    scene = parse_scene(SCENE)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), scene.fps, scene.size)
    for frame in SyntheticCamera(scene=scene, color=True):
        writer.write(frame.color)
    writer.release()
    return path.read_bytes()


class NetworkCamera:
    """Shows a film over and over to whoever connects, until it stalls or drops everybody."""

    def __init__(self, film: bytes) -> None:
        self._film = film
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.requests: list[str] = []
        self.stalled = threading.Event()
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def drop(self) -> None:
        """Cut every connection; new ones are taken."""
        for client in self._clients:
            with suppress(OSError):  # it may have gone by itself
                client.shutdown(socket.SHUT_RDWR)
        self._clients.clear()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # closing alone would let a waiting accept() take one more
        self._socket.close()
        self.drop()

    def count(self, method: str) -> int:
        return sum(request.startswith(method) for request in self.requests)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        heard = b""
        try:
            while data := client.recv(4096):
                # Between the requests lie FFmpeg's reports of what it received.
                heard += data
                while found := re.search(rb"([A-Z]+) rtsp://.*?CSeq: (\d+)\r\n.*?\r\n\r\n", heard, re.DOTALL):
                    heard = heard[found.end() :]
                    self.requests.append(found[0].decode())
                    method, number = found[1].decode(), found[2].decode()
                    client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{ANSWERS[method]}".encode())
                    if method == "PLAY":
                        threading.Thread(target=self._show, args=(client,), daemon=True).start()
        except OSError:
            return

    def _show(self, client: socket.socket) -> None:
        pause = 2.0 / (len(self._film) / PACKETS)
        starts = itertools.cycle(range(0, len(self._film), PACKETS))
        try:
            for number, start in enumerate(starts):
                if self.stalled.is_set():
                    return
                load = self._film[start : start + PACKETS]
                header = struct.pack("!BBHII", 0x80, 33, number & 0xFFFF, int(number * pause * 90_000), 1)
                client.sendall(struct.pack("!cBH", b"$", 0, len(header) + len(load)) + header + load)
                time.sleep(pause / 4)  # four times life's pace, so that FFmpeg need not wait long to know the stream
        except OSError:
            return


@pytest.fixture
def camera(film):
    made = NetworkCamera(film)
    yield made
    made.close()


def test_frames_come_from_a_real_session_with_their_times(camera):
    with open_camera(f"rtsp://127.0.0.1:{camera.port}/live", color=True) as opened:
        assert opened.live
        frames = [opened.read() for _ in range(5)]
    assert [frame.size for frame in frames] == [(160, 120)] * 5
    assert all(frame.color.std() > 5 for frame in frames)
    assert [frame.time for frame in frames] == sorted(frame.time for frame in frames)
    assert [frame.number for frame in frames] == sorted({frame.number for frame in frames})
    assert 0 <= time.monotonic() - frames[-1].time < 5
    assert [request.split()[0] for request in camera.requests[:4]] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_a_dropped_stream_is_connected_again_and_its_frames_count_on(camera):
    with open_rtsp(f"rtsp://127.0.0.1:{camera.port}/live", reconnect=QUICK) as opened:
        first = opened.read()
        camera.drop()
        deadline = time.monotonic() + 30
        while camera.count("PLAY") < 2:
            assert time.monotonic() < deadline
            opened.read()
        later = [opened.read() for _ in range(3)][-1]
    assert later.number > first.number
    assert later.time > first.time


def read_until(camera, happened, seconds=10.0):
    """Read, through the times in which the camera is sought, until something is so of a frame or of what is raised."""
    deadline = time.monotonic() + seconds
    while True:
        assert time.monotonic() < deadline
        try:
            got = camera.read()
        except CameraError as error:
            got = error
        if happened(got):
            return got


def test_a_stalled_stream_is_noticed_in_time_and_connected_again_once_it_is_back(camera):
    with open_rtsp(f"rtsp://127.0.0.1:{camera.port}/live", reconnect=QUICK, limits=Limits(silent=0.4)) as opened:
        last = opened.read()
        camera.stalled.set()
        began = time.monotonic()
        noticed = read_until(opened, lambda got: isinstance(got, CameraSoughtError))
        assert "no picture for 0.4 s; it is sought for 20 s" in str(noticed)
        assert time.monotonic() - began < 2.5
        camera.stalled.clear()
        found = read_until(opened, lambda got: isinstance(got, Frame) and camera.count("PLAY") == 2)
    assert found.number > last.number


def test_a_camera_that_is_switched_off_is_given_up_at_the_limit(camera):
    patience = Reconnect(within=0.5, first=0.05, longest=0.05)
    with open_rtsp(f"rtsp://127.0.0.1:{camera.port}/live", reconnect=patience, limits=Limits(silent=0.3)) as opened:
        opened.read()
        camera.close()
        lost = read_until(opened, lambda got: type(got) is CameraError)
    assert re.match(r"rtsp://127\.0\.0\.1:\d+/live: (cannot be reached|no picture|the camera stopped)", str(lost))


@pytest.mark.parametrize(("asked", "used"), [(2.0, 60.0), (90.0, 90.0), (0.0, 0.0)])
def test_a_stream_may_stand_still_for_longer_than_a_sensor(camera, asked, used):
    with open_rtsp(f"rtsp://127.0.0.1:{camera.port}/live", limits=Limits(frozen=asked)) as opened:
        assert opened.limits.frozen == used
