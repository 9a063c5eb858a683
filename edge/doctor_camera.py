"""The configured camera: there, permitted, not taken, and delivering a picture."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from edge.control import find_states
from edge.doctor_broker import hidden_secret
from edge.doctor_finding import Finding, Subject, fault, ok, told, warning
from edge.doctor_network import reach
from edge.doctor_processes import find_daemons, find_holders, is_daemon
from edge.errors import MienError
from edge.pause import is_paused
from edge.rules import is_device

QUERY_CAPABILITIES = 0x80685600
"""Linux's VIDIOC_QUERYCAP; it disturbs nobody who uses the camera."""

CAPABILITIES = struct.Struct("<16s32s32s3I3I")
"""`struct v4l2_capability`: driver, card, bus, version, the whole device's capabilities, this file's."""

CAPTURES = 0x1 | 0x1000
"""V4L2_CAP_VIDEO_CAPTURE, single- and multi-planar."""

FLAT = 3
"""Grey levels between the darkest pixel and the brightest that no scene has fewer of."""

SOURCE_ADVICE = "check source.spec; 'mien run --help' lists the kinds of sources"


def check_camera(subject: Subject) -> Finding:
    """Whether the configured source delivers a picture, unless the daemon has it."""
    spec = subject.config.source.spec
    kind = spec.partition(":")[0].lower()
    if kind == "picamera2":
        return _check_devices(subject, pi_devices(subject.root), "the Raspberry Pi's camera")
    if kind == "v4l2" or is_device(spec):
        return _check_devices(subject, [v4l2_device(spec)], str(v4l2_device(spec)))
    if kind in {"rtsp", "rtsps"}:
        return _check_stream(subject, spec)
    return _take_picture(subject)


def v4l2_device(spec: str) -> Path:
    """The device file that a source names."""
    named = spec[len("v4l2:") :] if spec.lower().startswith("v4l2:") else spec
    return Path(named) if named.startswith("/") else Path(f"/dev/video{named}")


def pi_devices(root: Path) -> list[Path]:
    """What libcamera opens."""
    found = [path for pattern in ("media*", "video*", "dma_heap/*") for path in sorted((root / "dev").glob(pattern))]
    return [Path("/", path.relative_to(root)) for path in found]


def _check_devices(subject: Subject, devices: Sequence[Path], what: str) -> Finding:
    if (missing := judge_devices(subject, devices, what)) is not None:
        return missing
    root = subject.root
    names = {
        str(Path("/", (root / device.relative_to("/")).resolve().relative_to(root.resolve()))) for device in devices
    }
    holders = find_holders(root, names)
    ours = [pid for pid in holders if is_daemon(root, pid)] or find_daemons(root)
    if ours:
        return ok(f"{what} is there and permitted; Mien runs (process {ours[0]}), so it was not opened")
    finding = _take_picture(subject)
    if finding.status == "ok" or not holders:
        return finding
    by = ", ".join(f"{name} (process {pid})" for pid, name in holders.items())
    return fault(f"{finding.found}; it is open in {by}", f"end {by}, if it uses the camera")


def judge_devices(subject: Subject, devices: Sequence[Path], what: str) -> Finding | None:
    """What is wrong with device files: missing, no cameras, not permitted; None where nothing is."""
    root, runner = subject.root, subject.runner
    there = [device for device in devices if (root / device.relative_to("/")).exists()]
    if not there:
        others = ", ".join(f"/dev/{path.name}" for path in sorted((root / "dev").glob("video*"))) or "none"
        return fault(
            f"{what} is not there; video devices: {others}",
            "plug it in, the ribbon cable on both ends with the power off; then look at: rpicam-hello --list-cameras, "
            "or for USB: v4l2-ctl --list-devices",
        )
    shut = [device for device in there if not runner.may(root / device.relative_to("/"), os.R_OK | os.W_OK)]
    if shut:
        again = " (and log in again, or start the service again)"
        return fault(
            f"{', '.join(map(str, shut))}: {runner.name} has no permission to use it",
            f"sudo usermod -aG video {runner.name}{again}",
        )
    if what == str(there[0]) and (complaint := _no_capture(root / there[0].relative_to("/"))):
        return fault(f"{there[0]}: {complaint}", "name the device that captures; see: v4l2-ctl --list-devices")
    return None


def _no_capture(device: Path) -> str:
    """Why a device file is no camera; empty where it is one, or may not be opened by us."""
    buffer = bytearray(CAPABILITIES.size)
    try:
        handle = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        fcntl.ioctl(handle, QUERY_CAPABILITIES, buffer)
    except OSError as error:
        return f"is no video device ({error.strerror})"
    finally:
        os.close(handle)
    _, card, _, _, whole, own, *_ = CAPABILITIES.unpack(buffer)
    name = card.split(b"\0")[0].decode(errors="replace")
    return "" if (own or whole) & CAPTURES else f"{name} delivers no pictures (it is for something else)"


def _check_stream(subject: Subject, spec: str) -> Finding:
    if (hidden := hidden_secret(subject, subject.config.source.password_file)) is not None:
        return hidden
    try:
        parts = urlsplit(spec)
        host, port = parts.hostname, parts.port or (322 if parts.scheme == "rtsps" else 554)
    except ValueError:
        host, port = None, 0
    if host:
        try:
            reach(host, port).close()
        except MienError as error:
            return told(error, SOURCE_ADVICE)
    return _take_picture(subject)


def _take_picture(subject: Subject) -> Finding:
    """Open the source as the daemon would, and take the first picture."""
    from edge.camera import is_live
    from edge.daemon import open_source

    paused = any(is_paused(state / "control") for state in find_states(subject.environ))
    began = time.monotonic()
    try:
        if paused and is_live(subject.config.source.spec):
            return warning("paused: nobody may look now", "end it with 'mien resume', and run this again")
        with open_source(subject.config, color=False) as camera:
            frame = camera.read()
            spec = camera.spec
    except MienError as error:
        return told(error, SOURCE_ADVICE)
    took = time.monotonic() - began
    if frame is None:
        return fault(f"{spec}: there is no picture in it", SOURCE_ADVICE)
    height, width = frame.gray.shape
    found = f"{spec}: {width}x{height}, the first picture after {took:.1f} s"
    if int(frame.gray.max()) - int(frame.gray.min()) < FLAT:
        return warning(f"{found}, and it is all of one grey", "take the cap off the lens, and let there be light")
    return ok(found)
