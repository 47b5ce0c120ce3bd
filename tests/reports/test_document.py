from __future__ import annotations

import stat
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from facekd.reports.document import (
    Figure,
    Picture,
    Pictures,
    Repeat,
    Section,
    Table,
    Text,
    environment_rows,
    numeric_columns,
    to_markdown,
    write_html,
)

HOSTILE = '</title><script>alert(1)</script><img src="http://evil.example/x">'
REPEAT = Repeat(
    ("facekd verify --model a.onnx",), {"python": "3.11", "versions": {"torch": None}, "command": ["a", "b"]}
)


class Tags(HTMLParser):
    """Every start tag with its attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def written(path: Path, *blocks: Any, **given: Any) -> Tags:
    arguments = {"title": "T", "lead": "L", "sections": (Section("S", blocks),), "repeat": REPEAT} | given
    write_html(path, **arguments)
    return Tags(path.read_text(encoding="utf-8"))


def test_the_page_is_private_asks_nothing_of_the_network_and_runs_nothing(
    tmp_path: Path, report: dict[str, Any]
) -> None:
    path = tmp_path / "report.html"
    write_html(path, **report)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    page = Tags(path.read_text(encoding="utf-8"))
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg;base64,")), (tag, attributes)
    policy = next(each["content"] for each in page.all("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline';")


def test_hostile_text_is_text_in_every_place(tmp_path: Path) -> None:
    blocks = (
        Text(HOSTILE),
        Table(HOSTILE, (HOSTILE, HOSTILE), ((HOSTILE, HOSTILE),), HOSTILE),
        Figure("<svg></svg>", HOSTILE),
        Pictures(HOSTILE, (Picture(b"\xff\xd8\xff", HOSTILE),)),
    )
    repeat = Repeat((HOSTILE,), {HOSTILE: HOSTILE})
    page = written(
        tmp_path / "r.html", title=HOSTILE, lead=HOSTILE, sections=(Section(HOSTILE, blocks),) * 2, repeat=repeat
    )
    assert not page.all("script")
    images = page.all("img")
    assert len(images) == 2
    assert {image["alt"] for image in images} == {HOSTILE}
    assert "".join(page.words).count(HOSTILE) >= 22


def test_names_that_no_file_can_hold_are_marked(tmp_path: Path) -> None:
    page = written(tmp_path / "r.html", Text("a\x00b\udc80c\u202ed"), Table("t", ("n",), (("\ud800",),)))
    assert "a\ufffdb\ufffdc\ufffdd" in page.words
    assert "\ufffd" in page.words


def test_tables_have_headers_for_readers_who_hear_them(tmp_path: Path) -> None:
    table = Table("Rates", ("Model", "TAR", "Note"), (("a", "97.3 %", "best"), ("b", "–", "3 of 9"), ("c", ">1", "")))
    page = written(tmp_path / "r.html", table)
    assert [each["scope"] for each in page.all("th")] == ["col"] * 3 + ["row"] * 3
    assert [each.get("class") for each in page.all("td")] == ["number", None] * 3
    assert page.all("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2", "h3")] == ["h1", "h2", "h2"]


@pytest.mark.parametrize(
    ("cells", "numeric"),
    [
        (("1", "2.5 %", "−3"), True),
        (("97.3 (96.1–98.0)", "too few pairs", "95"), True),
        (("–", "n/a", ""), False),
        (("anna", "1", "bo"), False),
        (("<0.1", ".5", "1,234"), True),
    ],
)
def test_columns_of_numbers(cells: tuple[str, ...], numeric: bool) -> None:
    assert numeric_columns(Table("", ("", "x"), tuple(("1", cell) for cell in cells))) == (False, numeric)


def test_a_table_without_rows_is_shown(tmp_path: Path) -> None:
    assert len(written(tmp_path / "r.html", Table("Nobody", ("Name", "Score"), ())).all("th")) == 2


def test_neighboring_figures_share_a_row(tmp_path: Path) -> None:
    one = Figure("<svg></svg>", "c")
    page = written(tmp_path / "r.html", one, one, Text("x"), Text("y"), one)
    assert sum(each.get("class") == "figures" for each in page.all("div")) == 2
    assert len(page.all("figure")) == 3


def test_wrong_blocks_are_our_mistake() -> None:
    with pytest.raises(AssertionError):
        Table("t", ("a", "b"), (("1",),))
    with pytest.raises(AssertionError):
        Picture(b"\x89PNG", "no jpeg")
    with pytest.raises(AssertionError):
        Figure("<div>", "no svg")


def test_environment_is_flat_and_says_what_is_missing() -> None:
    assert list(environment_rows(REPEAT.environment)) == [
        ("python", "3.11"),
        ("versions · torch", "–"),
        ("command", "a b"),
    ]


def test_markdown_holds_every_number_and_names_every_picture(report: dict[str, Any]) -> None:
    text = to_markdown(**report)
    lines = text.splitlines()
    assert lines[0] == "# facekd quickstart, 21 November 2026"
    tables = [block for section in report["sections"] for block in section.blocks if isinstance(block, Table)]
    assert tables
    plain = text.replace("\\", "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    for table in tables:
        for row in table.rows:
            assert f"| {' | '.join(row)} |" in plain
    assert "- anna · 0.11" in lines
    assert "| :--- | ---: |" in text
    assert "```sh\nfacekd quickstart --out runs/quickstart --seed 0\n```" in text
    assert "ROC: share of genuine pairs" in text
    assert "<script" not in text
    assert "<img" not in text
    assert "data:" not in text


def test_markdown_escapes_what_would_be_markup() -> None:
    cells = (("a|b\nc", "[x](javascript:1)"), ("w600k_mbf", "_a_ *b* `c`"))
    sections = (
        Section("S", (Text("# no heading"), Text("1. no list"), Text("- no list"), Table("t", ("x", "y"), cells))),
    )
    text = to_markdown(title="T", lead="L", sections=sections, repeat=Repeat(("echo '```'",), {}))
    assert r"| a\|b c | \[x\](javascript:1) |" in text
    assert r"| w600k_mbf | \_a\_ \*b\* \`c\` |" in text
    assert "\n\\# no heading\n" in text
    assert "\n1\\. no list\n" in text
    assert "\n\\- no list\n" in text
    assert "````sh\necho '```'\n````" in text
