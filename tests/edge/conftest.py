import base64
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from jsonschema import Draft202012Validator

import edge
import edge.progress
import edge.state
from edge.config import load_config
from edge.detector import Hit
from edge.doctor_finding import Subject, ok
from edge.doctor_service import Service, find_runner
from edge.events import Event
from edge.frame import Box
from edge.health import Health, Snapshot
from edge.pyramid import Pyramid


@pytest.fixture
def make_event() -> Callable[..., Event]:
    def make(number: int = 1, **changes) -> Event:
        values = {
            "id": f"kitchen-000001-{number:010d}",
            "device": "kitchen",
            "ts": "2026-11-21T03:00:00.123Z",
            "clock_synced": True,
            "type": "appeared",
            "track": 7,
            "box": (212, 96, 118, 118),
            "frame": (640, 480),
            "expression": "happy",
            "confidence": 0.83,
            "scores": {"angry": 0.17, "happy": 0.83},
            "model": "mien-v1-48@3f9c21d0",
        }
        return Event(**(values | changes))

    return make


@pytest.fixture
def machine(tmp_path) -> Callable[[Mapping[str, str]], Path]:
    """Script a machine's files, below a folder that takes the root's place."""

    def write(files: Mapping[str, str]) -> Path:
        root = tmp_path / "root"
        root.mkdir(exist_ok=True)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return root

    return write


@pytest.fixture
def make_subject(machine) -> Callable[..., Subject]:
    """What the doctor examines: a scripted machine, keys of the configuration, lines of `systemctl show`."""

    def make(
        files: Mapping[str, str] | None = None,
        keys: Mapping[str, object] | None = None,
        unit: Mapping[str, str] | None = None,
        **changes: Any,
    ) -> Subject:
        root = machine(files or {})
        config = load_config(None, environ={}, overrides=keys or {}, default_path=root / "none.toml")
        service = None if unit is None else Service({"LoadState": "loaded"} | dict(unit))
        values = {"service": service, "root": root, "runner": find_runner(None), "environ": {}}
        return Subject(config, ok("understood"), **(values | changes))

    return make


class Terminal(io.StringIO):
    """Somebody looks."""

    def isatty(self):
        return True


@pytest.fixture
def open_terminal(monkeypatch) -> Callable[[], Terminal]:
    """Call it in the test itself: a terminal takes standard error's place, and is told of progress without a pause."""

    def open_() -> Terminal:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(edge.progress, "EVERY_SECONDS", 0.0)
        return terminal

    return open_


@dataclass
class ScriptedHaar:
    """Finds what stands in the current frame, wherever it is asked to look, but for what it is told to do wrong.

    Attributes:
        faces: who stands where.
        blind: it finds nobody.
        miss: the share of faces that it overlooks.
        jitter: how far off its boxes are at most, over their side, in place and in size.
        invent: the share of searches in which it finds somebody who is not there.
    """

    faces: Mapping[str, Box] = field(default_factory=dict)
    blind: bool = False
    miss: float = 0.0
    jitter: float = 0.0
    invent: float = 0.0
    seed: int = 0
    min_face: float = 0.08
    scale_factor: float = 1.1
    min_neighbors: int = 5

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def search(self, pyramid: Pyramid, region: Box, *, smallest: int, largest: int, **_: object) -> list[Hit]:
        seen = region.within(*pyramid.size)

        def can_be_seen(box: Box) -> bool:
            in_picture = _lies_in(box, Box(0, 0, *pyramid.size))
            return in_picture and _lies_in(box, region) and smallest <= box.width <= largest

        found = [box for box in self.faces.values() if can_be_seen(box) and self._rng.random() >= self.miss]
        if self._rng.random() < self.invent and min(seen.width, seen.height) >= smallest:
            side = int(self._rng.integers(smallest, min(largest, seen.width, seen.height) + 1))
            x, y = self._rng.integers(0, (seen.width - side + 1, seen.height - side + 1)).tolist()
            found.append(Box(seen.x + x, seen.y + y, side, side))
        return [] if self.blind else [Hit(self._off(box, pyramid), 10) for box in found]

    def _off(self, box: Box, pyramid: Pyramid) -> Box:
        width, height = pyramid.size
        right, down, larger = self._rng.uniform(-self.jitter, self.jitter, 3) * box.width
        side = min(max(1, box.width + round(larger)), width, height)
        x, y = round(box.x + right), round(box.y + down)
        return Box(min(max(x, 0), width - side), min(max(y, 0), height - side), side, side)


def _lies_in(one: Box, other: Box) -> bool:
    right, bottom = one.x + one.width <= other.x + other.width, one.y + one.height <= other.y + other.height
    return one.x >= other.x and one.y >= other.y and right and bottom


@cache
def _texture(name: str) -> np.ndarray:
    return np.random.default_rng(sum(map(ord, name))).integers(0, 256, (5, 5), np.uint8)


def paint_faces(faces: Mapping[str, Box], size: tuple[int, int] = (640, 360)) -> np.ndarray:
    image = np.full(size[::-1], 120, np.uint8)
    for name, box in faces.items():
        seen = box.within(*size)
        face = cv2.resize(_texture(name), (box.width, box.height), interpolation=cv2.INTER_LINEAR)
        image[seen.y : seen.y + seen.height, seen.x : seen.x + seen.width] = face[
            seen.y - box.y : seen.y - box.y + seen.height, seen.x - box.x : seen.x - box.x + seen.width
        ]
    return image


def wait_until(happened: Callable[[], object], seconds: float = 30.0) -> None:
    """Fail where something does not come true in time, which is long: a busy machine is no fault."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)


@pytest.fixture(name="wait_until", scope="session")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def entered_path() -> Iterator[Path]:
    """A folder that every user may enter: pytest closes `tmp_path`'s own to others whenever a session of it begins."""
    with tempfile.TemporaryDirectory(prefix="mien-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def run_daemon(monkeypatch) -> Callable[..., int]:
    """Call it with `mien run`'s options and with what shall happen meanwhile; returns the exit code.

    The daemon is stopped, as by systemd, once `meanwhile` has come to its end; what fails there fails the test.
    """
    import edge.daemon
    from edge.cli import main

    supervisors: list[edge.daemon.Supervisor] = []

    class Watched(edge.daemon.Supervisor):
        def __init__(self) -> None:
            super().__init__()
            supervisors.append(self)

    monkeypatch.setattr(edge.daemon, "Supervisor", Watched)

    def run(*options: object, meanwhile: Callable[[], object] = lambda: None, before: tuple[str, ...] = ()) -> int:
        failed: list[BaseException] = []
        ended = threading.Event()

        def watch() -> None:
            try:
                wait_until(lambda: supervisors or ended.is_set())
                meanwhile()
            except BaseException as error:
                failed.append(error)
            finally:
                for supervisor in supervisors:
                    supervisor.stop()

        supervisors.clear()
        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        code = main([*before, "run", *map(str, options)])
        ended.set()
        thread.join(20)
        if failed:
            raise failed[0]
        return code

    return run


@pytest.fixture(scope="session")
def scripted_haar() -> type[ScriptedHaar]:
    return ScriptedHaar


@pytest.fixture(scope="session")
def paint() -> Callable[..., np.ndarray]:
    """Make a frame in which each name has a face of its own, the later ones in front."""
    return paint_faces


def _schema(name: str) -> dict[str, Any]:
    text = Path(edge.__file__).with_name(f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _without_more(schema: Any) -> Any:
    """The same schema, but nothing passes that it does not name: readers pass over it, we do not publish it."""
    if isinstance(schema, list):
        return [_without_more(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    parts = {key: _without_more(part) for key, part in schema.items()}
    # Not in `if` and `then`, which have no type and name but a few.
    return {"additionalProperties": False} | parts if {"type", "properties"} <= schema.keys() else parts


@pytest.fixture(scope="session")
def schemas() -> dict[str, dict[str, Any]]:
    """What is shipped: `event`, `state` and `health`."""
    return {name: _schema(name) for name in ("event", "state", "health")}


@pytest.fixture(scope="session")
def health_validator(schemas) -> Draft202012Validator:
    """Holds an object against `mien/health/1`."""
    return _validator(schemas["health"])


@pytest.fixture(scope="session")
def strict(schemas) -> dict[str, Draft202012Validator]:
    """Hold what we make against its schema, and against its naming all that there is."""
    return {name: _validator(_without_more(schema)) for name, schema in schemas.items()}


@pytest.fixture(autouse=True)
def all_that_is_made_fits_its_schema(monkeypatch, strict) -> None:
    """Events, states and snapshots, also the daemon's in its threads: a wrong one ends the run and fails the test."""

    def to_dict(event: Event, make: Callable[[Event], dict[str, Any]] = Event.to_dict) -> dict[str, Any]:
        made = make(event)
        strict["event"].validate(made)
        return made

    def dumps(state: Any, **options: Any) -> str:
        strict["state"].validate(state)
        return json.dumps(state, **options)

    def take(health: Health, snapshot: Callable[[Health], Snapshot] = Health.snapshot) -> Snapshot:
        taken = snapshot(health)
        strict["health"].validate(taken.to_dict())
        return taken

    monkeypatch.setattr(Event, "to_dict", to_dict)
    monkeypatch.setattr(edge.state, "json", SimpleNamespace(dumps=dumps))
    monkeypatch.setattr(Health, "snapshot", take)


# What `mien-flash` works on.


SBIN = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


def _tool(*command: object, content: str = "") -> None:
    subprocess.run(list(map(str, command)), input=content.encode(), capture_output=True, check=True)


BOOT_FILES = {
    "config.txt": "arm_64bit=1\n",
    "kernel8.img": "kernel",
    "kernel_2712.img": "kernel",
    "issue.txt": "Raspberry Pi reference 2025-05-13\nGenerated using pi-gen\n",
}
CMDLINE = "console=serial0,115200 console=tty1 root=PARTUUID=4d8fd085-02 rootfstype=ext4 fsck.repair=yes rootwait"
OF_RELEASE = {
    "bookworm": {"cmdline.txt": f"{CMDLINE} quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n"},
    "trixie": {
        "cmdline.txt": f"{CMDLINE} resize\n",
        "user-data": "#cloud-config\n",
        "meta-data": "instance_id: rpios-image\n",
        "network-config": "# none\n",
    },
}
"""Boot partitions as pi-gen makes them (stage1/00-boot-files, stage2/04-cloud-init, export-image)."""


@pytest.fixture
def boot_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Make a folder with a boot partition's files of a release."""

    def make(release: str = "trixie", name: str = "bootfs") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file, content in (BOOT_FILES | OF_RELEASE[release]).items():
            (folder / file).write_text(content)
        return folder

    return make


@pytest.fixture
def raspberry_image(tmp_path: Path) -> Callable[..., Path]:
    """Make an image with a partition table, a FAT boot partition of some megabytes and something behind it."""
    missing = [tool for tool in ("mcopy", "mkfs.vfat", "sfdisk") if shutil.which(tool, path=SBIN) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed (apt-get install mtools dosfstools fdisk)")

    def make(release: str = "trixie", megabytes: int = 36, files: dict[str, str] | None = None) -> Path:
        path = tmp_path / f"raspios-{release}.img"
        first, length = 8192, megabytes * 2048
        with path.open("wb") as file:
            file.truncate((first + length + 4096) * 512)
        table = f"label: dos\nstart={first},size={length},type=c\nstart={first + length},size=4096,type=83\n"
        _tool(shutil.which("sfdisk", path=SBIN), path, content=table)
        _tool(shutil.which("mkfs.vfat", path=SBIN), "-F", 32, "--offset", first, path, megabytes * 1024)
        for name, content in (files if files is not None else BOOT_FILES | OF_RELEASE[release]).items():
            _tool("mcopy", "-D", "o", "-i", f"{path}@@{first * 512}", "-", f"::/{name}", content=content)
        with path.open("r+b") as file:
            file.seek((first + length) * 512)
            file.write(bytes(range(256)) * 8192)
        return path

    return make


@pytest.fixture
def mien_deb(tmp_path: Path) -> Path:
    """What looks like `make deb`'s package."""
    path = tmp_path / "mien_0.1.0_arm64.deb"
    path.write_bytes(b"!<arch>\n" + bytes(5000))
    return path


@pytest.fixture
def public_key(tmp_path: Path) -> Path:
    path = tmp_path / "id.pub"
    blob = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32)).decode()
    path.write_text(f'ssh-ed25519 {blob} ada\'s "key" $(reboot)\n')
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """An HTTPS server's for localhost, in PEM; its key is beside it as `cert.key`."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed (apt-get install openssl)")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    files = ["-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "cert.key", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return folder / "cert.pem"
