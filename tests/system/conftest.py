"""Whole Debian systems to install in: built once, kept in ~/.cache/mien, changed only in a layer of each test's own.

They need root's rights, mmdebstrap, and for arm64 QEMU's user mode; what is missing skips a test with a reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks.cortex_a72 import CORE, PROCESSOR, cpuinfo

REPOSITORY = Path(__file__).resolve().parents[2]

PACKAGES = ("ca-certificates", "python3-venv", "python3-numpy", "python3-opencv", "python3-gpiozero", "systemd")
"""All that Mien needs of Debian but `opencv-data`, which is for the installation to fetch."""

ALSO = {"bookworm": (), "trixie": ("python3-libcamera",)}

OPTIONS = (
    "--variant=minbase",
    '--aptopt=APT::Install-Recommends "false"',
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=force-unsafe-io",
)

BINFMT = Path("/proc/sys/fs/binfmt_misc")

ENTER = r"""
set -eu
layers=$1 root=$2 cores=$3; shift 3
mount -t overlay overlay -o "$layers" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/lock" "$root/mnt/kits"
[ -z "$cores" ] || mount --bind "$cores" "$root/proc/cpuinfo"
while [ "$1" != -- ]; do
    mkdir -p "$root/$2"
    mount --bind "$1" "$root/$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""

LIST = r"""
for place in "$@"; do
    [ ! -e "$place" ] || find "$place" -path '/opt/mien/venvs/*' -prune -o -type d -printf '%p\t%m %u\n' \
        -o -printf '%p\t%m %u %s %l\n'
done
ls /opt/mien/venvs 2>/dev/null | sed 's/^/environment /' || true
(cat /etc/passwd /etc/group; cd /etc && md5sum mien/* 2>/dev/null || true) | sed 's/^/content /'
"""


@dataclass
class System:
    """A Debian in a folder, with a layer above it that takes all changes.

    Attributes:
        release, architecture: which one.
        base: the system that is shared.
        layer: this test's own.
        kits: folders by the name under /mnt that they have inside.
    """

    release: str
    architecture: str
    base: Path
    layer: Path
    kits: dict[str, Path] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.layer / "root"

    @property
    def changed(self) -> Path:
        """Where files that were made or changed inside lie."""
        return self.layer / "upper"

    def run(
        self, script: str, *arguments: str, network: bool = True, fails: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script inside and return what it said; it must end with 0, or not with 0 if it `fails`."""
        for part in ("upper", "work", "root"):
            (self.layer / part).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={self.base}/root,upperdir={self.changed},workdir={self.layer}/work"
        cores = str(self.base / "cpuinfo") if self.architecture == "arm64" else ""
        mounts = [text for name, folder in self.kits.items() for text in (str(folder), f"mnt/{name}")]
        alone = ["--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", *([] if network else ["--net"])]
        done = subprocess.run(
            ["unshare", *alone, "bash", "-c", ENTER, "enter", layers, self.root, cores, *mounts, "--",
             "env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", f"QEMU_CPU={PROCESSOR}",
             "DEBIAN_FRONTEND=noninteractive", *(f"{name}={value}" for name, value in environment.items()),
             "bash", "-c", f"set -e\n{script}", "script", *arguments],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if bool(done.returncode) != fails:
            pytest.fail(f"{script}\nended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def tree(self, *places: str) -> dict[str, str]:
        """What lies in these folders: each path's kind, rights, owner, size and content, as a text to compare."""
        listed = self.run(LIST, *places).stdout
        return dict(line.partition("\t")[::2] for line in listed.splitlines())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = any("kind" in marker.args[0] for marker in metafunc.definition.iter_markers("parametrize"))
    if "system" in metafunc.fixturenames and not chosen:
        names = [f"{release}-{architecture}" for architecture in ("amd64", "arm64") for release in ALSO]
        metafunc.parametrize("kind", names, scope="session")


@pytest.fixture(scope="session")
def wanted() -> None:
    if not os.environ.get("MIEN_SYSTEM"):
        pytest.skip("takes minutes and a network; make test-system runs it")
    if os.geteuid():
        pytest.skip("needs root's rights, to mount and to chroot; try: sudo make test-system")
    missing = [tool for tool in ("mmdebstrap", "unshare", "dpkg-deb") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not found; try: sudo apt install mmdebstrap")


@pytest.fixture
def system(kind: str, wanted: None, tmp_path: Path, kits: dict[str, Path]) -> Iterator[System]:
    """A fresh system of this kind, with the kits of three versions of Mien in /mnt."""
    release, architecture = kind.split("-")
    opened = System(release, architecture, _base(release, architecture), tmp_path, dict(kits))
    resolver = Path("/etc/resolv.conf").read_text(encoding="utf-8")
    # This machine's, which may know an authority that Debian does not.
    authorities = Path("/etc/ssl/certs/ca-certificates.crt")
    (opened.changed / "etc/ssl/certs").mkdir(parents=True)
    (opened.changed / "etc/resolv.conf").write_text(resolver, encoding="utf-8")
    shutil.copy(authorities, opened.changed / "etc/ssl/certs/ca-certificates.crt")
    yield opened
    # An overlay's working folder is of no use to whoever looks at a failed test.
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture(scope="session")
def kits(wanted: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What `make wheelhouse` and `make deb` make, in three versions, and the checkout: `old`, `kit`, `new`, `checkout`.

    Each kit has its packages beside its wheels: `mien_VERSION_ARCHITECTURE.deb`.
    """
    folder = tmp_path_factory.mktemp("kits")
    made = {"kit": folder / "kit"}
    _make([REPOSITORY / "systemd/deb/wheelhouse.sh", sys.executable, made["kit"]])
    for name, version in (("old", "0.0.1"), ("new", "99.0.0")):
        made[name] = folder / name
        shutil.copytree(made["kit"], made[name], copy_function=os.link)
        _rename_version(made[name] / "wheels", version)
    for kit in made.values():
        for architecture in ("amd64", "arm64"):
            _make([REPOSITORY / "systemd/deb/build.sh", architecture, kit, kit])
    return made | {"checkout": REPOSITORY}


def _base(release: str, architecture: str) -> Path:
    packages = (*PACKAGES, *ALSO[release])
    if architecture == "arm64":
        _need_emulator()
    elif architecture != _make(["dpkg", "--print-architecture"]).strip():
        pytest.skip(f"this machine is no {architecture}")
    key = hashlib.sha256(repr((release, architecture, packages, OPTIONS, CORE)).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mien"
    place = cache / f"system-{release}-{architecture}-{key}"
    if not place.is_dir():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(parents=True)
        part.chmod(0o755)
        print(f"building {place}, which takes minutes", file=sys.stderr)
        include = f"--include={','.join(packages)}"
        _make(["mmdebstrap", f"--arch={architecture}", *OPTIONS, include, release, part / "root"])
        (part / "cpuinfo").write_text(cpuinfo(), encoding="ascii")
        part.rename(place)
    return place


def _need_emulator() -> None:
    if _make(["dpkg", "--print-architecture"]).strip() == "arm64":
        return
    known = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")
    if not known.exists():
        pytest.skip("QEMU's user mode is not installed; try: sudo apt install qemu-user-static")
    try:
        if not (BINFMT / "register").exists():
            _make(["mount", "binfmt_misc", "-t", "binfmt_misc", BINFMT])
        if not (BINFMT / "qemu-aarch64").exists():
            (BINFMT / "register").write_text(known.read_text(encoding="ascii"), encoding="ascii")
    except (OSError, RuntimeError) as error:
        pytest.skip(f"the kernel does not run arm64 programs here: {error}; try: sudo systemctl restart systemd-binfmt")


def _rename_version(wheels: Path, version: str) -> None:
    """Make Mien's wheel one of another version that differs in nothing else."""
    (wheel,) = wheels.glob("mien-*.whl")
    before = wheel.name.split("-")[1]
    other = wheels / wheel.name.replace(before, version)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith(("/METADATA", "/RECORD", "edge/__init__.py")):
                content = content.replace(before.encode(), version.encode())
            if name.endswith("/RECORD"):
                # pip asks for no hashes in it; the wheel's own stands in mien.txt.
                content = re.sub(rb",sha256=[^,]*,\d*", b",,", content)
            target.writestr(name.replace(f"mien-{before}.", f"mien-{version}."), content)
    wheel.unlink()
    (wheels / "mien.txt").unlink()
    digest = hashlib.sha256(other.read_bytes()).hexdigest()
    (wheels / "mien.txt").write_text(f"mien=={version} --hash=sha256:{digest}\n", encoding="ascii")


def _make(command: Sequence[str | Path]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
