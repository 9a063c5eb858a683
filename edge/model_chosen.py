"""The daemon's side of the installed models: it opens the one that is chosen, and says whether it has come up.

A model on trial has come up once a picture went through vision. Until then each start is counted before the model is
opened, so that also one counts that ends in a crash, a hang or a killed process; after `edge.model_store.TRIES` of them
the model before is used again. One that cannot be opened at all is given up at once, whether on trial or not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from edge import model_store
from edge.config import Config
from edge.control import open_folder
from edge.errors import BadDataError, InputNotFoundError, MienError, UnavailableError
from edge.model import Model, open_model
from edge.model_store import FOLDER, SHIPPED, Choice, short
from edge.modelfile import read_model_file
from edge.supervisor import StuckError, Supervisor, join_all

LOG = logging.getLogger(__name__)

LOOK_EVERY = 0.2
"""Seconds between two looks at which model is chosen."""

CLOSE_SECONDS = 3.0
"""How long the end waits for a look: a slow card takes its time."""


class Chosen:
    """A model that was opened, and what its start makes of it.

    Attributes:
        model: it.
        refused: the model that was given up last, as `NAME@…`; None: none was since somebody chose.
        left: whether the run ends because another one is chosen.
        frames: tells how many pictures went through vision.
    """

    def __init__(
        self, model: Model, folder: Path | None = None, entry: str = SHIPPED, choice: Choice | None = None
    ) -> None:
        """Note what was opened.

        Args:
            model: it.
            folder: the models' folder; None: the configuration names the model, and nobody else is asked.
            entry: what it is called there.
            choice: which one is chosen there.
        """
        choice = choice or Choice()
        self.model = model
        self.refused = None if choice.refused is None else short(choice.refused)
        self.left = False
        self.frames: Callable[[], int] = lambda: 0
        self._folder = folder
        self._entry = entry
        self._at_start = choice.current
        self._on_trial = choice.starts is not None and choice.current == entry

    def is_changed(self) -> bool:
        """Whether somebody has chosen another one meanwhile. Cheap: for several times a second."""
        return self._folder is not None and model_store.read_choice(self._folder).current != self._at_start

    def confirm(self) -> None:
        """Have it on trial no more, once it has come up."""
        if self._on_trial and self.frames():
            self._on_trial = False
            if self._note(model_store.confirm):
                LOG.warning("model %s has come up, and is kept", self.model.name)

    def settle(self, failure: BaseException | None) -> None:
        """The run is over: a start that has ended for a reason of its own says nothing of a model on trial.

        Args:
            failure: what has ended it; None: somebody has, or its source.
        """
        if isinstance(failure, Exception) and not _is_innocent(failure):
            return
        self.confirm()
        if self._on_trial:
            self._note(model_store.excuse)

    def _note(self, change: Callable[[Path, str], bool]) -> bool:
        try:
            return self._folder is not None and change(self._folder, self._entry)
        except OSError as error:
            LOG.warning("how the start with model %s went cannot be kept (%s)", self.model.name, error)
            return False


def _is_innocent(failure: Exception) -> bool:
    """Whether an error says what was wrong, and it was not the model."""
    return isinstance(failure, MienError) and not isinstance(failure, StuckError | BadDataError)


@contextmanager
def choosing(config: Config, state: Path, supervisor: Supervisor, *, shared: bool) -> Iterator[Chosen]:
    """Open the model that is to be used, and note in the end how the run with it went; see `open_chosen`."""
    chosen = open_chosen(config, state, shared=shared)
    try:
        yield chosen
    except BaseException as error:
        chosen.settle(error)
        raise
    chosen.settle(supervisor.failure)


def open_chosen(config: Config, state: Path, *, shared: bool) -> Chosen:
    """Open the model that is to be used: the configuration's, else the one that somebody has chosen.

    Args:
        config: names a model, or does not, and the labels of a foreign one.
        state: the state folder.
        shared: whether its group may choose.

    Raises:
        MienError: the configuration's model, or even the one that comes with Mien, cannot be opened; see `open_model`.
    """
    wanted = config.model
    labels, threads = wanted.labels or None, wanted.threads
    if wanted.path is not None:
        return Chosen(open_model(wanted.path, labels=labels, threads=threads))
    folder = open_folder(state, shared=shared, name=FOLDER)
    choice, counted = _begin(folder)
    # A model that might take the daemon down is only tried where that can be counted.
    entries = [choice.current, choice.previous] if counted or choice.starts is None else [choice.previous]
    for entry in dict.fromkeys(entries):
        if entry == SHIPPED:
            break
        try:
            return Chosen(open_stored(folder, entry, labels=labels, threads=threads), folder, entry, choice)
        except UnavailableError:  # there is no interpreter: no model is to blame
            if choice.starts is not None and counted:
                model_store.excuse(folder, entry)
            raise
        except (InputNotFoundError, ValueError, RuntimeError) as error:
            choice = _give_up(folder, entry, choice, error)
    return Chosen(open_model(threads=threads), folder, SHIPPED, choice)


def open_stored(folder: Path, entry: str, *, labels: Sequence[str] | None = None, threads: int = 1) -> Model:
    """Open an installed model; see `open_model`. The labels are for one that has none of its own.

    Raises:
        InputNotFoundError: it is not there.
        BadDataError: also where it is not, byte for byte, what was installed.
    """
    path = model_store.path_of(folder, entry)
    if not model_store.is_model(path):
        raise InputNotFoundError(f"{path}: no such model file; install it again")
    file = read_model_file(path)
    if not entry.endswith(f"@{file.sha256}"):
        raise BadDataError(f"{path}: damaged (its SHA-256 is another than when it was installed); install it again")
    model = Model(file, labels=None if file.labels else labels, threads=threads)
    model.name = short(entry)
    return model


@contextmanager
def watching(chosen: Chosen, frames: Callable[[], int], supervisor: Supervisor, *, leave: bool) -> Iterator[None]:
    """Look, while the run lasts, whether the model has come up and whether another one is chosen.

    Args:
        chosen: the model.
        frames: tells how many pictures went through vision.
        supervisor: of the thread.
        leave: whether the run is to end where another one is chosen, because somebody will start it again.
    """
    over, chosen.frames = threading.Event(), frames

    def watch() -> None:
        while not over.wait(LOOK_EVERY):
            chosen.confirm()
            if chosen.is_changed():
                break
        else:
            return
        if leave:
            LOG.warning("another model is chosen; starting again with it")
            chosen.left = True
            supervisor.stop()
        else:
            LOG.warning("another model is chosen; start mien run again to have it used")

    thread = supervisor.start("model", watch)
    try:
        yield
    finally:
        over.set()
        try:
            join_all([thread], CLOSE_SECONDS)
        except StuckError as error:
            LOG.warning("%s", error)


def _begin(folder: Path) -> tuple[Choice, bool]:
    """The choice, and whether this start with it could be counted."""
    before = model_store.read_choice(folder)
    try:
        choice = model_store.begin(folder)
    except OSError as error:
        LOG.warning("starts with a model on trial cannot be counted (%s); one that has come up before is used", error)
        return before, False
    if choice.why and choice != before:
        LOG.error(
            "model %s is given up: %s; %s is used again", short(before.current), choice.why, short(choice.current)
        )
    elif choice.why and choice.refused is None:
        LOG.error("%s; the model that comes with Mien is used: choose again with mien model use", choice.why)
    return choice, True


def _give_up(folder: Path, entry: str, choice: Choice, error: Exception) -> Choice:
    back = choice.given_up(str(error)) if choice.current == entry else choice
    LOG.error("model %s is given up: %s; %s is used again", short(entry), error, short(back.current))
    try:
        return model_store.give_up(folder, entry, str(error))
    except OSError as trouble:
        LOG.warning("that cannot be kept (%s)", trouble)
        return replace(choice, refused=entry, why=back.why)
