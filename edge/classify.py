"""Bulk classification: photos, folders and videos in; for each picture its faces, or why it failed, out."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.annotate import draw
from edge.camera.video import VideoCamera
from edge.classify_formats import make_writer
from edge.commandline import printable
from edge.crop import crop_face
from edge.detector import Detector
from edge.errors import InputNotFoundError, MienError, UsageError
from edge.frame import Box, Frame
from edge.mark import check_folder
from edge.model import Model, open_model
from edge.pictures import PICTURE_SUFFIXES, by_number, is_picture, is_video, read_picture
from edge.progress import Progress
from edge.recording import VideoRecording, write_marked
from edge.smoothing import Reading, Smoother

SOME_FAILED = 1
"""Exit code of a job that went through although some inputs failed."""


KINDS_SHOWN = 5
"""So many kinds of files that were passed over are named."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """A picture, or a frame of a video, and the faces in it; or what kept it from being read.

    Attributes:
        path: the file, as it was named or found.
        faces: each face's box and what it shows, from left to right.
        frame: the picture; its time is the media time where `path` is a video.
        video: whether `path` is a video.
        error: why there is nothing; a video can fail after some of its frames.
    """

    path: Path
    faces: tuple[tuple[Box, Reading], ...] = ()
    frame: Frame | None = None
    video: bool = False
    error: MienError | None = None


def classify_paths(
    paths: Iterable[Path], *, model: Model, detector: Detector | None, whole: bool = False, skip: Path | None = None
) -> Iterator[Result]:
    """Classify everything that is named, one after the other; a file that fails yields a result that says so.

    Args:
        paths: pictures, folders (searched with all folders inside, hidden ones left out) and videos.
        model: the classifier.
        detector: finds the faces; may be None where `whole`.
        whole: each picture is one face already, and nothing is searched or cut off but a square is made of it.
        skip: a folder that the search leaves out.
    """
    reader = _Reader(model, None if whole else detector)
    for path in paths:
        for found in find_inputs(path, skip):
            if isinstance(found, Result):
                yield found
            elif is_video(found):
                yield from _classify_video(found, reader)
            else:
                yield _classify_picture(found, reader)


def find_inputs(path: Path, skip: Path | None = None) -> Iterator[Path | Result]:
    """A file itself; of a folder all pictures and videos in it and below, by name; a failure for what is not there."""
    try:
        folder = path.is_dir()
    except OSError as error:
        yield Result(path, error=_unreadable(path, error))
        return
    if not folder:
        yield path
        return
    troubles: list[OSError] = []
    skipped = None if skip is None else skip.resolve()
    empty = True
    others: Counter[str] = Counter()
    for root, folders, names in os.walk(path, onerror=troubles.append):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(root, name).resolve() != skipped
        )
        for file in sorted((Path(root, name) for name in names), key=by_number):
            if is_picture(file) or is_video(file):
                empty = False
                yield file
            elif not file.name.startswith("."):
                others[file.suffix.lower()] += 1
    for trouble in troubles:
        empty = False
        locked = Path(trouble.filename)
        yield Result(locked, error=_unreadable(locked, trouble))
    if empty:
        yield Result(
            path, error=InputNotFoundError(f"{path}: no picture or video in this folder or below{_passed_over(others)}")
        )


def _passed_over(others: Counter[str]) -> str:
    if not others:
        return ""
    kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in others.most_common(KINDS_SHOWN))
    more = ", ..." * (len(others) > KINDS_SHOWN)
    files = f"{others.total()} file{'' if others.total() == 1 else 's'}"
    return f"; {files} of other kinds passed over ({kinds}{more}); convert pictures among them to JPEG or PNG"


def _unreadable(path: Path, error: OSError) -> InputNotFoundError:
    return InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check the path and its permissions")


class _Reader:
    """Reads the faces in a picture; without a detector the whole picture is one."""

    def __init__(self, model: Model, detector: Detector | None) -> None:
        self._model = model
        self._detector = detector
        # The daemon's own rule for what is shown and what is uncertain, without its memory.
        self._smoother = Smoother(model.labels, model.thresholds, time_constant=0.0)

    def read(self, frame: Frame) -> tuple[tuple[Box, Reading], ...]:
        image = frame.gray if self._model.channels == 1 or frame.color is None else frame.color
        if self._detector is None:
            box = Box(0, 0, *frame.size)
            # A face that is cut out already has its margin.
            return ((box, self._show(self._model.classify_face(crop_face(image, box, self._model.input_size)))),)
        boxes = self._detector.detect(frame.gray)
        return tuple((box, self._show(self._model.classify(image, box))) for box in boxes)

    def _show(self, scores: NDArray[np.float32]) -> Reading:
        return self._smoother.update(0, 0.0, scores)


def _classify_picture(path: Path, reader: _Reader) -> Result:
    try:
        picture = read_picture(path)
    except MienError as error:
        return Result(path, error=error)
    except OSError as error:
        return Result(path, error=_unreadable(path, error))
    frame = Frame(gray=picture.gray, time=0.0, number=0, color=picture.color, name=path.name)
    return Result(path, reader.read(frame), frame)


def _classify_video(path: Path, reader: _Reader) -> Iterator[Result]:
    try:
        camera = VideoCamera(path, color=True)
    except MienError as error:
        yield Result(path, video=True, error=error)
        return
    except OSError as error:
        yield Result(path, video=True, error=_unreadable(path, error))
        return
    with camera:
        while True:
            try:
                frame = camera.read()
            except MienError as error:
                yield Result(path, video=True, error=error)
                continue
            if frame is None:
                return
            yield Result(path, reader.read(frame), frame, video=True)


class Annotator:
    """Writes annotated pictures into one folder, and a video's frames as one video.

    No name is given out twice, and no file is replaced that Mien did not write.
    """

    def __init__(self, folder: Path, labels: Sequence[str]) -> None:
        self._folder = folder
        self._labels = labels
        self._used: set[str] = set()
        self._video: Path | None = None
        self._recording: VideoRecording | None = None

    def write(self, result: Result) -> None:
        """Add a result; raises OutputError."""
        if not result.video or result.path != self._video:
            self.close()
        if result.frame is None or result.frame.color is None:
            return
        faces = [(box, reading.expression, reading.confidence, reading.scores) for box, reading in result.faces]
        picture = draw(result.frame.color, faces, self._labels)
        if not result.video:
            suffix = result.path.suffix.lower()
            write_marked(self._name(result.path.stem, suffix if suffix in PICTURE_SUFFIXES else ".png"), picture)
            return
        if self._recording is None:
            self._video = result.path
            self._recording = VideoRecording(self._name(result.path.stem, ".mp4"), live=False)
        self._recording.write(result.frame, picture)

    def close(self) -> None:
        """Finish a video that is being written; raises OutputError."""
        recording, self._recording, self._video = self._recording, None, None
        if recording is not None:
            recording.close()

    def _name(self, stem: str, suffix: str) -> Path:
        name, number = f"{stem}{suffix}", 1
        # Cards and sticks are often FAT, where A.jpg and a.jpg are one file.
        while name.lower() in self._used:
            number += 1
            name = f"{stem}-{number}{suffix}"
        self._used.add(name.lower())
        return self._folder / name


def run(arguments: argparse.Namespace) -> int:
    """`mien classify`: see `edge.cli_classify` for the arguments and what is printed; returns the exit code."""
    paths: list[Path] = arguments.paths
    if arguments.annotate is not None:
        _check_annotate(arguments.annotate, paths)
    model = open_model(None if arguments.model is None else Path(arguments.model), labels=arguments.labels)
    detector = None if arguments.whole else _make_detector(arguments.min_face)
    writer = make_writer(arguments.format, model.labels, sys.stdout)
    annotator = None if arguments.annotate is None else Annotator(arguments.annotate, model.labels)
    failed: list[MienError] = []
    read: set[Path] = set()
    seen: set[Path] = set()
    frames = 0
    progress = _make_progress(paths, arguments.annotate)
    results = classify_paths(paths, model=model, detector=detector, whole=arguments.whole, skip=arguments.annotate)
    try:
        for result in results:
            if result.error is None:
                read.add(result.path)
            else:
                failed.append(result.error)
            writer(result)
            if annotator is not None:
                annotator.write(result)
            seen.add(result.path)
            frames += result.frame is not None
            if progress is not None:
                progress.show(len(seen), frames, len(failed))
    finally:
        if progress is not None:
            progress.clear()
        try:
            if annotator is not None:
                annotator.close()
        finally:
            _list_failed(failed, len(read))
    return _exit_code(failed, any_read=bool(read))


def _make_detector(min_face: float | None) -> Detector:
    return Detector() if min_face is None else Detector(min_face=min_face)


def _make_progress(paths: Sequence[Path], skip: Path | None) -> Progress | None:
    """For a person whose terminal does not show the results themselves."""
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return None
    return Progress(sys.stderr, "files", sum(1 for path in paths for _ in find_inputs(path, skip)))


def _check_annotate(folder: Path, paths: Sequence[Path]) -> None:
    """Refuse to write annotated pictures over the pictures themselves, or into a folder with pictures of its own."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--annotate {folder}: a file; name a folder for the annotated pictures")
    target = folder.resolve()
    for path in paths:
        if target == (path if path.is_dir() else path.parent).resolve():
            raise UsageError(
                f"--annotate {folder}: {path} lies there itself and could be overwritten; name another folder"
            )
    check_folder(folder)


def _list_failed(failed: Sequence[MienError], read: int) -> None:
    if failed:
        sys.stdout.flush()
        print(f"mien classify: {len(failed)} failed, {read} read:", file=sys.stderr)
        for error in failed:
            print(f"  {printable(str(error))}", file=sys.stderr)


def _exit_code(failed: Sequence[MienError], *, any_read: bool) -> int:
    codes = {error.exit_code for error in failed}
    if not codes:
        return 0
    # Nothing went through, and all for one reason: then that reason is the answer.
    return codes.pop() if len(codes) == 1 and not any_read else SOME_FAILED
