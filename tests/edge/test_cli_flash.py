"""`mien-flash` from its command line: images, folders, fleets and cards."""

import gzip
import json
import os
import signal
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge import cli_flash
from edge.cli_flash import EPILOG, SETTINGS, main, make_parser
from edge.flash_boot import open_boot
from edge.flash_card import Machine, open_card
from edge.flash_settings import OPTIONS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def flash(mien_deb, capsys):
    """Run it with a package to install; the exit code and what was printed."""

    def run(*arguments, mien=True):
        code = main([*map(str, arguments), *(["--mien", str(mien_deb)] if mien else [])])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def card(tmp_path, monkeypatch):
    """A reader with a card in it, a plain file here."""
    place = tmp_path / "sys/devices/usb1/sdz"
    (place / "device").mkdir(parents=True)
    for name, text in {"size": "131072", "removable": "1", "ro": "0", "device/model": "Reader"}.items():
        (place / name).write_text(text)
    (tmp_path / "sys/block").mkdir()
    (tmp_path / "sys/block/sdz").symlink_to(place)
    (tmp_path / "dev").mkdir()
    device = tmp_path / "dev/sdz"
    with device.open("wb") as file:
        file.truncate(131072 * 512)
    monkeypatch.setattr(
        "edge.flash_card.Machine", lambda: Machine(tmp_path / "dev", tmp_path / "sys", tmp_path / "proc")
    )
    return device


def test_help_teaches_by_example(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "mien-flash --list" in said
    assert "exit codes" in said
    assert all(f"--{name} " in said or f"--{name}\n" in said for name in OPTIONS)


def test_every_setting_is_an_option_and_a_column():
    assert set(SETTINGS) == set(OPTIONS)


def test_the_examples_are_understood():
    examples = EPILOG[EPILOG.index("examples:") : EPILOG.index("exit codes")].replace("\\\n", " ")
    commands = [line.strip() for line in examples.splitlines() if line.strip().startswith("mien-flash")]
    assert len(commands) >= 4
    for command in commands:
        make_parser().parse_args(command.split()[1:])


def test_its_help_needs_nothing_but_the_standard_library():
    code = "import sys; from edge.cli_flash import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert not loaded & {"numpy", "cv2", "yaml", "paho", "tomllib"}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "name an IMAGE"),
        (["a.img"], "where shall it be written to"),
        (["a.img", "--card", "/dev/sdz", "--out", "b"], "where shall it be written to"),
        (["a.img", "--boot", "b"], "name an IMAGE"),
        (["--boot", "b", "--card", "/dev/sdz"], "--card needs an IMAGE"),
        (["--boot", "nowhere", "--out", "b"], "no folder"),
        (["--boot", ".", "--fleet", "c.csv"], "say --out FOLDER"),
        (["--boot", ".", "--sha256", "0" * 64], "none is named"),
        (["--boot", "."], "--hostname is missing"),
        (["--boot", ".", "--hostname", "k", "--set", "rotate"], "expected KEY=VALUE"),
        (["--boot", ".", "--hostname", "k", "--set", "source.rotate=45"], "--set source.rotate"),
        (["a.img", "--out", "b", "--sha256", "xyz"], "64 hexadecimal digits"),
        (["a.img", "--card", "/dev/sdz", "--fleet", "c.csv"], "nobody can be asked"),
    ],
)
def test_what_makes_no_sense_is_refused(flash, arguments, why):
    code, out, err = flash(*arguments)
    assert code in {64, 78}
    assert why in err
    assert out == ""


def test_something_has_to_be_installed(flash):
    assert "--mien is missing" in flash("--boot", ".", "--hostname", "k", mien=False)[2]


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_an_image_is_copied_and_prepared(flash, raspberry_image, tmp_path, release):
    image = raspberry_image(release)
    before = image.read_bytes()
    code, out, err = flash(image, "--out", tmp_path / "new.img", "--hostname", "kitchen", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"hostname": "kitchen", "release": release, "written": str(tmp_path / "new.img")}
    boot = open_boot(tmp_path / "new.img")
    assert boot.read("mien/mien_0.1.0_arm64.deb")
    assert boot.read("mien/first-boot.sh")
    after = (tmp_path / "new.img").read_bytes()
    assert len(after) == len(before)
    assert after[-4096 * 512 :] == before[-4096 * 512 :]
    assert image.read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_an_image_that_breaks_off_leaves_no_half_copy(flash, raspberry_image, tmp_path):
    image = raspberry_image()
    with image.open("r+b") as file:
        file.truncate(41_000_000)
    code, _, err = flash(image, "--out", tmp_path / "new.img", "--hostname", "kitchen")
    assert code == 65
    assert "cut short" in err
    assert not list(tmp_path.glob("new.img*"))


def test_a_trixie_without_cloud_init_begins_as_bookworm_does_and_gets_what_is_for_trixie(flash, boot_folder, packages):
    folder = boot_folder("trixie")
    for name in ("user-data", "meta-data", "network-config"):
        (folder / name).unlink()
    (folder / "issue.txt").write_text("Raspberry Pi reference 2026-10-06\n")
    code, out, err = flash("--boot", folder, "--hostname", "kitchen", "--packages", packages, "--json")
    assert (code, json.loads(out)["release"]) == (0, "trixie"), err
    assert "systemd.run=/boot/firmware/firstrun.sh" in (folder / "cmdline.txt").read_text()
    assert (folder / "mien/settings/hostname").read_text() == "kitchen\n"
    assert not (folder / "user-data").exists()


def test_a_copy_takes_the_place_of_nothing_but_an_earlier_copy(flash, raspberry_image, boot_folder, tmp_path):
    source, image, mine = boot_folder("trixie"), raspberry_image("trixie"), tmp_path / "home"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    before = image.read_bytes()
    other = tmp_path / "other.img"
    other.write_bytes(before)
    for arguments, code, why in (
        (["--boot", source, "--out", mine], 73, "something else in it than an earlier copy"),
        (["--boot", source, "--out", source], 64, "is what is copied"),
        (["--boot", source, "--out", source / "a/b"], 64, "is what is copied, or in it"),
        (["--boot", source, "--out", mine / "thesis.txt"], 73, "is there already, and no earlier copy"),
        ([image, "--out", image], 64, "is what is copied"),
        ([image, "--out", mine / "thesis.txt"], 73, "is there already, and no earlier copy; name another file"),
        ([image, "--out", other], 73, "is there already, and no earlier copy; name another file"),
        ([image, "--out", "/dev/null"], 64, "is no file; a card is written with --card"),
    ):
        got, _, err = flash(*arguments, "--hostname", "kitchen")
        assert (got, why in err) == (code, True), err
    assert (mine / "thesis.txt").read_text() == "years of work"
    assert (image.read_bytes(), other.read_bytes(), source.is_dir()) == (before, before, True)
    (tmp_path / ".copy.mien-flash").mkdir()  # of a run that was killed
    (tmp_path / "copy.part").mkdir()  # somebody else's
    (tmp_path / "copy.img.part").touch()
    for _ in range(2):
        assert flash("--boot", source, "--out", tmp_path / "copy", "--hostname", "kitchen")[0] == 0
        assert flash(image, "--out", tmp_path / "copy.img", "--hostname", "kitchen")[0] == 0
    assert {path.name for path in tmp_path.glob("*copy*")} == {"copy", "copy.img", "copy.part", "copy.img.part"}


def test_a_place_in_a_file_is_told(flash, raspberry_image, boot_folder, tmp_path):
    (tmp_path / "file").touch()
    for arguments in (["--boot", boot_folder("trixie")], [raspberry_image("trixie")]):
        code, _, err = flash(*arguments, "--out", tmp_path / "file/out", "--hostname", "kitchen")
        assert (code, "file/out cannot be written: " in err) == (73, True), err


def test_what_cannot_be_copied_is_named(flash, boot_folder, tmp_path):
    source = boot_folder("trixie")
    (source / "gone").symlink_to("nowhere")
    code, _, err = flash("--boot", source, "--out", tmp_path / "copy", "--hostname", "kitchen")
    assert (code, f"copy cannot be written: {source / 'gone'}: " in err) == (73, True), err
    assert not list(tmp_path.glob("*copy*"))


def test_what_has_secrets_in_it_is_for_its_owner_alone(flash, raspberry_image, boot_folder, tmp_path):
    assert flash(raspberry_image("trixie"), "--out", tmp_path / "x.img", "--hostname", "a")[0] == 0
    assert flash("--boot", boot_folder("trixie"), "--out", tmp_path / "x", "--hostname", "a")[0] == 0
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("x.img", "x")] == [0o600, 0o700]


def test_a_mounted_partition_is_prepared_where_it_is(flash, boot_folder):
    folder = boot_folder()
    code, out, _ = flash("--boot", folder, "--hostname", "kitchen")
    assert code == 0
    assert f"kitchen: {folder} is prepared for trixie" in out
    assert json.loads((folder / "user-data").read_text().partition("\n")[2])["hostname"] == "kitchen"


def test_a_dry_run_shows_everything_but_secrets_and_writes_nothing(flash, boot_folder, tmp_path, public_key):
    folder = boot_folder()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "password").write_text("hunter2hunter2\n")
    files = [f"--{kind}-password-file={tmp_path}/password" for kind in ("wifi", "mqtt", "user")]
    more = ["--user=ada", "--wifi=Home", "--country=DE", "--mqtt=mqtt://broker", f"--ssh-key={public_key}"]
    code, out, err = flash("--boot", folder, "--hostname=kitchen", *files, *more, "--dry-run")
    assert (code, err) == (0, "")
    assert "would be written" in out
    assert "mqtt://broker" in out
    assert "***" in out
    assert "hunter2" not in out
    assert "$6$" not in out
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    assert flash("--boot", folder, "--hostname=kitchen", *files, *more, "--dry-run", "--json")[0] == 0


def test_a_fleet_becomes_a_folder_or_an_image_for_each_card(flash, raspberry_image, boot_folder, tmp_path):
    (tmp_path / "cards.csv").write_text("hostname,source\nkitchen,picamera2\nhall,v4l2:/dev/video0\n")
    out = tmp_path / "prepared"
    assert flash("--boot", boot_folder(), "--fleet", tmp_path / "cards.csv", "--out", out)[0] == 0
    assert {path.name for path in out.iterdir()} == {"kitchen", "hall"}
    assert "v4l2:/dev/video0" in (out / "hall/mien/mien.toml").read_text()
    assert flash(raspberry_image(), "--fleet", tmp_path / "cards.csv", "--out", out)[0] == 0
    assert "v4l2:/dev/video0" in open_boot(out / "hall.img").read("mien/mien.toml").decode()
    assert "picamera2" in open_boot(out / "kitchen.img").read("mien/mien.toml").decode()


def test_a_wrong_row_stops_a_fleet_before_anything_is_written(flash, boot_folder, tmp_path):
    (tmp_path / "cards.csv").write_text("hostname\nkitchen\n-hall\n")
    code, _, err = flash("--boot", boot_folder(), "--fleet", tmp_path / "cards.csv", "--out", tmp_path / "out")
    assert code == 65
    assert "row 3, column hostname" in err
    assert not (tmp_path / "out").exists()


def test_a_card_is_written_and_read_back(flash, raspberry_image, card):
    image = raspberry_image()
    code, out, err = flash(image, "--card", card, "--hostname", "kitchen", "--yes")
    assert (code, "read back and found to be right" in out) == (0, True), err
    boot = open_boot(card)
    assert b"kitchen" in boot.read("user-data")
    assert card.read_bytes()[41 * 2**20 : 42 * 2**20] == image.read_bytes()[41 * 2**20 : 42 * 2**20]


def test_a_card_is_held_until_it_has_been_read_back_so_that_no_desktop_mounts_it(
    flash, raspberry_image, card, monkeypatch
):
    happened = []

    @contextmanager
    def held(path, *, exclusive):
        happened.append(f"held {exclusive}")
        with open_card(path, exclusive=exclusive) as device:
            yield device
        happened.append("let go")

    monkeypatch.setattr("edge.flash.open_card", held)
    monkeypatch.setattr("edge.flash.verify_card", lambda *_: happened.append("read back"))
    assert flash(raspberry_image(), "--card", card, "--hostname", "kitchen", "--yes")[0] == 0
    assert happened == ["held True", "read back", "let go"]


def test_nothing_is_written_to_a_card_before_all_is_known_to_be_right(flash, raspberry_image, card, tmp_path):
    before = card.read_bytes()
    bad = raspberry_image("bookworm", files={"config.txt": "", "cmdline.txt": "", "kernel7.img": ""})
    assert "32-bit" in flash(bad, "--card", card, "--hostname", "kitchen", "--yes")[2]
    image = raspberry_image()
    assert "say --yes" in flash(image, "--card", card, "--hostname", "kitchen")[2]
    assert (
        "not what --sha256 says"
        in flash(image, "--card", card, "--hostname=k", "--yes", "--sha256", "SHA256:" + "0" * 64)[2]
    )
    assert flash(image, "--card", card, "--hostname=k", "--dry-run")[0] == 0
    short = tmp_path / "short.img.gz"
    short.write_bytes(gzip.compress(image.read_bytes(), 1)[:-100])
    code, _, err = flash(short, "--card", card, "--hostname=k", "--yes")
    assert (code, "damaged or cut short" in err) == (65, True), err
    (tmp_path / "sys/block/sdz/size").write_text("1000")
    assert "too small" in flash(image, "--card", card, "--hostname=k", "--yes")[2]
    assert card.read_bytes() == before


def test_a_fleets_cards_are_asked_for_one_after_the_other(flash, raspberry_image, card, tmp_path, monkeypatch):
    (tmp_path / "cards.csv").write_text("hostname\nkitchen\nhall\n")
    monkeypatch.setattr(cli_flash.sys.stdin, "isatty", lambda: True, raising=False)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "y")
    code, out, _ = flash(raspberry_image(), "--card", card, "--fleet", tmp_path / "cards.csv")
    assert code == 0
    assert [prompt.split()[0] for prompt in asked] == ["Put", "Write", "Put", "Write"]
    assert "hall (2 of 2)" in asked[2]
    assert out.count("read back") == 2
    assert b"hall" in open_boot(card).read("user-data")


def test_who_closes_the_terminal_in_place_of_an_answer_has_answered_no(flash, raspberry_image, card, monkeypatch):
    before = card.read_bytes()
    monkeypatch.setattr(cli_flash.sys.stdin, "isatty", lambda: True, raising=False)

    def gone(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("builtins.input", gone)
    code, _, err = flash(raspberry_image(), "--card", card, "--hostname", "kitchen")
    assert (code, "no answer was given" in err, card.read_bytes() == before) == (64, True, True)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_is_killed_leaves_no_copy_with_secrets(raspberry_image, mien_deb, tmp_path, wait_until, end):
    work = tmp_path / "work"
    work.mkdir()
    command = "import sys; from edge import flash; from edge.cli_flash import main; from time import sleep; "
    command += "flash.check_room = lambda *_: sleep(60); sys.exit(main())"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            command,
            raspberry_image(),
            "--out",
            tmp_path / "x",
            "--hostname=a",
            "--mien",
            mien_deb,
            "--dry-run",
        ],
        env=os.environ | {"TMPDIR": str(work), "PYTHONPATH": str(ROOT)},
    )
    wait_until(lambda: list(work.glob("mien-flash-*/head.img")))
    process.send_signal(end)
    assert process.wait(20) == 130
    assert list(work.iterdir()) == []


def test_cards_are_listed(flash, card, capsys):
    assert "sdz  0.1 GB  Reader" in flash("--list", mien=False)[1]
    assert json.loads(flash("--list", "--json", mien=False)[1])["removable"] is True


def test_what_is_no_package_of_miens_is_refused(boot_folder, tmp_path, capsys):
    folder = boot_folder()
    for name, content, why in (
        ("mien_0.1.0_amd64.deb", b"!<arch>\n", "another processor"),
        ("mien_0.1.0_arm64.deb", b"<html>", "no package of Mien"),
        ("other_1_arm64.deb", b"!<arch>\n", "no package of Mien"),
    ):
        (tmp_path / name).write_bytes(content)
        assert main(["--boot", str(folder), "--hostname=k", "--mien", str(tmp_path / name)]) == 65
        assert why in capsys.readouterr().err
    assert main(["--boot", str(folder), "--hostname=k", "--mien", str(tmp_path / "nowhere")]) == 66
    assert main(["--boot", str(folder), "--hostname=k", "--mien", str(folder)]) == 65
    assert "make wheelhouse" in capsys.readouterr().err


@pytest.fixture
def packages(tmp_path):
    """What `make packages` fills, with one package."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "release").write_text("trixie\n")
    (folder / "opencv-data_4_all.deb").write_bytes(b"abc")
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    (folder / "Packages").write_text(
        f"Package: opencv-data\nDescription: x\n more\nFilename: ./opencv-data_4_all.deb\nSHA256: {digest}\n\n"
    )
    return folder


def test_debians_packages_come_along(flash, boot_folder, packages):
    folder = boot_folder()
    assert flash("--boot", folder, "--hostname=k", "--packages", packages)[0] == 0
    assert (folder / "mien/packages/opencv-data_4_all.deb").read_bytes() == b"abc"
    assert (folder / "mien/packages/Packages").exists()


def test_a_lite_image_and_no_network_is_told_to_lack_picamera2(flash, boot_folder, packages):
    folder = boot_folder("trixie")
    arguments = ("--boot", folder, "--hostname", "kitchen", "--packages", packages)
    assert "picamera2" not in flash(*arguments)[2]
    (folder / "issue.txt").write_text("Raspberry Pi reference 2026-04-13\nGenerated using pi-gen, x, stage2\n")
    assert "take the image with the desktop" in flash(*arguments)[2]
    assert "picamera2" not in flash(*arguments, "--source", "v4l2:/dev/video0")[2]
    assert "picamera2" in json.loads(flash(*arguments, "--json")[1])["note"]


def test_packages_that_do_not_fit_are_refused(flash, boot_folder, packages):
    folder = boot_folder()
    other = boot_folder("bookworm", "other")
    assert "is for trixie, and this card is for bookworm" in flash(
        "--boot", other, "--hostname=k", "--packages", packages
    )[2]  # fmt: skip
    (packages / "opencv-data_4_all.deb").write_bytes(b"abd")
    assert "is not what Packages says" in flash("--boot", folder, "--hostname=k", "--packages", packages)[2]
    (packages / "opencv-data_4_all.deb").unlink()
    assert "cannot be read" in flash("--boot", folder, "--hostname=k", "--packages", packages)[2]
    (packages / "Packages").write_text("Package: x\nFilename: ../../etc/passwd\nSHA256: 0\n")
    assert "names no file for x" in flash("--boot", folder, "--hostname=k", "--packages", packages)[2]
    assert "make packages" in flash("--boot", folder, "--hostname=k", "--packages", folder)[2]
    assert not (folder / "mien").exists()


def test_a_wheelhouse_comes_along_without_what_is_for_others(boot_folder, tmp_path):
    house = tmp_path / "house"
    wheels = ["mien-0.1.0-py3-none-any.whl", "a-1-cp313-cp313-x_aarch64.whl", "a-1-cp313-cp313-x_x86_64.whl"]
    wheels += ["a-1-cp311-cp311-x_aarch64.whl", "mien.txt"]
    for name in (*(f"wheels/{wheel}" for wheel in wheels), "systemd/install.sh", "systemd/constraints-trixie.txt"):
        (house / name).parent.mkdir(parents=True, exist_ok=True)
        (house / name).write_text(name)
    folder = boot_folder()
    assert main(["--boot", str(folder), "--hostname=k", "--mien", str(house)]) == 0
    assert {path.name for path in (folder / "mien/wheelhouse/wheels").iterdir()} == {wheels[0], wheels[1], wheels[4]}


def test_a_wheel_holds_the_templates_and_flashes(tmp_path, boot_folder, mien_deb):
    pytest.importorskip("setuptools", reason="setuptools is not installed (pip install setuptools)")
    source = tmp_path / "source"
    ignored = ["--exclude=__pycache__", "--exclude=*.tflite", "--exclude=samples"]
    source.mkdir()
    parts = ["edge", "trainer", "export", "systemd", "setup.py", "pyproject.toml", "README.md"]
    piped = subprocess.run(["tar", "c", *ignored, *parts], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x"], cwd=source, input=piped, check=True)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("mien-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
        scripts = archive.read(next(name for name in archive.namelist() if name.endswith("entry_points.txt"))).decode()
    assert "mien-flash = edge.cli_flash:main" in scripts
    folder = boot_folder()
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'installed')!r}); from edge.cli_flash import main; "
    code += "import edge; assert 'installed' in edge.__file__; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-P", "-c", code, "--boot", folder, "--hostname", "kitchen", "--mien", mien_deb]
    subprocess.run(command, check=True, cwd="/", capture_output=True)
    assert (folder / "mien/first-boot.sh").read_bytes() == (ROOT / "systemd/flash/first-boot.sh").read_bytes()
