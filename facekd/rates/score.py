"""From embeddings and a pair list to scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from facekd.core.types import Embeddings, PairList, Scores
from facekd.errors import UserError
from facekd.rates.cosines import pair_cosines


def score(embeddings: Embeddings, pairs: PairList, failed: frozenset[str] = frozenset()) -> Scores:
    """The cosine of each pair, float32[P] in [-1, 1]; -inf where one of its photos is in `failed`.

    Args:
        failed: ids that are known to have no embedding (no face found, not decodable).

    Raises:
        UserError: an id that is neither embedded nor failed, one that is both, or one embedded twice.
    """
    row = {name: index for index, name in enumerate(embeddings.ids)}
    if len(row) < len(embeddings.ids):
        seen: set[str] = set()
        twice = next(name for name in embeddings.ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UserError(
            f"{len(embeddings.ids) - len(row)} ids are embedded more than once (first: {twice}); "
            "keep one embedding for each id"
        )
    both = sorted(failed & row.keys())
    if both:
        raise UserError(
            f"{len(both)} ids are embedded and also listed as failed (first: {both[0]}); take them off one of the lists"
        )
    row.update(dict.fromkeys(failed, -1))
    unknown = [name for name in pairs.photos() if name not in row]
    if unknown:
        raise UserError(
            f"{len(unknown)} ids of the pair list have no embedding and no recorded failure (first: {unknown[0]}); "
            "embed them, or check that the list and the embeddings name photos the same way"
        )

    place = np.array([row.get(name, -1) for name in pairs.left.distinct], np.int32)  # of each name that is on a side
    left, right = (place[side.codes] for side in (pairs.left, pairs.right))
    values = pair_cosines(embeddings.vectors, left, right)
    return Scores(values, pairs.same, pairs.left, pairs.right, pairs.fold)


def without_failures(scores: Scores) -> Scores:
    """Only the pairs of which both photos gave an embedding: for the rates shown beside the honest ones."""
    kept = np.flatnonzero(scores.values != -np.inf)
    return replace(
        scores,
        values=scores.values[kept],
        same=scores.same[kept],
        left=scores.left.take(kept),
        right=scores.right.take(kept),
        fold=scores.fold[kept],
    )
