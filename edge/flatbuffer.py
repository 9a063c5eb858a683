"""Checks that a TensorFlow Lite flatbuffer is whole before an interpreter in C++ follows its offsets.

LiteRT verifies what it is given; tflite-runtime 2.14 does not, and most cut-short files end the process with a
segmentation fault there. Every offset, vector and string that the schema names is held against the file's bounds.

Sources: the FlatBuffers binary format (https://flatbuffers.dev/internals/) and TensorFlow Lite's `schema.fbs`, whose
field numbers are repeated in `TABLES`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of every TensorFlow Lite model."""

MAX_TABLES = 1_000_000
"""FlatBuffers' own verifier stops at this number too: small files can repeat a table without end."""

# A kind is the width in bytes of a scalar ("4"), of a vector's elements ("[4]"), a vector of strings' or tables' name.
TABLES: Mapping[str, Mapping[int, str]] = {
    "Model": {0: "4", 1: "[OperatorCode]", 2: "[SubGraph]", 3: "[1]", 4: "[Buffer]", 5: "[4]", 6: "[Metadata]"}
    | {7: "[SignatureDef]"},
    "OperatorCode": {0: "1", 1: "[1]", 2: "4", 3: "4"},
    "SubGraph": {0: "[Tensor]", 1: "[4]", 2: "[4]", 3: "[Operator]", 4: "[1]"},
    "Tensor": {0: "[4]", 1: "1", 2: "4", 3: "[1]", 4: "Quantization", 5: "1", 6: "Opaque", 7: "[4]"},
    "Quantization": {0: "[4]", 1: "[4]", 2: "[4]", 3: "[8]", 4: "1", 5: "Opaque", 6: "4"},
    "Operator": {0: "4", 1: "[4]", 2: "[4]", 3: "1", 4: "Options", 5: "[1]", 6: "1", 7: "[1]", 8: "[4]"}
    | {11: "1", 12: "Opaque"},
    "Reshape": {0: "[4]"},
    "Squeeze": {0: "[4]"},
    "Buffer": {0: "[1]", 1: "8", 2: "8"},
    "Metadata": {0: "[1]", 1: "4"},
    "SignatureDef": {0: "[TensorMap]", 1: "[TensorMap]", 2: "[1]", 4: "4"},
    "TensorMap": {0: "[1]", 1: "4"},
    "Opaque": {},
}
REQUIRED = {"Model": (1, 2, 4), "SubGraph": (0, 1, 2, 3)}
OPTIONS_TYPE = 3
OPTIONS = {17: "Reshape", 30: "Squeeze"}
"""The `BuiltinOptions` of a classifier that hold more than scalars."""


class BrokenFlatbufferError(ValueError):
    """The bytes are not a whole TensorFlow Lite model."""


def check_flatbuffer(data: bytes) -> int:
    """Follow every offset of a model.

    Args:
        data: the flatbuffer; bytes after it (an appended ZIP) do no harm.

    Returns:
        How many bytes of `data` the model needs.

    Raises:
        BrokenFlatbufferError: it is something else, or something in it points outside.
    """
    if data[4:8] != IDENTIFIER:
        raise BrokenFlatbufferError(f"its bytes 4 to 8 are not {IDENTIFIER.decode()!r}")
    verifier = _Verifier(data)
    verifier.table(verifier.reference(0), "Model")
    return verifier.end


class _Verifier:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._tables = 0
        self.end = 0

    def table(self, position: int, name: str) -> None:
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise BrokenFlatbufferError(f"more than {MAX_TABLES} tables in it")
        fields = self._fields(position)
        for required in REQUIRED.get(name, ()):
            if required not in fields:
                raise BrokenFlatbufferError(f"a {name} table lacks field {required}")
        for number, kind in TABLES[name].items():
            if number not in fields:
                continue
            if kind == "Options":
                options_type = fields.get(OPTIONS_TYPE)
                kind = OPTIONS.get(self._data[options_type] if options_type else 0, "Opaque")
            self._field(fields[number], kind)

    def _fields(self, position: int) -> dict[int, int]:
        """Where each field that is present lies, by the table's vtable."""
        vtable = position - self._number("<i", position)
        size, inline = self._number("<H", vtable), self._number("<H", vtable + 2)
        self._within(vtable, size)
        self._within(position, inline)
        if size < 4 or size % 2:
            raise BrokenFlatbufferError(f"a vtable of {size} bytes at byte {vtable}")
        offsets = struct.unpack_from(f"<{size // 2 - 2}H", self._data, vtable + 4)
        if any(offset >= inline for offset in offsets):
            raise BrokenFlatbufferError(f"a field outside its table at byte {position}")
        return {number: position + offset for number, offset in enumerate(offsets) if offset}

    def _field(self, position: int, kind: str) -> None:
        if kind.isdecimal():
            self._within(position, int(kind))
        elif not kind.startswith("["):
            self.table(self.reference(position), kind)
        else:
            self._vector(self.reference(position), kind[1:-1])

    def _vector(self, position: int, kind: str) -> None:
        count, first = self._number("<I", position), position + 4
        self._within(first, count * (int(kind) if kind.isdecimal() else 4))
        if not kind.isdecimal():
            for place in range(first, first + count * 4, 4):
                self.table(self.reference(place), kind)

    def reference(self, position: int) -> int:
        return position + self._number("<I", position)

    def _number(self, form: str, position: int) -> int:
        self._within(position, struct.calcsize(form))
        return int(struct.unpack_from(form, self._data, position)[0])

    def _within(self, position: int, size: int) -> None:
        if position < 0:
            raise BrokenFlatbufferError("it points before its start")
        if position + size > len(self._data):
            raise BrokenFlatbufferError(f"it needs byte {position + size:,} and has {len(self._data):,}")
        self.end = max(self.end, position + size)
