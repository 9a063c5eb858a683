"""What can be said of the installer without a system to install in; these run with all other tests."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "systemd/install.sh"
SCRIPTS = [SCRIPT, *sorted((ROOT / "systemd/deb").glob("*.sh"))]
DEBIANS = {"numpy", "opencv-python-headless"}
"""What apt brings."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck not found; try: sudo apt install shellcheck")
    done = subprocess.run(["shellcheck", script], check=False, capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("release", ["bookworm", "trixie"])
def test_each_package_is_pinned_with_hashes_and_none_stands_before_debians(release):
    lines = (ROOT / f"systemd/constraints-{release}.txt").read_text(encoding="ascii").splitlines()
    pinned = {}
    for line in lines:
        if not line.startswith("#"):
            name, version, hashes = re.fullmatch(
                r"([a-z-]+)==([0-9.]+)((?: --hash=sha256:[0-9a-f]{64})+)", line
            ).groups()
            pinned[name] = version, hashes.count("--hash")
    wanted = re.findall(
        r'^        "([a-z-]+)[<>=]', (ROOT / "setup.py").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert set(wanted) - set(pinned) == DEBIANS
    assert not DEBIANS & set(pinned)
    # arm64 and x86-64.
    assert pinned["ai-edge-litert"][1] == 2


def test_a_checkout_and_the_wheelhouse_make_the_wheel_of_the_same_files():
    here = re.search(r'cp -r "\$KIT/"\{(.+?)\} ', SCRIPT.read_text(encoding="utf-8"))[1].split(",")
    house = (ROOT / "systemd/deb/wheelhouse.sh").read_text(encoding="utf-8")
    assert here == re.search(r'^cp -r (.+?) "\$part/build', house, flags=re.MULTILINE)[1].split()


@pytest.mark.parametrize(
    ("architecture", "why"), [("armhf", "this system is 32-bit (armhf)"), ("mips64el", "this processor (mips64el)")]
)
def test_a_system_without_an_interpreter_is_refused_before_anything_is_done(tmp_path, architecture, why):
    dpkg = tmp_path / "dpkg"
    dpkg.write_text(f"#!/bin/sh\necho {architecture}\n", encoding="ascii")
    dpkg.chmod(0o755)
    done = _run(tmp_path)
    assert done.returncode == 69
    assert why in done.stderr
    assert "Nothing was changed" in done.stderr


def test_what_is_no_debian_is_refused(tmp_path):
    dpkg = tmp_path / "dpkg"
    dpkg.write_text("#!/bin/sh\nexit 127\n", encoding="ascii")
    dpkg.chmod(0o755)
    assert "this is no Debian" in _run(tmp_path).stderr


def test_sh_will_do_and_help_names_every_command(tmp_path):
    done = subprocess.run(["sh", SCRIPT, "--help"], check=True, capture_output=True, text=True)
    assert all(word in done.stdout for word in ("install", "uninstall", "purge", "--wheels", "--interpreter", "--wait"))


def test_a_word_it_does_not_know_is_wrong_usage(tmp_path):
    done = _run(tmp_path, "instal")
    assert done.returncode == 64
    assert "what is instal?" in done.stderr


def _run(first, *arguments):
    """With the programs in the folder `first` before all others. One of them, or an argument, must stop it."""
    path = f"{first}:/usr/sbin:/usr/bin:/sbin:/bin"
    return subprocess.run([SCRIPT, *arguments], check=False, capture_output=True, text=True, env={"PATH": path})
