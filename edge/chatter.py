"""Keeps what libraries say by themselves off standard error, where Mien's own messages are read."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator

_STDERR = 2
_LOCK = threading.Lock()


@contextlib.contextmanager
def without_chatter(*beginnings: bytes) -> Iterator[None]:
    """Drop lines that begin so; what else is written to standard error meanwhile comes out afterwards.

    Libraries in C write to file descriptor 2, which `contextlib.redirect_stderr` does not reach. That descriptor is the
    whole process's, so a second thread waits here until the first is out.

    Args:
        beginnings: how the lines begin that nobody needs.
    """
    with _LOCK, contextlib.ExitStack() as stack:
        try:
            sys.stderr.flush()
            kept = stack.enter_context(tempfile.TemporaryFile())
            real = os.dup(_STDERR)
        except (OSError, AttributeError, ValueError):
            # No standard error, or nowhere to keep it: then it is loud.
            yield
            return
        os.dup2(kept.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(real, _STDERR)
            os.close(real)
            kept.seek(0)
            rest = b"".join(line for line in kept if not line.startswith(beginnings))
            with contextlib.suppress(OSError):
                os.write(_STDERR, rest)
