"""From a file or an address to an installed model: fetched, compared, its signature checked, tried, and kept."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from edge import model_signature
from edge.errors import BadDataError, InputNotFoundError, MienError, OutputError
from edge.flatbuffer import IDENTIFIER
from edge.model_fetch import CHUNK, Fetching, beside, check_url, fetch, is_url
from edge.model_signature import ADVICE, KEYS, SUFFIX, check_signature, find_keys, load_keys
from edge.model_store import SHIPPED, entry_of, incoming, keep, path_of
from edge.model_trial import Trial, try_model
from edge.modelfile import SHIPPED as SHIPPED_FILE
from edge.modelfile import find_model, read_model_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MOST_BYTES = 64 * 1024**2
"""Of a model: it lies in memory as a whole, and the service has 400 MB."""


Progress = Callable[[int, int | None], None]
"""Is told how many bytes have come, and of how many where that is known."""


@dataclass(frozen=True, slots=True)
class Demands:
    """What is asked of a model before it is tried.

    Attributes:
        sha256: of the whole file, in hex; empty: none is demanded.
        keys: PEM files of those whose signature is taken; none: those of the folder.
        unsigned: whether one from an address is taken without a signature.
        fetching: how files are fetched.
        labels: names of the outputs, for a foreign model that holds none.
        folder: where keys lie that nobody has to name.
    """

    sha256: str = ""
    keys: Sequence[Path] = ()
    unsigned: bool = False
    fetching: Fetching = field(default_factory=Fetching)
    labels: Sequence[str] = ()
    folder: Path = KEYS


@dataclass(frozen=True, slots=True)
class Installed:
    """A model that is installed, and how it did.

    Attributes:
        entry: what it is called in the store.
        size: in bytes.
        trial: what came of its trial.
        signed_by: the key that its signature fits; None where none was checked.
    """

    entry: str
    size: int
    trial: Trial
    signed_by: Path | None


@cache
def shipped_entry() -> str:
    """What the model that comes with Mien would be called in the store.

    Raises:
        MienError: it is damaged.
    """
    file = read_model_file(SHIPPED_FILE)
    return entry_of(SHIPPED_FILE.stem if file.card is None else file.card.name, file.sha256)


def install(source: str, folder: Path, demands: Demands, *, progress: Progress = lambda *_: None) -> Installed:
    """Put a model next to the others. Which one is used is not changed.

    Args:
        source: a file's path, an address, or `small` for the small model that comes with Mien.
        folder: the models' folder.
        demands: what is asked of it.
        progress: is told how the fetching gets on.

    Raises:
        MienError: of any kind; then nothing has changed.
    """
    keys = _keys_for(source, demands)
    try:
        with incoming(folder) as (path, file):
            size = _bring(source, file, demands.fetching, progress)
            sha256 = _digest(file)
            if demands.sha256 and sha256 != demands.sha256:
                raise BadDataError(
                    f"{source}: its SHA-256 is {sha256} instead of the one demanded; it is another file, or was altered"
                )
            signed_by = None
            if keys:
                signature = _signature_of(source, demands)
                file.seek(0)
                signed_by = check_signature(file.read(), signature, keys, source)
            trial = try_model(file, _name_of(source), labels=demands.labels)
            if trial.sha256 != sha256:
                raise BadDataError(f"{source}: it was changed while it was tried; install it again")
            entry = entry_of(trial.name, sha256)
            if entry == shipped_entry():
                entry = SHIPPED
            else:
                keep(folder, path, file, entry)
    except OSError as error:
        if isinstance(error, MienError):
            raise
        advice = "make room" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "check the disk and its permissions"
        raise OutputError(f"{folder}: the model cannot be kept ({error.strerror}); {advice}") from None
    return Installed(entry, size, trial, signed_by)


def try_again(folder: Path, entry: str, labels: Sequence[str]) -> Trial:
    """Have an installed model show once more that it works here, as after an upgrade of the interpreter.

    Raises:
        InputNotFoundError: it is not there.
        BadDataError: it does not, or is damaged.
        UnavailableError: no interpreter works.
    """
    path = path_of(folder, entry)
    try:
        with path.open("rb") as file:
            trial = try_model(file, str(path), labels=labels)
    except OSError as error:
        if isinstance(error, MienError):
            raise
        raise InputNotFoundError(f"{path} cannot be read ({error.strerror}); install it again") from None
    if not entry.endswith(trial.sha256):
        raise BadDataError(f"{path}: damaged: its SHA-256 is {trial.sha256}; install it again")
    return trial


def _keys_for(source: str, demands: Demands) -> dict[Path, Ed25519PublicKey]:
    """The keys of which one must fit; none where no signature is needed. Looked for before anything is fetched."""
    if is_url(source):
        check_url(source, plain=demands.fetching.plain)
    named = bool(demands.keys)
    if demands.unsigned and not named:
        return {}
    found = find_keys(demands.keys, demands.folder)
    if not is_url(source) and not named and not (found and os.path.exists(f"{source}{SUFFIX}")):  # noqa: PTH110
        return {}
    return load_keys(found, source)


def _bring(source: str, file: BinaryIO, fetching: Fetching, progress: Progress) -> int:
    if is_url(source):

        def judge(first: bytes, kind: str) -> None:
            _judge(first, kind, source)

        return fetch(source, file, MOST_BYTES, fetching, judge=judge, progress=progress)
    return _copy(find_model(Path(source)), file)


def _judge(first: bytes, kind: str, shown: str) -> None:
    """Say at once where something else comes than a model."""
    if first[4:8] == IDENTIFIER:
        return
    if kind == "text/html" or first.lstrip()[:1] == b"<":
        raise BadDataError(
            f"{shown}: a page came, where a .tflite model was expected; take the address of the file itself (on GitHub "
            "that of the 'Raw' or 'Download' link)"
        )
    raise BadDataError(f"{shown}: what came is no .tflite model; check the address")


def _copy(source: Path, file: BinaryIO) -> int:
    try:
        handle = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe without a writer is no file
    except FileNotFoundError:
        raise InputNotFoundError(f"{source}: no such model file; check the path") from None
    except OSError as error:
        raise InputNotFoundError(f"{source}: cannot be read ({error.strerror}); check its permissions") from None
    about = os.fstat(handle)
    if not stat.S_ISREG(about.st_mode):
        os.close(handle)
        raise BadDataError(f"{source}: not a file, where a .tflite model was expected")
    with os.fdopen(handle, "rb") as given:
        done = 0
        while chunk := given.read(CHUNK):
            done += len(chunk)
            if done > MOST_BYTES:
                raise BadDataError(
                    f"{source}: its {max(about.st_size, done) / 1e6:,.1f} MB are more than the "
                    f"{MOST_BYTES / 1e6:,.1f} MB that are taken; is this the file that you meant?"
                )
            file.write(chunk)
    return done


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    return hashlib.sha256(file.read()).hexdigest()


def _signature_of(source: str, demands: Demands) -> bytes:
    most = model_signature.MOST_BYTES
    if not is_url(source):
        path = Path(f"{source}{SUFFIX}")
        try:
            with path.open("rb") as file:
                return file.read(most)
        except OSError as error:
            raise InputNotFoundError(f"the signature {path} cannot be read ({error.strerror})") from None
    out, url = io.BytesIO(), beside(source, SUFFIX)
    try:
        fetch(url, out, most, demands.fetching)
    except InputNotFoundError:
        raise InputNotFoundError(f"{source}: the server has no signature for it ({url}); {ADVICE}") from None
    return out.getvalue()


def _name_of(source: str) -> str:
    """What a foreign model is named after, and what messages call it."""
    return unquote(urlsplit(source).path.rpartition("/")[2]) or "model" if is_url(source) else source
