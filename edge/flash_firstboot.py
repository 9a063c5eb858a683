"""A card's settings -> the files of its boot partition: cloud-init's documents, or what Bookworm runs in their place.

No script is ever rendered: `systemd/flash/first-boot.sh` is the same on every card, and each setting lies in a file of
its own. cloud-init's documents are written as JSON, which is YAML, so that no value can break out of its quotes.
"""

from __future__ import annotations

import json
from pathlib import Path

from edge.flash_settings import Card

BOOKWORM, TRIXIE = "bookworm", "trixie"
RELEASES = (BOOKWORM, TRIXIE)

KIT = "mien"
"""The folder on the boot partition that is Mien's, removed when the first boot is done."""

REPORT = "mien-first-boot.txt"
"""What the first boot says, to be read in a card reader."""

TRIGGERS = ("user-data", "meta-data", "firstrun.sh", "cmdline.txt")
"""Written last: without them a card boots as if nothing had been prepared."""

GROUPS = "users,adm,dialout,audio,netdev,video,plugdev,cdrom,games,input,gpio,spi,i2c,render,sudo"
"""Those that Raspberry Pi Imager gives the first user."""

OURS = (
    "systemd.run=", "systemd.run_success_action=", "systemd.run_failure_action=",
    "systemd.unit=kernel-command-line.target", "ds=nocloud",
)  # fmt: skip


def templates() -> Path:
    """The folder `systemd`: inside this package in an installed wheel, beside it in a checkout."""
    inside = Path(__file__).parent / "systemd"
    return inside if inside.is_dir() else Path(__file__).parents[1] / "systemd"


def boot_files(card: Card, way: str, identity: str) -> dict[str, bytes]:
    """Every file that makes a boot partition this card's, but cmdline.txt and what is to be installed.

    Args:
        card: the settings.
        way: one of `RELEASES`, whose way of a first boot it is: cloud-init, or a program named in cmdline.txt.
        identity: of this preparation, letters and digits: cloud-init begins anew when it is another one.

    Returns:
        Contents by their names on the boot partition.
    """
    scripts = templates() / "flash"
    files = {f"{KIT}/{name}": (scripts / name).read_bytes() for name in ("first-boot.sh", "mien-first-boot.service")}
    files[f"{KIT}/mien.toml"] = card.config.encode()
    files[f"{KIT}/settings/id"] = _line(identity)
    files |= {f"{KIT}/secrets/{name}": _line(content) for name, content in card.secrets}
    if card.ca:
        files[f"{KIT}/broker-ca.pem"] = card.ca
    if card.user:
        # Raspberry Pi OS starts its SSH server where this file is.
        files["ssh"] = b""
    if way == TRIXIE:
        files |= {name: content.encode() for name, content in cloud_init(card, identity).items()}
    else:
        files |= {f"{KIT}/settings/{name}": content for name, content in _settings(card).items()}
        files["firstrun.sh"] = (scripts / "firstrun.sh").read_bytes()
    return files


def cloud_init(card: Card, identity: str) -> dict[str, str]:
    """cloud-init's documents by their names, and what shall stand in their place when they have been read.

    See https://cloudinit.readthedocs.io (NoCloud, users and groups, network configuration version 2).
    """
    base: dict[str, object] = {"hostname": card.hostname, "manage_etc_hosts": True}
    user_data = dict(base)
    if card.timezone:
        user_data["timezone"] = card.timezone
    if card.user:
        user: dict[str, object] = {"name": card.user, "groups": GROUPS, "shell": "/bin/bash", "lock_passwd": True}
        if card.password:
            user |= {"lock_passwd": False, "passwd": card.password}
        if card.ssh_keys:
            user["ssh_authorized_keys"] = list(card.ssh_keys)
        user_data["users"] = [user | {"sudo": "ALL=(ALL) NOPASSWD:ALL"}]
    user_data["ssh_pwauth"] = bool(card.password)
    script = f"/boot/firmware/{KIT}/first-boot.sh"
    user_data["bootcmd"] = [["sh", "-c", f"[ ! -f {script} ] || sh {script} bootcmd"]]
    cable: dict[str, object] = {"version": 2, "ethernets": {"eth0": {"dhcp4": True, "optional": True}}}
    network = dict(cable)
    if card.wifi:
        access: dict[str, object] = {"password": card.wifi.key} if card.wifi.key else {}
        if card.wifi.hidden:
            access["hidden"] = True
        radio = {"dhcp4": True, "optional": True, "regulatory-domain": card.country}
        network["wifis"] = {"wlan0": radio | {"access-points": {card.wifi.name: access}}}
    return {
        "user-data": f"#cloud-config\n{to_yaml(user_data)}",
        "meta-data": to_yaml({"dsmode": "local", "instance-id": f"mien-{identity}"}),
        "network-config": to_yaml({"network": network}),
        f"{KIT}/after/user-data": f"#cloud-config\n{to_yaml(base)}",
        f"{KIT}/after/network-config": to_yaml({"network": cable}),
    }


def to_yaml(value: object) -> str:
    """A value as JSON that YAML 1.1 reads as the same: what is not printable is escaped as YAML has it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(sign if sign.isprintable() or sign == "\n" else _escaped(sign) for sign in text) + "\n"


def _escaped(sign: str) -> str:
    number = ord(sign)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def network_manager(card: Card) -> str:
    """The Wi-Fi network as a key file, see nm-settings-keyfile(5). The name is told as numbers, which quote nothing."""
    if card.wifi is None:
        raise ValueError("this card has no Wi-Fi")
    name = "".join(f"{byte};" for byte in card.wifi.name.encode())
    lines = ["[connection]", "id=mien", "type=wifi", "", "[wifi]", "mode=infrastructure", f"ssid={name}"]
    lines += ["hidden=true"] if card.wifi.hidden else []
    lines += ["", "[wifi-security]", "key-mgmt=wpa-psk", f"psk={card.wifi.key}"] if card.wifi.key else []
    return "\n".join([*lines, "", "[ipv4]", "method=auto", "", "[ipv6]", "method=auto", ""])


def plain_cmdline(text: str) -> str:
    """The kernel's command line without what an earlier preparation, or Raspberry Pi Imager, put there.

    Further lines are left out: the firmware reads the first one only, and they may be somebody's notes.
    """
    line = next(iter(text.strip().splitlines()), "")
    return " ".join(word for word in line.split() if not word.startswith(OURS)) + "\n"


def edit_cmdline(text: str, card: Card, way: str, identity: str) -> str:
    """The kernel's command line for the first boot; nothing is doubled in it.

    Raspberry Pi Imager puts the same words there: an instance's id in cmdline.txt is stronger than that in meta-data.
    """
    country = "cfg80211.ieee80211_regdom="
    words = [word for word in plain_cmdline(text).split() if not (card.country and word.startswith(country))]
    words += [f"{country}{card.country}"] if card.country else []
    if way == TRIXIE:
        words.append(f"ds=nocloud;i=mien-{identity}")
    else:
        words += [
            "systemd.run=/boot/firmware/firstrun.sh",
            "systemd.run_success_action=reboot",
            "systemd.unit=kernel-command-line.target",
        ]
    return " ".join(words) + "\n"


def masked(name: str, content: bytes, card: Card) -> str:
    """A file's content for a person to look at: every secret in it is ***."""
    text = content.decode("utf-8", "replace")
    if "/secrets/" in name:
        return "***\n"
    for secret in (card.password, card.wifi.key if card.wifi else ""):
        if secret:
            text = text.replace(secret, "***")
    return text


def _settings(card: Card) -> dict[str, bytes]:
    """One file for each setting, as `first-boot.sh` reads them."""
    settings = {"hostname": _line(card.hostname)}
    if card.user:
        settings["user"] = _line(card.user)
        if card.ssh_keys:
            settings["authorized_keys"] = _line("\n".join(card.ssh_keys))
        if card.password:
            settings["password"] = _line(card.password)
        else:
            settings["key_only"] = b""
    if card.country:
        settings["country"] = _line(card.country)
    if card.timezone:
        settings["timezone"] = _line(card.timezone)
    if card.wifi:
        settings["wifi.nmconnection"] = network_manager(card).encode()
    return settings


def _line(text: str) -> bytes:
    return f"{text}\n".encode()
