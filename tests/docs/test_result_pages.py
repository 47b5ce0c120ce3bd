"""The benchmarks' results: small, each with a page that says what came out and by which command."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "results").glob("*.md")}
MOST = 300_000  # bytes, all together


def test_all_results_together_are_small() -> None:
    assert len(RESULTS) > 30
    assert sum(path.stat().st_size for path in RESULTS) <= MOST


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_on_what_machine_it_was_measured_and_has_a_page(path: Path) -> None:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["environment"]["versions"]
    name = path.stem
    assert any(f"benchmarks/results/{name}.json" in text or f"{name}.json" in text for text in PAGES.values()) or (
        name.startswith("retention_") and name in PAGES
    )


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"index"}))
def test_a_page_shows_figures_before_anything_else_and_names_its_command(name: str) -> None:
    text = PAGES[name]
    assert re.search(r"^\||^!\[|^--8<--|\d", text, re.MULTILINE)
    if not name.startswith("retention_"):
        for script in re.findall(r"benchmarks/(\w+)\.py", text):
            assert (ROOT / "benchmarks" / f"{script}.py").is_file(), script
        assert "python benchmarks/" in text


def test_each_picture_has_a_title_and_colors_for_dark_screens() -> None:
    pictures = sorted((ROOT / "benchmarks" / "results").glob("*.svg"))
    assert len(pictures) > 5
    for path in pictures:
        text = path.read_text(encoding="utf-8")
        assert "prefers-color-scheme: dark" in text, path.name
        assert re.search(r"<text [^>]*600 15px[^>]*>\w[^<]+</text>", text), path.name
