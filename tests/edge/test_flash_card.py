"""Cards: which may be written to, and what becomes of one that is too small, protected, worn out or pulled out."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge.errors import BadDataError, InputNotFoundError, OutputError, UnavailableError, UsageError
from edge.flash_card import Device, Machine, check_device, open_card
from edge.flash_card import verify_card as verify_opened
from edge.flash_card import write_card as write_opened

CARD = Device(Path("/dev/sdz"), 10**9, "Reader", removable=True, read_only=False, mounts=())


@pytest.fixture
def machine(tmp_path):
    """A machine with a disk that the system is on, a USB stick, a card and an empty reader."""
    found = Machine(tmp_path / "dev", tmp_path / "sys", tmp_path / "proc")

    def disk(name, place, size, parts=(), **texts):
        real = found.sys / "devices" / place / name
        for part in (*parts, "device", "holders"):
            (real / part).mkdir(parents=True)
        for file, text in {"size": str(size), "removable": "0", "ro": "0", **texts}.items():
            (real / file.replace("__", "/")).write_text(f"{text}\n")
        (found.sys / "block" / name).symlink_to(real)
        for device in (name, *parts):
            (found.dev / device).touch()

    (found.sys / "block").mkdir(parents=True)
    found.dev.mkdir()
    (found.proc / "self").mkdir(parents=True)
    disk("sda", "pci0/ata1", 10**9, ["sda1", "sda2"])
    disk("sdb", "pci0/usb2/2-1", 60_000_000, ["sdb1"], device__model="Stick", device__vendor="Acme")
    disk("mmcblk0", "platform/mmc0", 30_000_000, ["mmcblk0p1"], device__type="SD", device__name="SC32G")
    disk("mmcblk1", "platform/mmc1", 30_000_000, device__type="MMC")
    disk("sdc", "pci0/usb2/2-2", 0, removable="1")
    disk("loop0", "virtual", 1000)
    (found.proc / "self/mountinfo").write_text(
        f"22 1 8:1 / / rw - ext4 {found.dev}/sda1 rw\n23 22 0:5 / /tmp rw shared:1 - tmpfs tmpfs rw\n"
        f"24 22 8:17 / /media/ada/my\\040stick rw - vfat {found.dev}/sdb1 rw\n"
    )
    (found.proc / "swaps").write_text(f"Filename Type\n{found.dev}/sda2 partition 1 0 -2\n")
    return found


def test_the_cards_are_told_from_the_disks(machine):
    found = {device.path.name: device for device in machine.devices()}
    assert {name: device.removable for name, device in found.items()} == {
        "sda": False, "sdb": True, "mmcblk0": True, "mmcblk1": False,
    }  # fmt: skip
    assert found["sda"].mounts == ("/", "swap")
    assert found["sdb"].mounts == ("/media/ada/my stick",)
    assert (found["sdb"].model, found["sdb"].size) == ("Acme Stick", 60_000_000 * 512)
    assert found["mmcblk0"].model == "SC32G"


def test_a_disk_under_an_encrypted_one_is_in_use(machine):
    (machine.sys / "block/sdb/sdb1/holders/dm-0").mkdir(parents=True)
    assert "dm-0" in machine.device(machine.dev / "sdb").mounts


@pytest.mark.parametrize(
    ("number", "source"), [("254:1", "/dev/mapper/vg-root"), ("8:17", "/dev/root"), ("0:33", "sdb1"), ("0:33", "dm-1")]
)
def test_the_systems_own_disk_is_known_also_under_volumes_and_by_other_names(machine, number, source):
    lower, upper = machine.sys / "block/dm-0", machine.sys / "block/dm-1"
    (machine.sys / "block/sdb/sdb1/holders/dm-0").mkdir(parents=True)
    (lower / "holders/dm-1").mkdir(parents=True)
    upper.mkdir()
    (upper / "dev").write_text("254:1\n")
    (machine.sys / "block/sdb/sdb1/dev").write_text("8:17\n")
    path = source if source.startswith("/") else machine.dev / source
    (machine.proc / "self/mountinfo").write_text(f"22 1 {number} / / rw shared:1 master:2 - ext4 {path} rw\n")
    device = machine.device(machine.dev / "sdb")
    with pytest.raises(UsageError, match="holds this very system"):
        check_device(device, 0, mounted_too=True, fixed_too=True)


def test_a_card_is_named_by_its_whole_device(machine, tmp_path):
    (tmp_path / "link").symlink_to(machine.dev / "sdb")
    assert machine.device(tmp_path / "link").path.name == "sdb"
    with pytest.raises(UsageError, match=r"sdb1 is a partition; name the whole card, .*/sdb$"):
        machine.device(machine.dev / "sdb1")
    with pytest.raises(InputNotFoundError, match="there is no"):
        machine.device(machine.dev / "sdx")
    (tmp_path / "sdb").touch()
    with pytest.raises(UsageError, match="is no disk"):
        machine.device(tmp_path / "sdb")


@pytest.mark.parametrize(
    ("device", "error", "why"),
    [
        (replace(CARD, mounts=("/media/card",)), UsageError, "in use: /media/card.*--mounted-too"),
        (replace(CARD, removable=False), UsageError, "not removable.*--fixed-too"),
        (replace(CARD, read_only=True), OutputError, "write-protected"),
        (replace(CARD, size=999), OutputError, "too small: the image needs 1000 bytes, and it has 999"),
        (replace(CARD, size=0), UnavailableError, "no card in this reader"),
    ],
)
def test_what_may_not_be_written_to_is_refused(device, error, why):
    with pytest.raises(error, match=why):
        check_device(device, 1000)
    check_device(CARD, 1000)


def test_what_somebody_insists_on_is_written_to_but_for_the_systems_own_disk():
    check_device(replace(CARD, mounts=("/media/card",)), 1000, mounted_too=True)
    check_device(replace(CARD, removable=False), 1000, fixed_too=True)
    for place in ("/", "/boot/firmware", "/home"):
        with pytest.raises(UsageError, match="holds this very system"):
            check_device(replace(CARD, mounts=(place,)), 1000, mounted_too=True, fixed_too=True)


def write_card(path, content, show=lambda _: None):
    with open_card(path) as device:
        return write_opened(device, path, content, show)


def verify_card(path, written, show=lambda _: None):
    with open_card(path) as device:
        verify_opened(device, path, written, show)


def test_what_is_written_is_read_back(tmp_path):
    card = tmp_path / "card"
    card.write_bytes(b"\xff" * 100)
    shown: list[int] = []
    written = write_card(card, [b"abc", b"def", b"g"], shown.append)
    assert card.read_bytes() == b"abcdefg" + b"\xff" * 93
    assert shown[-1] == 7
    verify_card(card, written, shown.append)
    card.write_bytes(b"abcdefx")
    with pytest.raises(BadDataError, match="does not hold what was written"):
        verify_card(card, written)
    card.write_bytes(b"abc")
    with pytest.raises(BadDataError, match="does not hold what was written"):
        verify_card(card, written)


def test_a_card_that_is_pulled_out_midway_looks_unfinished(tmp_path):
    card = tmp_path / "card"
    card.write_bytes(b"old" * 10)

    def content():
        yield b"table"
        yield b"files"
        raise OSError(5, "Input/output error")

    with pytest.raises(OutputError, match=r"was the card pulled out.*run it again"):
        write_card(card, content())
    assert card.read_bytes().startswith(bytes(5) + b"files")


def test_a_device_that_takes_no_more_is_told():
    with pytest.raises(OutputError, match="/dev/full cannot be written to any more, after 0 MB: No space"):
        write_card(Path("/dev/full"), [b"x"])


def test_a_device_that_something_else_holds_is_not_said_to_be_broken(tmp_path, monkeypatch):
    def busy(*_):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr("edge.flash_card.os.open", busy)
    with pytest.raises(OutputError, match=r"is in use by something else .*; unmount it"):
        write_card(tmp_path / "card", [b"x"])


def test_a_device_that_has_gone_is_told(tmp_path):
    with pytest.raises(OutputError, match="No such file"):
        write_card(tmp_path / "gone", [b"x"])
    ends = os.pipe()
    with pytest.raises(OutputError, match="read back"):
        verify_opened(ends[0], tmp_path / "gone", f"3:{'0' * 64}")
    for end in ends:
        os.close(end)
