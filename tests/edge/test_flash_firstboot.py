"""What is written to a boot partition: no value breaks out of it, and the first boot may be cut off anywhere.

The script of the first boot is run here in a folder, with programs in the place of the system's that note their
arguments. tests/system runs it in whole systems.
"""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.flash_firstboot import RELEASES, boot_files, cloud_init, edit_cmdline, masked, network_manager, templates
from edge.flash_settings import Card, Wifi

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed (pip install 'mien[dev]')")

CONFIG = '[source]\nspec = "picamera2"\n'
KEY = "0123456789abcdef" * 4
HASH = "$6$salt$" + "h" * 86
HOSTILE = [
    "'", '"', "$(touch pwned)", "`touch pwned`", "; touch pwned", "-rf", "--", "\\", "\\n", "${IFS}", "%s%n", "*", "~",
    "&& touch pwned", "| touch pwned", "# comment", "key: value", "- item", "{a: b}", "[1]", "&anchor", "*alias",
    "!!python/object", "%YAML", "---", "...", "null", "yes", "0x1f", "1:30", "<<", "?", "@", "65;66;", "ünï", "日本",
    "👨‍👩‍👧", "\u2028", "\u2029", "\ufeff", "\u200b", "\u00a0", " lead", "trail ", "EOF", "\u0085"[:0] + "é",
]  # fmt: skip

NAMES = st.one_of(
    st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=10)
).filter(lambda text: 1 <= len(text.encode()) <= 32)
COMMENTS = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))


@st.composite
def cards(draw):
    """Any card that passes `make_card`'s checks."""
    wifi = Wifi(draw(NAMES), draw(st.sampled_from([KEY, ""])), draw(st.booleans()))
    return Card(
        hostname=draw(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?", fullmatch=True)),
        config=CONFIG,
        user=draw(st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)),
        password=draw(st.sampled_from([HASH, ""])),
        ssh_keys=(f"ssh-ed25519 AAAA {draw(COMMENTS)}",),
        wifi=wifi,
        country="DE",
        timezone="Europe/Berlin",
        secrets=(("mien.mqtt-password", draw(COMMENTS.filter(bool))),),
    )


@given(cards())
def test_a_yaml_parser_reads_what_was_meant(card):
    documents = cloud_init(card, "abc")
    read = {name: yaml.safe_load(text) for name, text in documents.items()}
    user_data = read["user-data"]
    assert documents["user-data"].startswith("#cloud-config\n")
    assert user_data["hostname"] == card.hostname
    [user] = user_data["users"]
    assert (user["name"], user.get("passwd", "")) == (card.user, card.password)
    assert user["lock_passwd"] == (not card.password)
    assert user["ssh_authorized_keys"] == list(card.ssh_keys)
    assert len(user_data["bootcmd"]) == 1
    [name] = read["network-config"]["network"]["wifis"]["wlan0"]["access-points"]
    assert name == card.wifi.name
    assert read["meta-data"]["instance-id"] == "mien-abc"
    after = documents["mien/after/user-data"] + documents["mien/after/network-config"]
    assert not any(part in after for part in (KEY, HASH, "wifis", "bootcmd", "AAAA"))


@given(cards())
def test_network_managers_file_has_the_name_byte_for_byte(card):
    read = configparser.RawConfigParser(strict=True)
    read.read_string(network_manager(card))
    assert bytes(map(int, read["wifi"]["ssid"].rstrip(";").split(";"))) == card.wifi.name.encode()
    assert read.get("wifi-security", "psk", fallback="") == card.wifi.key
    assert sum(map(len, map(read.options, read.sections()))) <= 9


@given(cards(), st.sampled_from(RELEASES))
def test_no_value_is_ever_in_a_script(card, release):
    files = boot_files(card, release, "abc")
    for name, content in files.items():
        if name.endswith((".sh", ".service")):
            assert content == (templates() / "flash" / name.rpartition("/")[2]).read_bytes()
    shown = "".join(masked(name, content, card) for name, content in files.items())
    assert KEY not in shown
    assert HASH not in shown
    assert masked("mien/secrets/mien.mqtt-password", files["mien/secrets/mien.mqtt-password"], card) == "***\n"


@given(cards(), st.sampled_from(RELEASES))
def test_the_command_line_is_one_line_and_edited_twice_is_edited_once(card, release):
    before = "console=tty1 root=PARTUUID=x rootwait ds=nocloud;i=rpi-imager-1 cfg80211.ieee80211_regdom=GB\n"
    once = edit_cmdline(before, card, release, "one")
    other = edit_cmdline(edit_cmdline(before, card, "bookworm", "zero"), card, release, "one")
    assert once == other
    assert once.startswith("console=tty1 root=PARTUUID=x rootwait ")
    assert once.count("\n") == 1
    assert edit_cmdline(f"{before}# init=/bin/sh\r\nsplash", card, release, "one") == once
    assert edit_cmdline(before.rstrip(), card, release, "one") == once
    assert ("systemd.run=" in once) == (release == "bookworm")


def test_cloud_inits_own_schema_finds_nothing_wrong(tmp_path):
    if shutil.which("cloud-init") is None:
        pytest.skip("cloud-init is not installed (apt-get install cloud-init)")
    card = Card(
        "kitchen", CONFIG, "ada", HASH, (f"ssh-ed25519 AAAA {''.join(HOSTILE)}",), Wifi('"$(x)'), "DE", "Europe/Berlin"
    )
    for name in ("user-data", "mien/after/user-data"):
        path = tmp_path / "user-data"
        path.write_text(cloud_init(card, "abc")[name])
        done = subprocess.run(["cloud-init", "schema", "--config-file", path], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
    path.write_text('#cloud-config\n{"users": 5}\n')
    assert subprocess.run(
        ["cloud-init", "schema", "--config-file", path], capture_output=True
    ).returncode  # it can fail


SCRIPTS = sorted((templates() / "flash").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_read_by_a_shell_and_judged_by_shellcheck(script):
    subprocess.run(["sh", "-n", script], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True)
    assert done.stdout == ""


def test_systemd_finds_nothing_wrong_with_the_service():
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (apt-get install systemd)")
    unit = templates() / "flash/mien-first-boot.service"
    command = ["systemd-analyze", "--no-pager", "verify", "--man=no", "--recursive-errors=no", unit]
    found = subprocess.run(command, capture_output=True, text=True)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


# The first boot, in a folder

NOTE = """#!/bin/sh
printf "%s" "${0##*/}" >>"$NOTES"
for argument in "$@"; do printf " <%s>" "$argument" >>"$NOTES"; done
echo >>"$NOTES"
"""
PROGRAMS = {
    "getent": 'case $1 in passwd) echo "$2:x:1000:1000::/home/$2:/bin/bash" ;; esac',
    "chpasswd": 'cat >>"$NOTES"',
    "id": "exit 1",
    "apt-get": 'case "$*" in *install*.deb) touch "$MIEN_FIRST_BOOT_ROOT/installed" ;; esac; [ ! -e "$NOTES.no-apt" ]',
    # A power cut: at the given call everything ends at once.
    "sync": 'echo x >>"$NOTES.syncs"; [ "$(wc -l <"$NOTES.syncs")" != "${CUT:-0}" ] || kill -9 0',
    # The dialog for the first user holds up what cloud-init does last, until it is stopped.
    "systemctl": 'case "$* $(cat "$NOTES.dialog" 2>/dev/null)" in '
    '"is-active cloud-config.service asking") echo active ;; "is-active userconfig.service asking") echo activating ;; '
    '"stop userconfig.service asking") touch "$MIEN_FIRST_BOOT_ROOT/var/lib/cloud/instance/boot-finished" ;; esac',
    "dpkg-query": 'grep -qs "install> <$4>" "$NOTES" && [ ! -e "$NOTES.lite" ] && printf installed',
    "sleep": "", "dpkg": "", "useradd": "", "usermod": "", "chown": "", "raspi-config": "", "cloud-init": "",
}  # fmt: skip


class Pi:
    """A root file system with nothing in it but what the first boot needs."""

    def __init__(self, folder, release):
        self.root = folder / "root"
        self.boot = self.root / "boot/firmware"
        self.notes = folder / "notes"
        self.release = release
        self._programs = folder / "programs"
        self._programs.mkdir()
        for name, does in PROGRAMS.items():
            (self._programs / name).write_text(f"{NOTE}{does}\n")
            (self._programs / name).chmod(0o755)
        for place in ("boot/firmware", "etc/ssh", "proc/sys/kernel/random", "var/lib/cloud/instances/mien-abc", "run"):
            (self.root / place).mkdir(parents=True)
        (self.root / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n")
        (self.root / "etc/hostname").write_text("raspberrypi\n")
        (self.root / "var/lib/cloud/instance").symlink_to("instances/mien-abc")
        (self.boot / "cmdline.txt").write_text("console=tty1 root=PARTUUID=4d8fd085-02 rootwait\n")

    def put(self, card, identity="abc"):
        files = boot_files(card, self.release, identity) | {"mien/mien_0.1.0_arm64.deb": b"deb"}
        for name, content in files.items():
            (self.boot / name).parent.mkdir(parents=True, exist_ok=True)
            (self.boot / name).write_bytes(content)
        cmdline = self.boot / "cmdline.txt"
        cmdline.write_text(edit_cmdline(cmdline.read_text(), card, self.release, identity))

    def power_on(self, number=1):
        (self.root / "proc/sys/kernel/random/boot_id").write_text(f"boot-{number}\n")
        (self.root / "var/lib/cloud/instance/boot-finished").unlink(missing_ok=True)

    def cloud_init_ends(self):
        """cloud-init keeps what it has read on the boot partition."""
        if self.release == "bookworm":
            return
        place = self.root / "var/lib/cloud/instances/mien-abc"
        read = "".join((self.boot / name).read_text() for name in ("user-data", "network-config"))
        for name in ("user-data.txt", "user-data.txt.i", "cloud-config.txt", "obj.pkl", "network-config.json"):
            (place / name).write_text(read)
        (self.root / "var/log").mkdir(exist_ok=True)
        (self.root / "var/log/cloud-init.log").write_text(f"applying {read}")
        (place / "boot-finished").touch()

    def run(self, command, cut=0, wait=0):
        script = (self.root / "var/lib/mien-first-boot" if command == "run" else self.boot / "mien") / "first-boot.sh"
        Path(f"{self.notes}.syncs").write_text("")
        return subprocess.run(
            ["sh", script, command], capture_output=True, text=True, start_new_session=True, timeout=60,
            env={"PATH": f"{self._programs}:{os.environ['PATH']}", "NOTES": str(self.notes), "CUT": str(cut),
                 "MIEN_FIRST_BOOT_ROOT": str(self.root), "MIEN_FIRST_BOOT_WAIT": str(wait)},
        )  # fmt: skip

    def first_boot(self, cut=0):
        """As far as it goes; whether it came to its end."""
        first = "firstrun" if self.release == "bookworm" else "bootcmd"
        began = "systemd.run=" in (self.boot / "cmdline.txt").read_text() or self.release == "trixie"
        if began and (self.boot / "mien/first-boot.sh").exists():
            done = self.run(first, cut)
            if done.returncode:
                return False
            cut -= len(Path(f"{self.notes}.syncs").read_text().split())
            if cut == 0:
                return False
        if not (self.root / "etc/systemd/system/mien-first-boot.service").exists():
            return True
        self.cloud_init_ends()
        return self.run("run", max(cut, 0)).returncode == 0

    def everything(self):
        """All files with their contents, but what differs from run to run."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
            and not path.is_symlink()
            and path.name not in {"mien-first-boot.txt", "boot_id", "boot-finished"}
        }


@pytest.fixture
def pi(tmp_path):
    def make(release, name="pi"):
        (tmp_path / name).mkdir()
        return Pi(tmp_path / name, release)

    return make


CARD = Card(
    "kitchen", CONFIG, "ada", HASH, ("ssh-ed25519 AAAA $(reboot) `x` '\"",), Wifi("My $(home)", KEY), "DE",
    "Europe/Berlin", (("mien.mqtt-password", "s3cret$(x)"), ("mien.source-password", "-n")), b"-----BEGIN CERTIFICATE",
)  # fmt: skip


@pytest.mark.parametrize("release", RELEASES)
def test_after_the_first_boot_mien_is_there_and_every_secret_is_where_it_belongs(pi, release):
    pi = pi(release)
    pi.put(CARD)
    pi.power_on()
    assert pi.first_boot()
    etc = pi.root / "etc"
    assert (pi.root / "installed").exists()
    assert (etc / "mien/mien.toml").read_text() == CONFIG
    assert (etc / "credstore/mien.mqtt-password").read_text() == "s3cret$(x)\n"
    assert (etc / "credstore/mien.source-password").read_text() == "-n\n"
    assert (etc / "credstore/mien.mqtt-password").stat().st_mode & 0o777 == 0o600
    assert (etc / "mien/broker-ca.pem").exists()
    assert not (etc / "systemd/system/mien-first-boot.service").exists()
    assert not (pi.boot / "mien").exists()
    assert "enable> <--quiet> <mien.service" in pi.notes.read_text()
    left = {path.name: path.read_text() for path in pi.boot.iterdir()}
    assert "Mien is installed" in left["mien-first-boot.txt"]
    for content in left.values():
        assert not any(secret in content for secret in (KEY, HASH, "s3cret", "AAAA"))
    for path in (pi.root / "var").rglob("*"):
        assert path.is_dir() or not any(secret in path.read_text() for secret in (KEY, HASH))
    if release == "bookworm":
        assert (etc / "hostname").read_text() == "kitchen\n"
        assert (etc / "hosts").read_text() == "127.0.0.1\tlocalhost\n127.0.1.1\tkitchen\n"
        assert (etc / "timezone").read_text() == "Europe/Berlin\n"
        assert str((etc / "localtime").readlink()) == "/usr/share/zoneinfo/Europe/Berlin"
        assert (pi.root / "home/ada/.ssh/authorized_keys").read_text() == f"{CARD.ssh_keys[0]}\n"
        wifi = etc / "NetworkManager/system-connections/mien.nmconnection"
        assert KEY in wifi.read_text()
        assert wifi.stat().st_mode & 0o777 == 0o600
        assert f"ada:{HASH}" in pi.notes.read_text()
        assert left["cmdline.txt"].split()[-1] == "cfg80211.ieee80211_regdom=DE"
    else:
        assert yaml.safe_load(left["user-data"]) == {"hostname": "kitchen", "manage_etc_hosts": True}
        assert "wifis" not in left["network-config"]


@pytest.mark.parametrize("release", RELEASES)
def test_a_power_cut_between_any_two_steps_is_made_up_for(pi, release):
    whole = pi(release, "whole")
    whole.put(CARD)
    whole.power_on()
    assert whole.first_boot()
    expected = whole.everything()
    cuts = 0
    # What the service does is the same for both, and is cut off in Trixie's.
    for cut in range(1, 100 if release == "trixie" else 13):
        part = pi(release, f"cut-{cut}")
        part.put(CARD)
        part.power_on()
        if part.first_boot(cut):
            break
        cuts += 1
        for number in range(2, 5):
            part.power_on(number)
            if part.first_boot():
                break
        else:
            pytest.fail(f"cut off at step {cut} it does not come to its end")
        left = part.everything()
        # The second boot's are those of the documents without secrets.
        assert {name: left[name] for name in left if "cloud" not in name} == {
            name: expected[name] for name in expected if "cloud" not in name
        }, cut
        assert not any(
            secret.encode() in content for content in left.values() for secret in (KEY, HASH) if release == "trixie"
        )
    assert cuts >= 9


@given(card=cards())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=5)
def test_no_value_is_taken_for_a_command(pi, card, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pi")
    pi = Pi(folder, "bookworm")
    pi.put(card)
    pi.power_on()
    assert pi.first_boot()
    assert (pi.root / "etc/hostname").read_text() == f"{card.hostname}\n"
    assert (pi.root / f"home/{card.user}/.ssh/authorized_keys").read_text() == f"{card.ssh_keys[0]}\n"
    assert (pi.root / "etc/credstore/mien.mqtt-password").read_text() == f"{dict(card.secrets)['mien.mqtt-password']}\n"
    assert not list(folder.rglob("pwned"))
    assert not Path("pwned").exists()


def test_a_key_alone_shuts_the_door_on_passwords_also_after_a_power_cut(pi):
    for name, password, shut in (("key", "", True), ("both", HASH, False)):
        made = pi("bookworm", name)
        made.put(Card("kitchen", CONFIG, "ada", password, CARD.ssh_keys))
        made.power_on()
        assert made.run("user").returncode == 0
        assert made.run("user").returncode == 0
        assert (made.root / "etc/ssh/sshd_config.d/10-mien.conf").exists() == shut


def test_what_cannot_be_set_holds_up_nothing_else(pi):
    pi = pi("bookworm")
    pi.put(CARD)
    pi.power_on()
    (pi.root / "etc/timezone.new").mkdir()
    assert pi.first_boot()
    assert "the timezone could not be set" in (pi.boot / "mien-first-boot.txt").read_text()
    assert (pi.root / "installed").exists()


def test_without_packages_it_is_tried_again_and_the_secrets_are_gone_already(pi):
    pi = pi("trixie")
    pi.put(CARD)
    pi.power_on()
    blocked = Path(f"{pi.notes}.no-apt")
    blocked.touch()
    assert not pi.first_boot()
    assert "needs a network" in (pi.boot / "mien-first-boot.txt").read_text()
    assert not list((pi.boot / "mien/secrets").iterdir())
    assert KEY not in (pi.boot / "network-config").read_text()
    blocked.unlink()
    pi.power_on(2)
    assert pi.first_boot()
    assert (pi.root / "installed").exists()


def test_picamera2_is_fetched_where_the_image_or_the_card_has_it_not(pi):
    for name, packages, lacking in (("network", False, False), ("card", True, False), ("alone", True, True)):
        made = pi("trixie", name)
        made.put(CARD)
        if packages:
            (made.boot / "mien/packages").mkdir()
            (made.boot / "mien/packages/Packages").touch()
        if lacking:
            Path(f"{made.notes}.lite").touch()
        made.power_on()
        assert made.first_boot()
        asked = [line for line in made.notes.read_text().splitlines() if "install> <python3-picamera2>" in line]
        assert ["mien.list" in line for line in asked] == ([packages] + [False] * lacking)
        assert ("there is no python3-picamera2" in (made.boot / "mien-first-boot.txt").read_text()) == lacking
        assert (made.root / "installed").exists()


def test_the_dialog_for_the_first_user_which_nobody_answers_is_ended(pi):
    pi = pi("trixie")
    pi.put(Card("kitchen", CONFIG))
    (pi.root / "run/systemd/system").mkdir(parents=True)
    pi.power_on()
    assert pi.run("bootcmd").returncode == 0
    Path(f"{pi.notes}.dialog").write_text("asking")
    assert pi.run("run", wait=4).returncode == 0
    assert "systemctl <disable> <--quiet> <userconfig.service>" in pi.notes.read_text()
    assert "goes on without" in (pi.boot / "mien-first-boot.txt").read_text()


def test_secrets_stay_until_cloud_init_has_read_them(pi):
    pi = pi("trixie")
    pi.put(CARD)
    pi.power_on()
    assert pi.run("bootcmd").returncode == 0
    assert pi.run("run").returncode == 1
    assert KEY in (pi.boot / "network-config").read_text()
    assert "cloud-init has not come to an end" in (pi.boot / "mien-first-boot.txt").read_text()


def test_a_cloud_init_that_was_cut_off_begins_anew_and_not_for_ever(pi):
    pi = pi("trixie")
    pi.put(CARD)
    (pi.root / "etc/netplan").mkdir()
    (pi.root / "etc/netplan/50-cloud-init.yaml").write_text("wlan0")
    cleaned = []
    for number in range(1, 9):
        pi.power_on(number)
        pi.notes.write_text("")
        assert pi.run("bootcmd").returncode == 0
        cleaned.append("cloud-init <clean>\nsystemctl <reboot>" in pi.notes.read_text())
    # Each time anew after one that was cut off, three times at most.
    assert cleaned == [False, True, False, True, False, True, False, False]


def test_a_network_that_cloud_init_did_not_come_to_arrange_is_noticed(pi):
    pi = pi("trixie")
    pi.put(CARD)
    pi.power_on()
    assert pi.run("bootcmd").returncode == 0
    assert "cloud-init <clean>" in pi.notes.read_text()


def test_a_card_prepared_again_is_a_first_boot_again(pi):
    pi = pi("trixie")
    for number, name in enumerate(("kitchen", "hall"), 1):
        pi.put(Card(name, CONFIG.replace("picamera2", name)), identity=f"id{number}")
        pi.power_on(number)
        assert pi.first_boot()
        assert name in (pi.root / "etc/mien/mien.toml").read_text()
        assert name in (pi.boot / "user-data").read_text()
