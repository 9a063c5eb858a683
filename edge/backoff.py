"""How long the service waits before it is started once more: longer after every failure in a row, never for good.

`mien.service` runs this before and after the daemon, because systemd before 254 (Bookworm has 252) does not know
`RestartSteps=`. The count lies in the unit's runtime directory, which `RuntimeDirectoryPreserve=restart` keeps for as
long as systemd itself restarts the service.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LONGEST_SECONDS = 120
"""Between two attempts; shorter than the unit's `TimeoutStartSec=`, which would cut it off."""

STEADY_SECONDS = 600.0
"""A run that lasted so long was a good one, however it ended."""

FILE = "restarts"


def pause(failures: int) -> int:
    """Seconds to wait after so many failures in a row: none after the first, then 4, 8, 16 up to the longest."""
    return min(2 ** min(failures, 16), LONGEST_SECONDS) if failures > 1 else 0


def before(
    folder: Path, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Wait where the last attempts failed, and note this one.

    Args:
        folder: what is in it outlasts a restart by systemd and nothing else.
        clock: seconds since the boot; the clock on the wall jumps on a Pi.
        sleep: waits for seconds.

    Returns:
        How many attempts failed in a row before this one.
    """
    file = folder / FILE
    failures, began = _read(file)
    failures = failures + 1 if clock() - began < STEADY_SECONDS else 1
    if not file.exists():
        failures = 0
    if seconds := pause(failures):
        print(
            f"mien: failed {failures} times in a row, starts again in {seconds} s (at once: systemctl restart mien)",
            file=sys.stderr,
            flush=True,
        )
        sleep(seconds)
    file.write_text(f"{failures} {clock():.0f}\n", encoding="ascii")
    return failures


def after(folder: Path, result: str) -> None:
    """Forget the failures where the daemon ended well: systemd's `$SERVICE_RESULT` is `success`."""
    if result == "success":
        (folder / FILE).unlink(missing_ok=True)


def _read(file: Path) -> tuple[int, float]:
    try:
        failures, began = file.read_text(encoding="ascii").split()
        return int(failures), float(began)
    except (OSError, ValueError):
        return 0, 0.0


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """`before` or `after`, as the unit calls it. A folder that cannot be used is no reason not to start."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    folder = Path(environ.get("RUNTIME_DIRECTORY", "/run/mien").split(":")[0])
    try:
        if argv[1:] == ["before"]:
            before(folder)
        else:
            after(folder, environ.get("SERVICE_RESULT", ""))
    except OSError as error:
        print(f"mien: failures in a row cannot be counted ({error}); it starts without a pause", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv, os.environ))
