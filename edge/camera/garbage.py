"""What a camera delivers that is no picture: arrays of a wrong kind, and a sensor that shows one picture for ever.

Noise, and a picture all of one brightness, look like what a camera may well see (a dark room at a high gain, a covered
lens), so they count as pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.pictures import MAX_PIXELS

PLAIN = 32
"""Between the darkest and the brightest value: with less, codecs and noise filters leave nothing that could change."""


def find_fault(image: NDArray[np.generic] | None) -> str:
    """Say what keeps an array from being a picture.

    Args:
        image: what a driver delivered.

    Returns:
        Words that go on "a picture that …"; empty for `uint8[H, W]` and `uint8[H, W, C]` with 1, 3 or 4 channels and at
        most `MAX_PIXELS` pixels.
    """
    if image is None or image.size == 0:
        return "is empty"
    if image.dtype != np.uint8:
        return f"holds {image.dtype} instead of 8 bits"
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] not in (1, 3, 4)):
        return f"has the shape {'x'.join(map(str, image.shape))}"
    if image.shape[0] * image.shape[1] > MAX_PIXELS:
        return f"has {image.shape[1]:,} x {image.shape[0]:,} pixels, more than Mien takes into memory"
    return ""


def told_frozen(seconds: float) -> str:
    """What a person is told of a frozen sensor."""
    return (
        f"one picture, the same in every bit, for {seconds:.1f} s: the sensor has frozen; where a picture may stand "
        "still (a film, a screen), set source.frozen to 0"
    )


class Stillness:
    """Tells a frozen sensor by pictures that are the same in every bit: a living one has noise.

    Not for pictures of nearly one brightness (`PLAIN`): a dark room, made smooth by a camera's codec, stands still too.
    """

    def __init__(self) -> None:
        self._image: NDArray[np.uint8] | None = None
        self._since = 0.0

    def seconds(self, image: NDArray[np.uint8], time: float) -> float:
        """For how long the picture has been the same.

        Args:
            image: the next picture, `uint8` of any shape; kept until the next call and not to be written to.
            time: when it came, in seconds.
        """
        if self._image is None or not _same(self._image, image) or _is_plain(image):
            self._since = time
        self._image = image
        return time - self._since


def _same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    middle = other.shape[0] // 2
    # A single row of a living camera differs, and is quickly compared.
    return one.shape == other.shape and np.array_equal(one[middle], other[middle]) and np.array_equal(one, other)


def _is_plain(image: NDArray[np.uint8]) -> bool:
    return int(image.max()) - int(image.min()) < PLAIN
