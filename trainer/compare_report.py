"""The literature's figures beside those measured, for people: a table, a page of Markdown, a picture.

Everything here is made from what `trainer.compare` wrote; no figure is typed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from trainer.backbones import SCRATCH
from trainer.baselines import VALIDATION_SHARE
from trainer.compare_plan import OFFICIAL, PAPER

Result = Mapping[str, Any]
"""A training's `result.json`, or the row of a model of one's own."""

_LEFT = ("network", "paper", "split")
_COLUMNS = (
    *_LEFT, "epochs", "train", "validation", "test", "difference", "no copies", "macro F1", "minutes",
)  # fmt: skip
_OF_THE_TEST = frozenset({"test", "no copies"})
_OF_A_NARROW_TABLE = frozenset({"network", "paper", "split", "epochs", "train"})
WIDE = 140
"""Columns of a terminal that the whole table needs."""

# Okabe & Ito's blue, vermilion and green: told apart by colour-blind readers, and in grey by their shapes.
_BLUE, _VERMILION, _GREEN, _INK, _GREY, _BAND = "#0072b2", "#d55e00", "#009e73", "#1b2a41", "#6b7280", "#f3f4f6"


_PROTOCOLS = {
    "clean": "trained without images that are also in a test split",
    "literature's": "trained on all training images, copies of test images among them, as the papers' networks are",
    "not told": "what it was trained on, it does not tell",
}


def as_table(results: Sequence[Result], models: Sequence[Result], data: Mapping[str, Any], width: int = WIDE) -> Table:
    """The table for a terminal of `width` columns; a narrow one gets the columns that matter most."""
    columns = _columns(results, data)
    if width < WIDE:
        columns = [column for column in columns if column in {*_OF_A_NARROW_TABLE, _scored(results)}]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="left" if column in _LEFT else "right", no_wrap=column != "paper")
    for row in _rows(results, models):
        table.add_row(*(row.get(column, "") for column in columns))
    return table


def as_markdown(
    results: Sequence[Result], models: Sequence[Result], data: Mapping[str, Any], *, command: str, picture: str
) -> str:
    """The page: what was measured how, the table, what leaks, what the papers leave unsaid.

    Args:
        results: of finished trainings.
        models: rows of models of one's own.
        data: see `compare.describe_data`.
        command: makes the page again.
        picture: where the picture lies, seen from the page; empty where there is none.
    """
    head = "Made by this command and not by hand; what a figure depends on lies in each training's `result.json`."
    unsaid = dict.fromkeys(f"- **{each['preset']}.** {each['unsaid']}" for each in results)
    sections = [
        "# The papers' networks, measured",
        f"{head}\n\n```\n{command}\n```",
        f"![The papers' figures and those measured]({picture})" if picture else "",
        _protocol(results, data),
        _markdown_table(results, models, data),
        _notes(results, models),
        _leaks(results, data),
        "\n".join(["## What the papers do not say", "", *unsaid]),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _scored(results: Sequence[Result]) -> str:
    """The split whose figures stand beside the papers': the test, once somebody has looked at it."""
    return "test" if all("test" in each for each in results) else "validation"


def _columns(results: Sequence[Result], data: Mapping[str, Any]) -> list[str]:
    without = set() if _scored(results) == "test" else {*_OF_THE_TEST}
    without |= set() if data["is_the_papers"] else {"difference"}
    return [column for column in _COLUMNS if column not in without]


def _rows(results: Sequence[Result], models: Sequence[Result]) -> list[dict[str, str]]:
    """What stands in each column, by its name."""
    scored = _scored(results)
    trained = [
        {
            "network": each["preset"],
            "paper": each["reported"]["text"],
            "split": _split_name(each),
            "epochs": f"{each['epochs']} of {each['preset_epochs']}" if _cut_short(each) else str(each["epochs"]),
            "train": _percent(each["train"]["accuracy"]),
            "validation": _percent(each["validation"]["accuracy"]),
            "difference": _points(each[scored]["accuracy"] - each["reported"]["unseen"]),
            "minutes": f"{each['seconds'] / 60:.1f}",
            **_cells(scored, each[scored]),
        }
        for each in results
    ]
    ours = [{"network": each["model"], "split": OFFICIAL, **_cells("test", each["test"])} for each in models]
    return trained + ours


def _cells(scored: str, figures: Mapping[str, Any]) -> dict[str, str]:
    without = figures["accuracy_without_copies"]
    return {
        scored: f"{_percent(figures['accuracy'])} ± {100 * figures['interval_95']:.1f}",
        "no copies": "" if without is None else _percent(without),
        "macro F1": f"{figures['macro_f1']:.3f}",
    }


def _cut_short(result: Result) -> bool:
    return bool(result["epochs"] != result["preset_epochs"])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{round(100 * difference, 1) + 0:+.1f}".replace("-", "−")  # + 0: never −0.0


def _split_name(result: Result) -> str:
    if result["split"] != PAPER:
        return OFFICIAL
    test = round(100 * result["test_share"])
    return f"random {100 - test}:{test}"


def _markdown_table(results: Sequence[Result], models: Sequence[Result], data: Mapping[str, Any]) -> str:
    columns = _columns(results, data)

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    return "\n".join(
        [
            line(columns),
            line(["---" if column in _LEFT else "---:" for column in columns]),
            *(line([row.get(column, "") for column in columns]) for row in _rows(results, models)),
        ]
    )


def _protocol(results: Sequence[Result], data: Mapping[str, Any]) -> str:
    images, labels, scored = data["images"], ", ".join(data["labels"]), _scored(results)
    difference = (
        f", and *difference* the points by which our {scored} lies over the paper's"
        if data["is_the_papers"]
        else "; these images are not FER2013 as the papers have it, so it says nothing of them"
    )
    cut = dict.fromkeys(f"`{each['preset']}`" for each in results if _cut_short(each))
    paragraphs = [
        (
            f"**Data.** {data['name']} ({labels}): {images['train']:,} images to train on, {images['validation']:,} "
            f"for validation, {images['test']:,} for the test; nothing was cleaned out. *Official* are the data's own "
            "splits (FER2013: PublicTest is validation, PrivateTest the test); *random* is the paper's own split, "
            f"dealt anew from all images, each label by itself, with {100 * VALIDATION_SHARE:.0f} % of what is left to "
            "train on held out for validation."
        ),
        (
            f"**Figures.** *Paper* is the figure as Mien's users quote it{difference}. Accuracies are those of the "
            "last epoch's weights without dropout, so that of *train* may lie above what a paper saw while training; "
            f"nothing is chosen by validation or test. ± is the 95 % interval that the number of {scored} images "
            "brings. Every network was trained once, from one seed: how far another would move it was not measured. "
            + ("*No copies* is the test without images that stand in training too. " if scored == "test" else "")
            + "*Minutes* are those of the training by the clock, whatever else the machine did or waited for. "
            f"Calling every image of the official test {data['commonest']} is right in "
            f"{_percent(data['commonest_share'])}."
        ),
    ]
    if cut:
        paragraphs.append(
            f"**A quick look.** `--epochs` cut these short, so they say nothing of the papers: {', '.join(cut)}."
        )
    return "\n\n".join(paragraphs)


def _notes(results: Sequence[Result], models: Sequence[Result]) -> str:
    notes = [f"- {each['preset']}: {note}." for each in results for note in each["notes"]]
    for each in models:
        command = f"; `{each['command']}`" if each["command"] else ""
        notes.append(f"- {each['model']}: {_PROTOCOLS[each['protocol']]}{command}.")
    return "\n".join(dict.fromkeys(notes))


def _leaks(results: Sequence[Result], data: Mapping[str, Any]) -> str:
    count, images = sum(data["images"].values()), data["images"]
    text = (
        f"Of the {count:,} images {data['unique']:,} are different; {count - data['unique']:,} are exact copies of "
        f"others. In the official splits {data['test_images_copied_in_training']:,} of {images['test']:,} test images "
        f"and {data['validation_images_copied_in_training']:,} of {images['validation']:,} validation images have a "
        "copy in training. A random split deals copies to both sides as it comes, and so it does with pictures of one "
        "person or of one scene, which no comparison of pixels finds: the counts are lower bounds."
    )
    rows = [
        f"| {each['preset']} | {_split_name(each)} | {each['test_images_copied_in_training']:,} of "
        f"{each['images']['test']:,} ({_percent(each['test_images_copied_in_training'] / each['images']['test'])}) | "
        f"{_points(each['test']['accuracy'] - each['test']['accuracy_without_copies'])} |"
        for each in results
        if _scored(results) == "test" and each["test"]["accuracy_without_copies"] is not None
    ]
    head = ["| network | split | tests with a copy in training | points they add |", "| --- | --- | ---: | ---: |"]
    return "\n\n".join(["## What leaks", text, *(["\n".join([*head, *rows])] if rows else [])])


def draw(results: Sequence[Result], models: Sequence[Result], data: Mapping[str, Any]) -> bytes:
    """A PNG: for each network the paper's figure and those measured, with their 95 % intervals."""
    from matplotlib.figure import Figure  # the object interface needs no display and leaves no global state

    names, scored = list(dict.fromkeys(each["preset"] for each in results)), _scored(results)
    place = {name: number for number, name in enumerate(names)}
    height = len(names) + len(models)
    figure = Figure(figsize=(8.4, 1.9 + 0.5 * height), layout="constrained")
    axes = figure.add_subplot()
    for row in range(0, height, 2):
        axes.axhspan(row - 0.5, row + 0.5, color=_BAND, zorder=0)
    axes.axvline(100 * data["commonest_share"], color=_GREY, linestyle=(0, (2, 3)), linewidth=1.2, zorder=1)
    axes.annotate(
        f"always “{data['commonest']}”", (100 * data["commonest_share"], -0.5), (0, 4), ha="center",
        textcoords="offset points", fontsize=8, color=_GREY,
    )  # fmt: skip
    official = [(each, place[each["preset"]] - 0.16) for each in results if each["split"] == OFFICIAL]
    random = [(each, place[each["preset"]] + 0.16) for each in results if each["split"] == PAPER]
    ours = [(each, number) for number, each in enumerate(models, start=len(names))]
    papers = {each["preset"]: 100 * each["reported"]["unseen"] for each in results}
    columns = (
        (1.07, "paper", _INK, [(value, place[name]) for name, value in papers.items()]),
        (1.18, "official", _BLUE, [(100 * each[scored]["accuracy"], round(at)) for each, at in official]),
        (1.18, "", _GREEN, [(100 * each["test"]["accuracy"], at) for each, at in ours]),
        (1.29, "random", _VERMILION, [(100 * each[scored]["accuracy"], round(at)) for each, at in random]),
    )
    for x, head, colour, values in columns:
        for text, y in [(head, -0.72), *((f"{value:.1f}", at) for value, at in values)]:
            axes.text(
                x, y, text, transform=axes.get_yaxis_transform(), ha="center", va="center", fontsize=9, color=colour
            )
    axes.scatter(
        list(papers.values()), [place[name] for name in papers], marker="D", s=50, facecolors="white",
        edgecolors=_INK, linewidths=1.6, label="the paper's figure", zorder=3,
    )  # fmt: skip
    for rows, marker, colour, label in (
        (official, "o", _BLUE, "measured, official splits"),
        (random, "s", _VERMILION, "measured, the paper's kind of random split"),
        (ours, "^", _GREEN, "a model of ours, official splits"),
    ):
        if rows:
            axes.errorbar(
                [100 * each[scored]["accuracy"] for each, _ in rows],
                [at for _, at in rows],
                xerr=[100 * each[scored]["interval_95"] for each, _ in rows],
                fmt=marker, color=colour, markersize=6.5, capsize=3, elinewidth=1.4, label=label, zorder=4,
            )  # fmt: skip
    axes.set_yticks(range(height), [*(_tick(name, results) for name in names), *(each["model"] for each in models)])
    axes.set_ylim(height - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"accuracy on the {scored} split, %; bars: 95 % intervals at this number of images; one seed")
    axes.grid(axis="x", color="#d1d5db", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.suptitle(f"Reported and measured, {data['name']}", x=0.01, ha="left", color=_INK, fontsize=12)
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=150, format="png", bbox_inches="tight", pad_inches=0.15)
    return picture.getvalue()


def _tick(name: str, results: Sequence[Result]) -> str:
    """A network's name, and below it what makes its figure another than it seems."""
    mine = [each for each in results if each["preset"] == name]
    remarks = [f"without {', '.join(mine[0]['drop'])}"] if mine[0]["drop"] else []
    remarks += ["from scratch"] if mine[0]["pretrained"] and mine[0]["pretraining"] == SCRATCH else []
    remarks += [f"{mine[0]['epochs']} of {mine[0]['preset_epochs']} epochs"] if _cut_short(mine[0]) else []
    return "\n".join([name, *remarks])
