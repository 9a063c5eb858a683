"""Where FER2013 lies on this machine: `$MIEN_FER2013`, else `../shared/data`; a file, or a folder with its unpacker."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edge.errors import InputNotFoundError
from trainer.datasets import Dataset, load_dataset
from trainer.readers import FER2013_SIZE

ROOT = Path(__file__).resolve().parents[1]


def place() -> Path:
    """The file or folder; it need not be there."""
    return Path(os.environ.get("MIEN_FER2013", ROOT.parent / "shared" / "data"))


def load(source: Path, size: int = FER2013_SIZE) -> Dataset:
    """FER2013 as it was published, not cleaned; `size` enlarges the faces.

    Raises:
        InputNotFoundError: it is not there.
    """
    if not source.exists():
        raise InputNotFoundError(f"{source}: no FER2013 here; name fer2013.csv, or set MIEN_FER2013")
    if not source.is_dir():
        return load_dataset(source, size=size)
    with tempfile.TemporaryDirectory() as folder:
        unpacked = Path(folder) / "fer2013.npz"
        subprocess.run([sys.executable, str(source / "unpack_fer2013.py"), "--npz", str(unpacked)], check=True)
        return load_dataset(unpacked, size=size, cache=False)
