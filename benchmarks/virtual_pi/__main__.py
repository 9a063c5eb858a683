"""What a Pi comes through, tried on one that is not there.

python -m benchmarks.virtual_pi [--only NAME …] [--cuts N] [--package mien_*_arm64.deb] [--json] [--write docs/proof.md]

All of it takes two hours. What was found with a package is kept beside its image in ~/.cache/mien, so that one scenario
can be played again and the page still has all.

QEMU plays a 64-bit ARM computer with a Raspberry Pi 4's processor, on which Debian Trixie's own kernel and systemd run
Mien's package; libcamera's virtual camera shows it pictures of faces. Ends with 70 where something is not survived, and
with 69 where a tool is missing.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.telling import aligned
from benchmarks.virtual_pi import faults, plug
from benchmarks.virtual_pi.first_boot import first_boot
from benchmarks.virtual_pi.image import FRAMES, Image, make_package, open_image
from benchmarks.virtual_pi.scene import Result
from edge.bench_report import machine
from edge.commandline import guarded

ABOUT = """\
# Proof without a Pi

Made by `python -m benchmarks.virtual_pi --write {path}`, which takes two hours, needs root's rights, QEMU and
mosquitto, and says how to get what is missing; `make test-system` asks the same of every claim. A virtual machine
(`qemu-system-aarch64 -M virt -cpu cortex-a72 -smp 2 -m 2048`, the processor of a Pi 4) runs Debian Trixie's own arm64
kernel and systemd with Mien's package installed as a person would. Its camera is libcamera's virtual one, which shows
{frames} pictures of two faces; the daemon reads it through picamera2 as it does a Pi's own, which four small
replacements in that image make possible (`benchmarks/virtual_pi/guest`). Its broker is a mosquitto outside. All times
are those of a processor that is emulated by {here} and shares it with other work: a Pi is many times as fast.
Scenarios may have been played in several runs (`--only`), all with one and the same package.

Its card is an ext4 file system on a disk that says of itself that it has a volatile write cache (`cache=writeback`). A
power cut is SIGKILL to QEMU: all that the guest had not yet handed to the disk is lost.

{tables}
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.virtual_pi", description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", choices=sorted(SCENARIOS), help="this scenario; may be repeated")
    parser.add_argument("--cuts", type=int, default=20, metavar="N", help="how often the power is cut (20)")
    parser.add_argument("--package", type=Path, metavar="DEB", help="the package to install; else this tree's is made")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page to this file")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        package = options.package or make_package(Path(folder))
        image = open_image(package)
        kept = image.disk.parent / "results"
        kept.mkdir(exist_ok=True)
        for name in options.only or SCENARIOS:
            result = play(name, image, package, options.cuts)
            _tell(show(result))
            (kept / f"{name}.json").write_text(json.dumps({"title": result.title, "figures": result.figures}))
    told = {name: json.loads(path.read_text()) for name in SCENARIOS if (path := kept / f"{name}.json").exists()}
    results = {name: Result(**each) for name, each in told.items()}
    if options.json:
        print(json.dumps(told, indent=2))
    if options.write:
        options.write.write_text(page(results, options.write), encoding="utf-8")
    return 0


SCENARIOS: dict[str, Callable[..., Result]] = {
    "boot": faults.boot,
    "kill": faults.kill,
    "hang": faults.hang,
    "camera": faults.lose_camera,
    "broker": faults.lose_broker,
    "clock": faults.wrong_clock,
    "power": plug.cut_power,
    "cache": plug.lose_cache,
    "model": plug.interrupt_update,
    "flash": first_boot,
}


def play(name: str, image: Image, package: Path, cuts: int) -> Result:
    """One scenario."""
    scenario = SCENARIOS[name]
    match name:
        case "power":
            return scenario(image, times=cuts, tell=_tell)
        case "cache" | "model":
            return scenario(image, tell=_tell)
        case "flash":
            return scenario(open_image(None), package)
    return scenario(image)


def show(result: Result) -> str:
    """The figures, a line each."""
    return "\n".join([result.title, *(f"  {what}: {figure}" for what, figure in result.figures.items())])


def page(results: Mapping[str, Result], path: Path) -> str:
    """The document."""
    parts = [
        f"## {result.title[0].upper()}{result.title[1:]}\n\n{_about(name)}\n\n{_table(result)}"
        for name, result in results.items()
    ]
    return ABOUT.format(path=path, frames=FRAMES, here=machine()["processor"], tables="\n\n".join(parts))


def _about(name: str) -> str:
    """What a scenario does, in its own words."""
    return (inspect.getdoc(SCENARIOS[name]) or "").partition("\n\nArgs:")[0]


def _table(result: Result) -> str:
    return aligned([("what", "measured"), *result.figures.items()])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(guarded("virtual_pi", main))
