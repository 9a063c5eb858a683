"""A `.tflite` file's bytes: the flatbuffer, and what the ZIP appended to it says of the model.

No interpreter is needed here, and none gets to see a file before this module is content with it.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadDataError, InputNotFoundError
from edge.flatbuffer import IDENTIFIER, BrokenFlatbufferError, check_flatbuffer
from edge.labels import parse_labels
from edge.modelcard import ModelCard, parse_card

SHIPPED = Path(__file__).parent / "models" / "mien.tflite"
"""The model that comes with Mien."""
SMALL = SHIPPED.with_name("mien-small.tflite")
"""The other one, for machines on which that one takes too long."""

CARD, LABELS = "mien.json", "labels.txt"

MAX_FILE = 256 * 1024**2
"""Bytes; larger models are nothing for a Pi."""
MAX_CARD, MAX_LABELS = 1024**2, 64 * 1024
"""Bytes unpacked."""
MAX_ENTRIES = 16
MAX_DIRECTORY = 64 * 1024

# The end of a ZIP's central directory: signature, four numbers of 2 bytes, size, offset, length of the comment.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE, _ZIP = b"PK\x05\x06", b"PK"
_MAX_COMMENT = 0xFFFF
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that is whole, as far as can be told without running it.

    Attributes:
        name: the path, for messages.
        flatbuffer: what the interpreter gets, without the ZIP.
        sha256: of the whole file, in hex.
        labels: from the ZIP; None where it has none.
        card: `mien.json`; None for a foreign model.
    """

    name: str
    flatbuffer: bytes
    sha256: str
    labels: tuple[str, ...] | None
    card: ModelCard | None


def find_model(named: Path | None) -> Path:
    """The file that is meant: None is the model that comes with Mien, `small` the small one, and a path is a path."""
    if named is None:
        return SHIPPED
    return SMALL if named == Path("small") and not named.exists() else named


def read_model_file(path: Path) -> ModelFile:
    """Read and check a model file.

    Raises:
        InputNotFoundError: the file is not there or cannot be read.
        BadDataError: it is no `.tflite`, is cut short or altered, or what is appended to it is not what it should be.
    """
    try:
        if path.is_dir():
            raise BadDataError(f"{path}: a folder, where a .tflite model was expected")
        size = path.stat().st_size
        if size > MAX_FILE:
            raise BadDataError(
                f"{path}: {size / 1e6:,.0f} MB are more than the {MAX_FILE / 1e6:,.0f} of any model here"
            )
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputNotFoundError(f"{path}: no such model file; check the path") from None
    except OSError as error:
        raise InputNotFoundError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    return parse_model_file(data, str(path))


def parse_model_file(data: bytes, name: str) -> ModelFile:
    """Check a model file's bytes.

    Args:
        data: the whole file.
        name: what messages call it.

    Raises:
        BadDataError: see `read_model_file`.
    """
    if not data:
        raise BadDataError(f"{name}: the file is empty, where a .tflite model was expected")
    if data[4:8] != IDENTIFIER:
        raise BadDataError(f"{name}: not a .tflite model, or cut short in its first bytes")
    flatbuffer, texts = split(data, name)
    labels = None
    try:
        labels = None if texts.labels is None else parse_labels(texts.labels, f"{name}: {texts.labels_name}")
    except BadDataError:
        if texts.labels_name == LABELS:
            raise  # another name may be that of any text
    card = None if texts.card is None else parse_card(texts.card, f"{name}: {CARD}")
    if card is not None:
        _check_agreement(flatbuffer, labels, card, name)
        labels = card.labels
    try:
        end = check_flatbuffer(flatbuffer)
    except BrokenFlatbufferError as error:
        raise BadDataError(f"{name}: the model is cut short or damaged ({error}); copy the file again") from None
    if flatbuffer[end : end + 2] == _ZIP:
        # The end of a ZIP is what a cut takes first; its beginning is still there.
        raise BadDataError(f"{name}: cut short within what is appended to the model; copy the file again")
    return ModelFile(name, flatbuffer, hashlib.sha256(data).hexdigest(), labels, card)


def _check_agreement(flatbuffer: bytes, labels: tuple[str, ...] | None, card: ModelCard, name: str) -> None:
    if labels is not None and labels != card.labels:
        raise BadDataError(f"{name}: {LABELS} ({', '.join(labels)}) and {CARD} ({', '.join(card.labels)}) differ")
    if card.tflite is None:
        return
    if len(flatbuffer) != card.tflite.bytes:
        raise BadDataError(
            f"{name}: the model has {len(flatbuffer):,} bytes and had {card.tflite.bytes:,} when it was exported; "
            "copy the file again"
        )
    if hashlib.sha256(flatbuffer).hexdigest() != card.tflite.sha256:
        raise BadDataError(f"{name}: the model was altered after its export (its SHA-256 differs); copy the file again")


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts in the appended ZIP: None for what it does not hold."""

    labels: str | None = None
    labels_name: str = LABELS
    card: str | None = None


def split(data: bytes, name: str) -> tuple[bytes, Texts]:
    """Part a file into the flatbuffer and the texts of the ZIP appended to it.

    Args:
        data: the whole file.
        name: what messages call it.

    Returns:
        The flatbuffer's bytes (all of `data` where nothing is appended), and the texts.

    Raises:
        BadDataError: the ZIP is damaged, cut short, or holds more than it may.
    """
    end = _find_end(data)
    if end is None:
        return data, Texts()
    _, _, _, _, entries, directory, _, _ = _END.unpack_from(data, end)
    if entries > MAX_ENTRIES or directory > MAX_DIRECTORY:
        raise BadDataError(f"{name}: the ZIP appended to it lists {entries} files; at most {MAX_ENTRIES} are read")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            start = min((info.header_offset for info in infos), default=end - directory)
            if len(infos) > MAX_ENTRIES or not 0 < start <= end:
                raise BadDataError(f"{name}: the ZIP appended to it does not hold together; export the model again")
            return data[:start], _read_texts(archive, infos, name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        if isinstance(error, BadDataError):
            raise
        raise BadDataError(f"{name}: the ZIP appended to it is damaged ({error}); copy the file again") from None


def _find_end(data: bytes) -> int | None:
    """Where the end of a central directory lies: the one whose comment reaches to the file's end exactly."""
    end = len(data)
    lowest = max(0, len(data) - _END.size - _MAX_COMMENT)
    while (end := data.rfind(_END_SIGNATURE, lowest, end)) >= 0:
        if end + _END.size <= len(data) and end + _END.size + _END.unpack_from(data, end)[-1] == len(data):
            return end
    return None


def _read_texts(archive: zipfile.ZipFile, infos: Sequence[zipfile.ZipInfo], name: str) -> Texts:
    by_name = {info.filename: info for info in infos}
    if len(by_name) != len(infos):
        raise BadDataError(f"{name}: the ZIP appended to it holds one name twice; export the model again")
    card = by_name.get(CARD)
    labels = by_name.get(LABELS)
    if labels is None:
        # TFLite Model Metadata lets the label file have any name.
        texts = [info for info in infos if info.filename.lower().endswith(".txt")]
        labels = texts[0] if len(texts) == 1 else None
    return Texts(
        labels=None if labels is None else _read_text(archive, labels, MAX_LABELS, name),
        labels_name=LABELS if labels is None else labels.filename,
        card=None if card is None else _read_text(archive, card, MAX_CARD, name),
    )


def _read_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int, name: str) -> str:
    if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
        raise BadDataError(
            f"{name}: {info.filename!r} in its ZIP is neither stored nor deflated; export the model again"
        )
    swells = f"{name}: {info.filename!r} in its ZIP swells to more than {limit // 1024} KiB; it is no model of ours"
    if info.file_size > limit:
        raise BadDataError(swells)
    with archive.open(info) as file:
        # The directory's figure is only a claim.
        content = file.read(limit + 1)
    if len(content) > limit:
        raise BadDataError(swells)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadDataError(f"{name}: {info.filename!r} in its ZIP is not UTF-8 text (byte {error.start})") from None
