"""One person under two ids: templates so near each other that the gallery could not tell them apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facekd.core.types import Array, Embeddings
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.people import Person

SCORES, ROWS = 1 << 18, 64  # held at once, and of very many templates so many rows of them
MOST = 5  # ids that are named for one person


@dataclass(frozen=True, slots=True)
class Suspect:
    """What looks like a mistake in who is who."""

    # One person under two ids; two people under one id; another person than before under one id.
    kind: Literal["two_ids", "two_people", "changed"]
    person: str
    other: str | None  # the other id, of two_ids
    source: str | None  # the photo that does not match the rest, of two_people
    score: float  # of two ids: of their templates; else of the photo with the rest, or of the new template with the old

    def said(self) -> str:
        """What looks wrong, without a name."""
        if self.kind == "two_ids":
            return "look like one person"
        if self.kind == "two_people":
            return "does not match the other photos"
        return "no longer looks like the same person"


def two_ids(
    home: GalleryTable, changed: Sequence[Person], before: Mapping[str, Person], threshold: float
) -> list[Suspect]:
    """Pairs of ids, of which at least one is new or changed, whose templates score at least `threshold`.

    Two ids that were enrolled before and as near each other then have been accepted and are not named again.

    Args:
        changed: as they are to be written.
        before: those of them that are enrolled, as they are now.

    Returns:
        Each pair once, the most alike first.
    """
    if not changed:
        return []
    vectors = np.stack([person.template for person in changed])
    pairs = _among(changed, vectors, before, threshold)
    if len(home):
        pairs |= _in_gallery(home, changed, vectors, before, threshold)
    found = [Suspect("two_ids", person, other, None, score) for (person, other), score in pairs.items()]
    return sorted(found, key=lambda suspect: (-suspect.score, suspect.person, suspect.other or ""))


def _among(
    changed: Sequence[Person], vectors: Array, before: Mapping[str, Person], threshold: float
) -> dict[tuple[str, str], float]:
    pairs: dict[tuple[str, str], float] = {}
    size = max(ROWS, SCORES // len(changed))
    for start in range(0, len(changed), size):
        scores = vectors[start : start + size] @ vectors.T
        scores[np.arange(len(scores)), np.arange(start, start + len(scores))] = -np.inf
        near = np.argpartition(scores, -min(MOST, len(changed)), axis=1)[:, -MOST:]
        for row, columns in enumerate(near):
            for column in columns:
                if scores[row, column] >= threshold:
                    one, two = sorted((start + row, int(column)))
                    first, second = changed[one], changed[two]
                    old = before.get(first.person_id), before.get(second.person_id)
                    if not (old[0] and old[1] and _score(old[0], old[1]) >= threshold):
                        pairs[first.person_id, second.person_id] = float(scores[row, column])
    return pairs


def _in_gallery(
    home: GalleryTable, changed: Sequence[Person], vectors: Array, before: Mapping[str, Person], threshold: float
) -> dict[tuple[str, str], float]:
    ids = tuple(person.person_id for person in changed)
    own = set(ids)
    pairs: dict[tuple[str, str], float] = {}
    for person, matches in zip(
        changed, home.search(Embeddings(vectors, ids, home.meta.model_id), MOST + 1), strict=True
    ):
        # The enrolled templates of changed people are those that go; the new ones are compared among themselves.
        near = [match for match in matches if match.score >= threshold and match.person_id not in own]
        old = before.get(person.person_id)
        others = home.people([match.person_id for match in near]) if old and near else {}
        for match in near:
            if old and _score(old, others[match.person_id]) >= threshold:
                continue
            pairs[person.person_id, match.person_id] = match.score
    return pairs


def _score(one: Person, other: Person) -> float:
    return float(one.template @ other.template)
