"""What a benchmark looks at: frames, decoded before anything is timed, and where the faces in them are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge.bench_score import Truth
from edge.camera import Camera
from edge.camera.synthetic import SyntheticCamera
from edge.errors import BadDataError, InputNotFoundError, MienError, UsageError
from edge.frame import Box, Frame

CHUNK_FRAMES, CHUNK_BYTES = 10, 64_000_000
"""A chunk is as long as either allows: what is decoded ahead stays small, however large and many the frames are."""

LIVE_BYTES = 600_000_000
"""So much of a live camera is taken into memory, as it waits for nobody."""

BARELY = 0.1
"""A face of a synthetic scene of which so little is seen may be found or not."""

MAX_TRUTH_BYTES = 50_000_000


def chunks(camera: Camera, count: int, problems: list[MienError]) -> Iterator[list[Frame]]:
    """The frames of a source, a few at a time; a live camera's all at once.

    Args:
        camera: the source.
        count: at most so many frames; 0: all.
        problems: takes what a file source could not read; what comes after it is still read.

    Yields:
        At least one frame at a time, all of one size.

    Raises:
        UsageError: a live camera shall give all its frames, or more than fit into memory.
        BadDataError: a frame has another size than the one before.
        CameraError: the camera is gone.
    """
    if camera.live and not count:
        raise UsageError(f"{camera.spec}: a live camera has no last frame; say how many with --frames N")
    chunk: list[Frame] = []
    held = taken = 0
    size: tuple[int, int] | None = None
    while not count or taken < count:
        try:
            frame = camera.read()
        except (BadDataError, InputNotFoundError) as error:
            if camera.live:
                raise
            problems.append(error)
            continue
        if frame is None:
            break
        _check_size(camera, frame, size)
        size = frame.size
        chunk.append(frame)
        taken += 1
        held += frame.gray.nbytes + (0 if frame.color is None else frame.color.nbytes)
        if camera.live and held > LIVE_BYTES:
            raise UsageError(
                f"--frames {count}: {taken} frames of {camera.spec} take {LIVE_BYTES // 10**6} MB already; "
                f"name less than {taken}"
            )
        if not camera.live and (len(chunk) >= CHUNK_FRAMES or held >= CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def scene_truth(camera: Camera, frame: Frame) -> Truth | None:
    """Where the faces in a frame are, if the source knows."""
    if not isinstance(camera, SyntheticCamera):
        return None
    seen, barely = camera.people(frame.number), camera.people(frame.number, seen=BARELY)
    return Truth([*seen.values()], [box for who, box in barely.items() if who not in seen])


def read_truth(path: Path) -> dict[int, Truth]:
    """Read labels made by hand.

    Args:
        path: JSON such as `{"frames": {"0": [{"box": [x, y, width, height]}], "12": []}}`. A frame that is not named
            is not labelled; one with an empty list has no face. A face with `"frontal": false`, turned away or hidden,
            may be found or not. Other keys are for people.

    Returns:
        Frame number -> its faces.

    Raises:
        InputNotFoundError: the file is not there or cannot be read.
        BadDataError: it is something else; the message names frame and face.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRUTH_BYTES + 1)
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if len(raw) > MAX_TRUTH_BYTES:
        raise BadDataError(f"{path}: larger than {MAX_TRUTH_BYTES} bytes; expected labels of some frames")
    try:
        content: Any = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{path}: not JSON ({error}); see mien bench --help for what is expected") from None
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, dict) or not frames:
        raise BadDataError(f'{path}: no frames in it; expected {{"frames": {{"0": [{{"box": [x, y, w, h]}}]}}}}')
    return {_number(key, path): _faces(faces, f"{path}: frame {key}") for key, faces in frames.items()}


def check_boxes(truth: Mapping[int, Truth], path: Path, size: tuple[int, int]) -> None:
    """Refuse labels with a face outside the frames: they belong to another source.

    Args:
        truth: what `read_truth` returned.
        path: where from.
        size: the frames' width and height in pixels.

    Raises:
        BadDataError: names the frame and the face.
    """
    width, height = size
    for number, known in truth.items():
        for box in (*known.faces, *known.doubtful):
            if box.x >= width or box.y >= height or box.x + box.width <= 0 or box.y + box.height <= 0:
                raise BadDataError(
                    f"{path}: frame {number}: the face {list(box.as_tuple())} lies outside the frame of "
                    f"{width}x{height}; name the source that the file belongs to"
                )


def check_numbers(truth: Mapping[int, Truth], path: Path, numbers: Sequence[int]) -> None:
    """Refuse labels of which no frame was looked at.

    Args:
        truth: what `read_truth` returned.
        path: where from.
        numbers: of the frames that were looked at.

    Raises:
        BadDataError: tells which frames the one and the other are.
    """
    if not truth.keys() & set(numbers):
        raise BadDataError(
            f"{path}: labels frames {min(truth)} to {max(truth)}, and frames {min(numbers)} to {max(numbers)} were "
            "looked at; name the source that the file belongs to, and enough --frames"
        )


def _check_size(camera: Camera, frame: Frame, size: tuple[int, int] | None) -> None:
    if size is None or frame.size == size:
        return
    called = f" ({frame.name})" if frame.name else ""
    raise BadDataError(
        f"{camera.spec}: frame {frame.number}{called} is {frame.size[0]}x{frame.size[1]}, those before are "
        f"{size[0]}x{size[1]}; a benchmark needs frames of one size, such as a video"
    )


def _number(key: str, path: Path) -> int:
    if not (key.isascii() and key.isdigit() and len(key) < 10):
        raise BadDataError(f"{path}: {key!r} is no frame number; expected 0, 1, ...")
    return int(key)


def _faces(faces: object, where: str) -> Truth:
    if not isinstance(faces, list):
        raise BadDataError(f"{where}: expected a list of faces")
    known: tuple[list[Box], list[Box]] = ([], [])
    for index, face in enumerate(faces):
        box = face.get("box") if isinstance(face, dict) else None
        if not (isinstance(box, list) and len(box) == 4 and all(type(side) is int for side in box)):
            raise BadDataError(f'{where}, face {index}: expected {{"box": [x, y, width, height]}} in whole pixels')
        if box[2] <= 0 or box[3] <= 0:
            raise BadDataError(f"{where}, face {index}: {box} is empty; width and height are above 0")
        known[face.get("frontal") is False].append(Box(*box))
    return Truth(*known)
