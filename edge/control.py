"""The folder in which people and the running daemon meet: `control` in the state folder.

Files and nothing else, so that what is asked outlasts a kill and a reboot and needs no root: whoever is in the group of
the folder may write there, and the daemon looks into it a few times a second. `edge.pause` and `edge.erase` say what
lies in it besides the daemons' own files, which are locked for as long as a daemon runs.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edge.errors import OutputError
from edge.starts import state_folder

SERVICE = Path("/var/lib/mien")
"""The state folder of the service that systemd runs."""

LOOK_EVERY = 0.2
"""Seconds between two looks of the daemon into the folder."""

LOCK_SECONDS = 2.0
"""How long a lock is waited for that others hold for a moment only."""

MOST_BYTES = 1024 * 1024
"""Of a file here; most have some dozens."""

READING, RESTING, FILE = "reading", "resting", "file"
"""What a daemon does: reads its camera, does not (it is paused), or works through a file."""

_RUNNING = "running-"
_WORD = 16
"""Bytes of the file that says what a daemon does."""


def find_states(environ: Mapping[str, str], given: Path | None = None) -> list[Path]:
    """The state folders that a command of this user is about.

    Args:
        environ: the process's environment.
        given: the one that was named, if one was.

    Returns:
        The service's, where there is one, and this user's own where a daemon of his runs or he has paused it; his own
        where there is none of these.
    """
    if given is not None:
        return [given]
    own = state_folder(environ)
    if environ.get("STATE_DIRECTORY") or not SERVICE.is_dir():
        return [own]
    in_use = (own / "control" / "paused").exists() or running(own / "control")
    return [SERVICE, own] if in_use else [SERVICE]


def open_folder(state: Path, *, shared: bool, name: str = "control") -> Path:
    """A folder below a state folder in which people and the daemon meet, made where it is missing.

    Args:
        state: the state folder.
        shared: whether the folder's group may write to one that is made here, or is ours.
        name: the control folder's, or that of another one for which the same is true.

    Raises:
        OutputError: it may not be made or used.
    """
    folder, mode = state / name, 0o770 if shared else 0o700
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        # Not through a link: whoever owns the state folder must not have root change the mode of others.
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            about = os.fstat(handle)
            if made and os.geteuid() == 0:  # what root makes here is whose the rest is
                os.fchown(handle, state.stat().st_uid, state.stat().st_gid)
            if made or (about.st_uid == os.geteuid() and shared and about.st_mode & 0o777 != mode):
                os.fchmod(handle, mode)
        finally:
            os.close(handle)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise refused(folder, error) from None
    return folder


def refused(folder: Path, error: OSError) -> OutputError:
    """What to say where a control folder may not be used."""
    advice = "you must be in its group: sudo usermod -aG mien $USER, and log in again, or use sudo"
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
        advice = "make room, or have nobody look until then: sudo systemctl stop mien"
    elif error.errno in {errno.ENOTDIR, errno.ELOOP}:
        advice = "it must be a folder, and no link to one; move away what lies there"
    return OutputError(f"{folder} may not be written ({error.strerror}); {advice}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for a moment, against others who change the same file.

    Raises:
        OutputError: it cannot be had.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(handle, fcntl.LOCK_EX, folder)
        yield
    finally:
        os.close(handle)


def read_small(path: Path) -> str | None:
    """What a file in the folder holds, however long and wherever from; None where there is none.

    Raises:
        OSError: it cannot be read, or is a link or a folder.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read(MOST_BYTES).decode(errors="replace")


def write_small(path: Path, text: str) -> None:
    """Replace a file in the folder at once and for good: a power cut leaves the old or the new one.

    Raises:
        OSError: it cannot be written.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask: the folder alone says who may read
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have what was renamed or deleted in a folder outlast a power cut.

    Raises:
        OSError: the disk says that it may not.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some file systems cannot do that; what is in the files is synced all the same.
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


class Presence:
    """Says that a daemon runs, and what it does: a file that is locked until it ends, however it ends.

    Args:
        folder: the control folder.
        device: the device's name.

    Raises:
        OutputError: the file cannot be written or locked.
    """

    def __init__(self, folder: Path, device: str) -> None:
        path = folder / f"{_RUNNING}{device}"
        try:
            if not os.access(path, os.W_OK):  # another user's, from before
                path.unlink(missing_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._handle = os.open(path, flags, 0o644)
        except OSError as error:
            raise refused(folder, error) from None
        try:
            with suppress(OSError):
                os.fchmod(self._handle, 0o644)  # whatever the umask: the folder alone says who may read
            self.say("")
            _lock(self._handle, fcntl.LOCK_SH, path)
        except OutputError:
            os.close(self._handle)
            raise

    def say(self, doing: str) -> None:
        """Tell what the daemon does: `READING`, `RESTING` or `FILE`."""
        with suppress(OSError):  # a full disk
            # In one piece: whoever reads meanwhile sees the old word or the new one.
            os.pwrite(self._handle, doing.ljust(_WORD).encode(), 0)

    def close(self) -> None:
        """The daemon ends."""
        self.say("")
        os.close(self._handle)


def running(folder: Path) -> dict[str, str]:
    """The daemons that run at this moment, by device, and what each does, empty where it has only begun."""
    found: dict[str, str] = {}
    try:
        paths = sorted(folder.glob(f"{_RUNNING}*"))
    except OSError:
        return found
    for path in paths:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError:  # whoever it is of may run
            found[path.name.removeprefix(_RUNNING)] = ""
            continue
        except OSError:
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found[path.name.removeprefix(_RUNNING)] = os.pread(handle, _WORD, 0).decode(errors="replace").strip()
        finally:
            os.close(handle)
    return found


def table(text: str) -> dict[str, object] | None:
    """The JSON object in a text; None where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _lock(handle: int, how: int, path: Path) -> None:
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise OutputError(f"{path} is held by another program; end it, and try again") from None
            time.sleep(0.02)
        else:
            return
