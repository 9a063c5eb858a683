"""The eye check: a second Haar cascade that looks for eyes where a face should have them."""

from __future__ import annotations

from edge.cascade import EYES, find_cascade, load_cascade
from edge.frame import Box
from edge.pyramid import Pyramid

WIDE = 100
"""Side in searched pixels of the face. At 100 an eye is found in 84 % of the true boxes of one frame, and the check has
several frames; at 80 in 80 %."""

TOP, HIGH = 0.1, 0.5
"""Where the eyes are, over the face's side: where it begins and how high it is."""

LEAST, MOST = 0.2, 0.4
"""Side of an eye's box over the face's; the cascade's own window is 20 pixels."""


class Eyes:
    """Tells whether a face has an eye; one is enough, as the other may be in the shade or behind hair.

    Attributes:
        cascade: OpenCV's classifier.

    Raises:
        InputNotFoundError, BadDataError, UnavailableError: see `edge.cascade`.
    """

    def __init__(self) -> None:
        self.cascade = load_cascade(find_cascade(name=EYES))

    def are_in(self, pyramid: Pyramid, face: Box) -> bool:
        """Whether there is an eye in the upper half of a face.

        Args:
            pyramid: the picture.
            face: where the face is in it.
        """
        upper = Box(face.x, face.y + round(TOP * face.height), face.width, round(HIGH * face.height))
        upper = upper.within(*pyramid.size)
        if not upper.area:
            return False
        piece = pyramid.piece(upper, WIDE / face.width)
        least, most = round(LEAST * WIDE), round(MOST * WIDE)
        found = self.cascade.detectMultiScale(
            piece, scaleFactor=1.1, minNeighbors=1, minSize=(least, least), maxSize=(most, most)
        )
        return len(found) > 0
