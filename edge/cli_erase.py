"""`mien erase`: every stored result is removed."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edge.cli_pause import add_state, control_folders
from edge.commandline import Parser, add_config, agreed, printable
from edge.errors import OutputError, UsageError

if TYPE_CHECKING:
    from edge.erasure import Erasure

HELP = "remove every stored result"

DESCRIPTION = (
    "Remove the log with its old files, the events that wait for a broker, under every name that this device has had, "
    "and what the broker retains of it. It asks first, and prints what it has removed."
)

EPILOG = """\
It works while the daemon runs, which then begins its log and its outbox anew and goes on, and while none does. On the
broker a running daemon puts an empty state in the old one's place; of one that does not run, state, health and status
are emptied. 'mien fleet --forget' has Home Assistant forget the device too.

What is not removed: the configuration; the count of starts, so that no event's id is ever used twice; what others have
received; counts in the system's journal; and, unless they are named, annotated videos and pictures, with what a killed
recording has left of them.

SD cards and SSDs keep the blocks of deleted files for a while. Who must be sure destroys the card, or encrypts it from
the beginning.

examples:
  mien erase
  mien erase --yes --local-only                        the broker keeps what it retains
  mien erase --annotated shown.mp4 --annotated shown/  these too, if Mien has written them

exit codes: 0 done, 64 wrong usage, 66 no such folder, 69 not there, 73 something could not be removed, 78 wrong
configuration
"""


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `erase` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("erase", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    add_config(parser)
    parser.add_argument("--log", metavar="PATH", help="the log (default: the configuration's)")
    parser.add_argument("--device", metavar="NAME", help="the device's name (default: the configuration's)")
    parser.add_argument("--local-only", action="store_true", help="leave alone what the broker retains")
    parser.add_argument(
        "--annotated",
        type=Path,
        action="append",
        default=[],
        metavar="PATH",
        help="a video, picture or folder that 'mien run --annotate' has written; again for more",
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_state(parser)
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from edge.config import load_config
    from edge.device import default_name
    from edge.erase import annotated_files, ask_daemons, erase_on_broker, erase_outboxes, erase_unwritten_log
    from edge.erasure import Erasure
    from edge.rotation import real_path

    overrides = {"log.path": arguments.log, "device.name": arguments.device}
    config = load_config(arguments.config, environ=os.environ, overrides=overrides)
    folders = control_folders(arguments.state)
    annotated, log = annotated_files(arguments.annotated), config.log.path
    broker = config.mqtt.url if not arguments.local_only else ""
    if not (arguments.yes or _agreed(log, broker, len(annotated))):
        print("nothing was changed")
        return 0
    erasure, answered = Erasure(), False
    for folder in folders:
        accounts = ask_daemons(folder, local=arguments.local_only)
        answered = answered or bool(accounts)
        for account in accounts.values():
            erasure.add(account)
        erasure.add(erase_outboxes(folder.parent, answered=bool(accounts)))
    if log is not None and str(real_path(log)) not in {what for what, _ in erasure.removed}:
        erasure.add(erase_unwritten_log(log))
    if broker and not answered:
        erasure.add(erase_on_broker(config, config.device.name or default_name()))
    for path in annotated:
        erasure.remove(path)
    _tell(erasure)
    return 0


def _agreed(log: Path | None, broker: str, annotated: int) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here whether to erase everything; say --yes")
    what = ["every event that waits for a broker"]
    what += [f"the log {log}"] if log is not None else ["the log that a running daemon writes"]
    what += [f"what {broker} retains"] if broker else []
    what += [f"{annotated} annotated file{'' if annotated == 1 else 's'}"] if annotated else []
    return agreed(printable(f"Erase {', '.join(what)}? This cannot be undone. [y/N] "))


def _tell(erasure: Erasure) -> None:
    """Print what was removed.

    Raises:
        OutputError: something could not be.
    """
    for what, size in erasure.removed:
        print(printable(f"removed {what}" + (f", {size} bytes" if size else "")))
    for note in erasure.notes:
        print(printable(f"note: {note}"))
    if not erasure.removed:
        print("there was nothing to remove")
    elif any(size for _, size in erasure.removed):
        print("SD cards and SSDs keep the blocks of deleted files for a while; only destroying the card is sure")
    if erasure.problems:
        advice = "as a user who may, such as with sudo, or while mien is stopped, do it again"
        raise OutputError("\n".join(["not everything could be removed:", *erasure.problems, advice]))
