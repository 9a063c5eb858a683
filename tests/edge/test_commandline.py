import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge.commandline import Parser, guarded
from edge.errors import BadDataError, ConfigError, MienError, OutputError, UnavailableError


def raising(error):
    def command():
        raise error

    return command


def ended(script: str, *options: str, stdout=subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *options, "-c", script],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
        check=False,
        env=environment(),
    )


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in {"PYTHONUNBUFFERED", "MIEN_DEBUG"}}


def test_a_commands_own_exit_code_is_handed_on():
    assert guarded("mien", lambda: 0, []) == 0
    assert guarded("mien", lambda: 1, []) == 1


@pytest.mark.parametrize("error_class", [BadDataError, ConfigError, MienError, OutputError, UnavailableError])
def test_an_error_of_ours_is_one_line_and_its_exit_code(error_class, capsys):
    assert guarded("mien", raising(error_class("what to do next")), []) == error_class.exit_code
    assert capsys.readouterr().err == "mien: error: what to do next\n"


@pytest.mark.parametrize("error_class", [BadDataError, ValueError])
def test_what_would_steer_the_terminal_is_shown_instead(error_class, capsys):
    guarded("mien", raising(error_class("a\x1b[2J\r\x9b1m\u202e.jpg: gone\nb.jpg: gone")), [])
    said = capsys.readouterr().err
    assert "a\\x1b[2J\\r\\x9b1m\\u202e.jpg: gone\nb.jpg: gone\n" in said
    assert "\x1b" not in said


LOGS = """
import logging
from edge.commandline import log_to_stderr
log_to_stderr()
logging.info("not told")
logging.warning("%s\\x1b[2J: gone", "rtsp://me:hunter2@camera/x")
try:
    raise ValueError("mqtt://me:hunter2@broker")
except ValueError:
    logging.exception("a fault")
"""


def test_what_is_logged_neither_steers_the_terminal_nor_shows_a_password():
    said = ended(LOGS).stderr
    assert said.startswith("mien: WARNING: rtsp://***@camera/x\\x1b[2J: gone\nmien: ERROR: a fault\nTraceback ")
    assert said.endswith("ValueError: mqtt://***@broker\n")
    assert "hunter2" not in said


@pytest.mark.parametrize("argv", [[], ["--debug"]])
def test_no_error_and_no_traceback_shows_a_password(argv, capsys):
    assert guarded("mien", raising(ValueError("rtsp://me:hunter2@camera/x")), argv) == 70
    said = capsys.readouterr().err
    assert "rtsp://***@camera/x" in said
    assert "hunter2" not in said


def test_wrong_usage_is_quoted_without_what_would_steer_the_terminal(capsys):
    parser = Parser("mien")
    parser.add_argument("--pace", choices=["fast"])
    assert guarded("mien", lambda: bool(parser.parse_args(["--pace=fast", "\x1b[2J"])), []) == 64
    said = capsys.readouterr().err
    assert "\\x1b[2J" in said
    assert "\x1b" not in said


def test_ctrl_c_ends_with_130_and_says_nothing(capsys):
    assert guarded("mien", raising(KeyboardInterrupt()), []) == 130
    assert capsys.readouterr().err == ""


def test_a_fault_is_70_and_says_how_to_see_more(capsys, monkeypatch):
    monkeypatch.delenv("MIEN_DEBUG", raising=False)
    assert guarded("mien", raising(KeyError("scores")), []) == 70
    said = capsys.readouterr().err
    assert "KeyError: 'scores'" in said
    assert "--debug" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("argv", "variable"), [(["run", "--debug"], ""), (["run"], "1")])
def test_a_faults_traceback_is_there_for_the_asking(argv, variable, capsys, monkeypatch):
    monkeypatch.setenv("MIEN_DEBUG", variable)
    assert guarded("mien", raising(KeyError("scores")), argv) == 70
    assert "Traceback" in capsys.readouterr().err


def test_wrong_usage_ends_with_64_and_names_the_argument(capsys):
    parser = Parser("mien")
    parser.add_argument("--pace", choices=["fast", "realtime"])
    assert guarded("mien", lambda: bool(parser.parse_args(["--pace", "slow"])), []) == 64
    said = capsys.readouterr().err
    assert "--pace" in said
    assert "mien --help" in said


def test_a_subcommand_refuses_wrong_usage_alike():
    parser = Parser("mien")
    parser.add_subparsers().add_parser("run").add_argument("--log")
    assert guarded("mien", lambda: bool(parser.parse_args(["run", "--lgo", "x"])), []) == 64


def test_help_ends_with_0(capsys):
    assert guarded("mien", lambda: bool(Parser("mien", epilog="one\n  two").parse_args(["--help"])), []) == 0
    assert "one\n  two" in capsys.readouterr().out


def test_debug_is_understood_before_and_after_a_subcommand():
    parser = Parser("mien")
    parser.add_subparsers().add_parser("run")
    assert parser.parse_args(["--debug", "run"]).debug
    assert parser.parse_args(["run", "--debug"]).debug


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_reader_that_has_seen_enough_is_no_error(options):
    script = (
        "import sys; from edge.commandline import guarded\n"
        "def command():\n    [print('x' * 1000) for _ in range(1000)]\n    return 0\n"
        "sys.exit(guarded('mien', command))"
    )
    with subprocess.Popen(
        [sys.executable, *options, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize("options", [[], ["-u"]], ids=["buffered", "unbuffered"])
def test_a_full_disk_behind_standard_output_is_73(options):
    script = "import sys; from edge.commandline import guarded\nsys.exit(guarded('mien', lambda: bool(print('x'))))"
    with Path("/dev/full").open("w") as full:
        done = ended(script, *options, stdout=full)
    assert done.returncode == 73
    assert done.stderr.startswith("mien: error: the output cannot be written: No space left")


def test_a_broken_pipe_that_is_not_standard_outputs_is_a_fault():
    script = (
        "import sys; from edge.commandline import guarded\n"
        "def command():\n    raise BrokenPipeError(32, 'Broken pipe')\n"
        "sys.exit(guarded('mien', command))"
    )
    done = ended(script)
    assert done.returncode == 70
    assert "BrokenPipeError" in done.stderr


def test_a_name_that_the_terminal_cannot_show_is_no_reason_to_stop():
    script = "import sys; from edge.commandline import guarded\nguarded('mien', lambda: bool(print('\\udcff.png')))"
    done = ended(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\udcff.png" in done.stdout
