"""`mien-train prepare`: its options, and what it says at the end."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.commandline import shown
from edge.errors import UsageError
from trainer.commandline import number, progress_bar, whole

if TYPE_CHECKING:
    from trainer.faces_folder import Row

SOME_FAILED = 1
"""Exit code where some photos could not be read."""

LISTED = 10
"""So many files that failed are named on the terminal; prepare.csv names all."""

DESCRIPTION = """\
Finds the faces in folders of photos with the daemon's own detector, cuts them out with the daemon's own crop, leaves
out what spoils training, and deals the rest to training, validation and test: a folder that `mien-train fit` reads."""

EPILOG = """\
PHOTOS holds a folder for each label (happy/*.jpg), or train, validation and test with such folders in them; a split
that is given so stays, and one that is missing is taken from train. Folders may hold folders. Or --csv says it all:
  path,label,person,split        person and split may be left out; so may one photo's split
  2024/img_1.jpg,happy,anna,     path is below PHOTOS
Left out are photos that cannot be read or show no face, faces that are blank or too small, copies (the same photo
re-encoded, resized or brightened too), and all of those whose labels contradict each other. FACES/prepare.csv tells
for every file what became of it. Look through the faces afterwards: the detector takes a pattern for a face at times,
and what you delete stays deleted.
With photos of several people, tell who is who: then nobody stands in two splits, and the figures tell how the network
does on people that it has never seen.

examples:
  mien-train prepare photos/ --out faces/                        # photos/happy/1.jpg, photos/sad/2.jpg, ...
  mien-train prepare photos/ --out faces/ --person folder        # photos/happy/anna/1.jpg
  mien-train prepare photos/ --out faces/ --person '^(s[0-9]+)_' # photos/happy/s01_3.jpg
  mien-train prepare photos/ --out faces/ --label '^[^/]+/([^/]+)/' --person '^([^/]+)/'   # photos/anna/happy/1.jpg
  mien-train prepare photos/ --out faces/ --csv labels.csv
  mien-train prepare cut/ --out faces/ --whole                   # each photo is one face already
  mien-train fit faces/                                          # then train on them

exit codes: 0 done, 1 some photos could not be read, 64 wrong usage, 65 bad data, 66 input not there,
73 cannot write, 130 Ctrl-C. The same command again goes on after a kill.
"""


def add_prepare(commands: Any) -> None:
    """Add `prepare` to the parser's commands."""
    prepare = commands.add_parser(
        "prepare", help="find, cut and clean faces from your own photos", description=DESCRIPTION, epilog=EPILOG
    )
    prepare.set_defaults(command=_prepare)
    prepare.add_argument("photos", type=Path, metavar="PHOTOS", help="the folder that holds all photos")
    prepare.add_argument("--out", type=Path, required=True, metavar="FACES", help="a new or empty folder")
    prepare.add_argument("--json", action="store_true", help="print the summary as JSON")
    what = prepare.add_argument_group("labels and persons")
    what.add_argument("--csv", type=Path, metavar="FILE", help="labels, and where wanted persons and splits")
    what.add_argument(
        "--label", type=_pattern, metavar="REGEX",
        help="finds the label: its first group, in the file's name, or in the path below PHOTOS if it has a / in it",
    )  # fmt: skip
    what.add_argument(
        "--person", type=_person, metavar="REGEX",
        help="finds the person in the same way; 'folder': the folder below the label's",
    )  # fmt: skip
    what.add_argument(
        "--split", type=_shares, default="80:10:10", metavar="A:B:C",
        help="shares of training, validation and test (default: %(default)s)",
    )  # fmt: skip
    what.add_argument("--seed", type=whole(0, 2**31 - 1), default=1, help="of the dealing (default: %(default)s)")
    how = prepare.add_argument_group("faces")
    how.add_argument(
        "--faces", choices=["largest", "all", "only"], default="largest",
        help="of several in a photo; only: take photos with exactly one (default: %(default)s)",
    )  # fmt: skip
    how.add_argument("--whole", action="store_true", help="each photo is one face already: search and cut nothing")
    how.add_argument(
        "--size", type=whole(32, 512), default=48, help="side of the faces, as fit's --size (default: %(default)s)"
    )
    how.add_argument(
        "--margin", type=number(0.5, 3), default=1.0,
        help="side of the cut over the found face's, which the daemon takes from the model that is trained on them "
        "(default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--min-face", type=number(0.01, 1), default=0.08, metavar="SHARE",
        help="smallest face looked for, of the photo's height; the daemon's own is the default (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--min-pixels", type=whole(1, 10_000), default=24, metavar="N",
        help="smallest face kept, in the photo's pixels (default: %(default)s)",
    )  # fmt: skip


def _prepare(args: argparse.Namespace) -> int:
    from trainer import photos, prepare
    from trainer.faces_folder import FacesFolder, digest_photos

    if args.whole and (args.faces != "largest" or args.margin != 1.0):
        raise UsageError("--whole takes each photo as it is; leave --faces and --margin out")
    if args.out.resolve().is_relative_to(args.photos.resolve()):
        raise UsageError(f"--out {args.out} lies within {args.photos}, where the photos are; name a folder beside it")
    listed, others = photos.list_photos(args.photos, table=args.csv, label=args.label, person=args.person)
    search = prepare.Search(args.faces, args.whole, args.size, args.margin, args.min_face, args.min_pixels)
    dealing = {"split": args.split, "seed": args.seed, "photos": digest_photos(listed)}
    with FacesFolder(args.out, asdict(search), dealing) as folder:
        rows = folder.finished
        if rows is None:
            with progress_bar("finding faces") as progress:
                found = prepare.find_faces(listed, folder, search, progress)
            found.others += others
            with progress_bar("looking for copies") as progress:
                prepare.leave_out_copies(found.faces, folder, progress)
            prepare.deal(found, args.split, args.seed)
            rows = prepare.write_faces(found, folder)
        elif gone := sum(not (args.out / row.file).is_file() for row in rows if row.file):
            print(f"note: {gone} faces of {args.out} were taken away since, and stay away", file=sys.stderr)
    summary = prepare.summarize(rows)
    summary["warnings"] = list(prepare.warnings(rows, args.split, given=all(photo.split for photo in listed)))
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps({"out": str(args.out), **summary}) if args.json else _as_text(args.out, summary, rows))
    return _list_failed(summary["failed"])


def _as_text(out: Path, summary: dict[str, Any], rows: Sequence[Row]) -> str:
    from trainer.photos import NOT_A_PICTURE

    persons = f", {summary['persons']} persons" if summary["persons"] else ""
    lines = [f"{out}: {summary['faces']} faces from {summary['photos']} photos{persons}"]
    splits = summary["splits"]
    labels = sorted({label for counts in splits.values() for label in counts})
    wide = max(8, *map(len, labels))
    table = {"": splits, **{label: [counts.get(label, 0) for counts in splits.values()] for label in labels}}
    table["together"] = [sum(counts.values()) for counts in splits.values()]
    lines += [f"  {name:<{wide}}  " + "  ".join(f"{cell:>10}" for cell in cells) for name, cells in table.items()]
    if summary["left_out"]:
        lines.append("  left out: " + ", ".join(f"{count} {why}" for why, count in summary["left_out"].items()))
    kinds = Counter(row.detail or "no suffix" for row in rows if row.left_out == NOT_A_PICTURE)
    if kinds:
        named = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        lines.append(f"  not a picture that Mien reads: {named}; convert photos among them to JPEG or PNG")
    lines.append(f"  {out / 'prepare.csv'} tells of every file what became of it")
    return shown("\n".join(lines))


def _list_failed(failed: Sequence[dict[str, str]]) -> int:
    if not failed:
        return 0
    sys.stdout.flush()
    print(f"mien-train prepare: {len(failed)} could not be read:", file=sys.stderr)
    for entry in failed[:LISTED]:
        print(f"  {shown(entry['error'])}", file=sys.stderr)
    if len(failed) > LISTED:
        print(f"  and {len(failed) - LISTED} more, in prepare.csv", file=sys.stderr)
    return SOME_FAILED


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression ({error})") from None


def _person(text: str) -> str | re.Pattern[str]:
    return text if text == "folder" else _pattern(text)


def _shares(text: str) -> tuple[float, ...]:
    parts = text.split(":")
    if len(parts) != 3 or not all(re.fullmatch(r"[1-9][0-9]{0,5}", part) for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r}, expected three whole numbers above 0 such as 80:10:10")
    numbers = [int(part) for part in parts]
    return tuple(part / sum(numbers) for part in numbers)
