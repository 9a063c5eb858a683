"""Stopwatches around what a pipeline calls: the cascade, the interpreter, the classification as a whole."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.model import Model
from edge.modelfile import ModelFile


@dataclass(slots=True)
class Times:
    """What one frame took by one clock, in seconds.

    Attributes:
        total: from the frame to its faces and their expressions.
        haar: inside the cascade.
        interpreter: inside the interpreter: a face goes in, it runs, the answer comes out.
        classify: from a box to its scores: `interpreter`, and the crop and the softmax around it.
    """

    total: float = 0.0
    haar: float = 0.0
    interpreter: float = 0.0
    classify: float = 0.0

    @property
    def own(self) -> float:
        """What neither the cascade nor the interpreter took."""
        return self.total - self.haar - self.interpreter

    @property
    def unclassified(self) -> float:
        """What the frame had taken without any classification."""
        return self.total - self.classify


@dataclass(slots=True)
class Cost:
    """What one frame cost.

    Attributes:
        wall: time that passed.
        cpu: processor time of the whole process, also of other threads; a busy machine adds little to it.
        haar_calls: how often the cascade was asked.
        haar_pixels: pixels of the pictures that it was asked about.
        classifications: faces that were classified.
    """

    wall: Times = field(default_factory=Times)
    cpu: Times = field(default_factory=Times)
    haar_calls: int = 0
    haar_pixels: int = 0
    classifications: int = 0


class Meter:
    """Where the stopwatches below write to. One frame at a time; not to be shared between threads.

    Attributes:
        cost: of the frame that is being measured, or was last.
    """

    def __init__(self) -> None:
        self.cost = Cost()

    @contextmanager
    def frame(self) -> Iterator[Cost]:
        """Measure one frame; the cost is complete once the block is left."""
        self.cost = Cost()
        with Stopwatch(self, "total"):
            yield self.cost


class Stopwatch:
    """Adds what a `with` block takes to one of the fields of `Times`. Reused, as making one takes its time too."""

    __slots__ = ("_cpu", "_meter", "_stage", "_wall")

    def __init__(self, meter: Meter, stage: str) -> None:
        self._meter = meter
        self._stage = stage

    def __enter__(self) -> Cost:
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self._meter.cost

    def __exit__(self, *_: object) -> None:
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        cost, stage = self._meter.cost, self._stage
        setattr(cost.wall, stage, getattr(cost.wall, stage) + wall)
        setattr(cost.cpu, stage, getattr(cost.cpu, stage) + cpu)


class TimedModel(Model):
    """A model that tells its meter how long it takes."""

    def __init__(self, file: ModelFile, meter: Meter, *, labels: Sequence[str] | None = None) -> None:
        """Open a model on one thread.

        Args:
            file: the checked file.
            meter: whom to tell.
            labels: see `open_model`.

        Raises:
            BadDataError, UnavailableError: see `open_model`.
        """
        # First, as opening a model runs its self-test.
        self._interpreting, self._classifying = Stopwatch(meter, "interpreter"), Stopwatch(meter, "classify")
        super().__init__(file, labels=labels, threads=1)

    def raw(self, face: NDArray[np.uint8]) -> NDArray[Any]:
        """See `Model.raw`."""
        with self._interpreting:
            return super().raw(face)

    def classify(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        """See `Model.classify`."""
        with self._classifying as cost:
            cost.classifications += 1
            return super().classify(image, box)


class TimedCascade:
    """Stands in for OpenCV's cascade, of which no subclass is freed without a crash, and tells its meter.

    Args:
        cascade: the cascade itself.
        meter: whom to tell.
    """

    def __init__(self, cascade: cv2.CascadeClassifier, meter: Meter) -> None:
        self._cascade = cascade
        self._searching = Stopwatch(meter, "haar")

    def __getattr__(self, name: str) -> Any:
        """Whatever OpenCV's has; each kind of `detectMultiScale` is timed."""
        method = getattr(self._cascade, name)
        if not name.startswith("detectMultiScale"):
            return method

        def timed(image: NDArray[np.uint8], **options: Any) -> Any:
            with self._searching as cost:
                cost.haar_calls += 1
                cost.haar_pixels += image.size
                return method(image, **options)

        setattr(self, name, timed)  # so that the next call costs no search
        return timed


def timed_cascade(cascade: cv2.CascadeClassifier, meter: Meter) -> cv2.CascadeClassifier:
    """A cascade that tells its meter how long it takes."""
    return cast("cv2.CascadeClassifier", TimedCascade(cascade, meter))
