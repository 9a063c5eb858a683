"""How the process ends where a library would never let it end."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

_HELD: list[object] = []


def hold(hanging: object) -> None:
    """Keep something for as long as the process lives whose end, or whose library's, would be waited for for ever."""
    _HELD.append(hanging)


def leave(code: int) -> NoReturn:
    """End the process with an exit code: at once where anything is held, else in good order."""
    if _HELD:
        for stream in (sys.stdout, sys.stderr):
            # What cannot be written now never will be.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
