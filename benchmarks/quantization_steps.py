"""What equalised ranges and corrected biases are worth: float against int8 on PublicTest, without and with each.

python -m benchmarks.quantization_steps runs/mien/model.keras [fer2013.csv]
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import numpy as np

from benchmarks import fer2013
from edge.commandline import guarded
from edge.crop import scale_pixels
from edge.model import Model
from edge.modelfile import parse_model_file
from export.equalization import correct_biases, equalize
from export.metadata import pack
from export.quantization import representative_faces, to_int8
from trainer import keras_file
from trainer.datasets import clean
from trainer.evaluation import predict, tflite_logits
from trainer.folding import fold

STEPS = {
    "plain": (),
    "equalised ranges": (equalize,),
    "corrected biases": (correct_biases,),
    "both, as exported": (equalize, correct_biases),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="the .keras that mien-train fit wrote")
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    dataset = clean(fer2013.load(args.data))
    network, trained = keras_file.load_network(args.network)
    images = scale_pixels(representative_faces(dataset.train.images, 512, 0))[..., np.newaxis]
    exact = predict(network, dataset.validation)
    card = {
        "name": "step",
        "labels": trained["labels"],
        "input": trained["input"],
        "output": {"kind": "logits", "temperature": 1.0},
        "thresholds": {},
    }
    print(f"{'PublicTest':<20}{'accuracy':>10}{'agreement':>11}{'error of logits':>17}")
    for name, steps in STEPS.items():
        prepared = fold(network)
        for step in steps:
            step(prepared, images)
        model = Model(parse_model_file(pack(to_int8(prepared, images), card), name))
        rounded = tflite_logits(model, dataset.validation)
        same = (rounded.argmax(axis=1) == exact.argmax(axis=1)).mean()
        right = (rounded.argmax(axis=1) == dataset.validation.labels).mean()
        error = np.sqrt(((rounded - exact) ** 2).mean())
        print(f"{name:<20}{right:>10.2%}{same:>11.2%}{error:>17.4f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded("quantization_steps", main))
