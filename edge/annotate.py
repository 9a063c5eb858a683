"""Draws what was read from faces: a box, a tag with the expression, and all scores.

Everything scales with the picture and stays inside it. Where every face has room for it, a panel with names and numbers
lies beside each. Elsewhere each face gets a strip of small bars, one a label, and the picture one legend of their
colours. A place is taken where it hides no face, no tag and no other scores, or the least of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frame import Box
from edge.labels import UNCERTAIN
from edge.painting import Color, fill, outline, text_width, write

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
LEAST_SHOWN = 0.005
"""A score that would read 0 % has no bar."""

TRACK: Color = (74, 68, 64)
SLOT: Color = (54, 50, 47)
FAINT: Color = (188, 184, 180)

PANEL_SIZES = (1.0, 0.85, 0.7, 0.55)
"""Heights of a panel's letters that are tried, over that of a tag's."""

PANEL_OVER_FACE = 3.0
"""A panel is at most this many times as high as its face."""

PANELS_SHARE = 0.35
"""Panels cover at most this much of a picture in all."""

STRIP_OVER_FACE = 0.38
"""Height of a strip over the width of its face."""

Scores = Sequence[float] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Plate:
    """Something with text in it: where it lies and the height of its capitals in pixels."""

    place: Box
    height: int


def draw(
    image: NDArray[np.uint8], faces: Iterable[tuple[Box, str, float, Scores]], labels: Sequence[str]
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
    boxes, texts, inks, scores = [], [], [], []
    for box, label, confidence, given in faces:
        boxes.append(Box(box.x * zoom, box.y * zoom, box.width * zoom, box.height * zoom))
        texts.append(f"{label} {confidence:.0%}")
        inks.append(colors.get(label, PALETTE[UNCERTAIN]))
        scores.append(given)
        outline(picture, boxes[-1], inks[-1], _stroke(unit))
    tags: list[Plate] = []
    for box, text in zip(boxes, texts, strict=True):
        tags.append(_place_tag(picture, box, text, unit, [*_others(boxes, box), *(tag.place for tag in tags)]))
    panels = _place_panels(picture, boxes, tags, labels, unit)
    if panels is None:
        _draw_strips(picture, boxes, tags, scores, labels, unit)
    for panel, given in zip(panels or [], scores, strict=False):
        _draw_panel(picture, panel, labels, given, colors)
    for tag, text, ink in zip(tags, texts, inks, strict=True):
        _draw_tag(picture, tag, text, ink)
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


def _stroke(unit: int) -> int:
    """Thickness of the frame around a face."""
    return max(2, round(0.2 * unit))


def _others(boxes: Sequence[Box], own: Box) -> list[Box]:
    return [box for box in boxes if box is not own]


# Tags


def _place_tag(picture: NDArray[np.uint8], box: Box, text: str, unit: int, taken: Sequence[Box]) -> Plate:
    """Above the face, below it, else over its upper edge; letters shrink with the face."""
    rows, columns = picture.shape[:2]
    height = min(unit, max(8, round(0.6 * unit), round(0.11 * box.width)))
    width, high = text_width(text, height) + 2 * height, round(2.1 * height)
    gap = max(2, height // 3)
    lefts = (box.x, box.x + box.width - width)
    tops = [y for y in (box.y - high - gap, box.y + box.height + gap) if 0 <= y <= rows - high]
    over = max(0, min(box.y + gap, rows - high))
    places = [Box(max(0, min(x, columns - width)), y, width, high) for y in (*tops, over) for x in lefts]
    return Plate(_least_hiding(places, taken), height)


def _draw_tag(picture: NDArray[np.uint8], tag: Plate, text: str, color: Color) -> None:
    blue, green, red = color
    dark = 0.114 * blue + 0.587 * green + 0.299 * red < 140
    fill(picture, tag.place, color, radius=tag.height // 2)
    y = tag.place.y + (tag.place.height - tag.height) // 2
    write(picture, tag.place.x + tag.height, y, text, tag.height, PAPER if dark else INK)


# Panels: names, bars and numbers


def _place_panels(
    picture: NDArray[np.uint8], boxes: Sequence[Box], tags: Sequence[Plate], labels: Sequence[str], unit: int
) -> list[Plate] | None:
    """One beside each face, all of the largest size at which every face has room for its own; None: there is none."""
    for height in dict.fromkeys(max(8, round(share * unit)) for share in PANEL_SIZES):
        width, high = _panel_size(labels, height)
        if len(boxes) * width * high > PANELS_SHARE * picture.shape[0] * picture.shape[1]:
            continue
        taken = [*boxes, *(tag.place for tag in tags)]
        panels: list[Plate] = []
        for box in boxes:
            place = _place_panel(picture, box, Box(0, 0, width, high), height, _others(boxes, box), taken)
            if place is None:
                break
            panels.append(Plate(place, height))
            taken.append(place)
        else:
            return panels
    return None


def _place_panel(
    picture: NDArray[np.uint8], box: Box, size: Box, height: int, others: Sequence[Box], taken: Sequence[Box]
) -> Box | None:
    """Beside the face, below or above it, where nothing is hidden; over it only where it fills the picture."""
    rows, columns = picture.shape[:2]
    width, high = size.width, size.height
    rim = height // 2
    inside = Box(rim, rim, columns - 2 * rim, rows - 2 * rim)
    over = Box(max(0, box.x) + height, min(rows, box.y + box.height) - high - height, width, high)
    if _contains(inside, over) and 4 * over.area < box.area and 3 * box.area > rows * columns:
        return over
    if high > PANEL_OVER_FACE * box.height:
        return None
    level = max(rim, min(box.y, rows - rim - high))
    middle = max(rim, min(box.x + (box.width - width) // 2, columns - rim - width))
    beside = ((box.x + box.width + height, level), (box.x - height - width, level))
    # The nearer one, or past the tag.
    below = ((middle, box.y + box.height + down) for down in (height, 4 * height))
    above = ((middle, box.y - up - high) for up in (height, 4 * height))
    for x, y in (*beside, *below, *above):
        place = Box(x, y, width, high)
        if (
            _contains(inside, place)
            and not any(place.iou(other) for other in taken)
            # Nobody may take it for another face's.
            and all(_gap(place, other) > 2 * _gap(place, box) for other in others)
        ):
            return place
    return None


def _panel_size(labels: Sequence[str], height: int) -> tuple[int, int]:
    names, percents = _columns(labels, height)
    return names + percents + 10 * height, round(1.75 * height * len(labels) + 1.4 * height)


def _columns(labels: Sequence[str], height: int) -> tuple[int, int]:
    """Width of the names and of the percentages in a panel."""
    return max((text_width(label, height) for label in labels), default=0), text_width("100%", height)


def _draw_panel(
    picture: NDArray[np.uint8],
    panel: Plate,
    labels: Sequence[str],
    scores: Scores,
    colors: dict[str, Color],
) -> None:
    place, height = panel.place, panel.height
    names, percents = _columns(labels, height)
    fill(picture, place, PANEL, radius=round(0.7 * height), opacity=PANEL_OPACITY)
    left = place.x + height
    bar = Box(left + names + height, 0, place.width - names - percents - 4 * height, height)
    best = int(np.argmax(scores)) if len(scores) else -1
    for row, (label, score) in enumerate(zip(labels, scores, strict=True)):
        y = place.y + round(1.0 * height + 1.75 * height * row)
        ink = PAPER if row == best else FAINT
        write(picture, left, y, label, height, ink)
        track = Box(bar.x, y + round(0.15 * height), bar.width, max(3, round(0.7 * height)))
        fill(picture, track, TRACK, radius=track.height // 2)
        if score >= LEAST_SHOWN:
            # Never shorter than its round ends.
            length = track.height + round((track.width - track.height) * min(1.0, float(score)))
            fill(picture, Box(track.x, track.y, length, track.height), colors[label], radius=track.height // 2)
        percent = f"{score:.0%}"
        write(picture, place.x + place.width - height - text_width(percent, height), y, percent, height, ink)


# Strips: small bars side by side, and the legend of their colours


def _draw_strips(
    picture: NDArray[np.uint8],
    boxes: Sequence[Box],
    tags: Sequence[Plate],
    scores: Sequence[Scores],
    labels: Sequence[str],
    unit: int,
) -> None:
    """A strip for every face, and one legend."""
    colors = label_colors(labels)
    taken = [tag.place for tag in tags]
    for box, tag, given in zip(boxes, tags, scores, strict=True):
        strip = _place_strip(picture, box, tag.place, len(labels), unit, [*_others(boxes, box), *taken])
        taken.append(strip)
        _draw_strip(picture, strip, [colors[label] for label in labels], given)
    height = max(8, round(0.75 * unit))
    columns, place = _place_legend(picture, labels, height, [*boxes, *taken])
    _draw_legend(picture, Plate(place, height), labels, columns, colors)


def _place_strip(picture: NDArray[np.uint8], box: Box, tag: Box, bars: int, unit: int, taken: Sequence[Box]) -> Box:
    """Below the face or above it, past its tag or slid aside where need be, else along its inner lower edge."""
    rows, columns = picture.shape[:2]
    finest = max(2, unit // 6)
    width = min(columns, max(box.width, bars * (finest + 1) + 5))
    high = min(4 * unit, max(unit, round(STRIP_OVER_FACE * box.width)))
    gap = max(2, unit // 4)
    bottom = box.y + box.height
    past = tag.y - gap - high if tag.y < box.y else tag.y + tag.height + gap
    tops = [y for y in (bottom + gap, box.y - gap - high, past) if 0 <= y <= rows - high]
    slides = [round(share * box.width) for share in (0, 0.25, -0.25, 0.5, -0.5)]
    middle = box.x + (box.width - width) // 2
    rim = _stroke(unit) + 1
    low = min(high, max(round(0.7 * unit), box.height // 4))
    narrow = min(columns, max(width - 2 * rim, bars + 4))
    inner = Box(box.x + rim, max(0, min(bottom, rows) - rim - low), narrow, low)
    outside = [Box(middle + slide, y, width, high) for slide in slides for y in tops]
    return _least_hiding([_slid_inside(place, columns) for place in (*outside, inner)], taken)


def _slid_inside(place: Box, columns: int) -> Box:
    return Box(max(0, min(place.x, columns - place.width)), place.y, place.width, place.height)


def _draw_strip(picture: NDArray[np.uint8], strip: Box, colors: Sequence[Color], scores: Scores) -> None:
    pad = max(2, round(0.1 * strip.height))
    gap = max(1, round(0.02 * strip.width))
    fill(picture, strip, PANEL, radius=pad, opacity=PANEL_OPACITY)
    step = (strip.width - 2 * pad + gap) / len(colors)
    for index, (color, score) in enumerate(zip(colors, scores, strict=True)):
        x = strip.x + pad + round(index * step)
        track = Box(
            x, strip.y + pad, max(1, round((index + 1) * step) - round(index * step) - gap), strip.height - 2 * pad
        )
        radius = min(3, track.width // 4)
        fill(picture, track, SLOT, radius=radius)
        if score >= LEAST_SHOWN:
            length = max(2, round(track.height * min(1.0, float(score))))
            fill(picture, Box(x, track.y + track.height - length, track.width, length), color, radius=radius)


def _place_legend(
    picture: NDArray[np.uint8], labels: Sequence[str], height: int, taken: Sequence[Box]
) -> tuple[int, Box]:
    """Columns of the legend and where it lies: a corner if one is free, else wherever it hides least."""
    rows, wide = picture.shape[:2]
    found: list[tuple[int, Box]] = []
    for columns in dict.fromkeys((len(labels), -(-len(labels) // 2), 1)):
        width, high = _legend_size(labels, columns, height)
        places = [Box(x, y, width, high) for x, y in _spots(wide - width, rows - high, height)]
        found += [(columns, place) for place in places]
    place = _least_hiding([place for _, place in found], taken)
    return next((columns, other) for columns, other in found if other is place)


def _spots(right: int, bottom: int, rim: int) -> Iterator[tuple[int, int]]:
    """Top left corners: the picture's four corners, then the middles of its edges, then a grid over all of it."""
    xs, ys = (np.linspace(rim, max(rim, end - rim), 9).astype(int).tolist() for end in (right, bottom))
    for x, y in ((0, -1), (-1, -1), (0, 0), (-1, 0), (4, -1), (4, 0), (0, 4), (-1, 4)):
        yield xs[x], ys[y]
    yield from ((x, y) for y in reversed(ys) for x in xs)


def _legend_size(labels: Sequence[str], columns: int, height: int) -> tuple[int, int]:
    lines = -(-len(labels) // columns)
    return sum(_legend_columns(labels, columns, height)) + height, round(1.75 * height * lines + 0.9 * height)


def _legend_columns(labels: Sequence[str], columns: int, height: int) -> list[int]:
    """Width of every column: swatch, name and the space around them."""
    return [
        max(text_width(label, height) for label in labels[column::columns]) + round(2.6 * height)
        for column in range(columns)
    ]


def _draw_legend(
    picture: NDArray[np.uint8], legend: Plate, labels: Sequence[str], columns: int, colors: dict[str, Color]
) -> None:
    place, height = legend.place, legend.height
    fill(picture, place, PANEL, radius=round(0.6 * height), opacity=PANEL_OPACITY)
    widths = _legend_columns(labels, columns, height)
    for index, label in enumerate(labels):
        x = place.x + height + sum(widths[: index % columns])
        y = place.y + round(0.85 * height + 1.75 * height * (index // columns))
        fill(picture, Box(x, y, height, height), colors[label], radius=max(1, height // 4))
        write(picture, x + round(1.5 * height), y, label, height, PAPER)


# Places


def _least_hiding(places: Sequence[Box], taken: Sequence[Box]) -> Box:
    """The place that covers the fewest pixels of what is taken; the first of equals."""
    x, y, width, height = np.array([place.as_tuple() for place in places])[:, :, None].transpose(1, 0, 2)
    other = np.array([box.as_tuple() for box in taken]).reshape(-1, 4).T[:, None, :]
    across = np.minimum(x + width, other[0] + other[2]) - np.maximum(x, other[0])
    down = np.minimum(y + height, other[1] + other[3]) - np.maximum(y, other[1])
    hidden = (across.clip(0) * down.clip(0)).sum(axis=1)
    return places[int(hidden.argmin())]


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
