from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.errors import UserError
from facekd.rates import allpairs, sampled, windows
from facekd.rates.allpairs import all_pairs, measure_all_pairs
from facekd.rates.counts import curve
from facekd.rates.overall import auc_interval, eer_interval
from facekd.rates.persons import ListOfPeople, person_rates
from facekd.rates.rates import auc, d_prime, eer, rate_at
from facekd.rates.tiles import Photos, count_on_cores, count_tiles, tiles
from facekd.rates.windows import RankedScore, Tally, Window, guess, locate

FARS = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]


def without_interval(rates):
    return [(r.far_asked, r.far, r.tar, r.threshold, r.n_genuine, r.n_impostor) for r in rates]


def worth(persons):
    """As how many comparisons the impostor pairs count: n pairs of two people as n / (1 + (n - 1) / 10)."""
    photos = np.unique(np.asarray(persons), return_counts=True)[1]
    pairs = [int(a) * int(b) for a, b in combinations(photos, 2)]
    return sum(n / (1 + (n - 1) / 10) for n in pairs)


def by_people(rates, persons):
    """The same without a number where there are too few people for it."""
    seen = worth(persons)
    return [rate if rate.far_asked * seen >= 3 else replace(rate, far=0.0, tar=None, threshold=None) for rate in rates]


def persons_and_vectors(n, dim=48, seed=0, spread=0.9):
    rng = np.random.default_rng(seed)
    persons = rng.integers(0, n // 6, n)
    vectors = rng.normal(size=(n // 6, dim))[persons] + spread * rng.normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), persons


def listed(vectors, persons):
    """The rates of the list of all pairs, scored by one product."""
    scores = vectors @ vectors.copy().T
    left, right = np.triu_indices(len(vectors), 1)
    return curve(scores[left, right], persons[left] == persons[right])


@pytest.fixture(scope="module")
def crowd():
    vectors, persons = persons_and_vectors(2500)
    return vectors, persons, by_people([rate_at(listed(vectors, persons), far) for far in FARS], persons)


def test_the_rates_are_those_of_the_list_of_all_pairs(crowd):
    vectors, persons, expected = crowd
    assert 0.3 < expected[3].tar < 0.999
    assert without_interval(all_pairs(vectors, persons, FARS)) == without_interval(expected)


def test_names_serve_as_persons_and_the_order_of_photos_is_free(crowd):
    vectors, persons, expected = crowd
    order = np.random.default_rng(0).permutation(len(persons))
    names = np.array([f"person {p}" for p in persons])
    assert without_interval(all_pairs(vectors[order], names[order], FARS)) == without_interval(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        Window(2.0, 3.0),  # above every score
        Window(-3.0, -2.0),  # below
        Window(windows.LOWEST, math.inf),  # everything
        Window(0.1, 0.1),  # nothing
    ],
)
def test_a_wrong_guess_costs_a_pass_and_changes_no_rate(crowd, monkeypatch, wrong):
    vectors, persons, expected = crowd
    monkeypatch.setattr(allpairs, "guess", lambda sample, share, spread: wrong)
    monkeypatch.setattr(windows, "MAX_BINS", 500)
    monkeypatch.setattr(windows, "PENDING", 10_000)
    assert without_interval(all_pairs(vectors, persons, FARS[1:4])) == without_interval(expected[1:4])


def test_one_pass_is_enough_on_ordinary_scores(crowd, monkeypatch):
    vectors, persons, _ = crowd
    passes = []

    def counted(*args, **kwargs):
        passes.append(1)
        return original(*args, **kwargs)

    original = allpairs.count_on_cores
    monkeypatch.setattr(allpairs, "count_on_cores", counted)
    all_pairs(vectors, persons, FARS)
    assert len(passes) == 1


def test_parts_counted_apart_and_merged_are_the_whole(crowd):
    """What a cluster does: tiles shared out, counts merged in any order."""
    vectors, persons, _ = crowd
    order = np.argsort(persons, kind="stable")
    photos = Photos(vectors, order, np.searchsorted(persons[order], persons[order], side="right"))
    sought, thresholds = [Window(0.1, 0.2), Window(0.3, math.inf)], np.array([0.15, 0.3, 0.5], np.float32)
    shared = tiles(len(vectors))
    whole = count_tiles(photos, sought, thresholds, shared)
    merged = count_tiles(photos, sought, thresholds, shared[4:])
    for part in (shared[2:4], shared[:2]):
        merged.merge(count_tiles(photos, sought, thresholds, part))
    impostor = (vectors @ vectors.copy().T)[np.triu(persons[:, None] != persons, 1)]
    for window, one, other in zip(sought, whole.tallies, merged.tallies, strict=True):
        one.settle()
        other.settle()
        assert one.above == other.above == (impostor >= np.float32(window.high)).sum()
        inside = (impostor >= np.float32(window.low)) & (impostor < np.float32(window.high))
        assert one.inside == other.inside == inside.sum()
        np.testing.assert_array_equal(one.bins, other.bins)
        np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(np.sort(np.concatenate(whole.genuine)), np.sort(np.concatenate(merged.genuine)))
    expected = [(impostor >= threshold).sum() for threshold in thresholds]
    assert whole.accepted.tolist() == merged.accepted.tolist() == expected


def test_tiles_may_be_counted_elsewhere(crowd):
    vectors, persons, expected = crowd

    def elsewhere(photos, sought, thresholds, over):
        half = len(over) // 2
        counts = count_on_cores(photos, sought, thresholds, over[half:])
        counts.merge(count_on_cores(photos, sought, thresholds, over[:half]))
        return counts

    here, there = (measure_all_pairs(vectors, persons, FARS, count=count) for count in (None, elsewhere))
    assert there.rates == here.rates
    assert without_interval(there.rates) == without_interval(expected)
    assert (there.band, there.eer, there.d_prime) == (here.band, here.eer, pytest.approx(here.d_prime))
    np.testing.assert_array_equal(there.curve.impostor, here.curve.impostor)


@pytest.mark.parametrize("n", [2500, 300])
def test_the_curve_is_exact_wherever_it_has_a_point(n):
    vectors, persons = persons_and_vectors(n)
    found = measure_all_pairs(vectors, persons, FARS[1:3])
    scores = vectors @ vectors.copy().T
    left, right = np.triu_indices(n, 1)
    values, same = scores[left, right], persons[left] == persons[right]
    points = found.curve
    assert len(points.thresholds) > 200
    assert (np.diff(points.thresholds) < 0).all()
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])
    np.testing.assert_array_equal(points.genuine, len(genuine) - np.searchsorted(genuine, points.thresholds))
    np.testing.assert_array_equal(points.impostor, len(impostor) - np.searchsorted(impostor, points.thresholds))
    # Evenly on a log axis: no decade of FAR from the floor up to a tenth without points.
    far = points.impostor / points.n_impostor
    for decade in range(math.ceil(math.log10(3 / points.n_impostor)), -1):
        assert ((far >= 10.0**decade) & (far < 10.0 ** (decade + 1))).sum() >= 5, decade
    if n == 300:  # a small set is counted to its end
        assert points.impostor[-1] == points.n_impostor
    assert {rate.threshold for rate in found.rates if rate.threshold} <= set(points.thresholds.tolist())


def test_eer_and_auc_are_those_of_the_list(crowd):
    vectors, persons, _ = crowd
    made = listed(vectors, persons)
    found = measure_all_pairs(vectors, persons, FARS)
    assert found.eer == eer(made)
    assert found.auc == auc(made)


def test_d_prime_is_that_of_the_list(crowd):
    vectors, persons, _ = crowd
    left, right = np.triu_indices(len(vectors), 1)
    expected = d_prime((vectors @ vectors.copy().T)[left, right], persons[left] == persons[right])
    assert measure_all_pairs(vectors, persons, FARS).d_prime == pytest.approx(expected, rel=1e-5)


def test_the_band_holds_points_of_the_curve_with_intervals_by_person(crowd):
    vectors, persons, _ = crowd
    found = measure_all_pairs(vectors, persons, [1e-3])
    points = dict(zip(found.curve.thresholds.tolist(), range(len(found.curve.thresholds)), strict=True))
    assert 10 < len(found.band) <= 16
    for rate in found.band:
        place = points[rate.threshold]
        assert rate.tar == found.curve.genuine[place] / rate.n_genuine
        assert rate.far == rate.far_asked == found.curve.impostor[place] / rate.n_impostor
        assert rate.low < rate.tar
        assert rate.tar < rate.high or rate.tar == rate.high == 1
    nearest = min(found.band, key=lambda rate: abs(rate.far - 1e-3))
    (asked,) = all_pairs(vectors, persons, [float(f"{nearest.far * 1.0001:.6g}")])
    assert (nearest.low, nearest.high) == pytest.approx((asked.low, asked.high), abs=2e-3)


# Unit vectors whose cosines are exact in any order of summation: multiples of a quarter, so ties everywhere.
CORNERS = np.array([[a, b, c, d] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1) for d in (-1, 1)], np.float32) / 2


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 3)), min_size=8, max_size=30),
    st.lists(st.integers(0, 4), max_size=4),
)
def test_agrees_with_looking_at_each_pair(photos, failed):
    corners, persons = np.array(photos).T
    vectors = CORNERS[corners]
    values, same = oracles.pairs_of(vectors, persons.tolist(), failed)
    failed = np.array(failed, persons.dtype)
    if len(set(same)) == 1:
        with pytest.raises(UserError, match="rates need both kinds"):
            all_pairs(vectors, persons, [0.5], failed_persons=failed)
        return
    n_scored = sum(v > -math.inf and not s for v, s in zip(values, same, strict=True))
    fars = [far for far in (0.05, 0.2, 0.5, 0.7) if math.floor(far * same.count(False)) < n_scored]
    made = curve(np.array(values), np.array(same))
    expected = by_people([rate_at(made, far) for far in fars], [*persons.tolist(), *failed.tolist()])
    found = measure_all_pairs(vectors, persons, fars, failed_persons=failed)
    assert without_interval(found.rates) == without_interval(expected)
    assert found.eer == pytest.approx(float(oracles.eer(values, same)), abs=1e-12)
    assert found.auc == pytest.approx(float(oracles.auc(values, same)), abs=1e-12)
    spread = d_prime(np.array(values), np.array(same))
    assert found.d_prime == (None if spread is None else pytest.approx(spread, abs=1e-6))


def test_constant_scores():
    vectors = np.tile(CORNERS[3], (1500, 1))
    rates = all_pairs(vectors, np.arange(1500) // 3, [0.1])
    assert (rates[0].tar, rates[0].far, rates[0].threshold) == (0.0, 0.0, None)


def test_few_impostors_in_a_large_set():
    """The sample may hold no impostor pair at all."""
    vectors, _ = persons_and_vectors(2500)
    persons = np.zeros(2500, int)
    persons[77] = 1
    expected = rate_at(listed(vectors, persons), 0.4)
    assert without_interval(all_pairs(vectors, persons, [0.4])) == without_interval([expected])
    assert all_pairs(vectors, persons, [0.01])[0].tar is None  # two people are no evidence of it


def test_the_interval_is_that_of_the_list(crowd):
    vectors, persons, expected = crowd
    left, right = np.triu_indices(len(persons), 1)
    sides = persons[left], persons[right]
    listed_rates = person_rates((vectors @ vectors.copy().T)[left, right], sides[0] == sides[1], *sides, FARS)
    for rate, wanted, plain in zip(all_pairs(vectors, persons, FARS), listed_rates, expected, strict=True):
        assert rate.evidence == pytest.approx(worth(persons))
        if wanted.tar is None:
            assert rate.low is rate.high is None
        else:
            assert (rate.low, rate.high) == pytest.approx((wanted.low, wanted.high), rel=1e-6)
            assert rate.high - rate.low > 1.2 * (plain.high - plain.low)


@pytest.mark.parametrize("far", [1e-1, 1e-2, 1e-3, 1e-4])
def test_a_sample_of_the_people_tells_the_same_interval(crowd, far, monkeypatch):
    vectors, persons, _ = crowd
    (whole,) = all_pairs(vectors, persons, [far])
    monkeypatch.setattr(sampled, "MOST", 500_000)  # a sixth of the pairs, two people in five
    (rate,) = all_pairs(vectors, persons, [far])
    assert replace(rate, low=None, high=None) == replace(whole, low=None, high=None)
    assert rate.high - rate.low == pytest.approx(whole.high - whole.low, rel=0.35)
    assert rate.low <= rate.tar <= rate.high


@pytest.mark.parametrize("seed", range(10))
def test_every_interval_is_that_of_the_list_with_photos_that_failed(seed):
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(20), rng.integers(1, 9, 20))
    vectors = rng.normal(size=(20, 6))[persons] + rng.normal(size=(len(persons), 6))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    lost = rng.random(len(persons)) < 0.2
    left, right = np.triu_indices(len(persons), 1)
    values = np.where(lost[left] | lost[right], -np.inf, (vectors @ vectors.copy().T)[left, right])
    listed = ListOfPeople.of(values, persons[left] == persons[right], persons[left], persons[right])
    found = measure_all_pairs(vectors[~lost], persons[~lost], [0.1], failed_persons=persons[lost])
    same = persons[left] == persons[right]
    area, error = auc(listed.curve), eer(listed.curve)
    assert found.auc_interval == pytest.approx(auc_interval(values, same, listed, area), abs=1e-5)
    assert found.eer_interval == pytest.approx(eer_interval(values, same, listed, error), abs=1e-5)
    (rate,), wanted = found.rates, listed.rate(0.1)
    assert (rate.low, rate.tar, rate.high) == pytest.approx((wanted.low, wanted.tar, wanted.high), abs=1e-5)


def test_below_the_floor_there_is_no_number(crowd):
    vectors, persons, _ = crowd
    rate = all_pairs(vectors, persons, [1e-9])[0]
    assert rate.tar is rate.threshold is rate.low is rate.high is None
    assert rate.n_genuine + rate.n_impostor == 2500 * 2499 // 2


def test_another_product_can_be_handed_in(crowd):
    vectors, persons, expected = crowd

    def product(left, right, out):
        out[:] = np.inner(left, right)

    assert without_interval(all_pairs(vectors, persons, FARS, product=product)) == without_interval(expected)


@pytest.mark.parametrize(
    ("persons", "far", "says"),
    [
        (np.zeros(30, int), 0.1, "rates need both kinds"),
        (np.arange(30), 0.1, "rates need both kinds"),
        (np.arange(30) // 2, 1.0, "would accept each of the"),
        (np.arange(29) // 2, 0.1, "29 person labels"),
        (np.arange(30) // 2, 0.0, "FAR 0.0"),
    ],
)
def test_what_cannot_be_judged_is_refused(persons, far, says):
    vectors, _ = persons_and_vectors(30)
    with pytest.raises(UserError, match=says):
        all_pairs(vectors, persons, [far])


def test_embeddings_that_are_not_finite_are_refused():
    vectors, _ = persons_and_vectors(30)
    vectors[7, 3] = np.nan
    with pytest.raises(UserError, match="1 of 30 embeddings are not finite"):
        all_pairs(vectors, np.arange(30) // 2, [0.1])


def test_a_product_that_loses_scores_is_found_out(crowd):
    vectors, persons, _ = crowd

    def broken(left, right, out):
        out[:] = np.nan

    with pytest.raises(AssertionError, match="scores are missing"):
        all_pairs(vectors, persons, [0.1], product=broken)


@pytest.mark.parametrize("n", [1, 1024, 1025, 3000])
def test_tiles_cover_each_pair_once(n):
    covered = np.zeros((n, n), np.int8)
    for r0, r1, c0, c1 in tiles(n):
        covered[r0:r1, c0:c1] += 1
    assert (covered[np.triu_indices(n, 1)] == 1).all()
    assert covered.max() == 1


FLOATS = st.one_of(st.floats(-1, 1, width=32), st.sampled_from([-0.0, 0.0, 0.25, -0.25, 1.0, -1.0]))


@given(st.lists(FLOATS, min_size=1, max_size=50), st.data())
def test_any_window_leads_to_the_score_of_the_rank(scores, data):
    scores = np.sort(np.array(scores, np.float32))
    rank = data.draw(st.integers(1, len(scores)))
    low, high = sorted((data.draw(FLOATS), data.draw(FLOATS)))
    window = Window(low, high)
    for _ in range(5):
        tally = Tally()
        for part in np.array_split(scores, 3):
            tally.add(window, part)
        result = locate(window, tally, rank)
        if isinstance(result, RankedScore):
            break
        window = result
    assert isinstance(result, RankedScore)
    value = scores[::-1][rank - 1]
    assert result.score == value
    assert result.above == (scores > value).sum()
    assert result.next_above == scores[scores > value].min(initial=np.inf)


def test_a_window_of_too_many_values_is_narrowed_until_it_is_exact(monkeypatch):
    monkeypatch.setattr(windows, "MAX_BINS", 64)
    scores = np.sort(np.random.default_rng(0).normal(size=20_000).astype(np.float32))
    for rank in (1, 77, 10_000, 19_999, 20_000):
        window, passes = Window(windows.LOWEST, np.inf), 0
        while isinstance(window, Window):
            tally = Tally()
            tally.add(window, scores)
            window, passes = locate(window, tally, rank), passes + 1
        assert window.score == scores[-rank]
        assert 1 < passes <= 8


def test_the_guess_holds_the_quantile_and_little_else():
    rng = np.random.default_rng(0)
    scores = np.sort(rng.normal(size=1_000_000).astype(np.float32))
    sample = np.sort(rng.choice(scores, 100_000))
    for share in (0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-6):
        window = guess(sample, share, math.sqrt(share * (1 - share) / 100_000))
        assert window.low <= scores[-int(share * 1_000_000) or -1] < window.high
        inside = np.diff(np.searchsorted(scores, np.array([window.low, window.high], np.float32)))
        assert inside < 25_000
