"""How long `mien --help` takes, over what Python alone takes to start: seconds, several runs, and their ratio.

python -m benchmarks.help_time
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 11
COMMANDS = {
    "python": [sys.executable, "-c", "pass"],
    "mien --help": [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main(['--help']))"],
}


def main() -> int:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(RUNS + 1):  # in turn, so that a slow moment meets both; the first round warms the disk's cache up
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    for name, taken in seconds.items():
        taken = taken[1:]
        print(f"{name:<12} median {statistics.median(taken):.3f} s, {min(taken):.3f} to {max(taken):.3f}")
    ratios = [mine / base for mine, base in zip(seconds["mien --help"][1:], seconds["python"][1:], strict=True)]
    print(f"ratio        median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
