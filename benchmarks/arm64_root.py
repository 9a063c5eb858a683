"""An emulated 64-bit ARM computer with what `pip install mien` needs: Debian's Python, the wheels, and QEMU.

Nothing is installed in it and nothing is set up on this machine: Debian's packages and the wheels are laid out in a
folder, and QEMU's user mode runs that folder's Python on this machine's kernel.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from benchmarks.cortex_a72 import CORE, PROCESSOR, cpuinfo
from edge.errors import UnavailableError

SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = ("python3-minimal", "libpython3-stdlib", "libstdc++6", "libgcc-s1")
WHEELS = ("numpy", "opencv-python-headless", "paho-mqtt", "ai-edge-litert")
"""In the versions that are installed here, so that nothing but the processor differs."""

PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")


@dataclass(frozen=True, slots=True)
class Arm64:
    """The emulated computer.

    Attributes:
        root: Debian's files.
        wheels: the packages from PyPI.
        qemu: the emulator.
    """

    root: Path
    wheels: Path
    qemu: str

    def python(self) -> list[str]:
        """The command that runs its Python."""
        python = self.root / f"usr/bin/python{PYTHON}"
        return [self.qemu, "-cpu", PROCESSOR, "-L", str(self.root), str(python)]

    @property
    def environment(self) -> dict[str, str]:
        """What that command needs in its environment."""
        return {"PYTHONPATH": str(self.wheels), "PYTHONDONTWRITEBYTECODE": "1"}


def open_arm64() -> Arm64:
    """Lay the computer out in ~/.cache/mien, or take the one that lies there with the same packages.

    Raises:
        UnavailableError: a tool is missing here, or Debian's archive or PyPI did not give what was asked for.
    """
    qemu, mmdebstrap = _tools()
    wanted = _wanted()
    key = hashlib.sha256(repr((SUITE, PYTHON, PACKAGES, wanted, CORE)).encode()).hexdigest()[:12]
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien" / f"arm64-{key}"
    if not place.is_dir():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(parents=True)
        print(f"laying out an arm64 Debian {SUITE} with {', '.join(wanted)} in {place}", file=sys.stderr)
        _make(
            [mmdebstrap, "--arch=arm64", "--variant=extract", f"--include={','.join(PACKAGES)}", SUITE, part / "root"]
        )
        _make(_pip(wanted, part / "wheels"))
        # LiteRT falls over the x86 text that older QEMUs let it read here.
        cores = part / "root/proc/cpuinfo"
        cores.parent.mkdir(exist_ok=True)
        cores.write_text(cpuinfo(), encoding="ascii")
        part.rename(place)
    return Arm64(place / "root", place / "wheels", qemu)


def _tools() -> tuple[str, str]:
    qemu = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    mmdebstrap = shutil.which("mmdebstrap")
    if qemu is None or mmdebstrap is None:
        missing = " and ".join(
            name for name, found in (("qemu-aarch64", qemu), ("mmdebstrap", mmdebstrap)) if found is None
        )
        raise UnavailableError(f"{missing} not found; try: sudo apt install qemu-user-static mmdebstrap")
    return qemu, mmdebstrap


def _wanted() -> list[str]:
    try:
        return [f"{name}=={metadata.version(name)}" for name in WHEELS]
    except metadata.PackageNotFoundError as error:
        raise UnavailableError(
            f"{error.name} is not installed here, and both sides must run the same; try: pip install {error.name}"
        ) from None


def _pip(wanted: Sequence[str], target: Path) -> list[str | Path]:
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    python = ["--implementation=cp", f"--python-version={PYTHON}"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target"]
    return [*pip, target, *platforms, *python, *wanted]


def _make(command: Sequence[str | Path]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-5:])
        raise UnavailableError(
            f"{Path(command[0]).name} ended with {done.returncode}; look at what it said, and at the network:\n{said}"
        )
