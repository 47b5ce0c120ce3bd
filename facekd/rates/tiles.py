"""Tiles of the matrix of all pairs: scored one after the other, counted, and never kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facekd.core.system import cores
from facekd.core.types import Array
from facekd.rates.spread import Cuts, SpreadCount
from facekd.rates.windows import Tally, Window

SIDE = 1024  # of a tile: its scores are 4 MiB


@dataclass(frozen=True, slots=True)
class Photos:
    """Labeled embeddings, those of a person side by side in `order`: genuine cells then lie at the diagonal."""

    vectors: Array  # float32[N, D]
    order: Array  # int64[N], the rows of `vectors` in the order in which tiles count them
    person_end: Array  # int64[N], one past the last place of the same person
    cuts: Cuts | None = None  # where each impostor score is counted too; None counts those of windows alone


@dataclass(slots=True)
class Counts:
    """What was counted in some tiles; merge those of all tiles."""

    tallies: list[Tally]  # one for each window
    accepted: Array  # int64[T], impostor scores at or above each threshold
    sums: list[tuple[float, float]] = field(default_factory=list)  # of each tile's impostor scores and their squares
    genuine: list[Array] = field(default_factory=list)  # float32, genuine scores
    rows: list[Array] = field(default_factory=list)  # int32, the row each belongs to
    spread: SpreadCount | None = None  # of all impostor scores, where they were asked for

    def merge(self, other: Counts) -> None:
        """Add the counts of other tiles, counted with the same windows and thresholds."""
        for mine, theirs in zip(self.tallies, other.tallies, strict=True):
            mine.merge(theirs)
        self.accepted = self.accepted + other.accepted
        self.sums += other.sums
        self.genuine += other.genuine
        self.rows += other.rows
        if self.spread is not None and other.spread is not None:
            self.spread.merge(other.spread)


Tile = tuple[int, int, int, int]  # rows r0:r1 against columns c0:c1
Product = Callable[[Array, Array, Array], object]  # (f32[a, D], f32[b, D], out f32[a, b]): out = left @ right.T
Count = Callable[[Photos, Sequence[Window], Array, Sequence[Tile]], Counts]  # as `count_on_cores`


def numpy_product(left: Array, right: Array, out: Array) -> None:
    """``out = left @ right.T`` on the CPU."""
    np.matmul(left, right.T, out=out)


def tiles(n: int) -> list[Tile]:
    """Tiles that cover each cell of the upper triangle of an n x n matrix once; those on the diagonal are square."""
    starts = range(0, n, SIDE)
    return [(r, min(r + SIDE, n), c, min(c + SIDE, n)) for r in starts for c in starts if c >= r]


def count_tiles(
    photos: Photos,
    windows: Sequence[Window],
    thresholds: Array,
    over: Iterable[Tile],
    product: Product = numpy_product,
) -> Counts:
    """Score the tiles one after the other and count; other threads or machines may count other tiles.

    Args:
        thresholds: float32[T], ascending.
    """
    cuts = photos.cuts
    spread = None if cuts is None else SpreadCount.empty(cuts)
    counts = Counts([Tally() for _ in windows], np.zeros(len(thresholds), np.int64), spread=spread)
    # Scores from here on are sorted; lower windows, such as the EER's of a weak network, sift theirs alone.
    lowest = np.float32(thresholds[0] if len(thresholds) else min(window.low for window in windows))
    buffer = np.empty(SIDE * SIDE, np.float32)
    left, right = np.empty((2, SIDE, photos.vectors.shape[1]), np.float32)
    held = -1  # the first row of what is in left: most tiles share it with the one before
    for r0, r1, c0, c1 in over:
        if r0 != held:
            # the other modes buffer
            np.take(photos.vectors, photos.order[r0:r1], axis=0, out=left[: r1 - r0], mode="clip")
            held = r0
        np.take(photos.vectors, photos.order[c0:c1], axis=0, out=right[: c1 - c0], mode="clip")
        scores = buffer[: (r1 - r0) * (c1 - c0)].reshape(r1 - r0, c1 - c0)
        product(left[: r1 - r0], right[: c1 - c0], scores)
        impostor = scores.ravel()
        if photos.person_end[r1 - 1] > c0:
            genuine, rows = _take_genuine(scores, r0, c0, photos.person_end)
            counts.genuine.append(genuine)
            counts.rows.append(rows)
            impostor = impostor[impostor > -np.inf]
        if cuts is not None and spread is not None:
            spread.add(cuts, scores)
        counts.sums.append((float(impostor.sum()), float(np.dot(impostor, impostor))))
        high = np.sort(buffer[np.flatnonzero(scores >= lowest)])
        counts.accepted += len(high) - np.searchsorted(high, thresholds, side="left")
        for window, tally in zip(windows, counts.tallies, strict=True):
            if window.low >= lowest:
                tally.add(window, high)
            else:
                tally.add_unsorted(window, impostor)
    return counts


def count_on_cores(
    photos: Photos,
    windows: Sequence[Window],
    thresholds: Array,
    over: Sequence[Tile],
    product: Product = numpy_product,
) -> Counts:
    """`count_tiles` with a thread for each core; each thread fetches its next tile when it is done with one."""
    shared = iter(list(over))  # next() of a list's iterator is one step: no tile is given out twice
    work = partial(count_tiles, photos, windows, thresholds, shared, product)
    workers = cores()
    # A product that uses one core in each thread keeps all cores busy while other threads sift their scores.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work) for _ in range(workers)]
    counts = running[0].result()
    for other in running[1:]:
        counts.merge(other.result())
    return counts


def _take_genuine(scores: Array, r0: int, c0: int, person_end: Array) -> tuple[Array, Array]:
    """The genuine scores of a tile and the row of each; what is no impostor pair is overwritten with -inf."""
    r1, c1 = r0 + scores.shape[0], c0 + scores.shape[1]
    first = r0 + int(np.searchsorted(person_end[r0:r1], c0, side="right"))  # the first row whose person reaches c0
    end = min(c1, int(person_end[r1 - 1]))
    part, row, column = scores[first - r0 :, : end - c0], np.arange(first, r1), np.arange(c0, end)
    not_impostor = column < person_end[first:r1, None]  # the diagonal and the cells below it too
    at = np.flatnonzero(not_impostor & (column > row[:, None]))
    genuine, rows = part.ravel()[at], row[at // part.shape[1]].astype(np.int32)
    part[not_impostor] = -np.inf
    return genuine, rows


def genuine_scores(photos: Photos, product: Product = numpy_product) -> Array:
    """float32, ascending: all genuine scores, from the tiles that hold some, with the bits that `count_tiles` finds."""
    near = [(r0, r1, c0, c1) for r0, r1, c0, c1 in tiles(len(photos.order)) if photos.person_end[r1 - 1] > c0]

    def of(tile: Tile) -> Array:
        r0, r1, c0, c1 = tile
        scores = np.empty((r1 - r0, c1 - c0), np.float32)
        product(photos.vectors[photos.order[r0:r1]], photos.vectors[photos.order[c0:c1]], scores)
        return _take_genuine(scores, r0, c0, photos.person_end)[0]

    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
        found = list(pool.map(of, near))
    return np.sort(np.concatenate([np.zeros(0, np.float32), *found]))
