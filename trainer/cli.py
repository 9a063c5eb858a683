"""`mien-train`: fine-tune a MobileNet on face data, and say how good it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from edge import __version__
from edge.commandline import Parser, guarded
from trainer.cli_compare import add_compare
from trainer.cli_evaluate import add_evaluate
from trainer.cli_fit import add_fit, with_preset
from trainer.cli_prepare import add_prepare

EPILOG = """examples:
  mien-train fit fer2013.csv --weights mobilenet_1_0_224_tf_no_top.h5 --out runs/first
  mien-train fit fer2013.csv --out runs/first            # the same command again goes on after a kill
  mien-train prepare photos/ --out my_faces/             # finds and cuts the faces in your own photos
  mien-train fit my_faces/ --backbone mobilenet_v2 --width 0.5 --weights none
  mien-train evaluate runs/first/model.keras fer2013.csv # PublicTest, the split to choose on
  mien-train evaluate mien.tflite fer2013.csv --report report.html   # all that is known of it, with pictures
  mien-train evaluate mien.tflite fer2013.csv --final    # PrivateTest, at the end; docs/model-log.md keeps count
  mien-train compare fer2013.csv --presets cnn2,cnn4     # the literature's figures beside those measured here
  mien-export convert runs/first/model.keras --data fer2013.csv --out mien.tflite

The backend is Keras's choice: KERAS_BACKEND=tensorflow (default), jax or torch."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mien-train`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("mien-train", lambda: _run(arguments), arguments)


def _run(argv: list[str]) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if getattr(args, "preset", None):
        args = with_preset(args, parser, argv)
    # TensorFlow's own notes would bury ours.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    command: int = args.command(args)
    return command


def _parser() -> Parser:
    parser = Parser(
        "mien-train",
        description="Fine-tunes a MobileNet on facial expressions and says how good it is. Runs on a workstation.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"mien {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_fit(commands)
    add_evaluate(commands)
    add_compare(commands)
    add_prepare(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
