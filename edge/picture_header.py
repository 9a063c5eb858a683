"""Reads a picture file's head without decoding it: kind, size in pixels, and whether the file is all there.

A few kilobytes on disk can claim billions of pixels, so the claim is read before a decoder gets the file. And some
decoders hand out a half-grey picture for half a file, so its end is looked for too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

KINDS = "JPEG, PNG, WebP, BMP or TIFF"

# JPEG: a marker in compressed data is FF and anything but a stuffed zero, a restart marker or fill.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9

_TIFF_INTEGERS = {3: "H", 4: "I"}
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_TILE_WIDTH, _TIFF_TILE_HEIGHT = 256, 257, 322, 323
_TIFF_OFFSETS, _TIFF_LENGTHS = (273, 324), (279, 325)


@dataclass(frozen=True, slots=True)
class PictureHeader:
    """What a file says of itself.

    Attributes:
        kind: such as "PNG".
        width: pixels, as stored (before any EXIF rotation).
        height: pixels, as stored.
        whole: False where the file ends before the picture does.
    """

    kind: str
    width: int
    height: int
    whole: bool


def read_header(data: bytes) -> PictureHeader | None:
    """Look at a whole file's bytes.

    Returns:
        None where they are no JPEG, PNG, WebP, BMP or TIFF, or end before the size is told.
    """
    for magic, parse in _PARSERS:
        if re.match(magic, data, re.DOTALL):
            try:
                return parse(data)
            except (struct.error, IndexError):
                return None
    return None


def _jpeg(data: bytes) -> PictureHeader | None:
    width = height = 0
    whole = False
    for marker, start in _jpeg_segments(data):
        if marker in _JPEG_SIZES:
            # A later, larger size would be the one decoded.
            found = struct.unpack_from(">HH", data, start + 3)
            height, width = max(height, found[0]), max(width, found[1])
        elif marker == _JPEG_END:
            whole = True
            break
    return PictureHeader("JPEG", width, height, whole) if width and height else None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Every marker with the place of its segment, compressed data skipped; stops where the file does."""
    position = 0
    while position + 1 < len(data):
        if data[position] != 0xFF:
            return
        marker = data[position + 1]
        position += 1 if marker == 0xFF else 2
        if marker == 0xFF or marker in _JPEG_ALONE:
            continue
        yield marker, position
        if marker == _JPEG_END or position + 2 > len(data):
            return
        position += int.from_bytes(data[position : position + 2], "big")
        if marker == _JPEG_SCAN:
            following = _JPEG_MARKER.search(data, position)
            if following is None:
                return
            position = following.start()


def _png(data: bytes) -> PictureHeader:
    width, height = struct.unpack_from(">II", data, 16)
    position = 8
    whole = False
    while position + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if name == b"IEND":
            whole = position <= len(data)
            break
    return PictureHeader("PNG", width, height, whole)


def _webp(data: bytes) -> PictureHeader | None:
    whole = len(data) >= 8 + struct.unpack_from("<I", data, 4)[0]
    name = data[12:16]
    if name == b"VP8X":
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
    elif name == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif name == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        return None
    return PictureHeader("WebP", width, height, whole)


def _bmp(data: bytes) -> PictureHeader:
    pixels_at, head = struct.unpack_from("<II", data, 10)
    if head == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    row = (abs(width) * bits + 31) // 32 * 4
    whole = compression != 0 or len(data) >= pixels_at + row * abs(height)
    return PictureHeader("BMP", abs(width), abs(height), whole)


def _tiff(data: bytes) -> PictureHeader | None:
    order = "<" if data[:2] == b"II" else ">"
    first = struct.unpack_from(order + "I", data, 4)[0]
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(first + 2, first + 2 + 12 * struct.unpack_from(order + "H", data, first)[0], 12):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if kind in _TIFF_INTEGERS:
            tags[tag] = _tiff_values(data, order, at, _TIFF_INTEGERS[kind], count)
    if not tags.get(_TIFF_WIDTH) or not tags.get(_TIFF_HEIGHT):
        return None
    # A decoder takes memory for a whole tile, however small the picture is.
    width = max(tags[_TIFF_WIDTH] + tags.get(_TIFF_TILE_WIDTH, ()))
    height = max(tags[_TIFF_HEIGHT] + tags.get(_TIFF_TILE_HEIGHT, ()))
    ends = [
        offset + length
        for where, size in zip(_TIFF_OFFSETS, _TIFF_LENGTHS, strict=True)
        for offset, length in zip(tags.get(where, ()), tags.get(size, ()), strict=False)
    ]
    return PictureHeader("TIFF", width, height, max(ends, default=0) <= len(data))


def _tiff_values(data: bytes, order: str, entry: int, code: str, count: int) -> tuple[int, ...]:
    size = struct.calcsize(order + code)
    at = entry + 8 if count * size <= 4 else struct.unpack_from(order + "I", data, entry + 8)[0]
    if at + count * size > len(data):  # before asking for a format string of billions
        raise struct.error("a tag reaches over the end of the file")
    return struct.unpack_from(f"{order}{count}{code}", data, at)


_PARSERS = (
    (rb"\xff\xd8\xff", _jpeg),
    (rb"\x89PNG\r\n\x1a\n....IHDR", _png),
    (rb"RIFF....WEBP", _webp),
    (rb"BM", _bmp),
    (rb"II\*\0|MM\0\*", _tiff),
)
