"""One probe against a whole gallery: rank, CMC, and TPIR at FPIR with probes of people who are not enrolled.

A person's score is the best of its enrolled photos. A probe is mated where its person is enrolled. FPIR is the share
of unmated probes whose best score reaches the threshold, TPIR the share of mated probes that rank their person first
and reach it (ISO/IEC 19795-1; NIST FRTE 1:N with R = 1).

Probes of one person are not independent, so the intervals take the person as the unit; they hold for the gallery as it
is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import Curve, curve
from facekd.rates.dyads import PERSON_CORRELATION, Dyads
from facekd.rates.intervals import wilson_by_person
from facekd.rates.persons import ListOfPeople
from facekd.rates.rates import rate_at

BLOCK = 1024  # probes compared at once,
SCORES = 1 << 24  # or fewer, so that no more scores than these are kept


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
    step = min(BLOCK, max(1, SCORES // len(gallery)))
    for start in range(0, len(probes), step):
        here = slice(start, start + step)
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


@dataclass(frozen=True, slots=True)
class Ranks:
    """The share of mated probes whose person is among the first 1, 2, … K of the gallery, with its 95 % interval."""

    found: Array  # float64[K]
    low: Array  # float64[K]
    high: Array  # float64[K]


def ranks(searches: Searches, persons: Array, max_rank: int, failed: Array | None = None) -> Ranks:
    """`cmc` with intervals that take the person as the unit.

    Args:
        persons: [P], of each probe.
        failed: [F], persons of mated probes that gave no embedding, or whose person's gallery photos gave none.

    Raises:
        UserError: no mated probe.
    """
    failed = persons[:0] if failed is None else failed
    found = cmc(searches, max_rank, len(failed))
    _, number = np.unique(np.concatenate([persons[searches.mated], failed]), return_inverse=True)
    rank = np.concatenate([searches.rank[searches.mated], np.full(len(failed), max_rank + 1)])
    n = np.bincount(number)
    ends = [wilson_by_person(np.bincount(number[rank <= k], minlength=len(n)), n) for k in range(1, max_rank + 1)]
    low, high = np.array(ends).T
    # Who is found at a rank is found at the next: what bounds one share from below or above bounds the others so too.
    return Ranks(found, np.maximum.accumulate(low), np.minimum.accumulate(high[::-1])[::-1])


def search_curve(searches: Searches, failed_mated: int = 0, failed_unmated: int = 0) -> Curve:
    """Hits and false alarms at each threshold: in it "genuine" are mated probes and "impostor" unmated ones.

    Args:
        failed_mated, failed_unmated: probes that gave no embedding; they raise no alarm and find nobody.

    Raises:
        UserError: no mated or no unmated probe.
    """
    hits, alarms = _outcomes(searches, failed_mated, failed_unmated)
    if len(hits) == 0 or len(alarms) == 0:
        raise UserError(f"{len(hits)} probes of enrolled people and {len(alarms)} of others: TPIR at FPIR needs both")
    return curve(np.concatenate([hits, alarms]), np.arange(len(hits) + len(alarms)) < len(hits))


def tpir_at_fpir(searches: Searches, fpir: float, failed_mated: int = 0, failed_unmated: int = 0) -> Rate:
    """TPIR at the smallest threshold whose FPIR is at most `fpir`, as a `Rate`.

    In it tar is TPIR and far FPIR, n_genuine counts mated probes and n_impostor unmated ones; tar is None where fewer
    than 3 / fpir unmated probes are there to show it. low and high take the probes as independent. Further arguments
    and errors as `search_curve`.
    """
    return rate_at(search_curve(searches, failed_mated, failed_unmated), fpir)


def person_tpirs(
    searches: Searches,
    persons: Array,
    fpirs: Sequence[float],
    failed_mated: Array | None = None,
    failed_unmated: Array | None = None,
) -> list[Rate]:
    """`tpir_at_fpir` for each of `fpirs`, with low and high that hold where a person has several probes.

    The interval counts the error of the threshold, which the other people's probes decide (rates/persons.py).

    Args:
        persons: [P], of each probe.
        failed_mated, failed_unmated: persons of the probes that gave no embedding.

    Raises:
        UserError: as `search_curve`.
    """
    lost = persons[:0] if failed_mated is None else failed_mated
    gone = persons[:0] if failed_unmated is None else failed_unmated
    hits, alarms = _outcomes(searches, len(lost), len(gone))
    if len(hits) == 0 or len(alarms) == 0:
        raise UserError(f"{len(hits)} probes of enrolled people and {len(alarms)} of others: TPIR at FPIR needs both")
    mated = np.concatenate([persons[searches.mated], lost])
    unmated = np.concatenate([persons[~searches.mated], gone])
    _, number = np.unique(np.concatenate([mated, unmated]), return_inverse=True)
    same = np.arange(len(number)) < len(mated)
    gallery = np.where(same, number, number + len(number))  # for each other person an enrolled one of its own
    dyads = Dyads.of(same, number, gallery, PERSON_CORRELATION)
    listed = ListOfPeople.on(dyads, np.concatenate([hits, alarms]), same)
    return [listed.rate(fpir) for fpir in fpirs]


def at_threshold(
    searches: Searches,
    persons: Array,
    threshold: float,
    failed_mated: Array | None = None,
    failed_unmated: Array | None = None,
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """FPIR and FNIR at a threshold that is given, each with its 95 % interval that takes the person as the unit.

    Arguments and errors as `person_tpirs`.
    """
    lost = persons[:0] if failed_mated is None else failed_mated
    gone = persons[:0] if failed_unmated is None else failed_unmated
    search_curve(searches, len(lost), len(gone))  # refuses what has no such rate
    hits, alarms = _outcomes(searches, len(lost), len(gone))

    def share(reached: Array, who: Array) -> tuple[float, float, float]:
        _, number = np.unique(who, return_inverse=True)
        ends = wilson_by_person(np.bincount(number, reached), np.bincount(number))
        return (float(reached.mean()), *ends)

    fpir = share(alarms >= threshold, np.concatenate([persons[~searches.mated], gone]))
    fnir, low, high = share(hits < threshold, np.concatenate([persons[searches.mated], lost]))
    return fpir, (fnir, low, high)


def _outcomes(searches: Searches, failed_mated: int, failed_unmated: int) -> tuple[Array, Array]:
    """float32 each: the mated probes' scores where they rank their person first, else -inf; the others' best scores."""
    none = np.float32(-np.inf)
    hits = np.where(searches.rank == 1, searches.mate, none)[searches.mated]
    alarms = searches.best[~searches.mated]
    return (
        np.concatenate([hits, np.full(failed_mated, none)]),
        np.concatenate([alarms, np.full(failed_unmated, none)]),
    )
