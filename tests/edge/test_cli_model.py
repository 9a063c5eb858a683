"""`mien model`, as a person meets it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import edge.control
from edge import cli_model, model_change, model_install, model_store
from edge.cli import main, make_parser
from edge.control import Presence, open_folder
from edge.labels import FER2013_LABELS
from edge.model_store import (
    FOLDER,
    SHIPPED,
    begin,
    confirm,
    entry_of,
    give_up,
    path_of,
    read_choice,
    short,
    stored,
    use,
)
from edge.modelfile import SHIPPED as SHIPPED_FILE
from edge.modelfile import read_model_file

ROOT = Path(__file__).parents[2]
GREY, COLOUR = (Path(__file__).parent / f"models/{name}.tflite" for name in ("grey_int8_logits", "rgb_uint8_softmax"))
A, B = (entry_of(path.stem, read_model_file(path).sha256) for path in (GREY, COLOUR))


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch) -> None:
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MIEN_MODEL_LABELS", ",".join(FER2013_LABELS))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(edge.control, "SERVICE", tmp_path / "service")


@pytest.fixture
def state(tmp_path) -> Path:
    return tmp_path / "home/mien"


@pytest.fixture
def folder(state) -> Path:
    """With two models; the first has come up."""
    folder = open_folder(state, shared=False, name=FOLDER)
    for entry, source in ((A, GREY), (B, COLOUR)):
        shutil.copy(source, path_of(folder, entry))
    use(folder, A), confirm(folder, A)
    return folder


def mien(*arguments: object) -> int:
    return main(["model", *map(str, arguments)])


def listed(capsys) -> dict:
    assert mien("list", "--json") == 0
    return json.loads(capsys.readouterr().out)


# Installing and choosing


def test_a_file_is_installed_tried_and_chosen(state, tmp_path, capsys):
    source = shutil.copy(GREY, tmp_path / "mine.tflite")
    assert mien("install", source) == 0
    said = capsys.readouterr().out.splitlines()
    name = short(entry_of("mine", A.rpartition("@")[2]))
    assert said[0] == f"{name} is installed: 6,832 bytes, not signed"
    assert said[1].startswith("it holds no self-test; it reads a photograph of a smile as ")
    assert "ms a face (the one that comes with Mien: " in said[1]
    assert said[2] == f"{name} is chosen; the model that comes with Mien is kept to fall back to"
    assert said[3] == "no daemon runs before a camera; the next one that starts uses it"
    assert mien("list") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == ["model", "bytes"]
    assert shown[1].endswith("shipped, previous")
    assert shown[2] == f"{name}            6,832  used, on trial"


def test_a_signature_that_nobody_checked_is_not_passed_over_in_silence(state, tmp_path, capsys):
    path = tmp_path / "mine.tflite"
    path.write_bytes(GREY.read_bytes())
    path.with_name("mine.tflite.sig").write_bytes(b"x" * 64)
    assert mien("install", path, "--no-use", "--unsigned") == 0
    assert "its signature was not checked" in capsys.readouterr().out


def test_one_that_fails_changes_nothing(folder, tmp_path, capsys):
    (tmp_path / "half.tflite").write_bytes(SHIPPED_FILE.read_bytes()[:1_000_000])
    before = sorted(path.name for path in folder.iterdir())
    assert mien("install", tmp_path / "half.tflite") == 65
    assert "half.tflite: " in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == before
    assert read_choice(folder).current == A


def test_no_use_only_keeps_it_and_json_is_all_that_is_printed(state, capsys):
    assert mien("install", GREY, "--no-use", "--json") == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert told["schema"] == "mien/models/1"
    assert (told["installed"]["name"], told["installed"]["bytes"], told["installed"]["signed_by"]) == (
        GREY.stem,
        6832,
        None,
    )
    assert [model["used"] for model in told["models"]] == [True, False]
    assert f"{short(A)} is installed" in said.err
    assert read_choice(state / FOLDER) == model_store.Choice()


def test_using_rolling_back_and_removing(folder, capsys):
    assert mien("use", COLOUR.stem) == 0
    assert f"{short(B)} is chosen; {short(A)} is kept to fall back to" in capsys.readouterr().out
    assert mien("use", COLOUR.stem) == 0  # still on trial
    confirm(folder, B)
    capsys.readouterr()
    assert mien("use", COLOUR.stem) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{short(B)} is in use already"
    assert mien("rollback") == 0
    assert read_choice(folder) == model_store.Choice(current=A, previous=B, starts=0)
    assert mien("remove", GREY.stem) == 64
    assert "is in use; use another one first, such as mien model use shipped" in capsys.readouterr().err
    assert mien("remove", COLOUR.stem, "--json") == 0
    assert [model["name"] for model in json.loads(capsys.readouterr().out.splitlines()[-1])["models"]][1:] == [short(A)]


def test_with_nothing_to_go_back_to_it_says_so(state, capsys):
    assert mien("rollback") == 64
    assert "no other model was used before this one" in capsys.readouterr().err


def test_a_model_that_no_longer_passes_its_trial_is_not_chosen(folder, capsys):
    path_of(folder, B).write_bytes(COLOUR.read_bytes() + b"\0")
    assert mien("use", COLOUR.stem) == 65
    assert "damaged: its SHA-256" in capsys.readouterr().err
    assert read_choice(folder).current == A
    assert [model["damaged"] for model in listed(capsys)["models"]] == [False, False, True]


def test_what_was_given_up_is_told(folder, capsys):
    give_up(folder, A, "it crashed")
    assert mien("list") == 0
    assert f"{short(A)} was given up: it crashed" in capsys.readouterr().out
    told = listed(capsys)
    assert (told["refused"], told["why"], told["on_trial"]) == (short(A), "it crashed", False)


def test_a_damaged_choice_is_told(folder, capsys):
    (folder / "choice.json").write_text("{")
    assert mien("list") == 0
    assert "choice.json is damaged: 'mien model use' chooses again" in capsys.readouterr().out


def test_the_configurations_model_wins_and_each_command_says_so(folder, capsys, monkeypatch):
    monkeypatch.setenv("MIEN_MODEL_PATH", "/srv/own.tflite")
    note = "the configuration names /srv/own.tflite in [model] path, which wins"
    for command in (("list",), ("use", COLOUR.stem), ("rollback",)):
        assert mien(*command) == 0
        assert note in capsys.readouterr().out
    assert listed(capsys)["configured"] == "/srv/own.tflite"


def test_a_wrong_configuration_keeps_nobody_from_going_back(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MIEN_MODEL_THREADS", "many")
    assert mien("rollback") == 0
    assert "note: the configuration is passed over: " in capsys.readouterr().err
    assert read_choice(folder).current == SHIPPED
    (tmp_path / "mien.toml").write_text("[model]\nthread = 1\n")
    assert mien("list", "--config", tmp_path / "mien.toml") == 78


def test_erasing_removes_no_models(folder):
    assert main(["erase", "--yes", "--local-only"]) == 0
    assert stored(folder) == sorted([A, B])
    assert read_choice(folder).current == A


def test_leftovers_go_with_the_next_command(folder):
    (folder / ".incoming-7-dead").write_bytes(b"half")
    (folder / ".choice.json.7").write_bytes(b"{")
    assert mien("rollback") == 0
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


# Wrong usage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["install"], "FILE|URL"),
        (["install", "a.tflite", "--sha256", "4b9f"], "expected 64 hexadecimal digits"),
        (["install", "a.tflite", "--timeout", "0"], "expected seconds, 1 to 86400"),
        (["install", "http://host/a.tflite"], "--plain-http"),
        (["install", "https://anna:secret@host/a.tflite"], "fetch the file by other means"),
        (["use"], "NAME"),
    ],
)
def test_wrong_usage_ends_with_64_and_says_what_is_expected(arguments, said, capsys):
    assert mien(*arguments) == 64
    shown = capsys.readouterr().err
    assert said in shown
    assert "secret" not in shown


def test_a_name_or_a_folder_that_is_not_there_ends_with_66(folder, capsys):
    assert mien("use", "nonsense") == 66
    assert f"expected one of shipped, {short(A)}, {short(B)}" in capsys.readouterr().err
    assert mien("list", "--state", folder / "nowhere") == 66


def test_help_teaches_by_example(capsys):
    for arguments, said in ((["model"], "mien model rollback"), (["model", "install"], "openssl pkeyutl -sign -rawin")):
        assert main([*arguments, "--help"]) == 0
        assert said in capsys.readouterr().out


def test_the_examples_are_understood():
    text = cli_model.EPILOG + cli_model.INSTALL_EPILOG
    examples = [
        line.split("   ")[0].replace("f87dae28...", "0" * 64) for line in text.splitlines() if "  mien " in line
    ]
    assert len(examples) == 10
    for example in examples:
        assert make_parser().parse_args(example.strip().partition("mien ")[2].split(" '")[0].split()).call


def test_on_a_terminal_the_download_shows_how_far_it_is(open_terminal):
    terminal = open_terminal()
    amount = cli_model._Amount()
    amount.show(1_200_000, 3_500_000)
    amount.show(1_300_000, None)
    amount.clear()
    assert "1.2 of 3.5 MB" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


# Beside a daemon


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(model_change, "TAKING_SECONDS", 0.5)
    monkeypatch.setattr(model_change, "COMING_SECONDS", 1.0)


@pytest.fixture
def daemon(state):
    """One that runs and reads its camera, as far as others can see."""
    presence = Presence(open_folder(state, shared=False), "kitchen")
    presence.say("reading")
    yield presence
    presence.close()


@pytest.fixture
def meanwhile(folder, wait_until) -> Callable[[Callable[[], object]], None]:
    """Have something done once another model is chosen than the first."""

    def work(what: Callable[[], object]) -> None:
        wait_until(lambda: read_choice(folder).current != A, 30)
        what()

    return lambda what: threading.Thread(target=work, args=(what,), daemon=True).start()


def test_it_waits_until_the_daemon_has_come_up(folder, daemon, meanwhile, capsys):
    meanwhile(lambda: (begin(folder), confirm(folder, SHIPPED)))
    assert mien("rollback") == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == "kitchen uses it"
    assert "Ctrl-C takes nothing back" in said.err


def test_one_that_is_given_up_ends_with_65(folder, daemon, meanwhile, capsys):
    meanwhile(lambda: (begin(folder), give_up(folder, B, "it crashed")))
    assert mien("use", COLOUR.stem) == 65
    assert f"{short(B)} is given up: it crashed; {short(A)} is used again" in capsys.readouterr().err


def test_a_paused_daemon_is_not_waited_for(folder, daemon, meanwhile, capsys):
    daemon.say("resting")
    meanwhile(lambda: begin(folder))
    assert mien("rollback") == 0
    assert "it is on trial until the camera is read again" in capsys.readouterr().out


def test_one_that_nobody_starts_again_is_told(folder, daemon, quick, capsys):
    assert mien("rollback") == 0
    assert "kitchen goes on with the one it had: it is not run by systemd; start it again" in capsys.readouterr().out


def test_one_that_does_not_come_up_in_time_ends_with_69(folder, daemon, meanwhile, quick, capsys):
    meanwhile(lambda: begin(folder))
    assert mien("rollback") == 69
    assert "has not come up with it within 1 s; see why: journalctl" in capsys.readouterr().err


def test_who_chooses_meanwhile_has_the_last_word(folder, daemon, meanwhile, capsys):
    meanwhile(lambda: use(folder, B))
    assert mien("rollback") == 0
    assert "somebody else has chosen another one meanwhile" in capsys.readouterr().out


def test_no_wait_waits_for_nobody(folder, daemon, capsys):
    assert mien("rollback", "--no-wait") == 0
    assert capsys.readouterr().out == f"the model that comes with Mien is chosen; {short(A)} is kept to fall back to\n"


# A service and the people of its group

SERVICE, PERSON, STRANGER, GROUP = 61_001, 61_002, 61_003, 61_001

# All is imported first: Python itself may lie where only root can read it.
BECOME = """
import encodings.cp437, encodings.utf_8_sig, os, sys
import edge.cli, edge.config, edge.model_change, edge.model_install
user, *groups = map(int, sys.argv.pop(1).split(","))
os.setgroups(groups), os.setgid(groups[0]), os.setuid(user), os.umask(0o077)
sys.exit(edge.cli.main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become others")
def test_people_of_the_services_group_choose_without_root_and_others_do_not(entered_path):
    state = entered_path / "service"
    state.mkdir(mode=0o750)
    os.chown(state, SERVICE, GROUP)
    folder = open_folder(state, shared=True, name=FOLDER)
    shutil.copy(GREY, path_of(folder, A))
    use(folder, A), confirm(folder, A)

    def asked(user: int, groups: list[int], *arguments: str) -> tuple[int, str]:
        who = ",".join(map(str, [user, *groups]))
        command = [sys.executable, "-c", BECOME, who, "model", *arguments, "--state", str(state)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    for command in (["list"], ["rollback"]):
        code, said = asked(STRANGER, [STRANGER], *command)
        assert (code, "sudo usermod -aG mien" in said) == (73, True), said
    assert asked(PERSON, [PERSON, GROUP], "rollback")[0] == 0
    assert asked(SERVICE, [GROUP], "rollback")[0] == 0
    code, said = asked(PERSON, [PERSON, GROUP], "list", "--json")
    assert (code, json.loads(said)["models"][1]["used"]) == (0, True)
    assert (folder / "choice.json").stat().st_mode & 0o777 == 0o644


def test_the_services_folder_is_used_where_there_is_one(tmp_path, capsys):
    (tmp_path / "service").mkdir()
    assert listed(capsys)["folder"] == str(tmp_path / "service" / FOLDER)
    assert model_install.shipped_entry().startswith("mien-v1-48@")
