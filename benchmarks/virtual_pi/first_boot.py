"""A boot partition that `mien-flash` has prepared: read back, and the first boot with it until events come."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.virtual_pi.base import make
from benchmarks.virtual_pi.image import GUEST, Image
from benchmarks.virtual_pi.machine import HOST, Drive
from benchmarks.virtual_pi.scene import NotSurvivedError, Result, Scene, scene

SIZE_MB = 256
"""Of the boot partition; Raspberry Pi OS has 512."""

BEFORE = {
    "config.txt": "arm_64bit=1\n",
    "cmdline.txt": "console=tty1 root=PARTUUID=4d8fd085-02 rootfstype=ext4 fsck.repair=yes rootwait\n",
    "kernel8.img": "not looked at by QEMU\n",
    "meta-data": "instance-id: rpios-image\n",
    "user-data": "#cloud-config\n",
    "network-config": "",
}
"""What of an image of Raspberry Pi OS Trixie tells which system it is."""

PASSWORD = "broker-secret-4711"  # noqa: S105  # for a broker that lives for minutes
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtQUDZWnIhGRiwXrg5Xb0uy3Mkq9l3Cs6J0cBxVhpkP ada@example\n"

REPORT = "/boot/firmware/mien-first-boot.txt"


def first_boot(image: Image, package: Path) -> Result:
    """Prepare a boot partition with `mien-flash` and boot with it, without a network to install from.

    By cable: cloud-init sets up Wi-Fi through netplan alone, which Raspberry Pi OS has and Debian has not.

    Args:
        image: one without Mien.
        package: Mien's, which goes onto the boot partition.
    """
    with scene(image) as world:
        boot = world.folder / "boot.img"
        _prepare(boot, package, world)
        prepared = boot.read_bytes()
        words = make(["mtype", "-i", boot, "::cmdline.txt"]).split()
        world.pi.drives.append(Drive(boot))
        world.pi.words[:] = [word for word in words if word.startswith("ds=")]
        first = world.first_event()
        took = first.at - world.pi.started_at
        world.until(f"cat {REPORT}", lambda said: "Mien is installed" in said)
        time.sleep(5)
        report = world.pi.run(f"cat {REPORT}; sync")
        found = world.pi.run(
            "hostname; id -nG ada; cat ~ada/.ssh/authorized_keys; readlink /etc/localtime; cat /etc/credstore/*;"
            " stat -c %a /etc/credstore/*; systemctl is-enabled mien.service; ls /boot/firmware;"
            # 2: something was not to its liking, which it tells.
            " cloud-init status --long || [ $? -eq 2 ]"
        )
        world.pi.shut_down()
        left = boot.read_bytes()
    if PASSWORD.encode() in left or PASSWORD.encode() not in prepared:
        raise NotSurvivedError("the broker's password was never on the boot partition, or still is")
    return Result(
        "the first boot of a card that mien-flash has prepared",
        {
            "power on to the first event, with the installation": f"{took:.1f} s",
            "what the first boot reports": report.strip().splitlines()[-1],
            "what cloud-init says of itself": found.partition("status: ")[2].split("\n")[0],
            "bytes of the broker's password left anywhere on the boot partition": "0",
        },
        {"first": took, "found": found, "report": report, "event": first.event},
    )


def _prepare(boot: Path, package: Path, world: Scene) -> None:
    """Make a boot partition as an image has it, and have `mien-flash` prepare it."""
    make(["mkfs.vfat", "-C", "-n", "bootfs", boot, str(SIZE_MB * 1024)])
    for name, content in BEFORE.items():
        (world.folder / name).write_text(content, encoding="ascii")
        make(["mcopy", "-i", boot, world.folder / name, f"::{name}"])
    for name, content in {"broker": PASSWORD, "key.pub": KEY}.items():
        (world.folder / f"{name}.secret").write_text(f"{content.strip()}\n", encoding="ascii")
    shutil.copyfile(GUEST / "mien.toml", world.folder / "mien.toml")
    options = {
        "boot": boot, "mien": package, "hostname": "kitchen", "user": "ada", "country": "DE",
        "timezone": "Europe/Berlin", "ssh-key": world.folder / "key.pub.secret", "config": world.folder / "mien.toml",
        "mqtt": f"mqtt://{HOST}:{world.broker.open_port}", "mqtt-username": "kitchen",
        "mqtt-password-file": world.folder / "broker.secret",
    }  # fmt: skip
    flash = [sys.executable, "-c", "import sys; from edge.cli_flash import main; sys.exit(main())"]
    done = subprocess.run(
        [*flash, *(f"--{name}={value}" for name, value in options.items())], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise NotSurvivedError(f"mien-flash ended with {done.returncode}:\n{done.stderr}")
