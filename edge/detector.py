"""Finds faces: OpenCV's Haar cascade for frontal faces, on one grey picture at a time.

The method is Viola and Jones, "Rapid object detection using a boosted cascade of simple features" (CVPR 2001).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import edge.opencv  # noqa: F401  # silences OpenCV
from edge.errors import BadDataError, InputNotFoundError, UnavailableError
from edge.frame import Box

CASCADE_NAME = "haarcascade_frontalface_default.xml"
OURS = Path(__file__).parent / "models" / CASCADE_NAME
DEBIAN = Path("/usr/share/opencv4/haarcascades") / CASCADE_NAME
"""Where Debian's package opencv-data puts it."""

SMALLEST = 24
"""Side in pixels of the window that the cascade was trained on; it finds no smaller face."""


def find_cascade(given: Path | None = None) -> Path:
    """Where the cascade lies: the path given, else our copy, the OpenCV wheel's, Debian's.

    Raises:
        InputNotFoundError: it is not at the given path, or nowhere.
    """
    if given is not None:
        if not given.is_file():
            raise InputNotFoundError(f"{given}: no such Haar cascade; check detector.cascade")
        return given
    places = [OURS]
    if hasattr(cv2, "data"):  # Debian's own build of OpenCV has no such module
        places.append(Path(cv2.data.haarcascades, CASCADE_NAME))
    places.append(DEBIAN)
    for place in places:
        if place.is_file():
            return place
    looked = ", ".join(map(str, places))
    raise InputNotFoundError(f"{CASCADE_NAME} is not there (looked for {looked}); try: sudo apt install opencv-data")


class Detector:
    """The cascade, loaded. Not to be shared between threads.

    Args:
        cascade: the XML; None: see `find_cascade`.
        scale_factor: step between two sizes that are searched, above 1; nearer to 1 finds more and takes longer.
        min_neighbors: how many overlapping hits make a face; more means fewer false ones.
        min_face: the smallest face to be found, as a fraction of the picture's height.

    Raises:
        InputNotFoundError: the cascade is not there.
        BadDataError: the file is no cascade.
        UnavailableError: this OpenCV has no cascades any more.
    """

    def __init__(
        self,
        cascade: Path | None = None,
        *,
        scale_factor: float = 1.1,
        min_neighbors: int = 5,
        min_face: float = 0.08,
    ) -> None:
        if scale_factor <= 1.0:
            raise ValueError(f"scale_factor must be above 1, not {scale_factor}")
        if not hasattr(cv2, "CascadeClassifier"):
            raise UnavailableError(
                f"OpenCV {cv2.__version__} has no Haar cascades; install OpenCV 4: "
                "pip install 'opencv-python-headless<5'"
            )
        path = find_cascade(cascade)
        try:
            self._cascade = cv2.CascadeClassifier(str(path))
            broken = self._cascade.empty()
        except (cv2.error, SystemError):
            broken = True
        if broken:
            raise BadDataError(f"{path}: not a Haar cascade, or a damaged one; leave detector.cascade empty for ours")
        self.path = path
        self.scale_factor = scale_factor
        self.min_neighbors = min_neighbors
        self.min_face = min_face

    def detect(self, gray: NDArray[np.uint8]) -> list[Box]:
        """Find the frontal faces.

        Args:
            gray: `uint8[H, W]`.

        Returns:
            Their boxes, square, inside the picture, from left to right and then from top to bottom.
        """
        height, width = gray.shape
        if min(height, width) < SMALLEST:
            return []
        side = max(SMALLEST, round(self.min_face * height))
        found = self._cascade.detectMultiScale(
            gray, scaleFactor=self.scale_factor, minNeighbors=self.min_neighbors, minSize=(side, side)
        )
        return sorted((Box(*map(int, box)) for box in found), key=Box.as_tuple)
