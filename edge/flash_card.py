"""SD cards and USB sticks: which there are, which may be written to, writing and reading back."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BadDataError, InputNotFoundError, OutputError, UnavailableError, UsageError

SECTOR = 512
BLOCK = 4 * 1024 * 1024
SYNC_BYTES = 16 * BLOCK
"""So often the card is waited for: the progress is the card's and not the memory's."""

BLKFLSBUF = 0x1261
BLKRRPART = 0x125F
"""From linux/fs.h: forget what memory holds of a device; read its partition table again."""

NEVER = ("/", "/boot", "/boot/efi", "/boot/firmware", "/usr", "/var", "/home")
"""What is mounted here is never written over, whatever somebody says."""

HIDDEN = ("loop", "ram", "zram", "dm-", "md", "sr", "nbd")


@dataclass(frozen=True, slots=True)
class Device:
    """A disk as the kernel tells of it.

    Attributes:
        path: such as /dev/sdb.
        size: in bytes; 0: there is no card in the reader.
        model: what it calls itself.
        removable: whether it is a card, or at a USB.
        read_only: whether it is write-protected.
        mounts: where it, or a part of it, is in use.
    """

    path: Path
    size: int
    model: str
    removable: bool
    read_only: bool
    mounts: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "path": str(self.path),
            "bytes": self.size,
            "model": self.model,
            "removable": self.removable,
            "read_only": self.read_only,
            "mounts": list(self.mounts),
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the kernel tells of devices; a test has folders of its own."""

    dev: Path = Path("/dev")
    sys: Path = Path("/sys")
    proc: Path = Path("/proc")

    def devices(self) -> list[Device]:
        """All disks that a card could be."""
        names = sorted(path.name for path in (self.sys / "block").iterdir() if not path.name.startswith(HIDDEN))
        return [device for device in map(self._device, names) if device.size]

    def device(self, path: Path) -> Device:
        """One disk by its path, or by a link to it.

        Raises:
            InputNotFoundError: there is none.
            UsageError: it is a partition, or no disk.
        """
        real = path.resolve()
        if not real.exists():
            raise InputNotFoundError(f"--card: there is no {path}; `mien-flash --list` shows the cards")
        if real.parent == self.dev.resolve() and (self.sys / "block" / real.name).is_dir():
            return self._device(real.name)
        whole = next((disk.parent for disk in (self.sys / "block").glob(f"*/{real.name}") if disk.is_dir()), None)
        if whole is not None:
            raise UsageError(f"--card: {path} is a partition; name the whole card, {self.dev / whole.name}")
        raise UsageError(f"--card: {path} is no disk; `mien-flash --list` shows the cards, and --out writes a file")

    def _device(self, name: str) -> Device:
        place = self.sys / "block" / name
        usb = "/usb" in str(place.resolve())
        card = name.startswith("mmcblk") and _text(place / "device/type") == "SD"
        model = " ".join(filter(None, (_text(place / "device" / part) for part in ("vendor", "model", "name"))))
        return Device(
            path=self.dev / name,
            size=int(_text(place / "size") or 0) * SECTOR,
            model=model,
            removable=_text(place / "removable") == "1" or usb or card,
            read_only=_text(place / "ro") == "1",
            mounts=self._mounts(name),
        )

    def _mounts(self, name: str) -> tuple[str, ...]:
        parts = self._parts(name)
        numbers = {number for place in parts.values() if (number := _text(place / "dev"))}
        found = []
        for line in _text(self.proc / "self/mountinfo").splitlines():
            fields = line.split(" ")
            source = Path(fields[fields.index("-") + 2])
            # By number, since a name such as /dev/root need not be there; by name, since btrfs has numbers of its own.
            if fields[2] in numbers or (source.is_relative_to(self.dev) and source.resolve().name in parts):
                found.append(fields[4].replace("\\040", " "))
        swaps = (Path(line.split()[0]) for line in _text(self.proc / "swaps").splitlines()[1:])
        found += ["swap" for swap in swaps if swap.resolve().name in parts]
        return (*found, *(part for part in parts if not part.startswith(name)))

    def _parts(self, name: str) -> dict[str, Path]:
        """A disk, its partitions and what lies on them (encrypted disks, RAIDs, volumes), with the kernel's folders."""
        place = self.sys / "block" / name
        parts = {name: place, **{path.name: path for path in sorted(place.glob(f"{name}*"))}}
        for path in list(parts.values()):
            for holder in sorted(path.glob("holders/*")):
                parts |= self._parts(holder.name)
        return parts


def check_device(device: Device, needed: int, *, mounted_too: bool = False, fixed_too: bool = False) -> None:
    """See that a disk may be written over.

    Args:
        device: the disk.
        needed: how many bytes it must have.
        mounted_too: somebody says that it may be mounted.
        fixed_too: somebody says that it need not be removable.

    Raises:
        UsageError: it is mounted or not removable, and nobody has said so; or the system is on it.
        OutputError: it is write-protected or too small.
        UnavailableError: there is no card in it.
    """
    what = f"{device.path} ({device.model or 'no name'}, {device.size / 1e9:.1f} GB)"
    if not device.size:
        raise UnavailableError(f"{device.path}: there is no card in this reader")
    if used := [place for place in device.mounts if place in NEVER]:
        raise UsageError(f"{what} holds this very system ({used[0]} is on it); it is never written over")
    if device.mounts and not mounted_too:
        raise UsageError(
            f"{what} is in use: {', '.join(device.mounts)}; unmount it first (umount {device.path}*), or say "
            "--mounted-too"
        )
    if not device.removable and not fixed_too:
        raise UsageError(
            f"{what} is not removable, so it may be a disk of this machine; if you are sure, say --fixed-too "
            "('mien-flash --list' shows the cards)"
        )
    if device.read_only:
        raise OutputError(f"{what} is write-protected; push the card's little switch towards its contacts")
    if device.size < needed:
        raise OutputError(f"{what} is too small: the image needs {needed} bytes, and it has {device.size}")


@contextmanager
def open_card(path: Path, *, exclusive: bool = True) -> Iterator[int]:
    """Hold a device while it is written and read back: once it is let go, a desktop mounts it, which changes it.

    Args:
        path: the device.
        exclusive: have the kernel refuse a device that is in use, and whoever wants to use it meanwhile.

    Raises:
        OutputError: it cannot be opened.
    """
    try:
        device = os.open(path, os.O_RDWR | (os.O_EXCL if exclusive else 0) | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(_gone(path, "written to", error, 0)) from None
    try:
        yield device
    finally:
        os.close(device)


def write_card(device: int, path: Path, content: Iterable[bytes], show: Callable[[int], None] = lambda _: None) -> str:
    """Write a stream to a device, or to a file in its place. Its first block is written last, so that a card that was
    pulled out midway does not look like a finished one.

    Args:
        device: see `open_card`.
        path: for messages.
        content: its new content, piece by piece.
        show: hears how many bytes are on the card.

    Returns:
        The content's length and SHA-256, as `verify_card` takes it.

    Raises:
        OutputError: it cannot be written, or has gone.
    """
    digest = hashlib.sha256()
    first = b""
    written = 0
    try:
        for block in content:
            digest.update(block)
            if not written:
                first = block
            _write(device, bytes(len(block)) if not written else block)
            if written // SYNC_BYTES != (written + len(block)) // SYNC_BYTES:
                os.fsync(device)
                show(written)
            written += len(block)
        os.fsync(device)
        os.lseek(device, 0, os.SEEK_SET)
        _write(device, first)
        os.fsync(device)
    except OSError as error:
        if isinstance(error, OutputError | InputNotFoundError):
            raise
        raise OutputError(_gone(path, "written to", error, written)) from None
    show(written)
    return f"{written}:{digest.hexdigest()}"


def verify_card(device: int, path: Path, written: str, show: Callable[[int], None] = lambda _: None) -> None:
    """Read a device again, from itself and not from memory, and compare.

    Args:
        device: see `open_card`.
        path: for messages.
        written: what `write_card` has returned.
        show: hears how many bytes have been read.

    Raises:
        BadDataError: it holds something else.
        OutputError: it cannot be read, or has gone.
    """
    length, _, expected = written.partition(":")
    left = int(length)
    digest = hashlib.sha256()
    try:
        os.lseek(device, 0, os.SEEK_SET)
        with suppress(OSError):  # a file in a device's place
            fcntl.ioctl(device, BLKFLSBUF)
        os.posix_fadvise(device, 0, 0, os.POSIX_FADV_DONTNEED)
        while left:
            block = os.read(device, min(BLOCK, left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
            show(int(length) - left)
        with suppress(OSError):
            fcntl.ioctl(device, BLKRRPART)
    except OSError as error:
        raise OutputError(_gone(path, "read back", error, int(length) - left)) from None
    if digest.hexdigest() != expected:
        raise BadDataError(
            f"{path} does not hold what was written to it; the card is worn out or a fake, or the reader is bad: "
            "take another"
        )


def _write(device: int, block: bytes) -> None:
    view = memoryview(block)
    while view:
        view = view[os.write(device, view) :]


def _gone(path: Path, what: str, error: OSError, done: int) -> str:
    why = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"{path} cannot be {what}: {why}; run it with sudo, or join the group that owns it (ls -l {path})"
    if error.errno == errno.EBUSY:
        return f"{path} is in use by something else (lsblk {path} shows by what); unmount it, and run it again"
    return (
        f"{path} cannot be {what} any more, after {done // 10**6} MB: {why}; was the card pulled out, or is it broken? "
        "It is not usable as it is: run it again"
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
