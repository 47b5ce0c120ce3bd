"""From the embeddings of a person's photos to a template, and the photos that do not show the same person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from facekd.core.types import Array
from facekd.gallery.people import Person, template_of
from facekd.gallery.photos import KnownPhoto, PhotoTable
from facekd.ingest.embedding import Outcome

TOGETHER = 8192  # photos whose embeddings are in memory at once
SAMPLE = 512  # photos of one person that are compared with each other
FIXED = 2.0**36  # embeddings are added as whole multiples of its inverse
Usable = dict[str, KnownPhoto]  # photos with an embedding by their source


@dataclass(frozen=True, slots=True)
class Fused:
    """A person as their photos have it."""

    person_id: str
    person: Person | None  # None: no photo can be used, or none is known to be theirs
    photos: tuple[Outcome, ...]  # what became of each photo, sorted by source
    odd: tuple[tuple[str, float], ...]  # photos that do not match the rest: source and score with it
    divided: bool  # no more than half of the photos match each other, so it can't be told who the person is


def fuse(table: PhotoTable, ids: Sequence[str], threshold: float | None, accept: bool) -> Iterator[Fused]:
    """The templates of people: the weighted mean of the embeddings of their photos, of unit norm.

    A photo's weight is log(1 + sharpness). On LFW that finds as many people as the plain mean; where every other photo
    is bad it finds more of them with a weak model (benchmarks/enroll.py --only fusion).

    A pure function of the table's rows; their order does not matter, to the last bit. Of photos with the same bytes the
    first counts.

    Args:
        threshold: cosine with the other photos from which a photo shows the same person; None: not looked at.
        accept: use the photos that do not match the rest too.
    """
    photos = sorted(table.known(ids), key=lambda photo: (photo.person_id, photo.source))
    people = {person: list(own) for person, own in groupby(photos, key=lambda photo: photo.person_id)}
    usable = {person: _usable(own) for person, own in people.items()}
    few = [person for person in people if len(usable[person]) <= TOGETHER]
    vectors = _vectors(table, few, usable)
    for person in ids:
        if person not in people:
            yield Fused(person, None, (), (), False)
        elif person in vectors:
            yield _fuse_few(person, people[person], usable[person], vectors.pop(person), threshold, accept)
        else:
            yield _fuse_many(table, person, people[person], usable[person], threshold, accept)


def _usable(photos: Sequence[KnownPhoto]) -> Usable:
    """The photos with an embedding, the first of each digest."""
    first: dict[str | None, KnownPhoto] = {}
    for photo in photos:
        if photo.status == "ok":
            first.setdefault(photo.sha256, photo)
    return {photo.source: photo for photo in first.values()}


def _vectors(table: PhotoTable, ids: Sequence[str], usable: dict[str, Usable]) -> dict[str, Array]:
    """float32[n, D] of each person, in the order of their usable photos."""
    places = {(person, source): place for person in ids for place, source in enumerate(usable[person])}
    found = {person: np.zeros((len(usable[person]), table.dim), np.float32) for person in ids}
    if places:
        for persons, sources, vectors in _blocks(table, ids):
            for person, source, vector in zip(persons, sources, vectors, strict=True):
                if (person, source) in places:
                    found[person][places[person, source]] = vector
    return found


def _blocks(table: PhotoTable, ids: Sequence[str]) -> Iterator[tuple[list[str], list[str], Array]]:
    for batch in table.embeddings(ids):
        vectors = batch["embedding"].flatten().to_numpy().reshape(len(batch), table.dim)
        yield batch["person_id"].to_pylist(), batch["source"].to_pylist(), vectors


def _fuse_few(
    person: str,
    photos: Sequence[KnownPhoto],
    usable: Usable,
    vectors: Array,
    threshold: float | None,
    accept: bool,
) -> Fused:
    center = None if threshold is None or len(vectors) < 2 else main_direction(vectors, threshold)
    scores = np.ones(len(vectors)) if center is None else vectors.astype(np.float64) @ center
    kept = _accepted(usable) | (scores >= (-2.0 if threshold is None else threshold))
    used = np.ones(len(kept), bool) if accept else kept
    total = added(vectors[used], _weights(usable)[used])
    return _fused(person, photos, list(usable.values()), scores, kept, total, accept)


def _fuse_many(
    table: PhotoTable,
    person: str,
    photos: Sequence[KnownPhoto],
    usable: Usable,
    threshold: float | None,
    accept: bool,
) -> Fused:
    """The same of so many photos that their embeddings are not held at once: a sample of them says who it is."""
    places = {source: place for place, source in enumerate(usable)}
    scores, total = np.ones(len(places)), np.zeros(table.dim, np.int64)
    accepted, weights = _accepted(usable), _weights(usable)
    center = None
    if threshold is not None:
        # The photos with the smallest digests: chosen by chance, and the same ones each time.
        chosen = set(sorted(places, key=lambda source: usable[source].sha256 or "")[:SAMPLE])
        sample = [
            (source, vector)
            for _, sources, vectors in _blocks(table, [person])
            for source, vector in zip(sources, vectors, strict=True)
            if source in chosen
        ]
        center = main_direction(np.stack([vector for _, vector in sorted(sample, key=lambda one: one[0])]), threshold)
    for _, sources, vectors in _blocks(table, [person]):
        here = [row for row, source in enumerate(sources) if source in places]
        block, own = vectors[here], np.array([places[sources[row]] for row in here], np.int64)
        used = np.ones(len(own), bool)
        if center is not None and threshold is not None:
            scores[own] = block.astype(np.float64) @ center
            used = used if accept else accepted[own] | (scores[own] >= threshold)
        total += added(block[used], weights[own][used])
    kept = accepted | (scores >= (-2.0 if threshold is None else threshold))
    return _fused(person, photos, list(usable.values()), scores, kept, total, accept)


def _accepted(usable: Usable) -> Array:
    """bool[n]: which photos count whatever they score."""
    return np.array([photo.accepted for photo in usable.values()], bool)


def _weights(usable: Usable) -> Array:
    """float64[n]: how much each photo counts; one without any detail still counts a little."""
    return np.log1p(np.maximum([photo.quality for photo in usable.values()], 1.0))


def _fused(
    person: str,
    photos: Sequence[KnownPhoto],
    usable: Sequence[KnownPhoto],
    scores: Array,
    kept: Array,
    total: Array,
    accept: bool,
) -> Fused:
    odd = {usable[place].source: float(scores[place]) for place in np.flatnonzero(~kept).tolist()}
    divided = len(odd) > 0 and 2 * len(odd) >= len(usable)
    used = [photo for photo in usable if accept or photo.source not in odd]
    template = template_of(total.astype(np.float64) / FIXED) if used else None
    made = None
    if template is not None and (accept or not divided):
        quality = sum(photo.quality for photo in used) / len(used)
        made = Person(person, template, tuple(sorted(photo.source for photo in used)), quality)
    of_digest = {photo.sha256: photo.source for photo in usable}
    ledger: list[Outcome] = []
    for photo in photos:
        source, status, reason = photo.source, photo.status, photo.reason
        if status == "ok" and of_digest[photo.sha256] != source:
            status, reason = "duplicate", f"the same bytes as {of_digest[photo.sha256]}"
        elif source in odd and not accept:
            status, reason = "suspect", f"scores {odd[source]:.3f} with the other photos of this person"
        ledger.append(Outcome(source, status, reason))
    return Fused(person, made, tuple(ledger), tuple(odd.items()), divided)


def added(vectors: Array, weights: Array) -> Array:
    """int64[D]: the sum of float32[N, D], each times its weight of float64[N], in units of 1 / FIXED.

    Whole numbers give the same sum in any order, and so the same template whatever came first.
    """
    total: Array = np.rint(vectors * weights[:, None] * FIXED).astype(np.int64).sum(axis=0)
    return total


def main_direction(vectors: Array, threshold: float) -> Array:
    """The unit mean of the largest group of photos that show one person.

    Groups are joined while the mean score between their photos is at least the threshold (average linkage).

    Args:
        vectors: float32[n, D], unit norm.

    Returns:
        float64[D]; of all photos where every two of them match.
    """
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    members = np.arange(len(vectors))
    if cosines.min() < threshold:
        apart = np.clip(1 - cosines[np.triu_indices(len(vectors), 1)], 0, None)
        label = fcluster(linkage(apart, "average"), 1 - threshold, "distance")
        largest, _ = Counter(label.tolist()).most_common(1)[0]
        members = np.flatnonzero(label == largest)
    total = vectors[members].astype(np.float64).sum(axis=0)
    return np.asarray(total / np.linalg.norm(total))
