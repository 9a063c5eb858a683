"""Keeps what was read from a slow source, so that it is parsed once."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trainer.readers import Raw

_VERSION = 2


def cached(source: Path, size: int, read: Callable[[], Raw]) -> Raw:
    """What `read` gives, from the user's cache folder where `source` has not changed since.

    Args:
        source: a file or folder.
        size: side of the images in pixels.
        read: reads the source.
    """
    stamp = _stamp(source)
    key = hashlib.sha256(f"{_VERSION}\0{source.resolve()}\0{size}".encode()).hexdigest()[:24]
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
        partial = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
        np.savez(partial, stamp=np.array(stamp), names=np.array(names), images=images, labels=labels, usage=usage)
        partial.replace(path)
    except OSError as error:
        print(f"note: {path.parent}: nothing cached ({error.strerror})", file=sys.stderr)
    return names, images, labels, usage


def _stamp(source: Path) -> str:
    """Changes when the file, or a file below the folder, is added, removed or changed."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        stat = path.stat()
        digest.update(f"{path.relative_to(source)}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
