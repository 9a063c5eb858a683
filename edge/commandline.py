"""What `mien`, `mien-train` and `mien-export` share: one way to refuse an argument and one way to end.

Light on purpose: `--help` of every command passes through here.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeGuard

from edge.credentials import hide_password
from edge.errors import BadDataError, MienError, OutputError, UsageError
from edge.labels import check_labels

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

STDOUT = 1

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}

FAULT = 70
"""Exit code for a fault of ours."""


class Parser(argparse.ArgumentParser):
    """An argument parser that ends with 64 for wrong usage, keeps the help's line breaks and knows `--debug`.

    Subcommands made by `add_subparsers()` are of this class too.
    """

    def __init__(  # noqa: D417  # the rest are argparse's own
        self,
        prog: str | None = None,
        *,
        description: str | None = None,
        epilog: str | None = None,
        parents: Sequence[argparse.ArgumentParser] = (),
        **options: object,
    ) -> None:
        """Make a parser.

        Args:
            prog: the command's name.
            description: what it does; line breaks stay.
            epilog: examples, below the options; line breaks stay.
            parents: parsers whose arguments are taken over.
        """
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        # An abbreviated option in somebody's script would change its meaning when a new option arrives.
        options.setdefault("allow_abbrev", False)
        super().__init__(
            prog,
            description=description,
            epilog=epilog,
            parents=list(parents),
            **options,  # type: ignore[arg-type]  # argparse's own keywords, handed through
        )
        self.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show a fault's traceback")

    def error(self, message: str) -> NoReturn:
        """Print the usage and the reason to stderr and exit with 64."""
        self.print_usage(sys.stderr)
        self.exit(UsageError.exit_code, f"{self.prog}: error: {shown(message)} (see {self.prog} --help)\n")


def printable(text: str) -> str:
    """Text without what would steer a terminal: file names may hold anything."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode("ascii") for sign in text)


def agreed(question: str) -> bool:
    """Whether a person says yes; to end the input (Ctrl-D) is to say no."""
    try:
        answer = input(question)
    except EOFError:
        print()
        return False
    return answer.strip().lower() in {"y", "yes"}


def shown(message: object) -> str:
    """A message that is printable line by line and shows no password: errors quote names of files, hosts and keys."""
    return "\n".join(map(printable, hide_password(str(message)).split("\n")))


def log_to_stderr() -> None:
    """Have warnings and errors come out as messages of ours, fit for a terminal. What logs already is left alone."""
    import logging

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return shown(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Formatter("mien: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add `--config`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration in TOML (default: /etc/mien/mien.toml, if there)"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add `--model` and `--labels`."""
    parser.add_argument(
        "--model", metavar="FILE", help="a .tflite file, or small (default: the full-size one that comes with Mien)"
    )
    parser.add_argument(
        "--labels", type=labels_argument, metavar="A,B,…", help="names of a foreign model's outputs, in their order"
    )


def sha256_argument(text: str) -> str:
    """A type for argparse: a SHA-256 as `sha256sum` and GitHub print it -> 64 lower-case digits."""
    digest = text.strip().lower().removeprefix("sha256:")
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise argparse.ArgumentTypeError(f"{text!r}; expected 64 hexadecimal digits, as sha256sum prints them")
    return digest


def span_seconds(text: str) -> float | None:
    """The seconds of a span such as `90s`, `10m`, `2h`, `3d` or `1w`; None where it is none."""
    span = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?) ?([smhdw])", text.strip())
    return float(span[1]) * _UNITS[span[2]] if span else None


def labels_argument(text: str) -> tuple[str, ...]:
    """`--labels A,B,...` for argparse, which answers an `ArgumentTypeError` with 64."""
    try:
        return check_labels(text.split(","), repr(text))
    except BadDataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def guarded(program: str, command: Callable[[], int], argv: Sequence[str] | None = None) -> int:
    """Run a command and turn however it ends into an exit code, with one line on stderr where something is wrong.

    Args:
        program: the command's name, which opens the line.
        command: parses, works and returns an exit code; may raise anything.
        argv: the command line without the program, looked at for `--debug` alone; None: `sys.argv[1:]`.

    Returns:
        The command's own code; a `MienError`'s code; 130 for Ctrl-C; 73 where standard output cannot be written (but
        0 where its reader has seen enough, as in `| head`); 70 for a fault of ours, with its traceback only where
        `--debug` or `MIEN_DEBUG=1` asks for it. Never raises.
    """
    debug = "--debug" in (sys.argv[1:] if argv is None else argv) or os.environ.get("MIEN_DEBUG", "") not in {"", "0"}
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name need not be text in this terminal's encoding, and that is no reason to stop.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = command()
    except SystemExit as stop:  # argparse, after --help or a refusal
        code = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:
        refused = _flush_stdout() or (error if _is_about_output(error) else None)
        if refused is not None and not isinstance(error, MienError):
            return _output_refused(program, refused)
        if debug:
            print(shown(traceback.format_exc()), end="", file=sys.stderr)
        if isinstance(error, MienError):
            print(f"{program}: error: {shown(error)}", file=sys.stderr)
            return error.exit_code
        if not debug:
            print(
                f"{program}: a fault of ours: {type(error).__name__}: {shown(error)}\n"
                "  (run it again with --debug, or with MIEN_DEBUG=1, to see where)",
                file=sys.stderr,
            )
        return FAULT
    refused = _flush_stdout()
    return code if refused is None else _output_refused(program, refused)


def _flush_stdout() -> OSError | None:
    """Write what is buffered; the error, where that fails. Afterwards nothing is left to fail at the exit."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a device, not a path
            os.dup2(nowhere.fileno(), STDOUT)
        return error
    return None


def _is_about_output(error: BaseException) -> TypeGuard[OSError]:
    """Whether a print failed: the disk is full, or the reader of a pipe that is our standard output has gone."""
    if isinstance(error, BrokenPipeError):
        poll = select.poll()
        poll.register(STDOUT, 0)
        return any(seen & (select.POLLERR | select.POLLHUP) for _, seen in poll.poll(0))
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def _output_refused(program: str, error: OSError) -> int:
    if isinstance(error, BrokenPipeError):
        return 0
    print(f"{program}: error: the output cannot be written: {error.strerror}; make room for it", file=sys.stderr)
    return OutputError.exit_code
