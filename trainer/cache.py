"""Keeps what was read from a CSV, which is slow to parse, in a folder that nobody else may look into."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.readers import Raw

_VERSION = 3


def cached(source: Path, read: Callable[[], Raw]) -> Raw:
    """What `read` gives, from the user's cache folder where the file `source` has not changed since.

    Args:
        source: a file, told by its place, size and time.
        read: reads it.
    """
    stat = source.stat()
    stamp = f"{stat.st_size} {stat.st_mtime_ns}"
    key = hashlib.sha256(b"%d\0%s" % (_VERSION, os.fsencode(source.resolve()))).hexdigest()[:24]
    path = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / f"{key}.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["stamp"]) == stamp:
                return tuple(map(str, arrays["names"])), arrays["images"], arrays["labels"], arrays["usage"]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile):
        pass  # not there yet, or damaged: the source decides
    names, images, labels, usage = read()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)  # faces may be private, whoever made the folder
        partial = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
        try:
            with open(partial, "wb", opener=_open_private) as file:  # Path.open takes no opener
                np.savez(file, stamp=np.array(stamp), names=np.array(names), images=images, labels=labels, usage=usage)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)  # of a full disk it would keep the last of its room
    except OSError as error:
        print(f"note: {path.parent}: nothing cached ({error.strerror})", file=sys.stderr)
    return names, images, labels, usage


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
