"""What a Raspberry Pi says of itself, scripted below a folder that takes the root's place."""

import os
from pathlib import Path

import pytest

from edge import board
from edge.board import REASONS, Flag, resident_memory, temperature, throttling


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def program(root: Path, script: str) -> Path:
    path = write(root, {"usr/bin/vcgencmd": f"#!/bin/sh\n{script}\n"}) / "usr/bin/vcgencmd"
    path.chmod(0o755)
    return root


def now(flags):
    return {reason for reason, flag in flags.items() if flag.now}


def since_boot(flags):
    return {reason for reason, flag in flags.items() if flag.since_boot}


ZONE = "sys/class/thermal/thermal_zone"
KERNEL = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("zones", "degrees"),
    [
        ({"cpu-thermal\n": "51121\n"}, 51.121),
        ({"acpitz": "90000", "x86_pkg_temp": "47000"}, 47.0),
        ({"acpitz": "-4500", "wifi": "33000"}, 33.0),
        ({"cpu-thermal": "-274000"}, None),
        ({"cpu-thermal": "999999999999999999999"}, None),
        ({"cpu-thermal": "warm"}, None),
        ({"cpu-thermal": ""}, None),
        ({}, None),
    ],
)
def test_the_temperature_is_the_processors_in_degrees_celsius(tmp_path, zones, degrees):
    for number, (kind, content) in enumerate(zones.items()):
        write(tmp_path, {f"{ZONE}{number}/type": kind, f"{ZONE}{number}/temp": content})
    assert temperature(tmp_path) == degrees


def test_without_thermal_zones_the_hardware_monitor_is_asked(tmp_path):
    write(tmp_path, {"sys/class/hwmon/hwmon1/name": "cpu_thermal", "sys/class/hwmon/hwmon1/temp1_input": "60300"})
    assert temperature(tmp_path) == 60.3


@pytest.mark.parametrize(
    ("bits", "at_the_moment", "ever"),
    [
        ("0", set(), set()),
        ("50005", {"under_voltage", "throttled"}, {"under_voltage", "throttled"}),
        ("50000", set(), {"under_voltage", "throttled"}),
        ("a000a", {"frequency_capped", "soft_temp_limit"}, {"frequency_capped", "soft_temp_limit"}),
        ("f000f", set(REASONS), set(REASONS)),
        ("20008", {"soft_temp_limit"}, {"frequency_capped"}),
    ],
)
@pytest.mark.parametrize("source", ["soc", "soc@107c000000", "vcgencmd"])
def test_throttling_is_told_bit_by_bit_by_the_kernel_or_by_vcgencmd(tmp_path, source, bits, at_the_moment, ever):
    if source == "vcgencmd":
        program(tmp_path, f'[ "$*" = get_throttled ] && echo throttled=0x{bits}')
    else:
        write(tmp_path, {f"sys/devices/platform/{source}/{source}:firmware/get_throttled": f"{bits}\n"})
    flags = throttling(tmp_path)
    assert tuple(flags) == REASONS
    assert (now(flags), since_boot(flags)) == (at_the_moment, ever)


def test_what_the_kernel_says_of_throttling_is_believed_first(tmp_path):
    program(write(tmp_path, {KERNEL: "0\n"}), "echo throttled=0x1")
    assert now(throttling(tmp_path)) == set()


@pytest.mark.parametrize(("alarm", "low"), [("0\n", False), ("1\n", True)])
def test_without_the_firmwares_bits_the_voltage_sensor_tells_of_this_moment_alone(tmp_path, alarm, low):
    sensor = "sys/class/hwmon/hwmon2"
    flags = throttling(write(tmp_path, {f"{sensor}/name": "rpi_volt\n", f"{sensor}/in0_lcrit_alarm": alarm}))
    assert flags.pop("under_voltage") == Flag(low, None)
    assert flags == dict.fromkeys(REASONS[1:], Flag(None, None))


@pytest.mark.parametrize(
    "script",
    ["echo VCHI initialization failed; exit 255", "echo throttled=", "head -c 100000 /dev/zero", "exit 1", "sleep 9"],
)
def test_firmware_that_does_not_answer_is_no_fault_and_holds_nobody_up(tmp_path, monkeypatch, script):
    monkeypatch.setattr(board, "VCGENCMD_SECONDS", 0.2)
    assert throttling(program(tmp_path, f"exec {script}" if script.startswith("sleep") else script)) is None


def test_off_a_pi_nothing_is_said_of_throttling(tmp_path):
    other = write(tmp_path, {"sys/class/hwmon/hwmon0/name": "nct6775", "sys/class/hwmon/hwmon0/in0_lcrit_alarm": "1"})
    assert throttling(other) is None


def test_a_program_that_may_not_be_run_is_no_fault(tmp_path):
    assert throttling(write(tmp_path, {"usr/bin/vcgencmd": "no program"})) is None


def test_resident_memory_is_told_in_bytes(tmp_path):
    write(tmp_path, {"proc/self/statm": "95001 23456 9000 1 0 40000 0\n"})
    assert resident_memory(tmp_path) == 23456 * os.sysconf("SC_PAGE_SIZE")
    assert resident_memory(tmp_path / "nowhere") is None
    assert resident_memory() > 5_000_000
