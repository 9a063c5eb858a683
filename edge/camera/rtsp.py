"""Network cameras: `rtsp://user@host/path`, over TCP."""

from __future__ import annotations

from urllib.parse import urlsplit

import cv2

from edge.camera.live import Capture, LiveCamera, Reconnect
from edge.credentials import has_password, hide_password, url_with_password
from edge.errors import CameraError, UsageError

RECONNECT = Reconnect(within=60.0)


def open_rtsp(
    url: str,
    *,
    password: str | None = None,
    color: bool = False,
    timeout: float = 5.0,
    reconnect: Reconnect = RECONNECT,
) -> LiveCamera:
    """Open a network camera.

    A stream that is lost is sought again for a minute; meanwhile `read()` raises `CameraSoughtError` after its timeout,
    and a later call goes on waiting. A camera that does not answer at the start is an error at once.

    Args:
        url: `rtsp://` or `rtsps://`, at most with a user's name in it.
        password: goes to the camera and into no message.
        color: whether frames carry colour.
        timeout: seconds that connecting, and later each `read()`, waits at most.
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
    secret = url if password is None else url_with_password(url, password)
    milliseconds = max(1, round(timeout * 1000))
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, milliseconds, cv2.CAP_PROP_READ_TIMEOUT_MSEC, milliseconds]

    def open_capture() -> Capture:
        capture = cv2.VideoCapture(secret, cv2.CAP_FFMPEG, limits)
        if not capture.isOpened():
            capture.release()
            raise CameraError(
                f"{shown}: cannot be reached, or refuses; check the address, that the camera is on, and the user and "
                "password (source.password_file)"
            )
        return capture  # type: ignore[return-value]  # OpenCV's stubs widen uint8 to any number

    return LiveCamera(shown, open_capture, color=color, timeout=timeout, reconnect=reconnect)
