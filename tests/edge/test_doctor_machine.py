"""Processor, memory, temperature, power and clock, of machines that are scripted below a folder."""

from datetime import UTC, datetime

import pytest

from edge.doctor_machine import check_memory, check_power, check_temperature, judge_clock, judge_processor

PI = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0"}
V8_0 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
V8_2 = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
KERNEL = "sys/devices/platform/soc/soc:firmware/get_throttled"
NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_pi_is_named_and_what_its_processor_lacks_is_no_fault(machine):
    finding = judge_processor(machine(PI | {"proc/cpuinfo": V8_0}), "aarch64", 64)
    assert finding.status == "ok"
    assert finding.found.startswith("Raspberry Pi 4 Model B Rev 1.4, aarch64, 64 bits, ARMv8.0: without dot product")
    newer = judge_processor(machine(PI | {"proc/cpuinfo": V8_2}), "aarch64", 64)
    assert "without" not in newer.found


@pytest.mark.parametrize(("architecture", "said"), [("armv7l", "a 32-bit one,"), ("aarch64", "under a 64-bit kernel")])
def test_a_32_bit_system_is_a_fault_also_under_a_64_bit_kernel(machine, architecture, said):
    finding = judge_processor(machine(PI), architecture, 32)
    assert finding.status == "fault"
    assert said in finding.found
    assert "Raspberry Pi OS (64-bit)" in finding.advice


@pytest.mark.parametrize(
    ("free", "active", "status"),
    [(900_000, False, "ok"), (140_000, False, "warning"), (140_000, True, "ok"), (30_000, True, "warning")],
)
def test_little_memory_is_a_warning_unless_the_daemon_has_its_share_already(make_subject, free, active, status):
    files = {"proc/meminfo": f"MemTotal:  1024000 kB\nMemFree: 1 kB\nMemAvailable:  {free} kB\n"}
    unit = {"ActiveState": "active" if active else "inactive"}
    assert check_memory(make_subject(files, unit=unit)).status == status


def test_a_kernel_that_does_not_tell_of_memory_is_no_fault(make_subject):
    assert check_memory(make_subject()).status == "not here"


@pytest.mark.parametrize(
    ("heat", "status"), [("51000", "ok"), ("79900", "ok"), ("80000", "warning"), ("85000", "fault"), (None, "not here")]
)
def test_a_hot_processor_is_told_before_and_when_it_is_too_hot(make_subject, heat, status):
    zone = "sys/class/thermal/thermal_zone0"
    files = {} if heat is None else {f"{zone}/type": "cpu-thermal", f"{zone}/temp": heat}
    assert check_temperature(make_subject(files)).status == status


@pytest.mark.parametrize(
    ("bits", "status", "said"),
    [
        ("0", "ok", "now and since boot"),
        ("50005", "fault", "too little voltage now"),
        ("50000", "warning", "too little voltage since boot; throttled since boot"),
        ("80008", "warning", "slowed down by warmth now"),
    ],
)
def test_under_voltage_and_throttling_are_told_now_and_since_boot(make_subject, bits, status, said):
    finding = check_power(make_subject({KERNEL: bits}))
    assert (finding.status, said in finding.found) == (status, True)
    assert ("power supply" in finding.advice) == ("voltage" in finding.found)


def test_off_a_pi_nothing_is_said_of_its_power(make_subject):
    assert check_power(make_subject()).status == "not here"


@pytest.mark.parametrize(
    ("now", "synced", "files", "status", "said"),
    [
        (NOON, True, {}, "ok", "2026-11-21 12:00 UTC, kept by NTP, without a battery clock"),
        (NOON, True, {"sys/class/rtc/rtc0/name": "rpi-rtc"}, "ok", "with a battery clock"),
        (NOON, False, {}, "warning", "clock_synced false"),
        (datetime(2024, 3, 4, tzinfo=UTC), False, {}, "fault", "in the past"),
        (datetime(1970, 1, 1, tzinfo=UTC), True, {}, "fault", "in the past"),
    ],
)
def test_a_clock_that_cannot_be_believed_is_told(machine, now, synced, files, status, said):
    finding = judge_clock(machine(files), now, synced=synced, hidden=False)
    assert (finding.status, said in finding.found) == (status, True)


def test_a_clock_that_chrony_keeps_is_one_that_the_service_cannot_believe(machine):
    finding = judge_clock(machine({}), NOON, synced=True, hidden=True)
    assert (finding.status, "clock_synced false" in finding.found) == ("warning", True)
    assert "ProtectClock=no" in finding.advice
    timesyncd = machine({"run/systemd/timesync/synchronized": ""})
    assert judge_clock(timesyncd, NOON, synced=True, hidden=True).status == "ok"
