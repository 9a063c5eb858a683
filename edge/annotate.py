"""Draws what was read from faces: a box, a tag with the expression, a small panel with all scores.

Everything scales with the picture and stays inside it. A panel is drawn only where it hides no face, no tag and no
other panel; in a crowd the tags alone remain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.labels import UNCERTAIN

Color = tuple[int, int, int]

SMALLEST_SIDE = 400
"""Pictures whose longer side is shorter are enlarged by a whole number, or no text on them could be read."""

# B, G, R; apart in hue and close in brightness, so that white panels and dark ones carry them alike.
PALETTE: dict[str, Color] = {
    "angry": (74, 74, 239),
    "disgust": (88, 178, 110),
    "fear": (226, 112, 168),
    "happy": (38, 188, 250),
    "sad": (235, 150, 70),
    "surprise": (60, 130, 250),
    "neutral": (196, 190, 180),
    UNCERTAIN: (150, 150, 150),
}
SPARE: tuple[Color, ...] = ((200, 190, 60), (120, 200, 200), (200, 120, 220), (120, 220, 160), (150, 150, 230))
"""For the labels of other people's models, in turn."""

INK: Color = (32, 28, 26)
PAPER: Color = (250, 250, 250)
PANEL: Color = (30, 27, 25)
PANEL_OPACITY = 0.78
TRACK: Color = (74, 68, 64)
FAINT: Color = (188, 184, 180)

PANEL_SIZES = (1.0, 0.85, 0.7, 0.55)
"""Heights of a panel's letters that are tried, over that of a tag's."""

PANEL_BELOW = 3
"""A panel lies at most this many faces below its own."""

LEAST_SHOWN = 0.005
"""A score that would read 0 % has no bar."""

PANEL_OVER_FACE = 1.8
"""A panel is at most this many times as high as its face."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_HEIGHT = 22.0
"""Height of a capital in FONT at scale 1, in pixels."""

FINER = 4
"""Text and corners are drawn this much larger and averaged down: OpenCV's own small letters are ragged."""


@dataclass(frozen=True, slots=True)
class Plate:
    """Something with text in it: where it lies and the height of its capitals in pixels."""

    place: Box
    height: int


def draw(
    image: NDArray[np.uint8],
    faces: Iterable[tuple[Box, str, float, Sequence[float] | NDArray[np.float32]]],
    labels: Sequence[str],
) -> NDArray[np.uint8]:
    """Annotate a picture.

    Args:
        image: `uint8[H, W, 3]` (B, G, R) or `uint8[H, W]`; left as it is.
        faces: for each face its box, its expression, the confidence 0..1 and the scores 0..1 in the order of `labels`.
        labels: the model's labels.

    Returns:
        `uint8[H, W, 3]`, a copy; H and W are whole multiples of the image's where its longer side has less than
        `SMALLEST_SIDE` pixels.
    """
    zoom = -(-SMALLEST_SIDE // max(image.shape[:2]))
    picture = _copy(image, zoom)
    unit = max(9, round(0.022 * min(picture.shape[:2])))
    colors = label_colors(labels)
    taken: list[Box] = []
    shown = []
    for box, label, confidence, scores in faces:
        large = Box(box.x * zoom, box.y * zoom, box.width * zoom, box.height * zoom)
        shown.append((large, f"{label} {confidence:.0%}", colors.get(label, PALETTE[UNCERTAIN]), scores))
        taken.append(large)
        _outline(picture, large, shown[-1][2], max(2, round(0.2 * unit)))
    tags = []
    for box, text, _, _ in shown:
        tags.append(_place_tag(picture, box, text, unit, taken))
        taken.append(tags[-1].place)
    panels = _place_panels(picture, [box for box, *_ in shown], tags, labels, unit)
    for panel, (box, _, color, _) in zip(panels, shown, strict=True):
        if panel is not None:
            _fill(picture, _leader(box, panel), color, radius=0)
    for panel, tag, (_, text, color, scores) in zip(panels, tags, shown, strict=True):
        _draw_tag(picture, tag, text, color)
        if panel is not None:
            _draw_panel(picture, panel, labels, scores, colors)
    return picture


def label_colors(labels: Sequence[str]) -> dict[str, Color]:
    """A colour (B, G, R) for every label: the palette's where it knows it, else a spare one."""
    unknown = [label for label in labels if label not in PALETTE]
    return PALETTE | {label: SPARE[index % len(SPARE)] for index, label in enumerate(unknown)}


def _copy(image: NDArray[np.uint8], zoom: int) -> NDArray[np.uint8]:
    colored = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) if image.ndim == 2 else image
    if zoom > 1:
        colored = cv2.resize(colored, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    return np.array(colored, np.uint8, order="C")


def _place_tag(picture: NDArray[np.uint8], box: Box, text: str, unit: int, taken: Sequence[Box]) -> Plate:
    """Above the face, below it, else over its upper edge; letters shrink with the face."""
    rows, columns = picture.shape[:2]
    height = min(unit, max(8, round(0.6 * unit), round(0.11 * box.width)))
    width, high = _text_width(text, height) + 2 * height, round(2.1 * height)
    gap = max(2, height // 3)
    x = max(0, min(box.x, columns - width))
    tops = (box.y - high - gap, box.y + box.height + gap, box.y + gap)
    places = [Box(x, y, width, high) for y in tops if 0 <= y <= rows - high]
    free = [place for place in places if not any(place.iou(other) for other in taken if other is not box)]
    over = Box(x, max(0, min(box.y + gap, rows - high)), width, high)
    return Plate((free or [over])[0], height)


def _place_panels(
    picture: NDArray[np.uint8], boxes: Sequence[Box], tags: Sequence[Plate], labels: Sequence[str], unit: int
) -> list[Plate | None]:
    """All of one size, the one at which most faces have room for theirs; none at all where most have not."""
    best: list[Plate | None] = [None] * len(boxes)
    most = (len(boxes) - 1) // 2
    for height in dict.fromkeys(max(8, round(share * unit)) for share in PANEL_SIZES):
        filled = [*boxes, *(tag.place for tag in tags)]
        panels = []
        for box, tag in zip(boxes, tags, strict=True):
            panel = _place_panel(picture, box, tag.place, labels, height, boxes, filled)
            panels.append(panel)
            if panel is not None:
                filled += [panel.place, _leader(box, panel)]
        count = len(boxes) - panels.count(None)
        if count > most:
            best, most = panels, count
    return best


def _place_panel(
    picture: NDArray[np.uint8],
    box: Box,
    tag: Box,
    labels: Sequence[str],
    height: int,
    boxes: Sequence[Box],
    taken: Sequence[Box],
) -> Plate | None:
    """Beside the face, below or above it, where nothing is hidden; over it only where it fills the picture."""
    rows, columns = picture.shape[:2]
    width, high = _panel_size(labels, height)
    rim = height // 2
    inside = Box(rim, rim, columns - 2 * rim, rows - 2 * rim)
    over = Box(max(0, box.x) + height, min(rows, box.y + box.height) - high - height, width, high)
    if _contains(inside, over) and 4 * over.area < box.area and 3 * box.area > picture.shape[0] * picture.shape[1]:
        return Plate(over, height)
    if high > PANEL_OVER_FACE * box.height:
        return None
    level = max(rim, min(box.y, rows - rim - high))
    lefts = (box.x + (box.width - width) // 2, box.x, box.x + box.width - width)
    aligned = [max(rim, min(x, columns - rim - width)) for x in lefts]
    beside = [(box.x + box.width + height, level), (box.x - height - width, level)]
    below = [
        (x, box.y + box.height + down) for down in range(height, PANEL_BELOW * box.height, height) for x in aligned
    ]
    above = [(x, box.y - up - high) for up in (height, 4 * height) for x in aligned]  # the nearer one, or over the tag
    for x, y in (*beside, *below, *above):
        panel = Plate(Box(x, y, width, high), height)
        leader = _leader(box, panel)
        if (
            _contains(inside, panel.place)
            and not any(panel.place.iou(other) for other in taken)
            and not any(leader.iou(other) for other in taken if other not in (box, tag))
            and _belongs(panel.place, box, boxes, led=leader.area > 0)
        ):
            return panel
    return None


def _leader(box: Box, panel: Plate) -> Box:
    """The line from a face down to a panel that lies apart from it; of no length where none is needed."""
    place = panel.place
    x = max(place.x + panel.height, min(box.x + box.width // 2, place.x + place.width - panel.height))
    top = box.y + box.height
    length = place.y - top
    return Box(x, top, max(2, panel.height // 6), length if length > 2 * panel.height else 0)


def _belongs(place: Box, box: Box, boxes: Sequence[Box], *, led: bool) -> bool:
    """Whether nobody will take a panel for another face's: it hangs on a line or is by far nearest to its own."""
    return led or all(_gap(place, other) > 2 * _gap(place, box) for other in boxes if other is not box)


def _gap(one: Box, other: Box) -> float:
    """Pixels between two boxes, 0 where they touch."""
    across = max(one.x, other.x) - min(one.x + one.width, other.x + other.width)
    down = max(one.y, other.y) - min(one.y + one.height, other.y + other.height)
    return float(np.hypot(max(0, across), max(0, down)))


def _contains(outer: Box, inner: Box) -> bool:
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.x + inner.width <= outer.x + outer.width
        and inner.y + inner.height <= outer.y + outer.height
    )


def _panel_size(labels: Sequence[str], height: int) -> tuple[int, int]:
    names, percents = _columns(labels, height)
    return names + percents + 10 * height, round(1.75 * height * len(labels) + 1.4 * height)


def _columns(labels: Sequence[str], height: int) -> tuple[int, int]:
    """Width of the names and of the percentages in a panel."""
    return max((_text_width(label, height) for label in labels), default=0), _text_width("100%", height)


def _draw_tag(picture: NDArray[np.uint8], tag: Plate, text: str, color: Color) -> None:
    blue, green, red = color
    dark = 0.114 * blue + 0.587 * green + 0.299 * red < 140
    _fill(picture, tag.place, color, radius=tag.height // 2)
    y = tag.place.y + (tag.place.height - tag.height) // 2
    _write(picture, tag.place.x + tag.height, y, text, tag.height, PAPER if dark else INK)


def _draw_panel(
    picture: NDArray[np.uint8],
    panel: Plate,
    labels: Sequence[str],
    scores: Sequence[float] | NDArray[np.float32],
    colors: dict[str, Color],
) -> None:
    place, height = panel.place, panel.height
    names, percents = _columns(labels, height)
    _fill(picture, place, PANEL, radius=round(0.7 * height), opacity=PANEL_OPACITY)
    left = place.x + height
    bar = Box(left + names + height, 0, place.width - names - percents - 4 * height, height)
    best = int(np.argmax(scores)) if len(scores) else -1
    for row, (label, score) in enumerate(zip(labels, scores, strict=True)):
        y = place.y + round(1.0 * height + 1.75 * height * row)
        ink = PAPER if row == best else FAINT
        _write(picture, left, y, label, height, ink)
        track = Box(bar.x, y + round(0.15 * height), bar.width, max(3, round(0.7 * height)))
        _fill(picture, track, TRACK, radius=track.height // 2)
        if score >= LEAST_SHOWN:
            # Never shorter than its round ends.
            length = track.height + round((track.width - track.height) * min(1.0, float(score)))
            _fill(picture, Box(track.x, track.y, length, track.height), colors[label], radius=track.height // 2)
        percent = f"{score:.0%}"
        _write(picture, place.x + place.width - height - _text_width(percent, height), y, percent, height, ink)


def _outline(picture: NDArray[np.uint8], box: Box, color: Color, thickness: int) -> None:
    """A rounded frame around a face with a dark rim, so that it is seen on any ground."""
    radius = max(2, round(0.06 * box.width))
    for rim, stroke, opacity in ((thickness + 2, INK, 0.35), (thickness, color, 1.0)):
        around = (thickness + rim) // 2 - thickness // 2
        outer = Box(box.x - around, box.y - around, box.width + 2 * around, box.height + 2 * around)
        mask = _rounded(outer.width, outer.height, radius + around)
        inner_width, inner_height = outer.width - 2 * rim, outer.height - 2 * rim
        if inner_width > 0 and inner_height > 0:
            mask[rim:-rim, rim:-rim] -= _rounded(inner_width, inner_height, max(1, radius - thickness // 2))
        _blend(picture, outer.x, outer.y, mask, stroke, opacity)


def _fill(picture: NDArray[np.uint8], box: Box, color: Color, *, radius: int, opacity: float = 1.0) -> None:
    _blend(picture, box.x, box.y, _rounded(box.width, box.height, radius), color, opacity)


def _rounded(width: int, height: int, radius: int) -> NDArray[np.uint8]:
    """A rectangle with round corners, `uint8[height, width]`, 255 inside, softly 0 outside."""
    mask = np.zeros((height, width), np.uint8)
    radius = max(0, min(radius, width // 2, height // 2))
    if radius == 0:
        mask[:] = 255
        return mask
    fine = np.full((radius * FINER, radius * FINER), 0, np.uint8)
    cv2.circle(fine, (radius * FINER, radius * FINER), radius * FINER, 255, cv2.FILLED)
    corner = cv2.resize(fine, (radius, radius), interpolation=cv2.INTER_AREA)
    mask[:] = 255
    mask[:radius, :radius] = corner
    mask[:radius, -radius:] = corner[:, ::-1]
    mask[-radius:, :radius] = corner[::-1]
    mask[-radius:, -radius:] = corner[::-1, ::-1]
    return mask


def _write(picture: NDArray[np.uint8], x: int, y: int, text: str, height: int, color: Color) -> None:
    """Write text whose capitals have their top left corner at x, y."""
    mask, rise = _letters(text, height)
    _blend(picture, x, y - rise, mask, color, 1.0)


def _text_width(text: str, height: int) -> int:
    mask, _ = _letters(text, height)
    return int(mask.shape[1])


@lru_cache(maxsize=512)
def _letters(text: str, height: int) -> tuple[NDArray[np.uint8], int]:
    """Text as `uint8[H, W]`, and how far it rises above its capitals. What the font lacks is shown as `?`."""
    scale, stroke = height * FINER / FONT_HEIGHT, max(1, round(0.14 * height * FINER))
    (width, _), _ = cv2.getTextSize(text, FONT, scale, stroke)
    rise = max(1, round(0.3 * height))
    rows, columns = height + 2 * rise + round(0.2 * height), -(-width // FINER) + 1
    fine = np.zeros((rows * FINER, columns * FINER), np.uint8)
    cv2.putText(fine, text, (stroke // 2, (height + rise) * FINER), FONT, scale, 255, stroke, cv2.LINE_AA)
    mask: NDArray[np.uint8] = cv2.resize(fine, (columns, rows), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]  # OpenCV's stubs widen uint8 to any number
    return mask, rise


def _blend(picture: NDArray[np.uint8], x: int, y: int, mask: NDArray[np.uint8], color: Color, opacity: float) -> None:
    """Paint a colour through a mask; what lies outside the picture is left out."""
    rows, columns = picture.shape[:2]
    x0, y0, x1, y1 = max(0, x), max(0, y), min(columns, x + mask.shape[1]), min(rows, y + mask.shape[0])
    if x0 >= x1 or y0 >= y1:
        return
    weight = mask[y0 - y : y1 - y, x0 - x : x1 - x, None].astype(np.float32) * np.float32(opacity / 255)
    under = picture[y0:y1, x0:x1]
    under[:] = np.rint(under + (np.array(color, np.float32) - under) * weight)
