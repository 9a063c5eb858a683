"""The options of the synthetic camera: `synthetic:script=enter,faces=3,…`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

from edge.camera.scripts import SCRIPTS
from edge.errors import UsageError

MAX_FACES = 64


@dataclass(frozen=True, slots=True)
class Scene:
    """What a synthetic camera shows; the fields are the options of its spec.

    Attributes:
        seconds: length; 0 goes on for ever.
        faces: how many, 0 to 64; a script has a number of its own unless told.
        seed: another seed, other people, other paths and another background.
        size: width and height in pixels.
        fps: frames per second.
        realtime: frames come in their own time and are lost if nobody takes them, as from a camera.
        background: "textured", "plain" or "photo", see `edge.camera.sprites.draw_room`.
        die_at: seconds after which the camera is gone (`CameraError`).
        stall_at: seconds after which no frame comes any more: `read()` waits its timeout out, then `CameraError`.
        garbage_at: seconds after which frames are noise.
        script: what happens, one of `edge.camera.scripts.SCRIPTS`.
        noise: standard deviation of the sensor's noise in grey levels; 2 in a spec that names a script, unless told.
        flicker: by how many grey levels the light rises and falls, slowly as clouds do and quickly as lamps do.
    """

    seconds: float = 10.0
    faces: int = 1
    seed: int = 0
    size: tuple[int, int] = (640, 480)
    fps: float = 30.0
    realtime: bool = False
    background: str = "textured"
    die_at: float | None = None
    stall_at: float | None = None
    garbage_at: float | None = None
    script: str = "drift"
    noise: float = 0.0
    flicker: float = 0.0


DEFAULT = Scene()


def parse_scene(options: str, scene: Scene = DEFAULT) -> Scene:
    """Read `script=enter,seconds=10,…`.

    Args:
        options: what stands after `synthetic:`; may be empty.
        scene: where the values come from that neither the options nor their script name.

    Raises:
        UsageError: an option is unknown or its value makes no sense.
    """
    known = [field.name for field in fields(Scene)]
    given: dict[str, object] = {}
    for part in filter(None, options.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise UsageError(f"synthetic has no option {name!r}; it has {', '.join(known)}")
        given[name] = _parse(name, value)
    if "script" in given:
        given = {**SCRIPTS[str(given["script"])].defaults, **given}
    return replace(scene, **given)  # type: ignore[arg-type]  # each value was parsed to its field's type


def _parse(name: str, value: str) -> object:
    expected, parse, sensible = _OPTIONS[name]
    try:
        parsed = parse(value)
        if sensible(parsed):
            return parsed
    except (ValueError, KeyError):
        pass
    raise UsageError(f"synthetic: {name}={value} makes no sense; expected {expected}")


def _size(text: str) -> tuple[int, int]:
    width, height = text.lower().split("x")
    return int(width), int(height)


_OPTIONS: dict[str, tuple[str, Callable[[str], object], Callable[..., bool]]] = {
    "seconds": ("a number of seconds, 0 for ever", float, lambda value: 0 <= value < 1e9),
    "faces": (f"0 to {MAX_FACES}", int, lambda value: 0 <= value <= MAX_FACES),
    "seed": ("a whole number from 0", int, lambda value: value >= 0),
    "size": (
        "width x height from 32x32 to 8192x8192, as 640x480",
        _size,
        lambda value: all(32 <= v <= 8192 for v in value),
    ),
    "fps": ("frames per second, above 0 and up to 1000", float, lambda value: 0 < value <= 1000),
    "realtime": ("0 or 1", {"0": False, "1": True}.__getitem__, lambda _: True),
    "background": ("plain, textured or photo", str, {"plain", "textured", "photo"}.__contains__),
    "script": (f"one of {', '.join(SCRIPTS)}", str, SCRIPTS.__contains__),
    "noise": ("grey levels from 0 to 64", float, lambda value: 0 <= value <= 64),
    "flicker": ("grey levels from 0 to 64", float, lambda value: 0 <= value <= 64),
} | dict.fromkeys(("die_at", "stall_at", "garbage_at"), ("a number of seconds", float, lambda value: 0 <= value < 1e9))
