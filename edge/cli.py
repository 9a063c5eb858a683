"""The command `mien`. Everything heavy is imported by the subcommand that needs it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from edge import __version__, cli_bench, cli_classify, cli_doctor, cli_erase, cli_fleet, cli_log, cli_model, cli_pause
from edge.commandline import Parser, add_config, add_model, guarded, log_to_stderr
from edge.errors import LabelsError, UsageError
from edge.leaving import leave

EXAMPLES = """\
examples:
  mien run --source party.mp4 --log events.jsonl      a video, every frame, events to a file
  mien run --source picamera2 --mqtt mqtt://broker    a Raspberry Pi's camera, events to a broker
  mien run --source synthetic --annotate shown.mp4    no camera at hand: see what it does
  mien classify photos/ --format json                 photos in bulk, one JSON object each
  mien log events.jsonl --follow                      what is logged, as it happens
  mien fleet --mqtt mqtt://broker                     every device on that broker
  mien doctor                                         what is wrong here, and what to do
  mien pause --for 2h                                 stop looking at once; mien resume ends it
  mien model install mine.tflite                      another model, on trial at first

'mien COMMAND --help' explains a command. Pictures stay on this machine; only events leave it, and only where you say.
"""

RUN_EXAMPLES = """\
Options win over MIEN_... in the environment, that over the configuration file, that over the defaults. Without --log
and --mqtt, events are printed.

sources:
  picamera2                     the Raspberry Pi's camera
  v4l2:/dev/video0              a USB camera; of several, one by its name: v4l2:/dev/v4l/by-id/…
  rtsp://user@192.168.1.20/...  a network camera; its password comes from source.password_file
  party.mp4                     a video file
  images:photos                 a folder of pictures
  synthetic                     faces that need no camera

examples:
  mien run --source party.mp4 --log events.jsonl
  mien run --source v4l2:/dev/video0 --mqtt mqtt://broker.local --device kitchen
  mien run --source party.mp4 --pace realtime --annotate shown.mp4
  mien run --config /etc/mien/mien.toml

exit codes: 0 done, 64 wrong usage, 65 bad data, 66 input not there, 69 no camera or broker, 73 cannot write,
75 systemd starts it again with another model, 78 wrong configuration, 130 Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: the process's own) and return the exit code."""
    return guarded("mien", lambda: _main(argv), argv)


def program() -> NoReturn:
    """The command `mien` itself."""
    leave(main())


def make_parser() -> Parser:
    """The parser; every subcommand leaves a function of the parsed arguments in `call`."""
    parser = Parser(
        "mien",
        description="Reads facial expressions, on a Raspberry Pi or anywhere: faces in, events out.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"mien {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    cli_classify.add_command(commands)
    cli_log.add_command(commands)
    cli_fleet.add_command(commands)
    cli_pause.add_commands(commands)
    cli_erase.add_command(commands)
    cli_model.add_command(commands)
    cli_doctor.add_command(commands)
    cli_bench.add_command(commands)
    _add_demo(commands)
    return parser


def _main(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    try:
        code: int = arguments.call(arguments)
    except LabelsError as error:
        if getattr(arguments, "labels", None) is None:
            raise
        raise UsageError(f"--labels: {error}") from None
    return code


def _add_run(commands: argparse._SubParsersAction[Parser]) -> None:
    run = commands.add_parser(
        "run",
        help="watch a camera, a video or a folder, and publish events",
        description="Watch a source and publish an event whenever a face appears, changes its expression or goes.",
        epilog=RUN_EXAMPLES,
    )
    add_config(run)
    run.add_argument("--source", metavar="SPEC", help="where frames come from, see below (default: picamera2)")
    run.add_argument("--log", metavar="PATH", help="append events to this file, one JSON object a line")
    run.add_argument("--mqtt", metavar="URL", help="publish events to this broker, such as mqtt://broker.local:1883")
    run.add_argument(
        "--pace",
        choices=["fast", "realtime"],
        help="files: every frame as fast as it goes (fast, the default), or skipping as a camera would",
    )
    run.add_argument(
        "--annotate", type=Path, metavar="OUT", help="draw what is seen into a video (.mp4) or a folder of pictures"
    )
    add_model(run)
    run.add_argument(
        "--device",
        metavar="NAME",
        help="its name in events and topics (default: the host's name plus four characters of this card's own)",
    )
    run.set_defaults(call=_run)


def _run(arguments: argparse.Namespace) -> int:
    from edge.config import load_config

    config = load_config(
        arguments.config,
        environ=os.environ,
        overrides={
            "source.spec": arguments.source,
            "source.pace": arguments.pace,
            "log.path": arguments.log,
            "mqtt.url": arguments.mqtt,
            "model.path": arguments.model,
            "model.labels": arguments.labels,
            "device.name": arguments.device,
        },
    )
    log_to_stderr()
    from edge.daemon import run

    return run(config, environ=os.environ, annotate=arguments.annotate)


def _add_demo(commands: argparse._SubParsersAction[Parser]) -> None:
    demo = commands.add_parser(
        "demo",
        help="see all of it on the sample photos",
        description="Reads the sample photos and a video made from them, and shows the commands that do it.",
    )
    demo.add_argument(
        "--out", type=Path, default=Path("mien-demo"), metavar="DIR", help="where results go (default: mien-demo)"
    )
    demo.set_defaults(call=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from edge.demo import run

    return run(arguments.out, main)
