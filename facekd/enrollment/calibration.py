"""What a gallery's own scores say of a search through it: the threshold for a promised FPIR, and the misses there."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from facekd.core.printable import percent_small
from facekd.core.types import Array
from facekd.deploy.thresholds import known_thresholds
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta, OwnScores
from facekd.gallery.people import Person
from facekd.gallery.photos import PhotoTable
from facekd.rates.intervals import wilson
from facekd.rates.open_set import COHORT, WEIGHT, Fit, Tail, far_for, fit_tail, fpir_interval, highest_scores

FPIR = 0.01  # promised where nothing else is asked for
FEWEST = 50  # people whose scores say more than what is known of the network
MOST = 100_000  # people compared with each other; of more, as many by chance
LOT = 128  # people whose photos are read together
MANY_MISSES = 0.05  # from which the network is said to be too weak for the promise
SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)  # of genuine scores that are written down

_percent = partial(percent_small, digits=2)  # a promise holds to no more


@dataclass(frozen=True, slots=True)
class NamedFrom:
    """From which cosine with the most alike person a face is named: more for a face that looks like many people."""

    threshold: float  # of the usual face; of every face where `level` is None
    level: float | None = None  # the usual level of a search's cohort

    def of(self, others: Sequence[float]) -> float:
        """The threshold of one face.

        Args:
            others: cosines with the people most alike to it after the one it may be named as, the highest first.
        """
        if self.level is None or len(others) < COHORT:
            return self.threshold
        return min(self.threshold + WEIGHT * (sum(others[:COHORT]) / COHORT - self.level), 1.0)


@dataclass(frozen=True, slots=True)
class Promise:
    """How often one search through a gallery names a stranger, and what keeps it."""

    fpir: float  # promised
    threshold: float  # cosine, of the usual face
    people: int  # searched
    low: float | None  # 95 % interval of the FPIR there; None where the gallery is too small to say
    high: float | None
    misses: float | None  # share of searches by enrolled people that reach no name (FNIR); None: not known
    misses_low: float | None  # 95 % interval
    misses_high: float | None
    own: bool  # by the gallery's own scores; else by what is known of the network
    measured_far: float | None  # the strictest FAR measured for the network, where the threshold lies beyond it
    level: float | None = None  # the usual level of a search's cohort; None: the threshold is the same for every face

    @property
    def named_from(self) -> NamedFrom:
        return NamedFrom(self.threshold, self.level)

    def said(self) -> str:
        """A line for the user."""
        each = "" if self.level is None else " (more for a face that looks like many people)"
        text = f"threshold {self.threshold:.4f}{each}: a stranger is named in {_percent(self.fpir)} of searches"
        if self.own and self.low is not None and self.high is not None:
            text += f" ({_percent(self.low)} to {_percent(self.high)}) through {self.people} people like these"
        else:
            text += (
                f" through {self.people} people, by what is known of the network; from {FEWEST} people on the "
                "gallery measures it on its own"
            )
        if self.measured_far is not None:
            text += f" (drawn on from FAR {self.measured_far:g}, the strictest that was measured)"
        if self.misses is not None:
            text += (
                f"; {_percent(self.misses)} ({_percent(self.misses_low or 0)} to {_percent(self.misses_high or 1)}) of "
                "searches for enrolled people find no name"
            )
        if self.own and self.level is None:
            text += "; measured by an earlier facekd, and anew at the next enrollment"
        return text

    def warning(self) -> str:
        """A sentence where the network can't keep the promise without missing many; empty otherwise."""
        if self.misses is None or self.misses <= MANY_MISSES:
            return ""
        return (
            f"at --fpir {self.fpir:g} this network misses {_percent(self.misses)} of {self.people} people; take a "
            "stronger one, more photos of each person, or a higher --fpir"
        )


def promise(meta: GalleryMeta, people: int, fpir: float | None = None) -> Promise | None:
    """The threshold for a promised FPIR of one search through so many people; None where nothing says one.

    Args:
        meta: the gallery's.
        people: enrolled now.
        fpir: in (0, 1); None takes the gallery's, else FPIR.
    """
    fpir = fpir if fpir is not None else meta.fpir if meta.fpir is not None else FPIR
    known = gallery_thresholds(meta)
    own = None if meta.own is None or meta.own.stale else Tail.of(meta.own.tail)
    tail = own or Tail.of(known)
    if people == 0:
        return None
    far = far_for(fpir, people)
    if tail is not None:
        threshold = min(float(tail.cosine(far)), 1.0)
    else:  # one threshold draws no tail; it keeps more than it promises
        strict = [one for one in known if one <= far]
        if not strict:
            return None
        threshold = known[max(strict)]
    low = high = misses = misses_low = misses_high = None
    if own is not None and meta.own is not None:
        low, high = fpir_interval(Fit(own, meta.own.sd), threshold, people)
        if meta.own.genuine_people:
            shares, scores = np.array(sorted(meta.own.genuine.items())).T
            misses = float(np.interp(threshold, scores, shares, left=0.0))
            misses_low, misses_high = wilson(misses * meta.own.genuine_people, meta.own.genuine_people)
    beyond = min(known) if own is None and min(known) > far else None
    level = meta.own.level if own is not None and meta.own is not None else None
    return Promise(fpir, threshold, people, low, high, misses, misses_low, misses_high, own is not None, beyond, level)


def gallery_thresholds(meta: GalleryMeta) -> dict[float, float]:
    """FAR -> cosine of one comparison: as the model had them at the enrollment, else as facekd carries them.

    Templates that were mapped from another model score otherwise: what facekd knows of the model says nothing of them.
    """
    return dict(meta.calibrated) or ({} if meta.mapped else known_thresholds(meta.contract))


def alike_tail(templates: Array, known: Tail | None) -> Tail | None:
    """How alike the templates of different people are: by their own scores, of few people by what the network is.

    Args:
        templates: float32[N, D] of everybody, or of MOST.
        known: of the network.
    """
    if len(templates) < FEWEST:
        return known
    own = np.arange(len(templates))
    fit = fit_tail(highest_scores(templates, own, templates), own, known, len(templates))
    return known if fit is None else fit.tail


def kept_scores(home: GalleryTable, table: PhotoTable | None) -> OwnScores | None:
    """What is known of the gallery's own scores, measured anew where too many people were written since.

    An earlier facekd did not measure the cohorts' level: that is made good.
    """
    own = home.meta.own
    return own_scores(home, table) if own is None or own.stale or own.level is None else own


def own_scores(home: GalleryTable, table: PhotoTable | None) -> OwnScores | None:
    """What the enrolled people's scores with each other say; None where they are too few, or mapped from another model.

    Of more than MOST people, MOST are compared, chosen by a hash of their ids.
    """
    if home.meta.mapped is not None:  # their scores with each other are not those of a new photo with them
        return None
    people = chosen(person for lot in home.everyone() for person in lot)
    if len(people) < FEWEST:
        return None
    templates = np.stack([person.template for person in people])
    photos: Iterator[tuple[int, Array]] = iter(())
    if table is not None:
        lots = range(0, len(people), LOT)
        photos = ((at + row, own) for at in lots for row, own in _photos(table, people[at : at + LOT]))
    found = scores_of(templates, photos, Tail.of(gallery_thresholds(home.meta)))
    return None if found is None else replace(found, people=len(home))


def scores_of(templates: Array, photos: Iterable[tuple[int, Array]], known: Tail | None) -> OwnScores | None:
    """What the scores between people say of searches; None where they are too few to say anything.

    One photo of each person is compared with the template of everybody else: as a stranger's photo would be. Where
    only a template is there, as after an import, it is compared. Each photo of a person with several is compared with
    the mean of the others, as a later photo would be; its cohort is that of the first of them.

    Args:
        templates: float32[N, D], unit norm, N > COHORT + 1.
        photos: rows of `templates`, and float32[n, D] of each one's photos, n >= 1.
        known: the tail of the network's impostor scores, where it is known.
    """
    probes, genuine, several = templates.copy(), [], []
    for row, vectors in photos:
        probes[row] = vectors[0]
        if len(vectors) > 1:
            others = vectors.sum(axis=0) - vectors
            genuine.append((vectors * others).sum(axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-6))
            several.append(row)
    own = np.arange(len(templates))
    highest = highest_scores(probes, own, templates, centered=True)
    level = float(np.median(highest.levels))
    off = WEIGHT * (highest.levels - level)
    genuine = [scores - off[row] for row, scores in zip(several, genuine, strict=True)]
    fit = fit_tail(highest, own, known, len(templates), near=True)
    alike = alike_tail(templates, known)
    if fit is None or alike is None:
        return None
    return OwnScores(
        people=len(templates),
        compared=len(templates),
        tail=fit.tail.moved(WEIGHT * level).points(),
        sd=fit.sd,
        alike=alike.points(),
        genuine=_shares(genuine),
        genuine_people=len(genuine),
        level=level,
    )


def _shares(scores: list[Array]) -> dict[float, float]:
    """Share -> score that it stays under, each person counting the same."""
    if not scores:
        return {}
    values = np.concatenate(scores)
    order = np.argsort(values, kind="stable")
    counted = np.cumsum(np.concatenate([np.full(len(own), 1 / len(own)) for own in scores])[order]) / len(scores)
    places = np.minimum(np.searchsorted(counted, SHARES), len(values) - 1)
    return {share: float(values[order[place]]) for share, place in zip(SHARES, places, strict=True)}


def chosen(people: Iterable[Person]) -> list[Person]:
    """All of them, or MOST by a hash of their ids; by id."""
    some = heapq.nsmallest(MOST, people, key=lambda person: hashlib.sha256(person.person_id.encode()).digest())
    return sorted(some, key=lambda person: person.person_id)


def _photos(table: PhotoTable, people: list[Person]) -> Iterator[tuple[int, Array]]:
    """The embeddings, float32[n, D], of the photos that each person's template is made of, by their names."""
    rows = {person.person_id: row for row, person in enumerate(people)}
    used = [set(person.sources) for person in people]
    found: list[list[tuple[str, Array]]] = [[] for _ in people]
    for batch in table.embeddings(list(rows)):
        vectors = batch["embedding"].flatten().to_numpy().reshape(len(batch), table.dim)
        for person, source, vector in zip(
            batch["person_id"].to_pylist(), batch["source"].to_pylist(), vectors, strict=True
        ):
            if source in used[rows[person]]:
                found[rows[person]].append((source, vector))
    for row, own in enumerate(found):
        if own:
            yield row, np.stack([vector for _, vector in sorted(own, key=lambda pair: pair[0])])
