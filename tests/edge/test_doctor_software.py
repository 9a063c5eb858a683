"""What is installed, also where it is broken: other packages take the real ones' places in the doctor's processes."""

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from edge import doctor_software
from edge.doctor_apart import run_apart
from edge.doctor_software import (
    apt_version,
    check_cascade,
    check_interpreter,
    check_numpy,
    check_opencv,
    sees_system,
)

ABI = "numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject"
APT = "usr/lib/python3/dist-packages"


@pytest.fixture
def instead(tmp_path, monkeypatch):
    """Have a check's process find a package of ours."""
    folder = tmp_path / "instead"
    monkeypatch.setenv("PYTHONPATH", str(folder))

    def write(name, code):
        path = folder / name / "__init__.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)

    return write


def apart(name, subject):
    return run_apart(name, subject, 60.0, advice="install it again")


@pytest.mark.parametrize("check", [check_numpy, check_opencv, check_cascade, check_interpreter])
def test_what_is_installed_here_is_well(make_subject, check):
    assert check(make_subject()).status == "ok"


def test_a_processor_that_a_package_was_not_built_for_takes_its_own_check_down_alone(make_subject, instead):
    instead("numpy", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    finding = apart("numpy", make_subject())
    assert (finding.status, finding.found) == ("fault", "it crashes with an illegal instruction")
    assert "ARMv8.0" in finding.advice


def test_a_package_that_is_not_there_is_named(make_subject, instead):
    instead("cv2", "raise ModuleNotFoundError('No module named cv2', name='cv2')")
    finding = apart("opencv", make_subject())
    assert (finding.status, "cv2 is not installed in" in finding.found) == ("fault", True)


@pytest.mark.parametrize(
    ("code", "said", "advice"),
    [
        ("__version__ = '5.0.0'", "OpenCV 5.0.0", "'opencv-python-headless>=4.6,<5'"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "libGL.so.1", "uninstall -y opencv-python"),
        (f"raise ImportError({ABI!r})", "another numpy", "'numpy<2'"),
    ],
)
def test_an_opencv_that_does_not_do_is_told_with_what_to_install(make_subject, instead, code, said, advice):
    instead("cv2", code)
    finding = apart("opencv", make_subject())
    assert (finding.status, said in finding.found, advice in finding.advice) == ("fault", True, True)


def test_without_an_interpreter_that_works_the_two_are_named(make_subject, instead):
    instead("ai_edge_litert", "raise SystemError('built for another numpy')")
    finding = apart("interpreter", make_subject())
    assert finding.status == "fault"
    assert "ai-edge-litert is installed but does not work" in finding.found
    assert "pip install ai-edge-litert" in finding.advice


@pytest.fixture
def versions(monkeypatch):
    """What is said to be installed."""
    installed = {}

    def version(name):
        if name in installed:
            return installed[name]
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor_software.importlib.metadata, "version", version)
    return installed


@pytest.mark.parametrize(
    ("packages", "numpy", "status"),
    [
        ({"tflite-runtime": "2.14.0"}, "2.2.0", "fault"),
        ({"tflite-runtime": "2.14.0"}, "1.26.4", "ok"),
        ({"tflite-runtime": "2.14.0", "ai-edge-litert": "2.0"}, "2.2.0", "ok"),
    ],
)
def test_tflite_runtime_alone_needs_numpy_1(make_subject, versions, monkeypatch, packages, numpy, status):
    versions.update(packages)
    monkeypatch.setattr("numpy.__version__", numpy)
    finding = check_numpy(make_subject())
    assert finding.status == status
    assert ("'numpy<2'" in finding.advice) == (status == "fault")


@pytest.mark.parametrize(
    ("apt", "source", "system", "status"),
    [
        ("1.24.2", "picamera2", "true", "fault"),
        ("1.24.2", "synthetic", "true", "warning"),
        ("1.24.2", "picamera2", "false", "ok"),
        ("2.2.4", "picamera2", "true", "ok"),
        (None, "picamera2", "true", "ok"),
    ],
)
def test_a_numpy_from_pip_that_hides_apts_older_one_is_told(
    make_subject, tmp_path, monkeypatch, apt, source, system, status
):
    files = {} if apt is None else {f"{APT}/numpy-{apt}.dist-info/METADATA": f"Name: numpy\nVersion: {apt}\n"}
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/pyvenv.cfg").write_text(f"home = /usr/bin\ninclude-system-site-packages = {system}\n")
    monkeypatch.setattr("numpy.__version__", "2.4.0")
    monkeypatch.setattr("numpy.__file__", str(tmp_path / "venv/lib/numpy/__init__.py"))
    finding = check_numpy(make_subject(files, {"source.spec": source}, prefix=tmp_path / "venv"))
    assert finding.status == status
    assert (f"hides apt's {apt}" in finding.found) == (status != "ok")


def test_what_apt_has_is_read_where_apt_puts_it(machine):
    egg = {f"{APT}/numpy-1.24.2.egg-info/PKG-INFO": "Name: numpy\nVersion: 1.24.2\n"}
    assert apt_version(machine(egg), "numpy") == "1.24.2"
    assert apt_version(machine({}), "simplejpeg") is None


@pytest.mark.parametrize(
    ("config", "sees"),
    [("include-system-site-packages = true", True), ("include-system-site-packages = false", False), (None, None)],
)
def test_whether_an_environment_sees_the_systems_packages(tmp_path, config, sees):
    if config is not None:
        (tmp_path / "pyvenv.cfg").write_text(f"home = /usr/bin\n{config}\n")
    assert sees_system(tmp_path) is sees


PICAMERA2 = "class Picamera2:\n    def global_camera_info():\n        return [{'Model': 'imx708'}]"


def test_the_pis_camera_library_lists_the_cameras_that_it_sees(make_subject, instead):
    instead("libcamera", "print('libcamera chatters')")
    instead("picamera2", PICAMERA2)
    finding = apart("libcamera", make_subject())
    assert (finding.status, finding.found) == ("ok", "picamera2 loads; imx708")


@pytest.mark.parametrize(
    ("system", "base", "advice"),
    [
        ("false", "/usr", "/usr/bin/python3 -m venv --system-site-packages {prefix} (what is installed there stays)"),
        ("true", "/usr", "sudo apt install python3-picamera2"),
        ("true", "/opt/python3.12", "/usr/bin/python3 -m venv --system-site-packages ~/mien-env"),
    ],
)
def test_an_environment_that_does_not_see_libcamera_is_told_with_the_command(
    make_subject, instead, tmp_path, system, base, advice
):
    instead("libcamera", "raise ModuleNotFoundError('No module named libcamera', name='libcamera')")
    (tmp_path / "pyvenv.cfg").write_text(f"include-system-site-packages = {system}\n")
    finding = apart("libcamera", make_subject(prefix=tmp_path, base_prefix=Path(base)))
    assert finding.status == "fault"
    assert advice.format(prefix=tmp_path) in finding.advice


def test_a_picamera2_that_was_built_for_another_numpy_is_told(make_subject, instead):
    instead("libcamera", "")
    instead("picamera2", f"raise ValueError({ABI!r})")
    finding = apart("libcamera", make_subject())
    assert (finding.status, "a numpy from pip" in finding.found) == ("fault", True)


def test_whoever_has_another_camera_needs_no_libcamera(make_subject, instead):
    instead("libcamera", "raise ModuleNotFoundError('No module named libcamera', name='libcamera')")
    assert apart("libcamera", make_subject(keys={"source.spec": "v4l2:0"})).status == "not here"


def test_a_process_that_hangs_dies_or_says_nothing_is_a_fault(make_subject, instead):
    instead("numpy", "import time; time.sleep(60)")
    slow = run_apart("numpy", make_subject(), 0.5, advice="install it again")
    assert (slow.found, slow.advice) == ("no answer within 0.5 s", "install it again")
    instead(
        "numpy", "import os, sys; print('at rtsp://me:hunter2@host', file=sys.stderr); sys.stderr.flush(); os._exit(3)"
    )
    ended = apart("numpy", make_subject())
    assert ended.found == "it ends with exit code 3 (at rtsp://***@host)"


def test_it_is_the_same_python_that_is_looked_at(make_subject):
    assert sys.prefix in apart("numpy", make_subject()).found
