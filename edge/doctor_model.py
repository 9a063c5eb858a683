"""The model that the daemon uses. What is here imports it, so it runs in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge.doctor_disk import places
from edge.doctor_finding import Finding, Subject, ok, together, told, warning
from edge.errors import MienError
from edge.model_store import FOLDER, SHIPPED, read_choice, short

if TYPE_CHECKING:
    from edge.model import Model


def check_model(subject: Subject) -> Finding:
    """Whether the model that the daemon uses passes its self-test, and how long it takes; whether one was given up."""
    from edge.model import open_model
    from edge.model_chosen import open_stored

    config, folder = subject.config.model, places(subject)["state"] / FOLDER
    labels, threads = config.labels or None, config.threads
    if config.path is not None:
        try:
            return _timed(open_model(config.path, labels=labels, threads=threads))
        except MienError as error:
            return told(error, "leave model.path empty for the model that was chosen with mien model use")
    try:
        next(folder.iterdir(), None)
    except FileNotFoundError:
        pass
    except OSError as error:
        return warning(f"{folder}: may not be looked at ({error.strerror})", "run it again: sudo mien doctor")
    choice = read_choice(folder)
    try:
        if choice.current == SHIPPED:
            found = _timed(open_model(threads=threads))
        else:
            found = _timed(open_stored(folder, choice.current, labels=labels, threads=threads))
    except MienError as error:
        return told(error, f"mien model use {SHIPPED}")
    if choice.refused is not None:
        again = f"try it again: mien model use {short(choice.refused)}; or stay with this one: mien model use "
        return together(
            [found, warning(f"{short(choice.refused)} was given up: {choice.why}", again + short(choice.current))]
        )
    if choice.why:
        return together([found, warning(choice.why, "choose again: mien model use NAME")])
    return ok(f"{found.found}, on trial") if choice.starts is not None else found


def _timed(model: Model) -> Finding:
    from edge.model_trial import milliseconds

    tested = model.card is not None and model.card.self_test is not None
    test = "its self-test passes" if tested else "it holds no self-test"
    return ok(f"{model.name}: {test}; {milliseconds(model):.1f} ms a face")
