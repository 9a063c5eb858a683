"""One TOML file, the environment and the command line -> frozen dataclasses, checked key by key.

The command line wins over `MIEN_<SECTION>_<KEY>` in the environment, that over the file, that over the defaults.
`docs/mien.toml` shows every key with its default.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from edge import rules
from edge.credentials import credential, has_password, hide_password
from edge.errors import ConfigError, InputNotFoundError

DEFAULT_PATH = Path("/etc/mien/mien.toml")
"""Read where no other file is named, if it exists."""

MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """Who we are. An empty name stands for the host name plus four characters of this card's own."""

    name: Annotated[str, rules.text("at most 63 letters, digits, . _ -, or empty", rules.DEVICE_NAME.fullmatch)] = ""


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """Where pictures come from, how they are turned, and what of them is looked at.

    `width`, `height` in pixels and `fps` are 0 where the source decides; `rotate`, `flip` and `region` are those of
    `edge.camera.view.View`, and `open_timeout`, `timeout` and `frozen` the fields of `edge.camera.base.Limits`.
    """

    spec: Annotated[str, rules.text("a source such as picamera2, v4l2:/dev/video0, images:DIR or a file")] = "picamera2"
    password_file: Annotated[Path | None, rules.path("the path of a file that holds the password")] = None
    width: Annotated[int, rules.whole(0, 16384, " pixels")] = 0
    height: Annotated[int, rules.whole(0, 16384, " pixels")] = 0
    fps: Annotated[float, rules.real(0, 1000, " frames per second")] = 0.0
    format: Annotated[str, rules.text('"MJPG", "YUYV" or empty', {"MJPG", "YUYV"}.__contains__)] = ""
    rotate: Annotated[int, rules.one_of((0, 90, 180, 270), " degrees")] = 0
    flip: Annotated[str, rules.text('"horizontal", "vertical" or empty', {"horizontal", "vertical"}.__contains__)] = ""
    region: Annotated[tuple[float, float, float, float], rules.region()] = (0.0, 0.0, 1.0, 1.0)
    open_timeout: Annotated[float, rules.real(0.1, 300, " seconds")] = 15.0
    timeout: Annotated[float, rules.real(0.1, 300, " seconds")] = 2.0
    frozen: Annotated[float, rules.real(0, 86400, " seconds")] = 2.0
    pace: Annotated[str, rules.text('"fast", "realtime" or empty', {"fast", "realtime"}.__contains__)] = ""

    @property
    def size(self) -> tuple[int, int] | None:
        """`(width, height)` in pixels, None where the source decides."""
        return (self.width, self.height) if self.width else None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which classifier. No path: the shipped one; no labels: those in the model file."""

    path: Annotated[Path | None, rules.path("the path of a .tflite file")] = None
    labels: Annotated[tuple[str, ...], rules.names("a list of at least two different names")] = ()
    threads: Annotated[int, rules.whole(1, 64)] = 1
    interval: Annotated[float, rules.real(0, 60, " seconds")] = 0.0


@dataclass(frozen=True, slots=True)
class DetectorConfig:
    """How Haar looks. `min_face` is a fraction of the frame's height. No cascade: the shipped one."""

    scale_factor: Annotated[float, rules.real(1.01, 2)] = 1.1
    min_neighbors: Annotated[int, rules.whole(1, 50)] = 5
    min_face: Annotated[float, rules.real(0.01, 1, " (of the frame's height)")] = 0.08
    cascade: Annotated[Path | None, rules.path("the path of a Haar cascade's XML file")] = None
    max_faces: Annotated[int, rules.whole(1, 100)] = 32
    eyes: Annotated[bool, rules.yes_or_no()] = False
    notice: Annotated[float, rules.real(0, 60, " seconds")] = 0.5
    rest: Annotated[float, rules.real(0.1, 3600, " seconds")] = 4.0


@dataclass(frozen=True, slots=True)
class SmoothingConfig:
    """Over time, in seconds: how sluggish scores are, and how long until a face is believed and given up."""

    time_constant: Annotated[float, rules.real(0, 60, " seconds")] = 0.5
    confirm: Annotated[float, rules.real(0, 10, " seconds")] = 0.1
    patience: Annotated[float, rules.real(0, 60, " seconds")] = 1.0


@dataclass(frozen=True, slots=True)
class ReportConfig:
    """What is published how often. `every`: seconds between a face's `updated` events at the least."""

    every: Annotated[float, rules.real(0, 86400, " seconds")] = 5.0


@dataclass(frozen=True, slots=True)
class LogConfig:
    """The local log of events. No path: no log. `max_age_days` is 0 where lines stay until there are too many."""

    path: Annotated[Path | None, rules.path("the path of the log, such as /var/log/mien/mien.jsonl, or empty")] = None
    max_bytes: Annotated[int, rules.whole(10_000, 10**12, " bytes")] = 10_000_000
    keep: Annotated[int, rules.whole(0, 1000, " old files")] = 5
    max_age_days: Annotated[float, rules.real(0, 36500, " days")] = 30.0


@dataclass(frozen=True, slots=True)
class MqttConfig:
    """The broker. No URL: no MQTT. An empty client id stands for `mien-` and the device's name."""

    url: Annotated[str, rules.text("mqtt://host:1883, mqtts://host:8883 or empty", rules.parse_broker)] = ""
    username: Annotated[str, rules.text("a user name")] = ""
    password_file: Annotated[Path | None, rules.path("the path of a file that holds the password")] = None
    ca_file: Annotated[Path | None, rules.path("the path of a PEM file with the broker's authority")] = None
    cert_file: Annotated[Path | None, rules.path("the path of a PEM file with our own certificate")] = None
    key_file: Annotated[Path | None, rules.path("the path of a PEM file with our certificate's key")] = None
    protocol: Annotated[str, rules.text('"5", "3.1.1" or empty', {"5", "3.1.1"}.__contains__)] = ""
    base: Annotated[str, rules.text("a topic such as mien or home/mien, without + # $", rules.is_topic)] = "mien"
    client_id: Annotated[str, rules.text("a client id of at most 128 characters", lambda text: len(text) <= 128)] = ""
    keepalive: Annotated[int, rules.whole(5, 3600, " seconds")] = 60
    outbox_bytes: Annotated[int, rules.whole(100_000, 10**12, " bytes")] = 200_000_000
    outbox_age: Annotated[float, rules.real(1, 10**9, " seconds")] = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """How the daemon is. `every`: seconds between two messages on MQTT."""

    every: Annotated[float, rules.real(1, 86400, " seconds")] = 60.0


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The same figures for Prometheus. Port 0: nobody listens."""

    port: Annotated[int, rules.whole(0, 65535)] = 0
    address: Annotated[str, rules.text("an address of this machine such as 127.0.0.1 or 0.0.0.0")] = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class HomeAssistantConfig:
    """Whether Home Assistant is told of this device over MQTT; where not, an earlier message is taken back."""

    enabled: Annotated[bool, rules.yes_or_no()] = True
    prefix: Annotated[str, rules.text("a topic such as homeassistant, without + # $", rules.is_topic)] = "homeassistant"


@dataclass(frozen=True, slots=True)
class GpioConfig:
    """A button that pauses and resumes, and a light that shows when the camera is read. Pin 0: there is none."""

    button: Annotated[int, rules.whole(0, 27)] = 0
    led: Annotated[int, rules.whole(0, 27)] = 0


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set, checked."""

    device: DeviceConfig = DeviceConfig()
    source: SourceConfig = SourceConfig()
    model: ModelConfig = ModelConfig()
    detector: DetectorConfig = DetectorConfig()
    smoothing: SmoothingConfig = SmoothingConfig()
    report: ReportConfig = ReportConfig()
    log: LogConfig = LogConfig()
    mqtt: MqttConfig = MqttConfig()
    health: HealthConfig = HealthConfig()
    metrics: MetricsConfig = MetricsConfig()
    homeassistant: HomeAssistantConfig = HomeAssistantConfig()
    gpio: GpioConfig = GpioConfig()


_SECTIONS: dict[str, type[Any]] = get_type_hints(Config)
_RULES: dict[str, dict[str, rules.Rule]] = {
    section: {name: hint.__metadata__[0] for name, hint in get_type_hints(keys, include_extras=True).items()}
    for section, keys in _SECTIONS.items()
}
# May be given, but not as nothing.
_NOT_EMPTY = {"source.spec", "mqtt.base", "metrics.address", "homeassistant.prefix"}


class _RefusedError(ValueError):
    """A key or value is wrong; whoever knows where it stands adds that."""


def load_config(
    path: Path | None,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    default_path: Path = DEFAULT_PATH,
) -> Config:
    """Put file, environment and command line together.

    Args:
        path: the file that somebody named; None for `default_path`, where a missing file means the defaults.
        environ: variables such as `MIEN_SOURCE_SPEC`; also `CREDENTIALS_DIRECTORY`, whose `mqtt-password` and
            `source-password` stand in for a `password_file` that is not set.
        overrides: values by key such as `"source.spec"`, typed or as text; None means not given.
        default_path: the file for `path=None`.

    Raises:
        InputNotFoundError: the named file is missing or cannot be read.
        ConfigError: a key is unknown, or a value has the wrong type or is out of range.
    """
    values: dict[str, dict[str, Any]] = {section: {} for section in _RULES}
    origins: dict[str, Callable[[str], str]] = {}

    def take(key: str, raw: object, where: Callable[[str], str]) -> None:
        section, _, name = key.partition(".")
        try:
            _known(key)
            values[section][name] = _checked(key, raw)
        except _RefusedError as refused:
            raise ConfigError(f"{where(key)}: {refused}") from None
        origins[key] = where

    if path is not None or _is_there(default_path):
        file = path or default_path
        text, table = _read(file)
        for key, value in _flat(table):
            take(key, value, lambda key: _place(file, text, key))
    for key in filter(None, map(_key_of, sorted(environ))):
        take(key, _from_text(key, environ[_variable(key)]), lambda key: f"environment variable {_variable(key)}")
    for key, value in overrides.items():
        if value is not None:
            take(key, _from_text(key, value) if isinstance(value, str) else value, lambda _: "command line")
    config = Config(**{section: keys(**values[section]) for section, keys in _SECTIONS.items()})
    if bool(config.source.width) != bool(config.source.height):
        key = "source.width" if config.source.width else "source.height"
        raise ConfigError(f"{origins[key](key)}: {key} is set alone; expected both source.width and source.height")
    return _with_credentials(config, environ)


def _with_credentials(config: Config, environ: Mapping[str, str]) -> Config:
    mqtt, source = config.mqtt, config.source
    return replace(
        config,
        mqtt=replace(mqtt, password_file=mqtt.password_file or credential(environ, "mqtt-password")),
        source=replace(source, password_file=source.password_file or credential(environ, "source-password")),
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # its folder is shut to us; reading it will say so
        return True


def _read(path: Path) -> tuple[str, dict[str, object]]:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        advice = "; use sudo, or let others read it" if isinstance(error, PermissionError) else ""
        raise InputNotFoundError(f"configuration {path} cannot be read: {error.strerror}{advice}") from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes; expected a configuration in TOML")
    try:
        text = raw.decode()
        return text, tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: expected UTF-8 text") from None
    except (ValueError, RecursionError) as error:  # also of a number with thousands of digits
        raise ConfigError(f"{path} is no valid TOML: {error or 'nested too deeply'}") from None


def _flat(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """The file's keys as `section.key`; what is no section stands alone."""
    for section, content in table.items():
        if section in _RULES and isinstance(content, Mapping):
            yield from ((f"{section}.{name}", value) for name, value in content.items())
        else:
            yield section, content


def _key_of(variable: str) -> str | None:
    """`MIEN_MQTT_CA_FILE` -> `mqtt.ca_file`; None for variables that are not about a section."""
    prefix, _, rest = variable.partition("_")
    section, _, name = rest.lower().partition("_")
    return f"{section}.{name}" if prefix == "MIEN" and rest.isupper() and section in _RULES and name else None


def _variable(key: str) -> str:
    return f"MIEN_{key.replace('.', '_', 1).upper()}"


def _known(key: str) -> None:
    section, _, name = key.partition(".")
    if name in _RULES.get(section, {}):
        return
    if key in _RULES:
        raise _RefusedError(f"{key} is a section; expected [{key}] with its keys below")
    if name in {"password", "passwd"}:
        raise _RefusedError(f"{key} is not taken; write the password to a file, named in {section}.password_file")
    known = _RULES.get(section, {})
    near = [f"{section}.{guess}" for guess in get_close_matches(name, known, n=1)]
    near += [f"{other}.{name or key}" for other, keys in _RULES.items() if (name or key) in keys]
    near += [f"{guess}.{name}".strip(".") for guess in get_close_matches(section, _RULES, n=1) if not known]
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known or _RULES)}"
    raise _RefusedError(f"unknown {'key' if name else 'section or key'} {key}; {hint}")


def _from_text(key: str, text: str) -> object:
    """A value from the environment or the command line; where it cannot be read, the text itself, to be refused."""
    section, _, name = key.partition(".")
    try:
        return _RULES[section][name].from_text(text)
    except (ValueError, KeyError):
        return text


def _checked(key: str, raw: object) -> object:
    section, _, name = key.partition(".")
    rule = _RULES[section][name]
    if isinstance(raw, str) and has_password(raw):
        raise _RefusedError(
            f"{key} has a password in its URL; expected the URL without it, the user name in "
            f"{'mqtt.username' if section == 'mqtt' else 'the URL'} and the password in the file that "
            f"{section}.password_file names"
        )
    try:
        value = rule.accept(raw)
    except (ValueError, RuntimeError):  # RuntimeError: a home folder that nobody knows
        value = None
        refused = True
    else:
        refused = key in _NOT_EMPTY and not value
    if refused:
        # Somebody may have taken a password_file for the password itself.
        shown = "is of the wrong kind" if name == "password_file" else f"is {hide_password(repr(raw))[:80]}"
        raise _RefusedError(f"{key} {shown}; expected {rule.expected}")
    return value


def _place(path: Path, text: str, key: str) -> str:
    line = _line_of(text, key.split("."))
    return f"{path}, line {line}" if line else str(path)


def _line_of(text: str, key: list[str]) -> int | None:
    """The line, from 1, on which the statement that first sets `key` begins.

    tomllib tells no positions. The first lines up to the one before the statement parse without the key and some
    longer stretch parses with it, so the parser itself finds it, whatever the file's style.
    """
    lines = [line + "\n" for line in text.split("\n")]

    def holds(count: int) -> bool | None:
        try:
            node: object = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            return None
        for part in key:
            if not isinstance(node, dict) or part not in node:
                return False
            node = node[part]
        return True

    for start, line in enumerate(lines):
        if key[-1] in line and holds(start) is False:
            end = next((end for end in range(start + 1, len(lines) + 1) if holds(end) is not None), start)
            if holds(end):
                return start + 1
    return None
