"""The button and the light, on gpiozero's own mock pins; and a light that is off though the daemon was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.config import GpioConfig
from edge.control import locked, open_folder, running
from edge.errors import ConfigError, UnavailableError
from edge.gpio import panel
from edge.labels import FER2013_LABELS
from edge.pause import pause, read_pause

ROOT = Path(__file__).parents[2]
CAMERA = "synthetic:size=160x120,fps=20,seconds=0,realtime=1"
BUTTON, LED = 17, 27


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("MIEN_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("MIEN_MODEL_PATH", str(Path(__file__).parent / "models/grey_int8_logits.tflite"))
    monkeypatch.setenv("MIEN_MODEL_LABELS", ",".join(FER2013_LABELS))
    monkeypatch.setenv("MIEN_DEVICE_NAME", "kitchen")
    monkeypatch.setenv("LG_WD", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def folder(tmp_path):
    return open_folder(tmp_path / "mien", shared=False)


@pytest.fixture
def pins(monkeypatch):
    gpiozero = pytest.importorskip("gpiozero", reason="needs gpiozero")
    mock = pytest.importorskip("gpiozero.pins.mock")
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    factory = mock.MockFactory()
    monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
    yield factory
    factory.reset()


def press(pins, seconds=0.2):
    """As a finger does it: gpiozero does not hear what comes within its time for chatter."""
    button = pins.pin(BUTTON)
    time.sleep(0.1)
    button.drive_low()
    time.sleep(seconds)
    button.drive_high()


def test_without_pins_nothing_of_gpiozero_is_needed(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with panel(GpioConfig(), folder) as light:
        light(True)


def test_each_press_pauses_or_resumes(pins, folder, wait_until):
    with panel(GpioConfig(button=BUTTON), folder):
        for _ in range(2):
            press(pins)
            wait_until(lambda: read_pause(folder) is not None)
            press(pins)
            wait_until(lambda: read_pause(folder) is None)


def test_held_down_it_does_what_a_press_does_and_no_more(pins, folder, wait_until):
    (folder.parent / "outbox-kitchen.sqlite").write_text("")
    with panel(GpioConfig(button=BUTTON), folder):
        press(pins, seconds=1.5)
        time.sleep(0.2)
        assert read_pause(folder) is not None
    assert (folder.parent / "outbox-kitchen.sqlite").exists()


def test_a_press_ends_a_pause_that_a_command_has_begun(pins, folder, wait_until):
    pause(folder, 3600)
    with panel(GpioConfig(button=BUTTON), folder):
        press(pins)
        wait_until(lambda: read_pause(folder) is None)


def test_a_press_that_has_no_effect_is_told(pins, folder, wait_until, monkeypatch, caplog):
    monkeypatch.setattr("edge.control.LOCK_SECONDS", 0.05)
    with panel(GpioConfig(button=BUTTON), folder), locked(folder):
        press(pins)
        wait_until(lambda: caplog.messages)
    assert caplog.messages[0].startswith(f"the button has no effect: {folder} is held by another program")
    assert read_pause(folder) is None


def test_the_light_is_off_behind_the_end_whatever_it_was(pins, folder):
    with panel(GpioConfig(led=LED), folder) as light:
        assert pins.pin(LED).state == 0
        light(True)
        assert pins.pin(LED).state == 1
        light(False)
        light(True)
    assert pins.pin(LED).state == 0


def test_the_light_shows_when_the_daemon_reads_its_camera(pins, folder, run_daemon, wait_until, monkeypatch):
    monkeypatch.setenv("MIEN_GPIO_BUTTON", str(BUTTON))
    monkeypatch.setenv("MIEN_GPIO_LED", str(LED))

    def meanwhile():
        wait_until(lambda: running(folder).get("kitchen") == "reading" and pins.pin(LED).state == 1)
        press(pins)
        wait_until(lambda: running(folder)["kitchen"] == "resting" and pins.pin(LED).state == 0)
        press(pins)
        wait_until(lambda: running(folder)["kitchen"] == "reading" and pins.pin(LED).state == 1)

    assert run_daemon("--source", CAMERA, meanwhile=meanwhile) == 0
    assert pins.pin(LED).state == 0


def test_over_a_file_the_light_stays_off(pins, run_daemon, monkeypatch):
    monkeypatch.setenv("MIEN_GPIO_LED", str(LED))
    pins.pin(LED).clear_states()
    assert run_daemon("--source", "synthetic:size=160x120,seconds=0.3") == 0
    assert {state.state for state in pins.pin(LED).states} == {False}


def test_one_pin_cannot_be_both(folder):
    with pytest.raises(ConfigError, match=r"gpio.button and gpio.led are both 5"), panel(GpioConfig(5, 5), folder):
        pass


@pytest.mark.parametrize("key", ["button", "led"])
def test_a_missing_gpiozero_is_named_with_its_packages(key, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpiozero", None)
    with (
        pytest.raises(ConfigError, match=rf"gpio.{key} is 4, but gpiozero is not .* apt install python3-gpiozero"),
        panel(GpioConfig(**{key: 4}), folder),
    ):
        pass


def test_pins_that_cannot_be_had_end_the_run_with_69(pins, monkeypatch, capsys, run_daemon):
    gpiozero = pytest.importorskip("gpiozero")

    def refuse(*_, **__):
        raise gpiozero.BadPinFactory("Unable to load any default pin factory!")

    monkeypatch.setattr(gpiozero, "LED", refuse)
    monkeypatch.setenv("MIEN_GPIO_LED", str(LED))
    assert run_daemon("--source", CAMERA) == UnavailableError.exit_code
    assert "gpio.led 27 cannot be had (Unable to load any default pin factory!)" in capsys.readouterr().err


def test_a_light_that_fails_stops_nothing_and_is_told_once(pins, folder, caplog, monkeypatch):
    gpiozero = pytest.importorskip("gpiozero")
    with panel(GpioConfig(led=LED), folder) as light:
        monkeypatch.setattr(gpiozero.LED, "value", property(lambda _: 0, lambda *_: 1 / 0))
        light(True)
        light(True)
        monkeypatch.undo()
    assert caplog.messages == ["the light at gpio.led cannot be switched (division by zero)"]


FAKE = """
import os
class LED:
    "A lamp: a file that outlives the process, as a pin does."
    def __init__(self, pin, initial_value=False):
        self.path = os.path.join(os.environ["LAMP"], str(pin))
        self.set(initial_value)
    def set(self, on):
        with open(self.path + ".new", "w") as file:
            file.write("on" if on else "off")
        os.replace(self.path + ".new", self.path)
    value = property(None, set)
    def off(self):
        self.set(False)
    def close(self):
        pass
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
Button = None
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_light_is_off_once_the_daemon_is_gone_even_if_it_was_killed(how, folder, tmp_path, monkeypatch, wait_until):
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/gpiozero.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    monkeypatch.setenv("LAMP", str(tmp_path))
    monkeypatch.setenv("MIEN_GPIO_LED", str(LED))
    lamp = tmp_path / str(LED)
    command = [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())", "run"]
    daemon = subprocess.Popen([*command, "--source", CAMERA, "--log", tmp_path / "log"], cwd=ROOT)
    try:
        wait_until(lambda: lamp.exists() and lamp.read_text() == "on")
        daemon.send_signal(how)
        daemon.wait(10)
        wait_until(lambda: lamp.read_text() == "off")
    finally:
        daemon.kill()
        daemon.wait()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGABRT])
def test_the_guard_outlives_what_ends_the_whole_group(how, tmp_path, monkeypatch):
    (tmp_path / "gpiozero.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("LAMP", str(tmp_path))
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")  # as in the unit
    guard = subprocess.Popen([sys.executable, "-P", ROOT / "edge/gpio_guard.py", str(LED)], stdin=subprocess.PIPE)
    time.sleep(0.5)
    guard.send_signal(how)
    time.sleep(0.1)
    assert guard.poll() is None
    guard.communicate(b"")
    assert guard.returncode == 0
    assert (tmp_path / str(LED)).read_text() == "off"
