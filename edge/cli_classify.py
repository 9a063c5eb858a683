"""The arguments of `mien classify`. Light: the work and its imports are in `edge.classify`."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

from edge.commandline import Parser, add_model

HELP = "photos, folders and videos in bulk"
DESCRIPTION = (
    "Find the faces in photos, folders of them (with all folders inside) and videos, and read their expressions."
)
FORMATS = ("table", "json", "csv")

EPILOG = """\
Every face gets the label with the highest score, or 'uncertain' where that score is below the model's threshold for
it. A file that cannot be read does not stop the others; all that failed are listed at the end, on standard error.
The configuration file and MIEN_... are for 'mien run'; here only the options count.

formats:
  table   for reading: one line a face
  json    one object a line for each picture, or for each frame of a video with its time in seconds:
            {"path": "a.jpg", "faces": [{"box": [x, y, w, h], "expression": "happy", "confidence": 0.83,
             "scores": {"angry": 0.01, ...}}]}
          and {"path": "b.jpg", "error": "..."} for what failed
  csv     with a header; one line a face, a line without a box for a picture without a face

examples:
  mien classify party.jpg holiday/ film.mp4
  mien classify photos/ --format json > expressions.jsonl
  mien classify photos/ --annotate shown/             the same pictures with boxes, labels and scores drawn in
  mien classify crowd.jpg --min-face 0.03             small faces too; takes longer
  mien classify --whole fer2013/test/happy/*.png      each picture is one face, already cut out
  mien classify me.jpg --model mine.tflite --labels calm,tense

exit codes: 0 done, 1 some inputs failed, 64 wrong usage, 65 bad data, 66 input not there, 69 no interpreter,
73 cannot write, 130 Ctrl-C; where nothing could be read and all for one reason, that reason's code
"""


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `classify` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("classify", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    add_arguments(parser)
    parser.set_defaults(call=call)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `edge.classify.run` reads."""
    parser.add_argument("paths", nargs="+", type=input_path, metavar="PATH", help="a picture, a folder or a video")
    parser.add_argument(
        "--whole", action="store_true", help="each picture is one face already: classify it without looking for faces"
    )
    parser.add_argument(
        "--min-face",
        type=fraction,
        metavar="SHARE",
        help="the smallest face that is looked for, as a fraction of the picture's height (default: 0.08)",
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="how results are printed (default: table)")
    parser.add_argument(
        "--annotate",
        type=Path,
        metavar="DIR",
        help="write annotated pictures, and videos as .mp4, into this folder; only annotated ones are ever replaced",
    )
    add_model(parser)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    from edge.classify import run

    return run(arguments)


def input_path(text: str) -> Path:
    """`PATH` for argparse: no URL, which would be told as a file that is not there, password and all."""
    if re.match(r"[a-z]+://", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no file; a network camera is watched by 'mien run --source URL'")
    return Path(text)


def fraction(text: str) -> float:
    """`--min-face SHARE` for argparse, which answers an `ArgumentTypeError` with 64."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.01 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number from 0.01 to 1, such as 0.05")
    return value
