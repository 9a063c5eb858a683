"""Waits until the daemon has come up with a model that was just chosen, or has given it up."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from edge.control import FILE, RESTING, running
from edge.errors import BadDataError, UnavailableError
from edge.model_store import read_choice, short

COMING_SECONDS = 120.0
"""How long a daemon may take to come up: it ends, waits, opens its camera, and may do so three times."""

TAKING_SECONDS = 15.0
"""How long one may take to end, so as to be started again."""

POLL_SECONDS = 0.1


def daemons(folder: Path) -> set[str]:
    """The devices whose daemons run now before a camera, and use the models of a folder."""
    return {device for device, doing in running(folder.parent / "control").items() if doing != FILE}


def await_daemon(folder: Path, entry: str, devices: Collection[str]) -> str:
    """Wait for what becomes of a choice.

    Args:
        folder: the models' folder.
        entry: the model that was chosen.
        devices: whose daemons ran when it was.

    Returns:
        What became of it, in words.

    Raises:
        BadDataError: the model was given up.
        UnavailableError: the daemon has not come up in time.
    """
    who = " and ".join(sorted(devices))
    began = time.monotonic()
    while True:
        choice, took = read_choice(folder), time.monotonic() - began
        if choice.current != entry:
            if choice.refused == entry:
                raise BadDataError(
                    f"{short(entry)} is given up: {choice.why}; {short(choice.current)} is used again "
                    "(journalctl -u mien)"
                )
            return "somebody else has chosen another one meanwhile"
        if choice.starts is None:
            return f"{who} uses it"
        doing = running(folder.parent / "control")
        if choice.starts and doing and set(doing.values()) <= {RESTING}:
            return f"{who} is paused, and has opened it; it is on trial until the camera is read again"
        if not choice.starts and took >= TAKING_SECONDS and doing:
            return f"{who} goes on with the one it had: it is not run by systemd; start it again to have this one used"
        if took >= COMING_SECONDS:
            raise UnavailableError(
                f"{short(entry)} is chosen, but {who} has not come up with it within {COMING_SECONDS:g} s; see why: "
                "journalctl -u mien -n 50; 'mien model rollback' goes back"
            )
        time.sleep(POLL_SECONDS)
