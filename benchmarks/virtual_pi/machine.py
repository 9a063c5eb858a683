"""The virtual Pi itself: QEMU with a card of its own, a way to run scripts in it, and a plug that can be pulled.

The card is attached with `cache=writeback`: the guest sees a disk with a volatile write cache. Killing QEMU loses all
that the guest still held in its memory, and keeps what it had handed to the disk.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.virtual_pi.base import make
from benchmarks.virtual_pi.image import Image
from edge.errors import MienError

HOST = "10.0.2.2"
"""This machine's loopback interface as QEMU's user network has it."""

BOOTED = 400.0
"""Seconds until the agent must answer after a start; an emulated processor shares this machine's with others."""

ANSWERED = 120.0

ARGUMENTS = "root=/dev/vda ro fsck.repair=yes net.ifnames=0 console=ttyAMA0 quiet systemd.show_status=0"


class GuestError(MienError, RuntimeError):
    """A script in the virtual Pi failed, or nobody answers there."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A further disk, such as a boot partition.

    Attributes:
        path: a raw image; it is written to.
        read_only: nobody may write to it.
    """

    path: Path
    read_only: bool = False


class VirtualPi:
    """A Pi with a card of its own, which outlasts a power cut.

    Attributes:
        disk: the card.
        drives: further disks, `/dev/vdb` and so on; they may be added while the power is off.
        words: further ones on the kernel's command line; the same goes for them.

    Args:
        image: what is copied onto the card.
        folder: where the card and what the console said lie.
    """

    def __init__(self, image: Image, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.image, self.folder = image, folder
        self.disk, self.console = folder / "card", folder / "console.log"
        self.drives: list[Drive] = []
        self.words = ["cloud-init=disabled"]
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: socket.socket | None = None
        self.started_at = 0.0
        """Monotonic seconds when the power was switched on last."""
        copy_card(image.disk, self.disk)

    def start(self, *, clock: str = "utc", record: Path | None = None) -> None:
        """Switch the power on; returns at once.

        Args:
            clock: what the machine's clock says: `utc` for this machine's time, or such as `2020-01-01T00:00:00`.
            record: a new file for all that is written to the card, see `benchmarks.virtual_pi.writes`.
        """
        path = self.folder / "agent.sock"
        path.unlink(missing_ok=True)
        disks = [Drive(self.disk), *self.drives]
        attached: list[str] = []
        for number, drive in enumerate(disks):
            access = "on" if drive.read_only else "off"
            how = f"if=none,id=disk{number},cache=writeback,readonly={access}"
            source = f"file={drive.path},format=raw"
            if record is not None and number == 0:
                record.touch()
                source = f"driver=blklogwrites,file.driver=file,file.filename={drive.path}"
                source += f",log.driver=file,log.filename={record}"
            attached += ["-drive", f"{source},{how}", "-device", f"virtio-blk-pci,drive=disk{number}"]
        command: list[str | Path] = [
            "qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", "2048", "-nodefaults",
            "-display", "none", "-kernel", self.image.kernel, "-initrd", self.image.initrd,
            "-append", " ".join([ARGUMENTS, *self.words]), *attached, "-netdev", "user,id=net", "-device",
            "virtio-net-pci,netdev=net,romfile=", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=agent,path={path},server=on,wait=off",
            "-device", "virtserialport,chardev=agent,name=virtual-pi",
            "-chardev", f"file,id=console,path={self.console},append=on", "-serial", "chardev:console",
            "-rtc", f"base={clock}",
        ]  # fmt: skip
        self.started_at = time.monotonic()
        with (self.folder / "qemu.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            self._agent = socket.socket(socket.AF_UNIX)
            try:
                self._agent.connect(str(path))
                return
            except OSError:
                self._agent.close()
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self.folder / "qemu.log").read_text(encoding="utf-8", errors="replace")
                    raise GuestError(f"QEMU does not start: {said[-1000:]}") from None
                time.sleep(0.05)

    def run(self, script: str, *, within: float = ANSWERED, fails: bool = False) -> str:
        """Run a shell script as root and return what it said.

        Args:
            script: for bash.
            within: seconds that it may take.
            fails: whether it may end with another code than 0.

        Raises:
            GuestError: it ended with another code than 0, or did not end in time.
        """
        if self._agent is None:
            raise GuestError("the virtual Pi is switched off")
        self._agent.settimeout(within)
        answer = b""
        try:
            self._agent.sendall(base64.b64encode(script.encode()) + b"\n")
            while not answer.endswith(b"\n"):
                part = self._agent.recv(65536)
                if not part:
                    raise GuestError(f"the virtual Pi went while it ran: {script}")
                answer += part
        except TimeoutError:
            raise GuestError(f"no answer within {within:g} s to: {script}\n{self._last_words()}") from None
        code, _, text = answer.decode().strip().partition(" ")
        said = base64.b64decode(text).decode(errors="replace")
        if code != "0" and not fails:
            raise GuestError(f"{script}\nended with {code}:\n{said[-4000:]}")
        return said

    def wait_booted(self) -> float:
        """Wait until scripts can be run; seconds since the power was switched on."""
        self.run("true", within=BOOTED)
        return time.monotonic() - self.started_at

    def running(self) -> bool:
        """Whether the power is on and nobody has shut the machine down."""
        return self._process is not None and self._process.poll() is None

    def cut_power(self) -> None:
        """Pull the plug: SIGKILL to QEMU."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
        self._leave()

    def shut_down(self, within: float = 120.0) -> None:
        """Have it shut itself down.

        Raises:
            GuestError: it does not.
        """
        self.run("systemctl --no-block poweroff")
        try:
            if self._process is not None:
                self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise GuestError(f"does not shut down within {within:g} s\n{self._last_words()}") from None
        self._leave()

    def _leave(self) -> None:
        self._process = None
        if self._agent is not None:
            self._agent.close()
            self._agent = None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return self.console.read_text(encoding="utf-8", errors="replace")[-2000:]
        return ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut_power()


def copy_card(source: Path, target: Path) -> None:
    """Copy a disk image; holes stay holes."""
    make(["cp", "--sparse=always", "--reflink=auto", source, target])
