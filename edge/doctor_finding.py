"""What `mien doctor` looks at, and what a check says of it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.config import Config
from edge.doctor_service import Runner, Service

OK, WARNING, FAULT, NOT_HERE = STATUSES = ("ok", "warning", "fault", "not here")
"""All is well; Mien runs, but look after it; Mien does not run or not as it is configured; there is no such thing."""

GRAVITY = (NOT_HERE, OK, WARNING, FAULT)
"""The statuses, the worst last."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check says.

    Attributes:
        status: one of `STATUSES`.
        found: what was found, in one line.
        advice: what to do next, in one line; never empty with a warning or a fault.
    """

    status: str
    found: str
    advice: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES or (self.status in {WARNING, FAULT} and not self.advice):
            raise ValueError(f"a finding of status {self.status!r} that says nothing to do: {self.found}")


@dataclass(frozen=True, slots=True)
class Subject:
    """The machine and the installation that are examined.

    Attributes:
        config: as the daemon would read it; the defaults where it is wrong.
        configuration: what became of reading it.
        environ: the environment.
        runner: who runs Mien here.
        service: what systemd knows of it; None where there is no systemd.
        root: where the machine's files lie.
        prefix: where the Python environment lies.
        base_prefix: where the Python lies that it was made with.
    """

    config: Config
    configuration: Finding
    environ: Mapping[str, str]
    runner: Runner
    service: Service | None = None
    root: Path = Path("/")
    prefix: Path = Path(sys.prefix)
    base_prefix: Path = Path(sys.base_prefix)


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(OK, found)


def warning(found: str, advice: str) -> Finding:
    """Mien runs, but somebody should look after it."""
    return Finding(WARNING, found, advice)


def fault(found: str, advice: str) -> Finding:
    """Mien does not run, or not as it is configured."""
    return Finding(FAULT, found, advice)


def not_here(found: str, advice: str = "") -> Finding:
    """There is nothing to be examined."""
    return Finding(NOT_HERE, found, advice)


def told(error: Exception, advice: str) -> Finding:
    """A fault in the words of one of Mien's errors, which say what to do after these words or after a semicolon.

    Args:
        error: the error.
        advice: what to do where it does not say.
    """
    mends = ". To mend it, "
    found, _, says = str(error).partition(mends if mends in str(error) else "; ")
    return fault(found, says or advice)


def together(findings: list[Finding]) -> Finding:
    """Several findings as one, which is as grave as the gravest; advice comes from the graver ones alone."""
    findings = sorted(findings, key=lambda finding: -GRAVITY.index(finding.status))
    advice = dict.fromkeys(finding.advice for finding in findings if finding.advice)
    return Finding(findings[0].status, "; ".join(finding.found for finding in findings), "; ".join(advice))


def first_line(path: Path) -> str:
    """The first line of a file of the system's, without its break; empty where it cannot be read."""
    return content(path).partition("\n")[0].strip("\0 ")


def content(path: Path, longest: int = 65536) -> str:
    """The beginning of a file of the system's; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(longest).decode(errors="replace")
    except OSError:
        return ""
