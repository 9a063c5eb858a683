"""Room, wear and folders, of machines that are scripted below a folder."""

import pytest

from edge.doctor_disk import Room, check_disk, check_folders, check_wear, journal_storage, judge_disk
from edge.doctor_service import Runner

CARD = {
    "proc/mounts": "proc /proc proc rw 0 0\n/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n",
    "sys/block/mmcblk0/device/type": "SD\n",
}
SWAPS = "Filename\tType\tSize\tUsed\tPriority\n"
LOG = {"log.path": "/var/log/mien/mien.jsonl"}
UNIT = {"StateDirectory": "mien", "LogsDirectory": "mien", "ProtectSystem": "strict", "ReadWritePaths": ""}


@pytest.mark.parametrize(
    ("room", "status", "said"),
    [
        (Room(10**9, 1000, read_only=False), "ok", "1,000 MB are free"),
        (Room(2 * 10**8, 1000, read_only=False), "warning", "may write 260 MB more"),
        (Room(10**7, 1000, read_only=False), "fault", "only 10 MB are free"),
        (Room(10**9, 0, read_only=False), "fault", "no further file fits"),
        (Room(10**9, 1000, read_only=True), "fault", "read-only"),
    ],
)
def test_a_disk_is_judged_by_what_mien_may_still_write(room, status, said):
    finding = judge_disk("log", room, 260_000_000)
    assert (finding.status, said in finding.found) == (status, True)


def test_the_disk_of_folders_that_are_not_there_yet_is_that_of_those_above(make_subject):
    finding = check_disk(make_subject(keys=LOG, unit=UNIT))
    assert "var/lib/mien: " in finding.found


@pytest.mark.parametrize(
    ("mounts", "forgets"),
    [
        ("/dev/mmcblk0p2 / ext4 rw 0 0", False),
        ("overlayroot / overlay rw,lowerdir=/media/root-ro,upperdir=/media/root-rw/overlay 0 0", True),
        ("overlayroot / overlay rw 0 0\n/dev/mmcblk0p3 /var/lib ext4 rw 0 0", False),
        ("/dev/mmcblk0p2 / ext4 rw 0 0\ntmpfs /var/lib/mien tmpfs rw 0 0", True),
        ("/dev/mmcblk0p2 / ext4 rw 0 0\ntmpfs /var/lib/mie tmpfs rw 0 0\ntmpfs /var/log tmpfs rw 0 0", False),
        ("", False),
    ],
)
def test_state_that_the_next_boot_finds_nothing_of_is_told(make_subject, mounts, forgets):
    finding = check_disk(make_subject({"proc/mounts": mounts + "\n"}, unit=UNIT))
    assert ("event ids begin anew, a pause is over" in finding.found) == forgets
    assert finding.status == "warning" or not forgets


def test_more_than_fits_is_told_with_the_keys_that_limit_it(make_subject):
    finding = check_disk(make_subject(keys=LOG | {"log.max_bytes": 10**12}, unit=UNIT))
    assert finding.status in {"warning", "fault"}
    assert "log.max_bytes" in finding.advice or "make room" in finding.advice


def test_a_system_that_is_not_on_a_card_wears_none(make_subject):
    mounts = {"proc/mounts": "/dev/nvme0n1p2 / ext4 rw 0 0\n", "proc/swaps": f"{SWAPS}/var/swap file 1 0 -2\n"}
    assert check_wear(make_subject(mounts)).status == "ok"
    emmc = CARD | {"sys/block/mmcblk0/device/type": "MMC\n", "proc/swaps": f"{SWAPS}/var/swap file 1 0 -2\n"}
    assert check_wear(make_subject(emmc)).status == "ok"


def test_what_may_be_written_to_the_card_is_told(make_subject):
    finding = check_wear(make_subject(CARD, LOG | {"mqtt.url": "mqtt://broker"}))
    assert finding.status == "ok"
    assert "the log stays below 60 MB and the outbox stays below 200 MB" in finding.found


@pytest.mark.parametrize(
    ("swap", "status", "said"),
    [
        ("/dev/zram0 partition 524284 0 100", "ok", ""),
        ("/var/swap file 102396 0 -2", "warning", "swapoff /var/swap"),
        ("/dev/mmcblk0p3\tpartition\t1\t0\t-2", "warning", "swapoff /dev/mmcblk0p3"),
    ],
)
def test_swap_on_the_card_is_told_and_zram_is_none(make_subject, swap, status, said):
    finding = check_wear(make_subject(CARD | {"proc/swaps": f"{SWAPS}{swap}\n"}))
    assert (finding.status, said in finding.advice) == (status, True)


def test_raspberry_pi_oss_own_swap_is_ended_by_its_own_service(make_subject):
    files = CARD | {"proc/swaps": f"{SWAPS}/var/swap file 1 0 -2\n", "sbin/dphys-swapfile": ""}
    assert "disable --now dphys-swapfile" in check_wear(make_subject(files)).advice


@pytest.mark.parametrize(
    ("files", "storage"),
    [
        ({}, "auto"),
        ({"etc/systemd/journald.conf": "[Journal]\n#Storage=volatile\n"}, "auto"),
        ({"etc/systemd/journald.conf": "[Journal]\nStorage=persistent\n"}, "persistent"),
        ({"usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf": "[Journal]\nStorage=volatile\n"}, "volatile"),
        (
            {
                "usr/lib/systemd/journald.conf.d/40-rpi.conf": "[Journal]\nStorage=volatile\n",
                "etc/systemd/journald.conf.d/50-mine.conf": "[Journal]\nStorage=persistent\n",
            },
            "persistent",
        ),
        (
            {
                "usr/lib/systemd/journald.conf.d/40-rpi.conf": "[Journal]\nStorage=volatile\n",
                "etc/systemd/journald.conf.d/40-rpi.conf": "[Journal]\n",
            },
            "auto",
        ),
        ({"etc/systemd/journald.conf": "no file of settings"}, "auto"),
    ],
)
def test_where_the_journal_goes_is_read_as_systemd_reads_it(machine, files, storage):
    assert journal_storage(machine(files)) == storage


def test_a_journal_on_the_card_is_told(make_subject):
    files = CARD | {"var/log/journal/0123/system.journal": ""}
    assert "Storage=volatile" in check_wear(make_subject(files)).advice
    volatile = {"usr/lib/systemd/journald.conf.d/40.conf": "[Journal]\nStorage=volatile\n"}
    assert check_wear(make_subject(files | volatile)).status == "ok"


STRANGER = Runner("mien", 64001, frozenset({64001}), ourselves=False)


@pytest.fixture
def _open_parents(tmp_path):
    """pytest's folders are for their owner alone."""
    folders = [folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_mode & 0o011 != 0o011]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder, mode in modes.items():
        folder.chmod(mode | 0o011)
    yield
    for folder, mode in modes.items():
        folder.chmod(mode)


@pytest.mark.usefixtures("_open_parents")
def test_folders_are_judged_as_the_user_that_runs_mien(make_subject):
    subject = make_subject({"var/log/mien/mien.jsonl": "", "var/lib/mien/starts": "1"}, LOG, UNIT, runner=STRANGER)
    finding = check_folders(subject)
    assert finding.status == "fault"
    assert "mien may not write there" in finding.found
    assert "chown -R mien" in finding.advice
    for name in ("lib", "log"):
        (subject.root / "var" / name / "mien").chmod(0o777)
    assert "log in" in check_folders(subject).found
    (subject.root / "var/log/mien/mien.jsonl").chmod(0o666)
    assert check_folders(subject).status == "ok"


def test_folders_that_systemd_makes_need_not_be_there(make_subject):
    assert check_folders(make_subject(keys=LOG, unit=UNIT, runner=STRANGER)).status == "ok"


def test_a_log_where_the_hardened_service_may_not_write_is_a_fault(make_subject):
    keys = {"log.path": "/home/pi/mien.jsonl"}
    finding = check_folders(make_subject(keys=keys, unit=UNIT))
    assert finding.status == "fault"
    assert "/var/lib/mien, /var/log/mien alone" in finding.found
    assert "ReadWritePaths" in finding.advice
    assert check_folders(make_subject(keys=keys, unit=UNIT | {"ReadWritePaths": "-/home/pi"})).status == "ok"


def test_without_a_service_the_state_is_our_own(make_subject):
    finding = check_folders(make_subject(environ={"XDG_STATE_HOME": "/home/pi/.state"}))
    assert finding.status == "ok"
    assert "home/pi/.state/mien (not made yet)" in finding.found
