"""`mien doctor` as people and scripts meet it."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge import cli_doctor, doctor
from edge.cli import main
from edge.doctor import CHECKS, Check
from edge.doctor_finding import fault, not_here, ok, warning

SAMPLES = Path(cli_doctor.__file__).parent / "samples"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def checks(monkeypatch):
    """Checks that stand in for the real ones."""
    made = {"disk": Check(lambda _: ok("room enough")), "power": Check(lambda _: not_here("no Pi"))}
    monkeypatch.setattr(doctor, "CHECKS", made)
    return made


def test_each_check_has_a_line_and_what_to_do_one_below(checks, capsys):
    checks["clock"] = Check(lambda _: warning("not kept by NTP", "sudo timedatectl set-ntp true"))
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ok        disk   room enough",
        "not here  power  no Pi",
        "warning   clock  not kept by NTP",
        "                 -> sudo timedatectl set-ntp true",
        "",
        "0 faults, 1 warning, 1 ok, 1 not here",
    ]


def test_a_fault_ends_with_1_in_both_forms(checks, capsys):
    checks["broker"] = Check(lambda _: fault("away", "switch it on"))
    assert main(["doctor"]) == 1
    assert main(["doctor", "--only", "disk"]) == 0
    capsys.readouterr()
    assert main(["doctor", "--json"]) == 1
    [line] = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["schema"], told["well"]) == ("mien/doctor/1", False)
    assert [check["status"] for check in told["checks"]] == ["ok", "not here", "fault"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["ts"])


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colours_and_line_breaks_are_for_terminals_alone(checks, monkeypatch, no_color, coloured):
    checks["long"] = Check(lambda _: ok("words " * 40))
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", no_color)
    assert main(["doctor"]) == 0
    seen = screen.getvalue()
    assert ("\x1b[32mok        \x1b[0mdisk" in seen) == coloured
    assert ("\x1b" in seen) == coloured
    assert max(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in seen.splitlines()) < 60


@pytest.mark.parametrize("argv", [["--only", "nonsense"], ["--only"], ["extra"], ["--sauce"]])
def test_wrong_usage_ends_with_64(argv, capsys):
    assert main(["doctor", *argv]) == 64
    assert "--" in capsys.readouterr().err


def test_a_check_that_does_not_exist_is_answered_with_those_that_do(capsys):
    assert main(["doctor", "--only", "kamera"]) == 64
    err = capsys.readouterr().err
    assert "--only kamera" in err
    assert "camera" in err.partition("expected one of")[2]


def test_the_help_tells_of_every_check(capsys):
    assert main(["doctor", "--help"]) == 0
    told = capsys.readouterr().out
    words = re.findall(r"[a-z]+", told[told.index("what is checked") :])
    assert set(CHECKS) <= set(words)


def test_a_broken_configuration_is_a_fault_and_no_error(tmp_path, capsys):
    file = tmp_path / "mien.toml"
    file.write_text('[mqtt]\nurl = "mqtt://me:hunter2@broker"\n')
    assert main(["doctor", "--config", str(file), "--only", "camera"]) == 1
    out, err = capsys.readouterr()
    assert "hunter2" not in out + err
    assert out.startswith("fault     configuration")
    assert main(["doctor", "--config", str(tmp_path / "absent.toml"), "--only", "configuration"]) == 1


@pytest.mark.broker
def test_all_of_it_runs_on_a_real_configuration_with_a_real_broker(mosquitto, tmp_path, listen):
    users, secret, file = tmp_path / "users", tmp_path / "secret", tmp_path / "mien.toml"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "me", "hunter2-right"], check=True)
    broker = mosquitto(f"password_file {users}", "allow_anonymous false")
    secret.write_text("hunter2-right\n")
    file.write_text(
        f'[source]\nspec = "images:{SAMPLES}"\n[device]\nname = "kitchen"\n[log]\npath = "{tmp_path}/mien.jsonl"\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\nusername = "me"\npassword_file = "{secret}"\n'
    )
    environ = os.environ | {"XDG_STATE_HOME": str(tmp_path), "MIEN_SOURCE_FPS": "5"}
    code = "import sys; from edge.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "doctor", "--json", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=120, check=False)
    assert done.stderr == ""
    told = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert list(told) == list(CHECKS)
    for name in ("configuration", "folders", "numpy", "opencv", "cascade", "interpreter", "model", "camera", "broker"):
        assert told[name]["status"] == "ok", told[name]
    assert "lets me in" in told["broker"]["found"]
    assert "hunter2" not in done.stdout
    assert all(check["advice"] for check in told.values() if check["status"] in {"warning", "fault"})
    assert done.returncode == any(check["status"] == "fault" for check in told.values())
    # Nothing was made, and nothing written.
    assert {path.name for path in tmp_path.iterdir()} == {"users", "secret", "mien.toml", "mosquitto-0"}
