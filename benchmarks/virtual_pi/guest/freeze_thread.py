"""Stops one of the daemon's threads until the daemon ends, as a library or a driver that hangs does.

ptrace(2) stops a thread alone, which no signal can. usage: freeze_thread.py PID camera|vision
"""

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path

SEIZE, INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def ticks(task: Path) -> int:
    """The processor time that a thread has used."""
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def find(process: Path, name: str) -> Path:
    """The thread that libcamera's camera works in, or, of the others, the one that uses the processor most."""
    tasks = sorted((process / "task").iterdir(), key=lambda task: int(task.name))
    names = [(task / "comm").read_text().strip() for task in tasks]
    # libcamera starts the two of LTTng, which have a name, and then its own.
    camera = tasks[max(number for number, name in enumerate(names) if name.endswith("-ust")) + 1]
    if name == "camera":
        return camera
    before = {task: ticks(task) for task in tasks if task != camera}
    time.sleep(3)
    return max(before, key=lambda task: ticks(task) - before[task])


process, name = Path("/proc", sys.argv[1]), sys.argv[2]
task = find(process, name)
for request in (SEIZE, INTERRUPT):
    if LIBC.ptrace(request, int(task.name), None, None):
        sys.exit(f"ptrace: error {ctypes.get_errno()}")
print("frozen", task.name, (task / "comm").read_text().strip(), flush=True)
# A thread that is killed is gone only when its tracer has heard of it.
with contextlib.suppress(ChildProcessError):
    while True:
        os.waitpid(-1, WALL)
