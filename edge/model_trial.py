"""Reads and tests a model that somebody brings, in a process of its own that may crash, hang and swell without harm.

A model is instructions for an interpreter in C++: what a checked file still makes of that is found out here. The
process has limits on memory, processor time, files and wall-clock time, none of root's rights, and the file's bytes.
"""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import edge
from edge.control import table
from edge.errors import BadDataError, MienError, UnavailableError
from edge.modelcard import NAME_PATTERN

if TYPE_CHECKING:
    from edge.model import Model

WALL_SECONDS = 90.0
"""For all of it: a small Pi takes some for the imports."""

CPU_SECONDS = 30
"""Of processor time for the model itself."""

MEMORY = 256 * 1024**2
"""Bytes that a model may take beside its own file: the service has 400 MB, and needs some 120 of them without it."""

OPEN_FILES = 32
"""The interpreter keeps none open; enough for what Python itself has."""

MOST_SAID = 64 * 1024
"""Bytes that the process may write."""

TRIES = 10
"""So many readings of a face are timed."""

FACE = (177, 66, 95, 95)
"""The face in `SAMPLE`, as Haar finds it: x, y, width, height."""

SAMPLE = Path(edge.__file__).parent / "samples" / "astronaut.png"

NOBODY = 65534
"""The account without rights, on every Linux."""

QUIET = {"MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For the process: threads set aside address space that has nothing to do with the model, and would count."""

START = "import sys; sys.path.append(sys.argv[1]); from edge.model_trial import main; main()"
"""`-P` keeps the current folder out of the path, as with the command itself; ours is there for who runs a clone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What came of a model's trial.

    Attributes:
        name: the card's; of a foreign model that of its file, as far as that can be a model's.
        sha256: of the whole file, in hex, as the process has read it.
        labels: in the order of its outputs.
        size: side in pixels of the face that it takes.
        channels: 1 (grey) or 3 (colour).
        self_test: whether it holds a self-test, which it then has passed.
        expression: what it reads in the sample photograph.
        confidence: how sure it is of that, 0..1.
        milliseconds: that it takes for a face, the median.
        shipped: the same of the model that comes with Mien, on this machine.
    """

    name: str
    sha256: str
    labels: tuple[str, ...]
    size: int
    channels: int
    self_test: bool
    expression: str
    confidence: float
    milliseconds: float
    shipped: float


def try_model(file: BinaryIO, shown: str, *, labels: Sequence[str] = ()) -> Trial:
    """Have a process read, test and time a model.

    Args:
        file: the model, open for reading; read from its beginning.
        shown: what messages call it; a foreign model is named after it.
        labels: names of the outputs, for a foreign model that holds none of its own.

    Raises:
        BadDataError: the model is none, fails its self-test, crashes or hangs the process, or wants too much memory.
        UnavailableError: no interpreter is installed, or none works.
    """
    asked = json.dumps({"shown": shown, "labels": list(labels), "memory": MEMORY, "cpu": CPU_SECONDS})
    command = [sys.executable, "-P", "-c", START, str(Path(edge.__file__).parents[1]), asked]
    file.flush()
    file.seek(0)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen(
            command, stdin=file, stdout=out, stderr=err, cwd="/", env=os.environ | QUIET, start_new_session=True
        )
        try:
            code: int | None = process.wait(WALL_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):  # what it has begun ends with it
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        answer, said = (_said(stream) for stream in (out, err))
    values = table(answer) or {}
    if code == 0 and "error" in values:
        kind = UnavailableError if values.get("kind") == "unavailable" else BadDataError
        raise kind(str(values["error"])[:MOST_SAID])
    trial = _read(values) if code == 0 else None
    if trial is None:
        raise BadDataError(f"{shown}: {_why(code, said)}; it is not used: export the model again, or another")
    return trial


def _said(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read(MOST_SAID).decode(errors="replace")


def _read(values: dict[str, Any]) -> Trial | None:
    """What the process answered, believed only as far as it is what it should be."""
    try:
        trial = Trial(**values | {"labels": tuple(map(str, values["labels"]))})
        figures = (trial.confidence, trial.milliseconds, trial.shipped)
        texts = (
            re.fullmatch(NAME_PATTERN, trial.name),
            re.fullmatch("[0-9a-f]{64}", trial.sha256),
            trial.expression in trial.labels,
        )
        fits = all(texts) and all(math.isfinite(figure) and figure >= 0 for figure in figures)
    except (TypeError, KeyError):
        return None
    return trial if fits and type(trial.size) is type(trial.channels) is int else None


def _why(code: int | None, said: str) -> str:
    limits = f"a model may take {MEMORY // 1024**2} MB and {CPU_SECONDS} s of processor time"
    if code is None:
        return f"its trial was not over within {WALL_SECONDS:g} s"
    if code == -signal.SIGXCPU:
        return f"it does not come to an end ({limits})"
    if code < 0:
        return f"it crashes the interpreter with {_signal(-code)} ({limits})"
    last = " ".join(said.split("\n")[-2:]).strip()
    return f"its trial failed ({last[:300] or f'exit code {code}'})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# The process's own side


def main() -> None:
    """Read a model from standard input, try it, and write what came of it to standard output."""
    asked = json.loads(sys.argv[2])
    # What libraries print must not get into the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    try:
        told = _try(asked)
    except MemoryError:
        told = {
            "error": f"{asked['shown']}: it wants more memory than {asked['memory'] // 1024**2} MB; use a smaller one"
        }
    except MienError as error:
        told = {"error": str(error), "kind": "unavailable" if isinstance(error, UnavailableError) else "data"}
    with os.fdopen(answer, "w") as file:
        json.dump(told, file)
    # A library that is unloaded in the wrong order must not undo the answer.
    os._exit(0)


def _try(asked: dict[str, Any]) -> dict[str, Any]:
    import cv2
    import numpy as np

    from edge.frame import Box
    from edge.model import Model, open_model
    from edge.modelfile import MAX_FILE, parse_model_file

    cv2.setNumThreads(1)
    # All that is trusted first: below, nothing may be imported or opened any more that only root can read.
    image, shipped = cv2.imread(str(SAMPLE)), milliseconds(open_model())
    np.random.default_rng()  # numpy loads it late
    size = min(os.fstat(0).st_size, MAX_FILE)
    _limit(memory=asked["memory"] + 3 * size, cpu=asked["cpu"])
    _drop_rights()
    with os.fdopen(0, "rb", closefd=False) as file:
        model_file = parse_model_file(file.read(size), asked["shown"])
    model = Model(model_file, labels=None if model_file.labels else asked["labels"] or None)
    scores = model.classify(image, Box(*FACE))  # type: ignore[arg-type]  # OpenCV's stubs widen uint8 to any number
    if not (abs(float(scores.sum()) - 1.0) < 1e-3 and float(scores.min()) >= 0.0):
        raise BadDataError(
            f"{asked['shown']}: its scores for a photograph are no probabilities; export the model again"
        )
    best = int(scores.argmax())
    card = model.card
    return {
        "name": _name_of(Path(asked["shown"]).stem) if card is None else card.name,
        "sha256": model_file.sha256,
        "labels": model.labels,
        "size": model.input_size,
        "channels": model.channels,
        "self_test": card is not None and card.self_test is not None,
        "expression": model.labels[best],
        "confidence": round(float(scores[best]), 4),
        "milliseconds": round(milliseconds(model), 2),
        "shipped": round(shipped, 2),
    }


def milliseconds(model: Model) -> float:
    """How long a face takes, the median of a few."""
    import numpy as np

    face = np.zeros((model.input_size, model.input_size), np.uint8)
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        model.classify_face(face)
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def _limit(*, memory: int, cpu: int) -> None:
    """So many bytes of memory and seconds of processor time may come on top of what is in use."""
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    until = math.ceil(time.process_time()) + cpu
    for what, limit, more in (
        (resource.RLIMIT_AS, used + memory, 0),
        (resource.RLIMIT_CPU, until, 1),  # SIGXCPU, which says what it was, and then SIGKILL
        (resource.RLIMIT_NOFILE, OPEN_FILES, 0),
        (resource.RLIMIT_FSIZE, MOST_SAID, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        hard = resource.getrlimit(what)[1]
        most = limit + more if hard == resource.RLIM_INFINITY else min(limit + more, hard)
        resource.setrlimit(what, (min(limit, most), most))


def _drop_rights() -> None:
    """Be nobody, where we are root."""
    if os.geteuid() == 0:
        with suppress(OSError):  # a container in which there is nobody else
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)


def _name_of(stem: str) -> str:
    """A file's name as far as a model may be called so."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:64] or "model"
