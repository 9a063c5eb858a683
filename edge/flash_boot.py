"""Boot partitions: a mounted folder, a FAT image, or the FAT partition inside a disk's image or a card, without root.

Inside images mtools reads and writes: it takes an offset and needs no mount.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from edge.errors import BadDataError, InputNotFoundError, OutputError, UnavailableError, UsageError
from edge.flash_firstboot import BOOKWORM, KIT, RELEASES, REPORT, TRIGGERS, TRIXIE, edit_cmdline, plain_cmdline
from edge.flash_settings import Card

SECTOR = 512
FAT_KINDS = {0x06, 0x0B, 0x0C, 0x0E}
"""Partition types that are FAT."""

GPT_KIND = 0xEE
MOST_BYTES = 4 * 1024**3
"""Of a boot partition, which is unpacked to a file before it is written."""

FIRST_BOOKWORM, FIRST_TRIXIE = "2023-10-10", "2025-10-01"
"""When the first images of these were made."""

SLACK_BYTES = 4 * 1024 * 1024
"""What is left free: the first boot writes there too."""

CLUSTER = 32 * 1024
"""FAT's largest common unit; each file may waste one."""


class Boot(Protocol):
    """A boot partition that files are read from and written to."""

    place: str

    def names(self) -> set[str]:
        """What lies at its top, in lower case."""

    def read(self, name: str) -> bytes | None:
        """A file's content; None: it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file; its folders are made."""

    def copy(self, name: str, source: Path) -> None:
        """The same with another file's content."""

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder, if it is there."""

    def size(self, folder: str) -> int:
        """How many bytes a folder's files have; 0: it is not there."""

    def free_bytes(self) -> int:
        """How much room there is."""

    def sync(self) -> None:
        """Have everything on the disk."""


class FolderBoot:
    """A boot partition that is mounted, or a copy of one in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.place = str(folder)

    def names(self) -> set[str]:
        """What lies at its top, in lower case."""
        try:
            return {path.name.lower() for path in self._folder.iterdir()}
        except OSError as error:
            raise InputNotFoundError(f"{self._folder} cannot be read: {error.strerror}") from None

    def read(self, name: str) -> bytes | None:
        """A file's content; None: it is not there."""
        path = self._folder / name
        try:
            return path.read_bytes() if path.is_file() else None
        except OSError as error:
            raise InputNotFoundError(f"{path} cannot be read: {error.strerror}") from None

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file: there is always the old one or the new one."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def copy(self, name: str, source: Path) -> None:
        """The same with another file's content."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, path)

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder, if it is there."""
        path = self._folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def size(self, folder: str) -> int:
        """How many bytes a folder's files have; 0: it is not there."""
        return sum(path.stat().st_size for path in (self._folder / folder).rglob("*") if path.is_file())

    def free_bytes(self) -> int:
        """How much room there is."""
        return shutil.disk_usage(self._folder).free

    def sync(self) -> None:
        """Have everything on the disk."""
        os.sync()


class FatBoot:
    """A FAT file system that begins `offset` bytes into a file or device."""

    def __init__(self, path: Path, offset: int) -> None:
        if shutil.which("mcopy") is None:
            raise UnavailableError("mtools is not installed, which writes to images; apt install mtools")
        self.place = str(path)
        self._path = path
        self._image = f"{path}@@{offset}"

    def names(self) -> set[str]:
        """What lies at its top, in lower case."""
        listed = self._run("mdir", "-b", "::/").stdout.decode("utf-8", "replace")
        return {line.removeprefix("::/").rstrip("/").lower() for line in listed.splitlines() if line}

    def read(self, name: str) -> bytes | None:
        """A file's content; None: it is not there."""
        done = self._run("mtype", f"::/{name}", may_fail=True)
        return done.stdout if done.returncode == 0 else None

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a file; its folders are made."""
        self._make_folders(name)
        self._run("mcopy", "-D", "o", "-", f"::/{name}", content=content)

    def copy(self, name: str, source: Path) -> None:
        """The same with another file's content."""
        self._make_folders(name)
        self._run("mcopy", "-D", "o", str(source.absolute()), f"::/{name}")

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder, if it is there."""
        if name.split("/")[0].lower() in self.names():
            self._run("mdeltree", f"::/{name}", may_fail=True)

    def size(self, folder: str) -> int:
        """How many bytes a folder's files have; 0: it is not there."""
        listed = self._run("mdir", "-a", "-/", f"::/{folder}", may_fail=True).stdout.decode("utf-8", "replace")
        totals = re.findall(r"files? +([0-9 ]+) bytes", listed)
        return int(totals[-1].replace(" ", "")) if totals else 0

    def free_bytes(self) -> int:
        """How much room there is."""
        listed = self._run("mdir", "::/").stdout.decode("utf-8", "replace")
        found = re.search(r"([0-9 ]+) bytes free", listed)
        return int(found[1].replace(" ", "")) if found else 0

    def sync(self) -> None:
        """Have everything on the disk."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def _make_folders(self, name: str) -> None:
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            self._run("mmd", "-D", "s", "::/" + "/".join(parts[:count]), may_fail=True)

    def _run(
        self, tool: str, *arguments: str, content: bytes | None = None, may_fail: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            [tool, "-i", self._image, *arguments],
            input=content or b"",
            capture_output=True,
            env=environment,
            check=False,
        )
        if done.returncode and not may_fail:
            why = done.stderr.decode("utf-8", "replace").strip().replace("\n", "; ")
            raise OutputError(f"{self.place}: its boot partition cannot be written or read: {why}")
        return done


class Image(NamedTuple):
    """Where the boot partition of an image begins and ends, and how long the whole must be, in bytes."""

    offset: int
    boot_end: int
    needed_bytes: int


def find_boot(head: bytes, place: str) -> Image:
    """Find the boot partition in a disk's first sector, or see that a FAT file system begins right here.

    Args:
        head: the first 512 bytes.
        place: for messages.

    Raises:
        BadDataError: there is none, so it is no Raspberry Pi OS.
    """
    if len(head) < SECTOR or head[510:512] != b"\x55\xaa":
        raise BadDataError(
            f"{place} has no partition table; expected an image of Raspberry Pi OS, or its boot partition"
        )
    if head[82:87] == b"FAT32" or head[54:57] == b"FAT":
        unit, few, many = struct.unpack_from("<H", head, 11)[0], *struct.unpack_from("<H11xI", head, 19)
        return Image(0, SECTOR, max(SECTOR, unit * (few or many)))
    entries = [struct.unpack("<B3xB3xII", head[at : at + 16]) for at in range(446, 510, 16)]
    kinds = [kind for _, kind, _, _ in entries]
    if kinds[0] not in FAT_KINDS:
        what = "a GPT" if GPT_KIND in kinds else f"a first partition of type {kinds[0]:#04x}"
        raise BadDataError(
            f"{place} has {what}, not Raspberry Pi OS's FAT boot partition; is it another system's image?"
        )
    end = max(start + length for _, kind, start, length in entries if kind)
    _, _, start, length = entries[0]
    others = [(at, at + size) for _, kind, at, size in entries[1:] if kind and size]
    if not start or not length or any(first < start + length and start < last for first, last in others):
        raise BadDataError(f"{place} has a damaged partition table: its first partition is nowhere, or in another one")
    if length * SECTOR > MOST_BYTES:
        raise BadDataError(
            f"{place} has a boot partition of {length * SECTOR / 1e9:.0f} GB; Raspberry Pi OS has half a GB"
        )
    return Image(start * SECTOR, (start + length) * SECTOR, end * SECTOR)


def mounted_at(device: Path, mounts: str) -> list[str]:
    """Where a device or its partitions are mounted, by the text of /proc/self/mounts."""
    pairs = [line.split(" ")[:2] for line in mounts.splitlines()]
    return [target.replace("\\040", " ") for source, target in pairs if source.startswith(str(device))]


def open_boot(path: Path) -> Boot:
    """A boot partition by its folder, or by the image or device that it is in.

    Raises:
        InputNotFoundError, BadDataError: there is none.
        UsageError: it is mounted: the kernel would know nothing of what is written past it.
    """
    if path.is_dir():
        return FolderBoot(path)
    if path.is_block_device() and (used := mounted_at(path.resolve(), Path("/proc/self/mounts").read_text())):
        raise UsageError(f"{path} is mounted at {used[0]}; name that folder in its place, or unmount it first")
    try:
        with path.open("rb") as file:
            head = file.read(SECTOR)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise InputNotFoundError(f"{path} cannot be read: {error.strerror}") from None
    image = find_boot(head, str(path))
    if size < image.needed_bytes:
        raise BadDataError(f"{path} is cut short: it has {size} bytes, and its partitions end at {image.needed_bytes}")
    return FatBoot(path, image.offset)


def system_of(boot: Boot, release: str = "") -> str:
    """The release of the 64-bit Raspberry Pi OS that a boot partition belongs to.

    Trixie's images bring cloud-init's `meta-data`; Bookworm's name their first start's program in cmdline.txt
    (pi-gen: stage1/00-boot-files, stage2/04-cloud-init).

    Args:
        boot: the partition.
        release: what somebody says that it is; it still has to be a 64-bit Raspberry Pi OS.

    Raises:
        BadDataError: it is another system's, or a 32-bit one's.
        UsageError: it cannot be told, and nobody has said.
    """
    names = boot.names()
    missing = {"config.txt", "cmdline.txt"} - names
    if missing or not names & {"kernel8.img", "kernel7.img", "kernel.img"}:
        lacks = " or ".join(sorted(missing)) or "kernel8.img"
        raise BadDataError(f"{boot.place} is no boot partition of Raspberry Pi OS: it has no {lacks}")
    if "kernel8.img" not in names or names & {"kernel7.img", "kernel7l.img", "kernel.img"}:
        raise BadDataError(
            f"{boot.place} is a 32-bit Raspberry Pi OS, and Mien's interpreter exists for 64-bit systems only; take "
            "the 64-bit image (a Pi 3, 4, 5 or Zero 2 can run it)"
        )
    if release:
        return release
    if has_cloud_init(boot):
        return TRIXIE
    issue = (boot.read("issue.txt") or b"").decode("utf-8", "replace")
    made = re.search(r"20\d\d-\d\d-\d\d", issue)
    if b"raspberrypi-sys-mods/firstboot" in (boot.read("cmdline.txt") or b""):
        return BOOKWORM
    if made and made[0] >= FIRST_BOOKWORM:
        return BOOKWORM if made[0] < FIRST_TRIXIE else TRIXIE
    raise UsageError(f"{boot.place}: it cannot be told which release this is; say --release {' or '.join(RELEASES)}")


def has_cloud_init(boot: Boot) -> bool:
    """Whether the image has cloud-init: its files lie there as placeholders.

    Trixie's have from November 2025 on; rpi-preseed may supersede it (rpi-imager #1659). What Bookworm does, a program
    named in cmdline.txt, systemd does on all of them.
    """
    return bool({"meta-data", "user-data"} & boot.names())


def check_room(boot: Boot, files: Mapping[str, bytes], kit: Mapping[str, Path]) -> None:
    """See that everything fits; what an earlier preparation left counts as free, since it goes.

    Raises:
        OutputError: it does not.
    """
    sizes = [len(content) for content in files.values()] + [path.stat().st_size for path in kit.values()]
    needed = sum(-(-size // CLUSTER) * CLUSTER for size in sizes) + SLACK_BYTES
    free = boot.free_bytes() + boot.size(KIT)
    if needed > free:
        raise OutputError(
            f"{boot.place}: its boot partition has {free // 10**6} MB free, and {needed // 10**6} MB are needed; leave "
            "--packages out (the Pi then needs a network at its first boot), or take an image with a larger one"
        )


def prepare(
    boot: Boot, card: Card, way: str, identity: str, files: Mapping[str, bytes], kit: Mapping[str, Path]
) -> None:
    """Write a card's files; what starts them comes last. An earlier preparation is replaced as a whole.

    Raises:
        OutputError: there is no room, or it cannot be written.
    """
    cmdline = boot.read("cmdline.txt")
    if cmdline is None:
        raise BadDataError(f"{boot.place} has no cmdline.txt any more; write the image to it again")
    text = cmdline.decode("utf-8", "replace")
    check_room(boot, files, kit)
    try:
        # Cut off from here on, it boots as if nothing had been prepared.
        if (plain := plain_cmdline(text)) != text:
            boot.write("cmdline.txt", plain.encode())
        for name in (KIT, REPORT, "firstrun.sh"):
            boot.remove(name)
        for name, source in kit.items():
            boot.copy(name, source)
        for name, content in files.items():
            if name not in TRIGGERS:
                boot.write(name, content)
        boot.sync()
        for name in TRIGGERS[:-1]:
            if name in files:
                boot.write(name, files[name])
        boot.write("cmdline.txt", edit_cmdline(text, card, way, identity).encode())
        boot.sync()
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"{boot.place} cannot be written: {error.strerror}; is it still there, and writable?"
        ) from None
