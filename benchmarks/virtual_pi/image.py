"""The virtual Pi's card: Debian, Mien's package, and a camera that shows pictures of faces, as one ext4 image."""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2

from benchmarks.cortex_a72 import CORE, cpuinfo
from benchmarks.virtual_pi.base import cache, digest, make, open_base
from edge.camera import open_camera

ROOT = Path(__file__).resolve().parents[2]
GUEST = Path(__file__).parent / "guest"

WHEELS = ("picamera2==0.3.38", "simplejpeg==1.9.0", "videodev2==0.0.4", "OpenEXR==3.5.3")
"""picamera2 with those of its needs that Debian has not."""

NAMES = ("RGB888", "BGR888", "XRGB8888", "XBGR8888", "YUV420", "YVU420", "NV12")

STUBS = {
    "pidng/__init__.py": "",
    "pidng/camdefs.py": "class Picamera2Camera: pass\n",
    "pidng/core.py": "class PICAM2DNG: pass\n",
    "pykms.py": "class PixelFormat:\n    " + " = ".join(NAMES) + " = None\n",
}
"""What picamera2 imports, there is no wheel of, and nobody uses here: raw pictures and a screen."""

STATUS = "if next(iter(req.request.buffers.values())).metadata.status == libcamera.FrameMetadata.Status.Success:"
"""picamera2 drops pictures that are not marked as good; the virtual camera marks none."""

SCENE, FRAMES = "synthetic:script=drift,faces=2,noise=2,fps=10,seed=3", 40

FREE_MB = 600

BUILD = r"""
set -eu
base=$1 layer=$2 kit=$3 disk=$4 free=$5
root=$layer/root
mkdir -p "$layer/upper" "$layer/work" "$root"
mount -t overlay overlay -o "lowerdir=$base,upperdir=$layer/upper,workdir=$layer/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/lock" "$root/mnt/kit"
mount --bind "$kit" "$root/mnt/kit"
mount --bind "$kit/cpuinfo" "$root/proc/cpuinfo"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 QEMU_CPU=cortex-a72 \
    DEBIAN_FRONTEND=noninteractive chroot "$root" bash /mnt/kit/guest/install.sh
umount "$root/mnt/kit" "$root/run" "$root/proc/cpuinfo" "$root/proc"
umount -l "$root/dev"
rmdir "$root/mnt/kit"
size=$(($(du -sm --one-file-system "$root" | cut -f 1) * 11 / 10 + free))
mke2fs -q -t ext4 -L rootfs -d "$root" "$disk" "${size}M"
"""


@dataclass(frozen=True, slots=True)
class Image:
    """What a virtual Pi starts from; none of the files is ever changed.

    Attributes:
        disk: an ext4 file system.
        kernel, initrd: Debian's own.
    """

    disk: Path
    kernel: Path
    initrd: Path


def open_image(package: Path | None) -> Image:
    """The image with this `mien_*_arm64.deb` installed, made anew where that or anything else in it has changed.

    Args:
        package: the package; None: it is for the first boot to install.

    Raises:
        UnavailableError: a tool is missing, or something could not be fetched or installed.
    """
    base = open_base()
    guest = [(path.name, path.read_bytes()) for path in sorted(GUEST.iterdir())]
    content = package and hashlib.sha256(package.read_bytes()).hexdigest()
    parts = (base.name, content, guest, WHEELS, STUBS, STATUS, SCENE, FRAMES, CORE, BUILD, FREE_MB)
    place = cache() / f"virtual-pi-card-{digest(*parts)}"
    if not place.is_dir():
        part = place.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)  # of a run that was stopped
        part.mkdir(parents=True)
        print(f"building {place}, which takes minutes", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(dir=cache()) as layer:
            kit = Path(layer) / "kit"
            _fill(kit, package)
            apart = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--net", "--fork", "--kill-child"]
            places = [base, Path(layer) / "card", kit, part / "disk"]
            make([*apart, "bash", "-c", BUILD, "build", *places, str(FREE_MB)])
        for name in ("vmlinuz", "initrd.img"):
            (newest,) = sorted((base / "boot").glob(f"{name}-*"))[-1:]
            shutil.copyfile(newest, part / name)
        part.rename(place)
    return Image(place / "disk", place / "vmlinuz", place / "initrd.img")


def make_package(folder: Path) -> Path:
    """Mien's package for arm64, as `make deb` makes it of this tree.

    Raises:
        UnavailableError: it could not be made.
    """
    kit = folder / "kit"
    make([ROOT / "systemd/deb/wheelhouse.sh", sys.executable, kit])
    make([ROOT / "systemd/deb/build.sh", "arm64", kit, folder])
    (package,) = folder.glob("mien_*_arm64.deb")
    return package


def _fill(kit: Path, package: Path | None) -> None:
    """All that is to be installed."""
    kit.mkdir()
    shutil.copytree(GUEST, kit / "guest")
    if package is not None:
        shutil.copyfile(package, kit / "mien.deb")
    (kit / "cpuinfo").write_text(cpuinfo(cores=2), encoding="ascii")
    _fetch_picamera2(kit / "site")
    (kit / "frames").mkdir()
    with open_camera(SCENE, color=True) as camera:
        for number in range(FRAMES):
            frame = camera.read()
            if frame is not None and frame.color is not None:
                cv2.imwrite(str(kit / f"frames/{number}.jpg"), frame.color)


def _fetch_picamera2(site: Path) -> None:
    platforms = [f"--platform=manylinux{glibc}_aarch64" for glibc in ("2014", "_2_17", "_2_27", "_2_28")]
    python = ["--implementation=cp", "--python-version=3.13", "--only-binary=:all:", "--no-deps", "--no-compile"]
    make([sys.executable, "-m", "pip", "install", "--quiet", "--target", site, *platforms, *python, *WHEELS])
    for name, text in STUBS.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text, encoding="ascii")
    main = site / "picamera2/picamera2.py"
    text = main.read_text(encoding="utf-8")
    if STATUS not in text:
        raise AssertionError(f"{WHEELS[0]} does not look as it did")
    main.write_text(text.replace(STATUS, "if True:"), encoding="utf-8")
    shutil.copyfile(GUEST / "picamera2_virtual.py", site / "picamera2/virtual.py")
    with (site / "picamera2/__init__.py").open("a", encoding="utf-8") as file:
        file.write("\nfrom picamera2.virtual import Picamera2  # the virtual Pi's\n")
