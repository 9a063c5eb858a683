"""The full report on a network as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer import figures, robustness
from trainer.examination import COVERAGES, OWN_TEMPERATURE, Curve, Examination, Mistake
from trainer.report_page import drawing, image, page, paragraph, side_by_side, table


@dataclass(frozen=True)
class About:
    """What the page says it is about.

    Attributes:
        model: the network's file, by name.
        facts: name and value of what should be known of it, in their order.
        data: the data set's name.
        split: such as `validation`.
    """

    model: str
    facts: Sequence[tuple[str, str]]
    data: str
    split: str


def as_html(found: Examination, about: About, *, faces: NDArray[np.uint8] | None = None) -> str:
    """The page.

    Args:
        found: what was measured.
        about: what it was measured on.
        faces: `uint8[n, size, size]`, the split's pictures, where the worst mistakes are to be shown; None shows
            nobody's face.
    """
    return page(
        f"{about.model} on the {about.split} split of {about.data}",
        [
            ("summary", "What was evaluated", _summary(found, about)),
            ("classes", "Each expression", _classes(found)),
            ("confusion", "What is taken for what", _confusion(found)),
            ("calibration", "Can its confidence be believed?", _calibration(found, about)),
            ("coverage", "What it gains by keeping silent", _coverage(found)),
            ("thresholds", "When it says “uncertain”", _thresholds(found, about)),
            ("robustness", "Bad pictures", _robustness(found)),
            ("size", "Small and far faces", _size(found)),
            ("jitter", "Careless boxes", _jitter(found)),
            ("parts", "Which parts of the face it looks at", _parts(found)),
            ("mistakes", "The worst mistakes", _mistakes(found, faces)),
        ],
    )


def _summary(found: Examination, about: About) -> str:
    result = found.evaluation
    headline = (
        f'<p class="headline"><strong>{result.accuracy:.2%}</strong> of {result.count:,} faces right, '
        f"± {100 * result.interval:.2f} points (95 % interval); macro F1 <strong>{result.macro_f1:.4f}</strong></p>"
    )
    notes = []
    if result.accuracy_without_copies is not None:
        notes.append(f"{result.accuracy_without_copies:.2%} on the images that have no copy in the training split.")
    missing = [label for label, count in zip(result.labels, result.support, strict=True) if not count]
    if missing:
        notes.append(
            f"This split holds no image of {', '.join(missing)}: figures of such an expression count as 0 below, and "
            "macro F1 suffers for it."
        )
    notes.append(
        f"Bad pictures, sizes and boxes were tried on {found.samples:,} of these faces, a random sample with each "
        f"expression’s share kept; so many tell an accuracy to ± {196 * (0.25 / found.samples) ** 0.5:.1f} points."
    )
    return headline + table(("what", "which"), about.facts, "words") + "".join(map(paragraph, notes))


def _classes(found: Examination) -> str:
    result = found.evaluation
    scores = (result.precision, result.recall, result.f1)
    rows = [
        (label, *(f"{values[i]:.3f}" for values in scores), f"{result.support[i]:,}")
        for i, label in enumerate(result.labels)
    ]
    return table(("expression", "precision", "recall", "F1", "faces"), rows) + paragraph(
        "Precision: how often the network is right when it names the expression. Recall: how many of the faces that "
        "show it are found. F1 is their harmonic mean; macro F1 is its mean over all expressions, rare ones as heavy "
        "as common ones."
    )


def _confusion(found: Examination) -> str:
    labels = found.evaluation.labels
    wrong = found.evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    row, column = np.unravel_index(wrong.argmax(), wrong.shape)
    of_row = wrong[row, column] / max(found.evaluation.support[row], 1)
    commonest = f"{labels[row]} taken for {labels[column]} ({wrong[row, column]:,}, {of_row:.0%} of {labels[row]})"
    worst = f"The commonest mistake is {commonest}." if wrong.any() else "There is no mistake."
    wide, high = figures.confusion_size(len(labels))
    return drawing(
        lambda figure: figures.draw_confusion(figure, found.evaluation),
        f"Confusion matrix. {worst}",
        "Each row is what faces show, each column what the network answers: the share of the row, and the number of "
        f"faces. The diagonal is right. {worst}",
        wide=wide,
        high=high,
    )


def _calibration(found: Examination, about: About) -> str:
    own = "" if found.own_temperature is None else f" The model file’s own temperature is {found.own_temperature:g}."
    pictures = [
        drawing(
            lambda figure, bins=bins: figures.draw_reliability(figure, bins),  # type: ignore[misc]  # bound at once
            f"Reliability diagram {name}: expected calibration error {bins.error:.4f}",
            f"{name[0].upper()}{name[1:]}: expected calibration error {bins.error:.4f}.",
            wide=3.6,
        )
        for name, bins in found.reliabilities.items()
        if name != OWN_TEMPERATURE or found.own_temperature != found.temperature  # else the picture before once more
    ]
    same = " This report is of that same split, so the second picture flatters a little."
    return (
        side_by_side(pictures)
        + paragraph(
            "A confidence of 80 % should be right eight times in ten: on the dashed line. Below it the network is too "
            "sure of itself, above it not sure enough; the bars tell how many answers have which confidence. The "
            "expected calibration error is the mean distance from the line."
        )
        + paragraph(
            f"Dividing the logits by {found.temperature:g} before the softmax makes the validation split most likely. "
            f"That temperature was fitted to this network’s own answers there, after any rounding to int8.{own}"
            f"{same if about.split == 'validation' else ''} It calibrates all confidences below."
        )
    )


def _coverage(found: Examination) -> str:
    rows = [(f"{coverage:.0%}", f"{found.accuracy_at(coverage):.2%}") for coverage in (1.0, *COVERAGES)]
    picture = drawing(
        lambda figure: figures.draw_risk(figure, found.risk, COVERAGES),
        f"Risk against coverage; area under the curve {found.area_under_risk:.4f}",
        "The fewer faces are answered, the surest first, the fewer answers are wrong. Area under the curve: "
        f"{found.area_under_risk:.4f}; the lower, the better the confidence tells right from wrong.",
    )
    return side_by_side([picture, table(("surest faces answered", "accuracy"), rows)])


def _thresholds(found: Examination, about: About) -> str:
    naming = found.naming
    rows = [
        (label, f"{each['threshold']:.3f}", f"{each['answers']:,}", _share(each["coverage"]), _share(each["precision"]))
        for label, each in naming.to_dict()["classes"].items()
    ]
    rows.append(("together", "", f"{found.evaluation.count:,}", _share(naming.coverage), _share(naming.accuracy)))
    own = ""
    if found.own_naming:
        named = [f"{label} {threshold:.3f}" for label, threshold in found.own_naming.thresholds.items()]
        own = paragraph(
            f"The model file has thresholds of its own, by which a Pi goes: {', '.join(named)}. By these and its own "
            f"temperature {found.own_naming.coverage:.1%} of the faces are named, {_share(found.own_naming.accuracy)} "
            "of these rightly."
        )
    told = paragraph(
        "An answer is named from the lowest confidence at which such answers were right at least "
        f"{found.precision:.0%} of the time on the validation split; below it the face is “uncertain”. An answer that "
        f"is rare there takes the threshold of all answers together. So {naming.coverage:.1%} of the faces of the "
        f"{about.split} split are named, {_share(naming.accuracy)} of these rightly; naming all would be right "
        f"{found.evaluation.accuracy:.1%} of the time. mien-export convert puts such thresholds into the model file."
    )
    return table(("answer", "named from", "answers", "of them named", "right when named"), rows) + told + own


def _robustness(found: Examination) -> str:
    curves, chance = found.corruptions, _commonest(found)
    worst = min(curves, key=lambda curve: curve.accuracy[-1])
    told = "; ".join(f"{curve.name} {curve.accuracy[0]:.0%} to {curve.accuracy[-1]:.0%}" for curve in curves)
    pictures = [
        drawing(
            lambda figure, name=name: figures.draw_curves(figure, curves, (name,), "severity", chance),  # type: ignore[misc]  # bound at once
            f"{called} against severity" + (f": {told}" if name == "accuracy" else ""),
            f"{called}; severity 0 is the picture as it is.",
        )
        for name, called in (("accuracy", "Accuracy"), ("macro_f1", "Macro F1"))
    ]
    rows = [
        (curve.name, *(f"{a:.1%} · {f1:.3f}" for a, f1 in zip(curve.accuracy, curve.macro_f1, strict=True)))
        for curve in curves
    ]
    meanings = [
        (kind.name, kind.meaning.format(", ".join(f"{level:g}" for level in kind.levels)))
        for kind in robustness.CORRUPTIONS
    ]
    return (
        side_by_side(pictures)
        + paragraph(
            f"Five ways in which pictures go wrong, each in five severities. What hurts most at its worst is "
            f"“{worst.name}”: {worst.accuracy[-1]:.1%} right, where always naming the commonest expression would be "
            f"right {chance:.1%} of the time."
        )
        + table(("accuracy · macro F1", *map(str, range(6))), rows)
        + _examples(found)
        + table(("what", "severities 1 to 5"), meanings, "words")
        + paragraph(
            f"Light is changed before the camera’s own curve (gamma {robustness.GAMMA:g}); 1 EV doubles or halves it. "
            "Blur and noise are Gaussian, by their standard deviation. Blur, noise and the square come upon the "
            "cut-out face, at the size that the network sees."
        )
    )


def _examples(found: Examination) -> str:
    """What the severities look like, on a face that is nobody's."""
    if found.mean_face is None:
        return ""
    face = found.mean_face[np.newaxis]
    strips = []
    for kind in robustness.CORRUPTIONS:
        views = [face, *(kind.apply(face, level, place) for place, level in enumerate(kind.levels))]
        strip = np.concatenate([np.pad(view[0], 1, constant_values=255) for view in views], axis=1)
        strips.append(image(figures.png(strip, times=2), f"The mean face, {kind.name}, severities 0 to 5", kind.name))
    return side_by_side(strips, "strips") + paragraph(
        f"The severities 0 to 5 on the mean of all {found.evaluation.count:,} faces, a little out of focus."
    )


def _size(found: Examination) -> str:
    curve = found.sizes
    picture = drawing(
        lambda figure: figures.draw_curves(
            figure, [curve], ("accuracy", "macro_f1"), "side of the face in the picture, px", _commonest(found)
        ),
        f"Accuracy against face size: {curve.accuracy[0]:.0%} at {curve.levels[0]:g} px, {curve.accuracy[-1]:.0%} at "
        f"{curve.levels[-1]:g} px",
        "How well faces are read that were so many pixels wide in the camera’s picture and were brought to the "
        "network’s size as the daemon does it.",
    )
    return side_by_side([picture, _curve_table(curve, "face")])


def _jitter(found: Examination) -> str:
    curve = found.jitters
    picture = drawing(
        lambda figure: figures.draw_curves(
            figure, [curve], ("accuracy", "macro_f1"), "times the spread of real boxes", _commonest(found)
        ),
        f"Accuracy against jitter: {curve.accuracy[0]:.0%} without, {curve.accuracy[-1]:.0%} at twice the spread of "
        "real boxes",
        "How well faces are read when the crop is larger, smaller and off the middle.",
    )
    return side_by_side([picture, _curve_table(curve, "crop")]) + paragraph(
        "1 is the spread of OpenCV’s Haar boxes on such faces: 0.79 to 1.13 times the crop’s width at the 10th and "
        f"90th percentile, their middle off by {robustness.BOX_SHIFT:.0%} of it (standard deviation) each way. Where a "
        "larger box would show more than the data holds, the border is repeated, so these figures are a pessimist’s."
    )


def _parts(found: Examination) -> str:
    labels, parts = found.evaluation.labels, found.parts
    most = max(float(np.abs(parts.drop).max()), 1e-6)
    maps = [_map(found, i, most) for i in range(len(labels)) if parts.count[i]]
    scale = image(
        figures.svg(lambda figure: figures.draw_scale(figure, most), wide=4.4, high=0.7),
        f"Colour scale from purple, {-100 * most:.0f} points, to orange, {100 * most:.0f} points",
    )
    without = [label for i, label in enumerate(labels) if not parts.count[i]]
    none = f" There is no face of {', '.join(without)} in this split." if without else ""
    below = (
        "The maps lie over the mean of all faces of this split, a little out of focus."
        if found.mean_face is not None
        else "There are too few faces for their mean to show nobody, so the maps stand alone."
    )
    return (
        scale
        + side_by_side(maps, "faces")
        + paragraph(
            "A grey patch a quarter as wide as the face slides over each; the colour at a place is what the right "
            "answer’s probability loses, on average, with the patch there. Orange: the answer hangs on this part. "
            f"Purple: the network does better without it. {below}{none}"
        )
    )


def _map(found: Examination, label: int, most: float) -> str:
    drop, name = found.parts.drop[label], found.evaluation.labels[label]
    row, column = np.unravel_index(drop.argmax(), drop.shape)
    height = ("upper", "middle", "lower")[int(row) * 3 // drop.shape[0]]
    side = ("left", "centre", "right")[int(column) * 3 // drop.shape[1]]
    picture = figures.bitmap(lambda figure: figures.draw_parts(figure, drop, most, found.mean_face), wide=1.7, high=1.7)
    strongest = f"{100 * drop.max():.0f} points"
    return image(
        picture,
        f"Occlusion sensitivity for {name}: strongest at the {height} {side} of the picture, {strongest}",
        f"{name}: at most {strongest}; {found.parts.count[label]} faces",
    )


def _mistakes(found: Examination, faces: NDArray[np.uint8] | None) -> str:
    if not found.mistakes:
        return paragraph("There are none.")

    def where(each: Mistake) -> str:
        return each.file or f"{each.row}"

    rows = [(where(each), each.truth, each.answer, f"{each.confidence:.1%}") for each in found.mistakes]
    half = (len(rows) + 1) // 2
    head = ("picture" if found.mistakes[0].file else "row", "truth", "answer", "confidence")
    tables = side_by_side([table(head, part) for part in (rows[:half], rows[half:]) if part])
    asked = " Their pictures are shown only where --show-faces asks for them."
    shown = ""
    if faces is not None:
        asked = ""
        shown = side_by_side(
            (
                image(
                    figures.png(faces[each.place], times=2),
                    f"The face in {head[0]} {where(each)}",
                    f"{head[0]} {where(each)}: {each.truth}, taken for {each.answer}",
                )
                for each in found.mistakes
            ),
            "faces",
        )
    return (
        tables
        + shown
        + paragraph(
            "The most confident wrong answers. Rows are counted from 0 in the data set’s own order. A wrong label is "
            f"a common reason.{asked}"
        )
    )


def _commonest(found: Examination) -> float:
    return float(found.evaluation.support.max() / found.evaluation.count)


def _curve_table(curve: Curve, what: str) -> str:
    rows = [
        (meaning, f"{accuracy:.1%}", f"{f1:.3f}")
        for meaning, accuracy, f1 in zip(curve.meanings, curve.accuracy, curve.macro_f1, strict=True)
    ]
    return table((what, "accuracy", "macro F1"), rows)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
