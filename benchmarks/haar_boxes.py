"""Where Haar's boxes lie on FER2013's faces: their size over the crop's, and how far their middle is off.

python -m benchmarks.haar_boxes [fer2013.csv]

Training faces alone, four times as large, with their border repeated around them; faces in which exactly one box is
found count.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

from benchmarks import fer2013
from edge.commandline import guarded
from edge.detector import Detector

FACES, LARGER, BORDER = 1500, 4, 0.25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?", default=fer2013.place(), help="FER2013 (default: $MIEN_FER2013)")
    images = fer2013.load(parser.parse_args().data).train.images
    chosen = images[np.random.default_rng(0).permutation(len(images))[:FACES]]
    side = images.shape[1] * LARGER
    around = round(side * BORDER)
    detector = Detector(min_face=0.2)
    found = []
    for image in chosen:
        large = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        boxes = detector.detect(cv2.copyMakeBorder(large, *[around] * 4, cv2.BORDER_REPLICATE))
        if len(boxes) == 1:
            (box,) = boxes
            middle = (box.x + box.width / 2 - around, box.y + box.height / 2 - around)
            found.append((box.width / side, middle[0] / side - 0.5, middle[1] / side - 0.5))
    table = np.array(found)
    print(f"one box in {len(found)} of {len(chosen)} faces")
    print(f"{'':<22}{'10 %':>8}{'median':>8}{'90 %':>8}{'std. dev.':>11}")
    for name, values in zip(("box over crop", "middle, to the right", "middle, downwards"), table.T, strict=True):
        low, half, high = np.percentile(values, [10, 50, 90])
        print(f"{name:<22}{low:>8.3f}{half:>8.3f}{high:>8.3f}{values.std():>11.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded("haar_boxes", main))
