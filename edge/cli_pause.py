"""`mien pause` and `mien resume`: the camera is not read any more, and is read again."""

from __future__ import annotations

import argparse
import os
import time
from datetime import datetime, timedelta
from pathlib import Path

from edge.commandline import Parser, span_seconds
from edge.errors import InputNotFoundError, UnavailableError

PAUSE_HELP, RESUME_HELP = "stop looking at once", "look again"

PAUSE_DESCRIPTION = (
    "Have the daemon let go of its camera at once, until 'mien resume': over kills, restarts and reboots, and "
    "also while no daemon runs. Faces that are there are told gone; state and health say that it is paused."
)

PAUSE_EPILOG = """\
While it is paused no picture is taken: a USB or network camera is closed; a ribbon camera's stream is stopped, so that
the sensor sleeps. Only cameras are paused, no videos and folders.

You need no root, but must be in group mien: sudo usermod -aG mien $USER, and log in again.

examples:
  mien pause
  mien pause --for 2h               90s, 30m, 2h, 1d, 1w; it ends by itself
  mien resume

exit codes: 0 done, 64 wrong usage, 66 no such folder, 69 the daemon does not answer, 73 it may not be written
"""

ANSWER_SECONDS = 8.0
"""How long a daemon may take to let go: a camera that hangs is waited for."""

POLL_SECONDS = 0.05


def add_commands(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `pause` and `resume` to the commands of `mien`; each one's function is left in `call`."""
    pause = commands.add_parser("pause", help=PAUSE_HELP, description=PAUSE_DESCRIPTION, epilog=PAUSE_EPILOG)
    pause.add_argument("--for", dest="lasts", type=_seconds, metavar="TIME", help="end by itself, such as after 2h")
    resume = commands.add_parser("resume", help=RESUME_HELP, description="End what 'mien pause' has begun.")
    for parser, call in ((pause, call_pause), (resume, call_resume)):
        add_state(parser)
        parser.set_defaults(call=call)


def add_state(parser: Parser) -> None:
    """Add `--state`."""
    parser.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the daemon's state folder (the service's, /var/lib/mien, where there is one; else your own)",
    )


def call_pause(arguments: argparse.Namespace) -> int:
    """Run `mien pause` and return its exit code."""
    from edge.control import FILE, RESTING, running
    from edge.pause import pause

    folders = control_folders(arguments.state)
    for folder in folders:
        pause(folder, arguments.lasts)
    end = "until 'mien resume'"
    if arguments.lasts is not None:
        at = datetime.now().astimezone() + timedelta(seconds=arguments.lasts)
        end = f"until {at:%H:%M} or 'mien resume'" if arguments.lasts < 20 * 3600 else f"until {at:%Y-%m-%d %H:%M}"
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        doing = {device: what for folder in folders for device, what in running(folder).items()}
        busy = [device for device, what in doing.items() if what not in {RESTING, FILE}]
        if not busy:
            break
        if time.monotonic() >= deadline:
            raise UnavailableError(
                f"the pause is set, but {' and '.join(busy)} has not let go of its camera within "
                f"{ANSWER_SECONDS:g} s; restart it ('sudo systemctl restart mien'), and it starts paused"
            )
        time.sleep(POLL_SECONDS)
    print(f"paused {end}; {_told(doing)}")
    return 0


def call_resume(arguments: argparse.Namespace) -> int:
    """Run `mien resume` and return its exit code."""
    from edge.pause import resume

    ended = [resume(folder) for folder in control_folders(arguments.state)]
    print("resumed" if any(ended) else "nothing was paused")
    return 0


def control_folders(given: Path | None) -> list[Path]:
    """The control folders that a command is about.

    Raises:
        InputNotFoundError: the one that was named is not there.
        OutputError: one may not be used.
    """
    from edge import control

    if given is not None and not given.is_dir():
        raise InputNotFoundError(f"--state {given} is no folder; name that in which the daemon's file 'starts' lies")
    return [
        control.open_folder(state, shared=state == control.SERVICE) for state in control.find_states(os.environ, given)
    ]


def _told(doing: dict[str, str]) -> str:
    from edge.control import FILE, RESTING

    resting, files = _names(doing, RESTING), _names(doing, FILE)
    said = f"{resting} does not read its camera" if resting else "no daemon runs that reads a camera"
    return f"{said} ({files} works through a file, and goes on)" if files else said


def _names(doing: dict[str, str], what: str) -> str:
    return " and ".join(device for device, does in doing.items() if does == what)


def _seconds(text: str) -> float:
    from edge.pause import LONGEST

    seconds = span_seconds(text)
    if seconds is None or not 1.0 <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a time such as 90s, 30m, 2h or 1d, a year at the most")
    return seconds
