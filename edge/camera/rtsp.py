"""Network cameras: `rtsp://user@host/path`, over TCP."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import cv2

from edge.camera.base import LIMITS, Limits
from edge.camera.live import Capture, LiveCamera, Reconnect
from edge.credentials import has_password, hide_password, url_with_password
from edge.errors import CameraError, UsageError
from edge.opencv import keep_silent

RECONNECT = Reconnect(within=60.0)

STILL_STREAM = 60.0
"""Seconds of one picture that are no fault at least: a codec repeats a scene without movement bit for bit, in some
cameras for as long as they leave between two key frames."""


def open_rtsp(
    url: str,
    *,
    password: str | None = None,
    color: bool = False,
    limits: Limits = LIMITS,
    reconnect: Reconnect = RECONNECT,
) -> LiveCamera:
    """Open a network camera.

    A stream that is lost is sought again for a minute; meanwhile `read()` raises `CameraSoughtError` after its limit,
    and a later call goes on waiting. A camera that does not answer at the start is an error at once.

    Args:
        url: `rtsp://` or `rtsps://`, at most with a user's name in it.
        password: goes to the camera and into no message.
        color: whether frames carry colour.
        limits: how long connecting, and later each `read()`, waits at most. A stream that stands still for longer than
            `frozen`, and than `STILL_STREAM`, is opened anew.
        reconnect: for how long and how often a lost stream is sought.

    Raises:
        UsageError: the URL carries a password or no host.
        CameraError: the camera cannot be reached.
    """
    shown = hide_password(url)
    if has_password(url):
        raise UsageError(
            f"{shown}: a password in a URL shows in ps and in logs; write the URL with the user's name alone "
            "(rtsp://user@host/…) and the password to the file that source.password_file names"
        )
    try:
        host, user = urlsplit(url).hostname, urlsplit(url).username
        _ = urlsplit(url).port  # raises where it is no number
    except ValueError:
        host = None
    if not host:
        raise UsageError(f"{shown}: no host in this URL; expected such as rtsp://user@192.168.1.20:554/stream")
    if password is not None and not user:
        raise UsageError(f"{shown}: there is a password but no user; write rtsp://user@{host}/…")
    secret = url
    if password is not None:
        secret = url_with_password(url, password)
        keep_silent()  # at debug level both show addresses whole
    opening, silent = (max(1, round(seconds * 1000)) for seconds in (limits.opening, limits.silent))
    timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, opening, cv2.CAP_PROP_READ_TIMEOUT_MSEC, silent]

    def open_capture() -> Capture:
        capture = cv2.VideoCapture(secret, cv2.CAP_FFMPEG, timeouts)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"{shown}: cannot be reached, or refuses; check the address, that the camera is on, and the user and "
                "password (source.password_file)"
            )
        return capture  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number

    if limits.frozen:
        limits = replace(limits, frozen=max(limits.frozen, STILL_STREAM))
    return LiveCamera(shown, open_capture, color=color, limits=limits, reconnect=reconnect)
