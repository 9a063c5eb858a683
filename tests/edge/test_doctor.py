"""The doctor itself: what it reads, in which order it looks, and that nothing hangs it or makes it show a secret."""

import threading
from pathlib import Path

import pytest

from edge import doctor
from edge.doctor import CHECKS, Check, examine, prepare, to_dict
from edge.doctor_finding import FAULT, NOT_HERE, OK, WARNING, Finding, fault, ok, together, warning
from edge.doctor_service import Runner
from edge.errors import BadDataError, UnavailableError

NOW = "2026-11-21T03:00:00.123Z"


def patient(tmp_path, text=None, *, environ=None, root=None):
    file = tmp_path / "mien.toml"
    if text is not None:
        file.write_text(text)
    return prepare(None, environ=environ or {}, root=root or tmp_path / "root", default_path=file)


def test_a_configuration_that_is_understood_is_named_with_what_overrides_it(tmp_path):
    subject = patient(tmp_path, '[source]\nspec = "synthetic"\n', environ={"MIEN_SOURCE_FPS": "5", "MIEN_DEBUG": "1"})
    assert subject.configuration == ok(f"{tmp_path}/mien.toml is understood; also MIEN_SOURCE_FPS")
    assert (subject.config.source.spec, subject.config.source.fps) == ("synthetic", 5.0)


def test_without_a_configuration_the_defaults_are_looked_at(tmp_path):
    assert patient(tmp_path).configuration == ok(f"no {tmp_path}/mien.toml; the defaults")


@pytest.mark.parametrize(
    ("text", "found", "advice"),
    [
        ("[source]\nspeck = 1\n", "line 2: unknown key source.speck", "did you mean source.spec?"),
        ("[detector]\nmin_neighbors = 'many'\n", "line 2: detector.min_neighbors is 'many'", "expected a whole number"),
        ("[mqtt\n", "no valid TOML", "put it right"),
        ('[mqtt]\nurl = "mqtt://me:hunter2@broker"\n', "has a password in its URL", "mqtt.password_file"),
    ],
)
def test_a_wrong_configuration_is_told_with_its_line_and_the_rest_is_looked_at(tmp_path, text, found, advice):
    subject = patient(tmp_path, text)
    findings = dict(examine(subject, ["memory", "camera", "broker"]))
    assert list(findings) == ["configuration", "memory", "camera", "broker"]
    wrong = findings["configuration"]
    assert (wrong.status, found in wrong.found, advice in wrong.advice) == (FAULT, True, True)
    assert "hunter2" not in str(findings)
    assert findings["camera"].status == findings["broker"].status == NOT_HERE


def test_a_configuration_that_is_named_and_not_there_is_a_fault(tmp_path):
    subject = prepare(tmp_path / "absent.toml", environ={}, root=tmp_path)
    assert (subject.configuration.status, "absent.toml" in subject.configuration.found) == (FAULT, True)


@pytest.fixture
def installed(machine, monkeypatch):
    """A machine whose systemd has the service, run by somebody who is in no group."""
    files = {"usr/bin/systemctl": "#!/bin/sh\necho LoadState=loaded\n", "run/systemd/system/x": ""}
    root = machine(files)
    (root / "usr/bin/systemctl").chmod(0o755)
    monkeypatch.setattr(doctor, "find_runner", lambda _: Runner("mien", 12345, frozenset(), ourselves=False))
    return root


def test_a_configuration_that_the_service_may_not_read_or_that_is_gone_is_a_fault(entered_path, installed):
    assert patient(entered_path, "", root=installed).configuration.status == OK
    (entered_path / "mien.toml").chmod(0o600)
    hidden = patient(entered_path, root=installed).configuration
    assert (hidden.status, "may not be read by mien" in hidden.found) == (FAULT, True)
    (entered_path / "mien.toml").unlink()
    gone = patient(entered_path, root=installed).configuration
    assert (gone.status, "there is no" in gone.found) == (FAULT, True)
    assert prepare(entered_path / "mien.toml", environ={}, root=installed).configuration.status == FAULT


def test_passwords_that_systemd_hands_to_the_service_are_the_daemons(tmp_path, machine):
    script = 'printf "LoadState=loaded\\nLoadCredential=mqtt-password:mien.mqtt-password\\n"'
    files = {"usr/bin/systemctl": f"#!/bin/sh\n{script}\n", "etc/credstore/mien.mqtt-password": "hunter2"}
    root = machine(files | {"run/systemd/system/x": ""})
    (root / "usr/bin/systemctl").chmod(0o755)
    subject = patient(tmp_path, '[mqtt]\nusername = "me"\n', root=root)
    assert subject.config.mqtt.password_file == root / "etc/credstore/mien.mqtt-password"
    assert subject.config.source.password_file is None
    named = patient(tmp_path, '[mqtt]\npassword_file = "/etc/mien/secret"\n', root=root)
    assert named.config.mqtt.password_file == Path("/etc/mien/secret")


@pytest.fixture
def checks(monkeypatch):
    """Checks that stand in for the real ones."""
    made = {}
    monkeypatch.setattr(doctor, "CHECKS", made)
    return made


def raises(error):
    def check(_):
        raise error

    return check


def test_a_check_that_hangs_is_given_up_and_the_next_one_made(checks, make_subject):
    over = threading.Event()
    checks["hangs"] = Check(lambda _: over.wait(30) and ok("at last"), seconds=0.2, advice="look at the driver")
    checks["next"] = Check(lambda _: ok("well"))
    findings = dict(examine(make_subject()))
    over.set()
    assert findings == {"hangs": fault("no answer within 0.2 s", "look at the driver"), "next": ok("well")}


def test_a_process_that_cannot_even_be_killed_hangs_nobody(checks, make_subject, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(doctor, "run_apart", lambda *_, **__: over.wait(30))
    monkeypatch.setattr(doctor, "SLACK", 0.1)
    checks["stuck"] = Check(lambda _: ok(""), seconds=0.1, apart=True)
    assert dict(examine(make_subject()))["stuck"].status == FAULT
    over.set()


@pytest.mark.parametrize(
    ("error", "found", "advice"),
    [
        (BadDataError("x.xml: not a cascade; leave it empty"), "x.xml: not a cascade", "leave it empty"),
        (BadDataError("x.xml: not a cascade"), "x.xml: not a cascade", "as the check has it"),
        (UnavailableError("none: a; b. To mend it, install a"), "none: a; b", "install a"),
        (ModuleNotFoundError("no paho", name="paho"), "paho is not installed in ", "install Mien anew"),
        (KeyError("scores"), "the check itself failed (KeyError: 'scores')", "as the check has it"),
    ],
)
def test_whatever_a_check_raises_is_a_fault_of_its_own(checks, make_subject, error, found, advice):
    checks["fails"] = Check(raises(error), advice="as the check has it")
    checks["next"] = Check(lambda _: ok("well"))
    findings = dict(examine(make_subject()))
    assert findings["fails"].status == FAULT
    assert findings["fails"].found.startswith(found)
    assert findings["fails"].advice.startswith(advice)
    assert findings["next"].status == OK


def test_no_finding_shows_a_password_steers_a_terminal_or_breaks_its_line(checks, make_subject):
    checks["loud"] = Check(lambda _: fault("at rtsp://me:hunter2@host\n\x1b[2J", "ask mqtt://a:hunter2@b"))
    finding = dict(examine(make_subject()))["loud"]
    assert finding == fault("at rtsp://***@host \\x1b[2J", "ask mqtt://***@b")


def test_all_checks_are_made_in_their_order_unless_some_are_named(make_subject):
    light = [name for name, check in CHECKS.items() if not check.apart]
    assert [name for name, _ in examine(make_subject(), light[::-1])] == light


def test_what_imports_more_than_pythons_own_library_runs_apart():
    heavy = {"numpy", "opencv", "cascade", "interpreter", "model", "libcamera", "camera", "broker", "name"}
    assert {name for name, check in CHECKS.items() if check.apart} == heavy


def test_a_warning_or_fault_without_advice_cannot_be_made():
    for status in (WARNING, FAULT, "nonsense"):
        with pytest.raises(ValueError, match="nothing to do"):
            Finding(status, "something")


def test_several_findings_are_as_grave_as_the_gravest_which_comes_first():
    both = together([ok("one"), warning("two", "mend it"), fault("three", "mend it"), fault("four", "buy a new one")])
    assert both == fault("three; four; two; one", "mend it; buy a new one")


def test_all_findings_make_one_object():
    told = to_dict({"a": ok("fine"), "b": warning("warm", "cool it")}, NOW)
    assert told["schema"] == "mien/doctor/1"
    assert (told["ts"], told["well"]) == (NOW, True)
    assert told["checks"][1] == {"name": "b", "status": "warning", "found": "warm", "advice": "cool it"}
    assert to_dict({"a": fault("dead", "bury it")}, NOW)["well"] is False
