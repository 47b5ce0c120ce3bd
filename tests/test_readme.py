"""The tree in the manual is the tree on disk, its commands are the commands, and the README stays short."""

from __future__ import annotations

import re
from pathlib import Path

from facekd.cli import COMMANDS, GROUPS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOUSE = (ROOT / "docs" / "architecture" / "house.md").read_text(encoding="utf-8")
TABLE = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")
SET_UP = "pip install -e '.[train]' && facekd quickstart\npip install -e '.[test]' && pytest\n"


def tree_lines() -> list[str]:
    return HOUSE.split("```")[1].splitlines()


def test_every_room_is_in_the_tree_and_nothing_else() -> None:
    rooms = {line.split()[1].rstrip("/") for line in tree_lines() if line.startswith(("├── ", "└── "))}
    on_disk = {path.name for path in (ROOT / "facekd").iterdir() if not path.name.startswith("_")}
    assert len(on_disk) > 10
    assert rooms == on_disk
    for top in ("tests", "benchmarks", "data", "docs", "examples"):
        assert any(line.startswith(f"{top}/") for line in tree_lines())


def test_every_command_is_in_the_table_and_nothing_else() -> None:
    assert set(re.findall(r"^\| `facekd ([\w-]+)", TABLE, re.MULTILINE)) == set(COMMANDS) | set(GROUPS)


def test_the_readme_is_short_and_keeps_its_two_lines_of_setting_up() -> None:
    assert len(README.splitlines()) <= 150
    assert SET_UP in README
    assert set(re.findall(r"`facekd ([\w-]+)", README)) - {"doctor"} <= set(COMMANDS) | set(GROUPS)


def test_every_link_leads_somewhere() -> None:
    for folder, page in ((ROOT, README), *((path.parent, path.read_text(encoding="utf-8")) for path in linked())):
        links = re.findall(r"\]\((?!http)([^)#]+)\)", page)
        assert links or folder != ROOT
        for link in links:
            assert (folder / link).exists(), link


def linked() -> list[Path]:
    """Other pages that are read where they lie, not in the manual alone."""
    return [
        ROOT / "data" / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "SECURITY.md",
        ROOT / "facekd/weights/README.md",
    ]
