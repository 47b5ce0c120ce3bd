"""Exact rates over all pairs of labeled embeddings, without ever keeping the pairs.

Scores come from blocked matrix products over the upper triangle. Genuine scores are kept (8 bytes each with their
person: less than the embeddings themselves unless a person has more photos than the embeddings have numbers);
of the impostor scores only the few that can be thresholds are looked at, see windows.py, and those above the
thresholds of the curve are counted, see streamed.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facekd.core.system import cores
from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import Curve
from facekd.rates.rates import far_budget, support
from facekd.rates.sampled import all_pairs_evidence, sampled_people
from facekd.rates.streamed import curve_at, curve_thresholds, d_prime_of, eer_between
from facekd.rates.windows import RankedScore, Tally, Window, guess, locate

SIDE = 1024  # of a tile: its scores are 4 MiB
SAMPLE = 1024  # side of the random tile that the first windows are guessed from
CURVE_TOP = 0.1  # FAR up to which the curve is counted; above it every score would have to be sorted
BANDS = 30  # points of the curve that get an interval


@dataclass(frozen=True, slots=True)
class Photos:
    """Labeled embeddings, those of a person side by side in `order`: genuine cells then lie at the diagonal."""

    vectors: Array  # float32[N, D]
    order: Array  # int64[N], the rows of `vectors` in the order in which tiles count them
    person_end: Array  # int64[N], one past the last place of the same person


@dataclass(slots=True)
class Counts:
    """What was counted in some tiles; merge those of all tiles."""

    tallies: list[Tally]  # one for each window
    accepted: Array  # int64[T], impostor scores at or above each threshold
    sums: list[tuple[float, float]] = field(default_factory=list)  # of each tile's impostor scores and their squares
    genuine: list[Array] = field(default_factory=list)  # float32, genuine scores
    rows: list[Array] = field(default_factory=list)  # int32, the row each belongs to

    def merge(self, other: Counts) -> None:
        """Add the counts of other tiles, counted with the same windows and thresholds."""
        for mine, theirs in zip(self.tallies, other.tallies, strict=True):
            mine.merge(theirs)
        self.accepted = self.accepted + other.accepted
        self.sums += other.sums
        self.genuine += other.genuine
        self.rows += other.rows


@dataclass(frozen=True, slots=True)
class AllPairs:
    """What all pairs of labeled photos show."""

    rates: list[Rate]  # at each FAR asked
    curve: Curve  # some exact points of the ROC, up to a FAR of about CURVE_TOP where there are many photos
    band: list[Rate]  # a few of these points with their intervals; far_asked is the point's own FAR
    eer: tuple[float, float]  # it lies between these
    d_prime: float | None  # None where it is undefined


Tile = tuple[int, int, int, int]  # rows r0:r1 against columns c0:c1
Product = Callable[[Array, Array, Array], object]  # (f32[a, D], f32[b, D], out f32[a, b]): out = left @ right.T
Count = Callable[[Photos, Sequence[Window], Array, Sequence[Tile]], Counts]  # as `count_on_cores`


def numpy_product(left: Array, right: Array, out: Array) -> None:
    """``out = left @ right.T`` on the CPU."""
    np.matmul(left, right.T, out=out)


def all_pairs(
    vectors: Array,
    persons: Array,
    fars: Sequence[float],
    *,
    failed_persons: Array | None = None,
    product: Product = numpy_product,
) -> list[Rate]:
    """TAR at each of `fars` over all unordered pairs of different photos, as `rates.rate_at` over their list.

    low and high are the 95 % interval of tar with the person as the unit, see rates/persons.py; the threshold's error
    is in it. Arguments and errors as `measure_all_pairs`.
    """
    return measure_all_pairs(vectors, persons, fars, failed_persons=failed_persons, product=product).rates


def measure_all_pairs(
    vectors: Array,
    persons: Array,
    fars: Sequence[float],
    *,
    failed_persons: Array | None = None,
    product: Product = numpy_product,
    count: Count | None = None,
) -> AllPairs:
    """The rates of `all_pairs`, and from the same pass over the pairs the ROC, the EER's bounds and d'.

    Args:
        vectors: float32[N, D], unit norm.
        persons: [N], names or numbers: two photos are a genuine pair where these are equal.
        failed_persons: [F], the persons of photos without embedding: all their pairs count, and none is accepted.
        product: for a GPU; must compute in full float32.
        count: for a cluster; None counts on this machine's cores.

    Raises:
        UserError: fewer labels than vectors, embeddings that are not finite, pairs of one class only, or a FAR that
            accepts every pair.
    """
    if vectors.ndim != 2 or len(vectors) != len(persons):
        raise UserError(f"{len(persons)} person labels for embeddings of shape {vectors.shape}: give one for each row")
    assert vectors.dtype == np.float32, vectors.dtype
    n_damaged = int(np.count_nonzero(~np.isfinite(np.einsum("nd,nd->n", vectors, vectors))))
    if n_damaged:
        raise UserError(f"{n_damaged} of {len(vectors)} embeddings are not finite: embed their photos again")
    failed = np.zeros(0, persons.dtype) if failed_persons is None else failed_persons
    _, number, photos = np.unique(np.concatenate([persons, failed]), return_inverse=True, return_counts=True)
    number, n_photos = number[: len(persons)], len(number)
    genuine_pairs = photos * (photos - 1) // 2  # [persons]
    n_genuine = int(genuine_pairs.sum())
    n_impostor = n_photos * (n_photos - 1) // 2 - n_genuine
    if n_genuine == 0 or n_impostor == 0:
        raise UserError(
            f"{n_photos} photos of {len(photos)} persons make {n_genuine} genuine and {n_impostor} impostor pairs: "
            "rates need both kinds"
        )
    worth = all_pairs_evidence(photos)
    supported = [far for far in fars if support(far, worth) != "none"]
    embedded = np.bincount(number, minlength=len(photos))
    n_scored = (len(vectors) ** 2 - int((embedded**2).sum())) // 2
    budgets = [far_budget(far, n_impostor) for far in supported]
    for far, budget in zip(supported, budgets, strict=True):
        if budget >= n_scored:
            raise UserError(
                f"FAR {far} would accept each of the {n_scored} impostor pairs compared; ask for a lower one"
            )

    order = np.argsort(number, kind="stable")
    number = number[order]
    sides = Photos(vectors, order, np.cumsum(embedded)[number])
    scores, sample = _sample(sides, number, product)
    shares = [(budget + 1) / n_scored for budget in budgets]
    thresholds = curve_thresholds(sample, max([CURVE_TOP, *shares]) if len(vectors) > SAMPLE else 1.0)
    count = count or partial(count_on_cores, product=product)
    open_windows = {index: _first_window(scores, sample, share) for index, share in enumerate(shares)}
    found: dict[int, RankedScore] = {}
    # The first pass also counts what no window is needed for: the genuine scores and the curve.
    counts = passed = count(sides, list(open_windows.values()), thresholds, tiles(len(vectors)))
    while True:
        for (index, window), tally in zip(list(open_windows.items()), passed.tallies, strict=True):
            result = locate(window, tally, budgets[index] + 1)
            if isinstance(result, Window):
                assert result != window, f"scores are missing: {window}, rank {budgets[index] + 1}"
                open_windows[index] = result
            else:
                found[index] = result
                del open_windows[index]
        if not open_windows:
            break
        passed = count(sides, list(open_windows.values()), thresholds[:0], tiles(len(vectors)))

    genuine = np.concatenate([np.zeros(0, np.float32), *counts.genuine])
    person = number[np.concatenate([np.zeros(0, np.int32), *counts.rows])]

    people = sampled_people(vectors[order], number, photos, (genuine, person), product)

    def rate_of(far_asked: float, n_accepted: int, n_hits: int, threshold: float, blocking: float) -> Rate:
        rate = Rate(
            far_asked=far_asked,
            far=n_accepted / n_impostor,
            tar=n_hits / n_genuine,
            threshold=threshold if threshold < np.inf else None,
            n_genuine=n_genuine,
            n_impostor=n_impostor,
            low=None,
            high=None,
            evidence=worth,
        )
        return people.interval(rate, blocking)

    rates = {}
    for index, far in enumerate(supported):
        blocking = found[index]  # the impostor score that one more accepted pair would need
        accepted = genuine > np.float32(blocking.score)
        threshold = min(blocking.next_above, float(genuine[accepted].min(initial=np.inf)))
        n_hits = int(np.count_nonzero(accepted))
        rates[far] = rate_of(far, blocking.above, n_hits, threshold, blocking.score)
    ascending = np.sort(genuine)  # threads hand them in in any order, and sums of floats would show it
    known = [
        rates.get(far, Rate(far, 0.0, None, None, n_genuine, n_impostor, None, None, evidence=worth)) for far in fars
    ]
    curve = curve_at(thresholds, counts.accepted, ascending, known, n_genuine, n_impostor)
    wanted = np.geomspace(3, curve.impostor.max(initial=3), BANDS)
    chosen = np.unique(np.searchsorted(curve.impostor, wanted, side="left"))
    points = [(int(curve.impostor[i]), float(curve.thresholds[i])) for i in chosen[chosen < len(curve.impostor)]]
    band = [
        rate_of(n / n_impostor, n, int(np.count_nonzero(genuine >= threshold)), threshold, threshold)
        for n, threshold in points
    ]
    return AllPairs(known, curve, band, eer_between(curve), d_prime_of(counts.sums, n_scored, ascending))


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
    counts = Counts([Tally() for _ in windows], np.zeros(len(thresholds), np.int64))
    lowest = np.float32(min([*(window.low for window in windows), *thresholds[:1]]))
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
        counts.sums.append((float(impostor.sum()), float(np.dot(impostor, impostor))))
        high = np.sort(buffer[np.flatnonzero(scores >= lowest)])
        counts.accepted += len(high) - np.searchsorted(high, thresholds, side="left")
        for window, tally in zip(windows, counts.tallies, strict=True):
            tally.add(window, high)
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


def _sample(photos: Photos, number: Array, product: Product) -> tuple[Array, Array]:
    """A random tile, float32[s, s] with -inf where it holds no impostor pair, and its impostor scores, ascending."""
    rng = np.random.default_rng(0)  # a guess: no rate depends on it
    n = len(photos.vectors)
    row = rng.choice(n, min(n, SAMPLE), replace=False)
    column = rng.choice(n, min(n, SAMPLE), replace=False)
    scores = np.empty((len(row), len(column)), np.float32)
    product(photos.vectors[photos.order[row]], photos.vectors[photos.order[column]], scores)
    impostor = number[row, None] != number[column]
    scores[~impostor] = -np.inf
    return scores, np.sort(scores, axis=None)[int((~impostor).sum()) :]


def _first_window(scores: Array, sample: Array, share: float) -> Window:
    """Guess from a random tile where the score lies that a share of the impostor pairs reaches."""
    if len(sample) == 0:
        return guess(sample, share, 0.0)
    # Scores that share a photo move together, so the spread is that of the rows' and columns' own shares.
    reached = scores >= sample[max(0, len(sample) - 1 - int(share * len(sample)))]
    spread = sum(np.var(reached.mean(axis=axis)) / reached.shape[1 - axis] for axis in (0, 1))
    return guess(sample, share, float(np.sqrt(spread)))
