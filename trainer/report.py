"""Evaluations for people: a text table and a picture of the confusion matrix."""

from __future__ import annotations

from pathlib import Path

from edge.errors import OutputError
from trainer.evaluation import Evaluation


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


def draw_confusion(result: Evaluation, title: str, path: Path) -> None:
    """Write the confusion matrix as a PNG: colour is the share of the true class, numbers are shares and counts."""
    from matplotlib.figure import Figure  # the object interface needs no display and leaves no global state

    share = result.confusion / result.confusion.sum(axis=1, keepdims=True).clip(1)
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    for row in range(len(result.labels)):
        for column in range(len(result.labels)):
            axes.text(
                column, row, f"{share[row, column]:.0%}\n{result.confusion[row, column]}", ha="center", va="center",
                fontsize=8, color="white" if share[row, column] > 0.5 else "#1b2a41",
            )  # fmt: skip
    axes.set_xticks(range(len(result.labels)), result.labels, rotation=35, ha="right")
    axes.set_yticks(range(len(result.labels)), result.labels)
    axes.set_xlabel("the network's answer")
    axes.set_ylabel("truth")
    axes.set_title(
        f"{title}\naccuracy {result.accuracy:.2%} ± {100 * result.interval:.2f}, "
        f"macro F1 {result.macro_f1:.3f}, n = {result.count}",
        fontsize=10,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, format="png")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
