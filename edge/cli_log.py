"""`mien log`: reads the local log for people and for programs."""

from __future__ import annotations

import argparse
import os
import re
import select
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.commandline import INTERRUPTED, STDOUT, Parser, add_config, shown, span_seconds
from edge.errors import BadDataError, InputNotFoundError, UsageError
from edge.log_formats import FORMATS, Writer, make_writer
from edge.log_reader import TYPES, Line, LogReader, Selection, read_last

HELP = "read the local log"
DESCRIPTION = "Print the events that 'mien run' has logged, oldest first, from the old files (PATH.1, PATH.2, …) on."

POLL_SECONDS = 0.25
"""How often --follow looks for new lines."""

LAST_LINES = 10
"""What --follow begins with where nothing else is said."""

SOME_BROKEN = 1
"""Exit code where some lines were events and some were not."""

EPILOG = f"""\
Without PATH the log is that of 'mien run': log.path in the configuration, or MIEN_LOG_PATH.

WHEN:
  10m, 2h, 3d, 1w                    so long ago (also s)
  2026-11-21                         the beginning of that day, in local time
  '2026-11-21 14:30'                 local time
  2026-11-21T14:30:00Z               RFC 3339
  --since includes that moment, --until does not. The log's own times are compared; where the clock was not yet set,
  the table shows a ? after them.

formats:
  table   for reading, in local time; the scores are in the other two
  json    the lines as they are in the log, one object each
  csv     with a header, and one column for each score; labels of all selected events have a column

--follow goes on through rotation and restarts of the daemon until Ctrl-C. It begins with the last {LAST_LINES} events
unless --last or --since says otherwise.

examples:
  mien log --since 10m                                  what happened in the last ten minutes
  mien log --follow --expression happy                  tell me when somebody looks happy
  mien log --type appeared --since 2026-11-21           who came since that midnight
  mien log --since 1d --format csv > day.csv
  mien log old/mien.jsonl --last 1000 --format json | jq .confidence
  mien log --config kitchen.toml --track 7

exit codes: 0 done, 1 some lines are no events (named at the end), 64 wrong usage, 65 no line is an event,
66 no log there, 73 cannot write, 78 wrong configuration, 130 Ctrl-C
"""

_DATE = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.IGNORECASE,
)


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `log` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("log", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help="the log (default: the configuration's)")
    add_config(parser)
    parser.add_argument("--follow", "-f", action="store_true", help="go on with what is written from now on")
    parser.add_argument("--since", type=when, metavar="WHEN", help="events from then on")
    parser.add_argument("--until", type=when, metavar="WHEN", help="events before then")
    several = "; may be given several times"
    parser.add_argument("--type", choices=TYPES, action="append", default=[], help=f"only this one{several}")
    parser.add_argument("--expression", action="append", default=[], metavar="NAME", help=f"only this one{several}")
    parser.add_argument("--track", type=int, action="append", default=[], metavar="N", help=f"only this face{several}")
    parser.add_argument("--device", action="append", default=[], metavar="NAME", help=f"only this one{several}")
    parser.add_argument("--last", "-n", type=_count, metavar="N", help="only the last N of what is selected")
    parser.add_argument("--format", choices=FORMATS, default="table", help="see below (default: table)")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    if arguments.follow and arguments.until:
        raise UsageError("--until ends what --follow would go on with; leave one of them out")
    path = arguments.path if arguments.path and not arguments.config else _configured(arguments)
    selection = Selection(
        since=arguments.since or "",
        until=arguments.until or "",
        types=frozenset(arguments.type),
        expressions=frozenset(arguments.expression),
        tracks=frozenset(arguments.track),
        devices=frozenset(arguments.device),
    )
    with LogReader(path, selection) as reader:
        if not reader.exists():
            if not arguments.follow or not path.parent.is_dir():
                raise InputNotFoundError(f"there is no log {path}; is it the path that 'mien run' logs to?")
            print(f"mien log: waiting for {shown(path)}", file=sys.stderr)
    last = arguments.last
    if arguments.follow and last is None and not selection.since:
        last = LAST_LINES
    return (_follow if arguments.follow else _print)(path, selection, arguments.format, last)


def when(text: str) -> str:
    """`--since` and `--until` for argparse: a span, a date or RFC 3339 -> UTC as events have it."""
    try:
        return parse_when(text, datetime.now(UTC))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_when(text: str, now: datetime) -> str:
    """A span before `now` such as `10m`, a date, or a date and time, local where it tells no offset.

    Returns:
        UTC with milliseconds and `Z`, as events have it.

    Raises:
        ValueError: it is none of these.
    """
    try:
        if (span := span_seconds(text)) is not None:
            moment = now - timedelta(seconds=span)
        elif _DATE.fullmatch(text):
            moment = datetime.fromisoformat(text.upper())
        else:
            raise ValueError
        return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; expected a span such as 10m, 2h or 3d, a date such as 2026-11-21, or "
            "2026-11-21T14:30:00Z"
        ) from None


def _configured(arguments: argparse.Namespace) -> Path:
    from edge.config import load_config

    config = load_config(arguments.config, environ=os.environ, overrides={"log.path": arguments.path})
    if config.log.path is None:
        raise UsageError("the configuration names no log (log.path, MIEN_LOG_PATH); say which: mien log PATH")
    return config.log.path


def _print(path: Path, selection: Selection, kind: str, last: int | None) -> int:
    if last is not None:
        reader, lines = read_last(path, selection, last, final=True)
        with reader:
            _write(lines, make_writer(kind, sys.stdout, _labels(lines)))
        return _verdict(reader)
    labels = _labels_of_all(path, selection) if kind == "csv" else []
    with LogReader(path, selection) as reader:
        _write(reader.lines(final=True), make_writer(kind, sys.stdout, labels))
    return _verdict(reader)


def _follow(path: Path, selection: Selection, kind: str, last: int | None) -> int:
    if last is not None:
        reader, lines = read_last(path, selection, last)
        labels = _labels(lines)
    else:
        reader, lines = LogReader(path, selection), []
        labels = _labels_of_all(path, selection) if kind == "csv" else []
    output = select.poll()
    output.register(STDOUT, 0)
    with reader:
        try:
            writer = make_writer(kind, sys.stdout, labels or None)
            _write(lines, writer)
            while True:
                _write(reader.lines(), writer)
                # Nothing is heard of here but that nobody reads our output any more, as after `| head`.
                if output.poll(POLL_SECONDS * 1000):
                    return 0
        except KeyboardInterrupt:
            _tell_broken(reader)
            return INTERRUPTED


def _labels_of_all(path: Path, selection: Selection) -> list[str]:
    with LogReader(path, selection) as reader:
        return _labels(reader.lines())


def _write(lines: Iterable[Line], writer: Writer) -> None:
    for line in lines:
        writer(line)
    sys.stdout.flush()


def _labels(lines: Iterable[Line]) -> list[str]:
    """The labels of all events, in the order in which they come."""
    return list(dict.fromkeys(label for line in lines for label in line.event["scores"]))


def _verdict(reader: LogReader) -> int:
    if not reader.broken:
        return 0
    if not reader.events:
        raise BadDataError(
            f"{reader.path} holds no event; what it holds is no log of 'mien run' ({reader.first_broken})"
        )
    _tell_broken(reader)
    return SOME_BROKEN


def _tell_broken(reader: LogReader) -> None:
    if reader.broken:
        lines = "a line is no event and was" if reader.broken == 1 else f"{reader.broken} lines are no events and were"
        where = reader.first_broken if reader.broken == 1 else f"the first is {reader.first_broken}"
        print(f"mien log: {lines} left out: {shown(where)}", file=sys.stderr)


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of events, such as 20")
    return int(text)
