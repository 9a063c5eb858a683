"""`mien-export`: a trained network to one quantised, self-describing TFLite file, and proof of what it kept."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge import __version__
from edge.commandline import Parser, guarded
from edge.errors import BadDataError, OutputError, UsageError
from trainer.cli_evaluate import FINAL_HELP, LOG_HELP, refuse_log_without_final
from trainer.commandline import DATA_HELP, add_drop, load, number, progress_bar, require_keras, whole

if TYPE_CHECKING:
    from export.verification import Verification

SIZE = 48
"""Side of the faces in pixels where nobody says otherwise."""

EPILOG = """examples:
  mien-export convert runs/mien/model.keras --data fer2013.csv --out mien.tflite
  mien-export verify runs/mien/model.keras mien.tflite --data fer2013.csv
  mien-export verify runs/mien/model.keras mien.tflite --data fer2013.csv --record   # keep the figures in the model
  mien-export verify runs/mien/model.keras mien.tflite --data fer2013.csv --record --final   # PrivateTest, at the end
  mien-export card mien.tflite > mien.md"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `mien-export`; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    return guarded("mien-export", lambda: _run(arguments), arguments)


def _run(argv: list[str]) -> int:
    args = _parser().parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    command: int = args.command(args)
    return command


def _parser() -> Parser:
    parser = Parser(
        "mien-export",
        description="Turns a trained network into one full-int8 TFLite file that says by itself what it is.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"mien {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    convert = commands.add_parser("convert", help="quantise, calibrate, describe")
    convert.set_defaults(command=_convert)
    convert.add_argument("network", type=Path, help="the .keras that mien-train fit wrote")
    convert.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    add_drop(convert)
    convert.add_argument(
        "--size", type=whole(32, 512), default=SIZE, help="side of the faces in pixels (default: %(default)s)"
    )
    convert.add_argument("--out", type=Path, default=Path("mien.tflite"), help="(default: %(default)s)")
    convert.add_argument(
        "--name", type=_model_name, help="what the model is called in events (default: from architecture and size)"
    )
    convert.add_argument(
        "--calibration",
        type=whole(16, 100_000),
        default=512,
        help="training faces that set the ranges (default: %(default)s)",
    )
    convert.add_argument(
        "--seed", type=whole(0, 2**31 - 1), default=0, help="chooses those faces (default: %(default)s)"
    )

    convert.add_argument(
        "--precision", type=number(0, 1),
        help="an answer is named, and not \"uncertain\", where at least so many such answers are right (default: 0.5)",
    )  # fmt: skip

    verify = commands.add_parser("verify", help="float against int8 on the validation split")
    verify.set_defaults(command=_verify)
    verify.add_argument("network", type=Path, help="the .keras")
    verify.add_argument("model", type=Path, help="the .tflite")
    verify.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    add_drop(verify)
    verify.add_argument(
        "--size", type=whole(32, 512), default=SIZE, help="side of the faces in pixels (default: %(default)s)"
    )
    verify.add_argument(
        "--min-agreement", type=number(0, 100), metavar="PERCENT",
        help="end with 1 where float and int8 call fewer faces the same",
    )  # fmt: skip
    verify.add_argument(
        "--max-difference", type=number(0, 100), metavar="POINTS",
        help="end with 1 where their accuracies are further apart",
    )  # fmt: skip
    verify.add_argument("--final", action="store_true", help=f"also {FINAL_HELP}")
    verify.add_argument("--log", type=Path, help=LOG_HELP)
    verify.add_argument("--record", action="store_true", help="write the figures into the .tflite's mien.json")
    verify.add_argument("--json", action="store_true", help="print JSON instead of text")

    card = commands.add_parser("card", help="print the model card as Markdown")
    card.set_defaults(command=_card)
    card.add_argument("model", type=Path, help="the .tflite")
    card.add_argument("--json", action="store_true", help="print mien.json itself")
    return parser


def _convert(args: argparse.Namespace) -> int:
    # The converter is TensorFlow's and takes its networks alone, whatever backend they were trained on.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    require_keras()
    from export.conversion import convert
    from trainer.datasets import clean
    from trainer.output_file import refuse_overwriting, refuse_unwritable, write_whole
    from trainer.thresholds import MIN_ANSWERS, PRECISION

    refuse_overwriting({"--out": args.out}, (args.network, args.data))
    refuse_unwritable(args.out)
    dataset = clean(load(args.data, size=args.size, drop=args.drop, network=args.network))
    with progress_bar(f"converting {args.network.name}", at_once=True):
        content = convert(
            args.network,
            dataset,
            name=args.name,
            calibration=args.calibration,
            seed=args.seed,
            precision=PRECISION if args.precision is None else args.precision,
            command=_repeatable(args),
        )
    write_whole(args.out, content)
    if (few := len(dataset.validation)) < MIN_ANSWERS:
        print(
            f"note: {few} validation images are too few to tell how sure the model may be: its confidence is as it was "
            "trained, and no label has a threshold of its own",
            file=sys.stderr,
        )
    print(f"{args.out}: {len(content) / 1e6:.2f} MB, full int8; see how it does with: mien-export verify")
    return 0


def _verify(args: argparse.Namespace) -> int:
    refuse_log_without_final(args)
    require_keras()
    from export import metadata, verification
    from trainer import model_log
    from trainer.output_file import refuse_unwritable, write_whole

    for path, suffix in ((args.network, ".keras"), (args.model, ".tflite")):
        if path.suffix != suffix:
            raise UsageError(f"{path}: a {suffix} is expected here; the order is NETWORK.keras MODEL.tflite")
    recording = _described(args.model) if args.record else None
    if recording:
        refuse_unwritable(args.model)
    if args.final:
        model_log.refuse_unusable(args.log or model_log.DEFAULT)
    dataset = load(args.data, size=args.size, drop=args.drop, network=args.network)
    splits = verification.FINAL if args.final else verification.CHOSEN_ON
    with progress_bar(f"verifying {args.model.name}", at_once=True) as progress:
        result = verification.verify(args.network, args.model, dataset, splits=splits, progress=progress)
    recorded = None
    if recording:
        flatbuffer, content = recording
        words = ["mien-export", "verify", args.network.name, args.model.name, "--data", args.data.name, *_reading(args)]
        command = shlex.join(words + ["--final"] * args.final)
        content["accuracy"] = result.to_dict() | {"data": dataset.name, "command": command}
        recorded = metadata.pack(flatbuffer, content)
    if args.final:  # before anybody sees the figures
        _note(args, result, dataset.name, recorded)
    print(json.dumps({"data": dataset.name, **result.to_dict()}) if args.json else verification.as_text(result))
    if recorded:
        write_whole(args.model, recorded)
        print(f"{args.model}: figures recorded", file=sys.stderr)
    missed = verification.shortfalls(result, min_agreement=args.min_agreement, max_difference=args.max_difference)
    for line in missed:
        print(f"{args.model}: {line}", file=sys.stderr)
    return 1 if missed else 0


def _note(args: argparse.Namespace, result: Verification, data: str, recorded: bytes | None) -> None:
    """Add both networks' test figures to the model log, the int8 one under the digest that it will have."""
    from edge.modelfile import read_model_file
    from trainer import keras_file, model_log

    card = read_model_file(args.model).card
    digest = hashlib.sha256(recorded).hexdigest() if recorded else model_log.digest(args.model)
    log = args.log or model_log.DEFAULT
    model_log.append(
        log,
        [
            model_log.Entry(
                args.network.name,
                model_log.digest(args.network),
                "float",
                data,
                result.exact["test"],
                keras_file.read_card(args.network),
            ),
            model_log.Entry(
                args.model.name, digest, "int8", data, result.int8["test"], {} if card is None else card.content
            ),
        ],
    )
    print(f"{log}: two lines added", file=sys.stderr)


def _card(args: argparse.Namespace) -> int:
    from export.card import as_markdown

    _, content = _described(args.model)
    if args.json:
        print(json.dumps(content, indent=1))
        return 0
    try:
        size = args.model.stat().st_size
    except OSError as error:
        raise OutputError(f"{args.model}: {error.strerror}") from error
    print(as_markdown(content, file_name=args.model.name, file_bytes=size), end="")
    return 0


def _described(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A model's flatbuffer and its `mien.json`; BadDataError where it has none."""
    from edge.modelfile import read_model_file

    file = read_model_file(path)
    if file.card is None:
        raise BadDataError(f"{path}: a foreign model without mien.json; mien-export convert makes one that has it")
    return file.flatbuffer, dict(file.card.content)


def _model_name(text: str) -> str:
    """A type for argparse: a name that `mien.json` may hold."""
    from edge.modelcard import NAME

    try:
        NAME.accept(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}, expected {NAME.expected}") from None
    return text


def _repeatable(args: Any) -> str:
    words = [
        "mien-export",
        "convert",
        args.network.name,
        "--data",
        args.data.name,
        "--calibration",
        str(args.calibration),
        "--seed",
        str(args.seed),
    ]
    if args.precision is not None:
        words += ["--precision", f"{args.precision:g}"]
    return shlex.join(words + _reading(args) + (["--name", args.name] if args.name else []))


def _reading(args: Any) -> list[str]:
    """The options that decide what of the data is read, where they are not the defaults."""
    size = ["--size", str(args.size)] if args.size != SIZE else []
    return size + (["--drop", ",".join(args.drop)] if args.drop else [])


if __name__ == "__main__":
    sys.exit(main())
