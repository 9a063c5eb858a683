"""`mien doctor`: looks at what goes wrong in real life, one check after the other.

No check can hang or crash the doctor: each has a time limit, and what imports more than Python's own library runs in
a process of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge import __version__
from edge.commandline import shown
from edge.config import DEFAULT_PATH, Config, load_config
from edge.doctor_apart import run_apart
from edge.doctor_broker import check_broker, check_name
from edge.doctor_camera import check_camera
from edge.doctor_disk import check_disk, check_folders, check_wear
from edge.doctor_finding import FAULT, Finding, Subject, fault, not_here, ok, told
from edge.doctor_machine import check_clock, check_memory, check_power, check_processor, check_temperature
from edge.doctor_model import check_model
from edge.doctor_service import ask_systemd, find_runner
from edge.doctor_software import (
    check_cascade,
    check_interpreter,
    check_libcamera,
    check_numpy,
    check_opencv,
)
from edge.doctor_unit import check_service
from edge.errors import MienError

SCHEMA = "mien/doctor/1"

CONFIGURATION = "configuration"

INSTALL_ADVICE = "install Mien anew into its environment, or on Raspberry Pi OS by the installer"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        call: looks at it.
        seconds: how long that may take.
        apart: whether it needs a process of its own, since it imports what may crash, or hangs in C.
        configured: whether it says nothing where the configuration is wrong.
        advice: what to do where it hangs or crashes.
    """

    call: Callable[[Subject], Finding]
    seconds: float = 10.0
    apart: bool = False
    configured: bool = False
    advice: str = "look for a hanging disk or driver: dmesg | tail"

    def run(self, subject: Subject) -> Finding:
        """Look, here and now; whatever it raises is a fault."""
        try:
            return self.call(subject)
        except MienError as error:
            return told(error, self.advice)
        except ModuleNotFoundError as error:
            return fault(f"{error.name} is not installed in {subject.prefix}", INSTALL_ADVICE)
        except Exception as error:  # one check that is wrong must not keep the others from being heard
            return fault(f"the check itself failed ({type(error).__name__}: {error})", self.advice)


BROKER_ADVICE = "look whether the name server answers: getent hosts BROKER"
CAMERA_ADVICE = "look for a hanging driver: dmesg | tail; take the camera's cable or plug out and in, and start again"

CHECKS: Mapping[str, Check] = {
    CONFIGURATION: Check(lambda subject: subject.configuration),
    "service": Check(check_service),
    "processor": Check(check_processor),
    "memory": Check(check_memory),
    "temperature": Check(check_temperature),
    "power": Check(check_power),
    "clock": Check(check_clock),
    "disk": Check(check_disk, configured=True),
    "wear": Check(check_wear, configured=True),
    "folders": Check(check_folders, configured=True),
    "numpy": Check(check_numpy, 60.0, apart=True, advice=INSTALL_ADVICE),
    "opencv": Check(check_opencv, 60.0, apart=True, advice=INSTALL_ADVICE),
    "cascade": Check(check_cascade, 60.0, apart=True, configured=True, advice=INSTALL_ADVICE),
    "interpreter": Check(check_interpreter, 60.0, apart=True, advice=INSTALL_ADVICE),
    "model": Check(check_model, 60.0, apart=True, configured=True, advice=INSTALL_ADVICE),
    "libcamera": Check(check_libcamera, 60.0, apart=True, configured=True, advice=CAMERA_ADVICE),
    "camera": Check(check_camera, 90.0, apart=True, configured=True, advice=CAMERA_ADVICE),
    "broker": Check(check_broker, 45.0, apart=True, configured=True, advice=BROKER_ADVICE),
    "name": Check(check_name, 30.0, apart=True, configured=True, advice=BROKER_ADVICE),
}
"""By name, in the order in which they are made: what others stand on comes first."""

SLACK = 5.0
"""Seconds by which a check's thread outlives its process, lest one that cannot even be killed hangs the doctor."""


def prepare(
    path: Path | None, *, environ: Mapping[str, str], root: Path = Path("/"), default_path: Path = DEFAULT_PATH
) -> Subject:
    """Read the configuration and ask systemd, for all checks. Never raises because of what it finds.

    Args:
        path: the configuration that somebody named; None for the default one.
        environ: the environment.
        root: where the machine's files lie.
        default_path: the configuration for `path=None`, where it is there.
    """
    service = ask_systemd(root)
    runner = find_runner(service)
    try:
        config = load_config(path, environ=environ, overrides={}, default_path=default_path)
    except MienError as error:
        advice = "put it right; docs/mien.toml has every key with its default"
        return Subject(Config(), told(error, advice), environ, runner, service, root)
    if service is not None:
        held = service.credentials
        mqtt, source = config.mqtt, config.source
        config = replace(
            config,
            mqtt=replace(mqtt, password_file=mqtt.password_file or held.get("mqtt-password")),
            source=replace(source, password_file=source.password_file or held.get("source-password")),
        )
    subject = Subject(config, _read(path or default_path, environ), environ, runner, service, root)
    return subject if path is not None else replace(subject, configuration=_as_the_service(subject, default_path))


def _as_the_service(subject: Subject, file: Path) -> Finding:
    """What the service makes of its configuration, which we may read."""
    if subject.service is None or not subject.service.installed:
        return subject.configuration
    if not file.exists():
        return fault(
            f"there is no {file}, without which the service does not start",
            f"sudo install -D -m 644 /usr/share/doc/mien/mien.toml {file}",
        )
    if not subject.runner.may(file, os.R_OK):
        return fault(
            f"{file} may not be read by {subject.runner.name}, which runs the service",
            f"sudo chmod a+rx {file.parent} && sudo chmod a+r {file}",
        )
    return subject.configuration


def _read(file: Path, environ: Mapping[str, str]) -> Finding:
    found = f"{file} is understood" if file.exists() else f"no {file}; the defaults"
    variables = sorted(name for name in environ if name.startswith("MIEN_") and name != "MIEN_DEBUG")
    return ok(f"{found}; also {', '.join(variables)}" if variables else found)


def examine(subject: Subject, names: Sequence[str] = ()) -> Iterator[tuple[str, Finding]]:
    """Make the checks, one after the other: a small Pi has no memory for several.

    Args:
        subject: what is examined.
        names: which checks; none: all. Where the configuration is wrong that is told in any case.
    """
    broken = subject.configuration.status == FAULT
    for name, check in CHECKS.items():
        if names and name not in names and not (broken and name == CONFIGURATION):
            continue
        if broken and check.configured:
            yield name, not_here("not looked at, as the configuration is wrong", "put the configuration right first")
        else:
            yield name, _within_limits(name, check, subject)


def _within_limits(name: str, check: Check, subject: Subject) -> Finding:
    found: list[Finding] = []

    def work() -> None:
        run = run_apart(name, subject, check.seconds, advice=check.advice) if check.apart else check.run(subject)
        found.append(run)

    thread = threading.Thread(target=work, name=f"check {name}", daemon=True)
    thread.start()
    thread.join(check.seconds + (SLACK if check.apart else 0.0))
    finding = found[0] if found else fault(f"no answer within {check.seconds:g} s", check.advice)
    return Finding(finding.status, _line(finding.found), _line(finding.advice))


def _line(text: str) -> str:
    return shown(" ".join(text.split()))


def to_dict(findings: Mapping[str, Finding], at: str) -> dict[str, Any]:
    """All findings as one object for JSON; `at` is when, RFC 3339."""
    checks = [
        {"name": name, "status": finding.status, "found": finding.found, "advice": finding.advice}
        for name, finding in findings.items()
    ]
    well = all(finding.status != FAULT for finding in findings.values())
    return {"schema": SCHEMA, "ts": at, "version": __version__, "well": well, "checks": checks}
