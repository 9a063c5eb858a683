"""The first boot of a flashed card in whole Debian systems, without a network: from the boot partition to faces.

systemd and cloud-init do not run in them: their calls of the script are made here, in their order.
"""

import json
import shutil

import pytest

from edge.flash_boot import FolderBoot, prepare
from edge.flash_firstboot import boot_files, templates
from edge.flash_settings import make_card

CMDLINE = "console=tty1 root=PARTUUID=4d8fd085-02 rootfstype=ext4 rootwait\n"
# What is missing in these systems, as `make packages` would put it on the card.
FETCH = r"""
mkdir -p /boot/firmware /mnt/packages && cd /mnt/packages
apt-get -qq update && apt-get -qq download opencv-data
for deb in *.deb; do
    case $deb in *%3a*) mv "$deb" "${deb//%3a/_}"; deb=${deb//%3a/_} ;; esac
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\nSize: %s\nSHA256: ' "$deb" "$(stat -c %s "$deb")"
    sha256sum "$deb" | cut -d ' ' -f 1
    echo
done >Packages
rm -rf /var/lib/apt/lists/*
"""
EARLY = {"bookworm": "firstrun", "trixie": "bootcmd"}
RUN = "MIEN_FIRST_BOOT_WAIT=0 sh /var/lib/mien-first-boot/first-boot.sh run"
WORKS = r"""
mien --version
mien classify /mnt/checkout/edge/samples/astronaut.png --format json >/tmp/classified.jsonl
systemctl is-enabled mien.service
stat -c '%a %U' /etc/credstore/mien.mqtt-password
cat /etc/mien/mien.toml
"""


@pytest.fixture
def card(tmp_path):
    (tmp_path / "password").write_text("s3cret'$(touch /pwned)\n")
    (tmp_path / "wifi").write_text("correct horse\n")
    options = {
        "hostname": "kitchen", "wifi": "My '$(touch /pwned)\" home", "country": "DE", "timezone": "Europe/Berlin",
        "mqtt": "mqtt://broker.local", "mqtt-password-file": "password", "wifi-password-file": "wifi",
        "source": "v4l2:/dev/video0",
    }  # fmt: skip
    return make_card(options, folder=tmp_path, default_config=templates() / "mien.toml", where=lambda name: f"--{name}")


@pytest.fixture
def flashed(system, card):
    """A system with a prepared boot partition that has opencv-data on it."""
    return flash(system, card)


def flash(system, card, kit=None):
    system.run(FETCH)
    fetched = system.changed / "mnt/packages"
    boot = system.changed / "boot/firmware"
    (boot / "cmdline.txt").write_text(CMDLINE)
    [deb] = system.kits["kit"].glob(f"mien_*_{system.architecture}.deb")
    files = {f"mien/packages/{path.name}": path for path in fetched.iterdir()}
    files |= kit if kit is not None else {f"mien/{deb.name}": deb}
    prepare(
        FolderBoot(boot), card, system.release, "abc", boot_files(card, system.release, "abc"), files
    )  # fmt: skip
    shutil.rmtree(fetched)
    return system


def early(system):
    """What systemd or cloud-init does before the service starts."""
    if system.release == "trixie":
        (system.changed / "etc/netplan").mkdir(parents=True, exist_ok=True)
        (system.changed / "etc/netplan/50-cloud-init.yaml").write_text("wlan0\n")
    system.run(f"sh /boot/firmware/mien/first-boot.sh {EARLY[system.release]}", network=False)
    if system.release == "trixie":
        system.run("mkdir -p /var/lib/cloud/instance && touch /var/lib/cloud/instance/boot-finished")


def assert_it_works(system):
    said = system.run(WORKS, network=False).stdout
    assert "\nenabled\n" in said
    assert "\n600 root\n" in said
    assert 'spec = "v4l2:/dev/video0"' in said
    [picture] = [json.loads(line) for line in (system.changed / "tmp/classified.jsonl").read_text().splitlines()]
    assert [face["expression"] for face in picture["faces"]] == ["happy"]
    boot = system.changed / "boot/firmware"
    assert "Mien is installed" in (boot / "mien-first-boot.txt").read_text()
    assert not (boot / "mien").exists()
    left = "".join(path.read_text() for path in boot.iterdir() if path.name != "mien-first-boot.txt")
    assert "s3cret" not in left
    assert "password" not in left
    system.run("test ! -e /pwned && test ! -e /etc/systemd/system/mien-first-boot.service", network=False)


def test_a_flashed_card_comes_up_with_mien_and_without_a_network(flashed):
    early(flashed)
    flashed.run(RUN, network=False)
    assert_it_works(flashed)
    if flashed.release == "bookworm":
        said = flashed.run("cat /etc/hostname /etc/timezone; cat /etc/NetworkManager/system-connections/*").stdout
        assert said.startswith("kitchen\nEurope/Berlin\n")
        assert "psk=" in said
        assert (flashed.changed / "boot/firmware/cmdline.txt").read_text().split() == [
            *CMDLINE.split(), "cfg80211.ieee80211_regdom=DE",
        ]  # fmt: skip


def test_the_plug_may_be_pulled_while_it_installs(flashed):
    early(flashed)
    # The first process's end is the end of all.
    seconds = ("1", "3", "6") if flashed.architecture == "amd64" else ("5", "40", "90")
    for wait in seconds:
        flashed.run('(eval "$1" >/dev/null 2>&1 &) ; sleep "$2"', RUN, wait, network=False)
    if (flashed.changed / "var/lib/mien-first-boot/first-boot.sh").exists():
        flashed.run(RUN, network=False)
    assert_it_works(flashed)


@pytest.mark.parametrize("kind", ["bookworm-amd64", "trixie-amd64"])
def test_the_wheelhouse_may_be_on_the_card_instead(system, card):
    house = system.kits["kit"]
    kit = {
        f"mien/wheelhouse/{path.relative_to(house)}": path
        for path in house.rglob("*")
        if path.is_file() and path.suffix != ".deb"
    }
    flash(system, card, kit)
    early(system)
    system.run(RUN, network=False)
    assert_it_works(system)


@pytest.mark.parametrize("kind", ["bookworm-amd64", "trixie-amd64"])
def test_without_packages_and_without_a_network_it_says_what_is_missing(system, card):
    flash(system, card)
    shutil.rmtree(system.changed / "boot/firmware/mien/packages")
    early(system)
    system.run(RUN, network=False, fails=True)
    assert "apt cannot" in (system.changed / "boot/firmware/mien-first-boot.txt").read_text()
    system.run(RUN)
    assert_it_works(system)


@pytest.mark.parametrize("kind", ["bookworm-amd64"])
def test_a_user_with_a_key_may_log_in(system, tmp_path):
    """On Trixie cloud-init makes the user."""
    (tmp_path / "key").write_text(
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEM4bX5Zc4Ylxy5MrL1VLUTEcjhcHVfVfMtdJgOAOFRW ada $(touch /pwned)\n"
    )
    made = make_card(
        {"hostname": "kitchen", "user": "ada", "ssh-key": "key"},
        folder=tmp_path, default_config=templates() / "mien.toml", where=str,
    )  # fmt: skip
    flash(system, made)
    early(system)
    said = system.run(
        "id ada; stat -c '%a %U' /home/ada/.ssh/authorized_keys; cat /home/ada/.ssh/authorized_keys"
    ).stdout
    assert "600 ada\n" in said
    assert "ada $(touch /pwned)\n" in said
    system.run("test ! -e /pwned; grep -q no /etc/ssh/sshd_config.d/10-mien.conf")
