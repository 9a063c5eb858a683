"""The report's pictures: drawn by matplotlib, each to bytes that a page can hold. Colours are Okabe and Ito's."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure  # the object interface needs no display and leaves no global state
from numpy.typing import NDArray

from trainer.calibration import Reliability
from trainer.evaluation import Evaluation

if TYPE_CHECKING:
    from trainer.examination import Curve

INK = "#1b2a41"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#000000")
MARKS = ("o", "s", "^", "D", "v")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

MOST_SHOWN = 20
"""Characters of a label beside a picture; a longer one would leave no room for it."""

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#d8dde5",
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "text.parse_math": False,  # a label may hold dollars
    "svg.hashsalt": "mien",
}


def svg(draw: Callable[[Figure], None], *, wide: float = 4.4, high: float = 3.2) -> bytes:
    """What `draw` makes of an empty figure of so many inches, as SVG; the same drawing gives the same bytes."""
    return _drawn(draw, wide, high, "svg")


def bitmap(draw: Callable[[Figure], None], *, wide: float, high: float) -> bytes:
    """The same as PNG, for what is made of pixels anyway."""
    return _drawn(draw, wide, high, "png")


def _drawn(draw: Callable[[Figure], None], wide: float, high: float, kind: str) -> bytes:
    with rc_context(STYLE):
        figure = Figure(figsize=(wide, high), layout="constrained")
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def confusion_size(labels: int) -> tuple[float, float]:
    """Inches, wide and high, in which the numbers of that many labels stand apart."""
    return 2.2 + 0.46 * max(7, labels), 1.5 + 0.46 * max(7, labels)


def draw_confusion(figure: Figure, result: Evaluation) -> None:
    """Colour is the share of the true class; numbers are shares and counts. For a figure of `confusion_size`."""
    share = result.confusion / result.confusion.sum(axis=1, keepdims=True).clip(1)
    axes = figure.add_subplot()
    axes.grid(visible=False)
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    for row in range(len(result.labels)):
        for column in range(len(result.labels)):
            axes.text(
                column, row, f"{share[row, column]:.0%}\n{result.confusion[row, column]}", ha="center", va="center",
                fontsize=8, color="white" if share[row, column] > 0.5 else INK,
            )  # fmt: skip
    names = [label if len(label) <= MOST_SHOWN else f"{label[: MOST_SHOWN - 1]}…" for label in result.labels]
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("truth")


FEWEST_ANSWERS = 10
"""A bin of fewer says next to nothing, and is no part of the line."""


def draw_reliability(figure: Figure, bins: Reliability) -> None:
    """Accuracy against confidence, and how many answers have which confidence."""
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    upper.plot([0, 1], [0, 1], color="#6b7686", linestyle="--", linewidth=1, label="as it should be")
    many = bins.count >= FEWEST_ANSWERS
    upper.plot(bins.confidence[many], bins.accuracy[many], color=COLOURS[0], marker="o", markersize=4, label="measured")
    if not many.all():
        upper.plot(
            bins.confidence[~many], bins.accuracy[~many], color=COLOURS[0], marker="o", markersize=4, linestyle="",
            fillstyle="none", label=f"fewer than {FEWEST_ANSWERS} answers",
        )  # fmt: skip
    upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
    upper.legend(loc="best")
    lower.bar(bins.confidence, bins.count / bins.count.sum(), width=0.045, color=COLOURS[0])
    lower.set(xlabel="confidence", ylabel="share")
    _percent(upper, "y")
    _percent(lower, "xy")


def draw_risk(figure: Figure, risk: NDArray[np.float64], marked: Sequence[float]) -> None:
    """Share of wrong answers against the share of faces that are answered at all."""
    axes = figure.add_subplot()
    coverage = np.arange(1, len(risk) + 1) / len(risk)
    axes.fill_between(coverage, risk, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.plot(coverage, risk, color=COLOURS[0], linewidth=1.5)
    for share in marked:
        wrong = risk[max(1, round(share * len(risk))) - 1]
        axes.plot(share, wrong, color=COLOURS[1], marker="s", markersize=5)
        axes.annotate(f"{wrong:.0%}", (share, wrong), (-4, 6), textcoords="offset points", ha="right")
    axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share of faces answered, surest first", ylabel="wrong among them")
    _percent(axes, "xy")


def draw_curves(figure: Figure, curves: Sequence[Curve], figures: Sequence[str], across: str, chance: float) -> None:
    """Accuracy and macro F1 of a few curves against their levels.

    Args:
        figure: an empty one.
        curves: what to draw.
        figures: `accuracy`, `macro_f1` or both.
        across: what the levels are called.
        chance: share that naming the commonest class gives, drawn where accuracy is.
    """
    axes = figure.add_subplot()
    kinds = [(curve, figure_name) for curve in curves for figure_name in figures]
    for number, (curve, name) in enumerate(kinds):
        called = {"accuracy": "accuracy", "macro_f1": "macro F1"}[name]
        axes.plot(
            curve.levels, getattr(curve, name), color=COLOURS[number], marker=MARKS[number], linestyle=DASHES[number],
            markersize=4.5, linewidth=1.4, label=curve.name if len(curves) > 1 else called,
        )  # fmt: skip
    if "accuracy" in figures:
        axes.axhline(chance, color="#6b7686", linewidth=0.8, linestyle=":", label="always the commonest")
    axes.set(ylim=(0, 1), xlabel=across, ylabel=" and ".join("macro F1" if f == "macro_f1" else f for f in figures))
    axes.set_xticks(curves[0].levels)
    axes.legend(ncols=2, fontsize=8)
    _percent(axes, "y")


def draw_parts(figure: Figure, drop: NDArray[np.float64], most: float, mean_face: NDArray[np.uint8] | None) -> None:
    """One label's map over the mean face: orange where the answer hangs on what is there, purple where it distracts."""
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    if mean_face is not None:
        axes.imshow(mean_face, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0), interpolation="bilinear")
    strength = np.abs(drop) / most
    axes.imshow(
        drop, cmap="PuOr_r", vmin=-most, vmax=most, extent=(0, 1, 1, 0), interpolation="bilinear",
        alpha=None if mean_face is None else 0.85 * strength,
    )  # fmt: skip


def draw_scale(figure: Figure, most: float) -> None:
    """The colours of `draw_parts`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axes = figure.add_subplot()
    points = ScalarMappable(Normalize(-100 * most, 100 * most), "PuOr_r")
    figure.colorbar(points, cax=axes, orientation="horizontal", label="points of probability lost when covered")


def png(picture: NDArray[np.uint8], *, times: int = 1) -> bytes:
    """A grey or B, G, R picture as PNG, each pixel `times` as large."""
    large = np.repeat(np.repeat(picture, times, axis=0), times, axis=1)
    return bytes(cv2.imencode(".png", large)[1])


def _percent(axes: Any, which: str) -> None:
    from matplotlib.ticker import PercentFormatter

    for letter in which:
        getattr(axes, f"{letter}axis").set_major_formatter(PercentFormatter(1, decimals=0))
