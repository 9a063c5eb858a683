"""What the virtual Pi's scenarios are judged by: cards, records of writes, and a time server; no Pi is started here."""

import json
import random
import re
import shutil
import sqlite3
import struct
import subprocess

import pytest

from benchmarks.virtual_pi.card import look_at
from benchmarks.virtual_pi.scene import number_of, start_of
from benchmarks.virtual_pi.world import answer
from benchmarks.virtual_pi.writes import FLUSH, MAGIC, SECTOR, Card, read_record

PATH = "/usr/sbin:/sbin:/usr/bin:/bin"


def line(number: int) -> bytes:
    return json.dumps({"id": f"pi-1234-000003-{number:010d}"}).encode() + b"\n"


@pytest.fixture
def card(tmp_path):
    """Makes a card with these files below /var."""
    if shutil.which("mke2fs", path=PATH) is None or shutil.which("debugfs", path=PATH) is None:
        pytest.skip("e2fsprogs is not installed; try: sudo apt install e2fsprogs")

    def make(files):
        root = tmp_path / "root"
        for name in ("lib", "log"):
            (root / "var" / name / "mien").mkdir(parents=True)
        for name, content in files.items():
            (root / "var" / name).write_bytes(content)
        disk = tmp_path / "disk"
        command = ["mke2fs", "-q", "-t", "ext4", "-d", root, disk, "8M"]
        subprocess.run(command, check=True, env={"PATH": PATH})
        return disk

    return make


def outbox(path):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE event (number INTEGER PRIMARY KEY, stamp REAL, payload TEXT NOT NULL)")
    database.executemany("INSERT INTO event (payload) VALUES (?)", [("{}",)] * 500)
    database.commit()
    database.close()
    return path.read_bytes()


def test_a_card_tells_of_its_events_its_outbox_and_a_torn_line(card, tmp_path):
    files = {
        "log/mien/mien.jsonl": line(1) + line(2) + line(3)[:11],
        "log/mien/mien.jsonl.torn": b"{torn\n",
        "lib/mien/outbox-pi.sqlite": outbox(tmp_path / "made"),
        "lib/mien/starts": b"3\n",
    }
    found = look_at(card(files), tmp_path / "look")
    assert found.clean
    assert [(start_of(ident), number_of(ident)) for ident in found.ids] == [(3, 1), (3, 2)]
    assert (found.broken, found.torn) == (0, 11 + 6)
    assert (found.outbox, found.waiting, found.starts) == ("ok", 500, 3)


def test_a_new_card_holds_nothing_yet(card, tmp_path):
    found = look_at(card({}), tmp_path / "look")
    assert found.clean
    assert (found.ids, found.outbox, found.starts) == ([], "none", -1)


def test_an_outbox_that_was_only_begun_is_whole_and_empty(card, tmp_path):
    found = look_at(card({"lib/mien/outbox-pi.sqlite": b""}), tmp_path / "look")
    assert (found.outbox, found.waiting) == ("ok", 0)


def test_damage_is_found(card, tmp_path):
    damaged = bytearray(outbox(tmp_path / "made"))
    damaged[4096:6144] = b"\xff" * 2048
    files = {"log/mien/mien.jsonl": line(1) + b"\0\0\0\n" + line(2), "lib/mien/outbox-pi.sqlite": bytes(damaged)}
    disk = card(files)
    told = subprocess.run(["dumpe2fs", disk], check=True, env={"PATH": PATH}, capture_output=True, text=True).stdout
    bitmap = int(re.search(r"Block bitmap at (\d+)", told)[1]) * int(re.search(r"Block size: +(\d+)", told)[1])
    with disk.open("r+b") as file:
        file.seek(bitmap)
        file.write(bytes(64))
    found = look_at(disk, tmp_path / "look")
    assert not found.clean
    assert found.broken == 1
    assert found.outbox != "ok"


@pytest.fixture
def recorded(tmp_path):
    """A card of eight sectors, and a record: A to 0 and 1, flush, B to 0, C to 2 and 3, flush, D to 1."""
    entries = [
        (0, 2, 0, b"A"),
        (0, 0, FLUSH, b""),
        (0, 1, 0, b"B"),
        (2, 2, 0, b"C"),
        (0, 0, FLUSH, b""),
        (1, 1, 0, b"D"),
    ]
    parts = [struct.pack("<QQQI", MAGIC, 1, len(entries), SECTOR).ljust(SECTOR, b"\0")]
    for first, count, flags, letter in entries:
        parts += [struct.pack("<QQQQ", first, count, flags, 0).ljust(SECTOR, b"\0"), letter * (count * SECTOR)]
    (tmp_path / "record").write_bytes(b"".join(parts))
    (tmp_path / "disk").write_bytes(b"." * (8 * SECTOR))
    return Card(tmp_path / "disk", tmp_path / "record")


def letters(path):
    content = path.read_bytes()
    assert all(len(set(content[at : at + SECTOR])) == 1 for at in range(0, len(content), SECTOR))
    return content[::SECTOR].decode()


@pytest.mark.parametrize(
    ("moment", "kept", "pending"),
    [(1, "........", 1), (2, "AA......", 0), (4, "AA......", 2), (5, "BACC....", 0), (6, "BACC....", 1)],
)
def test_what_was_flushed_is_on_the_card_and_what_was_not_may_be_lost(recorded, moment, kept, pending):
    assert len(recorded.advance(moment)) == pending
    assert letters(recorded.disk) == kept


def test_writes_that_were_not_flushed_are_kept_lost_or_cut_at_a_sector(recorded, tmp_path):
    pending = recorded.advance(4)
    seen = set()
    for seed in range(60):
        copy = tmp_path / "copy"
        shutil.copyfile(recorded.disk, copy)
        recorded.apply(copy, pending, random.Random(seed))  # noqa: S311  # not for secrets
        seen.add(letters(copy))
    assert seen == {a + "A" + c + "...." for a in "AB" for c in ("..", "C.", "CC")}


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "other").write_bytes(bytes(4096))
    with pytest.raises(ValueError, match="no record of writes"):
        list(read_record(tmp_path / "other"))


def test_the_time_server_answers_with_its_time_and_the_askers_own_stamp():
    question = bytes([0x23, 0, 6, 0]) + bytes(36) + b"askerstm"
    told = answer(question, 1_700_000_000.5)
    assert len(told) == 48
    assert told[0] & 7 == 4  # a server
    assert told[1] == 2
    assert told[24:32] == b"askerstm"
    seconds, part = struct.unpack(">II", told[40:])
    assert (seconds - 2_208_988_800, part) == (1_700_000_000, 1 << 31)
