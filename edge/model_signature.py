"""Who made a model: an ed25519 signature (RFC 8032) over the whole file, beside it as `FILE.sig`.

openssl genpkey -algorithm ed25519 -out publisher.key               # once; keep it secret
openssl pkey -in publisher.key -pubout -out publisher.pem           # for every device: /etc/mien/keys/publisher.pem
openssl pkeyutl -sign -rawin -inkey publisher.key -in mine.tflite -out mine.tflite.sig
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import BadDataError, InputNotFoundError, UnavailableError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEYS = Path("/etc/mien/keys")
"""Public keys of those whose models are taken, one PEM file each."""

SUFFIX = ".sig"

MOST_BYTES = 4096
"""Of a key's or a signature's file."""

SIGNATURE_BYTES = 64

ADVICE = (
    "put the publisher's public key into /etc/mien/keys/NAME.pem, or name it with --key; or say --unsigned, and trust "
    "whoever can write to that address"
)


def find_keys(given: Sequence[Path], folder: Path = KEYS) -> list[Path]:
    """The files of the keys that are trusted: those that somebody named, else all in the folder."""
    return list(given) or sorted(folder.glob("*.pem"))


def load_keys(paths: Sequence[Path], shown: str) -> dict[Path, Ed25519PublicKey]:
    """The trusted keys by their files.

    Args:
        paths: PEM files with public keys.
        shown: what messages call the file that is to be checked.

    Raises:
        BadDataError: there is none, or one is none.
        InputNotFoundError: one cannot be read.
        UnavailableError: the package that can tell is not installed.
    """
    if not paths:
        raise BadDataError(f"{shown}: no key is known that its signature could fit; {ADVICE}")
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UnavailableError(
            "signatures cannot be checked, as the package cryptography is not installed: sudo apt install "
            "python3-cryptography where Mien is a service, else pip install 'mien[signature]'"
        ) from None
    return {path: _read_key(path) for path in paths}


def check_signature(content: bytes, signature: bytes, keys: Mapping[Path, Ed25519PublicKey], shown: str) -> Path:
    """Make sure that one of the trusted made a file.

    Args:
        content: the whole file.
        signature: its 64 bytes, or these in base64.
        keys: see `load_keys`.
        shown: what messages call the file.

    Returns:
        The file of the key that fits.

    Raises:
        BadDataError: the signature is none, or fits none of the keys.
    """
    from cryptography.exceptions import InvalidSignature

    raw = _decode(signature, shown)
    for path, key in keys.items():
        try:
            key.verify(raw, content)
        except InvalidSignature:
            continue
        return path
    raise BadDataError(
        f"{shown}: its signature fits none of {', '.join(map(str, keys))}: the file was altered, or somebody else made "
        "it; ask the publisher, and do not use it"
    )


def _decode(signature: bytes, shown: str) -> bytes:
    if len(signature) == SIGNATURE_BYTES:
        return signature
    try:
        raw = base64.b64decode(b"".join(signature.split()), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != SIGNATURE_BYTES:
        raise BadDataError(
            f"{shown}{SUFFIX}: no ed25519 signature ({len(signature)} bytes); expected 64 bytes, or these in base64"
        )
    return raw


def _read_key(path: Path) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES)
    except OSError as error:
        raise InputNotFoundError(f"the key {path} cannot be read ({error.strerror}); check --key") from None
    if b"PRIVATE KEY" in text:
        raise BadDataError(
            f"{path} is a private key, which belongs on the publisher's machine alone; "
            "make the public one: openssl pkey -in PRIVATE -pubout -out PUBLIC.pem"
        )
    if text.count(b"-----BEGIN ") > 1:
        raise BadDataError(f"{path} holds several keys, of which only the first would be used; one file for each")
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise BadDataError(f"{path} is no ed25519 public key in PEM; make one with openssl pkey -in PRIVATE -pubout")
    return key
