"""clusters.html: what of a clustering is shown."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from facekd.core.run import environment
from facekd.enrollment.clusters import Clusters
from facekd.enrollment.unnamed import Gathered
from facekd.reports.clusters import ShownCluster, ShownFace, write_clusters
from facekd.reports.document import Picture, Repeat

SIDE, QUALITY = 80, 80  # px of a face, and of its JPEG
SUREST, LEAST = 9, 3  # faces of a large cluster that are shown
DOUBTS = 24  # of the least sure faces of all


def write_sheet(path: Path, faces: Gathered, found: Clusters, show: int, with_faces: bool, command: str) -> None:
    """Write the `show` largest clusters of two faces or more, some faces of each, and the least sure of all.

    Args:
        with_faces: show what they look like, where that is known.
        command: the shell line that does it again.
    """
    unsure = found.unsure
    sizes = np.bincount(found.clusters)
    order = np.lexsort((-found.scores, found.clusters))  # NaN is of clusters of one
    starts = np.searchsorted(found.clusters[order], np.arange(1, len(sizes) + 1))
    several = int((sizes > 1).sum())

    def shown(row: int) -> ShownFace:
        score = found.scores[row]
        text = "" if np.isnan(score) else f"{score:.2f}"
        picture = _picture(faces, row, text) if with_faces and faces.crops is not None else None
        return ShownFace(faces.sources[row], text, bool(unsure[row]), picture)

    clusters = []
    for number in range(1, min(several, show) + 1):
        rows = order[starts[number - 1] : starts[number]]
        kept = rows if len(rows) <= SUREST + LEAST else np.concatenate([rows[:SUREST], rows[-LEAST:]])
        clusters.append(ShownCluster(number, len(rows), int(unsure[rows].sum()), tuple(map(shown, kept.tolist()))))
    worst = np.flatnonzero(unsure)
    worst = worst[np.argsort(found.scores[worst], kind="stable")][:DOUBTS]
    write_clusters(
        path,
        lead=summary(found),
        notes=notes(found),
        least=[(int(found.clusters[row]), shown(row)) for row in worst.tolist()],
        clusters=clusters,
        rest=_rest(several - len(clusters), int((sizes == 1).sum())),
        repeat=Repeat((command,), environment()),
    )


def summary(found: Clusters) -> str:
    """How it came out, in a sentence."""
    sizes = np.bincount(found.clusters)
    return (
        f"{len(found.clusters)} faces: {int((sizes > 1).sum())} clusters of two faces or more, the largest of "
        f"{int(sizes.max())}, and {int((sizes == 1).sum())} faces alone."
    )


def notes(found: Clusters) -> list[str]:
    """How to read the sheet."""
    return [
        f"Two faces that are alone show one person from a cosine of {found.threshold:.4f}; the more faces two groups "
        "have, the less it takes. Look at each cluster: children and relatives look alike to every network.",
        f"Below a face: its cosine with the center of the cluster's other faces. {int(found.unsure.sum())} faces are "
        "marked as unsure: their mean cosine with the others is under the threshold. Tab goes from cluster to cluster.",
    ]


def _rest(clusters: int, alone: int) -> str:
    parts = [
        f"{clusters} smaller clusters" if clusters else "",
        f"{alone} faces that are alone" if alone else "",
    ]
    said = " and ".join(filter(None, parts))
    return f"Not shown: {said}; people.csv has them all." if said else ""


def _picture(faces: Gathered, row: int, score: str) -> Picture:
    assert faces.crops is not None
    pixels = cv2.resize(faces.crops.pixels(row), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    label = f"{faces.sources[row]}, {score}" if score else faces.sources[row]
    ok, jpeg = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, QUALITY))
    assert ok
    return Picture(jpeg.tobytes(), label)
