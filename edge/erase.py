"""Erasing every stored result: through the daemons that run, and by ourselves where none does."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.control import read_small, refused, running, write_small
from edge.erasure import Erasure, erase_log, is_in_use, outboxes, remove_outbox
from edge.errors import InputNotFoundError, MienError
from edge.mark import check_folder, check_replaceable, is_unfinished, unfinished
from edge.pictures import is_picture, is_video
from edge.rotation import BEGINS, real_path

if TYPE_CHECKING:
    from edge.config import Config

ANSWER_SECONDS = 40.0
"""How long a daemon may take: longer than it gives its sinks."""

BROKER_SECONDS = 10.0
"""How long a broker may take to let us in, and then to answer."""

POLL_SECONDS = 0.05


def ask_daemons(folder: Path, *, local: bool) -> dict[str, Erasure]:
    """Have the daemons that run erase what they have stored.

    Args:
        folder: the control folder.
        local: leave the broker alone.

    Returns:
        Each one's account, by device. One that does not answer in time has a problem in it.

    Raises:
        OutputError: the folder may not be written.
    """
    asked = sorted(running(folder))
    if not asked:
        return {}
    token = secrets.token_hex(8)
    request = folder / f"erase-{token}"
    answers = {device: folder / f"erased-{token}-{device}" for device in asked}
    accounts: dict[str, Erasure] = {}
    until = time.monotonic() + ANSWER_SECONDS
    try:
        write_small(request, json.dumps({"local": local}))
        while len(accounts) < len(asked) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            for device in [device for device in asked if device not in accounts]:
                if (text := read_small(answers[device])) is not None:
                    accounts[device] = _account(device, text)
            if not set(asked) - accounts.keys() <= running(folder).keys():
                break  # one has ended meanwhile
    except OSError as error:
        raise refused(folder, error) from None
    finally:
        for path in (request, *answers.values()):
            path.unlink(missing_ok=True)
    for device in set(asked) - accounts.keys():
        accounts[device] = Erasure(problems=[f"{device} has ended, or did not answer; do this again"])
    return accounts


def _account(device: str, text: str) -> Erasure:
    try:
        return Erasure.from_json(text)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):  # whoever is in the group may write there
        return Erasure(problems=[f"{device} has given no answer that can be understood; do this again"])


def erase_outboxes(state: Path, *, answered: bool) -> Erasure:
    """Remove the outboxes in a state folder that no daemon has open.

    Args:
        state: the state folder.
        answered: whether daemons there have just erased their own, which they hold.
    """
    erasure = Erasure()
    for path in outboxes(state):
        if not is_in_use(path):
            erasure.add(remove_outbox(path))
        elif not answered:
            erasure.problems.append(f"{path} is in use by another process; end it, and do this again")
    return erasure


def erase_unwritten_log(log: Path) -> Erasure:
    """Remove a log that no daemon writes to, unless it is something else that bears its name."""
    place = real_path(log)
    try:
        problem = _why_not_ours(log, place) or _why_no_log(place)
    except OSError as error:
        problem = f"the log {log} cannot be read ({error.strerror})"
    return Erasure(problems=[problem]) if problem else erase_log(place)


def erase_on_broker(config: Config, device: str) -> Erasure:
    """Have the broker forget what it retains of a device that is not running: its state, health and status.

    Args:
        config: with an `mqtt.url`.
        device: the device's name.
    """
    from edge.fleet import KINDS
    from edge.fleet_watch import Watch
    from edge.sinks.mqtt_link import open_access

    topics = [f"{config.mqtt.base}/{device}/{kind}" for kind in KINDS]
    try:
        access = open_access(config.mqtt, f"mien-erase-{secrets.token_hex(4)}")
        with Watch(access, config.mqtt.base, device=device) as watch:
            watch.wait_connected(BROKER_SECONDS)
            watch.empty(topics, BROKER_SECONDS)
    except (MienError, OSError) as error:
        return Erasure(problems=[f"{', '.join(topics)} may still be retained: {error}"])
    return Erasure(removed=[(f"{topic} on the broker", 0) for topic in topics])


def annotated_files(paths: Sequence[Path]) -> list[Path]:
    """The annotated pictures and videos at paths that somebody has named, with what a killed process left of them.

    Args:
        paths: videos, pictures, and folders of such.

    Raises:
        OutputError: something there was not written by Mien.
        InputNotFoundError: nothing is there.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            check_folder(path)
            found += [f for f in sorted(path.iterdir()) if is_picture(f) or is_video(f) or is_unfinished(f)]
            continue
        files = [file for file in (path, unfinished(path)) if file.exists()]
        if not files:
            raise InputNotFoundError(f"--annotated {path}: not there; check the path")
        check_replaceable(path)
        found += files
    return found


def _why_not_ours(log: Path, place: Path) -> str:
    """What is wrong with a link in the log's place: who may write there must not have others delete what he may not."""
    if not log.is_symlink():
        return ""
    other = place if place.exists() else place.parent
    if log.lstat().st_uid in {0, os.geteuid(), other.stat().st_uid}:
        return ""
    return f"the log {log} is a link that somebody has laid to another's file, {place}; remove the link"


def _why_no_log(place: Path) -> str:
    """Why a file is not to be removed as a log; empty where it may be, or is not there."""
    try:
        handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    try:
        # As the daemon has it, which writes to nothing else.
        if not stat.S_ISREG(os.fstat(handle).st_mode) or os.read(handle, 1) not in BEGINS:
            return f"{place} is no log of events; name the log with --log"
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"another process writes to the log {place}; end it, and do this again"
    finally:
        os.close(handle)
    return ""
