"""The pieces of a page that stands alone: no script, nothing from elsewhere; for a phone, a screen and paper."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Sequence
from html import escape

from matplotlib.figure import Figure

from trainer import figures

CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1b2a41; font: 16px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
header, main { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 1.5rem 0 0.75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 0.75rem; }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1rem; padding-bottom: 1rem; }
a { color: #0058a3; }
section { border-top: 1px solid #c9d1dc; padding: 1.25rem 0; }
p { max-width: 44rem; margin: 0.75rem 0; }
.headline { font-size: 1.15rem; max-width: none; }
figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: 0.875rem; max-width: 34rem; margin: 0.25rem 0 0.75rem; }
.grid, .strips { display: grid; gap: 0.5rem 1.5rem; align-items: start; }
.grid, .strips { grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.faces { display: grid; gap: 0.5rem 1rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.faces img { width: 100%; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0; font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0 0.25rem 0.75rem; text-align: right; vertical-align: top; }
th:first-child { padding-left: 0; text-align: left; white-space: nowrap; }
tbody th { font-weight: normal; }
thead th { border-bottom: 1.5px solid #1b2a41; vertical-align: bottom; }
tbody tr + tr > * { border-top: 1px solid #e3e7ed; }
.numbers td { white-space: nowrap; }
.words td, .words th { text-align: left; }
.words td { overflow-wrap: anywhere; }
@media print {
  @page { margin: 16mm; }
  body { font-size: 10pt; }
  header, main { max-width: none; padding: 0; }
  nav { display: none; }
  section { padding: 0.75rem 0; }
  p { orphans: 3; widows: 3; break-before: avoid; }
  h2, thead, h2 + figure { break-after: avoid; }
  figure, tr, table, .faces, .strips, .grid { break-inside: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  .grid { grid-template-columns: 1fr 1fr; }
  .strips { grid-template-columns: repeat(3, 1fr); }
  .faces { grid-template-columns: repeat(5, 1fr); }
}
"""


def page(title: str, sections: Sequence[tuple[str, str, str]]) -> str:
    """A whole page of sections: anchor, heading, content as HTML."""
    links = "".join(f'<a href="#{name}">{escape(heading)}</a>' for name, heading, _ in sections)
    body = "\n".join(
        f'<section id="{name}"><h2>{escape(heading)}</h2>{content}</section>' for name, heading, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>"
        f"<body><header><h1>{escape(title)}</h1><nav>{links}</nav></header>\n<main>{body}</main></body></html>\n"
    )


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f"<p>{escape(text, quote=False)}</p>"


def side_by_side(blocks: Iterable[str], kind: str = "grid") -> str:
    """Blocks next to each other where the page is wide enough; `kind` is one of the style's."""
    return f'<div class="{kind}">{"".join(blocks)}</div>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "numbers") -> str:
    """A table whose first column names the rows; `kind` is `numbers` or `words`."""

    def line(tag: str, scope: str, cells: Sequence[str]) -> str:
        rest = "".join(f"<{tag}>{escape(cell, quote=False)}</{tag}>" for cell in cells[1:])
        return f'<tr><th scope="{scope}">{escape(cells[0], quote=False)}</th>{rest}</tr>'

    body = "".join(line("td", "row", row) for row in rows)
    return (
        f'<div class="scroll"><table class="{kind}"><thead>{line("th", "col", head)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def drawing(draw: Callable[[Figure], None], alt: str, caption: str, *, wide: float = 4.4, high: float = 3.2) -> str:
    """A picture that matplotlib draws, of so many inches, with what it says to those who do not see it."""
    return image(figures.svg(draw, wide=wide, high=high), alt, caption)


def image(content: bytes, alt: str, caption: str = "") -> str:
    """A PNG or SVG within the page."""
    kind = "png" if content.startswith(b"\x89PNG") else "svg+xml"
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    below = f"<figcaption>{escape(caption, quote=False)}</figcaption>" if caption else ""
    return f'<figure><img src="{source}" alt="{escape(alt)}">{below}</figure>'
