"""`mien fleet`: its arguments and what it prints. `edge.fleet_watch` listens, `edge.fleet_table` makes the tables."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from edge.commandline import Parser, add_config, agreed, printable
from edge.errors import InputNotFoundError, UnavailableError, UsageError

if TYPE_CHECKING:
    from edge.config import Config
    from edge.fleet import Device
    from edge.fleet_watch import Watch

HELP = "every device on a broker"
DESCRIPTION = (
    "Show every device that publishes to a broker, from what the broker retains of them alone: live on a terminal, "
    "until Ctrl-C, else as a table. The devices are asked nothing."
)
WAIT = 10.0
REFRESH = 0.25
"""Seconds between two pictures at the least."""
TICK = 1.0
"""Seconds between two at the most: ages grow."""

EPILOG = """\
Without --mqtt the broker is that of 'mien run': mqtt.url in the configuration, or MIEN_MQTT_URL; likewise the others.
The live table needs rich: pip install 'mien[fleet]'.

what is shown:
  status        online and offline, as device and broker say; unknown where they do not, or did before a lost connection
                paused: online, and its camera is not read ('mien pause')
  since         when that was seen to change; else when the daemon was started, or when an offline device was last seen
  faces, expression    how many there are, and what the largest shows
  fps, frame age       frames looked at per second, and how many seconds old the newest was
  temperature   the processor's, and why it is slowed down; "was": at some time since it was switched on
  outbox, lost  events that wait on the device for the broker; events that it has given up
  last seen     the latest message that tells, or shows, when it was made

--json prints one object a line: schema, device, status, paused, since, last_seen, faces, expression, confidence, fps,
frame_age, temperature, throttling (now, since_boot), outbox, lost, model, version; null is not known.

--forget empties what the broker retains of a device that is gone for good: its status, state, health, and what Home
Assistant was told of it. It asks first. A device that is online would publish them again: stop it before.

examples:
  mien fleet --mqtt mqtt://broker.local
  mien fleet --mqtt mqtts://broker.local --username me --password-file broker.password
  mien fleet --once | grep offline
  mien fleet --json | jq -r 'select(.lost > 0).device'
  mien fleet --forget kitchen-3f9c

exit codes: 0 done, 64 wrong usage, 65 bad data, 66 no such device or file, 69 no broker, or it refuses, 78 wrong
configuration, 130 Ctrl-C
"""


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `fleet` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("fleet", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--mqtt", metavar="URL", help="the broker, such as mqtt://broker.local:1883 or mqtts://…")
    parser.add_argument("--base", metavar="TOPIC", help="what the devices' topics begin with (default: mien)")
    parser.add_argument("--username", metavar="NAME", help="who we are to the broker")
    parser.add_argument("--password-file", metavar="FILE", help="a file that holds the password and nothing else")
    parser.add_argument("--ca-file", metavar="FILE", help="the broker's authority in PEM (default: the system's)")
    parser.add_argument("--cert-file", metavar="FILE", help="our own certificate in PEM format")
    parser.add_argument("--key-file", metavar="FILE", help="its key in PEM format")
    add_config(parser)
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=WAIT,
        metavar="SECONDS",
        help=f"for the broker's answer (default: {WAIT:g})",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--once", action="store_true", help="print a table and end")
    how.add_argument("--json", action="store_true", help="print one JSON object for each device and end")
    how.add_argument("--forget", metavar="DEVICE", help="empty what the broker retains of a device")
    parser.add_argument("--yes", action="store_true", help="with --forget: do not ask, and be it online")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    config = _configured(arguments)
    live = not (arguments.once or arguments.json or arguments.forget) and sys.stdout.isatty()
    if live:
        _require_rich()
    with _watching(config, arguments.forget or "") as watch:
        until = monotonic() + arguments.wait
        watch.wait_connected(arguments.wait)
        if live:
            _show_live(watch)
        if arguments.forget:
            watch.wait_told(until - monotonic())
            _forget(watch, arguments.forget, config, yes=arguments.yes, wait=arguments.wait)
            return 0
        try:
            watch.wait_told(until - monotonic())
        except UnavailableError:
            _print(watch, config, as_json=arguments.json)  # what came until then
            raise
        _print(watch, config, as_json=arguments.json)
    return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r}; expected seconds, such as {WAIT:g}")
    return value


def _configured(arguments: argparse.Namespace) -> Config:
    from edge.config import load_config
    from edge.rules import DEVICE_NAME

    if arguments.yes and not arguments.forget:
        raise UsageError("--yes goes with --forget DEVICE")
    if arguments.forget is not None and not DEVICE_NAME.fullmatch(arguments.forget):
        raise UsageError(f"--forget: {arguments.forget!r} is no name of a device; 'mien fleet --once' shows them")
    options = {"url": "mqtt", "base": "base"}
    options |= {key: key for key in ("username", "password_file", "ca_file", "cert_file", "key_file")}
    overrides = {f"mqtt.{key}": getattr(arguments, option) for key, option in options.items()}
    config = load_config(arguments.config, environ=os.environ, overrides=overrides)
    if not config.mqtt.url:
        raise UsageError("no broker is named; say where it is, such as --mqtt mqtt://broker.local, or set mqtt.url")
    return config


def _require_rich() -> None:
    from importlib.util import find_spec

    if find_spec("rich") is None:
        raise UnavailableError(
            "rich is not installed here; the live table needs: pip install 'mien[fleet]' (--once and --json do not)"
        )


def _watching(config: Config, device: str) -> Watch:
    import secrets

    from edge.fleet_watch import Watch
    from edge.sinks.mqtt_link import open_access

    # Another name each time: the broker lets two with one name push each other out.
    return Watch(open_access(config.mqtt, f"mien-fleet-{secrets.token_hex(4)}"), config.mqtt.base, device=device)


def _show_live(watch: Watch) -> None:
    from time import sleep

    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from edge.fleet_table import live

    console = Console()
    with Live(console=console, auto_refresh=False) as screen:
        while True:
            for complaint in watch.complaints():
                console.print(Text(complaint, style="yellow"))
            now = datetime.now(UTC)
            screen.update(live(watch.view(), now, width=console.width, height=console.height), refresh=True)
            sleep(REFRESH)
            watch.wait_changed(TICK - REFRESH)


def _print(watch: Watch, config: Config, *, as_json: bool) -> None:
    from edge.fleet_table import plain, summary

    _warn(watch)
    devices = watch.view().devices
    if as_json:
        for device in devices:
            print(device.to_json())
    elif devices:
        print(plain(devices, datetime.now(UTC)))
        print(f"\n{summary(devices)}")
    if not devices:
        print(
            f"mien fleet: no device has said anything below {printable(config.mqtt.base)}/ on this broker; "
            "is --base right, and may this user read it?",
            file=sys.stderr,
        )


def _warn(watch: Watch) -> None:
    for complaint in watch.complaints():
        print(f"mien fleet: warning: {complaint}", file=sys.stderr)


def _forget(watch: Watch, name: str, config: Config, *, yes: bool, wait: float) -> None:
    from edge.fleet import KINDS, ONLINE
    from edge.homeassistant import removal

    _warn(watch)
    known = watch.view().devices
    base = config.mqtt.base
    if not known:
        raise InputNotFoundError(
            f"the broker retains nothing of {base}/{name}; 'mien fleet --once' shows what there is"
        )
    [device] = known
    if not yes:
        if device.status == ONLINE:
            raise UsageError(f"{name} is online and would publish it all again; stop it first, or say --yes")
        if not _agreed(device):
            print("nothing was changed")
            return
    topics = [f"{base}/{name}/{kind}" for kind in KINDS]
    topics.append(removal(name, prefix=config.homeassistant.prefix)[0])
    watch.empty(topics, wait)
    # By MQTT 3.1.1 a broker acknowledges what it does not take, too.
    if device.status != ONLINE and not watch.wait_gone(wait):
        raise UnavailableError(f"the broker still retains what it has of {base}/{name}; may this user write there?")
    print(f"{name} is forgotten: {', '.join(topics)} are empty")


def _agreed(device: Device) -> bool:
    if not sys.stdin.isatty():
        raise UsageError(f"nobody can be asked here whether to forget {device.name}; say --yes")
    return agreed(f"Forget {device.name}, which is {device.status}, with what Home Assistant knows of it? [y/N] ")
