import itertools
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge import events
from edge.errors import BadDataError, InputNotFoundError
from edge.log_reader import TYPES, LogReader, Selection, parse_event, read_last
from edge.rotation import LONGEST_LINE
from edge.sinks.log import JsonLinesLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mien.jsonl"


def number_of(line) -> int:
    return int(line.event["id"].rsplit("-", 1)[1])


def numbers(lines) -> list[int]:
    return [number_of(line) for line in lines]


def read(path, **selection) -> list[int]:
    with LogReader(path, Selection(**selection)) as reader:
        return numbers(reader.lines(final=True))


def write(path, make_event, *wanted, **changes) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(make_event(number, **changes).to_json() + "\n" for number in wanted)


def test_the_types_are_those_of_events():
    assert TYPES == events.TYPES


def test_lines_come_as_they_are_with_the_event_in_them(path, make_event):
    event = make_event(1, expression="überrascht")
    path.write_text(event.to_json() + "\n", encoding="utf-8")
    (line,) = LogReader(path).lines()
    assert line.raw == event.to_json().encode()
    assert line.event == event.to_dict()


def test_all_files_are_read_oldest_first(path, make_event):
    log = JsonLinesLog(path, max_bytes=1000, keep=100)
    for number in range(40):
        log.publish(make_event(number))
    log.close()
    assert len(list(path.parent.iterdir())) > 10
    assert read(path) == list(range(40))


def test_old_files_are_read_also_where_a_kill_in_the_middle_of_rotation_has_left_no_other(path, make_event):
    write(path.with_name("mien.jsonl.2"), make_event, 1)
    write(path.with_name("mien.jsonl.1"), make_event, 2)
    assert LogReader(path).exists()
    assert read(path) == [1, 2]


def test_a_link_is_followed_to_where_the_old_files_are(tmp_path, path, make_event):
    write(path.with_name("mien.jsonl.1"), make_event, 1)
    write(path, make_event, 2)
    (tmp_path / "link").symlink_to(path)
    assert read(tmp_path / "link") == [1, 2]


def test_a_log_that_is_not_there_has_no_lines(path, tmp_path):
    assert not LogReader(path).exists()
    assert read(path) == []
    assert read(tmp_path / "nowhere/mien.jsonl") == []


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(BadDataError, match=f"{tmp_path} is no file"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadDataError, match="is no file"):
        read(tmp_path / "pipe")


def test_a_log_that_may_not_be_read_is_named(path, make_event, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    write(path, make_event, 1)
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputNotFoundError, match=rf"the log {path} cannot be read \(Permission denied\)") as refused:
        read(path)
    assert refused.value.exit_code == 66


# Selecting


@pytest.mark.parametrize(
    ("selection", "found"),
    [
        ({}, [1, 2, 3, 4]),
        ({"since": "2026-11-21T10:00:00.001Z"}, [3, 4]),
        ({"since": "2026-11-21T10:00:00.000Z"}, [2, 3, 4]),
        ({"until": "2026-11-21T10:00:00.000Z"}, [1]),
        ({"since": "2026-11-21T10:00:00.000Z", "until": "2026-11-21T12:00:00.000Z"}, [2, 3]),
        ({"types": {"gone"}}, [4]),
        ({"types": {"gone", "appeared"}}, [1, 2, 4]),
        ({"expressions": {"sad"}}, [3, 4]),
        ({"tracks": {2}}, [2, 4]),
        ({"devices": {"hall"}}, [4]),
        ({"expressions": {"sad"}, "tracks": {1, 2}}, [3, 4]),
        ({"tracks": {9}}, []),
    ],
)
def test_events_are_selected_by_time_type_expression_face_and_device(path, make_event, selection, found):
    changed = {"type": "changed", "previous": "happy", "since": 1.0}
    lines = [
        make_event(1, ts="2026-11-21T09:00:00.000Z", track=1),
        make_event(2, ts="2026-11-21T10:00:00.000Z", track=2),
        make_event(3, ts="2026-11-21T11:00:00.000Z", track=1, expression="sad", **changed),
        make_event(4, ts="2026-11-21T12:00:00.000Z", track=2, expression="sad", type="gone", device="hall"),
    ]
    path.write_text("".join(event.to_json() + "\n" for event in lines))
    assert read(path, **selection) == found
    # Written by something else, with spaces and in another order, the time is found all the same.
    path.write_text("".join(json.dumps(dict(sorted(event.to_dict().items()))) + "\n" for event in lines))
    assert read(path, **selection) == found


def test_a_clock_that_jumps_hides_no_event(path, make_event):
    times = ["2026-11-21T10:00:00.000Z", "1970-01-01T00:00:09.000Z", "2026-11-21T10:00:01.000Z"]
    for number, ts in enumerate(times):
        write(path, make_event, number, ts=ts)
    assert read(path, since="2026-11-21T10:00:00.000Z") == [0, 2]


# What is no event


def test_broken_lines_are_left_out_counted_and_the_first_is_named(path, make_event):
    write(path.with_name("mien.jsonl.1"), make_event, 1)
    write(path, make_event, 2, 3)
    with path.open("ab") as file:
        file.write(b'{"torn": \n\xff\xfe\n[]\n\n \n\0\0\0\n"x"\n')
    write(path, make_event, 4)
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [1, 2, 3, 4]
    assert (reader.events, reader.broken) == (4, 5)
    assert reader.first_broken == f"{path}, line 3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema", "mien/event/2"),
        ("ts", "yesterday"),
        ("ts", "2026-13-45T03:00:00.123Z"),
        ("ts", "2026-11-21T03:00:00+01:00"),
        ("ts", 5),
        ("track", "7"),
        ("track", True),
        ("confidence", 1e999),
        ("confidence", float("nan")),
        ("confidence", "1"),
        ("confidence", -1),
        ("scores", [1.0]),
        ("scores", {"happy": None}),
        ("scores", {"happy": 10**400}),
        ("box", [1, 2, 3]),
        ("box", "abcd"),
        ("box", None),
        ("frame", [640, 480, 1]),
        ("frame", {"x": 1, "y": 2}),
        ("expression", None),
        ("previous", 7),
        ("since", "long"),
        ("clock_synced", "yes"),
        ("device", ["kitchen"]),
    ],
)
def test_an_object_of_other_types_is_no_event(make_event, key, value):
    event = make_event(1).to_dict()
    assert parse_event(json.dumps(event).encode()) == event
    assert parse_event(json.dumps({**event, key: value}).encode()) is None
    del event[key if key not in {"previous", "since"} else "id"]
    assert parse_event(json.dumps(event).encode()) is None


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"9" * 10_000, b'{"ts":' * 5000, b"\xef\xbb\xbf{}", b"{}x", b"NaN"])
def test_what_would_upset_a_parser_is_no_event(raw):
    assert parse_event(raw) is None


def test_properties_that_nobody_knows_yet_do_no_harm(make_event):
    event = {**make_event(1).to_dict(), "head_pose": [1, 2, 3]}
    assert parse_event(json.dumps(event).encode()) == event


@given(st.binary(max_size=300))
def test_no_bytes_upset_the_parser(raw):
    assert parse_event(raw) is None


@pytest.mark.parametrize("size", [LONGEST_LINE, 3 * LONGEST_LINE])
def test_an_endless_line_is_one_broken_line_and_not_held_in_memory(path, make_event, size):
    write(path, make_event, 1)
    with path.open("ab") as file:
        file.write(b"x" * size + b"\n")
    write(path, make_event, 2)
    with path.open("ab") as file:
        file.write(b"y" * size)
    with LogReader(path) as reader:
        assert numbers(reader.lines(final=True)) == [1, 2]
        assert reader.broken == 2
        assert reader.first_broken == f"{path}, line 2"


@pytest.mark.parametrize(("tail", "events", "broken"), [("", 1, 0), ("whole", 2, 0), ("torn", 1, 1)])
def test_a_last_line_without_a_break_counts_only_once_nobody_can_finish_it(path, make_event, tail, events, broken):
    write(path, make_event, 1)
    line = make_event(2).to_json()
    with path.open("a") as file:
        file.write({"whole": line, "torn": line[:-9]}.get(tail, ""))
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [1]
        assert reader.broken == 0
        assert len(list(reader.lines(final=True))) == events - 1
    assert (reader.events, reader.broken) == (events, broken)


# While it is written


def test_what_is_written_later_comes_with_the_next_call_and_never_twice(path, make_event):
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == []
        write(path, make_event, 1, 2)
        assert numbers(itertools.islice(reader.lines(), 1)) == [1]
        write(path, make_event, 3)
        assert numbers(reader.lines()) == [2, 3]
        assert numbers(reader.lines()) == []


def test_a_line_comes_when_it_is_whole(path, make_event):
    line = make_event(1).to_json() + "\n"
    with LogReader(path) as reader, path.open("a") as file:
        for sign in line[:-1]:
            file.write(sign)
            file.flush()
            assert list(reader.lines()) == []
        file.write("\n")
        file.flush()
        assert numbers(reader.lines()) == [1]


def test_a_line_that_was_taken_back_on_a_full_disk_never_comes(path, make_event):
    write(path, make_event, 1)
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [1]
        with path.open("a") as file:
            file.write(make_event(2).to_json()[:100])
        assert numbers(reader.lines()) == []
        os.truncate(path, len(make_event(1).to_json()) + 1)
        write(path, make_event, 3)
        assert numbers(reader.lines()) == [3]
        assert reader.broken == 0


@pytest.mark.parametrize("more", [1, 2, 5], ids=["smaller", "as large", "larger"])
def test_a_log_that_is_emptied_is_read_from_its_beginning_again(path, make_event, more):
    write(path, make_event, 1, 2)
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [1, 2]
        os.truncate(path, 0)
        write(path, make_event, *range(3, 3 + more))
        assert numbers(reader.lines()) == list(range(3, 3 + more))


def test_a_log_that_is_deleted_and_begun_anew_is_followed(path, make_event):
    write(path.with_name("mien.jsonl.1"), make_event, 1)
    write(path, make_event, 2)
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [1, 2]
        write(path, make_event, 3)
        path.unlink()
        assert numbers(reader.lines()) == [3], "who has a file open reads it to its end"
        write(path, make_event, 4)
        assert numbers(reader.lines()) == [4]


@given(
    rotate_after=st.integers(1, 6),
    keep=st.integers(1, 4),
    turns=st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), max_size=12),
)
def test_no_line_is_missed_or_doubled_through_rotation_unless_it_is_deleted_first(rotate_after, keep, turns):
    """As many events as come between two looks, and a reader that stops in the middle: all, once, in order."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mien.jsonl"
        length = len(json.dumps(plain_event(0), separators=(",", ":"))) + 1
        seen, written = [], 0
        with LogReader(path) as reader:
            for many, all_of_them, restart in turns:
                for _ in range(min(many, rotate_after * keep)):
                    append(path, written, length * rotate_after, keep)
                    written += 1
                if restart and path.exists():
                    JsonLinesLog(path, max_bytes=length * rotate_after, keep=keep).close()
                lines = reader.lines()
                seen += numbers(lines if all_of_them else itertools.islice(lines, 2))
                if not all_of_them:
                    seen += numbers(reader.lines())
            assert seen == list(range(written))
            assert reader.broken == 0


def plain_event(number: int) -> dict:
    return events.Event(
        id=f"k-000001-{number:010d}",
        device="k",
        ts="2026-11-21T03:00:00.123Z",
        clock_synced=True,
        type="appeared",
        track=1,
        box=(0, 0, 1, 1),
        frame=(1, 1),
        expression="sad",
        confidence=1.0,
        scores={"sad": 1.0},
        model="m",
    ).to_dict()


def append(path: Path, number: int, max_bytes: int, keep: int) -> None:
    log = JsonLinesLog(path, max_bytes=max_bytes, keep=keep)
    values = plain_event(number)
    values.pop("schema")
    log.publish(events.Event(**values))
    log.close()


def test_a_reader_that_is_too_slow_goes_on_with_the_oldest_line_that_is_left(path, make_event):
    log = JsonLinesLog(path, max_bytes=1000, keep=2)
    log.publish(make_event(0))
    with LogReader(path) as reader:
        assert numbers(reader.lines()) == [0]
        for number in range(1, 30):
            log.publish(make_event(number))
        seen = numbers(reader.lines())
    log.close()
    # The file that was being read is read to its end, though it is deleted by now.
    assert seen[0] == 1
    gap = next(number for number in seen if number + 1 not in seen)
    assert seen == [*range(1, gap + 1), *range(seen[gap], 30)]
    assert read(path) == list(range(seen[gap], 30))


def test_files_that_are_moved_while_they_are_listed_are_listed_again(path, make_event, monkeypatch):
    log = JsonLinesLog(path, max_bytes=1000, keep=50)
    for number in range(8):
        log.publish(make_event(number))
    real, looked = LogReader._know, itertools.count()

    def know(self, place):
        if next(looked) == 1:
            for number in range(8, 11):
                log.publish(make_event(number))
        return real(self, place)

    monkeypatch.setattr(LogReader, "_know", know)
    assert read(path) == list(range(11))
    log.close()


# The last


@pytest.mark.parametrize("count", [0, 1, 3, 7, 8, 1000])
def test_the_last_lines_are_found_from_the_end(path, make_event, count, monkeypatch):
    monkeypatch.setattr("edge.log_reader._BLOCK", 100)
    log = JsonLinesLog(path, max_bytes=1500, keep=50)
    for number in range(30):
        log.publish(make_event(number, type="gone" if number % 4 == 0 else "appeared"))
    assert_last = list(range(0, 30, 4))[-count:] if count else []
    reader, lines = read_last(path, Selection(types=frozenset({"gone"})), count)
    assert numbers(lines) == assert_last
    for number in (31, 32, 33, 34):
        log.publish(make_event(number, type="gone"))
    assert numbers(reader.lines()) == [31, 32, 33, 34]
    assert reader.broken == 0
    reader.close()
    log.close()


def test_the_last_lines_of_a_large_log_are_not_searched_from_its_beginning(path, make_event):
    log = JsonLinesLog(path, max_bytes=200_000, keep=50)
    for number in range(3000):
        log.publish(make_event(number))
    log.close()
    reader, lines = read_last(path, Selection(), 5)
    reader.close()
    assert numbers(lines) == list(range(2995, 3000))
    assert reader.events < 1500
