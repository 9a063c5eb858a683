import ctypes
from types import SimpleNamespace

import pytest

import edge.device
from edge.device import clock_is_synced, default_name
from edge.rules import DEVICE_NAME


def test_two_cards_with_one_image_get_two_names_that_stay(tmp_path):
    for serial in ("10000000abcdef01", "10000000abcdef02"):
        (tmp_path / serial).write_bytes(serial.encode() + b"\0")
    names = [default_name("pi", [tmp_path / serial]) for serial in ("10000000abcdef01", "10000000abcdef02")] * 2
    assert names[0] != names[1]
    assert names[:2] == names[2:]
    assert all(name.startswith("pi-") and len(name) == 7 for name in names)
    assert "cdef" not in names[0]


def test_the_machine_id_counts_where_there_is_no_serial_number(tmp_path):
    (tmp_path / "empty").touch()
    (tmp_path / "machine-id").write_text("0123456789abcdef\n")
    name = default_name("pi", [tmp_path / "absent", tmp_path / "empty", tmp_path / "machine-id"])
    assert name == default_name("pi", [tmp_path / "machine-id"])
    assert name != default_name("pi", [])


def test_any_host_name_gives_a_name_fit_for_topics_and_ids():
    for host in ("raspberrypi.local", "Küche", "a/b+c#", "", "-", "x" * 64):
        assert DEVICE_NAME.fullmatch(default_name(host))
    assert default_name("raspberrypi.local").startswith("raspberrypi-")
    assert DEVICE_NAME.fullmatch(default_name())


@pytest.mark.parametrize(
    ("answer", "error", "synced"), [(0, 12_000, True), (5, 12_000, True), (5, 16_000_000, False), (-1, 0, False)]
)
def test_the_clock_is_believed_while_the_kernel_knows_its_error(monkeypatch, tmp_path, answer, error, synced):
    monkeypatch.setattr(edge.device, "TIMESYNC", tmp_path / "synchronized")

    class Libc:
        def adjtimex(self, reference):
            reference._obj.maxerror = error
            return answer

    monkeypatch.setattr(edge.device, "_LIBC", Libc())
    assert clock_is_synced() is synced


def test_where_the_kernel_may_not_be_asked_timesyncd_is_believed(monkeypatch, tmp_path):
    monkeypatch.setattr(edge.device, "_LIBC", SimpleNamespace(adjtimex=lambda _: -1))
    monkeypatch.setattr(edge.device, "TIMESYNC", tmp_path / "synchronized")
    assert not clock_is_synced()
    (tmp_path / "synchronized").touch()
    assert clock_is_synced()


def test_the_kernel_itself_gives_an_error_that_makes_sense():
    timex = edge.device._Timex()
    assert edge.device._LIBC.adjtimex(ctypes.byref(timex)) >= 0
    assert 0 < timex.maxerror <= edge.device.MAX_ERROR_US
