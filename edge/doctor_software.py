"""What is installed: numpy, OpenCV, the cascade, the interpreter, and the Pi's own camera library.

Each of these functions imports what it looks at, so each runs in a process of its own.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

from edge.doctor_finding import Finding, Subject, content, fault, not_here, ok, told, warning
from edge.errors import UnavailableError

APT = "usr/lib/python3/dist-packages"
"""Where apt puts Python packages, below the root."""

WHEELS = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")

ABI_WORDS = ("dtype size changed", "ARRAY_API", "numpy.core.multiarray", "compiled using NumPy 1")
"""How packages complain that were built for another numpy."""


def check_numpy(subject: Subject) -> Finding:
    """Whether numpy loads, and fits those that were built for another one."""
    import numpy as np

    path = Path(np.__file__).parent
    found = f"numpy {np.__version__} in {path.parent}"
    major = _major(np.__version__)
    if major >= 2 and version_of("tflite-runtime") and not version_of("ai-edge-litert"):
        return fault(f"{found}, and tflite-runtime was built for numpy 1", _older_numpy(subject))
    apt = apt_version(subject.root, "numpy")
    hides = apt is not None and subject.prefix in path.parents and sees_system(subject.prefix)
    if apt is None or not hides or major <= _major(apt):
        return ok(found)
    found = f"{found} hides apt's {apt}, for which apt's picamera2 and simplejpeg were built"
    return (fault if needs_libcamera(subject) else warning)(found, _older_numpy(subject))


def _older_numpy(subject: Subject) -> str:
    return f"{_pip(subject)} install 'numpy<2' 'opencv-python-headless<4.12'"


def _pip(subject: Subject) -> str:
    return f"{'' if os.access(subject.prefix, os.W_OK) else 'sudo '}{subject.prefix}/bin/pip"


def check_opencv(subject: Subject) -> Finding:
    """Whether OpenCV loads, and is one that has Haar cascades."""
    pip = _pip(subject)
    try:
        import cv2
    except ModuleNotFoundError:
        raise
    except Exception as error:
        if any(words in str(error) for words in ABI_WORDS):
            return fault(f"OpenCV was built for another numpy ({error})", _older_numpy(subject))
        advice = f"{pip} uninstall -y {' '.join(WHEELS[1:])}; {pip} install --force-reinstall '{WHEELS[0]}<5'"
        return fault(f"OpenCV does not load ({error})", advice)
    version = str(cv2.__version__)
    found = f"OpenCV {version} in {Path(cv2.__file__).parent}"
    if not hasattr(cv2, "CascadeClassifier"):
        return fault(f"{found} has no Haar cascades", f"{pip} install 'opencv-python-headless>=4.6,<5'")
    several = [name for name in WHEELS if version_of(name)]
    if len(several) > 1:
        return warning(
            f"{found}; {', '.join(several)} are installed over each other",
            f"{pip} uninstall -y {' '.join(several)}; {pip} install 'opencv-python-headless<5'",
        )
    return ok(found)


def check_cascade(subject: Subject) -> Finding:
    """Whether the cascades that the configuration wants are there and load."""
    from edge.cascade import EYES, find_cascade, load_cascade

    paths = [find_cascade(subject.config.detector.cascade)]
    paths += [find_cascade(name=EYES)] if subject.config.detector.eyes else []
    for path in paths:
        load_cascade(path)
    return ok(", ".join(map(str, paths)))


def check_interpreter(subject: Subject) -> Finding:
    """Whether an interpreter is there that can build one for our model."""
    from edge.interpreter import MODULES, make_interpreter
    from edge.modelfile import SHIPPED, read_model_file

    try:
        made = make_interpreter(read_model_file(SHIPPED).flatbuffer)
    except UnavailableError as error:
        return told(error, f"{_pip(subject)} install ai-edge-litert")
    package = next(name for name, module in MODULES.items() if type(made).__module__.startswith(module.split(".")[0]))
    return ok(f"{package} {version_of(package)}")


def check_libcamera(subject: Subject) -> Finding:
    """Whether this environment sees the system's libcamera and picamera2, and which cameras these see."""
    try:
        return ok(f"picamera2 {version_of('picamera2') or ''} loads; {cameras_told(_cameras())}".replace("  ", " "))
    except Exception as error:  # packages that are built for something else raise anything
        if not needs_libcamera(subject):
            return not_here(f"does not load ({_words(error)}), and source.spec does not need it")
        return _no_libcamera(subject, error)


def _cameras() -> list[dict[str, Any]]:
    import libcamera  # noqa: F401  # to be told of it rather than of picamera2
    from picamera2 import Picamera2

    return list(Picamera2.global_camera_info())


def cameras_told(cameras: list[dict[str, Any]]) -> str:
    """The cameras that picamera2 lists, in words."""
    return ", ".join(str(camera.get("Model", "a camera")) for camera in cameras) or "it sees no camera"


def _no_libcamera(subject: Subject, error: Exception) -> Finding:
    why = f"picamera2 does not load ({_words(error)})"
    if any(words in str(error) for words in ABI_WORDS):
        return fault(f"{why}: a numpy from pip is newer than apt's", _older_numpy(subject))
    prefix, base = subject.prefix, subject.base_prefix
    make = "/usr/bin/python3 -m venv --system-site-packages"
    if base != Path("/usr"):
        return fault(
            f"{why}: the Python in {base} is not the system's, for which apt's packages are",
            f"make a new environment and install Mien into that: {make} ~/mien-env",
        )
    if sees_system(prefix) is False:
        return fault(
            f"{why}: {prefix} was made without --system-site-packages",
            f"{make} {prefix} (what is installed there stays); sudo apt install python3-picamera2",
        )
    return fault(why, "sudo apt install python3-picamera2")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def needs_libcamera(subject: Subject) -> bool:
    """Whether the configured source is the Pi's own camera."""
    return subject.config.source.spec.partition(":")[0].lower() == "picamera2"


def sees_system(prefix: Path) -> bool | None:
    """Whether a virtual environment sees the system's packages; None where it is no virtual environment."""
    lines = content(prefix / "pyvenv.cfg").splitlines()
    keys = {key.strip().lower(): value.strip().lower() for key, _, value in (line.partition("=") for line in lines)}
    return keys.get("include-system-site-packages") == "true" if keys else None


def version_of(package: str) -> str | None:
    """The version of a package that is installed where we run; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def apt_version(root: Path, package: str) -> str | None:
    """The version of a package that apt has installed for the system's Python."""
    found = importlib.metadata.distributions(name=package, path=[str(root / APT)])
    return next((distribution.version for distribution in found), None)


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0
