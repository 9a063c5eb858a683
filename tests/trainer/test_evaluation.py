"""How good a network is, against a case that was counted by hand."""

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("keras", reason="the trainer extra is not installed")
pytest.importorskip("sklearn", reason="the trainer extra is not installed")

from edge.errors import BadDataError, OutputError
from trainer.evaluation import evaluate, refuse_mismatch
from trainer.report import as_text, save_confusion

pytestmark = pytest.mark.trainer

LABELS = ("happy", "sad", "surprise")
TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2])
GUESS = np.array([0, 0, 0, 1, 1, 1, 0, 1])
COPIED = np.array([True, False, False, True, False, False, False, False])


@pytest.fixture(scope="module")
def counted():
    return evaluate(np.eye(3, dtype=np.float32)[GUESS] * 5 - 2, TRUTH, LABELS, copied=COPIED)


def test_the_figures_are_those_counted_by_hand(counted):
    assert counted.count == 8
    assert counted.accuracy == pytest.approx(5 / 8)
    assert counted.interval == pytest.approx((0.86316 - 0.30574) / 2, abs=1e-5)  # Wilson's, of 5 in 8
    assert counted.accuracy_without_copies == pytest.approx(4 / 6)
    assert counted.confusion.tolist() == [[3, 1, 0], [1, 2, 0], [0, 1, 0]]
    assert counted.precision.tolist() == pytest.approx([3 / 4, 2 / 4, 0])
    assert counted.recall.tolist() == pytest.approx([3 / 4, 2 / 3, 0])
    assert counted.f1.tolist() == pytest.approx([3 / 4, 4 / 7, 0])
    assert counted.macro_f1 == pytest.approx((3 / 4 + 4 / 7) / 3)
    assert counted.support.tolist() == [4, 3, 1]


def test_a_label_without_images_counts_as_never_right():
    result = evaluate(np.eye(3, dtype=np.float32)[[0, 1]], np.array([0, 1]), LABELS)
    assert result.accuracy == 1
    assert result.interval > 0.3  # two images prove little
    assert result.macro_f1 == pytest.approx(2 / 3)
    assert result.accuracy_without_copies is None


def test_where_every_image_is_a_copy_there_is_no_figure_without_them():
    result = evaluate(np.eye(3, dtype=np.float32)[[0]], np.array([0]), LABELS, copied=np.array([True]))
    assert result.accuracy_without_copies is None


def test_json_holds_every_figure(counted):
    told = json.loads(json.dumps(counted.to_dict(), allow_nan=False))
    assert told["accuracy"] == 0.625
    assert told["accuracy_without_copies"] == 0.66667
    assert told["classes"]["sad"] == {"precision": 0.5, "recall": 0.66667, "f1": 0.57143, "support": 3}
    assert told["confusion"] == [[3, 1, 0], [1, 2, 0], [0, 1, 0]]


def test_the_text_has_the_figures_the_table_and_the_matrix(counted):
    lines = as_text(counted, "some network").splitlines()
    assert lines[0] == "some network"
    assert "accuracy  62.50% ± 27.87 points" in lines[2]
    assert "66.67% on images without a copy" in lines[3]
    assert any(line.split() == ["sad", "0.500", "0.667", "0.571", "3"] for line in lines)
    assert any(line.split() == ["happy", "3", "1", "0"] for line in lines)


def test_a_network_that_is_never_right_is_told_of_too():
    never = evaluate(np.eye(3, dtype=np.float32)[[1, 2, 0]], np.array([0, 1, 2]), ("a", "b", "c"))
    assert (never.accuracy, never.support.tolist()) == (0.0, [1, 1, 1])
    assert "  a              0.000   0.000   0.000       1" in as_text(never, "some network")


def test_the_confusion_matrix_is_a_picture_whatever_it_is_called(counted, tmp_path):
    for name in ("confusion.png", "no_suffix", "some.thing"):
        save_confusion(counted, "some $\\frac{$ network", tmp_path / "new" / name)
        picture = cv2.imread(str(tmp_path / "new" / name))
        assert picture.shape[0] > 500
        assert picture.shape[1] > 500
        assert picture.std() > 10
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_written_is_an_output_error(counted, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_confusion(counted, "some network", tmp_path / "file" / "confusion.png")


def test_a_network_and_data_that_do_not_go_together_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(BadDataError, match="knows the labels a, b; the data set has happy, sad, surprise"):
        refuse_mismatch(path, ("a", "b"), LABELS, 48, 48, 2)
    with pytest.raises(BadDataError, match="the data set has happy, sad, surprise; give --drop sad"):
        refuse_mismatch(path, ("happy", "surprise"), LABELS, 48, 48, 2)
    for known in (("surprise", "happy"), ("happy", "other")):
        with pytest.raises(BadDataError, match=r"the data set has happy, sad, surprise$"):
            refuse_mismatch(path, known, LABELS, 48, 48, 2)
    with pytest.raises(BadDataError, match="wants faces of 64 px, the data set was read at 48; give --size 64"):
        refuse_mismatch(path, LABELS, LABELS, 64, 48, 3)
