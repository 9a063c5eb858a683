"""How a benchmark tells what it measured: a table or JSON, a page of docs/, and what falls short."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def options(description: str | None) -> argparse.ArgumentParser:
    """A benchmark's own options go in beside `--write` and `--json`, which `tell` serves."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the table as Markdown too")
    parser.add_argument("--json", action="store_true", help="print everything that was measured as JSON")
    return parser


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that can be read as it stands."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def tell(
    args: argparse.Namespace,
    told: Mapping[str, Any],
    table: str,
    page: Callable[[Mapping[str, Any], str, Path], str],
) -> None:
    """Print what was measured, and keep it where `--write` says.

    Args:
        args: with what `options` adds.
        told: everything, for `--json`.
        table: for people.
        page: makes Markdown of both, for a file.
    """
    print(json.dumps(told, indent=2) if args.json else table)
    if args.write:
        args.write.write_text(page(told, table, args.write), encoding="utf-8")


def complain(short: Sequence[str]) -> int:
    """Name what falls short, and return the exit code."""
    for complaint in short:
        print(f"short: {complaint}", file=sys.stderr)
    return 1 if short else 0
