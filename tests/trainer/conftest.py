"""Faces that are drawn, not photographed: each expression is a bright band at a height of its own, in noise."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.camera.synthetic import SAMPLES
from edge.labels import FER2013_LABELS
from trainer.datasets import Dataset, Split


def draw_faces(count: int, size: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 7
    images = rng.integers(0, 60, (count, size, size))
    band = size // 8
    for image, label in zip(images, labels, strict=True):
        image[label * band : (label + 1) * band] += 150
    return images.astype(np.uint8), labels


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def faces() -> Callable[[int, int, int], tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    return draw_faces


@pytest.fixture(scope="session")
def sample() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """21 faces of FER2013's size with labels and usage, seven a split."""
    return *draw_faces(21, 48, 0), np.repeat([0, 1, 2], 7)


@pytest.fixture(scope="session")
def csv_rows() -> Callable[..., list[str]]:
    """Makes rows of `fer2013.csv` from images, labels and usage."""

    def make(images: NDArray[np.uint8], labels: NDArray[np.int64], usage: NDArray[np.int64]) -> list[str]:
        return [
            f"{label},{' '.join(map(str, image.ravel()))},{('Training', 'PublicTest', 'PrivateTest')[split]}"
            for image, label, split in zip(images, labels, usage, strict=True)
        ]

    return make


@pytest.fixture(scope="session")
def write_csv() -> Callable[..., Path]:
    """Writes rows below a header, FER2013's unless another is given."""

    def write(path: Path, rows: Sequence[str], header: str = "emotion,pixels,Usage") -> Path:
        path.write_text("\n".join([header, *rows]) + "\n")
        return path

    return write


@pytest.fixture
def fer2013(sample, tmp_path: Path, csv_rows, write_csv) -> Path:
    """The sample as `fer2013.csv`."""
    return write_csv(tmp_path / "fer2013.csv", csv_rows(*sample))


@pytest.fixture(scope="session")
def make_folders() -> Callable[[Path, Sequence[str], int], None]:
    """Writes `count` pictures of 32 px for each label, in a folder with the label's name."""

    def make(root: Path, labels: Sequence[str], count: int) -> None:
        images, _ = draw_faces(count * len(labels), 32, 1)
        for number, image in enumerate(images):
            folder = root / labels[number % len(labels)]
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number}.png"), image)

    return make


@pytest.fixture(scope="session")
def assert_same() -> Callable[[Dataset, Dataset], None]:
    """Compares two data sets image by image."""

    def compare(one: Dataset, other: Dataset) -> None:
        assert one.labels == other.labels
        for name in ("train", "validation", "test"):
            np.testing.assert_array_equal(one.split(name).images, other.split(name).images)
            np.testing.assert_array_equal(one.split(name).labels, other.split(name).labels)
            np.testing.assert_array_equal(one.split(name).rows, other.split(name).rows)

    return compare


@pytest.fixture(scope="session")
def drawn() -> Dataset:
    """70 faces to train on, 35 to choose on, 35 held out; 32 px."""
    train, validation, test = (
        Split(*draw_faces(count, 32, seed), np.arange(count, dtype=np.int64)) for seed, count in enumerate((70, 35, 35))
    )
    return Dataset("drawn.npz", FER2013_LABELS, train, validation, test, np.zeros(35, bool), {})


@pytest.fixture(scope="session")
def drawn_npz(drawn: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same faces as a file."""
    path = tmp_path_factory.mktemp("data") / "drawn.npz"
    splits = (drawn.train, drawn.validation, drawn.test)
    np.savez(
        path,
        pixels=np.concatenate([split.images for split in splits]),
        emotion=np.concatenate([split.labels for split in splits]).astype(np.uint8),
        usage=np.repeat(np.arange(3, dtype=np.uint8), [len(split) for split in splits]),
    )
    return path


@pytest.fixture(scope="session")
def portraits() -> list[NDArray[np.uint8]]:
    """Eight photos (B, G, R) of one person each: the samples, the conference's six people cut out with room around."""
    single = [cv2.imread(str(SAMPLES / name)) for name in ("astronaut.png", "grace_hopper.jpg")]
    group = cv2.imread(str(SAMPLES / "solvay_conference.jpg"))
    places = [(39, 177, 110), (223, 69, 124), (360, 177, 137), (592, 59, 105), (763, 163, 123), (854, 69, 103)]
    room = [(max(0, x - side // 3), y - side // 3, side * 5 // 3) for x, y, side in places]
    return single + [group[y : y + side, x : x + side].copy() for x, y, side in room]


@pytest.fixture(scope="session")
def real_fer2013(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FER2013 as an npz: `$MIEN_FER2013` (a file, or a folder with its unpacker) or `../shared/data`."""
    place = Path(os.environ.get("MIEN_FER2013", Path(__file__).parents[2].parent / "shared" / "data"))
    if place.is_file():
        return place
    unpacker = place / "unpack_fer2013.py"
    if not unpacker.is_file():
        pytest.skip(f"FER2013 is not at {place}; name it with MIEN_FER2013")
    path = tmp_path_factory.mktemp("fer2013") / "fer2013.npz"
    subprocess.run([sys.executable, unpacker, "--npz", path], check=True, timeout=300)
    return path


@pytest.fixture(scope="session")
def band_classifier():
    """A classifier of 32-px `draw_faces` by the brightness of its bands, its temperature 2, never sure of sad."""
    from trainer.evaluation import Classifier

    def logits(images: NDArray[np.uint8], progress: Callable[[int, int], None] | None) -> NDArray[np.float32]:
        bands = images.astype(np.float32).reshape(len(images), 8, 4, 32).mean(axis=(2, 3))[:, :7]
        if progress:
            progress(len(images), len(images))
        return (bands - bands.mean(axis=1, keepdims=True)) / 20

    thresholds = {label: 0.5 if label != "sad" else 0.99 for label in FER2013_LABELS}
    return Classifier(Path("bands.tflite"), FER2013_LABELS, "int8", 2.0, thresholds, {}, logits)
