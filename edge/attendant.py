"""The daemon's side of the control folder: it looks there a few times a second, and answers."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from edge.control import LOOK_EVERY, read_small, table, write_small
from edge.erasure import Erasure, is_in_use, outboxes, remove_outbox
from edge.pause import PauseWatch
from edge.supervisor import StuckError, Supervisor, join_all

LOG = logging.getLogger(__name__)

CLOSE_SECONDS = 3.0
"""How long the end waits for what is being answered."""

_REQUEST = re.compile(r"erase-([0-9a-f]{16})")


@contextmanager
def attending(
    watch: PauseWatch, device: str, erase: Callable[[bool], Erasure], supervisor: Supervisor
) -> Iterator[None]:
    """Look into the control folder, also while the camera hangs.

    Args:
        watch: is told to look whether a pause is asked for.
        device: the device's name, which signs answers.
        erase: removes what the daemon has stored; with True only what is stored on this machine.
        supervisor: of the threads.
    """
    over, attendant = threading.Event(), Attendant(watch.folder, device, erase)

    def again_and_again(look: Callable[[], object]) -> None:
        while not over.wait(LOOK_EVERY):
            look()

    # A pause does not wait for an erasing that a slow broker holds up.
    threads = [
        supervisor.start("pause", partial(again_and_again, watch.look)),
        supervisor.start("erase", partial(again_and_again, attendant.answer)),
    ]
    try:
        yield
    finally:
        over.set()
        try:
            join_all(threads, CLOSE_SECONDS)
        except StuckError as error:
            LOG.warning("%s", error)


class Attendant:
    """Answers requests to erase: `erase-TOKEN` with `erased-TOKEN-DEVICE`, each once.

    Whoever asked removes both. What lies there when the daemon starts was asked of an earlier one, and is removed.

    Args:
        folder: the control folder.
        device: the device's name.
        erase: see `attending`.
    """

    def __init__(self, folder: Path, device: str, erase: Callable[[bool], Erasure]) -> None:
        self._folder = folder
        self._device = device
        self._erase = erase
        self._answered: set[str] = set()
        self._unwritable = False
        for path in [*folder.glob("erase-*"), *folder.glob(f"erased-*-{device}")]:
            self._try(path.unlink)

    def answer(self) -> None:
        """Do what is asked for. Cheap where nothing is."""
        asked = [match[1] for path in self._folder.glob("erase-*") if (match := _REQUEST.fullmatch(path.name))]
        self._answered &= set(asked)
        for token in asked:
            if token not in self._answered:
                self._answered.add(token)
                self._try(partial(self._answer, token))

    def _answer(self, token: str) -> None:
        text = read_small(self._folder / f"erase-{token}")
        if text is None:
            return
        erasure = self._erase((table(text) or {}).get("local") is True)
        erasure.add(erase_left(self._folder.parent))
        LOG.warning("what was stored has been erased, as somebody has asked: %d files", len(erasure.removed))
        write_small(self._folder / f"erased-{token}-{self._device}", erasure.to_json())

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            if not self._unwritable:
                LOG.warning("nobody can be answered in %s (%s)", self._folder, error.strerror)
            self._unwritable = True


def erase_left(state: Path) -> Erasure:
    """Remove the outboxes in a state folder that nobody has open: those of earlier names of the device."""
    erasure = Erasure()
    for path in outboxes(state):
        if not is_in_use(path):
            erasure.add(remove_outbox(path))
    return erasure
