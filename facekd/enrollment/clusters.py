"""Unnamed faces into people: exact nearest neighbors, a threshold from what pairs show, and groups merged by evidence.

A face is taken as its person's place plus a deviation of its own, both normal and alike in all directions; a share
`between` of the variance is between people. The evidence that two groups show one person is then a Bayes factor in
closed form (the two-covariance model: Ioffe, ECCV 2006; Brümmer and de Villiers, Odyssey 2010). Other than a mean of
scores it grows with the size of the groups: a poor photo joins the many of its person at a score at which it would not
join one, and one strong score does not chain two groups, as it does in DBSCAN and Chinese whispers.
``benchmarks/cluster.py`` measures all three.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from facekd.console import progress
from facekd.core.types import Array
from facekd.deploy.thresholds import usual_far

SCORES = 1 << 23  # held at once, 32 MiB
LEVELS = 257  # thresholds that are looked at
# Chosen over four networks and three mixes of people whom no figure is of (benchmarks/cluster.py --choose), STRANGERS
# among three values with LFW in view as well.
# Of the pairs that reach the threshold, this share may be of strangers for each further photo of a person: a person's
# other photos outweigh a chance likeness, and who is alone has none.
STRANGERS = 0.06
MOST_STRANGERS = 0.5
BETWEEN = 0.75  # this times the threshold is the share of the variance between people


@dataclass(frozen=True, slots=True)
class Clusters:
    """A partition of faces, and the threshold that it was made with."""

    clusters: Array  # int64[N], from 1 on, the largest first
    scores: Array  # float32[N], cosine with the center of the cluster's other faces; NaN of one that is alone
    unsure: Array  # bool[N], in a cluster, but at a mean cosine with its other faces that is under the threshold
    threshold: float  # cosine from which two faces that are alone show one person


def cluster_faces(
    vectors: Array,
    known: Mapping[float, float],
    threshold: float | None = None,
    quiet: bool = True,
    *,
    strangers: float = STRANGERS,
    between: float = BETWEEN,
) -> Clusters:
    """Who of some faces is one person. The order of the faces does not matter, and the same face twice is one.

    Args:
        vectors: float32[N, D], unit norm, N at least 1.
        known: FAR of one comparison -> cosine, of the network; not empty where there is no `threshold`.
        threshold: in (0, 1]; None takes the one of `threshold_by_chance`.
    """
    rows, sizes, of = distinct(vectors)
    levels = np.zeros(0) if threshold is not None else levels_of(known)
    survey = Survey(rows, levels)
    for _ in progress(survey, -(-len(rows) // survey.block) * survey.block, "compare", quiet, unit=survey.block):
        pass
    further = 1.0  # photos of a person beside the first: at first taken as one, then as found
    for last in (False, True) if threshold is None else (True,):
        at = threshold or threshold_by_chance(known, levels, survey.above, len(rows), strangers * further)
        merging = Merging(rows, sizes, at, survey, between)
        for _ in progress(merging, merging.most, "merge" if last else "try a threshold", quiet):
            pass
        groups = merging.groups()
        further = len(groups) / len(np.unique(groups)) - 1
    clusters = numbered(groups[of])
    scores, means = own_scores(vectors, clusters)
    return Clusters(clusters, scores, means < at, at)  # NaN of who is alone is not


class Survey:
    """Everybody's nearest neighbor, and how many pairs reach each of some levels, by one exact pass over all pairs."""

    def __init__(self, vectors: Array, levels: Array) -> None:
        """`vectors`: float32[N, D], unit norm, N at least 2; `levels`: [L], rising."""
        self.vectors, self.levels = vectors, levels
        self.nearest = np.zeros(len(vectors), np.int64)
        self.scores = np.full(len(vectors), -np.inf, np.float32)  # of the nearest
        self.above = np.zeros(len(levels), np.int64)  # pairs that reach each level
        self.block = max(1, SCORES // len(vectors))  # rows a step

    def __iter__(self) -> Iterator[None]:
        """A step for each `block` rows; when it ends the fields hold."""
        vectors = self.vectors
        for start in range(0, len(vectors), self.block):
            end = min(start + self.block, len(vectors))
            scores = vectors[start:end] @ vectors[start:].T
            # Each pair once: the upper triangle, then what lies right of the block.
            scores[np.tril_indices(end - start)] = -np.inf
            if len(self.levels):
                found = np.sort(scores[scores >= self.levels[0]])
                self.above += len(found) - np.searchsorted(found, self.levels)
            corner = scores[:, : end - start]
            np.maximum(corner, corner.T, out=corner)
            self._take(np.arange(start, end), start + scores.argmax(axis=1), scores.max(axis=1))
            if end < len(vectors):
                right = scores[:, end - start :]
                self._take(np.arange(end, len(vectors)), start + right.argmax(axis=0), right.max(axis=0))
            yield

    def _take(self, rows: Array, nearest: Array, scores: Array) -> None:
        better = scores > self.scores[rows]
        self.nearest[rows[better]], self.scores[rows[better]] = nearest[better], scores[better]


def levels_of(known: Mapping[float, float]) -> Array:
    """The thresholds among which `threshold_by_chance` chooses: from the usual FAR's to the strictest that is known.

    Args:
        known: FAR -> cosine, not empty.
    """
    return np.linspace(known[usual_far(known)], known[min(known)], LEVELS if len(known) > 1 else 1)


def threshold_by_chance(
    known: Mapping[float, float], levels: Array, above: Array, count: int, strangers: float
) -> float:
    """The least level at which no more than a share `strangers` of its pairs are expected to be of strangers.

    As many as `count` faces make by chance: FAR times their pairs, so the more faces the stricter. It is the last level
    where none is strict enough.

    Args:
        known: FAR -> cosine; between two of them log FAR is taken as a straight line.
        levels: as `levels_of` gives them.
        above: [L], pairs that reach each.
    """
    fars = sorted(known, reverse=True)
    log_far = np.interp(levels, [known[far] for far in fars], np.log(fars))
    by_chance = np.exp(log_far) * (count * (count - 1) / 2)
    fine = np.flatnonzero(by_chance <= min(strangers, MOST_STRANGERS) * above)
    return float(levels[fine[0]] if len(fine) else levels[-1])


def evidence(score: float, between: float) -> float:
    """The log Bayes factor, for each dimension, that two faces of this cosine show one person."""
    ratio = between / (1 - between)
    spread = (2 + 2 * score) / (1 + 2 * ratio) - 2 / (1 + ratio)
    return float(ratio / (2 * (1 - between)) * spread + np.log1p(ratio) - np.log1p(2 * ratio) / 2)


class Merging:
    """Groups that begin as single faces and are merged while the evidence for one person is that of the threshold.

    In each round all pairs of groups merge that are each other's nearest. Nothing is approximated: a round computes
    anew what merging changed, by products with everybody.
    """

    def __init__(self, vectors: Array, sizes: Array, threshold: float, survey: Survey, between: float) -> None:
        """
        Args:
            vectors: float32[N, D], unit norm, no two the same.
            sizes: int64[N], faces that each stands for.
            threshold: cosine in (0, 1] from which two faces that are alone show one person.
            survey: of `vectors`, done.
            between: in (0, 1); times the threshold, the share of the variance that is between people.
        """
        between *= threshold
        ratio = between / (1 - between)
        counts = np.arange(2 * int(sizes.sum()) + 1)
        self._gain = ratio / (2 * (1 - between)) / (1 + counts * ratio)  # of a group's squared sum, by its size
        self._cost = np.log1p(counts * ratio) / 2
        self._least = evidence(threshold, between) - 1e-6  # float32's rounding
        self._sums = vectors * sizes[:, None].astype(np.float32)
        self._sizes, self._squares = sizes.copy(), sizes.astype(np.float64) ** 2  # of each group's sum
        self._ids = np.arange(len(vectors))  # the face that each group is called by
        self._nearest, self._scores = (
            survey.nearest.copy(),
            np.array([evidence(float(score), between) for score in survey.scores], np.float32),
        )
        self._second = self._scores.copy()  # at least as near as all others than the nearest
        self._live = np.ones(len(vectors), bool)
        self._into = np.arange(len(vectors))  # the group that each face's group went into
        several = sizes > 1
        self._update(np.flatnonzero(several), several[self._nearest])
        self.most = int((self._scores >= self._least).sum())  # merges, at most

    def __iter__(self) -> Iterator[None]:
        """A step for each merge."""
        while True:
            kept, joined = self._pairs()
            if not len(kept):
                return
            self._sums[kept] += self._sums[joined]
            self._sizes[kept] += self._sizes[joined]
            self._squares[kept] = np.einsum("nd,nd->n", self._sums[kept], self._sums[kept], dtype=np.float64)
            self._into[self._ids[joined]] = self._ids[kept]
            self._live[joined] = False
            changed = np.zeros(len(self._live), bool)
            changed[kept] = changed[joined] = True
            self._update(kept, changed[self._nearest])
            yield from (None for _ in kept)
            if self._live.mean() < 0.7:
                self._compact()

    def groups(self) -> Array:
        """int64[N]: of each face of `vectors` the lowest row of its group."""
        found: Array = self._into
        while not np.array_equal(found, found[found]):
            found = found[found]
        return found

    def _pairs(self) -> tuple[Array, Array]:
        """Rows that are each other's nearest, the lower ones and theirs; where rounding leaves none, the best pair."""
        ready = np.flatnonzero(self._live & (self._scores >= self._least))
        mutual = ready[(self._nearest[self._nearest[ready]] == ready) & (ready < self._nearest[ready])]
        if len(mutual) or not len(ready):
            return mutual, self._nearest[mutual]
        best = int(ready[self._scores[ready].argmax()])
        first, second = sorted((best, int(self._nearest[best])))
        return np.array([first]), np.array([second])

    def _update(self, new: Array, stale: Array) -> None:
        """Find the nearest of the `new` groups, and of those whose nearest has changed (`stale`, bool[N])."""
        stale = stale & self._live
        stale[new] = False
        for rows, scores in self._against(new):
            everybody = np.arange(scores.shape[1])
            row = scores.argmax(axis=0)
            best = scores[row, everybody]
            scores[row, everybody] = -np.inf
            next_best = scores.max(axis=0)
            scores[row, everybody] = best
            # Where the nearest has changed, and nobody else was nearer than what it is now, nothing is left to find.
            better = self._live & np.where(stale, best >= self._second, best > self._scores)
            former = np.where(stale, -np.inf, self._scores)
            bound = np.where(better, np.maximum(former, next_best), best)
            np.maximum(self._second, bound, out=self._second, where=self._live)
            self._nearest[better], self._scores[better] = rows[row[better]], best[better]
            stale &= ~better
            self._set(rows, scores)
        for rows, scores in self._against(np.flatnonzero(stale)):
            self._set(rows, scores)

    def _set(self, rows: Array, scores: Array) -> None:
        """Take these rows' nearest from their scores with everybody, which are used up."""
        each = np.arange(len(rows))
        self._nearest[rows] = scores.argmax(axis=1)
        self._scores[rows] = scores[each, self._nearest[rows]]
        scores[each, self._nearest[rows]] = -np.inf
        self._second[rows] = scores.max(axis=1)

    def _against(self, rows: Array) -> Iterator[tuple[Array, Array]]:
        """Some of the rows, all of one size, and the evidence of each with everybody: float32[rows, N]."""
        if not len(rows):
            return
        alone = self._cost[self._sizes] - self._gain[self._sizes] * self._squares
        alone[~self._live] = -np.inf
        rows = rows[np.argsort(self._sizes[rows], kind="stable")]
        ends = [0, *(np.flatnonzero(np.diff(self._sizes[rows])) + 1).tolist(), len(rows)]
        step = max(1, SCORES // len(alone))
        for first, end in pairwise(ends):
            size = int(self._sizes[rows[first]])
            gain = self._gain[self._sizes + size]
            base = (alone + gain * self._squares - self._cost[self._sizes + size]).astype(np.float32)
            for start in range(first, end, step):
                some = rows[start : min(start + step, end)]
                scores = self._sums[some] @ self._sums.T
                scores += (self._squares[some] / 2)[:, None].astype(np.float32)
                scores *= (2 * gain).astype(np.float32)
                scores += base
                scores += alone[some][:, None].astype(np.float32)
                scores[np.arange(len(some)), some] = -np.inf
                yield some, scores

    def _compact(self) -> None:
        """Leave out the groups that have gone into others."""
        kept = np.flatnonzero(self._live)
        place = np.full(len(self._live), -1)
        place[kept] = np.arange(len(kept))
        self._nearest = place[self._nearest[kept]]
        self._sums, self._sizes, self._squares = self._sums[kept], self._sizes[kept], self._squares[kept]
        self._scores, self._second = self._scores[kept], self._second[kept]
        self._ids, self._live = self._ids[kept], self._live[kept]


def distinct(vectors: Array) -> tuple[Array, Array, Array]:
    """Each vector once, in an order that is theirs alone, so that no result depends on the input's.

    Returns:
        float32[M, D]; int64[M], how often each is there; int64[N], the row of each of the N.
    """
    rows = np.ascontiguousarray(vectors + np.float32(0))  # -0 is 0
    _, first, of, counts = np.unique(
        rows.view(f"V{rows.shape[1] * 4}").ravel(), return_index=True, return_inverse=True, return_counts=True
    )
    return rows[first], counts, of.ravel()


def numbered(groups: Array) -> Array:
    """int64[N]: clusters from 1 on, the largest first, of one size the one whose first face comes first."""
    _, first, of, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    number = np.empty(len(first), np.int64)
    number[np.lexsort((first, -counts))] = np.arange(1, len(first) + 1)
    found: Array = number[of]
    return found


def own_scores(vectors: Array, clusters: Array) -> tuple[Array, Array]:
    """How alike each face is to its cluster's others: the cosine with their center, and the mean of the cosines.

    Args:
        vectors: float32[N, D], unit norm.
        clusters: int64[N], from 1 on without a gap.

    Returns:
        float32[N] twice, NaN of one that is alone.
    """
    sums = np.zeros((int(clusters.max()), vectors.shape[1]))
    np.add.at(sums, clusters - 1, vectors)
    others = sums[clusters - 1] - vectors
    counts = np.bincount(clusters)[clusters] - 1
    others[counts == 0] = np.nan
    scores = np.einsum("nd,nd->n", others, vectors)
    lengths = np.maximum(np.linalg.norm(others, axis=1), 1e-12)
    return (scores / lengths).astype(np.float32), (scores / np.maximum(counts, 1)).astype(np.float32)
