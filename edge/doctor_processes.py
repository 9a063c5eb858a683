"""Who runs here, and who holds a camera."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

from edge.doctor_finding import content, first_line


def find_daemons(root: Path) -> list[int]:
    """The processes that are `mien run`."""
    return [pid for pid in _processes(root) if is_daemon(root, pid)]


def is_daemon(root: Path, pid: int) -> bool:
    """Whether a process is `mien run`."""
    words = content(root / f"proc/{pid}/cmdline").split("\0")
    return any(Path(program).name == "mien" and verb == "run" for program, verb in pairwise(words))


def find_holders(root: Path, devices: Collection[str]) -> dict[int, str]:
    """Who has one of the devices open, as far as we may see: names by process number."""
    return {
        pid: first_line(root / f"proc/{pid}/comm") or "?"
        for pid in _processes(root)
        if any(link in devices for link in _open_files(root / f"proc/{pid}/fd"))
    }


def _processes(root: Path) -> list[int]:
    return sorted(int(path.name) for path in (root / "proc").glob("[0-9]*") if path.name.isdecimal())


def _open_files(folder: Path) -> set[str]:
    found = set()
    try:
        for link in folder.iterdir():
            found.add(str(link.readlink()))
    except OSError:  # not ours, or it has just ended
        pass
    return found
