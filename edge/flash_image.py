"""Images of systems as they are downloaded: plain, or packed by xz, gzip or zip, always as one stream of bytes."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from edge.errors import BadDataError, InputNotFoundError, MienError, OutputError
from edge.flash_boot import SECTOR, Image, find_boot

BLOCK = 4 * 1024 * 1024
SHORT = (EOFError, lzma.LZMAError, zlib.error, zipfile.BadZipFile, gzip.BadGzipFile)
STRANGE = (NotImplementedError, RuntimeError)
"""What zipfile raises where an archive is encrypted, or packed by a method that it does not know."""


@contextmanager
def open_image(path: Path) -> Iterator[IO[bytes]]:
    """The image's bytes, unpacked while they are read, by what the file begins with and not by its name.

    Raises:
        InputNotFoundError: it cannot be read.
        BadDataError: it is damaged or cut short; also while it is read, through `blocks`.
    """
    try:
        with path.open("rb") as raw:
            magic = raw.read(6)
            raw.seek(0)
            if magic == b"\xfd7zXZ\0":
                with lzma.open(raw) as file:
                    yield file
            elif magic[:2] == b"\x1f\x8b":
                with gzip.open(raw) as file:
                    yield io.BufferedReader(file)
            elif magic[:4] == b"PK\x03\x04":
                with zipfile.ZipFile(raw) as archive:
                    names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
                    images = [name for name in names if name.lower().endswith(".img")]
                    if len(images) != 1:
                        raise BadDataError(f"{path} holds {len(images)} images; expected one file that ends in .img")
                    try:
                        packed = archive.open(images[0])
                    except STRANGE as error:
                        raise BadDataError(f"{path} cannot be unpacked ({error}); unpack it yourself first") from None
                    with packed:
                        yield packed
            else:
                yield raw
    except OSError as error:
        # gzip's own error of damage is an OSError too.
        if isinstance(error, gzip.BadGzipFile):
            raise BadDataError(_damaged(path)) from None
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise InputNotFoundError(f"the image {path} cannot be read: {error.strerror}") from None
        raise
    except SHORT:
        raise BadDataError(_damaged(path)) from None


def blocks(path: Path) -> Iterator[bytes]:
    """The image piece by piece; its partition table is looked at first and its length at the end.

    Raises:
        InputNotFoundError, BadDataError: it cannot be read, is damaged, cut short, or no image of Raspberry Pi OS.
    """
    seen = 0
    image: Image | None = None
    with open_image(path) as file:
        while block := file.read(BLOCK):
            if image is None:
                image = find_boot(block[:SECTOR], str(path))
                if not image.offset:
                    raise BadDataError(f"{path} is a boot partition alone; expected a whole image of Raspberry Pi OS")
            seen += len(block)
            yield block
    if image is None or seen < image.needed_bytes:
        needed = image.needed_bytes if image else SECTOR
        raise BadDataError(f"{path} is cut short: it has {seen} bytes, and its partitions end at {needed}")


def take_head(path: Path, head: Path) -> Image:
    """Copy an image up to the end of its boot partition, where that can be prepared and then take the place.

    Raises:
        InputNotFoundError, BadDataError: see `blocks`.
        OutputError: there is no room for the copy.
    """
    image: Image | None = None
    try:
        with head.open("wb") as file:
            for block in blocks(path):
                image = image or find_boot(block[:SECTOR], str(path))
                file.write(block[: image.boot_end - file.tell()])
                if file.tell() >= image.boot_end:
                    break
    except OSError as error:
        if isinstance(error, MienError):
            raise
        raise OutputError(f"{head.parent} has no room for a copy of the boot partition: {error.strerror}") from None
    if image is None:
        raise BadDataError(_damaged(path))
    return image


def with_head(path: Path, head: Path, end: int) -> Iterator[bytes]:
    """The image with another beginning.

    Args:
        path: the image.
        head: the file with its beginning.
        end: where the last partition ends; what comes after it, as in the copy of a larger card, is left out.
    """
    with head.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
        skip = file.tell()
    at = 0
    for block in blocks(path):
        if part := block[max(0, skip - at) : max(0, end - at)]:
            yield part
        at += len(block)


def check_whole(path: Path, show: Callable[[str, int, int], None] = lambda *_: None) -> None:
    """Read an image to its end, so that one that is cut short is known before a card is written over.

    Args:
        path: the image.
        show: hears what is done, of how many bytes (0: not known), and how many are done.

    Raises:
        InputNotFoundError, BadDataError: see `blocks`.
    """
    done = 0
    for block in blocks(path):
        done += len(block)
        show("checking the image", 0, done)


def check_sha256(path: Path, expected: str) -> None:
    """Compare the file as it is, or what is packed in it, with a SHA-256: downloads state one or the other.

    Raises:
        BadDataError: neither is it.
        InputNotFoundError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            packed = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputNotFoundError(f"the image {path} cannot be read: {error.strerror}") from None
    if packed == expected.lower():
        return
    unpacked = hashlib.sha256()
    for block in blocks(path):
        unpacked.update(block)
    if unpacked.hexdigest() != expected.lower():
        raise BadDataError(f"{path} is not what --sha256 says: its SHA-256 is {packed}; download it again")


def _damaged(path: Path) -> str:
    return f"{path} is damaged or cut short: it cannot be unpacked to its end; download it again"
