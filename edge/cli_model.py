"""`mien model`: other models beside the one that comes with Mien, and which of them is used."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli_pause import add_state
from edge.commandline import Parser, add_config, printable, sha256_argument, shown
from edge.errors import InputNotFoundError, MienError, OutputError
from edge.progress import CLEAR

if TYPE_CHECKING:
    from edge.config import ModelConfig
    from edge.model_trial import Trial

HELP = "install models, and say which is used"

DESCRIPTION = (
    "Put models next to the one that comes with Mien, and say which of them the daemon uses. A model is on trial until "
    "a picture went through vision with it: where three starts end before, the one before it is used again."
)

EPILOG = """\
examples:
  mien model install mine.tflite                        a file: tried here, and used from now on
  mien model install https://example.org/mine.tflite    its signature, mine.tflite.sig, must fit a key of yours
  mien model install small                              comes with Mien: faster, and wrong more often
  mien model list
  mien model use mien-v1-48@f87dae28                    'shipped' is the one that comes with Mien
  mien model rollback                                   the one that was used before

A service takes another model up by itself, with a restart of some seconds. You need no root, but must be in group mien:
sudo usermod -aG mien $USER, and log in again. 'mien model COMMAND --help' explains a command.
"""

INSTALL_EPILOG = """\
What comes is compared with --sha256 and its ed25519 signature, opened and run in a process of its own with limits on
memory and time, must pass its self-test, and read a photograph. Only then does it get its place; whatever fails before,
nothing has changed. Trusted keys are PEM files in /etc/mien/keys, or those named with --key. A file needs no signature,
but one that lies beside it must fit where a key is trusted.

To sign a model:
  openssl genpkey -algorithm ed25519 -out publisher.key               once; keep it secret
  openssl pkey -in publisher.key -pubout -out publisher.pem           for the devices: /etc/mien/keys/publisher.pem
  openssl pkeyutl -sign -rawin -inkey publisher.key -in mine.tflite -out mine.tflite.sig

examples:
  mien model install mine.tflite --no-use
  mien model install https://example.org/mine.tflite --key publisher.pem
  mien model install https://example.org/mine.tflite --unsigned --sha256 f87dae28...
  mien model install mine.tflite --json

exit codes: 0 done, 64 wrong usage, 65 no model, or its signature or SHA-256 does not fit, or it was given up, 66 not
there, 69 the server, the interpreter or the daemon does not answer, 73 it may not be written
"""

SCHEMA = "mien/models/1"

_NAME = "its name, NAME@ and the first digits of its SHA-256, or four or more of these alone"


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `model` to the commands of `mien`; each of its commands leaves its function in `call`."""
    model = commands.add_parser("model", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    parts = model.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = parts.add_parser(
        "install",
        help="put a model next to the others, and use it",
        description="Fetch a model, check it, try it, keep it and use it.",
        epilog=INSTALL_EPILOG,
    )
    install.add_argument("source", metavar="FILE|URL", help="a .tflite file, its address, https://…, or small")
    install.add_argument("--sha256", type=sha256_argument, metavar="HEX", help="the SHA-256 that it must have")
    install.add_argument(
        "--key",
        type=Path,
        action="append",
        default=[],
        metavar="PEM",
        help="a key that its signature may fit, instead of those in /etc/mien/keys; again for more",
    )
    install.add_argument("--unsigned", action="store_true", help="take one from an address without a signature")
    install.add_argument("--plain-http", action="store_true", help="take one from an http:// address")
    install.add_argument("--ca", type=Path, metavar="PEM", help="trust this authority's certificate, not the system's")
    install.add_argument(
        "--timeout", type=_timeout, default=600.0, metavar="SECONDS", help="for the whole download (default: 600)"
    )
    install.add_argument("--no-use", action="store_true", help="only keep it; 'mien model use' uses it")
    listing = parts.add_parser("list", help="which models there are", description="Show the models and which is used.")
    use = parts.add_parser("use", help="use another model", description="Try a model once more, and use it.")
    use.add_argument("name", metavar="NAME", help=f"{_NAME}; or 'shipped'")
    back = parts.add_parser(
        "rollback", help="use the model before", description="Use the model again that was used before this one."
    )
    remove = parts.add_parser("remove", help="remove a model", description="Remove a model that is not in use.")
    remove.add_argument("name", metavar="NAME", help=_NAME)
    for parser, call in (
        (install, call_install),
        (listing, call_list),
        (use, call_use),
        (back, call_rollback),
        (remove, call_remove),
    ):
        if parser in (install, use, back):
            parser.add_argument(
                "--no-wait", action="store_true", help="do not wait until the daemon has come up with it"
            )
        add_config(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object; what is said goes to stderr")
        add_state(parser)
        parser.set_defaults(call=call)


def call_install(arguments: argparse.Namespace) -> int:
    """Run `mien model install` and return its exit code."""
    from edge.model_fetch import Fetching
    from edge.model_install import Demands, install
    from edge.model_signature import SUFFIX
    from edge.model_store import SHIPPED, entry_of, short

    config = _read_config(arguments)
    demands = Demands(
        sha256=arguments.sha256 or "",
        keys=arguments.key,
        unsigned=arguments.unsigned,
        fetching=Fetching(plain=arguments.plain_http, ca_file=arguments.ca, total=arguments.timeout),
        labels=config.labels,
    )
    folder, progress = _open_folder(arguments), _Amount()
    try:
        installed = install(arguments.source, folder, demands, progress=progress.show)
    finally:
        progress.clear()
    trial, signed = installed.trial, installed.signed_by
    place = "comes with Mien" if installed.entry == SHIPPED else "is installed"
    unchecked = os.path.exists(f"{arguments.source}{SUFFIX}")  # noqa: PTH110  # False also where we may not look
    who = f"signed by {signed}" if signed else "its signature was not checked" if unchecked else "not signed"
    _say(arguments, f"{short(entry_of(trial.name, trial.sha256))} {place}: {installed.size:,} bytes, {who}")
    _say(arguments, _told(trial))
    if not arguments.no_use:
        _use(installed.entry, folder, arguments, config)
    figures = asdict(trial) | {"bytes": installed.size, "signed_by": str(signed) if signed else None}
    _print_json(arguments, folder, config, installed=figures)
    return 0


def call_list(arguments: argparse.Namespace) -> int:
    """Run `mien model list` and return its exit code."""
    config, folder = _read_config(arguments), _open_folder(arguments, change=False)
    if arguments.json:
        _print_json(arguments, folder, config)
        return 0
    listed = _listed(folder, config)
    rows = [("model", "bytes", "")]
    for one in listed["models"]:
        roles = [role for role in ("shipped", "used", "previous", "damaged") if one[role]]
        roles += ["on trial"] if one["used"] and listed["on_trial"] else []
        rows.append((one["name"], f"{one['bytes']:,}", ", ".join(roles)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, size, told in rows:
        print(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {told}".rstrip())
    if listed["refused"]:
        print(printable(f"{listed['refused']} was given up: {listed['why']}"))
    elif listed["why"]:
        print(printable(f"{listed['why']}: 'mien model use' chooses again"))
    _tell_winner(arguments, config)
    return 0


def call_use(arguments: argparse.Namespace) -> int:
    """Run `mien model use` and return its exit code."""
    from edge.model_install import shipped_entry, try_again
    from edge.model_store import SHIPPED, find

    config, folder = _read_config(arguments), _open_folder(arguments)
    entry = find(folder, arguments.name, shipped_entry())
    if entry != SHIPPED:
        _say(arguments, _told(try_again(folder, entry, config.labels)))
    _use(entry, folder, arguments, config)
    _print_json(arguments, folder, config)
    return 0


def call_rollback(arguments: argparse.Namespace) -> int:
    """Run `mien model rollback` and return its exit code."""
    from edge.model_store import find_previous

    config, folder = _read_config(arguments), _open_folder(arguments)
    _use(find_previous(folder), folder, arguments, config)
    _print_json(arguments, folder, config)
    return 0


def call_remove(arguments: argparse.Namespace) -> int:
    """Run `mien model remove` and return its exit code."""
    from edge.model_install import shipped_entry
    from edge.model_store import find, remove, short

    config, folder = _read_config(arguments), _open_folder(arguments)
    entry = find(folder, arguments.name, shipped_entry())
    with _writing(folder):
        remove(folder, entry)
    _say(arguments, f"{short(entry)} is removed")
    _print_json(arguments, folder, config)
    return 0


def _use(entry: str, folder: Path, arguments: argparse.Namespace, config: ModelConfig) -> None:
    """Have a model used, and wait for the daemon that takes it up."""
    from edge.model_change import await_daemon, daemons
    from edge.model_store import read_choice, use

    devices = daemons(folder)
    before = read_choice(folder).current
    with _writing(folder):
        choice = use(folder, entry)
    if before == entry and choice.starts is None:
        _say(arguments, f"{_named(entry)} is in use already")
        return
    kept = f"; {_named(choice.previous)} is kept to fall back to" if choice.previous != entry else ""
    _say(arguments, f"{_named(entry)} is chosen{kept}")
    if config.path is not None:
        _tell_winner(arguments, config)
    elif not devices:
        _say(arguments, "no daemon runs before a camera; the next one that starts uses it")
    elif not arguments.no_wait:
        print("waiting for the daemon to come up with it (Ctrl-C takes nothing back)", file=sys.stderr)
        _say(arguments, await_daemon(folder, entry, devices))


def _named(entry: str) -> str:
    from edge.model_store import SHIPPED, short

    return "the model that comes with Mien" if entry == SHIPPED else short(entry)


def _read_config(arguments: argparse.Namespace) -> ModelConfig:
    """What the configuration says of models; nothing where it is wrong: that must not keep anybody from going back."""
    from edge.config import ModelConfig, load_config

    try:
        return load_config(arguments.config, environ=os.environ, overrides={}).model
    except MienError as error:
        if arguments.config is not None:
            raise
        print(shown(f"mien: note: the configuration is passed over: {error}"), file=sys.stderr)
        return ModelConfig()


def _open_folder(arguments: argparse.Namespace, *, change: bool = True) -> Path:
    """The models' folder: the service's where there is one, else one's own.

    Raises:
        InputNotFoundError: the one that was named is not there.
        OutputError: it may not be used.
    """
    from edge.control import SERVICE, find_states, open_folder, refused
    from edge.model_store import FOLDER, tidy

    given = arguments.state
    if given is not None and not given.is_dir():
        raise InputNotFoundError(f"--state {given} is no folder; name that in which the daemon's file 'starts' lies")
    state = find_states(os.environ, given)[0]
    if change:
        folder = open_folder(state, shared=state == SERVICE, name=FOLDER)
        with _writing(folder):
            tidy(folder)
        return folder
    folder = state / FOLDER
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:  # nobody has installed any
        pass
    except OSError as error:
        raise refused(folder, error) from None
    return folder


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell a person of a disk that refuses."""
    try:
        yield
    except MienError:
        raise
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}); nothing was changed") from None


def _listed(folder: Path, config: ModelConfig) -> dict[str, Any]:
    """All there is to know, for JSON."""
    from edge.model_install import shipped_entry
    from edge.model_store import SHIPPED, entry_of, path_of, read_choice, short, stored
    from edge.modelfile import SHIPPED as SHIPPED_FILE

    choice = read_choice(folder)
    models = []
    for entry in [SHIPPED, *stored(folder)]:
        path, full = (SHIPPED_FILE, shipped_entry()) if entry == SHIPPED else (path_of(folder, entry), entry)
        name, _, sha256 = full.rpartition("@")
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # somebody has removed it just now
            continue
        except OSError as error:
            raise InputNotFoundError(
                f"{path} cannot be read ({error.strerror}); 'mien model remove' removes it"
            ) from None
        models.append(
            {
                "name": short(full),
                "sha256": sha256,
                "bytes": len(content),
                "shipped": entry == SHIPPED,
                "used": entry == choice.current,
                "previous": entry == choice.previous != choice.current,
                "damaged": entry_of(name, hashlib.sha256(content).hexdigest()) != full,
            }
        )
    return {
        "schema": SCHEMA,
        "folder": str(folder),
        "configured": None if config.path is None else str(config.path),
        "on_trial": choice.starts is not None,
        "refused": None if choice.refused is None else short(choice.refused),
        "why": choice.why,
        "models": models,
    }


def _print_json(arguments: argparse.Namespace, folder: Path, config: ModelConfig, **more: object) -> None:
    if arguments.json:
        print(json.dumps(_listed(folder, config) | more, ensure_ascii=False))


def _tell_winner(arguments: argparse.Namespace, config: ModelConfig) -> None:
    if config.path is not None:
        _say(
            arguments,
            f"note: the configuration names {config.path} in [model] path, which wins; take it out there to have the "
            "model used that is chosen here",
        )


def _told(trial: Trial) -> str:
    """How a trial went, in one line."""
    test = "its self-test passes" if trial.self_test else "it holds no self-test"
    return (
        f"{test}; it reads a photograph of a smile as {trial.expression} ({trial.confidence:.2f}); "
        f"{trial.milliseconds:.2g} ms a face (the one that comes with Mien: {trial.shipped:.2g})"
    )


def _say(arguments: argparse.Namespace, text: str) -> None:
    print(printable(text), file=sys.stderr if arguments.json else sys.stdout, flush=True)


class _Amount:
    """One line on a terminal that says how much has come."""

    def __init__(self) -> None:
        self._written = False

    def show(self, done: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of = "" if total is None else f" of {total / 1e6:.1f}"
            print(f"{CLEAR}{done / 1e6:.1f}{of} MB", end="", file=sys.stderr, flush=True)
            self._written = True

    def clear(self) -> None:
        if self._written:
            print(CLEAR, end="", file=sys.stderr, flush=True)
            self._written = False


def _timeout(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, 1 to 86400")
    return seconds
