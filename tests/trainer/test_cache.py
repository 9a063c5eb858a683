"""What was parsed once is not parsed again, and lies where only its owner may look."""

import os
import resource
import stat
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BadDataError
from trainer.datasets import load_dataset


def overwrite_unseen(path: Path) -> None:
    """Change a file's content behind its size and time."""
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_second_time_the_csv_is_not_read(fer2013, assert_same):
    first = load_dataset(fer2013)
    overwrite_unseen(fer2013)
    calls = []
    assert_same(load_dataset(fer2013, progress=lambda *call: calls.append(call)), first)
    assert not calls


def test_without_the_cache_it_is(fer2013):
    load_dataset(fer2013)
    overwrite_unseen(fer2013)
    with pytest.raises(BadDataError):
        load_dataset(fer2013, cache=False)


def test_a_csv_that_changed_is_parsed_again_and_takes_no_second_place_in_the_cache(
    fer2013, sample, tmp_path, csv_rows, write_csv
):
    load_dataset(fer2013)
    images, labels, usage = sample
    write_csv(fer2013, csv_rows(255 - images, labels, usage))
    os.utime(fer2013, (1, 1))
    np.testing.assert_array_equal(load_dataset(fer2013).train.images, 255 - images[:7])
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


@pytest.mark.parametrize("damage", [b"", b"not an npz", None], ids=["empty", "something else", "cut short"])
def test_a_damaged_cache_file_is_passed_over(fer2013, tmp_path, damage, assert_same):
    first = load_dataset(fer2013)
    (cached,) = (tmp_path / "cache").rglob("*.npz")
    cached.write_bytes(cached.read_bytes()[:-100] if damage is None else damage)
    assert_same(load_dataset(fer2013), first)
    overwrite_unseen(fer2013)
    assert_same(load_dataset(fer2013), first)  # and was written anew


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(fer2013, tmp_path, monkeypatch, capsys):
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert len(load_dataset(fer2013).train) == 7
    assert "nothing cached" in capsys.readouterr().err


def test_only_the_owner_may_look_into_the_cache(fer2013, tmp_path):
    place = tmp_path / "cache" / "mien"
    place.mkdir(parents=True, mode=0o755)
    before = os.umask(0o022)
    try:
        load_dataset(fer2013)
    finally:
        os.umask(before)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()] == [0o600]


def test_pictures_of_a_folder_are_copied_nowhere(tmp_path, make_folders):
    make_folders(tmp_path / "faces", ("cat", "dog"), 20)
    load_dataset(tmp_path / "faces", size=32)
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_keeps_nothing_of_what_could_not_be_cached(fer2013, tmp_path, capsys):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert len(load_dataset(fer2013).train) == 7
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "nothing cached (File too large)" in capsys.readouterr().err
    assert not list((tmp_path / "cache" / "mien").iterdir())


def test_a_file_in_a_folder_whose_name_is_no_utf_8_is_read_and_cached(fer2013, assert_same):
    folder = fer2013.parent / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    moved = folder / fer2013.name
    fer2013.rename(moved)
    first = load_dataset(moved)
    overwrite_unseen(moved)
    assert_same(load_dataset(moved), first)
