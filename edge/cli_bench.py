"""The arguments of `mien bench`. Light: the work and its imports are in `edge.bench`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from edge.cli_classify import fraction
from edge.commandline import INTERRUPTED, Parser, add_config, add_model
from edge.errors import BadDataError

HELP = "this pipeline beside the naive one, on the same frames"
DESCRIPTION = (
    "Run this pipeline and the naive loop (Haar on every whole frame, then one classification for each face) over the "
    "same frames, in turns, in one process, on one thread, and tell what each took and found."
)
FRAMES = 300

EPILOG = """\
Decoding is in neither's time. Both use the same model. The naive loop is OpenCV's cascade with scaleFactor 1.1,
minNeighbors 5 and minSize 30 on the whole frame. This pipeline is the daemon's own, with the settings of its
configuration; its events go nowhere. Without --source it looks at a scene that it makes from the sample photos.

what is told:
  Haar, interpreter, the rest   add up to the total of a frame
  classification                the interpreter with what is around it: crop and softmax
  ratio                         how many times the naive loop's frames/s (or CPU time) this pipeline reaches
  recall                        of the faces that the naive loop finds in at least 5 of 7 neighbouring frames (with an
                                overlap, IoU, of at least 0.4), the part that this pipeline reports in the same frame
  truth                         where it is known where faces are: the part of them that each finds, and the false ones,
                                which overlap with no face by at least 0.3, or with one that has a box already

A truth file is JSON, with boxes in pixels as x, y, width, height. Frames that it does not name are not judged by it; a
face with "frontal": false, such as one that is turned away, may be found or not:
  {"frames": {"0": [{"box": [212, 96, 118, 118]}], "10": [], "20": [{"box": [0, 80, 60, 90], "frontal": false}]}}

examples:
  mien bench
  mien bench --source party.mp4 --frames 1000
  mien bench --source synthetic:faces=4 --json > four.json
  mien bench --source party.mp4 --truth party.json --min-face 0.05

exit codes: 0 done, 64 wrong usage, 65 bad data, 66 input not there, 69 no camera, 78 wrong configuration, 130 Ctrl-C
(what was measured until then is told)
"""


def add_command(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add `bench` to the commands of `mien`; its function is left in `call`."""
    parser = commands.add_parser("bench", help=HELP, description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--source", metavar="SPEC", help="any source that 'mien run' takes (default: a built-in scene)")
    parser.add_argument(
        "--frames", type=_count, default=FRAMES, metavar="N", help=f"at most so many; 0: all (default: {FRAMES})"
    )
    parser.add_argument("--truth", type=Path, metavar="FILE", help="where faces are, in JSON, see below")
    add_config(parser)
    add_model(parser)
    parser.add_argument(
        "--min-face",
        type=fraction,
        metavar="SHARE",
        help="the smallest face that this pipeline looks for, as a fraction of the frame's height (default: 0.08)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    parser.set_defaults(call=call)


def call(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit code."""
    import json
    import sys

    from edge.bench import SCENE, Measurement, measure
    from edge.bench_report import as_table, summarize
    from edge.bench_source import check_boxes, check_numbers, read_truth
    from edge.config import load_config
    from edge.progress import Progress

    config = load_config(
        arguments.config,
        environ=os.environ,
        overrides={
            # Not the configuration's: the daemon may be at its camera.
            "source.spec": arguments.source or SCENE,
            "model.path": arguments.model,
            "model.labels": arguments.labels,
            "detector.min_face": arguments.min_face,
        },
    )
    truth = None if arguments.truth is None else read_truth(arguments.truth)
    progress = Progress(sys.stderr, "frames", arguments.frames)

    def tell(done: Measurement) -> None:
        if truth is not None:
            check_boxes(truth, arguments.truth, done.size)
        progress.show(len(done.numbers), len(done.numbers), len(done.problems))

    try:
        done = measure(config, count=arguments.frames, truth=truth, tell=tell)
    finally:
        progress.clear()
    if truth is not None:
        check_numbers(truth, arguments.truth, done.numbers)
    summary = summarize(done, config)
    print(json.dumps(summary, allow_nan=False, ensure_ascii=False) if arguments.json else as_table(summary))
    if done.problems:
        more = len(done.problems) - 1
        raise BadDataError(f"{done.problems[0]}" + (f"; {more} more could not be read" if more else ""))
    return INTERRUPTED if done.interrupted else 0


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number of frames, such as 300, or 0 for all")
    return int(text)
