"""Identification against slow twins: every probe against every photo, one by one."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.errors import UserError
from facekd.rates import identification
from facekd.rates.identification import Searches, cmc, person_tpirs, ranks, search, tpir_at_fpir
from facekd.rates.intervals import wilson, wilson_by_person


def unit(values):
    values = np.asarray(values, np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@st.composite
def splits(draw):
    """Gallery and probes whose vectors are axes of the plane and their diagonals: scores tie often."""
    directions = unit([[1, 0], [0, 1], [-1, 0], [1, 1], [1, -1]])
    gallery = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8))
    probes = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=1, max_size=12))
    return (
        directions[[d for d, _ in gallery]], np.array([p for _, p in gallery]),
        directions[[d for d, _ in probes]], np.array([p for _, p in probes]),
    )  # fmt: skip


def twin(gallery, gallery_persons, probes, probe_persons):
    """[(rank, mate, best)] by looking at each photo of each person."""
    found = []
    for vector, own in zip(probes, probe_persons, strict=True):
        best_of = {}
        for other, name in zip(gallery, gallery_persons, strict=True):
            best_of[name] = max(best_of.get(name, -np.inf), np.float32(vector @ other))
        best = max(best_of.values())
        if own not in best_of:
            found.append((0, -np.inf, best))
            continue
        before = sum(score >= best_of[own] for name, score in best_of.items() if name != own)
        found.append((1 + before, best_of[own], best))
    return found


@settings(max_examples=150, deadline=None)
@given(splits())
def test_search_is_the_twin(split):
    searches = search(*split)
    expected = twin(*split)
    assert searches.rank.tolist() == [rank for rank, _, _ in expected]
    np.testing.assert_allclose(searches.mate, [mate for _, mate, _ in expected], atol=1e-6)
    np.testing.assert_allclose(searches.best, [best for _, _, best in expected], atol=1e-6)


def test_blocks_and_names_change_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    gallery, probes = unit(rng.normal(size=(40, 16))), unit(rng.normal(size=(75, 16)))
    names, probe_names = rng.integers(0, 15, 40).astype(str), rng.integers(0, 20, 75).astype(str)
    whole = search(gallery, names, probes, probe_names)
    monkeypatch.setattr(identification, "BLOCK", 7)
    parts = search(gallery, names, probes, probe_names)
    assert np.array_equal(whole.rank, parts.rank)
    np.testing.assert_allclose(whole.best, parts.best, atol=1e-6)
    assert 0 < whole.mated.sum() < 75


@settings(max_examples=150, deadline=None)
@given(splits(), st.integers(0, 3))
def test_cmc_counts_one_by_one(split, failed):
    expected = [rank for rank, _, _ in twin(*split) if rank > 0] + [99] * failed
    if not expected:
        with pytest.raises(UserError, match="no probe shows an enrolled person"):
            cmc(search(*split), 5, failed)
        return
    curve = cmc(search(*split), 5, failed)
    assert curve == pytest.approx([sum(rank <= k for rank in expected) / len(expected) for k in range(1, 6)])
    assert (np.diff(curve) >= 0).all()


def tpir_twin(searches, fpir, failed_mated, failed_unmated):
    """(TPIR, FPIR, threshold): every score is tried as the threshold."""
    mated, unmated = searches.mated, ~searches.mated
    n_mated, n_unmated = int(mated.sum()) + failed_mated, int(unmated.sum()) + failed_unmated
    best = (Fraction(0), Fraction(0), None)
    hits = searches.mate[mated & (searches.rank == 1)]
    for threshold in sorted({*hits.tolist(), *searches.best[unmated].tolist()}, reverse=True):
        alarms = Fraction(sum(score >= threshold for score in searches.best[unmated].tolist()), n_unmated)
        if alarms <= Fraction(str(fpir)):
            best = (Fraction(sum(score >= threshold for score in hits.tolist()), n_mated), alarms, threshold)
    return best


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(-4, 4), st.integers(0, 2)), min_size=1, max_size=30),
    st.integers(0, 3), st.integers(6, 9), st.sampled_from([0.5, 0.6, 1.0]),
)  # fmt: skip
def test_tpir_at_fpir_is_the_twin(probes, failed_mated, failed_unmated, fpir):
    rank = np.array([rank for rank, _, _ in probes] + [1])
    mate = np.array([score / 4 for _, score, _ in probes] + [0.5], np.float32)
    best = np.maximum(mate, np.array([score / 4 + more / 8 for _, score, more in probes] + [0.5], np.float32))
    mate[rank == 0] = -np.inf
    searches = Searches(rank, mate, best)
    found = tpir_at_fpir(searches, fpir, failed_mated, failed_unmated)
    tpir, far, threshold = tpir_twin(searches, fpir, failed_mated, failed_unmated)
    assert found.tar == pytest.approx(float(tpir))
    assert found.far == pytest.approx(float(far))
    assert (found.threshold is None) == (threshold is None)
    if threshold is not None:
        assert found.threshold == pytest.approx(threshold)
    assert (found.low, found.high) == pytest.approx(wilson(found.tar * found.n_genuine, found.n_genuine))


def test_known_answer():
    """Two enrolled people; of four of their probes one is led astray; of forty strangers one looks like Ann."""
    gallery = unit([[1, 0, 0], [0, 1, 0]])
    mates = unit([[1, 0.1, 0], [0.9, 0, 0.1], [0, 1, 0.2], [1, 0.2, 0]])
    strangers = np.concatenate([unit([[1, 0, 0.05]]), np.tile(unit([[0.1, 0.1, 1]]), (39, 1))])
    persons = np.array(["ann", "ann", "bob", "bob"] + ["?"] * 40)
    searches = search(gallery, np.array(["ann", "bob"]), np.concatenate([mates, strangers]), persons)
    assert searches.rank[:4].tolist() == [1, 1, 1, 2]
    assert cmc(searches, 3).tolist() == [0.75, 1.0, 1.0]
    rate = tpir_at_fpir(searches, 0.1)
    assert (rate.tar, rate.far) == (0.75, 1 / 40)  # the look-alike stays within the budget of four
    assert tpir_at_fpir(searches, 0.075).tar is not None
    assert tpir_at_fpir(searches, 0.05).tar is None  # forty strangers can't show one in twenty
    assert tpir_at_fpir(searches, 0.1, failed_mated=4).tar == 0.375


def drawn_searches(rng, mated=40, strangers=60, each=4):
    """People of whom some are harder than others, so that the probes of one fare alike."""
    centers = rng.normal(size=(mated + strangers, 16))
    spread = 0.75 * np.exp(0.5 * rng.normal(size=(mated + strangers, 1, 1)))
    photos = unit((centers[:, None] + spread * rng.normal(size=(mated + strangers, each + 1, 16))).reshape(-1, 16))
    persons = np.repeat(np.arange(mated + strangers), each + 1)
    enrolled = (np.arange(len(persons)) % (each + 1) == 0) & (persons < mated)
    searches = search(photos[enrolled], persons[enrolled], photos[~enrolled], persons[~enrolled])
    return searches, persons[~enrolled]


def test_ranks_are_the_cmc_with_intervals_by_person():
    searches, persons = drawn_searches(np.random.default_rng(0))
    failed = np.array([0, 0, 5])
    found = ranks(searches, persons, 5, failed)
    assert found.found == pytest.approx(cmc(searches, 5, 3))
    hits, n = np.zeros(40, int), np.zeros(40, int)
    for person, rank in zip(persons, searches.rank, strict=True):
        if person < 40:
            n[person] += 1
            hits[person] += rank <= 2
    n += np.bincount(failed, minlength=40)
    assert (found.low[1], found.high[1]) == pytest.approx(wilson_by_person(hits, n))
    plain = wilson(hits.sum(), n.sum())
    assert found.high[1] - found.low[1] > 1.2 * (plain[1] - plain[0])


@pytest.mark.parametrize("seed", range(40))
def test_who_is_found_at_a_rank_is_found_at_the_next(seed):
    rng = np.random.default_rng(seed)
    persons = np.repeat(np.arange(10), rng.integers(1, 9, 10))
    rank = rng.integers(1, 11, len(persons))
    found = ranks(Searches(rank, np.zeros(len(rank), np.float32), np.zeros(len(rank), np.float32)), persons, 12)
    for ends in (found.low, found.high):
        assert (np.diff(ends) >= 0).all()
    assert ((found.low <= found.found) & (found.found <= found.high)).all()


def test_person_tpirs_differ_from_tpir_at_fpir_in_their_interval_only():
    searches, persons = drawn_searches(np.random.default_rng(1))
    fpirs, lost, gone = [0.2, 0.05, 1e-4], np.array([1, 1]), np.array([77])
    rates = person_tpirs(searches, persons, fpirs, lost, gone)
    for fpir, rate in zip(fpirs, rates, strict=True):
        plain = tpir_at_fpir(searches, fpir, 2, 1)
        assert (rate.tar, rate.far, rate.threshold) == (plain.tar, plain.far, plain.threshold)
        assert (rate.n_genuine, rate.n_impostor) == (162, 301)
        if plain.tar is None:
            assert rate.low is rate.high is None
        else:
            assert rate.low < rate.tar < rate.high
            assert rate.high - rate.low > plain.high - plain.low
    assert rates == person_tpirs(searches, persons, fpirs, lost, gone)
    assert rates[2].tar is None


def test_the_interval_of_tpir_covers_and_the_naive_one_does_not():
    """The truth is the mean over many galleries and probes."""
    rates, naive = [], []
    for seed in range(120):
        searches, persons = drawn_searches(np.random.default_rng(seed))
        rates += person_tpirs(searches, persons, [0.1])
        naive.append(tpir_at_fpir(searches, 0.1))
    truth = np.mean([rate.tar for rate in rates])
    assert 0.89 <= np.mean([rate.low <= truth <= rate.high for rate in rates]) <= 1
    assert np.mean([rate.low <= truth <= rate.high for rate in naive]) < 0.8


def test_a_large_gallery_is_searched_by_fewer_probes_at_once(monkeypatch):
    searches, _ = drawn_searches(np.random.default_rng(2))
    monkeypatch.setattr(identification, "SCORES", 120)  # three probes of forty people
    again, _ = drawn_searches(np.random.default_rng(2))
    assert np.array_equal(searches.rank, again.rank)


def test_bad_input():
    good, names = unit([[1, 0], [0, 1]]), np.array([0, 1])
    with pytest.raises(UserError, match="gallery is empty"):
        search(good[:0], names[:0], good, names)
    with pytest.raises(UserError, match="probes: 1 labels"):
        search(good, names, good, names[:1])
    with pytest.raises(UserError, match="not finite"):
        search(good, names, good * np.float32(np.nan), names)
    with pytest.raises(UserError, match="needs both"):
        tpir_at_fpir(search(good, names, good, names), 0.5)
    assert len(search(good, names, good[:0], names[:0]).rank) == 0
