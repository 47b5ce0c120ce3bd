"""What a coordinator of a training across sites gets back from them, whatever carries it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from facekd.core.types import Array


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """A site's answer to one task."""

    site: str  # its name
    arrays: dict[str, Array] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    problem: str = ""  # a sentence, where there is nothing else
    sites: int = 1  # whose mean it is
    node: str = ""  # what the carrier knows it by, which it can't choose; empty where there is only its name


Ask: TypeAlias = "Callable[[str, Mapping[str, Array], int], list[SiteAnswer]]"  # task, arrays, first step
