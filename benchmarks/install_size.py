"""What `pip install mien` puts on a Pi: each distribution and its size, into a fresh environment without TensorFlow.

python -m benchmarks.install_size
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
NEVER = {"tensorflow", "keras", "torch", "jax", "matplotlib", "scikit-learn"}

_LIST = """
import importlib.metadata, json, pathlib
sizes = {}
for found in importlib.metadata.distributions():
    paths = (pathlib.Path(found.locate_file(file)) for file in found.files or ())
    sizes[found.metadata["Name"].lower()] = sum(path.stat().st_size for path in paths if path.is_file())
print(json.dumps(sizes))
"""


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / "bin" / "python"
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        source = Path(folder) / "mien"
        # A clone: building in the working tree would take what lies about there along.
        subprocess.run(["git", "clone", "--quiet", str(HERE), str(source)], check=True)
        subprocess.run([*pip, "install", str(source)], check=True)
        listed = subprocess.run([str(python), "-I", "-c", _LIST], check=True, capture_output=True, text=True)
    sizes: dict[str, int] = json.loads(listed.stdout)
    for tool in ("pip", "setuptools"):
        sizes.pop(tool, None)
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{name:<28}{size / 1e6:9.1f} MB")
    print(f"{'together':<28}{sum(sizes.values()) / 1e6:9.1f} MB")
    unwanted = sorted(NEVER & sizes.keys())
    print(f"installed although only a workstation needs it: {', '.join(unwanted)}" if unwanted else "no TensorFlow")
    return 1 if unwanted else 0


if __name__ == "__main__":
    sys.exit(main())
