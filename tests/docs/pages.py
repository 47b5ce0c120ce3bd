"""The README and the manual as a test sees them: pages of fenced blocks, and the commands in these."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARSED = "<!-- parsed only: "  # before a block that a test can't run, with the reason
EMPTY = "<!-- begins in an empty folder -->"  # at the head of a page that needs nothing
FENCE = re.compile(r"^(?P<before>[^\n]*)\n+```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences."""

    language: str  # sh: commands of facekd that are run; python: run; none: other lines, facekd's are parsed
    text: str
    only_parsed: bool

    def commands(self) -> list[list[str]]:
        """The words of each command of facekd, without its name."""
        if self.language not in ("", "sh"):
            return []
        found = []
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\||\|", line):
                if match := re.search(r"(?:^|\s)(?:python )?(?:-m )?facekd\s(.*)", part):
                    found.append(shlex.split(match[1], comments=True))
        return found


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    fences = FENCE.finditer("\n" + text)
    return [Block(found["language"], found["text"], found["before"].startswith(PARSED)) for found in fences]


def pages() -> list[Path]:
    """The README and each page of the manual."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    assert len(found) > 20
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
