"""The model card: what a model is, what it was trained on, how good it is and what it cannot know, as Markdown.

Everything in it stands in the model file's own `mien.json`; nothing is typed in by hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.modelcard import provenance_of

LIMITS = """\
It names what a face shows in one picture, not what a person feels. It learned from pictures found on the web, on whose
labels people themselves are right about 65 times in a hundred (Goodfellow et al. 2013); its mistakes follow theirs.
What covered, badly lit, blurred, noisy and small faces cost it, `mien-train evaluate --report` shows. How it does on
faces turned away was not measured, nor how well it serves each age, skin tone and culture: FER2013 says nothing about
who is in it. Inferring emotions from biometrics at work or in education is banned in the EU (AI Act, Art. 5(1)(f));
elsewhere people must be told that it runs (Art. 50(3))."""

_SPLITS = {"validation": "PublicTest (chosen on)", "test": "PrivateTest", "together": "together"}
_FIGURES = ("float", "int8", "int8_without_copies", "agreement")


def as_markdown(card: Mapping[str, Any], *, file_name: str, file_bytes: int) -> str:
    """The card of a model whose `mien.json` is `card`."""
    labels, face, provenance = card["labels"], card["input"], provenance_of(card)
    what = (
        f"`{file_name}`, {file_bytes / 1e6:.2f} MB: sorts one face into {len(labels)} facial expressions "
        f"({', '.join(labels)})."
    )
    margin, temperature = face.get("margin", 1.0), card["output"].get("temperature", 1.0)
    contract = (
        f"A square grey face of {face['size']} px, cut with margin {margin:g} by `edge.crop`; int8 in, "
        f"int8 logits out. Probabilities are softmax(logits / {temperature:g}); that temperature was fitted "
        "on the validation split, after quantisation."
    )
    origin = _table(("what", "which"), _origin(provenance))
    parts = [f"# {card['name']}", what, "## Input and output", contract, "## Where it comes from", origin]
    if card.get("thresholds"):
        parts += ["## When it says uncertain", _thresholds(card["thresholds"], provenance.get("thresholds", {}))]
    if card.get("accuracy"):
        parts += ["## How good it is", _accuracy(card["accuracy"])]
    return "\n\n".join([*parts, "## What it cannot know", LIMITS]) + "\n"


def _origin(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    def told(key: str) -> str:
        return str(provenance.get(key, "not told"))

    left_out = provenance.get("left_out_of_training")
    chosen = provenance.get("selected")
    return [
        ("data", told("dataset")),
        ("images", ", ".join(f"{name} {count:,}" for name, count in provenance.get("images", {}).items())),
        ("left out of training", "not told" if left_out is None else _counts(left_out) or "nothing"),
        ("architecture", f"{told('architecture')}, {provenance.get('parameters', 0):,} parameters"),
        ("started from", told("pretraining")),
        *_went_on_from(provenance.get("went_on_from")),
        *_lessons(provenance),
        ("seed", told("seed")),
        ("selected", f"epoch {chosen['epoch']}, the best on the validation split" if chosen else "not told"),
        ("batch norm", _batch_norm(chosen) if chosen else "not told"),
        ("trained by", f"`{told('command')}`"),
        ("at commit", told("commit")),
        ("exported by", f"`{told('export_command')}`"),
    ]


def _went_on_from(before: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What the network that a training went on from had seen; nothing where it began with plain weights."""
    if not before:
        return []
    left_out = before["left_out_of_training"]
    told = "not told" if left_out is None else _counts(left_out) or "nothing"
    return [("which was trained on", f"{before['dataset']}, by `{before['command']}`; left out: {told}")]


def _lessons(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a network learned from beside its labels; nothing where it did not."""
    teachers = [
        f"{each['architecture']} from {each['pretraining']}, {_share(each['validation_accuracy'])} on the validation "
        f"split, trained by `{each['command']}`"
        + (f" at {each['commit']}" if "commit" in each else "")
        + (f", {each['file']}" if "file" in each else "")
        for each in provenance.get("teachers", [])
    ]
    votes = provenance.get("settings", {}).get("votes")
    rows = [("taught by", "; ".join(teachers)), ("votes", f"FER+'s, `{votes}`, by a second head" if votes else "")]
    return [row for row in rows if row[1]]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _batch_norm(chosen: Mapping[str, Any]) -> str:
    if "batch_norm" not in chosen:
        return "as trained"
    before, after = chosen["validation_accuracy_before"], chosen["validation_accuracy"]
    gain = f"{before:.2%} became {after:.2%} on the validation split, in float"
    return f"{chosen['batch_norm']}: {gain} (at commit {chosen['commit']})"


def _thresholds(thresholds: Mapping[str, float], fitted: Mapping[str, Any]) -> str:
    classes = fitted.get("classes", {})
    rows = []
    for label, threshold in thresholds.items():
        known = classes.get(label, {})
        rows.append((label, f"{threshold:.3f}", _share(known.get("coverage")), _share(known.get("precision"))))
    rows.append(("together", "", _share(fitted.get("coverage")), _share(fitted.get("accuracy"))))
    how = (
        "A face whose highest probability is below that label's threshold is uncertain. Fitted on the validation split "
        "after quantisation, where such answers begin to be right often enough"
        + (f" ({fitted['precision']:.0%} of the time)." if "precision" in fitted else ".")
    )
    return f"{_table(('answer', 'named from', 'of such answers named', 'right when named'), rows)}\n\n{how}"


def _accuracy(accuracy: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{accuracy[key]['count']:,}", *(_share(accuracy[key].get(figure)) for figure in _FIGURES))
        for key, name in _SPLITS.items()
        if key in accuracy
    ]
    head = ("split", "images", "float", "int8", "int8, images without a copy in Training", "same answer")
    command = accuracy.get("command", "not told")
    how = f"Measured by `{command}` with the LiteRT interpreter, one crop a face, no averaging over views."
    return f"{_table(head, rows)}\n\n{how}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
