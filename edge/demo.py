"""`mien demo`: the whole path on the sample photos and on a video made from them, with the commands that do it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.camera.synthetic import SAMPLES, Scene, SyntheticCamera
from edge.errors import OutputError
from edge.recording import VideoRecording

DEVICE = "demo"

SCENE = Scene(seconds=6.0, faces=2, seed=4, fps=25.0)

MAX_LOG = 1_000_000
"""Bytes; a demo leaves a few thousand."""


def run(out: Path, mien: Callable[[Sequence[str]], int]) -> int:
    """Write annotated pictures, an annotated video and the event log into `out`, and say where they lie.

    Args:
        out: a folder; made where it is not there. What an earlier demo wrote there is replaced, nothing else.
        mien: runs one command line of `mien` and returns its exit code.

    Returns:
        0, or the exit code of the command that failed.

    Raises:
        OutputError: the folder cannot be written, or holds something of the same name that no demo wrote.
    """
    video, shown, pictures, log = (
        out / name for name in ("scene.mp4", "scene-annotated.mp4", "photos", "events.jsonl")
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
        theirs = log.exists() and not _is_a_demos(log)
        if not theirs:
            log.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: the demo cannot write here ({error.strerror}); name another folder") from None
    if theirs:
        raise OutputError(f"{log} is there already and is no demo's; name another folder with --out")
    print(f"1. The sample photos ({SAMPLES / 'ORIGIN.md'} says whose they are)\n")
    photos = [str(path) for path in sorted(SAMPLES.iterdir()) if path.suffix in {".jpg", ".png"}]
    failed = _show(mien, ["classify", *photos, "--annotate", str(pictures)])
    if failed:
        return failed
    print(f"\n2. A video of {SCENE.seconds:g} s, made from those photos just now\n")
    make_video(video)
    failed = _show(
        mien, ["run", "--source", str(video), "--log", str(log), "--annotate", str(shown), "--device", DEVICE]
    )
    if failed:
        return failed
    events = log.read_text(encoding="utf-8").splitlines()
    print(f"\n   the first of {len(events)} events:\n   {events[0]}" if events else "\n   no events")
    print(
        f"\nannotated photos  {pictures}\nannotated video   {shown}\nevent log         {log}\n"
        "\nThis says what faces show, not what people feel. No picture left this machine."
    )
    return 0


def _is_a_demos(log: Path) -> bool:
    """Whether every line is an event of the demo's device."""
    if log.stat().st_size > MAX_LOG:
        return False
    lines = log.read_bytes().splitlines()
    return all(line.startswith(b'{"schema":"mien/') and f'"device":"{DEVICE}"'.encode() in line for line in lines)


def make_video(path: Path) -> None:
    """Write the scene that the demo watches, without any annotation."""
    recording = VideoRecording(path, live=False)
    with SyntheticCamera(scene=SCENE, color=True) as camera:
        for frame in camera:
            assert frame.color is not None  # noqa: S101  # the camera was asked for it
            recording.write(frame, frame.color)
    recording.close()


def _show(mien: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    print(f"   $ mien {shlex.join(arguments)}\n", flush=True)
    return mien(arguments)
