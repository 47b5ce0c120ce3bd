"""From the embeddings of a person's photos to a template, and the photos that do not show the same person."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import pyarrow as pa
from scipy.cluster.hierarchy import fcluster, linkage

from facekd.core.types import Array
from facekd.gallery.people import Person, template_of
from facekd.gallery.photos import KnownPhoto, PhotoTable
from facekd.ingest.embedding import Outcome

TOGETHER = 8192  # photos whose embeddings are in memory at once
SAMPLE = 512  # photos of one person that are compared with each other
FIXED = 2.0**36  # embeddings are added as whole multiples of its inverse
Usable = dict[str, KnownPhoto]  # photos with an embedding by their source
Block = tuple[Array, Array]  # int64[n], places among the usable photos, and their float32[n, D]


@dataclass(frozen=True, slots=True)
class Fused:
    """A person as their photos have it."""

    person_id: str
    person: Person | None  # None: no photo can be used, or none is known to be theirs
    photos: tuple[Outcome, ...]  # what became of each photo, sorted by source
    details: tuple[float, ...]  # of the same photos' faces, percent; NaN where it is not known
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
    vectors = _vectors(table, {person: own for person, own in usable.items() if len(own) <= TOGETHER})
    for person in ids:
        if person not in people:
            yield Fused(person, None, (), (), (), False)
            continue
        own, held = usable[person], vectors.pop(person, None)
        blocks = partial(_blocks, table, person, own) if held is None else partial(_whole, held)
        yield _fuse(person, people[person], list(own.values()), blocks, threshold, accept)


def _usable(photos: Sequence[KnownPhoto]) -> Usable:
    """The photos with an embedding, the first of each digest."""
    first: dict[str | None, KnownPhoto] = {}
    for photo in photos:
        if photo.status == "ok":
            first.setdefault(photo.sha256, photo)
    return {photo.source: photo for photo in first.values()}


def _vectors(table: PhotoTable, usable: dict[str, Usable]) -> dict[str, Array]:
    """float32[n, D] of each person, in the order of their usable photos."""
    places = {(person, source): place for person, own in usable.items() for place, source in enumerate(own)}
    found = {person: np.zeros((len(own), table.dim), np.float32) for person, own in usable.items()}
    for batch in table.embeddings(list(usable)) if places else ():
        keys = zip(batch["person_id"].to_pylist(), batch["source"].to_pylist(), strict=True)
        for key, vector in zip(keys, _matrix(batch, table.dim), strict=True):
            if key in places:
                found[key[0]][places[key]] = vector
    return found


def _whole(vectors: Array) -> Iterator[Block]:
    yield np.arange(len(vectors)), vectors


def _blocks(table: PhotoTable, person: str, usable: Usable) -> Iterator[Block]:
    """The embeddings of so many photos that they are not held at once."""
    places = {source: place for place, source in enumerate(usable)}
    for batch in table.embeddings([person]):
        sources = batch["source"].to_pylist()
        here = [row for row, source in enumerate(sources) if source in places]
        yield np.array([places[sources[row]] for row in here], np.int64), _matrix(batch, table.dim)[here]


def _matrix(batch: pa.RecordBatch, dim: int) -> Array:
    matrix: Array = batch["embedding"].flatten().to_numpy().reshape(len(batch), dim)
    return matrix


def _fuse(
    person: str,
    photos: Sequence[KnownPhoto],
    usable: Sequence[KnownPhoto],
    blocks: Callable[[], Iterator[Block]],
    threshold: float | None,
    accept: bool,
) -> Fused:
    """A person of photos whose embeddings come in blocks, twice."""
    accepted = np.array([photo.accepted for photo in usable], bool)
    sharpness = np.array([photo.quality for photo in usable], float)
    weights = _weights(sharpness)
    least = -2.0 if threshold is None else threshold
    center = None if threshold is None or len(usable) < 2 else main_direction(_sample(usable, blocks()), threshold)
    scores, sums = np.ones(len(usable)), []
    for places, vectors in blocks():
        if center is not None:
            scores[places] = vectors.astype(np.float64) @ center
        kept = accept | accepted[places] | (scores[places] >= least)
        sums.append(added(vectors[kept], weights[places][kept]))
    matching = accepted | (scores >= least)
    odd = {usable[place].source: float(scores[place]) for place in np.flatnonzero(~matching).tolist()}
    divided = len(odd) > 0 and 2 * len(odd) >= len(usable)
    used = [photo for photo in usable if accept or photo.source not in odd]
    template = template_of(np.sum(sums, axis=0).astype(np.float64) / FIXED) if used else None
    made = None
    if template is not None and (accept or not divided):
        measured = [photo.quality for photo in used if not math.isnan(photo.quality)]
        quality = sum(measured) / len(measured) if measured else None
        made = Person(person, template, tuple(sorted(photo.source for photo in used)), quality)
    of_digest = {photo.sha256: photo.source for photo in usable}
    outcomes: list[Outcome] = []
    for photo in photos:
        source, status, reason = photo.source, photo.status, photo.reason
        if status == "ok" and of_digest[photo.sha256] != source:
            status, reason = "duplicate", f"the same bytes as {of_digest[photo.sha256]}"
        elif source in odd and not accept:
            status, reason = "suspect", f"scores {odd[source]:.3f} with the other photos of this person"
        outcomes.append(Outcome(source, status, reason))
    return Fused(person, made, tuple(outcomes), tuple(photo.detail for photo in photos), tuple(odd.items()), divided)


def _weights(sharpness: Array) -> Array:
    """How much each photo counts, of float64[n] or NaN; one without any detail still counts a little.

    A ready embedding, of which no sharpness is known, counts as much as the others on average.
    """
    unknown = np.isnan(sharpness)
    weights: Array = np.log1p(np.maximum(sharpness, 1.0))
    weights[unknown] = 1.0 if unknown.all() else weights[~unknown].mean()
    return weights


def _sample(usable: Sequence[KnownPhoto], blocks: Iterable[Block]) -> Array:
    """The embeddings of all photos, or of those with the smallest digests: by chance, and the same ones each time."""
    if len(usable) <= TOGETHER:
        ((_, vectors),) = blocks
        return vectors
    chosen = sorted(range(len(usable)), key=lambda place: usable[place].sha256 or "")[:SAMPLE]
    parts = [(places[here], vectors[here]) for places, vectors in blocks for here in [np.isin(places, chosen)]]
    places, vectors = (np.concatenate(part) for part in zip(*parts, strict=True))
    sample: Array = vectors[np.argsort(places)]
    return sample


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
