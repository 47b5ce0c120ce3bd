"""The sheet of a clustering: each cluster with its faces, the largest first, as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.files import write_text
from facekd.reports.document import Picture, Repeat, rendered


@dataclass(frozen=True, slots=True)
class ShownFace:
    """A face of a cluster."""

    photo: str
    score: str  # with the center of the cluster's other faces, as text; empty of one that is alone
    doubtful: bool
    picture: Picture | None


@dataclass(frozen=True, slots=True)
class ShownCluster:
    """Some faces of a cluster, the surest first."""

    number: int
    size: int
    doubtful: int  # of its faces
    faces: tuple[ShownFace, ...]


def write_clusters(
    path: Path, *, lead: str, notes: Sequence[str], least: Sequence[tuple[int, ShownFace]],
    clusters: Sequence[ShownCluster], rest: str, repeat: Repeat,
) -> None:  # fmt: skip
    """Write the sheet, readable by its owner only. It loads nothing and runs no script.

    Args:
        lead: the sentence that says how it came out.
        notes: how to read it.
        least: the least sure faces of all, with their cluster's number.
        rest: what is not shown.

    Raises:
        UserError: the file can't be written.
    """
    shown = {cluster.number for cluster in clusters}
    page = rendered(
        "clusters.html.j2",
        title="Clusters", lead=lead, notes=notes, least=least, clusters=clusters, shown=shown, rest=rest, repeat=repeat,
    )  # fmt: skip
    write_text(path, page)
