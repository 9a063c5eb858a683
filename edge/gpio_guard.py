"""Turns the light off once the daemon is gone that started this, however it went. Run by `edge.gpio`.

A pin keeps its level when the process that drove it is killed (the kernel's `persist_gpio_outputs`), and a light that
is on says that the camera is read. The end of standard input says that the daemon is gone; where it could see to the
light itself, it writes something first.
"""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Wait for the end."""
    # systemd, its watchdog (SIGABRT) and Ctrl-C end the whole group; this is to see the daemon's end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT):
        signal.signal(number, signal.SIG_IGN)
    if not sys.stdin.buffer.read():
        from gpiozero import LED

        LED(int(sys.argv[1]), initial_value=False).close()


if __name__ == "__main__":
    main()
