"""The loop that Mien is measured against: Haar on every whole frame, then one classification for each face.

It is what the usual examples do, and what the packages `fer`, `facex` and face_classification do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.frame import Box, Frame

if TYPE_CHECKING:
    import cv2

    from edge.pipeline import Classifier

SCALE_FACTOR, MIN_NEIGHBORS, MIN_SIZE = 1.1, 5, 30
"""OpenCV's usual arguments; the size is in pixels."""


class NaiveLoop:
    """Knows nothing of the frame before.

    Args:
        cascade: finds the faces.
        model: classifies each.
    """

    def __init__(self, cascade: cv2.CascadeClassifier, model: Classifier) -> None:
        self._cascade = cascade
        self._model = model

    def look(self, frame: Frame) -> list[Box]:
        """The faces in a frame, each classified once."""
        found = self._cascade.detectMultiScale(
            frame.gray, scaleFactor=SCALE_FACTOR, minNeighbors=MIN_NEIGHBORS, minSize=(MIN_SIZE, MIN_SIZE)
        )
        image = frame.color if self._model.channels == 3 and frame.color is not None else frame.gray
        boxes = [Box(*map(int, box)) for box in found]
        for box in boxes:
            self._model.classify(image, box)
        return boxes
