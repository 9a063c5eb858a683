"""The shipped model on FER2013, measured anew through the interpreter, beside what its own file records.

python -m benchmarks.shipped_model [fer2013.csv]

The float side is compared by `mien-export verify` against the network that `mien-train fit` leaves in its folder; the
command that trains it stands in edge/models/mien.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edge.model import SHIPPED, open_model
from trainer.datasets import Dataset, load_dataset
from trainer.evaluation import evaluate, tflite_logits
from trainer.report import as_text

HERE = Path(__file__).resolve().parents[1]


def load_fer2013(place: Path) -> Dataset:
    """FER2013 from a file, or from a folder that holds its unpacker."""
    if not place.is_dir():
        return load_dataset(place)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "fer2013.npz"
        subprocess.run([sys.executable, str(place / "unpack_fer2013.py"), "--npz", str(target)], check=True)
        return load_dataset(target, cache=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("MIEN_FER2013", HERE.parent / "shared" / "data"))
    parser.add_argument("data", type=Path, nargs="?", default=default, help="FER2013 (default: $MIEN_FER2013)")
    dataset = load_fer2013(parser.parse_args().data)
    model = open_model()
    recorded = {} if model.card is None else model.card.content.get("accuracy", {})
    different = 0
    for name in ("validation", "test"):
        split = dataset.split(name)
        copied = dataset.test_copied if name == "test" else None
        result = evaluate(tflite_logits(model, split), split.labels, dataset.labels, copied=copied)
        print(as_text(result, f"{model.name} (int8, one crop) on the {name} split of FER2013"))
        was = recorded[name]["int8"] if isinstance(recorded, dict) and name in recorded else None
        print(f"\n  recorded  {'nothing' if was is None else f'{was:.2%}'}\n")
        different += was is None or abs(was - result.accuracy) > 0.002
    print(f"{SHIPPED.name}: {SHIPPED.stat().st_size / 1e6:.2f} MB")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
