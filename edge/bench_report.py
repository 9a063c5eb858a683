"""A measurement as numbers (`mien bench --json`) and as a table."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge import __version__, bench_naive, bench_score
from edge.bench import Look, Measurement
from edge.bench_meter import Times
from edge.bench_score import agreement, false_faces, recall, stable_faces
from edge.config import Config
from edge.frame import Box
from edge.interpreter import MODULES

SCHEMA = "mien/bench/1"

STAGES: Mapping[str, Callable[[Times], float]] = {
    "haar": lambda times: times.haar,
    "interpreter": lambda times: times.interpreter,
    "own": lambda times: times.own,
    "total": lambda times: times.total,
    "classification": lambda times: times.classify,
    "total_without_classification": lambda times: times.unclassified,
}
"""The first three add up to the fourth; `classification` is the interpreter with crop and softmax."""

PERCENTILES = (50, 95, 99)

MISSED_SHOWN = 12


def summarize(done: Measurement, config: Config) -> dict[str, Any]:
    """Everything that is known of a measurement, fit for JSON; times are in milliseconds unless a key says else."""
    naive, mien = speed(done.naive), speed(done.mien)
    return {
        "schema": SCHEMA,
        "complete": not (done.interrupted or done.problems),
        "source": {"spec": done.spec, "frames": len(done.numbers), "size": list(done.size)},
        "naive": naive,
        "mien": mien,
        "ratio": ratios(naive, mien),
        "faces": compare(done),
        "truth": against_truth(done),
        "memory_mb": {
            "before": done.memory_before / 1e6,
            "after": done.memory_after / 1e6,
            "peak": done.memory_peak / 1e6,
        },
        "settings": {
            "threads": 1,
            "model": done.model,
            "naive": {
                "scale_factor": bench_naive.SCALE_FACTOR,
                "min_neighbors": bench_naive.MIN_NEIGHBORS,
                "min_size": bench_naive.MIN_SIZE,
            },
            "mien": {
                section: {key: str(value) if isinstance(value, Path) else value for key, value in keys.items()}
                for section, keys in asdict(config).items()
                if section in {"detector", "smoothing", "report"}
            },
            "same_iou": bench_score.SAME_IOU,
            "true_iou": bench_score.TRUE_IOU,
        },
        "machine": machine(),
        "versions": versions(),
    }


def speed(looks: Sequence[Look]) -> dict[str, Any]:
    """What one pipeline's looks cost: rates from the sums, percentiles over the frames."""
    costs = [look.cost for look in looks]
    stages = {stage: _spread([of(cost.wall) for cost in costs]) for stage, of in STAGES.items()}
    return {
        "frames_per_second": _over(1000.0, stages["total"]["mean"]),
        "frames_per_second_without_classification": _over(1000.0, stages["total_without_classification"]["mean"]),
        "ms": stages,
        "cpu_seconds_per_frame": {
            stage: float(np.mean([of(cost.cpu) for cost in costs])) for stage, of in STAGES.items()
        },
        "haar_calls_per_frame": float(np.mean([cost.haar_calls for cost in costs])),
        "haar_pixels_per_frame": float(np.mean([cost.haar_pixels for cost in costs])),
        "classifications_per_frame": float(np.mean([cost.classifications for cost in costs])),
        "faces_per_frame": float(np.mean([len(look.boxes) for look in looks])),
    }


def _spread(seconds: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles in milliseconds."""
    ms = np.array(seconds) * 1000.0
    return {"mean": float(ms.mean())} | {f"p{percent}": float(np.percentile(ms, percent)) for percent in PERCENTILES}


def ratios(naive: Mapping[str, Any], mien: Mapping[str, Any]) -> dict[str, float | None]:
    """How many of this pipeline's frames fit into one of the naive loop's, by the clock and by processor time.

    Args:
        naive: what `speed` tells of the naive loop.
        mien: and of this pipeline.
    """
    whole, without = "total", "total_without_classification"
    wall, cpu = (naive["ms"], mien["ms"]), (naive["cpu_seconds_per_frame"], mien["cpu_seconds_per_frame"])
    return {
        "frames_per_second": _over(wall[0][whole]["mean"], wall[1][whole]["mean"]),
        "frames_per_second_without_classification": _over(wall[0][without]["mean"], wall[1][without]["mean"]),
        "cpu": _over(cpu[0][whole], cpu[1][whole]),
        "cpu_without_classification": _over(cpu[0][without], cpu[1][without]),
    }


def compare(done: Measurement) -> dict[str, Any]:
    """Which faces the two found; the naive loop's stable ones are those that this pipeline shall find."""
    naive, mien, seen = _boxes(done)
    found = agreement(naive, mien)
    stable = stable_faces(naive)
    ours = recall(stable, mien)
    return {
        "both": found.both,
        "naive_only": found.first,
        "mien_only": found.second,
        "stable": ours.faces,
        "recall": ours.share,
        "recall_seen": recall(stable, seen).share,
        "missed_in": [done.numbers[at] for at in ours.missed],
    }


def against_truth(done: Measurement) -> dict[str, Any] | None:
    """Both against where the faces are, over the frames of which that is known; None where there is no such frame."""
    places = [at for at, number in enumerate(done.numbers) if number in done.truth]
    if not places:
        return None
    truth = [done.truth[done.numbers[at]] for at in places]
    naive, mien, seen = _boxes(done)

    def judge(found: Sequence[Sequence[Box]]) -> dict[str, Any]:
        boxes = [found[at] for at in places]
        hits = recall([known.faces for known in truth], boxes, bench_score.TRUE_IOU)
        false = false_faces(truth, boxes)
        return {
            "recall": hits.share,
            "false": sum(false),
            "missed_in": [done.numbers[places[at]] for at in hits.missed],
            "false_in": [done.numbers[at] for at, more in zip(places, false, strict=True) for _ in range(more)],
        }

    return {
        "frames": len(places),
        "faces": sum(len(known.faces) for known in truth),
        "naive": judge(naive),
        "mien": judge(mien),
        "mien_seen": judge(seen),
    }


def machine() -> dict[str, Any]:
    """Where this runs."""
    return {
        "architecture": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "system": platform.system() + " " + platform.release(),
    }


def versions() -> dict[str, str]:
    """What this runs with; of the interpreters the one that is in use."""
    found = {
        "mien": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
    }
    for package, module in MODULES.items():
        if module in sys.modules:
            found[package] = metadata.version(package)
    return found


def as_table(summary: Mapping[str, Any]) -> str:
    """The same for reading, without what only machines want."""
    return "\n\n".join([_head(summary), _stages(summary), _rates(summary), _found(summary)])


def _head(summary: Mapping[str, Any]) -> str:
    source, where = summary["source"], summary["machine"]
    width, height = source["size"]
    used = ", ".join(f"{name} {version}" for name, version in summary["versions"].items())
    stopped = "" if summary["complete"] else " (not all of it)"
    return (
        f"{source['spec']}{stopped}: {source['frames']} frames of {width}x{height}, model "
        f"{summary['settings']['model']}, 1 thread\n"
        f"{where['processor']}, {where['cores']} cores, load {where['load']:.1f}; {used}"
    )


def _stages(summary: Mapping[str, Any]) -> str:
    columns = "".join(f"{f'p{percent}':>9}" for percent in PERCENTILES) + f"{'CPU':>9}"
    lines = [f"{'':<22}{'naive':>9}{'':>27}   {'mien':>9}", f"{'ms per frame':<22}{columns}   {columns}"]
    for stage in STAGES:
        cells = "   ".join(
            "".join(f"{ms:9.3f}" for ms in [*_percentiles(summary[who], stage), _cpu_ms(summary[who], stage)])
            for who in ("naive", "mien")
        )
        lines.append(f"{_NAMES[stage]:<22}{cells}")
    return "\n".join(lines)


def _percentiles(pipeline: Mapping[str, Any], stage: str) -> list[float]:
    return [pipeline["ms"][stage][f"p{percent}"] for percent in PERCENTILES]


def _cpu_ms(pipeline: Mapping[str, Any], stage: str) -> float:
    return float(pipeline["cpu_seconds_per_frame"][stage] * 1000.0)


_NAMES = {
    "haar": "  Haar",
    "interpreter": "  interpreter",
    "own": "  the rest",
    "total": "total",
    "classification": "classification",
    "total_without_classification": "without classification",
}


def _rates(summary: Mapping[str, Any]) -> str:
    naive, mien, ratio = summary["naive"], summary["mien"], summary["ratio"]
    without = "_without_classification"
    rows: list[tuple[str, float, float, int, float | None]] = [
        (name, naive[key], mien[key], digits, ratio.get(key))
        for name, key, digits in (
            ("frames/s", "frames_per_second", 1),
            ("  without classification", f"frames_per_second{without}", 1),
        )
    ]
    rows += [
        (name, _cpu_ms(naive, f"total{end}"), _cpu_ms(mien, f"total{end}"), 2, ratio[f"cpu{end}"])
        for name, end in (("CPU ms per frame", ""), ("  without classification", without))
    ]
    rows += [
        (name, naive[key], mien[key], digits, None)
        for name, key, digits in (
            ("Haar calls per frame", "haar_calls_per_frame", 2),
            ("  pixels in them", "haar_pixels_per_frame", 0),
            ("classifications per frame", "classifications_per_frame", 2),
            ("faces per frame", "faces_per_frame", 2),
        )
    ]
    lines = [f"{'':<26}{'naive':>12}{'mien':>12}{'ratio':>9}"]
    lines += [
        f"{name:<26}{one:12,.{digits}f}{other:12,.{digits}f}" + ("" if times is None else f"{times:9.1f}")
        for name, one, other, digits, times in rows
    ]
    return "\n".join(lines)


def _found(summary: Mapping[str, Any]) -> str:
    faces, truth, memory = summary["faces"], summary["truth"], summary["memory_mb"]
    lines = []
    lines.append(
        f"faces   {faces['both']} found by both, {faces['naive_only']} by the naive loop alone, {faces['mien_only']} "
        "by mien alone"
    )
    lines.append(
        f"recall  {_share(faces['recall'])} of the {faces['stable']} that the naive loop finds in at least "
        f"{bench_score.STABLE} of {bench_score.NEIGHBORS} neighbouring frames"
        f"{_frames('missed in frame', faces['missed_in'])}"
    )
    if truth is not None:
        naive, mien = truth["naive"], truth["mien"]
        lines.append(
            f"truth   {truth['faces']} faces in {truth['frames']} frames; recall {_share(naive['recall'])} naive, "
            f"{_share(mien['recall'])} mien; false faces {naive['false']} naive, {mien['false']} mien"
            f"{_frames('these in frame', mien['false_in'])}"
        )
    if faces["recall_seen"] != faces["recall"]:
        kept = "" if truth is None else f", {truth['mien_seen']['false']} false faces"
        lines.append(f"        without the faces that mien remembers: recall {_share(faces['recall_seen'])}{kept}")
    lines.append(
        f"memory  {memory['before']:.0f} MB before, {memory['after']:.0f} MB after, {memory['peak']:.0f} MB at the "
        "peak (of this process, with both pipelines)"
    )
    return "\n".join(lines)


def _frames(what: str, numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    shown = sorted(set(numbers))
    more = ", ..." * (len(shown) > MISSED_SHOWN)
    return f"; {what} {', '.join(map(str, shown[:MISSED_SHOWN]))}{more}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _boxes(done: Measurement) -> tuple[list[Sequence[Box]], list[Sequence[Box]], list[Sequence[Box]]]:
    """Frame by frame: the naive loop's boxes, this pipeline's, and those of them that were seen in that very frame."""
    return [look.boxes for look in done.naive], [look.boxes for look in done.mien], [look.seen for look in done.mien]


def _over(one: float, other: float) -> float | None:
    """A ratio, None where a clock was too coarse to see anything."""
    return one / other if other > 0 else None


def _processor() -> str:
    """The board's name on a Pi, the processor's elsewhere."""
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8").strip("\0\n")
    except OSError:
        pass
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
