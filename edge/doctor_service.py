"""What systemd knows of the service, and who it is that runs Mien."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

UNIT = "mien.service"

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "NRestarts",
    "ExecMainStatus",
    "User",
    "SupplementaryGroups",
    "StateDirectory",
    "LogsDirectory",
    "ProtectSystem",
    "ProtectClock",
    "ReadWritePaths",
    "LoadCredential",
)

SYSTEMCTL_SECONDS = 5.0

CREDENTIAL_STORES = ("etc/credstore", "run/credstore", "usr/lib/credstore")
"""Where systemd looks for a credential that is named without a folder (systemd.exec(5), LoadCredential=)."""


@dataclass(frozen=True, slots=True)
class Service:
    """The unit as `systemctl show` has it.

    Attributes:
        properties: by name, those of `PROPERTIES` that it told.
        credentials: the files of `LoadCredential=`, by the credential's name.
    """

    properties: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, Path] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.properties.get(name, "")

    @property
    def installed(self) -> bool:
        """Whether there is such a unit."""
        return self["LoadState"] not in {"", "not-found"}

    @property
    def active(self) -> bool:
        """Whether it runs."""
        return self["ActiveState"] == "active"

    @property
    def folders(self) -> list[Path]:
        """What systemd makes for it, the state's first, and lets it write to."""
        kinds = {"StateDirectory": "/var/lib", "LogsDirectory": "/var/log"}
        return [Path(parent, name) for kind, parent in kinds.items() for name in self[kind].split()]

    def may_write(self, folder: Path) -> bool:
        """Whether systemd lets it write there, whoever owns the folder."""
        open_to_it = [*self.folders, *(Path(path.lstrip("-+")) for path in self["ReadWritePaths"].split())]
        return self["ProtectSystem"] != "strict" or any(folder.is_relative_to(place) for place in open_to_it)


def ask_systemd(root: Path) -> Service | None:
    """What systemd knows of the unit; None where systemd is not running, or does not answer."""
    program = root / "usr/bin/systemctl"
    if not (root / "run/systemd/system").is_dir() or not program.exists():
        return None
    command = [str(program), "show", UNIT, "--no-pager", f"--property={','.join(PROPERTIES)}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SYSTEMCTL_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_service(done.stdout.decode(errors="replace"), root) if done.returncode == 0 else None


def parse_service(text: str, root: Path) -> Service:
    """What `systemctl show` printed: lines of NAME=VALUE, the name repeated where there are several values."""
    properties: dict[str, str] = {}
    credentials: dict[str, Path] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if name == "LoadCredential":
            credential, _, path = value.partition(":")
            if (file := _credential(path, root)) is not None:
                credentials[credential] = file
        elif equals:
            properties[name] = value
    return Service(properties, credentials)


def _credential(named: str, root: Path) -> Path | None:
    """The file of a credential, which need not be there; also one in a folder that we may not look into."""
    for store in CREDENTIAL_STORES:
        file = root / (named.lstrip("/") if named.startswith("/") else f"{store}/{named}")
        try:
            file.stat()
        except PermissionError:
            return file
        except OSError:
            continue
        return file
    return None


@dataclass(frozen=True, slots=True)
class Runner:
    """The account that runs Mien.

    Attributes:
        name: of the account.
        uid: its number.
        gids: the numbers of its groups.
        ourselves: whether it is the one that the doctor runs as.
    """

    name: str
    uid: int
    gids: frozenset[int]
    ourselves: bool

    def may(self, path: Path, wanted: int) -> bool:
        """Whether the account may use what lies there, as far as that can be told.

        Args:
            path: there, and with parents that we may look into.
            wanted: `os.R_OK`, `os.W_OK` and `os.X_OK`, added up.

        Raises:
            OSError: it cannot be looked at.
        """
        if self.ourselves:
            path.stat()
            return os.access(path, wanted, effective_ids=True)
        if self.uid == 0:
            return True
        folders = path.resolve().parents
        return self._has(path, wanted) and all(self._has(folder, os.X_OK) for folder in folders)

    def _has(self, path: Path, wanted: int) -> bool:
        told = path.stat()
        shift = 6 if told.st_uid == self.uid else 3 if told.st_gid in self.gids else 0
        return told.st_mode >> shift & wanted == wanted


def find_runner(service: Service | None) -> Runner:
    """The account of the service where there is one, else our own."""
    if service is not None and service.installed:
        try:
            account = pwd.getpwnam(service["User"] or "root")
        except KeyError:  # a user that systemd makes at each start
            pass
        else:
            if account.pw_uid != os.geteuid():
                groups = {*os.getgrouplist(account.pw_name, account.pw_gid), *_numbers(service["SupplementaryGroups"])}
                return Runner(account.pw_name, account.pw_uid, frozenset(groups), ourselves=False)
    return Runner(_our_name(), os.geteuid(), frozenset({os.getegid(), *os.getgroups()}), ourselves=True)


def _our_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # in a container
        return f"user {os.geteuid()}"


def _numbers(names: str) -> Iterator[int]:
    for name in names.split():
        try:
            yield grp.getgrnam(name).gr_gid
        except KeyError:
            continue
