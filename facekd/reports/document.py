"""A report: built from a few kinds of blocks, written as one HTML file that needs nothing else, or as Markdown.

All text is plain text. The templates escape it, so a person named ``<script>`` is shown as that; only the SVG of
a `Figure`, made by `plots`, goes in as it is.
"""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import jinja2

from facekd.core.files import write_text
from facekd.reports.text import printable


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as the caller formatted them. The first column names its row; columns of numbers are set to the right."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""  # a line below the table

    def __post_init__(self) -> None:
        for row in self.rows:
            assert len(row) == len(self.columns), (self.caption, row)


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot. Neighboring figures share a row where the screen is wide enough."""

    svg: str  # from reports.plots
    caption: str

    def __post_init__(self) -> None:
        assert self.svg.startswith("<svg"), self.svg[:40]


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture at its own size, one CSS pixel for each of its pixels."""

    jpeg: bytes
    label: str

    def __post_init__(self) -> None:
        assert self.jpeg.startswith(b"\xff\xd8\xff"), "not a JPEG file"


@dataclass(frozen=True, slots=True)
class Pictures:
    """Labeled pictures side by side, inside the file itself."""

    caption: str
    items: tuple[Picture, ...]


Block: TypeAlias = Text | Table | Figure | Pictures


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """How to get the same again."""

    commands: tuple[str, ...]  # shell lines
    environment: Mapping[str, Any]  # core.run.environment(), as it stands in environment.json


def write_html(path: Path, *, title: str, lead: str, sections: Sequence[Section], repeat: Repeat) -> None:
    """Write the report as one self-contained HTML file, readable by its owner only.

    The page loads nothing and runs no script (its Content-Security-Policy forbids both), follows the reader's light or
    dark setting, and fits phones, wide screens and paper.

    Args:
        lead: the one sentence that says how it came out.

    Raises:
        UserError: the file can't be written.
    """
    write_text(path, rendered("report.html.j2", title=title, lead=lead, sections=sections, repeat=repeat))


def rendered(template: str, **values: Any) -> str:
    """A page by one of the templates; all text in its values is escaped."""
    return page_environment().get_template(template).render(**values)


def to_markdown(*, title: str, lead: str, sections: Sequence[Section], repeat: Repeat) -> str:
    """The same report as GitHub-flavoured Markdown; of plots and pictures only the captions and labels stay."""
    lines = [f"# {_md(title)}", f"**{_md(lead)}**"]
    for section in sections:
        lines.append(f"## {_md(section.heading)}")
        lines.extend(_md_block(block) for block in section.blocks)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", "\n".join(repeat.commands))), default=0))
    lines.append("## Run it again")
    lines.append("\n".join([f"{fence}sh", *map(printable, repeat.commands), fence]))
    lines.append(_md_block(Table("Environment", ("What", "Value"), tuple(environment_rows(repeat.environment)))))
    return "\n\n".join(lines) + "\n"


def environment_rows(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, value) of each entry; entries of a nested mapping as ``outer · inner``, what is missing as an en dash."""
    for key, value in environment.items():
        if isinstance(value, Mapping):
            yield from ((f"{key} · {name}", text) for name, text in environment_rows(value))
        elif isinstance(value, list | tuple):
            yield key, " ".join(map(str, value))
        else:
            yield key, "–" if value is None else str(value)


def numeric_columns(table: Table) -> tuple[bool, ...]:
    """For each column whether most of its cells that say anything begin with a number; the first never counts."""
    numeric = [False]
    for column in list(zip(*table.rows, strict=True))[1:]:
        said = [cell for cell in column if cell.strip() not in _EMPTY_CELLS]
        numbers = sum(bool(_NUMBER.match(cell)) for cell in said)
        numeric.append(bool(said) and 2 * numbers > len(said))
    return tuple(numeric + [False] * (len(table.columns) - len(numeric)))


_EMPTY_CELLS = ("", "-", "–", "—", "n/a")
_NUMBER = re.compile(r"\s*[<>≤≥≈~±+−–-]?\s*\.?\d")


def page_environment() -> jinja2.Environment:
    """Templates whose every text is escaped and fit for a page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("facekd.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: _for_page(value) if type(value) is str else value,  # not Markup, which is ours
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = lambda jpeg: "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
    environment.filters["numeric_columns"] = numeric_columns
    environment.filters["environment_rows"] = environment_rows
    environment.filters["together"] = _together
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment


def _for_page(text: str) -> str:
    return re.sub(r"(?<=\d) (?=%)", "\N{NO-BREAK SPACE}", printable(text))


def _together(blocks: Sequence[Block]) -> list[tuple[Block, ...]]:
    """Runs of neighboring figures as one group, every other block as a group of its own."""
    numbered = enumerate(blocks)
    runs = itertools.groupby(numbered, lambda entry: -1 if isinstance(entry[1], Figure) else entry[0])
    return [tuple(block for _, block in run) for _, run in runs]


def _md_block(block: Block) -> str:
    if isinstance(block, Text):
        return _md(block.text)
    if isinstance(block, Figure):
        return f"*Plot, in the HTML report: {_md(block.caption)}*"
    if isinstance(block, Pictures):
        labels = "\n".join(f"- {_md(item.label)}" for item in block.items)
        return f"*{len(block.items)} pictures, in the HTML report: {_md(block.caption)}*\n\n{labels}".rstrip()
    rules = ["---:" if numeric else ":---" for numeric in numeric_columns(block)]
    rows = [[_md(cell) for cell in row] for row in (block.columns, *block.rows)]
    table = [f"| {' | '.join(row)} |" for row in (rows[0], rules, *rows[1:])]
    note = f"\n\n{_md(block.note)}" if block.note else ""
    return f"**{_md(block.caption)}**\n\n" + "\n".join(table) + note


def _md(text: str) -> str:
    """`text` on one line, nothing in it read as markup or HTML."""
    line = " ".join(printable(text).split())
    line = re.sub(r"([\\`*\[\]|~])", r"\\\1", line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    line = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", line)  # an underscore inside a word is no emphasis
    return re.sub(r"^(#+ |[-+] |=+$|-+$|\d+[.)] )", lambda found: _escape_start(found[0]), line)


def _escape_start(start: str) -> str:
    """Keep the start of a paragraph from being read as a heading, list or rule."""
    digits = re.match(r"\d*", start)
    assert digits is not None
    return f"{digits[0]}\\{start[digits.end() :]}"
