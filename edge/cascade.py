"""The Haar cascades: where they lie, and loading them."""

from __future__ import annotations

from pathlib import Path

import cv2

from edge.errors import BadDataError, InputNotFoundError, UnavailableError
from edge.opencv import file_name

FACES, EYES = "haarcascade_frontalface_default.xml", "haarcascade_eye.xml"

OURS = Path(__file__).parent / "models"
DEBIAN = Path("/usr/share/opencv4/haarcascades")
"""Where Debian's package opencv-data puts them."""


def find_cascade(given: Path | None = None, *, name: str = FACES) -> Path:
    """Where a cascade lies: the path given, else our copy, the OpenCV wheel's, Debian's.

    Raises:
        InputNotFoundError: it is not at the given path, or nowhere.
    """
    if given is not None:
        if not given.is_file():
            raise InputNotFoundError(f"{given}: no such Haar cascade; check detector.cascade")
        return given
    folders = [OURS]
    if hasattr(cv2, "data"):  # Debian's own build of OpenCV has no such module
        folders.append(Path(cv2.data.haarcascades))
    folders.append(DEBIAN)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = ", ".join(map(str, folders))
    raise InputNotFoundError(f"{name} is not there (looked in {looked}); try: sudo apt install opencv-data")


def load_cascade(path: Path) -> cv2.CascadeClassifier:
    """Load one.

    Raises:
        BadDataError: the file is no cascade.
        UnavailableError: this OpenCV has no cascades any more.
    """
    if not hasattr(cv2, "CascadeClassifier"):
        raise UnavailableError(
            f"OpenCV {cv2.__version__} has no Haar cascades; install OpenCV 4: pip install 'opencv-python-headless<5'"
        )
    try:
        cascade = cv2.CascadeClassifier(file_name(path))
        broken = cascade.empty()
    except (cv2.error, SystemError, UnicodeEncodeError):
        broken = True
    if broken:
        raise BadDataError(f"{path}: not a Haar cascade, or a damaged one; leave detector.cascade empty for ours")
    return cascade
