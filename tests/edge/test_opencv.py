"""OpenCV is kept quiet in every version that Mien takes: they differ in where the switch is."""

import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "shape",
    [
        lambda switch: SimpleNamespace(setLogLevel=switch, utils=SimpleNamespace()),
        lambda switch: SimpleNamespace(utils=SimpleNamespace(logging=SimpleNamespace(setLogLevel=switch))),
    ],
    ids=["4.6 to 4.12", "4.13 and later"],
)
def test_the_switch_is_found_where_the_version_has_it(shape, monkeypatch):
    levels = []
    monkeypatch.setitem(sys.modules, "cv2", shape(levels.append))
    monkeypatch.delenv("OPENCV_LOG_LEVEL", raising=False)
    runpy.run_path(str(ROOT / "edge/opencv.py"))
    assert levels == [0]
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    runpy.run_path(str(ROOT / "edge/opencv.py"))
    assert levels == [0]  # who asked to hear it hears it


def test_opencv_says_nothing_of_its_own_about_a_file_that_it_cannot_read():
    tried = "{}import cv2; cv2.imread('nowhere.png')"
    for before, quiet in (("", False), ("import edge.opencv; ", True)):
        said = subprocess.run(
            [sys.executable, "-c", tried.format(before)], cwd=ROOT, capture_output=True, text=True, check=True, env={}
        )
        assert (said.stderr == "") is quiet
