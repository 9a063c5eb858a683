"""A stranger's model in a process of its own: what it does there, and what it cannot do to us."""

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from edge import model_trial
from edge.errors import BadDataError, UnavailableError
from edge.labels import FER2013_LABELS
from edge.model_trial import Trial, try_model
from edge.modelfile import SHIPPED

MODELS = Path(__file__).parent / "models"
GOOD = asdict(
    Trial(
        name="mine",
        sha256="0" * 64,
        labels=FER2013_LABELS,
        size=48,
        channels=1,
        self_test=True,
        expression="happy",
        confidence=0.9,
        milliseconds=1.0,
        shipped=1.0,
    )
)


def tried(path: Path, labels: tuple[str, ...] = (), shown: str | None = None) -> Trial:
    with path.open("rb") as file:
        return try_model(file, shown or path.name, labels=labels)


def test_the_shipped_model_passes_and_reads_the_photograph():
    trial = tried(SHIPPED)
    assert (trial.name, trial.labels, trial.size, trial.channels) == ("mien-v1-48", FER2013_LABELS, 48, 1)
    assert trial.sha256.startswith("f87dae28")
    assert trial.self_test
    assert trial.expression == "happy"
    assert trial.confidence > 0.9
    assert 0 < trial.milliseconds < 1000
    assert 0 < trial.shipped < 1000


@pytest.mark.parametrize(
    ("shown", "name"), [("mine.tflite", "mine"), ("/a/my model(2).tflite", "my-model-2"), ("@.tflite", "model")]
)
def test_a_foreign_model_gets_the_labels_that_are_given_and_its_files_name(shown, name):
    trial = tried(MODELS / "rgb_uint8_softmax.tflite", FER2013_LABELS, shown)
    assert (trial.name, trial.channels, trial.self_test) == (name, 3, False)


@pytest.mark.parametrize(
    ("file", "labels", "said"),
    [
        ("grey_float.tflite", (), "the model holds no labels"),
        ("grey_float.tflite", ("a", "b"), "2 labels for 7 outputs"),
        ("oblong.tflite", FER2013_LABELS, "the input is 1x24x32x1"),
        ("make_models.py", (), "not a .tflite model"),
    ],
)
def test_what_is_wrong_with_a_model_is_told_as_everywhere_else(file, labels, said):
    with pytest.raises(BadDataError, match=said):
        tried(MODELS / file, labels)


def test_a_file_that_is_cut_short_is_told(tmp_path):
    (tmp_path / "half.tflite").write_bytes(SHIPPED.read_bytes()[:1_000_000])
    with pytest.raises(BadDataError, match=r"half.tflite: .*cut short"):
        tried(tmp_path / "half.tflite")


def test_a_model_that_swells_is_refused_and_takes_no_memory_of_ours():
    with pytest.raises(BadDataError, match=r"hungry.tflite: .*(it is not used|cannot run it)"):
        tried(MODELS / "hungry.tflite", FER2013_LABELS)


def test_a_model_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(model_trial, "CPU_SECONDS", 1)
    with pytest.raises(BadDataError, match=r"endless.tflite: it does not come to an end .*it is not used"):
        tried(MODELS / "endless.tflite", FER2013_LABELS)


@pytest.fixture
def stranger(tmp_path, monkeypatch) -> Callable[[str], None]:
    """Have something done in the process at the moment at which it begins to read the model."""

    def does(deed: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import os, resource, signal, sys, time\n"
            "real = os.fdopen\n"
            "def fdopen(handle, *arguments, **options):\n"
            "    if handle == 0:\n"
            f"        {deed}\n"
            "    return real(handle, *arguments, **options)\n"
            "os.fdopen = fdopen\n"
        )
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return does


def test_a_crash_is_its_own(stranger):
    stranger("os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(BadDataError, match=r"it crashes the interpreter with SIGSEGV .*; it is not used"):
        tried(SHIPPED)


def test_who_waits_is_ended(stranger, monkeypatch):
    stranger("time.sleep(60)")
    monkeypatch.setattr(model_trial, "WALL_SECONDS", 2.0)
    began = time.monotonic()
    with pytest.raises(BadDataError, match="its trial was not over within 2 s"):
        tried(SHIPPED)
    assert time.monotonic() - began < 6


def test_memory_has_a_limit(stranger):
    stranger("os.memory = bytearray(400 * 1024**2)")
    with pytest.raises(BadDataError, match=r"mien.tflite: it wants more memory than 256 MB; use a smaller one"):
        tried(SHIPPED)


def test_it_gets_no_core_few_files_and_short_ones_alone(stranger):
    stranger(
        "sys.exit(str([resource.getrlimit(limit)[1] for limit in "
        "(resource.RLIMIT_CORE, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)] + [os.getcwd()]))"
    )
    with pytest.raises(BadDataError, match=r"its trial failed \(\[0, 32, 65536, '/'\]\)"):
        tried(SHIPPED)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have rights to drop")
def test_root_is_nobody_there(stranger):
    stranger("sys.exit(str((os.getresuid(), os.getresgid(), os.getgroups())))")
    nobody = model_trial.NOBODY
    said = f"(({nobody}, {nobody}, {nobody}), ({nobody}, {nobody}, {nobody}), [])"
    with pytest.raises(BadDataError, match=re.escape(said)):
        tried(SHIPPED)


def test_what_it_has_begun_ends_with_it(stranger, wait_until):
    stranger("child = os.fork() or time.sleep(60); sys.exit(f'began {child}')")
    with pytest.raises(BadDataError, match="began") as caught:
        tried(SHIPPED)
    child = Path("/proc", re.search(r"began (\d+)", str(caught.value))[1], "stat")
    wait_until(lambda: not child.exists() or child.read_text().split()[2] == "Z")


def test_an_answer_that_is_one_is_believed(stranger):
    stranger(f"os.write(3, {json.dumps(GOOD).encode()!r}); os._exit(0)")
    assert tried(SHIPPED) == Trial(**GOOD)


@pytest.mark.parametrize("answer", [b"yes", b"x" * 10_000_000], ids=["short", "long"])
def test_an_answer_that_is_none_is_not_believed(answer, stranger):
    stranger(f"os.write(3, {answer!r}); os._exit(0)")
    with pytest.raises(BadDataError, match="its trial failed"):
        tried(SHIPPED)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../../etc/passwd"},
        {"name": 1},
        {"sha256": "4b9f"},
        {"labels": None},
        {"expression": "delight"},
        {"confidence": "high"},
        {"milliseconds": float("nan")},
        {"size": 4.5},
        {"more": 1},
    ],
    ids=str,
)
def test_an_answer_is_believed_only_where_all_of_it_is_what_it_should_be(change):
    assert model_trial._read(json.loads(json.dumps(GOOD))) == Trial(**GOOD)
    assert model_trial._read(GOOD | change) is None


def test_without_an_interpreter_it_is_not_the_models_fault(tmp_path, monkeypatch):
    for package in ("ai_edge_litert", "tflite_runtime"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise ImportError('gone')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="no TensorFlow Lite interpreter"):
        tried(SHIPPED)
