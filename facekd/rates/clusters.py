"""How well clusters agree with people: pairwise and BCubed precision, recall and F."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from facekd.core.types import Array
from facekd.errors import UserError


@dataclass(frozen=True, slots=True)
class ClusterAgreement:
    """A precision, a recall and their harmonic mean, each in [0, 1]; None where there is nothing to count."""

    precision: float | None
    recall: float | None
    f: float | None


@dataclass(frozen=True, slots=True)
class ClusterRates:
    """What clusters of N photos are worth, when it is known who is in each photo."""

    photos: int
    clusters: int
    people: int
    # Of two photos in one cluster, how often they show one person; of two photos of one person, how often they lie in
    # one cluster. A cluster of n photos has n (n - 1) / 2 such pairs, so the large ones decide.
    pairwise: ClusterAgreement
    # Of a photo's cluster, itself included, the share that shows its person; of its person's photos, the share in its
    # cluster: means over photos (Bagga and Baldwin, COLING 1998; Amigó et al., Information Retrieval 2009).
    bcubed: ClusterAgreement


def cluster_rates(clusters: Array, persons: Array) -> ClusterRates:
    """The rates of clusters against people; what clusters and people are called does not matter.

    Args:
        clusters: [N], names or numbers: photos with equal ones lie in one cluster.
        persons: [N], who is in each photo.

    Raises:
        UserError: no photo, or not one person for each.
    """
    if clusters.ndim != 1 or clusters.shape != persons.shape or len(clusters) == 0:
        raise UserError(f"{clusters.shape} clusters for {persons.shape} persons: give one of each for every photo")
    _, cluster = np.unique(clusters, return_inverse=True)
    _, person = np.unique(persons, return_inverse=True)
    met = coo_array((np.ones(len(cluster), np.int64), (cluster, person)))
    met.sum_duplicates()
    row, column = met.coords
    common = met.data  # photos of a person in a cluster, for each couple of these that meet
    in_cluster, of_person = np.bincount(cluster), np.bincount(person)
    right, together, wanted = (int((n * (n - 1) // 2).sum()) for n in (common, in_cluster, of_person))
    squares = common.astype(np.float64) ** 2
    precision = float((squares / in_cluster[row]).sum() / len(cluster))
    recall = float((squares / of_person[column]).sum() / len(cluster))
    return ClusterRates(
        photos=len(cluster),
        clusters=len(in_cluster),
        people=len(of_person),
        pairwise=ClusterAgreement(_share(right, together), _share(right, wanted), _share(2 * right, together + wanted)),
        bcubed=ClusterAgreement(precision, recall, 2 * precision * recall / (precision + recall)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
