"""`mien doctor`: its arguments and what it prints. `edge.doctor` makes the checks."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from edge.commandline import Parser, add_config
from edge.errors import UsageError

if TYPE_CHECKING:
    from edge.doctor_finding import Finding

HELP = "what is wrong here, and what to do about it"
DESCRIPTION = (
    "Check this machine, the installation, the camera and the broker, and say for each what was found and what to do. "
    "Nothing is changed, and a daemon that runs is not disturbed."
)

EPILOG = """\
what is checked, in this order; --only takes these names:
  configuration  read and understood, and which file
  service        systemd's unit: runs, starts at boot, started again, last exit code
  processor      64-bit, and which Raspberry Pi
  memory  temperature  power (under-voltage and throttling, now and since boot)
  clock          kept by NTP, and not in the past
  disk  wear     room, read-only; what is written to an SD card without need
  folders        log and state can be written by the user that runs Mien
  numpy  opencv  load, fit each other and apt's packages
  cascade  interpreter  model    load and work; the model's self-test
  libcamera      the system's picamera2 loads in this environment, and sees cameras
  camera         the configured source is there, permitted, and delivers a picture
  broker         name, port, certificate and login
  name           no other device of this name, as far as the broker's retained status shows

Run it as the user that runs Mien, or with sudo, which sees more. --json prints one object: schema, ts, version, well
(no fault), and checks, each with name, status (ok, warning, fault, not here), found and advice.

examples:
  mien doctor
  mien doctor --only camera --only broker
  mien doctor --json | jq -r '.checks[] | select(.status == "fault").advice'

exit codes: 0 all well, or warnings alone, 1 a fault was found, 64 wrong usage, 130 Ctrl-C
"""

FAULTY = 1
"""Exit code where a fault was found."""

COLOURS = {"ok": "32", "warning": "33", "fault": "1;31", "not here": "2"}
"""By status, as in ECMA-48's SGR."""

MOST_COLUMNS = 120


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `doctor` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("doctor", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    add_config(parser)
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="make this check alone; may be given several times"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from datetime import UTC, datetime

    from edge.doctor import CHECKS, examine, prepare, to_dict
    from edge.doctor_finding import FAULT

    if unknown := [name for name in arguments.only if name not in CHECKS]:
        raise UsageError(f"--only {unknown[0]}: there is no such check; expected one of {', '.join(CHECKS)}")
    findings: dict[str, Finding] = {}
    for name, finding in examine(prepare(arguments.config, environ=dict(os.environ)), arguments.only):
        findings[name] = finding
        if not arguments.json:
            # At once: some checks take seconds.
            print("\n".join(_lines(name, finding, max(map(len, CHECKS)))), flush=True)
    if arguments.json:
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        print(json.dumps(to_dict(findings, at), ensure_ascii=False))
    else:
        _print_summary(findings)
    return FAULTY if any(finding.status == FAULT for finding in findings.values()) else 0


def _lines(name: str, finding: Finding, longest: int) -> Iterator[str]:
    """One line for what was found and one for what to do; on a terminal as many as it needs."""
    indent = 10 + longest + 2
    texts = [finding.found, f"-> {finding.advice}"] if finding.advice else [finding.found]
    status = f"{finding.status:<10}"
    if sys.stdout.isatty():
        width = max(indent + 20, min(shutil.get_terminal_size().columns, MOST_COLUMNS) - 1)
        texts = [line for text in texts for line in textwrap.wrap(text, width - indent) or [""]]
        if not os.environ.get("NO_COLOR"):
            status = f"\x1b[{COLOURS[finding.status]}m{status}\x1b[0m"
    yield f"{status}{name:<{longest}}  {texts[0]}"
    yield from (" " * indent + text for text in texts[1:])


def _print_summary(findings: dict[str, Finding]) -> None:
    counted = {status: sum(finding.status == status for finding in findings.values()) for status in COLOURS}
    words = [f"{counted[status]} {status}{'' if counted[status] == 1 else 's'}" for status in ("fault", "warning")]
    print(f"\n{', '.join(words)}, {counted['ok']} ok, {counted['not here']} not here")
