"""Evaluations for people: text tables and a picture of the confusion matrix. The full report is `report_html`'s."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.evaluation import Evaluation
from trainer.thresholds import Naming

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def as_text(result: Evaluation, title: str) -> str:
    """Accuracy, macro F1, the per-class table and the confusion matrix (rows: truth), as plain text."""
    wide = max(9, *(len(label) for label in result.labels))
    lines = [
        title,
        f"  images    {result.count}",
        f"  accuracy  {result.accuracy:.2%} ± {100 * result.interval:.2f} points (95 %)",
    ]
    if result.accuracy_without_copies is not None:
        lines.append(f"            {result.accuracy_without_copies:.2%} on images without a copy in Training")
    lines += [f"  macro F1  {result.macro_f1:.4f}", ""]
    lines.append(f"  {'':<{wide}}  precision  recall      F1  images")
    for i, label in enumerate(result.labels):
        lines.append(
            f"  {label:<{wide}}  {result.precision[i]:9.3f}  {result.recall[i]:6.3f}  {result.f1[i]:6.3f}"
            f"  {result.support[i]:6d}"
        )
    lines += ["", f"  {'truth':<{wide}}  " + " ".join(f"{label[:8]:>8}" for label in result.labels) + "   <- answer"]
    for i, label in enumerate(result.labels):
        lines.append(f"  {label:<{wide}}  " + " ".join(f"{count:8d}" for count in result.confusion[i]))
    return "\n".join(lines)


def thresholds_as_text(naming: Naming, precision: float, own: Naming | None) -> str:
    """Each label's threshold and what it leaves, as plain text; and what the model file's own thresholds leave."""
    wide = max(9, *(len(label) for label in naming.thresholds))
    lines = [
        f"  named only where right at least {precision:.0%} of the time, else uncertain",
        f"  {'':<{wide}}  threshold   named  precision",
    ]
    for label, each in naming.to_dict()["classes"].items():
        lines.append(
            f"  {label:<{wide}}  {each['threshold']:9.3f}  {_percent(each['coverage']):>6}"
            f"  {_percent(each['precision']):>9}"
        )
    lines.append(f"  {'together':<{wide}}  {'':9}  {naming.coverage:>6.1%}  {_percent(naming.accuracy):>9}")
    if own:
        lines.append(f"  by the model file's own: {own.coverage:.1%} named, {_percent(own.accuracy)} of these rightly")
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def save_confusion(result: Evaluation, title: str, path: Path) -> None:
    """Write the confusion matrix as a PNG.

    Raises:
        OutputError: it cannot be written.
    """
    from trainer import figures
    from trainer.output_file import write_whole

    def draw(figure: Figure) -> None:
        figures.draw_confusion(figure, result)
        figure.suptitle(
            f"{title}\naccuracy {result.accuracy:.2%} ± {100 * result.interval:.2f}, "
            f"macro F1 {result.macro_f1:.3f}, n = {result.count}",
            fontsize=10,
        )

    wide, high = figures.confusion_size(len(result.labels))
    write_whole(path, figures.bitmap(draw, wide=wide + 1, high=high + 1))
