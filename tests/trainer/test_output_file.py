"""Results of minutes of work: tried out before, whole after."""

import pytest

from edge.errors import OutputError, UsageError
from trainer.output_file import refuse_overwriting, refuse_unwritable, write_whole


def test_trying_a_place_out_makes_its_folder_and_leaves_the_file_that_is_there(tmp_path):
    path = tmp_path / "new" / "mien.tflite"
    refuse_unwritable(path)
    path.write_bytes(b"old")
    refuse_unwritable(path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["mien.tflite"]


def test_a_folder_or_a_file_in_the_way_is_an_output_error_before_any_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/report\.html: cannot be written"):
        refuse_unwritable(tmp_path / "file" / "report.html")
    with pytest.raises(OutputError, match="it is a folder; name a file in it"):
        refuse_unwritable(tmp_path)


def test_a_place_that_cannot_be_written_is_an_output_error_and_the_old_file_stays(tmp_path):
    path = tmp_path / "mien.tflite"
    write_whole(path, b"old")
    (tmp_path / "mien.tflite.part").mkdir()
    with pytest.raises(OutputError, match=r"mien\.tflite: cannot be written"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"


def test_results_go_neither_over_what_is_read_nor_over_one_another(tmp_path):
    (tmp_path / "data").mkdir()
    data, other = tmp_path / "data", tmp_path / "other"
    refuse_overwriting({"--out": other, "--log": None, "--png": None}, [data])
    with pytest.raises(UsageError, match=r"--out .*data/\.\./data would overwrite what is read"):
        refuse_overwriting({"--out": data / ".." / "data"}, [data])
    with pytest.raises(UsageError, match=r"--png .*other would overwrite the file of --out"):
        refuse_overwriting({"--out": other, "--png": other}, [data])
