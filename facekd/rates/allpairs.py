"""Exact rates over all pairs of labeled embeddings, without ever keeping the pairs.

Scores come from blocked matrix products over the upper triangle. Genuine scores are kept (8 bytes each with their
person: less than the embeddings themselves unless a person has more photos than the embeddings have numbers);
of the impostor scores only the few that can be thresholds are looked at, see windows.py, and those above the
thresholds of the curve are counted, see streamed.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import Curve
from facekd.rates.rates import far_budget, support
from facekd.rates.sampled import SampledPeople, all_pairs_evidence, sampled_people
from facekd.rates.spread import Cuts, Histogram, auc_of, histogram_of, lenient_points
from facekd.rates.streamed import crossing, curve_at, curve_thresholds, d_prime_of
from facekd.rates.tiles import Count, Photos, Product, count_on_cores, genuine_scores, numpy_product, tiles
from facekd.rates.windows import RankedScore, Window, guess, locate

SAMPLE = 1024  # side of the random tile that the first windows are guessed from
CURVE_TOP = 0.1  # FAR up to which the curve's points lie evenly on a log axis; above, so many evenly on a plain one:
LENIENT = 200
EER = -1  # key of the window that holds the EER's threshold
BANDS = 16  # points of the curve that get an interval


@dataclass(frozen=True, slots=True)
class AllPairs:
    """What all pairs of labeled photos show."""

    rates: list[Rate]  # at each FAR asked
    curve: Curve  # exact points of the ROC
    band: list[Rate]  # a few of these points with their intervals; far_asked is the point's own FAR
    eer: float
    auc: float
    eer_interval: tuple[float, float]  # 95 %, with the person as the unit
    auc_interval: tuple[float, float]
    d_prime: float | None  # None where it is undefined
    histogram: Histogram | None  # None where no pair has a score
    people: SampledPeople
    fixed: list[Rate]  # at each threshold given; far_asked is the FAR there


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
    fixed: Sequence[float] = (),
    product: Product = numpy_product,
    count: Count | None = None,
) -> AllPairs:
    """The rates of `all_pairs`, and from the same pass over the pairs the ROC, EER, AUC, d' and the histogram.

    Args:
        vectors: float32[N, D], unit norm.
        persons: [N], names or numbers: two photos are a genuine pair where these are equal.
        failed_persons: [F], the persons of photos without embedding: all their pairs count, and none is accepted.
        fixed: thresholds at which the pairs are judged too.
        product: for a GPU; must compute in full float32.
        count: for a cluster; None counts on this machine's cores.

    Raises:
        UserError: fewer labels than vectors, embeddings that are not finite, pairs of one class only, or a FAR that
            accepts every pair.
    """
    if vectors.ndim != 2 or len(vectors) != len(persons):
        raise UserError(f"{len(persons)} person labels for embeddings of shape {vectors.shape}: give one for each row")
    assert vectors.dtype == np.float32, vectors.dtype
    norms = np.einsum("nd,nd->n", vectors, vectors)
    n_damaged = int(np.count_nonzero(~np.isfinite(norms)))
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
    before = genuine_scores(sides, product)
    assert np.isfinite(before).all(), "scores are missing: the product gave no number"
    scores, sample = _sample(sides, number, product)
    shares = [(budget + 1) / n_scored for budget in budgets]
    thresholds = curve_thresholds(sample, max([CURVE_TOP, *shares]) if len(vectors) > SAMPLE else 1.0)
    count = count or partial(count_on_cores, product=product)
    open_windows = {index: _first_window(scores, sample, share) for index, share in enumerate(shares)}
    crossed = _eer_share(sample, before, n_genuine, n_scored / n_impostor)
    open_windows[EER] = _first_window(scores, sample, crossed)
    found: dict[int, RankedScore] = {}
    error = 0.0
    given = np.array([_at_least(one) for one in fixed], np.float32)
    cuts = Cuts.of(before, sample, float(norms.max(initial=0.0)))
    # The first pass also counts what no window is needed for: the genuine scores, the curve, each score's bin.
    at = np.unique(np.concatenate([thresholds, given]))
    counts = passed = count(replace(sides, cuts=cuts), list(open_windows.values()), at, tiles(len(vectors)))
    while True:
        for (index, window), tally in zip(list(open_windows.items()), passed.tallies, strict=True):
            result: RankedScore | Window | float
            if index == EER:
                result = crossing(window, tally, before, n_genuine, n_impostor)
            else:
                result = locate(window, tally, budgets[index] + 1)
            if isinstance(result, Window):
                assert result != window, f"scores are missing: {window}"
                open_windows[index] = result
            elif isinstance(result, float):
                error = result
                del open_windows[index]
            else:
                found[index] = result
                del open_windows[index]
        if not open_windows:
            break
        passed = count(sides, list(open_windows.values()), thresholds[:0], tiles(len(vectors)))

    genuine = np.concatenate([np.zeros(0, np.float32), *counts.genuine])
    person = number[np.concatenate([np.zeros(0, np.int32), *counts.rows])]

    people = sampled_people(vectors, order, number, photos, (genuine, person), product)
    none = Rate(1.0, 0.0, None, None, n_genuine, n_impostor, None, None, evidence=worth)

    def at_point(far_asked: float, n_accepted: int, n_hits: int, threshold: float) -> Rate:
        far, tar, given = n_accepted / n_impostor, n_hits / n_genuine, threshold if threshold < np.inf else None
        return replace(none, far_asked=far_asked, far=far, tar=tar, threshold=given)

    rates = {}
    for index, far in enumerate(supported):
        blocking = found[index]  # the impostor score that one more accepted pair would need
        accepted = genuine > np.float32(blocking.score)
        threshold = min(blocking.next_above, float(genuine[accepted].min(initial=np.inf)))
        rate = at_point(far, blocking.above, int(np.count_nonzero(accepted)), threshold)
        rates[far] = people.interval(rate, blocking.score)
    ascending = np.sort(genuine)  # threads hand them in in any order, and sums of floats would show it
    known = [rates.get(far, replace(none, far_asked=far)) for far in fars]
    spread = counts.spread
    assert spread is not None, "the tiles' scores were not counted in bins"
    more = lenient_points(cuts, spread, int(counts.accepted.max(initial=0)), LENIENT)
    drawn, shown = np.concatenate([at, more[0]]), np.concatenate([counts.accepted, more[1]])
    curve = curve_at(drawn, shown, ascending, known, n_genuine, n_impostor)
    wanted = np.geomspace(3, curve.impostor.max(initial=3), BANDS)
    chosen = np.unique(np.searchsorted(curve.impostor, wanted, side="left"))
    points = [(int(curve.impostor[i]), float(curve.thresholds[i])) for i in chosen[chosen < len(curve.impostor)]]
    band = [
        people.interval(at_point(n / n_impostor, n, int(np.count_nonzero(genuine >= threshold)), threshold), threshold)
        for n, threshold in points
    ]
    area = auc_of(cuts, spread, n_genuine, n_impostor)
    judged = []
    for one in given:
        n = int(counts.accepted[np.searchsorted(at, one)])
        rate = at_point(n / n_impostor, n, int(np.count_nonzero(genuine >= one)), float(one))
        judged.append(people.interval_at(rate))
    return AllPairs(
        rates=known,
        curve=curve,
        band=band,
        eer=error,
        auc=area,
        eer_interval=people.eer_interval(error),
        auc_interval=people.auc_interval(area),
        d_prime=d_prime_of(counts.sums, n_scored, ascending),
        histogram=histogram_of(cuts, spread, n_genuine + n_impostor),
        people=people,
        fixed=judged,
    )


def _at_least(threshold: float) -> np.float32:
    """The lowest float32 number from `threshold` on: scores are float32, and may not reach less than was asked."""
    near = np.float32(threshold)
    return near if float(near) >= threshold else np.nextafter(near, np.float32(np.inf))


def _eer_share(sample: Array, genuine: Array, n_genuine: int, scored: float) -> float:
    """About the share of impostor scores that the EER's threshold accepts.

    Args:
        sample: float32, ascending impostor scores.
        genuine: float32, ascending, all genuine scores.
        scored: the share of impostor pairs that have a score.
    """
    if len(sample) == 0:
        return 1.0
    far = scored * (1 - np.arange(len(sample)) / len(sample))
    missed = 1 - (len(genuine) - np.searchsorted(genuine, sample, side="left")) / n_genuine
    return float(far[min(int(np.searchsorted(missed - far, 0.0)), len(far) - 1)]) / scored


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
