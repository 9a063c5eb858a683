import os
import re
from pathlib import Path

import pytest

import edge
from edge.camera import KINDS
from edge.cli import RUN_EXAMPLES, main, make_parser
from edge.config import load_config

HOPPER = Path(edge.__file__).parent / "samples/grace_hopper.jpg"
FOREIGN = Path(__file__).parent / "models/grey_int8_logits.tflite"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)


def test_help_teaches_by_example(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "mien run --source party.mp4 --log events.jsonl" in said
    assert main(["run", "--help"]) == 0
    assert "exit codes" in capsys.readouterr().out


def test_help_names_every_kind_of_source():
    kinds = {line.split()[0].split(":")[0].split("//")[0].rstrip(",") for line in KINDS.splitlines()}
    shown = RUN_EXAMPLES[RUN_EXAMPLES.index("sources:") :]
    assert {kind for kind in kinds if kind not in shown} == set()


def test_the_examples_are_understood():
    commands = re.findall(r"^  mien (run .+?)(?:  .*)?$", RUN_EXAMPLES, re.MULTILINE)
    assert len(commands) >= 4
    for command in commands:
        assert make_parser().parse_args(command.split()).call


def test_the_version_is_the_packages(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mien {edge.__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["nonsense"],
        ["run", "--pace", "slow"],
        ["run", "--sauce", "x"],
        ["run", "--source"],
        ["run", "extra"],
        ["classify"],
        ["classify", "rtsp://camera/front"],
    ],
)
def test_wrong_usage_ends_with_64(argv, capsys):
    assert main(argv) == 64
    assert "--help" in capsys.readouterr().err


def test_options_are_configuration_keys(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("edge.daemon.run", lambda config, **options: seen.append((config, options)) or 0)
    file = tmp_path / "mien.toml"
    file.write_text('[source]\nspec = "synthetic"\ntimeout = 3.0\n[device]\nname = "hall"\n')
    monkeypatch.setenv("MIEN_MQTT_URL", "mqtt://from-the-environment")
    options = "--source a.mp4 --log l.jsonl --pace realtime --model m.tflite --labels a,b --annotate out"
    assert main(["run", "--config", str(file), *options.split()]) == 0
    ((config, rest),) = seen
    assert (config.source.spec, config.source.pace, config.source.timeout) == ("a.mp4", "realtime", 3.0)
    assert (str(config.log.path), str(config.model.path), config.model.labels) == ("l.jsonl", "m.tflite", ("a", "b"))
    assert (config.device.name, config.mqtt.url) == ("hall", "mqtt://from-the-environment")
    assert str(rest["annotate"]) == "out"


@pytest.mark.parametrize("command", [["run", "--source", "synthetic:seconds=0.1"], ["classify", str(HOPPER)]])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("a,b,c,d,e,f,a", "label 'a' stands twice"),
        ("a,,b", "label 2 is empty"),
        ("a", "1 labels"),
        ("", "1 labels"),
        ("a,b", "2 labels for 7 outputs"),
    ],
)
def test_wrong_labels_on_the_command_line_are_wrong_usage(command, labels, said, capsys):
    assert main([*command, "--model", str(FOREIGN), "--labels", labels]) == 64
    error = capsys.readouterr().err
    assert "--labels" in error
    assert said in error


def test_wrong_labels_in_the_configuration_are_not(monkeypatch):
    monkeypatch.setenv("MIEN_MODEL_PATH", str(FOREIGN))
    monkeypatch.setenv("MIEN_MODEL_LABELS", "a,b")
    assert main(["run", "--source", "synthetic:seconds=0.1"]) == 65
    monkeypatch.setenv("MIEN_MODEL_LABELS", "a")
    assert main(["run", "--source", "synthetic:seconds=0.1"]) == 78


def test_no_option_means_the_default(monkeypatch):
    seen = []
    monkeypatch.setattr("edge.daemon.run", lambda config, **_: seen.append(config) or 0)
    assert main(["run", "--source", "x.mp4"]) == 0
    assert seen[0].log.path is None
    assert seen[0] == load_config(None, environ={}, overrides={"source.spec": "x.mp4"})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[source]\nspeck = 1\n", "line 2: unknown key source.speck"),
        ("[detector]\n\nmin_neighbors = 'many'\n", "line 3: detector.min_neighbors"),
        ("[detector\n", "TOML"),
    ],
)
def test_a_wrong_configuration_ends_with_78_and_names_the_key(content, said, tmp_path, capsys):
    file = tmp_path / "mien.toml"
    file.write_text(content)
    assert main(["run", "--config", str(file)]) == 78
    assert said in capsys.readouterr().err


def test_a_configuration_that_is_not_there_ends_with_66(tmp_path, capsys):
    assert main(["run", "--config", str(tmp_path / "nowhere.toml")]) == 66
    assert "nowhere.toml" in capsys.readouterr().err


def test_a_fault_is_one_line_unless_more_is_asked_for(monkeypatch, capsys):
    def fail(*_, **__):
        raise KeyError("scores")

    monkeypatch.delenv("MIEN_DEBUG", raising=False)
    monkeypatch.setattr("edge.daemon.run", fail)
    assert main(["run", "--source", "x"]) == 70
    assert "Traceback" not in capsys.readouterr().err
    assert main(["run", "--source", "x", "--debug"]) == 70
    assert "Traceback" in capsys.readouterr().err
