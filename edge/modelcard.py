"""`mien.json`: what a model says of itself. Read from JSON and checked key by key, before anything believes it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from edge.errors import BadDataError
from edge.labels import check_labels
from edge.rules import Rule, real, whole

SCHEMA = "mien/model/1"

Scaling = Literal["x/127.5-1", "x/255", "x"]
SCALINGS: tuple[Scaling, ...] = ("x/127.5-1", "x/255", "x")
"""How a pixel 0..255 becomes the number that the network was trained on."""

OutputKind = Literal["logits", "probabilities"]
OUTPUT_KINDS: tuple[OutputKind, ...] = ("logits", "probabilities")

MAX_SIZE = 1024
"""Side of the largest input in pixels."""
CHANNELS = (1, 3)


def one_of(choices: Sequence[object]) -> Rule:
    """One of a few values, and of the same type (JSON's `true` is no 1)."""

    def accept(value: object) -> object:
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return value
        raise ValueError

    return Rule(f"one of {', '.join(map(str, choices))}", accept)


def matching(pattern: str, expected: str) -> Rule:
    """Text that matches a pattern as a whole."""

    def accept(value: object) -> object:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise ValueError

    return Rule(expected, accept)


NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
"""Of a model's name, which also names its file where models are installed."""

NAME = matching(NAME_PATTERN, "1 to 64 letters, digits and . _ + -")
SHA256 = matching(r"[0-9a-f]{64}", "64 hexadecimal digits")


@dataclass(frozen=True, slots=True)
class Flatbuffer:
    """The model that the card was written for: its length in bytes and its SHA-256 in hex, both without the ZIP."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SelfTest:
    """A face and what the model made of it when it was exported.

    Attributes:
        face: `uint8[size, size]` or `uint8[size, size, 3]` (B, G, R) as bytes, row by row.
        outputs: the output tensor's raw integers.
    """

    face: bytes
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A checked `mien.json`.

    Attributes:
        name: such as "mien-v1-48".
        labels: in the order of the outputs.
        size: side of the input in pixels.
        channels: 1 (grey) or 3 (R, G, B).
        margin: side of the face crop over the longer side of the face's box.
        scaling: how pixels become the network's numbers.
        output: what comes out.
        temperature: logits are divided by it before the softmax (Guo et al. 2017, "On calibration of modern neural
            networks").
        thresholds: least calibrated score to name a label, 0..1; labels without one are not in it.
        tflite: the model that this card belongs to; None where the card does not tell.
        self_test: None where the card holds none.
        content: the whole card, for those who want the provenance or the accuracy.
    """

    name: str
    labels: tuple[str, ...]
    size: int
    channels: int
    margin: float
    scaling: Scaling
    output: OutputKind
    temperature: float
    thresholds: Mapping[str, float]
    tflite: Flatbuffer | None
    self_test: SelfTest | None
    content: Mapping[str, object]


def parse_card(text: str, where: str) -> ModelCard:
    """Read and check a card.

    Args:
        text: JSON.
        where: what messages call it, such as "mien.tflite: mien.json".

    Raises:
        BadDataError: not JSON, another schema version, a key that is missing or wrong; the message names it.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BadDataError(f"{where}: not valid JSON ({error}); export the model again") from None
    if not isinstance(content, dict):
        raise BadDataError(f"{where}: not a JSON object; export the model again")
    if content.get("schema") != SCHEMA:
        raise BadDataError(
            f"{where}: schema is {content.get('schema')!r} and this Mien reads {SCHEMA!r}; "
            "upgrade Mien, or export the model again with this version"
        )
    return _Reader(where).card(content)


def provenance_of(card: Mapping[str, object]) -> dict[str, Any]:
    """What a card tells of its model's training; empty where it tells nothing that could be read."""
    told = card.get("provenance")
    return dict(told) if isinstance(told, dict) else {}


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


class _Reader:
    """Takes a card apart; every refusal names the file and the key."""

    def __init__(self, where: str) -> None:
        self._where = where

    def card(self, content: Mapping[str, object]) -> ModelCard:
        source, output = self._table(content, "input"), self._table(content, "output")
        labels = self._labels(content)
        size = self._take(source, "input.size", whole(1, MAX_SIZE))
        channels = self._take(source, "input.channels", one_of(CHANNELS))
        return ModelCard(
            name=self._take(content, "name", NAME),
            labels=labels,
            size=size,
            channels=channels,
            margin=self._take(source, "input.margin", real(0.2, 5.0), 1.0),
            scaling=self._take(source, "input.scaling", one_of(SCALINGS)),
            output=self._take(output, "output.kind", one_of(OUTPUT_KINDS)),
            temperature=self._take(output, "output.temperature", real(0.01, 100.0), 1.0),
            thresholds=self._thresholds(content, labels),
            tflite=self._flatbuffer(content) if "tflite" in content else None,
            self_test=self._self_test(content, size * size * channels, len(labels)) if "self_test" in content else None,
            content=content,
        )

    def _labels(self, content: Mapping[str, object]) -> tuple[str, ...]:
        labels = content.get("labels")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            self._refuse("labels", "a list of text", labels)
        return check_labels(labels, f"{self._where}: labels")

    def _thresholds(self, content: Mapping[str, object], labels: tuple[str, ...]) -> Mapping[str, float]:
        table = self._table(content, "thresholds") if "thresholds" in content else {}
        for label in table:
            if label not in labels:
                raise BadDataError(f"{self._where}: thresholds.{label}: no such label; there are {', '.join(labels)}")
        return {label: self._take(table, f"thresholds.{label}", real(0.0, 1.0)) for label in table}

    def _flatbuffer(self, content: Mapping[str, object]) -> Flatbuffer:
        table = self._table(content, "tflite")
        return Flatbuffer(
            bytes=self._take(table, "tflite.bytes", whole(1, 2**31)),
            sha256=self._take(table, "tflite.sha256", SHA256),
        )

    def _self_test(self, content: Mapping[str, object], pixels: int, outputs: int) -> SelfTest:
        table = self._table(content, "self_test")
        logits = table.get("logits")
        if (
            not isinstance(logits, list)
            or len(logits) != outputs
            or not all(type(value) is int and -128 <= value <= 255 for value in logits)
        ):
            self._refuse("self_test.logits", f"{outputs} whole numbers, one for each label", logits)
        face = table.get("face")
        try:
            decoded = base64.b64decode(face, validate=True) if isinstance(face, str) else b""
        except ValueError:  # no base64, or no ASCII
            decoded = b""
        if len(decoded) != pixels:
            self._refuse("self_test.face", f"{pixels} pixels in base64", face)
        return SelfTest(decoded, tuple(logits))

    def _table(self, content: Mapping[str, object], key: str) -> Mapping[str, object]:
        table = content.get(key)
        if not isinstance(table, dict):
            self._refuse(key, "an object", table)
        return table

    def _take(self, table: Mapping[str, object], key: str, rule: Rule, default: object = None) -> Any:
        """A value under the last part of a dotted key, as the rule makes it."""
        value = table.get(key.partition(".")[2] or key, default)
        try:
            return rule.accept(value)
        except ValueError:
            self._refuse(key, rule.expected, value)

    def _refuse(self, key: str, expected: str, found: object) -> NoReturn:
        shown = "nothing" if found is None else f"{found!r:.60}"
        raise BadDataError(f"{self._where}: {key}: expected {expected}, found {shown}; export the model again")
