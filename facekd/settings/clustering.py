"""What cluster is asked: from which score faces show one person, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from facekd.errors import UserError
from facekd.settings.group import FIRST, settings


@settings("Decision")
class OnePerson:
    """From which score faces show one person."""

    threshold: Annotated[float | None, FIRST] = None
    """Cosine from which two faces that are alone show one person; the more faces two groups have, the less it takes.
    Unless given, it comes from the network's thresholds and from how many pairs reach them."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold}: give a cosine above 0, up to 1")


@settings("Output")
class ClusterFiles:
    """What is written, and what becomes of the names that were filled in."""

    out: Annotated[Path, FIRST]
    """The folder to write: people.csv and clusters.html."""
    names: Annotated[Path | None, FIRST] = None
    """A people.csv with names filled in: nothing is clustered, OUT/named.csv and OUT/named.parquet are written."""
    unnamed: bool = False
    """With --names: the clusters of two faces or more that have no name too, under their numbers."""
    show: int = 200
    """How many clusters clusters.html shows, the largest first."""
    no_faces: bool = False
    """Leave the faces out of clusters.html."""

    def __post_init__(self) -> None:
        if self.show < 1:
            raise UserError(f"--show {self.show}: give how many clusters to show, such as 200")
        if self.unnamed and self.names is None:
            raise UserError("--unnamed says what becomes of clusters without name; give --names PEOPLE.csv with it")
