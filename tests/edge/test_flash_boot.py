"""Boot partitions in folders and images: what they are of, and that preparing replaces and never doubles."""

import struct
from pathlib import Path

import pytest

from edge.errors import BadDataError, InputNotFoundError, OutputError, UsageError
from edge.flash_boot import FatBoot, find_boot, has_cloud_init, mounted_at, open_boot, prepare, system_of
from edge.flash_firstboot import boot_files, templates
from edge.flash_settings import make_card


def card(**options):
    return make_card(
        {"hostname": "kitchen", **options}, default_config=templates() / "mien.toml", where=lambda name: name
    )


@pytest.fixture(params=["folder", "image"])
def boot(request, boot_folder):
    """Open a release's boot partition, in a folder and in an image."""

    def make(release="trixie"):
        if request.param == "folder":
            return open_boot(boot_folder(release))
        return open_boot(request.getfixturevalue("raspberry_image")(release))

    return make


def content(boot, names):
    return {name: boot.read(name) for name in names}


def test_files_are_written_read_replaced_and_removed(boot, tmp_path):
    boot = boot()
    boot.write("a/b/c.txt", b"one")
    boot.write("a/b/c.txt", b"two")
    (tmp_path / "source").write_bytes(b"three")
    boot.copy("a/d~1+x_y.deb", tmp_path / "source")
    assert (boot.read("a/b/c.txt"), boot.read("a/d~1+x_y.deb"), boot.read("a/nothing")) == (b"two", b"three", None)
    assert boot.size("a") == 8
    assert "a" in boot.names()
    boot.remove("a")
    boot.remove("never-there")
    assert "a" not in boot.names()
    assert boot.size("a") == 0
    assert boot.free_bytes() > 10**6


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_the_release_is_seen(boot, release):
    assert system_of(boot(release)) == release


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_preparing_twice_is_preparing_once(boot, release, mien_deb):
    boot = boot(release)
    before = boot.names()
    kit = {"mien/mien_0.1.0_arm64.deb": mien_deb}
    first = card(wifi="Home", country="DE", **{"wifi-open": "yes"})
    prepare(boot, first, release, "one", {**boot_files(first, release, "one"), "mien/old": b"x"}, kit)
    second = card(country="GB")
    files = boot_files(second, release, "two")
    prepare(boot, second, release, "two", files, kit)
    assert content(boot, files) == files
    assert boot.read("mien/old") is None
    assert boot.read("mien/mien_0.1.0_arm64.deb") == mien_deb.read_bytes()
    assert boot.names() - before == {"mien"} | ({"firstrun.sh"} if release == "bookworm" else set())
    words = boot.read("cmdline.txt").decode().split()
    assert len(words) == len({word.partition("=")[0] for word in words if not word.startswith("console=")}) + 2
    assert "cfg80211.ieee80211_regdom=GB" in words
    assert words.count("rootwait") == 1
    assert boot.read("cmdline.txt").count(b"\n") == 1


def test_a_partition_without_room_is_left_as_it_was(raspberry_image, tmp_path):
    path = raspberry_image("bookworm")
    boot = open_boot(path)
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(40_000_000)
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"has \d+ MB free, and 44 MB are needed"):
        prepare(boot, card(), "bookworm", "x", boot_files(card(), "bookworm", "x"), {"mien/large": large})
    assert path.read_bytes() == before


def test_one_that_was_prepared_may_be_prepared_again_however_full_it_is(raspberry_image, tmp_path):
    boot = open_boot(raspberry_image("bookworm"))
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(20_000_000)
    for identity in ("one", "two"):
        prepare(boot, card(), "bookworm", identity, boot_files(card(), "bookworm", identity), {"mien/large": large})
    assert boot.size("mien") > 20_000_000


def test_one_whose_preparing_is_cut_off_boots_as_if_nothing_had_been_prepared(boot_folder, mien_deb, monkeypatch):
    folder = boot_folder("bookworm")
    boot = open_boot(folder)
    plain = (folder / "cmdline.txt").read_text()
    prepare(boot, card(), "bookworm", "one", boot_files(card(), "bookworm", "one"), {})

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(boot, "copy", fail)
    with pytest.raises(OutputError, match="Input/output error; is it still there"):
        prepare(boot, card(), "bookworm", "two", boot_files(card(), "bookworm", "two"), {"mien/x.deb": mien_deb})
    assert (folder / "cmdline.txt").read_text() == plain


def test_a_32_bit_system_is_refused(boot_folder):
    folder = boot_folder("bookworm")
    (folder / "kernel7l.img").write_text("")
    with pytest.raises(BadDataError, match="32-bit Raspberry Pi OS"):
        system_of(open_boot(folder), "bookworm")


@pytest.mark.parametrize("gone", ["config.txt", "cmdline.txt", "kernel8.img"])
def test_another_systems_boot_partition_is_refused(boot_folder, gone):
    folder = boot_folder()
    (folder / gone).unlink()
    with pytest.raises(BadDataError, match=f"no boot partition of Raspberry Pi OS: it has no {gone}"):
        system_of(open_boot(folder), "trixie")


def test_where_it_cannot_be_told_somebody_has_to_say(boot_folder):
    folder = boot_folder("bookworm")
    (folder / "cmdline.txt").write_text("rootwait\n")
    (folder / "issue.txt").unlink()
    with pytest.raises(UsageError, match="--release bookworm or trixie"):
        system_of(open_boot(folder))
    assert system_of(open_boot(folder), "bookworm") == "bookworm"


def test_a_trixie_without_cloud_init_is_a_trixie_all_the_same(boot_folder):
    folder = boot_folder("trixie")
    assert has_cloud_init(open_boot(folder))
    for name in ("user-data", "meta-data", "network-config"):
        (folder / name).unlink()
    (folder / "issue.txt").write_text("Raspberry Pi reference 2025-10-01\n")
    assert system_of(open_boot(folder)) == system_of(open_boot(folder), "trixie") == "trixie"
    assert not has_cloud_init(open_boot(folder))


def test_a_bookworm_that_is_newer_than_trixie_is_a_bookworm(boot_folder):
    folder = boot_folder("bookworm")
    (folder / "issue.txt").write_text("Raspberry Pi reference 2026-04-13\n")
    assert system_of(open_boot(folder)) == "bookworm"


def sector(kind=0x0C, start=8192, length=100, second=0):
    entry = struct.pack("<B3xB3xII", 0, kind, start, length)
    other = struct.pack("<B3xB3xII", 0, second, start + length, 50 if second else 0)
    return bytes(446) + entry + other + bytes(32) + b"\x55\xaa"


def test_the_boot_partition_is_the_first():
    assert find_boot(sector(second=0x83), "x") == (8192 * 512, 8292 * 512, 8342 * 512)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (bytes(512), "no partition table"),
        (b"", "no partition table"),
        (b"<!doctype html>".ljust(512), "no partition table"),
        (sector(kind=0x83), "type 0x83"),
        (sector(kind=0xEE), "a GPT"),
        (sector(kind=0x17), "type 0x17"),
        (sector(start=0), "damaged partition table"),
        (sector(length=0), "damaged partition table"),
        (sector()[:462] + sector(kind=0x83, start=8250)[446:462] + sector()[478:], "damaged partition table"),
        (sector(length=2**31), "a boot partition of 1100 GB"),
    ],
)
def test_what_has_no_boot_partition_is_refused(head, why):
    with pytest.raises(BadDataError, match=why):
        find_boot(head, "x.img")


def test_an_image_that_is_cut_short_is_refused(raspberry_image):
    path = raspberry_image()
    with path.open("r+b") as file:
        file.truncate(10_000_000)
    with pytest.raises(BadDataError, match="is cut short: it has 10000000 bytes"):
        open_boot(path)


def test_a_partition_alone_is_opened_too(raspberry_image, tmp_path):
    whole = raspberry_image().read_bytes()
    alone = tmp_path / "boot.vfat"
    alone.write_bytes(whole[8192 * 512 : -4096 * 512])
    assert system_of(open_boot(alone)) == "trixie"
    alone.write_bytes(alone.read_bytes()[:-1])
    with pytest.raises(BadDataError, match="is cut short"):
        open_boot(alone)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(InputNotFoundError, match="nowhere"):
        open_boot(tmp_path / "nowhere")


def test_a_broken_file_system_is_told(raspberry_image):
    path = raspberry_image()
    with path.open("r+b") as file:
        file.seek(8192 * 512)
        file.write(bytes(1_000_000))
    with pytest.raises(OutputError, match="boot partition cannot be written or read"):
        FatBoot(path, 8192 * 512).names()


def test_a_device_that_is_mounted_is_known_by_its_partitions_too():
    mounts = "/dev/sda1 / ext4 rw 0 0\n/dev/sdb1 /media/ada/my\\040card vfat rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n"
    assert mounted_at(Path("/dev/sdb"), mounts) == mounted_at(Path("/dev/sdb1"), mounts) == ["/media/ada/my card"]
    assert mounted_at(Path("/dev/sdc"), mounts) == []
