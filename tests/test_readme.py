"""The README's tree is the tree on disk, and its commands are the commands."""

from __future__ import annotations

import re
from pathlib import Path

from facekd.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def tree_lines() -> list[str]:
    return README.split("## The house")[1].split("```")[1].splitlines()


def test_every_room_is_in_the_tree_and_nothing_else() -> None:
    rooms = {line.split()[1].rstrip("/") for line in tree_lines() if line.startswith(("├── ", "└── "))}
    on_disk = {path.name for path in (ROOT / "facekd").iterdir() if not path.name.startswith("_")}
    assert len(on_disk) > 10
    assert rooms == on_disk
    for top in ("tests", "benchmarks", "data"):
        assert any(line.startswith(f"{top}/") for line in tree_lines())


def test_every_command_is_in_the_table_and_nothing_else() -> None:
    table = README.split("## The commands")[1].split("##")[0]
    assert set(re.findall(r"^\| `facekd ([\w-]+)", table, re.MULTILINE)) == set(COMMANDS) | set(GROUPS)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
    cards = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", cards):
        assert (ROOT / "data" / link).exists(), link
