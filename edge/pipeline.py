"""From a frame to what is known of it: faces, their expressions, and what is worth publishing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from edge.config import Config
from edge.detector import Detector
from edge.events import Event, Reporter
from edge.eyes import Eyes
from edge.frame import Box, Face, Frame
from edge.smoothing import Reading, Smoother
from edge.tracker import Tracker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edge.model import Model


_TICK = 1e-3
"""Seconds that frame times may be off by rounding."""


class Classifier(Protocol):
    """What the pipeline needs of a model."""

    channels: int
    """1: takes grey pictures; 3: colour ones."""

    def classify(self, image: NDArray[np.uint8], box: Box) -> NDArray[np.float32]:
        """Calibrated probabilities `float32[n_labels]` of the face in `uint8[H, W]` or `uint8[H, W, 3]` (BGR)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What one frame told: every confirmed face with its expression, and the events that follow from them."""

    frame: Frame
    faces: list[tuple[Face, Reading]]
    events: list[Event]


class Vision:
    """Tracker, model, smoother and reporter in a row. Depends on the frames alone: no clock, no I/O, no threads.

    Args:
        tracker: finds the faces.
        model: reads them.
        smoother: makes its scores steady.
        reporter: decides what is worth an event.
        every: seconds between two readings of one face; 0: it is read in every frame in which it is seen.
        settle: seconds for which a new face is read in every frame all the same: its first reading has no other beside
            it, and would stand for long.
    """

    def __init__(
        self,
        tracker: Tracker,
        model: Classifier,
        smoother: Smoother,
        reporter: Reporter,
        *,
        every: float = 0.0,
        settle: float = 0.0,
    ) -> None:
        self._tracker = tracker
        self._model = model
        self._smoother = smoother
        self._reporter = reporter
        self._every = every
        self._settle = settle
        self._since: dict[int, float] = {}

    def look(self, frame: Frame) -> Seen:
        """Take the next frame in."""
        faces = [(face, self._read(frame, face)) for face in self._tracker.update(frame)]
        for gone in self._since.keys() - {face.track for face, _ in faces}:
            self._smoother.forget(gone)
            del self._since[gone]
        return Seen(frame, faces, self._reporter.update(frame, faces))

    def finish(self) -> list[Event]:
        """The events that say that everybody who is left has gone."""
        return self._reporter.finish()

    def forget(self) -> list[Event]:
        """Know nobody any more, as between two scenes; the events that say that everybody has gone."""
        self._tracker.forget()
        for track in self._since:
            self._smoother.forget(track)
        self._since.clear()
        return self.finish()

    def _read(self, frame: Frame, face: Face) -> Reading:
        held = self._smoother.last(face.track)
        known = frame.time - self._since.setdefault(face.track, frame.time)
        pause = self._every if known >= self._settle else 0.0
        # Where a face was is not where it is: the wall behind somebody who left has no expression.
        if held is not None and (not face.seen or 0 <= frame.time - held.time < pause - _TICK):
            return held
        # A grey model gets the camera's own grey, so that drawing on colour frames changes no score.
        image = frame.color if self._model.channels == 3 and frame.color is not None else frame.gray
        return self._smoother.update(face.track, frame.time, self._model.classify(image, face.box))


def make_detector(config: Config) -> Detector:
    """The detector that a configuration asks for.

    Raises:
        InputNotFoundError, BadDataError, UnavailableError: see `Detector`.
    """
    looks = config.detector
    return Detector(
        looks.cascade,
        scale_factor=looks.scale_factor,
        min_neighbors=looks.min_neighbors,
        min_face=looks.min_face,
    )


def make_eyes(config: Config) -> Eyes | None:
    """The eye check, where a configuration asks for it.

    Raises:
        InputNotFoundError, BadDataError, UnavailableError: see `Eyes`.
    """
    return Eyes() if config.detector.eyes else None


def make_vision(
    config: Config, model: Model, reporter: Reporter, detector: Detector, eyes: Eyes | None = None
) -> Vision:
    """The pipeline that a configuration asks for, around the detector and the eye check that are given."""
    looks, smoothing = config.detector, config.smoothing
    tracker = Tracker(
        detector,
        confirm=smoothing.confirm,
        patience=smoothing.patience,
        notice=looks.notice,
        rest=looks.rest,
        most=looks.max_faces,
        eyes=eyes,
    )
    smoother = Smoother(model.labels, model.thresholds, time_constant=smoothing.time_constant)
    return Vision(
        tracker, model, smoother, reporter, every=config.model.interval, settle=config.smoothing.time_constant
    )
