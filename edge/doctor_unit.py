"""How the service is, as systemd tells it."""

from __future__ import annotations

from edge.doctor_finding import Finding, Subject, fault, not_here, ok, warning
from edge.doctor_service import UNIT, Service

LOG_ADVICE = f"see why: journalctl -u {UNIT} -n 50"

EXIT_ADVICE = {
    "64": "its command line is wrong: systemctl cat mien",
    "66": "a file that the configuration names is not there; see configuration, cascade and model",
    "69": "the camera or the interpreter cannot be had; see camera and interpreter",
    "73": "it cannot write; see disk and folders",
    "78": "its configuration is wrong; see configuration",
}
"""What the exit codes of `mien run` mean, which end a service."""


def check_service(subject: Subject) -> Finding:
    """Whether the service runs, will run after the next boot, and has not been started again and again."""
    service = subject.service
    if service is None:
        return not_here("systemd is not running here")
    if not service.installed:
        return not_here(f"no {UNIT} is installed", "to have Mien run by itself, install it with systemd/install.sh")
    if service["LoadState"] != "loaded":
        return fault(
            f"{UNIT} is {service['LoadState']}", f"see what is wrong with it: systemctl status {UNIT}; install it anew"
        )
    return _judge(service)


def _judge(service: Service) -> Finding:
    state, restarts, code = service["ActiveState"], service["NRestarts"] or "0", service["ExecMainStatus"] or "0"
    again = "" if restarts == "0" else f", started again {restarts} times by systemd"
    ended = "" if code == "0" else f", last exit code {code}"
    found = f"{UNIT} is {state} ({service['SubState']}){again}{ended}"
    why = "; ".join(filter(None, [EXIT_ADVICE.get(code, ""), LOG_ADVICE]))
    if state == "failed" or (state == "activating" and (again or service["SubState"] == "auto-restart")):
        return fault(f"{found}, {service['Result']}", why)
    if state not in {"active", "reloading", "activating"}:
        return warning(found, f"start it: sudo systemctl enable --now {UNIT}")
    if again:
        return warning(found, why)
    if service["UnitFileState"] == "disabled":
        return warning(f"{found}, but not started at boot", f"sudo systemctl enable {UNIT}")
    return ok(found)
