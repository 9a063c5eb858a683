"""All that the report says of a network, measured: calibration, sureness, bad pictures, parts of the face, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer import robustness, sensitivity
from trainer.calibration import Reliability, fit_temperature, probabilities, reliability, risk_by_coverage
from trainer.datasets import Split
from trainer.evaluation import Classifier, Evaluation, evaluate
from trainer.readers import Progress
from trainer.sensitivity import Sensitivity
from trainer.thresholds import PRECISION, Naming, fit_thresholds, name_sure

SAMPLES = 1000
"""Faces for each bad picture's severity; at 0.5 ms a face the whole takes under a minute."""

FACES_A_LABEL = 60
"""Faces of each label for the parts of the face, of `SAMPLES`; each is looked at 64 times."""

OWN_TEMPERATURE = "with the model file's own temperature"
COVERAGES = (0.9, 0.8, 0.7)
MISTAKES = 24

ENOUGH_FOR_NOBODY = 200
"""From so many faces on their mean is shown, out of focus, lest it show whom a small data set is about."""

Ask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Gives the logits of faces."""


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy while one thing gets worse.

    Attributes:
        name: of that thing.
        levels: how far, from undisturbed on.
        meanings: of each level, in words.
        accuracy, macro_f1: `float`, one for each level.
    """

    name: str
    levels: tuple[float, ...]
    meanings: tuple[str, ...]
    accuracy: tuple[float, ...]
    macro_f1: tuple[float, ...]

    def to_list(self) -> list[dict[str, Any]]:
        """Plain values for JSON, one for each level."""
        return [
            {"level": level, "meaning": meaning, "accuracy": round(accuracy, 5), "macro_f1": round(macro_f1, 5)}
            for level, meaning, accuracy, macro_f1 in zip(
                self.levels, self.meanings, self.accuracy, self.macro_f1, strict=True
            )
        ]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        place: in the split.
        row: in the data set's source, counted from 0.
        file: within the data set's folder; empty where it is not to be told.
        truth, answer: labels.
        confidence: calibrated, 0 to 1.
    """

    place: int
    row: int
    file: str
    truth: str
    answer: str
    confidence: float


@dataclass(frozen=True, eq=False)
class Examination:
    """Everything measured.

    Attributes:
        evaluation: of the whole split.
        temperature: fitted on the validation split; all confidences below are calibrated by it.
        own_temperature: the model file's; None where it has none.
        reliabilities: by what the logits were divided by, in words.
        risk: `float64[n]`, see `trainer.calibration.risk_by_coverage`.
        precision: what the thresholds were asked for.
        naming: what thresholds fitted on the validation split leave of this one.
        own_naming: what the model file's own temperature and thresholds leave; None where it has none.
        samples: faces for each level of the curves.
        corruptions, sizes, jitters: see `trainer.robustness`.
        parts: see `trainer.sensitivity`.
        mistakes: the most confident wrong answers, worst first.
        mean_face: `uint8[size, size]` over the whole split, out of focus; None where there are too few for it to show
            nobody.
    """

    evaluation: Evaluation
    temperature: float
    own_temperature: float | None
    reliabilities: dict[str, Reliability]
    risk: NDArray[np.float64]
    precision: float
    naming: Naming
    own_naming: Naming | None
    samples: int
    corruptions: tuple[Curve, ...]
    sizes: Curve
    jitters: Curve
    parts: Sensitivity
    mistakes: tuple[Mistake, ...]
    mean_face: NDArray[np.uint8] | None

    def accuracy_at(self, coverage: float) -> float:
        """Accuracy on the most confident share of the faces."""
        return 1 - float(self.risk[max(1, round(coverage * len(self.risk))) - 1])

    @property
    def area_under_risk(self) -> float:
        """Mean risk over all coverages, 0 to 1; the lower, the better the confidence tells right from wrong."""
        return float(self.risk.mean())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        labels = self.evaluation.labels
        return {
            **self.evaluation.to_dict(),
            "calibration": {
                "temperature": self.temperature,
                "own_temperature": self.own_temperature,
                "expected_calibration_error": {name: round(each.error, 5) for name, each in self.reliabilities.items()},
            },
            "risk_coverage": {
                "area": round(self.area_under_risk, 5),
                "accuracy_at": {f"{coverage:.0%}": round(self.accuracy_at(coverage), 5) for coverage in COVERAGES},
            },
            "thresholds": {"precision": self.precision, **self.naming.to_dict()},
            "own_thresholds": self.own_naming and self.own_naming.to_dict(),
            "samples": self.samples,
            "robustness": {curve.name: curve.to_list() for curve in self.corruptions},
            "face_size": self.sizes.to_list(),
            "jitter": self.jitters.to_list(),
            "parts_of_the_face": {
                label: {"faces": int(self.parts.count[i]), "drop": np.round(self.parts.drop[i], 5).tolist()}
                for i, label in enumerate(labels)
            },
            "worst_mistakes": [
                {
                    "row": each.row,
                    **({"file": each.file} if each.file else {}),
                    "truth": each.truth,
                    "answer": each.answer,
                    "confidence": round(each.confidence, 5),
                }
                for each in self.mistakes
            ],
        }


def examine(
    classifier: Classifier,
    split: Split,
    validation: Split,
    *,
    copied: NDArray[np.bool_] | None = None,
    files: Sequence[str] = (),
    samples: int = SAMPLES,
    precision: float = PRECISION,
    seed: int = 0,
    progress: Progress | None = None,
) -> Examination:
    """Measure everything.

    Args:
        classifier: the network.
        split: what it is examined on.
        validation: what temperature and thresholds are fitted on; may be `split` itself.
        copied: `bool[len(split)]`, images that stand in the training split too; None where not asked.
        files: `trainer.datasets.Dataset.files`, where mistakes are to be called by them: they may tell who somebody is.
        samples: faces that the costly parts use; all where there are fewer.
        precision: see `trainer.thresholds.fit_thresholds`.
        seed: chooses those faces and what is done to them.
        progress: told of faces done and their number.
    """
    size, labels = split.images.shape[1], classifier.labels
    chosen = robustness.sample(split.labels, samples, seed)
    each = max(1, samples * FACES_A_LABEL // SAMPLES)
    slid = sensitivity.choose(split.labels, len(labels), each, seed)
    levels = sum(len(kind.levels) for kind in robustness.CORRUPTIONS)
    levels += len(robustness.face_sizes(size)) - 1 + len(robustness.JITTERS) - 1
    total = len(split) + len(chosen) * levels + len(slid) * sensitivity.STEPS**2
    ask = _counted(classifier, total + (0 if validation is split else len(validation)), progress)

    logits = ask(split.images)
    fitted_on = logits if validation is split else ask(validation.images)
    temperature = fit_temperature(fitted_on, validation.labels)
    thresholds = fit_thresholds(probabilities(fitted_on, temperature), validation.labels, labels, precision=precision)
    shares = probabilities(logits, temperature)
    confidence, right = shares.max(axis=1), logits.argmax(axis=1) == split.labels
    corruptions, sizes, jitters = _curves(split.images[chosen], split.labels[chosen], logits[chosen], labels, ask, seed)
    return Examination(
        evaluation=evaluate(logits, split.labels, labels, copied=copied),
        temperature=temperature,
        own_temperature=classifier.temperature,
        reliabilities=_reliabilities(logits, right, temperature, classifier.temperature),
        risk=risk_by_coverage(confidence, right),
        precision=precision,
        naming=name_sure(shares, split.labels, thresholds),
        own_naming=None
        if classifier.thresholds is None
        else name_sure(probabilities(logits, classifier.temperature or 1.0), split.labels, classifier.thresholds),
        samples=len(chosen),
        corruptions=corruptions,
        sizes=sizes,
        jitters=jitters,
        parts=sensitivity.measure(
            split.images[slid],
            split.labels[slid],
            shares[slid],
            lambda faces: probabilities(ask(faces), temperature),
        ),
        mistakes=_worst(split, files, labels, shares, right),
        mean_face=_mean_face(split.images) if len(split) >= ENOUGH_FOR_NOBODY else None,
    )


def _mean_face(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What faces have in common: where eyes and mouth are, and nothing finer."""
    mean = np.rint(images.mean(axis=0)).astype(np.uint8)
    return robustness.blur(mean[np.newaxis], percent=3.0)[0]


def _counted(classifier: Classifier, total: int, progress: Progress | None) -> Ask:
    """The classifier's logits, with what was asked before counted into its progress."""
    before = 0

    def ask(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        nonlocal before
        logits = classifier.logits(images, lambda done, _: progress(before + done, total) if progress else None)
        before += len(images)
        return logits

    return ask


def _reliabilities(
    logits: NDArray[np.float32], right: NDArray[np.bool_], temperature: float, own: float | None
) -> dict[str, Reliability]:
    by = {"as the network says it": 1.0, "with the fitted temperature": temperature}
    if own is not None:
        by[OWN_TEMPERATURE] = own
    return {name: reliability(probabilities(logits, value).max(axis=1), right) for name, value in by.items()}


def _curves(
    faces: NDArray[np.uint8],
    truth: NDArray[np.int64],
    logits: NDArray[np.float32],
    labels: tuple[str, ...],
    ask: Ask,
    seed: int,
) -> tuple[tuple[Curve, ...], Curve, Curve]:
    """Corruptions, face sizes and jitter; `logits` are those of the undisturbed faces."""

    def curve(
        name: str, levels: Sequence[float], meanings: Sequence[str], disturbed: Sequence[NDArray[np.uint8] | None]
    ) -> Curve:
        results = [evaluate(logits if views is None else ask(views), truth, labels) for views in disturbed]
        return Curve(
            name,
            tuple(levels),
            tuple(meanings),
            tuple(result.accuracy for result in results),
            tuple(result.macro_f1 for result in results),
        )

    corruptions = tuple(
        curve(
            kind.name,
            range(6),
            ["undisturbed", *(kind.describe(severity) for severity in range(1, 6))],
            [None, *(kind.apply(faces, level, seed + place) for place, level in enumerate(kind.levels))],
        )
        for kind in robustness.CORRUPTIONS
    )
    size = faces.shape[1]
    sides = robustness.face_sizes(size)
    sizes = curve(
        "face size",
        sides,
        [f"{side} x {side} px" for side in sides],
        [None if side == size else robustness.shrink(faces, side) for side in sides],
    )
    jitters = curve(
        "jitter of the crop",
        robustness.JITTERS,
        [f"{times:g} times the spread" if times else "the crop as it is" for times in robustness.JITTERS],
        [robustness.jitter(faces, times, seed) if times else None for times in robustness.JITTERS],
    )
    return corruptions, sizes, jitters


def _worst(
    split: Split, files: Sequence[str], labels: tuple[str, ...], shares: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(~right)
    confidence = shares.max(axis=1)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return tuple(
        Mistake(
            int(place),
            int(split.rows[place]),
            files[split.rows[place]] if files else "",
            labels[split.labels[place]],
            labels[int(shares[place].argmax())],
            float(confidence[place]),
        )
        for place in worst
    )
