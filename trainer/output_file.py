"""Results of minutes of work: their place is tried out beforehand, and a kill leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from edge.errors import OutputError, UsageError


def refuse_unwritable(path: Path) -> None:
    """Try out, before minutes of work, whether `write_whole` can write to `path`; makes its folder.

    Raises:
        OutputError: it cannot.
    """
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file in it")
        partial.touch()
        partial.unlink()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def refuse_overwriting(outputs: Mapping[str, Path | None], inputs: Iterable[Path]) -> None:
    """Raise UsageError where a result would be written over what it is made from, or over another result.

    Args:
        outputs: by option; None where it is not given.
        inputs: files and folders that are read.
    """
    taken = {path.resolve(): "what is read" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        if path.resolve() in taken:
            raise UsageError(f"{option} {path} would overwrite {taken[path.resolve()]}; name another file")
        taken[path.resolve()] = f"the file of {option}"


def write_whole(path: Path, content: bytes) -> None:
    """As `replace_file`, and make the file's folder.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a kill or a power cut leaves the old one or the new one, never half.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(path.name + ".part")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # what the new name stands for must not reach the disk after it
        partial.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)  # of a full disk it would keep the last of its room
        raise
