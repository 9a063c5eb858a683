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
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
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

Made by `python -m benchmarks.virtual_pi --write {path}`, which needs root's rights, QEMU and mosquitto, and says how to
get what is missing; `make test-system` asks the same of every claim. A virtual machine (`qemu-system-aarch64 -M virt
-cpu cortex-a72 -smp 2 -m 2048`) runs Debian Trixie's own arm64 kernel and systemd, with Mien's package
installed as a person would. Its camera is libcamera's virtual one, which shows {frames} pictures of two faces; the
daemon reads it through picamera2 like a Pi's own. Its broker is a mosquitto outside. All times are those of an emulated
processor on {here}, which had other work to do: a Pi is faster.

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
            result = SCENARIOS[name](image, package, options)
            _tell(show(result))
            (kept / f"{name}.json").write_text(json.dumps({"title": result.title, "figures": result.figures}))
    told = [json.loads(path.read_text()) for name in SCENARIOS if (path := kept / f"{name}.json").exists()]
    results = [Result(**each) for each in told]
    if options.json:
        print(json.dumps({result.title: result.figures for result in results}))
    if options.write:
        options.write.write_text(page(results, options.write), encoding="utf-8")
    return 0


SCENARIOS: dict[str, Callable[[Image, Path, argparse.Namespace], Result]] = {
    "boot": lambda image, *_: faults.boot(image),
    "kill": lambda image, *_: faults.kill(image),
    "hang": lambda image, *_: faults.hang(image),
    "camera": lambda image, *_: faults.lose_camera(image),
    "broker": lambda image, *_: faults.lose_broker(image),
    "clock": lambda image, *_: faults.wrong_clock(image),
    "power": lambda image, _, options: plug.cut_power(image, times=options.cuts, tell=_tell),
    "cache": lambda image, *_: plug.lose_cache(image, tell=_tell),
    "model": lambda image, *_: plug.interrupt_update(image, tell=_tell),
    "flash": lambda _, package, __: first_boot(open_image(None), package),
}


def show(result: Result) -> str:
    """The figures, a line each."""
    return "\n".join([result.title, *(f"  {what}: {figure}" for what, figure in result.figures.items())])


def page(results: Sequence[Result], path: Path) -> str:
    """The document."""
    parts = [f"## {result.title[0].upper()}{result.title[1:]}\n\n{_table(result)}" for result in results]
    return ABOUT.format(path=path, frames=FRAMES, here=machine()["processor"], tables="\n\n".join(parts))


def _table(result: Result) -> str:
    return aligned([("what", "measured"), *result.figures.items()])


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(guarded("virtual_pi", main))
