"""Pictures as a camera: a folder (`images:DIR`) or a single file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge.camera.base import Camera
from edge.frame import Frame
from edge.pictures import read_picture

DEFAULT_FPS = 1.0
"""Pictures in a folder are taken to be a second apart unless told: photos, not a film."""


class ImagesCamera(Camera):
    """Picture files in the order given, one frame each.

    `Frame.number` is a file's place in the list, `Frame.time` that number / `fps` and `Frame.name` its file name. A
    picture that cannot be read raises an error that names it, and the next `read()` goes on with the next file.

    Args:
        spec: what the camera was opened with.
        paths: the files.
        color: whether frames carry colour.
        fps: pictures per second of `Frame.time`.
    """

    live = False

    def __init__(self, spec: str, paths: Sequence[Path], *, color: bool = False, fps: float = DEFAULT_FPS) -> None:
        self.spec = spec
        self._paths = paths
        self._color = color
        self._fps = fps
        self._next = 0

    @property
    def promised(self) -> int:
        """How many pictures there are."""
        return len(self._paths)

    def read(self) -> Frame | None:
        """The next picture.

        Raises:
            BadDataError: it is none, or is damaged.
            InputNotFoundError: it is gone or may not be read.
        """
        if self._next >= len(self._paths):
            return None
        number, path = self._next, self._paths[self._next]
        self._next += 1
        picture = read_picture(path)
        return Frame(
            gray=picture.gray,
            time=number / self._fps,
            number=number,
            color=picture.color if self._color else None,
            name=path.name,
        )

    def close(self) -> None:
        """End the list."""
        self._next = len(self._paths)
