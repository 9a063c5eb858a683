"""What is installed at the first boot: Mien itself and Debian's packages that it needs, both made beforehand."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from edge.errors import BadDataError, InputNotFoundError, UsageError
from edge.flash_firstboot import KIT

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]*")
"""A file's name that FAT, a URI and a shell all take as it is."""

AR_MAGIC = b"!<arch>\n"


def kit_files(mien: Path, packages: Path | None, release: str) -> dict[str, Path]:
    """Files to copy, by their names on the boot partition.

    Args:
        mien: `dist/mien_VERSION_arm64.deb`, which `make deb` makes, or the folder `dist/wheelhouse`.
        packages: what `make packages` fills; None: the Pi fetches Debian's packages itself.
        release: for which system.

    Raises:
        InputNotFoundError: there is no such file or folder.
        BadDataError: it is something else, is for another processor or release, or has changed since it was made.
    """
    files = dict(_packages(packages, release)) if packages else {}
    if mien.is_dir():
        return files | dict(_wheelhouse(mien, release))
    return files | {f"{KIT}/{_deb(mien).name}": mien}


def _deb(path: Path) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(len(AR_MAGIC))
    except OSError as error:
        raise InputNotFoundError(f"--mien: {path} cannot be read: {error.strerror}; `make deb` makes it") from None
    if magic != AR_MAGIC or not re.fullmatch(r"mien_[0-9A-Za-z.+~]+_[a-z0-9]+\.deb", path.name):
        raise BadDataError(f"--mien: {path} is no package of Mien; expected dist/mien_VERSION_arm64.deb (make deb)")
    if not path.name.endswith("_arm64.deb"):
        raise BadDataError(f"--mien: {path} is for another processor; a Raspberry Pi needs _arm64.deb (make deb)")
    return path


def _wheelhouse(folder: Path, release: str) -> Iterator[tuple[str, Path]]:
    """All but the wheels for other processors and for the other release's Python."""
    for part in ("wheels/mien.txt", "systemd/install.sh", f"systemd/constraints-{release}.txt"):
        if not (folder / part).is_file():
            raise BadDataError(f"--mien: {folder} has no {part}; expected dist/wheelhouse (make wheelhouse)")
    tags = {"bookworm": ("cp311-", "py3-none-any"), "trixie": ("cp313-", "py3-none-any")}[release]
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        wheel = path.suffix == ".whl"
        if path.is_file() and not (wheel and ("x86_64" in name or not any(tag in name for tag in tags))):
            yield f"{KIT}/wheelhouse/{name}", path


def _packages(folder: Path, release: str) -> Iterator[tuple[str, Path]]:
    index = folder / "Packages"
    try:
        stanzas = index.read_text(encoding="utf-8").strip().split("\n\n")
        made_for = (folder / "release").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise InputNotFoundError(
            f"--packages: {folder} has no Packages and release; `make packages RELEASE={release}` fills such a folder"
        ) from None
    if made_for != release:
        raise UsageError(f"--packages: {folder} is for {made_for}, and this card is for {release}")
    yield f"{KIT}/packages/Packages", index
    for stanza in stanzas:
        fields = dict(line.partition(": ")[::2] for line in stanza.splitlines() if not line.startswith(" "))
        name = fields.get("Filename", "").removeprefix("./")
        if not NAME.fullmatch(name) or "SHA256" not in fields:
            raise BadDataError(f"--packages: {index} names no file for {fields.get('Package', 'a package')}")
        path = folder / name
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputNotFoundError(f"--packages: {path} cannot be read: {error.strerror}; make it anew") from None
        if digest != fields["SHA256"]:
            raise BadDataError(f"--packages: {path} is not what Packages says (SHA-256); run `make packages` again")
        yield f"{KIT}/packages/{name}", path
