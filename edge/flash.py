"""Preparing cards: from settings and an image to a boot folder, an image's file or a card."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge.errors import MienError, OutputError, UsageError
from edge.flash_boot import Boot, FatBoot, check_room, has_cloud_init, open_boot, prepare, system_of
from edge.flash_card import Machine, check_device, open_card, verify_card, write_card
from edge.flash_firstboot import BOOKWORM, KIT, TRIXIE, boot_files, edit_cmdline, masked
from edge.flash_image import check_whole, take_head, with_head
from edge.flash_kit import kit_files
from edge.flash_settings import Card

IDENTITY_BYTES = 6

LITE = (
    "a Lite image has no picamera2, which the Pi's camera needs and Debian has not: the first boot fetches it where "
    "there is a network; for a Pi without one take the image with the desktop"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What all cards of a run have in common.

    Attributes:
        mien: what is installed, see `kit_files`.
        packages: Debian's packages, or None.
        release: what somebody says of the system; empty: it is looked at.
        dry_run: say what would be written, and write nothing.
        is_whole: whether the image is known to be whole.
        show: hears what is done, of how many bytes, and how many are done.
    """

    mien: Path
    packages: Path | None = None
    release: str = ""
    dry_run: bool = False
    is_whole: bool = False
    show: Callable[[str, int, int], None] = lambda what, total, done: None


class Preparer:
    """Prepares one card after the other; what was read and checked once is not again."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._kits: dict[str, dict[str, Path]] = {}
        self._is_whole = job.is_whole

    def prepare(self, boot: Boot, card: Card) -> dict[str, object]:
        """Make a boot partition a card's, or, in a dry run, see that it could be. What was done, for a person."""
        release = system_of(boot, self._job.release)
        kit = self._kits.get(release)
        if kit is None:
            kit = self._kits[release] = kit_files(self._job.mien, self._job.packages, release)
        identity = secrets.token_hex(IDENTITY_BYTES)
        way = TRIXIE if has_cloud_init(boot) else BOOKWORM
        files = boot_files(card, way, identity)
        done: dict[str, object] = {"hostname": card.hostname, "release": release}
        if self._job.packages and _lacks_picamera2(boot, card):
            done["note"] = LITE
        if self._job.dry_run:
            check_room(boot, files, kit)
            shown = {name: masked(name, content, card) for name, content in sorted(files.items())}
            cmdline = (boot.read("cmdline.txt") or b"").decode("utf-8", "replace")
            shown["cmdline.txt"] = edit_cmdline(cmdline, card, way, identity)
            return done | {"files": shown, "copied": _sizes(kit)}
        prepare(boot, card, way, identity, files, kit)
        return done

    def prepare_place(self, path: Path, card: Card) -> dict[str, object]:
        """Prepare a boot partition where it is."""
        return self.prepare(open_boot(path), card) | {"written": str(path)}

    def prepare_folder(self, source: Path, target: Path, card: Card) -> dict[str, object]:
        """Copy a boot partition's folder and prepare the copy; there is none, or a whole one."""
        _check_target(source, target)
        if self._job.dry_run:
            return self.prepare(open_boot(source), card) | {"written": str(target)}
        part = _part(target)
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
            target.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir(mode=0o700)  # it has secrets in it
            shutil.copytree(source, part, dirs_exist_ok=True)
            part.chmod(0o700)
            done = self.prepare(open_boot(part), card)
            if target.exists():
                shutil.rmtree(target)
            part.rename(target)
        except OSError as error:
            raise _refused(target, error) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return done | {"written": str(target)}

    def prepare_image(self, image: Path, target: Path, card: Card) -> dict[str, object]:
        """Write a prepared copy of an image to a file; there is none, or a whole one."""
        _check_target(image, target)
        with self._prepared(image, card) as (head, done, total):
            if not self._job.dry_run:
                part = _part(target)
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    part.unlink(missing_ok=True)
                    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                        for block in with_head(image, head, total):
                            file.write(block)
                            self._job.show("writing", total, file.tell())
                        file.flush()
                        os.fsync(file.fileno())
                    part.replace(target)
                except OSError as error:
                    raise _refused(target, error) from None
                finally:
                    with suppress(OSError):
                        part.unlink(missing_ok=True)
        return done | {"written": str(target)}

    def write_card(
        self, image: Path, device: Path, card: Card, machine: Machine, *, mounted_too: bool, fixed_too: bool
    ) -> dict[str, object]:
        """Write a prepared image to a card and read it back. The card is looked at first, and again before writing; an
        image that is cut short costs nobody what is on his card.
        """
        options = {"mounted_too": mounted_too, "fixed_too": fixed_too}
        check_device(machine.device(device), 0, **options)
        if not self._is_whole:
            check_whole(image, self._job.show)
            self._is_whole = True
        with self._prepared(image, card) as (head, done, total):
            chosen = machine.device(device)
            check_device(chosen, total, **options)
            if not self._job.dry_run:
                with open_card(chosen.path, exclusive=not mounted_too) as opened:
                    written = write_card(
                        opened,
                        chosen.path,
                        with_head(image, head, total),
                        lambda count: self._job.show("writing", total, count),
                    )
                    verify_card(
                        opened, chosen.path, written, lambda count: self._job.show("reading back", total, count)
                    )
                done |= {"sha256": written.partition(":")[2]}
        return done | {"written": str(device)}

    @contextmanager
    def _prepared(self, image: Path, card: Card) -> Iterator[tuple[Path, dict[str, object], int]]:
        """The image's beginning with its boot partition prepared: all that can be wrong is found before a card is
        touched.
        """
        with tempfile.TemporaryDirectory(prefix="mien-flash-", dir=_work_folder()) as folder:
            head = Path(folder) / "head.img"
            found = take_head(image, head)
            boot = FatBoot(head, found.offset)
            boot.place = str(image)
            yield head, self.prepare(boot, card), found.needed_bytes


def to_json(done: Mapping[str, object]) -> str:
    """One line for one card."""
    return json.dumps(done, ensure_ascii=False)


def _lacks_picamera2(boot: Boot, card: Card) -> bool:
    """Whether a Pi camera is to be read on a Lite image; pi-gen names the last stage in issue.txt, and Lite's is 2."""
    spec = tomllib.loads(card.config).get("source", {}).get("spec", "picamera2")
    return spec.startswith("picamera2") and b"stage2" in (boot.read("issue.txt") or b"")


def _work_folder() -> str | None:
    """Half a gigabyte is much for a /tmp in memory."""
    return None if "TMPDIR" in os.environ or not Path("/var/tmp").is_dir() else "/var/tmp"  # noqa: S108


def _check_target(source: Path, target: Path) -> None:
    """See that nothing is lost where a copy is to go.

    Raises:
        UsageError: it is the source, or in it.
        OutputError: something else is there than an earlier copy.
    """
    real = target.resolve()
    if source.resolve() in (real, *real.parents):
        raise UsageError(f"--out: {target} is what is copied, or in it; name another place")
    if not target.exists() or (target.is_dir() and source.is_dir() and not any(target.iterdir())):
        return
    if source.is_dir() != target.is_dir():
        raise OutputError(f"--out: {target} is there already, and no earlier copy; name another place")
    if not _is_prepared(target):
        raise OutputError(
            f"--out: {target} has something else in it than an earlier copy; name an empty or a new folder"
            if target.is_dir()
            else f"--out: {target} is there already, and no earlier copy; name another file, or remove it"
        )


def _is_prepared(target: Path) -> bool:
    """Whether a folder, or an image's file, is one that was prepared here."""
    try:
        return open_boot(target).read(f"{KIT}/settings/id") is not None
    except MienError:
        return False


def _part(target: Path) -> Path:
    """What a copy is called until it is whole: nobody else's files are, and a killed run's goes with the next."""
    return target.with_name(f".{target.name}.mien-flash")


def _refused(target: Path, error: OSError) -> Exception:
    if isinstance(error, MienError):
        return error
    why = error.strerror
    if isinstance(error, shutil.Error):  # of many files: each with its place and why
        why = "; ".join(f"{source}: {reason}" for source, _, reason in error.args[0])
    return OutputError(f"{target} cannot be written: {why}")


def _sizes(kit: Mapping[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in kit.items()}
