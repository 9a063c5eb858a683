"""Debian's files for the virtual Pi, in a folder that is made once."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edge.errors import UnavailableError

RELEASE = "trixie"

PACKAGES = (
    "ca-certificates", "cloud-init", "dbus", "e2fsprogs", "initramfs-tools", "iproute2", "kmod", "linux-image-arm64",
    "opencv-data", "procps", "python3-libcamera", "python3-numpy", "python3-opencv", "python3-venv", "sudo", "systemd",
    "systemd-sysv", "systemd-timesyncd", "udev", "zstd",
    # What picamera2 asks for.
    "python3-av", "python3-jsonschema", "python3-libarchive-c", "python3-piexif", "python3-pil", "python3-prctl",
    "python3-tqdm",
)  # fmt: skip
"""What Mien's package depends on, a kernel, systemd, and what picamera2 and a first boot need."""

LEFT_OUT = (
    "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/man/*", "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*", "/usr/lib/modules/*/kernel/drivers/net/ethernet/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*", "/usr/lib/modules/*/kernel/sound/*",
    # What it does for every package in a process of its own is done at once in the end (guest/install.sh).
    "/usr/bin/py3compile",
)  # fmt: skip
"""Drivers for hardware that QEMU's machine has not and such: the image is copied for every scenario."""

SETTINGS = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d" "$1/usr/share/initramfs-tools/modules.d"; '
    'echo MODULES=list >"$1/etc/initramfs-tools/conf.d/mien"; '
    r'printf "virtio_pci\nvirtio_mmio\nvirtio_blk\next4\n" >"$1/usr/share/initramfs-tools/modules.d/mien"'
)
"""An initrd with what finds the disk, and nothing else to unpack."""

UNPACK = Path(__file__).with_name("unpack.sh")

TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "unshare": "util-linux",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "qemu-system-aarch64": "qemu-system-arm",
    "mosquitto": "mosquitto",
}
"""Program -> Debian's package."""

BINFMT = Path("/proc/sys/fs/binfmt_misc")
HANDLER = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def cache() -> Path:
    """The folder that keeps what takes long to make."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"


def find_tools() -> None:
    """See to it that all that is needed here is here.

    Raises:
        UnavailableError: what is missing, and how to get it.
    """
    if os.geteuid():
        raise UnavailableError("the virtual Pi's image is made with root's rights, to mount and to chroot; try: sudo")
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        packages = " ".join(sorted({TOOLS[tool] for tool in missing}))
        raise UnavailableError(f"{' and '.join(missing)} not found; try: sudo apt install {packages}")
    if make(["dpkg", "--print-architecture"]).strip() == "arm64":
        return
    if not HANDLER.exists():
        raise UnavailableError("QEMU's user mode is not installed; try: sudo apt install qemu-user-static")
    try:
        if not (BINFMT / "register").exists():
            make(["mount", "binfmt_misc", "-t", "binfmt_misc", BINFMT])
        if not (BINFMT / "qemu-aarch64").exists():
            (BINFMT / "register").write_text(HANDLER.read_text(encoding="ascii"), encoding="ascii")
    except OSError as error:
        raise UnavailableError(
            f"the kernel does not run arm64 programs here: {error}; try: sudo systemctl restart systemd-binfmt"
        ) from None


def open_base() -> Path:
    """The folder of Debian's files; made anew where the list of packages has changed, which takes a quarter of an hour.

    Raises:
        UnavailableError: a tool is missing, or Debian's archive did not give what was asked for.
    """
    find_tools()
    place = cache() / f"virtual-pi-{digest(RELEASE, PACKAGES, LEFT_OUT, SETTINGS, UNPACK.read_bytes())}"
    if not place.is_dir():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(parents=True)
        part.chmod(0o755)
        print(f"building {place}, which takes a quarter of an hour", file=sys.stderr, flush=True)
        hooks = [f"--essential-hook={SETTINGS}", f"--customize-hook={UNPACK}"]
        make(
            ["mmdebstrap", "--arch=arm64", "--variant=apt", "--dpkgopt=force-unsafe-io", *hooks, RELEASE, part],
            WANTED=" ".join(PACKAGES),
            LEFT_OUT=" ".join(LEFT_OUT),
        )
        part.rename(place)
    return place


def digest(*parts: object) -> str:
    """A short name for what something was made from."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def make(command: Sequence[str | Path], **environment: str) -> str:
    """Run a program to its end and return what it said.

    Raises:
        UnavailableError: it did not end with 0.
    """
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"PATH": PATH} | environment
    )
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).splitlines()[-15:])
        raise UnavailableError(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")
    return done.stdout
