import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from edge.config import Config, load_config
from edge.errors import ConfigError, InputNotFoundError

EXAMPLE = Path(__file__).parents[2] / "docs/mien.toml"
NOWHERE = Path("/nonexistent/mien.toml")


def load(path=None, environ=None, **overrides):
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return load_config(path, environ=environ or {}, overrides=dotted, default_path=NOWHERE)


@pytest.fixture
def toml(tmp_path):
    def write(text):
        path = tmp_path / "mien.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_the_documented_example_shows_every_key_with_its_default():
    assert load(EXAMPLE) == Config()
    keys = {line.split("=")[0].strip() for line in EXAMPLE.read_text().splitlines() if "=" in line and line[0] != "#"}
    assert keys == {key.name for part in fields(Config()) for key in fields(getattr(Config(), part.name))}


def test_without_a_file_the_defaults_hold():
    assert load() == Config()


def test_the_default_file_is_read_where_it_exists(toml):
    config = load_config(None, environ={}, overrides={}, default_path=toml("[report]\nevery = 2"))
    assert config.report.every == 2.0


def test_the_command_line_wins_over_the_environment_over_the_file(toml):
    path = toml('[source]\nspec = "a.mp4"\nfps = 1\ntimeout = 2')
    config = load(path, {"MIEN_SOURCE_FPS": "3", "MIEN_SOURCE_SPEC": "b.mp4"}, source__spec="c.mp4", source__pace=None)
    assert (config.source.spec, config.source.fps, config.source.timeout) == ("c.mp4", 3.0, 2.0)


def test_text_from_environment_and_command_line_becomes_the_keys_type():
    environ = {"MIEN_MODEL_LABELS": "calm, tense", "MIEN_MQTT_CA_FILE": "/ca.pem", "MIEN_SOURCE_WIDTH": "640"}
    config = load(environ=environ, source__height="480", log__path="~/mien.jsonl")
    assert config.model.labels == ("calm", "tense")
    assert config.mqtt.ca_file == Path("/ca.pem")
    assert config.source.size == (640, 480)
    assert config.log.path == Path("~/mien.jsonl").expanduser()


def test_how_a_camera_hangs_can_be_told_in_file_and_environment(toml):
    config = load(toml('[source]\nrotate = 90\nflip = "vertical"'), {"MIEN_SOURCE_REGION": "0.7, 0,0.3,1"})
    assert (config.source.rotate, config.source.flip) == (90, "vertical")
    assert config.source.region == (0.7, 0.0, 0.3, 1.0)
    with pytest.raises(ConfigError, match=r"MIEN_SOURCE_REGION: source.region is 'left'; expected \[x, y,"):
        load(environ={"MIEN_SOURCE_REGION": "left"})


def test_other_variables_that_begin_with_mien_are_left_alone():
    assert load(environ={"MIEN_FER2013": "/data", "MIEN_": "x", "MIEN_SOURCE": "x", "PATH": "/bin"}) == Config()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('[source]\n\nspecc = "x"\n', 3, "unknown key source.specc; did you mean source.spec?"),
        ('# spec\n[sorce]\nspec = "x"\n', 2, "unknown section or key sorce; did you mean source?"),
        ("[log]\nevery = 2\n", 2, "unknown key log.every; did you mean report.every?"),
        ("every = 2\n", 1, "did you mean report.every?"),
        ("[report]\ncolour = 2\n", 2, "unknown key report.colour; expected one of every"),
        ("\nmqtt = 3\n", 2, "mqtt is a section; expected [mqtt]"),
        ("[source]\nfps = 'fast'\n", 2, "source.fps is 'fast'; expected a number from 0 to 1000"),
        ("[source]\nfps = true\n", 2, "source.fps is True; expected a number"),
        (f"[source]\nfps = {'1' * 400}\n", 2, "source.fps is 1111"),
        ("[source]\nfps = nan\n", 2, "source.fps is nan; expected a number"),
        ("[log]\n\n\nkeep = 1.0 # keep\n", 4, "log.keep is 1.0; expected a whole number from 0 to 1000"),
        ("[log]\nkeep = -1\n", 2, "log.keep is -1; expected a whole number from 0 to 1000"),
        ("log.max_bytes = 3\n", 1, "log.max_bytes is 3; expected"),
        ("model = {threads = 0}\n", 1, "model.threads is 0; expected a whole number from 1 to 64"),
        ("[model]\nlabels = [\n 'a',\n 'a'\n]\n", 2, "model.labels is ['a', 'a']; expected a list"),
        ('[source]\nspec = """\npace"""\npace = "slow"\n', 4, "source.pace is 'slow'; expected"),
        ('[source]\npassword_file = """fps\n"""\n"fps" = -1\n', 4, "source.fps is -1; expected"),
        ("[source]\nrotate = 45\n", 2, "source.rotate is 45; expected 0, 90, 180 or 270 degrees"),
        ("[source]\nrotate = true\n", 2, "source.rotate is True; expected 0, 90"),
        ('[source]\nflip = "both"\n', 2, 'source.flip is \'both\'; expected "horizontal", "vertical" or empty'),
        ('[source]\nformat = "H264"\n', 2, 'source.format is \'H264\'; expected "MJPG", "YUYV" or empty'),
        (
            "[source]\nregion = [0.5, 0, 0.6, 1]\n",
            2,
            "source.region is [0.5, 0, 0.6, 1]; expected [x, y, width, height]",
        ),
        ("[source]\nregion = [0, 0, 0, 1]\n", 2, "source.region is [0, 0, 0, 1]; expected"),
        ("[source]\nregion = [0, 0, true, 1]\n", 2, "source.region is [0, 0, True, 1]; expected"),
        ("[source]\nregion = [0, 0, nan, 1]\n", 2, "source.region is [0, 0, nan, 1]; expected"),
        ("[source]\nregion = [0, 0, 1]\n", 2, "source.region is [0, 0, 1]; expected"),
        ("[source]\nregion = [0, 0, 640, 480]\n", 2, "source.region is [0, 0, 640, 480]; expected"),
        ('[source]\nregion = "all"\n', 2, "source.region is 'all'; expected"),
        ('[source]\nspec = ""\n', 2, "source.spec is ''; expected a source"),
        ("[source]\nwidth = 3\n", 2, "source.width is set alone"),
        ('[device]\nname = "a/b"\n', 2, "device.name is 'a/b'; expected at most 63 letters"),
        ('[device]\nname = "küche"\n', 2, "device.name is 'küche'; expected"),
        ('[mqtt]\nbase = "a/#"\n', 2, "mqtt.base is 'a/#'; expected a topic"),
        ('[mqtt]\nurl = "http://host"\n', 2, "mqtt.url is 'http://host'; expected mqtt://host:1883"),
        ('[mqtt]\nurl = "mqtt://host:70000"\n', 2, "mqtt.url is 'mqtt://host:70000'; expected"),
    ],
)
def test_a_wrong_configuration_names_file_line_key_and_what_was_expected(toml, text, line, says):
    path = toml(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}, line {line}: ")
    assert says in str(raised.value)
    assert raised.value.exit_code == 78


def test_a_file_that_is_no_toml_names_the_line(toml):
    path = toml("[source]\nspec = camera\n")
    with pytest.raises(ConfigError, match=rf"{path} is no valid TOML: .*line 2"):
        load(path)
    with pytest.raises(ConfigError, match=rf"{path} is no valid TOML: .*4300 digits"):
        load(toml(f"[source]\nfps = {'1' * 5000}\n"))


def test_a_file_that_is_no_text_or_far_too_large_is_refused(tmp_path):
    binary = tmp_path / "photo.toml"
    binary.write_bytes(b"[log]\nkeep = 1 # \xff\xd8")
    with pytest.raises(ConfigError, match=r"photo.toml, line 2: expected UTF-8 text"):
        load(binary)
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match=r"huge.toml is larger than"):
        load(huge)


def test_a_named_file_that_is_missing_or_a_folder_is_said_so(tmp_path):
    with pytest.raises(InputNotFoundError, match=r"absent.toml cannot be read: No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(InputNotFoundError, match=r"Is a directory"):
        load(tmp_path)


def test_environment_and_command_line_are_named_when_they_are_wrong():
    with pytest.raises(ConfigError, match=r"^environment variable MIEN_SOURCE_FSP: unknown key source.fsp"):
        load(environ={"MIEN_SOURCE_FSP": "1"})
    with pytest.raises(ConfigError, match=r"^environment variable MIEN_LOG_KEEP: log.keep is 'many'; expected a whole"):
        load(environ={"MIEN_LOG_KEEP": "many"})
    with pytest.raises(ConfigError, match=r"^command line: detector.min_face is 9.0; expected"):
        load(detector__min_face="9")


@pytest.mark.parametrize(
    "overrides",
    [
        {"mqtt__url": "mqtt://mien:hunter2@broker"},
        {"mqtt__url": "mqtt://mien:hunter2@broker:99999"},
        {"source__spec": "rtsp://mien:hunter2@camera/live"},
        {"source__spec": "rtsp://mien:hun@ter2/hunter2@camera/live"},
        {"source__spec": "http://camera/live?user=mien&password=hunter2"},
        {"mqtt__password": "hunter2"},
        {"log__path": ["rtsp://mien:hunter2@camera/live"]},
    ],
)
def test_a_password_is_refused_with_advice_and_never_shown(overrides):
    with pytest.raises(ConfigError) as raised:
        load(**overrides)
    assert "hunter2" not in str(raised.value)
    assert "password_file" in str(raised.value) or "***" in str(raised.value)


@pytest.mark.parametrize(
    "spec", ["rtsp://mien@camera:554/live", "rtsp://[::1]:554/live", "rtsp://camera:554/a@b", "a:b@c.mp4"]
)
def test_a_source_without_a_password_is_taken(spec):
    assert load(source__spec=spec).source.spec == spec


def test_systemds_credential_stands_in_for_a_password_file(tmp_path, toml):
    (tmp_path / "mqtt-password").write_text("hunter2\n")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert load(environ=environ).mqtt.password_file == tmp_path / "mqtt-password"
    assert load(environ=environ).source.password_file is None
    other = load(toml('[mqtt]\npassword_file = "/etc/mien/password"'), environ)
    assert other.mqtt.password_file == Path("/etc/mien/password")


def test_reading_the_configuration_needs_neither_numpy_nor_opencv():
    code = "import sys, edge.config; assert not {'numpy', 'cv2', 'paho'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=EXAMPLE.parents[1])


def test_a_configuration_in_a_folder_that_is_shut_to_us_is_not_taken_for_a_missing_one(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputNotFoundError, match="Permission denied; use sudo"):
        load_config(None, environ={}, overrides={}, default_path=tmp_path / "mien.toml")
