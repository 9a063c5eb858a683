"""What `systemd/` gives to systemd: judged by systemd's own tools, and held against what the daemon does."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import backoff, commandline, daemon, errors
from edge.camera.base import LIMITS
from edge.config import load_config

HOUSE = Path(__file__).parents[2] / "systemd"
UNIT = HOUSE / "mien.service"
MOST_EXPOSED = 1.5
"""In `systemd-analyze security`'s points, of 10."""

needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed (apt-get install systemd)"
)
needs_sysusers = pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed (apt-get install systemd)"
)


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


@pytest.fixture(scope="module")
def unit() -> dict[str, list[str]]:
    """Every key with its values; sections have no keys in common."""
    values: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            values.setdefault(key, []).append(value)
    return values


def seconds(unit: dict[str, list[str]], key: str) -> float:
    return float(unit[key][0])


# Its own tools


@needs_analyze
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path):
    (tmp_path / "mien.service").write_text(re.sub(r"/opt/mien/venv/bin/\w+", "/bin/true", UNIT.read_text()))
    found = analyze("verify", "--man=no", "--recursive-errors=no", tmp_path / "mien.service")
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


@needs_analyze
def test_what_systemd_would_pass_over_is_found(tmp_path):
    """The test above can fail."""
    text = UNIT.read_text().replace("RestartSec=", "RestartsEvery=")
    (tmp_path / "mien.service").write_text(re.sub(r"/opt/mien/venv/bin/\w+", "/bin/true", text))
    found = analyze("verify", "--man=no", "--recursive-errors=no", tmp_path / "mien.service")
    assert "RestartsEvery" in found.stderr


@needs_analyze
def test_the_service_is_exposed_no_more_than_cameras_and_a_broker_need():
    found = analyze("security", "--offline=true", UNIT)
    exposure = float(re.search(r"Overall exposure level for mien.service: ([0-9.]+)", found.stdout)[1])
    assert exposure <= MOST_EXPOSED


@needs_sysusers
def test_the_account_is_in_the_groups_of_cameras_and_of_the_button(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\nvideo:x:44:\n")
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    for _ in range(2):  # an upgrade does it again
        done = subprocess.run(
            ["systemd-sysusers", f"--root={tmp_path}", HOUSE / "mien.sysusers.conf"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    accounts = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    groups = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert accounts["mien"][5:] == ["/var/lib/mien", "/usr/sbin/nologin"]
    assert accounts["mien"][3] == groups["mien"][2]
    assert [groups[name][3] for name in ("video", "gpio")] == ["mien", "mien"]


# A start, a failure, an end


def test_it_is_started_again_after_every_failure_that_time_may_heal_and_never_given_up(unit):
    assert unit["Restart"] == ["on-failure"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    hopeless = {int(code) for code in unit["RestartPreventExitStatus"][0].split()}
    assert hopeless == {errors.UsageError.exit_code, errors.ConfigError.exit_code}
    healing = (errors.CameraError, errors.OutputError, errors.BadDataError, errors.InputNotFoundError)
    assert not hopeless & {commandline.FAULT, *(error.exit_code for error in healing)}


def test_it_is_started_again_at_once_where_another_model_is_chosen(unit):
    assert unit["RestartForceExitStatus"] == unit["SuccessExitStatus"] == [str(daemon.AGAIN)]


def test_the_growing_pause_needs_nothing_that_bookworms_systemd_does_not_know(unit):
    assert not {"RestartSteps", "RestartMaxDelaySec"} & unit.keys()
    before, after = unit["ExecStartPre"][0], unit["ExecStopPost"][0]
    assert before.endswith("backoff.py before")
    assert after.endswith("backoff.py after")
    # The daemon is started even where the count is broken.
    assert before[0] == after[0] == "-"
    assert unit["RuntimeDirectoryPreserve"] == ["restart"]
    assert seconds(unit, "TimeoutStartSec") > backoff.LONGEST_SECONDS + 30


def test_the_pause_grows_also_where_the_environment_is_broken(unit):
    for key in ("ExecStartPre", "ExecStopPost"):
        program, _, file = unit[key][0].lstrip("-").split()[:3]
        assert program == "/usr/bin/python3"
        assert file.startswith(f"{Path(unit['ExecStart'][0].split()[0]).parents[1]}/")
    # The system's Python knows none of the environment's packages.
    alone = [sys.executable, "-I", "-S", backoff.__file__, "before"]
    assert subprocess.run(alone, env={"RUNTIME_DIRECTORY": "/nowhere"}, check=True, timeout=20).returncode == 0


def test_the_watchdog_leaves_the_daemon_its_own_limits(unit):
    assert unit["Type"] == ["notify"]
    every = seconds(unit, "WatchdogSec") / 2
    assert every >= daemon.VISION_SECONDS
    assert every > LIMITS.silent
    assert unit["Environment"][0] == "PYTHONFAULTHANDLER=1"


def test_a_stop_takes_five_seconds_at_most(unit):
    assert seconds(unit, "TimeoutStopSec") == 5


# What it may


def test_cameras_their_memory_and_the_button_are_all_the_devices_it_may_use(unit):
    assert unit["DevicePolicy"] == ["closed"]
    assert "PrivateDevices" not in unit
    allowed = {rule.removesuffix(" rw") for rule in unit["DeviceAllow"]}
    assert allowed == {"char-video4linux", "char-media", "char-dma_heap", "char-gpiochip"}


def test_the_processors_own_description_can_be_read():
    """The interpreter's kernels are chosen by /proc/cpuinfo, which `ProcSubset=pid` would hide."""
    assert "ProcSubset" not in UNIT.read_text()


def test_memory_and_processor_have_a_limit(unit):
    assert {"MemoryHigh", "MemoryMax", "CPUQuota", "CPUWeight", "TasksMax"} <= unit.keys()
    assert int(unit["Nice"][0]) > 0


def test_the_log_is_for_the_group_and_for_nobody_else(unit):
    assert unit["UMask"] == ["0027"]
    assert unit["LogsDirectoryMode"] == unit["StateDirectoryMode"] == ["0750"]


# Its configuration


def test_the_configuration_that_is_installed_logs_and_publishes_nowhere_else(unit):
    path = unit["ExecStart"][0].rpartition(" ")[2]
    assert path == "/etc/mien/mien.toml"
    config = load_config(HOUSE / "mien.toml", environ={}, overrides={})
    assert config.log.path == Path("/var/log") / unit["LogsDirectory"][0] / "mien.jsonl"
    assert (config.source.spec, config.mqtt.url, config.metrics.port) == ("picamera2", "", 0)


def test_the_passwords_that_systemd_hands_over_are_the_ones_that_the_daemon_looks_for(unit, tmp_path):
    handed = dict(rule.split(":") for rule in unit["LoadCredential"])
    for name in handed:
        (tmp_path / name).write_text("secret\n")
    config = load_config(HOUSE / "mien.toml", environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}, overrides={})
    assert {config.mqtt.password_file, config.source.password_file} == {tmp_path / name for name in handed}
    # Without a path, so that a password that is not there is no error; and the advice is the place.
    assert all("/" not in place for place in handed.values())
    assert all(f"/etc/credstore/{place}" in (HOUSE / "mien.toml").read_text() for place in handed.values())
