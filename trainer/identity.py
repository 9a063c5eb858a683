"""What a run is known by again: its files and images by their content, since paths differ from machine to machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.datasets import Split


def file_identity(name: str) -> str:
    """`sha256:` and the digest of the file of that name; where there is none, the name (`imagenet`, `none`) itself."""
    path = Path(name)
    if not path.is_file():
        return name
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def data_identity(splits: Sequence[Split]) -> str:
    """`sha256:` and the digest of all images and labels, in their order."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(np.ascontiguousarray(split.images).data)
        digest.update(np.ascontiguousarray(split.labels).data)
    return f"sha256:{digest.hexdigest()}"
