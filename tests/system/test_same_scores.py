"""What Mien sees in an installed system is what it sees here: for the same crop the same label and nearly the scores.

"Nearly" is two of the steps that an int8 tensor knows.
"""

import json

import numpy as np
import pytest

SCRIPT = "/mnt/kit/systemd/install.sh"
CASCADES = "apt-get update -qq && apt-get install -qq -y opencv-data >/dev/null"
STEPS = 2

READ_CROPS = """
import json, sys
import numpy as np
from edge.interpreter import MODULES
from edge.model import open_model
model = open_model()
print(json.dumps({
    "outputs": [model.raw(face).tolist() for face in np.load("/mnt/crops/faces.npy")],
    "interpreters": [name for name, module in MODULES.items() if module in sys.modules],
}))
"""

INTERPRETERS = [
    ("bookworm-amd64", "ai-edge-litert"),
    ("bookworm-amd64", "tflite-runtime"),
    ("trixie-amd64", "ai-edge-litert"),
    ("bookworm-arm64", "ai-edge-litert"),
    ("bookworm-arm64", "tflite-runtime"),
    ("trixie-arm64", "ai-edge-litert"),
]


@pytest.fixture
def here(system, tmp_path_factory):
    """This machine's outputs for every face of the sample photos, whose crops lie in the system's /mnt/crops."""
    from edge.crop import crop_face
    from edge.detector import Detector
    from edge.frame import Box
    from edge.model import open_model
    from edge.pictures import find_pictures, read_picture

    model, detector = open_model(), Detector(min_neighbors=2)
    faces = []
    for path in find_pictures(system.kits["checkout"] / "edge/samples"):
        gray = read_picture(path).gray
        # Beside each face, a place that shows something else: all labels shall come up.
        for box in detector.detect(gray):
            places = (box, Box(box.x + box.width // 3, box.y, box.width, box.height))
            faces += [crop_face(gray, place, model.input_size, model.margin) for place in places]
    folder = tmp_path_factory.mktemp("crops")
    np.save(folder / "faces.npy", np.array(faces))
    system.kits["crops"] = folder
    return np.array([model.raw(face) for face in faces], dtype=int)


@pytest.mark.parametrize(("kind", "interpreter"), INTERPRETERS)
def test_the_same_crop_has_the_same_label_and_scores_within_two_steps(system, here, interpreter):
    system.run(f"{CASCADES}; {SCRIPT} --interpreter {interpreter}")
    said = system.run(f"cd / && /opt/mien/venv/bin/python -c '{READ_CROPS}'").stdout
    told = json.loads(said.splitlines()[-1])
    there = np.array(told["outputs"], dtype=int)
    assert told["interpreters"] == [interpreter]
    assert len(here) > 20
    print(f"{len(here)} crops: at most {np.abs(there - here).max()} steps apart, {(there == here).mean():.2%} equal")
    assert np.abs(there - here).max() <= STEPS
    assert (there.argmax(axis=1) == here.argmax(axis=1)).all()
