"""One probe against a whole gallery: rank, CMC, and TPIR at FPIR with probes of people who are not enrolled.

A person's score is the best of its enrolled photos. A probe is mated where its person is enrolled. FPIR is the share
of unmated probes whose best score reaches the threshold, TPIR the share of mated probes that rank their person first
and reach it (ISO/IEC 19795-1; NIST FRTE 1:N with R = 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import curve
from facekd.rates.rates import rate_at

BLOCK = 1024  # probes compared at once


@dataclass(frozen=True, slots=True)
class Searches:
    """What each probe met in the gallery."""

    rank: Array  # int64[P], place of the probe's own person, 1 is first; 0 where that person is not enrolled
    mate: Array  # float32[P], score with the own person; -inf where not enrolled
    best: Array  # float32[P], score with the most alike person, whoever it is

    @property
    def mated(self) -> Array:
        """bool[P]."""
        return self.rank > 0


def search(gallery: Array, gallery_persons: Array, probes: Array, probe_persons: Array) -> Searches:
    """Compare each probe with each enrolled person; the P x G scores are never all kept.

    Another person with the very same score as the own stands before it: a tie is no hit.

    Args:
        gallery: float32[G, D], unit norm.
        gallery_persons: [G], names or numbers; several photos may show one person.
        probes: float32[P, D], unit norm.
        probe_persons: [P], also names that are not in the gallery.

    Raises:
        UserError: an empty gallery, rows without a label, or embeddings that are not finite.
    """
    for what, vectors, persons in (("gallery", gallery, gallery_persons), ("probes", probes, probe_persons)):
        if vectors.ndim != 2 or len(vectors) != len(persons):
            raise UserError(f"{what}: {len(persons)} labels for embeddings of shape {vectors.shape}: give one a row")
        if not np.isfinite(vectors).all():
            raise UserError(f"{what}: some embeddings are not finite: embed their photos again")
    if len(gallery) == 0:
        raise UserError("the gallery is empty: enroll somebody")
    enrolled, number = np.unique(gallery_persons, return_inverse=True)
    order = np.argsort(number, kind="stable")
    first = np.searchsorted(number[order], np.arange(len(enrolled)))
    place = np.minimum(np.searchsorted(enrolled, probe_persons), len(enrolled) - 1)
    mated = enrolled[place] == probe_persons
    sorted_gallery = np.ascontiguousarray(gallery[order])
    rank, mate, best = np.zeros(len(probes), np.int64), np.full(len(probes), -np.inf, np.float32), []
    for start in range(0, len(probes), BLOCK):
        here = slice(start, start + BLOCK)
        scores = np.maximum.reduceat(probes[here] @ sorted_gallery.T, first, axis=1)  # [B, persons]
        own = scores[np.arange(len(scores)), place[here]]
        rank[here] = np.where(mated[here], (scores >= own[:, None]).sum(axis=1), 0)
        mate[here] = np.where(mated[here], own, -np.inf)
        best.append(scores.max(axis=1))
    return Searches(rank, mate, np.concatenate([np.zeros(0, np.float32), *best]))


def cmc(searches: Searches, max_rank: int, failed: int = 0) -> Array:
    """float64[max_rank]: the share of mated probes whose person is among the first 1, 2, … max_rank.

    Args:
        failed: mated probes that gave no embedding; they count, and are found at no rank.

    Raises:
        UserError: no mated probe.
    """
    n = int(searches.mated.sum()) + failed
    if n == 0:
        raise UserError("no probe shows an enrolled person, so there is no rank to count; check the labels")
    found = np.bincount(searches.rank[searches.mated], minlength=max_rank + 1)[1 : max_rank + 1]
    return np.asarray(np.cumsum(found) / n)


def tpir_at_fpir(searches: Searches, fpir: float, failed_mated: int = 0, failed_unmated: int = 0) -> Rate:
    """TPIR at the smallest threshold whose FPIR is at most `fpir`, as a `Rate`.

    In it tar is TPIR and far FPIR, n_genuine counts mated probes and n_impostor unmated ones; tar is None where fewer
    than 3 / fpir unmated probes are there to show it. low and high take the probes as independent.

    Args:
        failed_mated, failed_unmated: probes that gave no embedding; they raise no alarm and find nobody.

    Raises:
        UserError: no mated or no unmated probe.
    """
    hit = np.where(searches.rank == 1, searches.mate, np.float32(-np.inf))[searches.mated]
    alarm = searches.best[~searches.mated]
    none = np.float32(-np.inf)
    genuine = np.concatenate([hit, np.full(failed_mated, none)])
    impostor = np.concatenate([alarm, np.full(failed_unmated, none)])
    if len(genuine) == 0 or len(impostor) == 0:
        raise UserError(
            f"{len(genuine)} probes of enrolled people and {len(impostor)} of others: TPIR at FPIR needs both"
        )
    same = np.arange(len(genuine) + len(impostor)) < len(genuine)
    return rate_at(curve(np.concatenate([genuine, impostor]), same), fpir)
