"""A hook of MkDocs: the benchmarks' pictures, and tables that stand in the code where a page says {{ name }}."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from facekd.core.formats import FORMATS

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "benchmarks" / "results"
WIDE = ("results/", "reference/commands")  # pages of wide tables, without a column beside them
SENTENCE = 20  # characters from which a cell is given room
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
MARKUP = re.compile(r"(<pre.*?</pre>|<[^>]+>)", re.DOTALL)
ROOT_LINK = re.compile(r"\]\(docs/([^)]+)\)")  # of a page of the repository's root that stands in the manual too


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pictures that the benchmarks drew."""
    for path in sorted(PICTURES.glob("*.svg")):
        files.append(File.generated(config, f"results/pictures/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Fill in tables, and pages of the repository's root with their links led into the manual."""
    if page.file.src_uri.startswith(WIDE):
        page.meta["hide"] = ["toc"]
    for name in re.findall(r"{{ file (\S+) }}", markdown):
        text = (ROOT / name).read_text(encoding="utf-8")
        markdown = markdown.replace(f"{{{{ file {name} }}}}", ROOT_LINK.sub(r"](../\1)", text))
    return markdown.replace("{{ formats }}", formats_table())


def formats_table() -> str:
    rows = [f"| {kind} | {number} |" for kind, number in FORMATS.items()]
    return "\n".join(["| kind of file | format |", "|---|---|", *rows])


def on_page_content(html: str, page: Page, **_: Any) -> str:
    """Keep a flag, and a number with its interval, on one line; give sentences in tables room.

    A page without headings has no table of contents; its text takes that room.
    """
    if not any(top.children for top in page.toc.items):
        page.meta["hide"] = [*page.meta.get("hide", []), "toc"]
    html = re.sub(r"<td><code>([^<>]{1,22})</code></td>", r'<td class="figure"><code>\1</code></td>', html)
    html = re.sub(r"<td([^>]*)>([+−\d†][^<>]{0,25})</td>", r'<td class="figure"\1>\2</td>', html)
    html = re.sub(r"<td>((?:(?!</td>).)+)</td>", _words, html)
    return "".join(
        part if part.startswith("<") else FLAG.sub(r'<span class="flag">\g<0></span>', part)
        for part in MARKUP.split(html)
    )


def _words(cell: re.Match[str]) -> str:
    told = re.sub(r"<[^>]+>", "", cell[1])
    return f'<td class="words">{cell[1]}</td>' if len(told) > SENTENCE else cell[0]
