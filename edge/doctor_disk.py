"""The disk: room, wear, and the folders that Mien writes to."""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from edge.config import Config
from edge.doctor_finding import Finding, Subject, content, fault, first_line, ok, together, warning
from edge.starts import state_folder

FULL = 50 * 10**6
"""Bytes; with less the system itself begins to fail."""

FORGETFUL = {"overlay", "tmpfs", "ramfs"}
"""File systems that hold what is written in memory, as Raspberry Pi OS's "overlay file system" does."""

CARD_ADVICE = "the card may be failing: dmesg | grep -i -e mmc -e ext4; copy what you need and write a new card"


class Room(NamedTuple):
    """What a file system has: bytes and files that are free to ordinary users, and whether it can be written."""

    free: int
    files: int
    read_only: bool


def places(subject: Subject) -> dict[str, Path]:
    """Where Mien writes: "state", and "log" where one is configured."""
    service = subject.service
    made = service.folders if service is not None and service["StateDirectory"] else []
    state = made[0] if made else state_folder(subject.environ).absolute()
    found = {"state": subject.root / state.relative_to("/")}
    if subject.config.log.path is not None:
        log = subject.config.log.path.absolute()
        found["log"] = subject.root / log.parent.relative_to("/")
    return found


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that we may see."""
    return next(place for place in (folder, *folder.parents) if os.access(place, os.F_OK))


def check_disk(subject: Subject) -> Finding:
    """Whether there is room for what Mien may write."""
    found: dict[int, Finding] = {}
    for what, folder in places(subject).items():
        there = _existing(folder)
        device = there.stat().st_dev
        told = os.statvfs(there)
        # Some file systems count no files.
        files = told.f_favail if told.f_files else 1
        room = Room(told.f_bavail * told.f_frsize, files, bool(told.f_flag & os.ST_RDONLY))
        found.setdefault(device, judge_disk(f"{what} in {folder}", room, _wanted(subject, folder)))
    return together([*found.values(), *_forgetful(subject)])


def _forgetful(subject: Subject) -> Iterator[Finding]:
    """Whether the state lies where a boot finds nothing of it."""
    folder = places(subject)["state"]
    if (kind := file_system(subject.root, folder)) in FORGETFUL:
        yield warning(
            f"state in {folder}: lies on {kind}, of which a boot leaves nothing: event ids begin anew, a pause is over",
            "mount a partition there that keeps what is written, or turn the overlay off: sudo raspi-config",
        )


def file_system(root: Path, folder: Path) -> str:
    """The kind of file system that a folder lies on, such as `ext4`; empty where nobody tells."""
    place, kind, longest = Path("/", folder.relative_to(root)), "", -1
    for line in content(root / "proc/mounts").splitlines():
        fields = line.split()
        if len(fields) > 2 and place.is_relative_to(fields[1]) and len(fields[1]) >= longest:
            kind, longest = fields[2], len(fields[1])
    return kind


def judge_disk(what: str, room: Room, wanted: int) -> Finding:
    """What to think of a file system.

    Args:
        what: lies there, for the message.
        room: that it has.
        wanted: bytes that Mien may still write there.
    """
    if room.read_only:
        return fault(f"{what}: the file system is read-only", f"{CARD_ADVICE}; or /etc/fstab says so")
    if room.free < FULL or not room.files:
        lacks = f"only {megabytes(room.free)} are free" if room.files else "no further file fits"
        return fault(f"{what}: {lacks}", "make room: sudo du -xh / | sort -h | tail; sudo apt clean")
    found = f"{what}: {megabytes(room.free)} are free"
    if room.free < wanted + FULL:
        return warning(
            f"{found}, and Mien may write {megabytes(wanted)} more",
            "make room, or lower log.max_bytes, log.keep and mqtt.outbox_bytes",
        )
    return ok(found)


def _wanted(subject: Subject, folder: Path) -> int:
    """What log and outbox may still grow by."""
    try:
        there = sum(file.stat().st_size for file in folder.glob("*") if file.is_file())
    except OSError:
        there = 0
    return max(0, sum(limits(subject.config)) - there)


def limits(config: Config) -> tuple[int, int]:
    """Bytes that the log and the outbox take at most."""
    log = config.log.max_bytes * (config.log.keep + 1) if config.log.path is not None else 0
    return log, config.mqtt.outbox_bytes if config.mqtt.url else 0


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 10**9:.1f} GB" if size >= 10**10 else f"{size / 10**6:,.0f} MB"


def check_wear(subject: Subject) -> Finding:
    """What is written to an SD card that need not be."""
    log, outbox = limits(subject.config)
    caps = {"log": log, "outbox": outbox}
    capped = " and ".join(
        f"the {name} stays below {megabytes(cap)}" if cap else f"no {name}" for name, cap in caps.items()
    )
    device = system_device(subject.root)
    if not is_card(subject.root, device):
        return ok(f"the system is not on an SD card ({device or 'nobody knows on what'}); {capped}")
    worn = [*_swaps(subject.root), *_journal(subject.root)]
    return together([*worn, ok(f"the system is on an SD card ({device}); {capped}")])


def system_device(root: Path) -> str:
    """What the root file system lies on, such as `/dev/mmcblk0p2`; empty where nobody tells."""
    mounts = [line.split() for line in content(root / "proc/mounts").splitlines()]
    return next((fields[0] for fields in reversed(mounts) if len(fields) > 1 and fields[1] == "/"), "")


def is_card(root: Path, device: str) -> bool:
    """Whether a device is an SD card: eMMC has such names too, and wears less."""
    if device == "/dev/root":  # some kernels call it so
        device = next((f"/dev/{path.name}" for path in sorted(root.glob("sys/block/mmcblk?"))), device)
    name = Path(device).name
    return name.startswith("mmcblk") and first_line(root / "sys/block" / name[:7] / "device/type") != "MMC"


def _swaps(root: Path) -> Iterator[Finding]:
    for line in content(root / "proc/swaps").splitlines()[1:]:
        place = line.partition(" ")[0].partition("\t")[0]
        if not place or place.startswith("/dev/zram"):
            continue
        by_dphys = (root / "sbin/dphys-swapfile").exists() and place == "/var/swap"
        yield warning(
            f"swap is on the card ({place})",
            "sudo systemctl disable --now dphys-swapfile"
            if by_dphys
            else f"sudo swapoff {place}, and take it out of /etc/fstab; zram (apt: zram-tools) needs no card",
        )


def _journal(root: Path) -> Iterator[Finding]:
    storage = journal_storage(root)
    if storage == "persistent" or (storage == "auto" and (root / "var/log/journal").is_dir()):
        yield warning(
            f"systemd's journal is written to the card (Storage={storage})",
            "write two lines, [Journal] and Storage=volatile, to /etc/systemd/journald.conf.d/volatile.conf, then: "
            "sudo systemctl restart systemd-journald",
        )


def journal_storage(root: Path) -> str:
    """`Storage=` as systemd's journal has it: later files win, those in /etc over those of one name in /usr."""
    files = {"": root / "etc/systemd/journald.conf"}
    for folder in ("usr/lib", "run", "etc"):
        files |= {path.name: path for path in (root / folder / "systemd/journald.conf.d").glob("*.conf")}
    storage = "auto"
    for name in sorted(files):
        parser = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
        try:
            parser.read_string(content(files[name]))
        except configparser.Error:
            continue
        storage = parser.get("Journal", "Storage", fallback=storage) or storage
    return storage.lower()


def check_folders(subject: Subject) -> Finding:
    """Whether the user that runs Mien may write where it has to."""
    return together([_folder(what, folder, subject) for what, folder in places(subject).items()])


def _folder(what: str, folder: Path, subject: Subject) -> Finding:
    service, named = subject.service, Path("/", folder.relative_to(subject.root))
    if service is not None and not service.may_write(named):
        allowed = ", ".join(map(str, service.folders)) or "nothing"
        return fault(
            f"{what} in {named}: systemd lets the service write to {allowed} alone",
            "choose a path there, or allow this one: sudo systemctl edit mien, [Service], ReadWritePaths=…",
        )
    if service is not None and named in service.folders and not os.access(folder, os.F_OK):
        return ok(f"{what} in {named}: systemd makes it")
    runner, there, missing = subject.runner, _existing(folder), False
    log = folder / subject.config.log.path.name if what == "log" and subject.config.log.path else None
    try:
        try:
            folder.stat()
        except FileNotFoundError:
            missing = True
        may = there.is_dir() and runner.may(there, os.W_OK | os.X_OK)
        may_log = log is None or missing or not log.exists() or runner.may(log, os.W_OK)
    except PermissionError:
        return warning(f"{what} in {folder}: may not be looked at from here", "run it again: sudo mien doctor")
    if may and may_log:
        return ok(f"{what} in {folder}{' (not made yet)' if missing else ''}: {runner.name} may write")
    place = log if may and log is not None else folder
    made = f"sudo mkdir -p {folder} && " if missing else ""
    return fault(f"{what} in {place}: {runner.name} may not write there", f"{made}sudo chown -R {runner.name} {folder}")
