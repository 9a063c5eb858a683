"""README's two commands as a newcomer meets them: a fresh clone in a folder with a space, a fresh environment.

python -m benchmarks.fresh_clone
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("PATH", "HOME", "LANG", "MIEN_FER2013")


def main() -> int:
    environment = {name: value for name, value in os.environ.items() if name in KEPT or name.startswith("PIP_")}
    environment.setdefault("MIEN_FER2013", str(ROOT.parent / "shared" / "data"))
    with tempfile.TemporaryDirectory(prefix="fresh clone ") as folder:
        clone = Path(folder) / "mien"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        for target in ("demo", "test"):
            start = time.monotonic()
            code = subprocess.run(["make", target], cwd=clone, env=environment, check=False).returncode
            print(f"make {target}: exit code {code} after {time.monotonic() - start:.0f} s", flush=True)
            if code:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
