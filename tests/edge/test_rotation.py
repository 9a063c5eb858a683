from pathlib import Path

import pytest

from edge.rotation import begin, expire, old_files, real_path, shift


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mien.jsonl"


def contents(path: Path) -> dict[str, str]:
    return {file.name.removeprefix("mien.jsonl"): file.read_text() for file in sorted(path.parent.iterdir())}


def put(path: Path, **files: str) -> None:
    for name, text in files.items():
        path.with_name("mien.jsonl" + {"log": "", "new": ".new"}.get(name, name.replace("_", "."))).write_text(text)


def test_old_files_are_those_with_a_number_that_rotation_gives_youngest_first(path):
    put(path, log="", _10="", _2="", _1="", _0="", _01="", _1001="", _1000="", _x="", _torn="")
    path.with_name("mien.jsonl.3").mkdir()
    assert [number for number, _ in old_files(path)] == [1, 2, 10, 1000]
    assert old_files(path.parent / "nowhere/mien.jsonl") == []


def test_a_name_that_is_a_pattern_is_only_a_name(tmp_path):
    (tmp_path / "a1.1").touch()
    (tmp_path / "[a]*.1").touch()
    assert [file.name for _, file in old_files(tmp_path / "[a]*")] == ["[a]*.1"]


def test_every_file_moves_by_one_and_the_last_goes(path):
    put(path, log="d", _1="c", _2="b", _3="a", new="")
    shift(path, path.with_name("mien.jsonl.new"), 3)
    assert contents(path) == {"": "", ".1": "d", ".2": "c", ".3": "b"}


def test_what_a_kill_has_left_half_done_costs_no_file(path):
    put(path, log="c", _2="b", _3="a", new="")
    shift(path, path.with_name("mien.jsonl.new"), 3)
    assert contents(path) == {"": "", ".1": "c", ".2": "b", ".3": "a"}


def test_without_old_files_the_new_one_takes_the_place(path):
    put(path, log="a", new="")
    shift(path, path.with_name("mien.jsonl.new"), 0)
    assert contents(path) == {"": ""}


def line(ts: str, synced: bool = True) -> str:
    return f'{{"ts":"{ts}","clock_synced":{str(synced).lower()}}}\n'


def test_a_file_begins_with_the_first_line_whose_clock_is_like_ours(path):
    put(path, log="garbage\n" + line("1970-01-01T00:00:05.000Z", False) + line("1970-01-01T00:01:00.000Z"))
    assert begin(path, synced=True) == 60
    assert begin(path, synced=False) == 5
    put(path, log=line("1970-01-01T00:00:05.000Z", False) + line("never") + '{"clock_synced":true}\n')
    assert begin(path, synced=True) is None


def test_what_is_older_than_a_file_that_is_too_old_is_too_old(path):
    put(
        path,
        log=line("1970-01-01T00:05:00.000Z"),
        _1=line("1970-01-01T00:04:00.000Z"),
        _2=line("1970-01-01T00:03:00.000Z"),
        _3="nobody knows\n",
        _4=line("1970-01-01T00:02:00.000Z", False),
    )
    expire(path, keep=9, max_age=200, now=360, synced=True)
    assert set(contents(path)) == {"", ".1", ".2", ".3", ".4"}
    expire(path, keep=9, max_age=180, now=360, synced=True)
    assert set(contents(path)) == {"", ".1"}
    expire(path, keep=0, max_age=0, now=0, synced=True)
    assert set(contents(path)) == {""}


def test_a_log_lies_where_its_link_points_to_even_before_it_is_there(tmp_path):
    (tmp_path / "link").symlink_to("card/mien.jsonl")
    assert real_path(tmp_path / "link") == tmp_path.resolve() / "card/mien.jsonl"
