"""Runs one of the doctor's checks in a process of its own, which may crash or hang without taking the doctor along."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import edge
from edge.credentials import hide_password
from edge.doctor_finding import Finding, Subject, fault

START = "import sys; sys.path.append(sys.argv[1]); from edge.doctor_apart import main; main(sys.argv[2])"
"""`-P` keeps the current folder out of the path, as with the command itself; ours is there for who runs a clone."""

MOST_WORDS = 300
"""Characters that are shown of what a process said before it died."""

ILLEGAL_ADVICE = (
    "a package was built for a newer processor (a Raspberry Pi 3 or 4 is ARMv8.0); install another version of it, or "
    "use apt's, which are built for every 64-bit Pi"
)


def run_apart(name: str, subject: Subject, seconds: float, *, advice: str) -> Finding:
    """Run a check in a process of its own.

    Args:
        name: the check's, in `edge.doctor.CHECKS`.
        subject: what is examined.
        seconds: after so many the process is killed.
        advice: what to do where it crashes or hangs.

    Returns:
        What it found; a fault where it died or did not answer.
    """
    command = [sys.executable, "-P", "-c", START, str(Path(edge.__file__).parents[1]), name]
    try:
        done = subprocess.run(command, input=pickle.dumps(subject), capture_output=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return fault(f"no answer within {seconds:g} s", advice)
    try:
        return Finding(**json.loads(done.stdout))
    except (ValueError, TypeError):
        return _crashed(done.returncode, done.stderr.decode(errors="replace"), advice)


def _crashed(code: int, said: str, advice: str) -> Finding:
    if code == -signal.SIGILL:
        return fault("it crashes with an illegal instruction", ILLEGAL_ADVICE)
    how = f"it crashes with {signal.Signals(-code).name}" if code < 0 else f"it ends with exit code {code}"
    # The last line names the error. Cut before passwords are hidden, half of one might show.
    words = hide_password(said.strip()).splitlines()[-1:]
    return fault(f"{how} ({words[0][:MOST_WORDS]})" if words else how, advice)


def main(name: str) -> None:
    """The process's own side: read the subject, run the check, write what it found."""
    from edge.doctor import CHECKS

    subject = pickle.loads(sys.stdin.buffer.read())  # noqa: S301  # from our own parent
    # What libraries print must not get into the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    finding = CHECKS[name].run(subject)
    told = {"status": finding.status, "found": finding.found, "advice": finding.advice}
    with os.fdopen(answer, "w") as file:
        json.dump(told, file)
    # A driver's thread, or a library that is unloaded in the wrong order, must not undo the answer.
    os._exit(0)
