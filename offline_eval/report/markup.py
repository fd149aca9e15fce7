"""A self-contained page: its style, and the parts it is put together from. Every text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from offline_eval.report.words import number, plain

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2024; --muted: #5c646d; --rule: #d9dde1; --accent: #2463b0;
  --second: #b5541c; --band: #7a828a; --good: #1a7340; --warn: #8a5a00; --bad: #b3261e; --tint: #f5f6f7; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181b; --ink: #e4e7ea; --muted: #9aa3ac; --rule: #343a40;
  --accent: #7db3f5; --second: #f0a06a; --band: #8b949d; --good: #6fcf97; --warn: #e5b454; --bad: #ff8a80;
  --tint: #1e2226; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "Noto Sans", Arial, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 28px 20px 64px; }
h1 { font-size: 1.45rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 44px 0 8px; }
p { margin: 6px 0; max-width: 72ch; overflow-wrap: anywhere; }
.quiet, figcaption { color: var(--muted); font-size: .9rem; }
.banner { margin: 22px 0 8px; padding: 14px 18px; border-left: 6px solid; border-radius: 4px; background: var(--tint); }
.banner strong { font-size: 1.15rem; }
.banner.good { border-color: var(--good); } .good strong, td.good { color: var(--good); }
.banner.warn { border-color: var(--warn); } .warn strong, td.warn { color: var(--warn); }
.banner.bad { border-color: var(--bad); } .bad strong, td.bad { color: var(--bad); }
.banner ul { margin: 6px 0 0; padding-left: 20px; }
.banner li { overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 20px 36px; }
.grid > * { min-width: 0; }
@media (min-width: 960px) { .beside { display: grid; grid-template-columns: 5fr 7fr; gap: 20px 36px; } }
.beside > * { min-width: 0; }
figure { margin: 14px 0 0; }
figure h3 { font-size: .98rem; margin: 0 0 2px; }
figcaption { margin-bottom: 6px; }
svg { display: block; width: 100%; max-width: 460px; height: auto; font-family: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 16px 5px 0; border-bottom: 1px solid var(--rule); vertical-align: top; }
td { overflow-wrap: break-word; max-width: 62ch; }
th { font-weight: 600; color: var(--muted); white-space: nowrap; }
.key { white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
details { margin-top: 8px; font-size: .9rem; } summary { cursor: pointer; color: var(--muted); }
pre { background: var(--tint); padding: 12px 14px; border-radius: 4px; overflow-x: auto; font-size: .88rem; }
.notes { padding-left: 18px; font-size: .9rem; color: var(--muted); } .notes li { overflow-wrap: anywhere; }
@media (max-width: 500px) { main { padding: 20px 16px 48px; } table { font-size: .85rem; }
  th, td { padding-right: 10px; } }
@media print { main { max-width: none; } figure, tr { break-inside: avoid; } }
"""


class Markup(str):
    """Text that is HTML already."""


def html(value: object) -> str:
    """As HTML: escaped unless it is Markup, set apart from the direction of the text around it."""
    if isinstance(value, Markup):
        return value
    return f"<bdi>{escape(plain(value))}</bdi>"


def data(value: float, shown: str | None = None) -> Markup:
    """A number for people, with all its digits for machines."""
    return Markup(f'<data value="{float(value)!r}">{escape(number(value) if shown is None else shown)}</data>')


def key(name: str) -> Markup:
    """A name that is not broken across lines, unless it is long."""
    return Markup(f'<span class="key">{html(name)}</span>' if len(name) <= 20 else html(name))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[int] = ()) -> Markup:
    """A table that scrolls where it is too wide; `numbers` are the columns that are flush right."""

    def cells(tag: str, row: Sequence[object]) -> str:
        made = (f"<{tag}{_class(i, one, numbers)}>{html(one)}</{tag}>" for i, one in enumerate(row))
        return f"<tr>{''.join(made)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    top = f"<thead>{cells('th', head)}</thead>" if any(head) else ""
    return Markup(f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>')


class Coloured(Markup):
    """A cell with a colour beside its word."""

    colour: str = ""


def coloured(text: str, colour: str) -> Coloured:
    """A cell of the colour good, warn or bad; "" for none."""
    cell = Coloured(html(text))
    cell.colour = colour
    return cell


def _class(column: int, cell: object, numbers: Sequence[int]) -> str:
    names = ["number"] if column in numbers else []
    if isinstance(cell, Coloured) and cell.colour:
        names.append(cell.colour)
    return f' class="{" ".join(names)}"' if names else ""


def figure(title: str, caption: str, svg: str, *below: Markup) -> Markup:
    """A plot under its title and what it shows; nothing where there is no plot."""
    if not svg:
        return Markup()
    head = f"<h3>{html(title)}</h3><figcaption>{html(caption)}</figcaption>"
    return Markup(f"<figure>{head}{svg}{''.join(below)}</figure>")


def folded(title: str, content: Markup) -> Markup:
    """Content to be opened."""
    return Markup(f"<details><summary>{html(title)}</summary>{content}</details>")


def grid(*parts: Markup) -> Markup:
    """Parts side by side where there is room."""
    return Markup(f'<div class="grid">{"".join(parts)}</div>') if any(parts) else Markup()


def beside(plot: Markup, text: Markup) -> Markup:
    """A plot and, right of it or on a narrow screen below, a table that needs more room."""
    return Markup(f'<div class="beside">{plot}<div>{text}</div></div>')


def section(title: str, *parts: Markup) -> Markup:
    """Parts under a heading; nothing where all are empty."""
    return Markup(f"<section><h2>{html(title)}</h2>{''.join(parts)}</section>") if any(parts) else Markup()


def paragraph(text: str, *, quiet: bool = False) -> Markup:
    """A paragraph of text."""
    return Markup(f"<p{' class=quiet' if quiet else ''}>{html(text)}</p>")


def bullets(items: Iterable[str]) -> Markup:
    """A list of texts; nothing without any."""
    made = "".join(f"<li>{html(one)}</li>" for one in items)
    return Markup(f'<ul class="notes">{made}</ul>') if made else Markup()


def code(text: str) -> Markup:
    """A command line."""
    return Markup(f"<pre><code>{escape(plain(text))}</code></pre>")


def banner(colour: str, word: str, text: str, more: Sequence[str] = ()) -> Markup:
    """The verdict: a sign and a word, never a colour alone."""
    sign = {"good": "✓", "warn": "!", "bad": "✕"}[colour]
    items = "".join(f"<li>{html(one)}</li>" for one in more)
    rest = f"<ul>{items}</ul>" if items else ""
    head = f'<strong><span aria-hidden="true">{sign}</span> {html(word)}</strong>'
    return Markup(
        f'<div class="banner {colour}" role="status">{head}<p>{html(text[:1].upper() + text[1:])}</p>{rest}</div>'
    )


def page(title: str, subtitle: str, *parts: Markup) -> str:
    """The whole document. It needs no other file and runs nothing, and says so to the browser."""
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(plain(title))}</title><style>{STYLE}</style></head>"
    )
    body = f"<h1>{html(title)}</h1>{paragraph(subtitle, quiet=True)}{''.join(parts)}"
    return f"{head}<body><main>{body}</main></body></html>\n"
