import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge.errors import BadDataError, OutputError
from edge.starts import count_start, state_folder

ROOT = Path(__file__).parents[2]

COUNT_FOR_EVER = """
import sys
from pathlib import Path
from edge.starts import count_start
while True:
    print(count_start(Path(sys.argv[1])), flush=True)
"""
COUNT_TEN = COUNT_FOR_EVER.replace("while True:", "for _ in range(10):")


def test_the_first_start_is_one_and_each_counts_one_more(tmp_path):
    path = tmp_path / "mien/starts"
    assert [count_start(path) for _ in range(3)] == [1, 2, 3]
    assert path.read_text() == "3\n"


def test_no_number_comes_twice_however_often_the_process_is_killed(tmp_path):
    path = tmp_path / "starts"
    seen = []
    for lines in (1, 7, 40):
        process = subprocess.Popen(
            [sys.executable, "-c", COUNT_FOR_EVER, path], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        seen += [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        seen += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
    seen.append(count_start(path))
    assert seen == sorted(set(seen))


def test_two_that_start_at_once_get_two_numbers(tmp_path):
    counting = [
        subprocess.Popen([sys.executable, "-c", COUNT_TEN, tmp_path / "starts"], stdout=subprocess.PIPE, cwd=ROOT)
        for _ in range(3)
    ]
    numbers = [int(line) for process in counting for line in process.communicate()[0].splitlines()]
    assert sorted(numbers) == list(range(1, 31))


@pytest.mark.parametrize("content", [b"", b"\0\0\0\0", b"twelve\n", b"-1\n", b"12 \n", b"9" * 40])
def test_a_damaged_count_is_refused_with_what_to_write_instead(tmp_path, content):
    path = tmp_path / "starts"
    path.write_bytes(content)
    with pytest.raises(BadDataError, match=rf"{path} should hold .* a number higher than"):
        count_start(path)
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/starts cannot be kept \(File exists\)"):
        count_start(tmp_path / "file/starts")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_on_a_full_disk_starts_are_counted_all_the_same(tmp_path):
    path = tmp_path / "starts"
    path.write_text("9\n")
    for number in (10, 11):
        (tmp_path / "starts.new").symlink_to("/dev/full")
        assert count_start(path) == number
    assert path.read_text() == "11\n"
    assert count_start(path) == 12


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_first_start_on_a_full_disk_is_refused_since_nothing_can_be_counted(tmp_path):
    (tmp_path / "starts.new").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"\(No space left on device\); event ids would repeat, so make room there"):
        count_start(tmp_path / "starts")
    assert list(tmp_path.iterdir()) == []


def test_the_state_folder_is_systemds_or_the_users():
    assert state_folder({"STATE_DIRECTORY": "/var/lib/mien:/other"}) == Path("/var/lib/mien")
    assert state_folder({"XDG_STATE_HOME": "/home/pi/state"}) == Path("/home/pi/state/mien")
    assert state_folder({}) == Path.home() / ".local/state/mien"
