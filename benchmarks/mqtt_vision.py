"""What MQTT costs vision: the same frames without it, with a broker and with none, in turns."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.daemon_process import free_port, serving
from edge.camera import open_camera
from edge.config import Config
from edge.errors import MienError
from edge.events import Reporter
from edge.model import Model, open_model
from edge.opencv import one_thread
from edge.output import Output
from edge.pipeline import make_detector, make_eyes, make_vision
from edge.supervisor import Supervisor

FRAMES = 300
"""Of each turn, those of the warm-up included."""
WARM_UP = 60
"""Frames of each turn that do not count: the first search of everything, and the broker's greeting."""
FPS = 60
"""Frames per second that vision is given: twice a camera's, so that there is less to spare, and more is seen sooner."""
SCENE = f"synthetic:faces=4,noise=2,fps={FPS},seconds=0"
REPORT_EVERY = 0.5
"""Seconds between two events of a face: four give eight a second and more."""

WITHOUT, CONNECTED, AWAY, AGAIN = VARIANTS = ("no MQTT", "connected", "broker away", "no MQTT, again")
"""The last one differs from the first by noise alone; what the others are compared with is both together."""

RESAMPLES = 2000


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    """Run every variant so many times, each time in another order.

    Args:
        folder: for broker, logs and outboxes.
        rounds: how often.

    Returns:
        `p99` in seconds of each variant, `compared` of each but the first, see `compare`, and `events` a second.
    """
    model = open_model(None)
    times: dict[str, list[NDArray[np.float64]]] = {variant: [] for variant in VARIANTS}
    events, chance = 0, random.Random(0)  # noqa: S311  # the same order each time
    with serving(folder) as port, one_thread():
        urls = {CONNECTED: f"mqtt://127.0.0.1:{port}", AWAY: f"mqtt://127.0.0.1:{free_port()}"}
        for turn in range(rounds):
            for variant in chance.sample(VARIANTS, len(VARIANTS)):
                home = folder / f"{turn}-{VARIANTS.index(variant)}"
                home.mkdir()
                taken, events = watch(model, urls.get(variant, ""), home, await_broker=variant == CONNECTED)
                times[variant].append(taken)
    plain = [np.concatenate(both) for both in zip(times[WITHOUT], times[AGAIN], strict=True)]
    compared = {variant: compare(plain, times[variant]) for variant in (CONNECTED, AWAY)}
    return {
        "rounds": rounds,
        "frames": FRAMES - WARM_UP,
        "events_per_second": events / FRAMES * FPS,
        "p99": {variant: float(np.percentile(np.concatenate(times[variant]), 99)) for variant in VARIANTS},
        "compared": compared | {AGAIN: compare(times[WITHOUT], times[AGAIN])},
    }


def watch(model: Model, url: str, folder: Path, *, await_broker: bool) -> tuple[NDArray[np.float64], int]:
    """One turn, from the scene's beginning: what the daemon's vision thread does, at a camera's pace, with a log.

    Returns:
        Seconds `float64[FRAMES - WARM_UP]` that each frame took until its events had been handed to the sinks, without
        the drawing of it; and how many events there were in all.
    """
    config = Config()
    config = replace(
        config,
        log=replace(config.log, path=folder / "events.jsonl"),
        mqtt=replace(config.mqtt, url=url),
    )
    reporter = Reporter(
        device="bench", labels=model.labels, model=model.name, start=1, every=REPORT_EVERY,
        now=lambda _: datetime.now(UTC), clock_synced=lambda: True,
    )  # fmt: skip
    vision = make_vision(config, model, reporter, make_detector(config), make_eyes(config))
    supervisor = Supervisor()
    output = Output(supervisor, tuple(model.labels))
    taken, events = np.zeros(FRAMES), 0
    output.open(config, "bench", folder, None, live=True, patient=False)
    try:
        if await_broker and (output.mqtt is None or not output.mqtt.wait_connected(10.0)):
            raise MienError("the broker does not answer")
        with open_camera(SCENE) as camera:
            start = time.monotonic()
            for index in range(FRAMES):
                frame = camera.read()
                if frame is None:
                    raise MienError(f"{SCENE} ended too soon")
                time.sleep(max(0.0, start + index / FPS - time.monotonic()))
                began = time.perf_counter()
                seen = vision.look(frame)
                output.take(seen)
                taken[index] = time.perf_counter() - began
                events += len(seen.events)
    finally:
        output.bring_out(insist=False, hurry=False)
    if supervisor.failure is not None:
        raise supervisor.failure
    return taken[WARM_UP:], events


def compare(plain: Sequence[NDArray[np.float64]], other: Sequence[NDArray[np.float64]]) -> Mapping[str, float]:
    """The ratio of two 99th percentiles, and between which it lies in 95 of 100 cases, had other rounds been had.

    Args:
        plain: seconds of each frame, of each round.
        other: likewise, of the same rounds; rounds are drawn together (paired bootstrap).
    """
    before, after = np.stack(plain), np.stack(other)
    drawn = np.random.default_rng(0).integers(0, len(before), (RESAMPLES, len(before)))
    ratios = [np.percentile(after[rows], 99) / np.percentile(before[rows], 99) for rows in drawn]
    low, high = np.percentile(ratios, (2.5, 97.5)).tolist()
    return {"ratio": float(np.percentile(after, 99) / np.percentile(before, 99)), "low": low, "high": high}


def is_longer(compared: Mapping[str, Mapping[str, float]], variant: str) -> bool:
    """Whether a variant's 99th percentile is longer, and by more than that of no MQTT differs from itself."""
    how, noise = compared[variant], compared[AGAIN]
    return how["low"] > 1.0 and how["ratio"] > max(noise["high"], 1.0 / noise["low"])
