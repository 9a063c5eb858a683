"""The command `mien-flash`: its options, what it asks and what it prints. `edge.flash` does the work."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.commandline import Parser, guarded, printable, sha256_argument
from edge.errors import UsageError
from edge.progress import CLEAR, EVERY_SECONDS

if TYPE_CHECKING:
    from edge.flash import Preparer
    from edge.flash_card import Machine
    from edge.flash_settings import Card

DESCRIPTION = "Prepare SD cards and images of Raspberry Pi OS (64-bit), whose first boot comes up with Mien at work."

EPILOG = """\
One of these:
  IMAGE --card /dev/sdX     write the image to a card, prepared, and read it back
  IMAGE --out kitchen.img   write a prepared copy of the image to a file; needs no root's rights
  --boot FOLDER             prepare the boot partition of a card that is written already: where it is mounted, or an
                            image's file; with --out, a prepared copy of the folder
IMAGE is .img, .img.xz, .img.gz or .zip. With --fleet, --out is a folder, and --card asks for one card after the other.

--mien is what `make deb` or `make wheelhouse` makes. With --packages, the folder that `make packages` fills, the first
boot needs no network; with a Pi camera that takes an image with the desktop, as Lite has no picamera2. Settings are
options, or columns of the same names in the CSV of --fleet, which also takes keys of mien.toml such as source.rotate;
cells win over options. Passwords come from files or are asked for.

examples:
  mien-flash --list
  sudo mien-flash raspios-trixie-arm64-lite.img.xz --card /dev/sdb --mien dist/mien_0.1.0_arm64.deb \\
      --hostname kitchen --user ada --ssh-key ~/.ssh/id_ed25519.pub --wifi Home --country DE --mqtt mqtt://broker.local
  mien-flash --boot /media/ada/bootfs --mien dist/wheelhouse --packages dist/packages-trixie --hostname hall
  mien-flash lite.img.xz --fleet cards.csv --out prepared/ --mien dist/mien_0.1.0_arm64.deb --country DE
  mien-flash lite.img.xz --fleet cards.csv --card /dev/sdb --mien dist/mien_0.1.0_arm64.deb --dry-run

exit codes: 0 done, 64 wrong usage, 65 bad data, 66 input not there, 69 something is not there, 73 cannot write, 78
wrong configuration, 130 Ctrl-C
"""

FLAGS = ("wifi-hidden", "wifi-open")

SETTINGS = {
    "hostname": ("NAME", "the Pi's name in the network; each card needs its own"),
    "device": (
        "NAME",
        "its name in events and topics (default: the host's plus four characters of the board's own)",
    ),
    "user": ("NAME", "who may log in and become root (default: nobody)"),
    "ssh-key": ("FILE", "that user's public key, such as ~/.ssh/id_ed25519.pub"),
    "user-password-file": ("FILE", "a file with that user's password, or its hash; it is hashed on the card"),
    "wifi": ("NAME", "the Wi-Fi network's name (default: wired only)"),
    "wifi-password-file": ("FILE", "a file with its password (default: you are asked for it)"),
    "wifi-hidden": ("", "it does not tell its name"),
    "wifi-open": ("", "it has no password"),
    "country": ("CC", "whose rules the radio keeps, such as GB or DE"),
    "timezone": ("ZONE", "such as Europe/Berlin (default: the image's)"),
    "mqtt": ("URL", "the broker, such as mqtt://broker.local or mqtts://… (default: none)"),
    "mqtt-username": ("NAME", "who Mien is to the broker"),
    "mqtt-password-file": ("FILE", "a file with the broker's password"),
    "ca-file": ("FILE", "the broker's authority in PEM format (default: the system's)"),
    "source": ("SPEC", "the camera: picamera2, v4l2:/dev/video0, rtsp://user@… (default: picamera2)"),
    "source-password-file": ("FILE", "a file with a network camera's password"),
    "config": ("FILE", "a whole mien.toml to begin with"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: the process's own) and return the exit code."""
    return guarded("mien-flash", lambda: _main(argv), argv)


def make_parser() -> Parser:
    """The parser."""
    parser = Parser("mien-flash", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"mien-flash {__version__}")
    parser.add_argument("image", nargs="?", type=Path, metavar="IMAGE", help="an image of Raspberry Pi OS, 64-bit")
    where = parser.add_argument_group("where to")
    where.add_argument("--list", action="store_true", help="show the cards that are there, and end")
    where.add_argument("--card", type=Path, metavar="DEVICE", help="write to this card; all that is on it is lost")
    where.add_argument("--boot", type=Path, metavar="PLACE", help="prepare this boot partition")
    where.add_argument("--out", type=Path, metavar="PATH", help="write a prepared copy here")
    what = parser.add_argument_group("what is installed")
    what.add_argument("--mien", type=Path, metavar="PATH", help="dist/mien_VERSION_arm64.deb or dist/wheelhouse")
    what.add_argument("--packages", type=Path, metavar="DIR", help="Debian's packages, to need no network")
    what.add_argument(
        "--release", choices=["bookworm", "trixie"], help="which Raspberry Pi OS it is (default: detected)"
    )
    what.add_argument("--sha256", type=sha256_argument, metavar="HEX", help="what the image's SHA-256 must be")
    card = parser.add_argument_group("settings of a card")
    for name, (metavar, text) in SETTINGS.items():
        if name in FLAGS:
            card.add_argument(f"--{name}", action="store_const", const="yes", help=text)
        else:
            card.add_argument(f"--{name}", metavar=metavar, help=text)
    card.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a key of mien.toml, such as source.rotate=180"
    )
    card.add_argument("--fleet", type=Path, metavar="CSV", help="many cards: a row with its settings for each")
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="check everything, show what would be written, and end")
    how.add_argument("--json", action="store_true", help="print one JSON object for each card")
    how.add_argument("--yes", action="store_true", help="with --card: do not ask before it is written over")
    how.add_argument("--mounted-too", action="store_true", help="with --card: it may be mounted")
    how.add_argument("--fixed-too", action="store_true", help="with --card: it need not be removable")
    return parser


def _main(argv: Sequence[str] | None) -> int:
    arguments = make_parser().parse_args(argv)
    from edge.flash_card import Machine

    if arguments.list:
        _list(Machine(), as_json=arguments.json)
        return 0
    _check(arguments)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        # As Ctrl-C does, a kill or a closed terminal leaves no copy with secrets in /var/tmp.
        if signal.getsignal(ending) is signal.SIG_DFL:
            signal.signal(ending, signal.default_int_handler)
    cards = _cards(arguments)

    from edge.flash import Job, Preparer, to_json
    from edge.flash_image import check_sha256

    line = _Line(sys.stderr)
    if arguments.sha256:
        check_sha256(arguments.image, arguments.sha256)
    release, is_whole = arguments.release or "", arguments.sha256 is not None
    job = Job(arguments.mien, arguments.packages, release, arguments.dry_run, is_whole, line.show)
    preparer = Preparer(job)
    for number, card in enumerate(cards, 1):
        done = _write(arguments, preparer, card, f"{number} of {len(cards)}", Machine())
        line.clear()
        if "note" in done and not arguments.json:
            print(f"note: {done['note']}", file=sys.stderr)
        print(to_json(done) if arguments.json else _told(done, dry_run=arguments.dry_run))
    if not any(card.user for card in cards) and not arguments.json:
        print("note: no --user is named, so nobody will be able to log in", file=sys.stderr)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what does not go together."""
    image, boot, card, out = arguments.image, arguments.boot, arguments.card, arguments.out
    if (image is None) == (boot is None):
        raise UsageError("name an IMAGE, or a boot partition with --boot; see mien-flash --help")
    if image is not None and (card is None) == (out is None):
        raise UsageError("where shall it be written to? Say --card DEVICE or --out PATH")
    if boot is not None and card is not None:
        raise UsageError("--card needs an IMAGE; --boot prepares a partition where it is")
    if boot is not None and out is not None and not boot.is_dir():
        raise UsageError(f"--boot {boot} is no folder; --out copies folders. Copy the file first, or name it as IMAGE")
    if arguments.fleet and boot is not None and out is None:
        raise UsageError("--fleet prepares many cards, and --boot is one; say --out FOLDER, where a copy for each goes")
    if out is not None and out.exists() and not (out.is_file() or out.is_dir()):
        raise UsageError(f"--out {out} is no file; a card is written with --card")
    if arguments.sha256 and image is None:
        raise UsageError("--sha256 is that of an IMAGE, and none is named")
    if arguments.mien is None:
        raise UsageError("--mien is missing: what shall be installed? `make deb` makes dist/mien_VERSION_arm64.deb")
    if arguments.fleet and card is not None and not (sys.stdin.isatty() or arguments.dry_run):
        raise UsageError(
            "nobody can be asked here to change the cards; write files with --out, or run it in a terminal"
        )


def _cards(arguments: argparse.Namespace) -> list[Card]:
    from edge.flash_firstboot import templates
    from edge.flash_fleet import read_fleet
    from edge.flash_settings import make_card

    options: dict[str, str] = {name: getattr(arguments, name.replace("-", "_")) or "" for name in SETTINGS}
    for text in arguments.set:
        key, equals, value = text.partition("=")
        if not equals or "." not in key:
            raise UsageError(f"--set {text}: expected KEY=VALUE, such as source.rotate=180")
        options[key] = value
    for name, value in options.items():
        if value and (name in {"config", "ssh-key"} or name.endswith("-file")):
            options[name] = str(Path(value).expanduser().absolute())
    default = templates() / "mien.toml"
    if arguments.fleet:
        # One network for all is asked for once.
        ask = _asked_once()
        return read_fleet(arguments.fleet, options, default_config=default, ask=ask)
    return [
        make_card(
            options,
            default_config=default,
            where=lambda name: f"--set {name}" if "." in name else f"--{name}",
            ask=_asked_once(),
        )
    ]


def _asked_once() -> Callable[[str], str] | None:
    if not sys.stdin.isatty():
        return None
    answers: dict[str, str] = {}

    def ask(prompt: str) -> str:
        if prompt not in answers:
            answers[prompt] = _asked(getpass, printable(prompt))
        return answers[prompt]

    return ask


def _asked(read: Callable[[str], str], prompt: str) -> str:
    try:
        return read(prompt)
    except EOFError:
        raise UsageError("no answer was given, and nothing more is written") from None


def _write(
    arguments: argparse.Namespace, preparer: Preparer, card: Card, which: str, machine: Machine
) -> dict[str, object]:
    out: Path | None = arguments.out
    if arguments.card:
        if not arguments.dry_run:
            _agree(arguments, card, which, machine)
        return preparer.write_card(
            arguments.image,
            arguments.card,
            card,
            machine,
            mounted_too=arguments.mounted_too,
            fixed_too=arguments.fixed_too,
        )
    if arguments.image and out:
        target = out / f"{card.hostname}.img" if arguments.fleet or out.is_dir() else out
        return preparer.prepare_image(arguments.image, target, card)
    if out:
        return preparer.prepare_folder(arguments.boot, out / card.hostname if arguments.fleet else out, card)
    return preparer.prepare_place(arguments.boot, card)


def _agree(arguments: argparse.Namespace, card: Card, which: str, machine: Machine) -> None:
    """Have the right card put in, and ask before it is written over."""
    if arguments.fleet:
        _asked(input, printable(f"Put in the card for {card.hostname} ({which}), then press Enter: "))
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here whether to write over the card; say --yes")
    device = machine.device(arguments.card)
    answer = _asked(
        input,
        printable(
            f"Write {card.hostname} over {device.path}, {device.model or 'a disk'} of {device.size / 1e9:.1f} GB? "
            "All that is on it is lost. [y/N] "
        ),
    )
    if answer.strip().lower() not in {"y", "yes"}:
        raise UsageError(f"{device.path} was not touched; {card.hostname} and what follows are not written")


def _list(machine: Machine, *, as_json: bool) -> None:
    import json

    devices = [device for device in machine.devices() if device.removable]
    for device in devices:
        if as_json:
            print(json.dumps(device.to_dict()))
        else:
            notes = [f"mounted: {', '.join(device.mounts)}"] if device.mounts else []
            notes += ["write-protected"] if device.read_only else []
            print(printable(f"{device.path}  {device.size / 1e9:.1f} GB  {device.model}  {'; '.join(notes)}".rstrip()))
    if not devices:
        print("mien-flash: no card is there; put one in", file=sys.stderr)


def _told(done: dict[str, Any], *, dry_run: bool) -> str:
    if not dry_run:
        read_back = ", read back and found to be right" if "sha256" in done else ""
        return printable(f"{done['hostname']}: {done['written']} is prepared for {done['release']}{read_back}")
    lines = [f"{done['hostname']}: would be written to {done['written']}, which is {done['release']}"]
    for name, content in done["files"].items():
        lines += [f"--- {name}", *(["(a script of Mien's)"] if name.endswith(".sh") else content.splitlines())]
    copied = done["copied"]
    lines.append(f"--- and {len(copied)} files, {sum(copied.values()) / 1e6:.0f} MB, below mien/")
    return "\n".join(map(printable, lines))


class _Line:
    """How far a card is, on a terminal."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream if stream.isatty() else None
        self._next = 0.0
        self._what = ""
        self._began = 0.0

    def show(self, what: str, total: int, done: int) -> None:
        """Bring the line up to date, a few times a second at most."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._began, self._next = what, now, now + EVERY_SECONDS
        if self._stream is None or now < self._next:
            return
        self._next = now + EVERY_SECONDS
        share = f"{min(100 * done // total, 100)} %" if total else f"{done // 10**6} MB"
        self._stream.write(f"{CLEAR}{what}: {share}, {done / 1e6 / max(now - self._began, 1e-3):.0f} MB/s")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._stream is not None:
            self._stream.write(CLEAR)
            self._stream.flush()
