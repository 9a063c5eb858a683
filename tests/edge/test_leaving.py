"""How the process ends: in good order, but never waiting for what hangs."""

import subprocess
import sys

import pytest

HANGS = """
import atexit, sys, threading
from edge.leaving import hold, leave
atexit.register(threading.Event().wait)
sys.stdout.write("said")
class Library:
    def __del__(self):
        threading.Event().wait()
library = Library()
hold(library)
del library
leave(69)
"""

GOOD_ORDER = """
import atexit
from edge.leaving import leave
atexit.register(print, "last")
leave(3)
"""


@pytest.mark.parametrize(("script", "code", "said"), [(HANGS, 69, "said"), (GOOD_ORDER, 3, "last\n")])
def test_what_was_said_is_said_and_the_code_is_the_exit_code(script, code, said):
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (code, said)


def test_a_closed_standard_output_changes_nothing():
    script = "import os, sys\nfrom edge.leaving import hold, leave\nprint('x')\nos.close(1)\nhold(1)\nleave(69)"
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, timeout=20)
    assert done.returncode == 69
