"""A button that pauses and resumes, and a light that shows when the camera is read, through gpiozero."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edge.config import GpioConfig
from edge.errors import ConfigError, MienError, UnavailableError
from edge.pause import pause, read_pause, resume

LOG = logging.getLogger(__name__)

BOUNCE_SECONDS = 0.05
"""So long a contact may chatter."""

MISSING = (
    "gpio.{key} is {pin}, but gpiozero is not installed; sudo apt install python3-gpiozero python3-lgpio, "
    "or pip install 'mien[gpio]', or set it to 0"
)


@contextmanager
def panel(config: GpioConfig, folder: Path) -> Iterator[Callable[[bool], None]]:
    """Watch the button and switch the light, where the configuration has them.

    Each press of the button begins or ends a pause, just as the commands do; held down, it does no more than that.

    Args:
        config: the `gpio` section.
        folder: the control folder.

    Yields:
        What switches the light, from any thread. At the end, however it comes, the light is off.

    Raises:
        ConfigError: gpiozero is not installed, or one pin is to be both.
        UnavailableError: this machine does not give us the pins.
    """
    if config.button and config.button == config.led:
        raise ConfigError(f"gpio.button and gpio.led are both {config.led}; give each a pin of its own")
    with ExitStack() as stack:
        light: Callable[[bool], None] = _nothing
        if config.led:
            led = stack.enter_context(_opened("led", config.led, folder))
            stack.enter_context(_guarded(config.led))
            stack.callback(led.off)
            light = _switch(led)
        if config.button:
            button = stack.enter_context(_opened("button", config.button, folder))
            button.when_pressed = lambda: _toggle(folder)
        yield light


def _opened(key: str, pin: int, folder: Path) -> Any:  # gpiozero has no types
    # lgpio lays a pipe into its working directory, which need not be writable.
    os.environ.setdefault("LG_WD", str(folder.parent))
    try:
        from gpiozero import LED, Button
    except ImportError:
        raise ConfigError(MISSING.format(key=key, pin=pin)) from None
    try:
        return LED(pin) if key == "led" else Button(pin, bounce_time=BOUNCE_SECONDS)
    except Exception as error:  # gpiozero's and those of what lies below it
        raise UnavailableError(
            f"gpio.{key} {pin} cannot be had ({error or type(error).__name__}); is this a Raspberry Pi, and is the "
            "user that runs mien in group gpio? Set it to 0 to do without"
        ) from None


@contextmanager
def _guarded(pin: int) -> Iterator[None]:
    """Have the light turned off also where this process is killed: a pin keeps its level then (`edge.gpio_guard`)."""
    guard = Path(__file__).with_name("gpio_guard.py")
    with subprocess.Popen([sys.executable, "-P", guard, str(pin)], stdin=subprocess.PIPE) as process:
        try:
            yield
        finally:
            process.communicate(b"off")


def _switch(led: Any) -> Callable[[bool], None]:
    told = False

    def light(on: bool) -> None:
        nonlocal told
        try:
            led.value = on
        except Exception as error:  # as above: no reason to stop
            if not told:
                LOG.warning("the light at gpio.led cannot be switched (%s)", error)
            told = True

    return light


def _toggle(folder: Path) -> None:
    try:
        if read_pause(folder) is None:
            pause(folder)
        else:
            resume(folder)
    except MienError as error:
        LOG.warning("the button has no effect: %s", error)


def _nothing(_: bool) -> None:
    pass
