import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from edge.cli import main, make_parser
from edge.cli_log import EPILOG, parse_when
from edge.log_formats import COLUMNS, make_writer
from edge.log_reader import Line
from edge.sinks.log import JsonLinesLog

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _utc_and_no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mien.jsonl"


@pytest.fixture
def log(path, make_event):
    """Four events in two files."""
    sink = JsonLinesLog(path, max_bytes=800)
    for event in (
        make_event(1),
        make_event(2, type="changed", expression="uncertain", confidence=0.4, previous="happy", since=4.25),
        make_event(3, ts="2026-11-21T04:00:00.000Z", track=12, clock_synced=False),
        make_event(4, ts="2026-11-21T05:00:00.000Z", type="gone", device="hall", expression="sad"),
    ):
        sink.publish(event)
    sink.close()
    assert len(list(path.parent.iterdir())) == 2
    return path


def run(*options: object) -> int:
    return main(["log", *map(str, options)])


# Printing


def test_a_table_is_for_people(log, capsys):
    assert run(log) == 0
    assert capsys.readouterr().out.splitlines() == [
        "TIME                   FACE  TYPE      EXPRESSION SCORE  BEFORE              DEVICE",
        "2026-11-21 03:00:00       7  appeared  happy        83%                      kitchen",
        "2026-11-21 03:00:00       7  changed   uncertain    40%  happy 4.2 s         kitchen",
        "2026-11-21 04:00:00?     12  appeared  happy        83%                      kitchen",
        "2026-11-21 05:00:00       7  gone      sad          83%                      hall",
    ]


def test_the_table_tells_local_time(log, capsys, monkeypatch):
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    assert run(log, "--last", 1) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("2026-11-21 06:00:00 ")


def test_json_is_the_lines_as_they_are(log, capfdbinary):
    whole = b"".join(log.with_name(name).read_bytes() for name in ("mien.jsonl.1", "mien.jsonl"))
    assert run(log, "--format", "json") == 0
    assert capfdbinary.readouterr().out == whole


def test_csv_has_a_column_for_each_score_of_every_model_that_was_used(path, make_event, capsys):
    sink = JsonLinesLog(path)
    sink.publish(make_event(1))
    sink.publish(make_event(2, scores={"happy": 0.5, "a,\n=b": 0.5}, type="changed", previous="sad", since=1.5))
    sink.close()
    assert run(path, "--format", "csv") == 0
    said = capsys.readouterr()
    first, second = csv.DictReader(io.StringIO(said.out))
    assert list(first) == [*COLUMNS, "scores.angry", "scores.happy", "scores.a,\\n=b"]
    assert (first["id"], first["ts"]) == ("kitchen-000001-0000000001", "2026-11-21T03:00:00.123Z")
    assert (first["x"], first["height"], first["frame_height"], first["clock_synced"]) == ("212", "118", "480", "true")
    assert (first["scores.angry"], first["previous"], first["since"]) == ("0.17", "", "")
    assert (second["scores.angry"], second["scores.a,\\n=b"], second["since"]) == ("", "0.5", "1.5")
    assert said.err == ""


def test_a_csv_without_events_has_its_header(path, capsys):
    path.touch()
    assert run(path, "--format", "csv") == 0
    assert capsys.readouterr().out == ",".join(COLUMNS) + "\n"


HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\ud83d\r\n\x00"


class Screen(io.TextIOWrapper):
    def isatty(self):
        return True


@pytest.mark.parametrize("kind", ["table", "csv", "json"])
def test_nothing_in_a_log_steers_a_terminal(make_event, kind):
    event = make_event(1).to_dict()
    event |= dict.fromkeys(("id", "device", "type", "expression", "previous", "model"), HOSTILE)
    event |= {"scores": {HOSTILE: 1.0}, "since": 1.0, "type": "changed" + HOSTILE}
    raw = json.dumps(event).replace("\\u009b", "\x9b").replace("\\u202e", "\u202e").encode()
    assert b"\xc2\x9b" in raw
    screen = Screen(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
    make_writer(kind, screen, [HOSTILE])(Line(raw, json.loads(raw)))
    screen.flush()
    shown = screen.buffer.getvalue().decode()
    assert [sign for sign in shown if not sign.isprintable() and sign != "\n"] == []
    assert len(shown.splitlines()) == {"table": 2, "csv": 2, "json": 1}[kind]
    if kind == "json":
        assert json.loads(shown) == event


def test_a_name_of_any_length_stays_on_its_line(make_event):
    event = make_event(1).to_dict() | {"expression": "x" * 100_000, "track": 10**300, "type": "y" * 500}
    stream = io.StringIO()
    make_writer("table", stream, [])(Line(b"", event))
    assert all(len(line) < 250 for line in stream.getvalue().splitlines())


# Selecting


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("--last 2", [3, 4]),
        ("--last 0", []),
        ("--type appeared --last 1", [3]),
        ("--type appeared --type gone", [1, 3, 4]),
        ("--expression happy --expression sad", [1, 3, 4]),
        ("--track 12", [3]),
        ("--device hall", [4]),
        ("--since 2026-11-21T04:00:00Z", [3, 4]),
        ("--since 2026-11-21T05:00:00+01:00 --until 2026-11-21T05:00:00Z", [3]),
        ("--until 2026-11-21", []),
        ("--since 2026-11-21", [1, 2, 3, 4]),
        ("--since 1s", []),
    ],
)
def test_options_select(log, options, found, capfd):
    assert run(log, *options.split(), "--format", "json") == 0
    assert [int(json.loads(line)["id"][-10:]) for line in capfd.readouterr().out.splitlines()] == found


NOW = datetime(2026, 11, 21, 12, 0, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", "2026-11-21T09:58:30.000Z"),
        ("10m", "2026-11-21T09:50:00.000Z"),
        ("1.5h", "2026-11-21T08:30:00.000Z"),
        ("3d", "2026-11-18T10:00:00.000Z"),
        ("3 d", "2026-11-18T10:00:00.000Z"),  # as mien pause --for takes it
        ("2w", "2026-11-07T10:00:00.000Z"),
        ("2026-11-21", "2026-11-21T00:00:00.000Z"),
        ("2026-11-21 14:30", "2026-11-21T14:30:00.000Z"),
        ("2026-11-21T14:30:15.5", "2026-11-21T14:30:15.500Z"),
        ("2026-11-21T14:30:15.123456Z", "2026-11-21T14:30:15.123Z"),
        ("2026-11-21t14:30:15z", "2026-11-21T14:30:15.000Z"),
        ("2026-11-21T14:30:15-05:30", "2026-11-21T20:00:15.000Z"),
    ],
)
def test_a_time_is_a_span_a_date_or_rfc_3339(text, moment):
    assert parse_when(text, NOW) == moment


def test_a_time_without_an_offset_is_local(monkeypatch):
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    assert parse_when("2026-11-21", NOW) == "2026-11-20T23:00:00.000Z"


@pytest.mark.parametrize(
    "text",
    [
        *["", "yesterday", "10", "10x", "-1h", "1e9d", "99999999999d", "20261121", "2026-02-30", "2026-11-21T25:00"],
        "0001-01-01T00:00:00+10:00",
    ],
)
def test_other_times_are_refused_with_what_was_expected(text):
    with pytest.raises(ValueError, match=r"is no time; expected a span such as 10m"):
        parse_when(text, NOW.astimezone(UTC))


# Which log


def test_the_log_is_that_of_the_configuration(log, tmp_path, monkeypatch, capsys):
    file = tmp_path / "mien.toml"
    file.write_text(f'[log]\npath = "{log}"\n')
    assert run("--config", file, "--last", 1) == 0
    monkeypatch.setenv("MIEN_LOG_PATH", str(log))
    assert run("--last", 1) == 0
    assert capsys.readouterr().out.count("hall") == 2


def test_a_log_that_is_named_needs_no_configuration(log, monkeypatch):
    monkeypatch.setenv("MIEN_LOG_KEEP", "many")
    assert run(log) == 0
    assert run() == 78


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["nowhere.jsonl"], 66, "there is no log nowhere.jsonl"),
        (["nowhere/mien.jsonl", "--follow"], 66, "there is no log nowhere/mien.jsonl"),
        (["."], 65, "is no file that could be a log"),
        ([], 64, "the configuration names no log"),
        (["--config", "nowhere.toml"], 66, "nowhere.toml"),
        (["x", "--since", "soon"], 64, "is no time"),
        (["x", "--follow", "--until", "1h"], 64, "--until"),
        (["x", "--type", "left"], 64, "invalid choice"),
        (["x", "--last", "-1"], 64, "number of events"),
        (["x", "--format", "xml"], 64, "invalid choice"),
    ],
)
def test_what_is_wrong_is_said_with_the_exit_code_for_it(options, code, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*options) == code
    assert said in capsys.readouterr().err


def test_lines_that_are_no_events_are_told_of_once_at_the_end(log, capsys):
    with log.open("a") as file:
        file.write("x\n" * 40)
    assert run(log) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 5
    assert said.err == f"mien log: 40 lines are no events and were left out: the first is {log}, line 3\n"


def test_a_file_without_any_event_is_no_log(path, capsys):
    path.write_text("one\ntwo\n")
    assert run(path) == 65
    assert f"{path} holds no event" in capsys.readouterr().err


def test_the_help_teaches(capsys):
    assert main(["log", "--help"]) == 0
    assert "exit codes" in capsys.readouterr().out
    commands = re.findall(r"^  mien (log .+?)(?: {2,}.*| [>|] .*)?$", EPILOG, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        assert make_parser().parse_args(command.split()).call


# Other programs


def readme_line(beginning):
    (line,) = re.findall(rf"^{re.escape(beginning)}.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return line


def test_jq_reads_the_log_as_the_readme_says(log):
    if not shutil.which("jq"):
        pytest.skip("jq is not installed (apt-get install jq)")
    done = subprocess.run(["sh", "-c", readme_line("jq ")], cwd=log.parent, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    log.with_name("mien.jsonl.1").rename(log)
    done = subprocess.run(["sh", "-c", readme_line("jq ")], cwd=log.parent, capture_output=True, text=True, check=True)
    assert done.stdout == "2026-11-21T03:00:00.123Z\thappy\tuncertain\n"


def test_pandas_reads_the_log_as_the_readme_says(log):
    pytest.importorskip("pandas", reason="pandas is not installed (pip install pandas)")
    line = readme_line("python -c").replace("python", sys.executable, 1)
    done = subprocess.run(["sh", "-c", line], cwd=log.parent, capture_output=True, text=True, check=True)
    assert "sad" in done.stdout


def test_telegraf_is_told_of_keys_that_events_have(make_event):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(# Telegraf.*?)```", text, re.DOTALL)
    (tail,) = tomllib.loads(block)["inputs"]["tail"]
    assert {*tail["tag_keys"], *tail["json_string_fields"], tail["json_time_key"]} <= make_event().to_dict().keys()


# Following


class Follower:
    """`mien log --follow` in a process of its own."""

    def __init__(self, *options, **pipes):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import sys; from edge.cli import main; sys.exit(main())",
                "log",
                *map(str, options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            **pipes,
        )

    def numbers(self, count):
        lines = [self.process.stdout.readline() for _ in range(count)]
        return [int(json.loads(line)["id"].rsplit("-", 1)[1]) for line in lines]

    def interrupt(self):
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=10)
        return self.process.returncode, out, err


@pytest.fixture
def follow():
    started = []

    def start(*options):
        started.append(Follower("--follow", *options))
        return started[-1]

    yield start
    for follower in started:
        follower.process.kill()
        follower.process.communicate()


def test_following_begins_with_the_last_events_and_goes_on_through_rotation(path, make_event, follow):
    log = JsonLinesLog(path, max_bytes=2000, keep=20)
    for number in range(30):
        log.publish(make_event(number))
    follower = follow(path, "--format", "json")
    assert follower.numbers(10) == list(range(20, 30))
    for number in range(30, 90):
        log.publish(make_event(number))
    assert follower.numbers(60) == list(range(30, 90))
    log.close()
    with path.open("a") as file:
        file.write('{"torn')
    log = JsonLinesLog(path, max_bytes=2000, keep=20)
    log.publish(make_event(90))
    assert follower.numbers(1) == [90]
    os.truncate(path, 0)
    log.publish(make_event(91))
    assert follower.numbers(1) == [91]
    log.close()
    assert follower.interrupt() == (130, "", "")


def test_following_waits_for_a_log_that_is_not_there_yet(path, make_event, follow):
    follower = follow(path, "--format", "json", "--type", "gone")
    assert follower.process.stderr.readline() == f"mien log: waiting for {path}\n"
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    log.publish(make_event(2, type="gone"))
    assert follower.numbers(1) == [2]
    log.close()
    assert follower.interrupt() == (130, "", "")


def test_a_csv_that_follows_takes_its_columns_from_the_first_event(path, make_event, follow):
    follower = follow(path, "--format", "csv")
    follower.process.stderr.readline()
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    assert follower.process.stdout.readline() == ",".join([*COLUMNS, "scores.angry", "scores.happy"]) + "\n"
    log.publish(make_event(2, scores={"happy": 0.5, "calm": 0.5}))
    assert follower.process.stderr.readline().startswith("mien log: scores of 'calm' have no column")
    log.close()


def test_following_ends_when_nobody_reads_any_more_also_while_nothing_happens(path, make_event, follow):
    log = JsonLinesLog(path)
    log.publish(make_event(1))
    log.close()
    follower = follow(path, "--format", "json")
    assert follower.numbers(1) == [1]
    follower.process.stdout.close()
    assert follower.process.wait(10) == 0
    assert follower.process.stderr.read() == ""


def test_a_pipe_that_is_closed_early_is_no_error(path, make_event):
    log = JsonLinesLog(path)
    for number in range(500):
        log.publish(make_event(number))
    log.close()
    reader = Follower(path, "--format", "json")
    assert reader.numbers(2) == [0, 1]
    reader.process.stdout.close()
    assert reader.process.wait(10) == 0
    assert reader.process.stderr.read() == ""
    reader.process.stderr.close()
