"""People in both sets and crops under the wrong name are found: against loops over every pair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facekd.crops.leaks import most_alike, nearer_to_others, spelling


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def draw(seed: int, n: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((n, 8)))


@given(st.integers(0, 99), st.integers(1, 30), st.integers(1, 30))
def test_most_alike_is_the_largest_cosine(seed: int, n: int, m: int) -> None:
    vectors, others = draw(seed, n), draw(seed + 100, m)
    score, place = most_alike(vectors, others)
    for i, vector in enumerate(vectors):
        cosines = [float(np.dot(vector, other)) for other in others]
        assert abs(score[i] - max(cosines)) < 1e-6
        assert abs(cosines[place[i]] - max(cosines)) < 1e-6


@given(st.integers(0, 99), st.lists(st.sampled_from("abc"), min_size=2, max_size=25).filter(lambda x: len(set(x)) > 1))
def test_own_and_other_person_by_their_definition(seed: int, identities: list[str]) -> None:
    vectors = draw(seed, len(identities))
    own, other, names = nearer_to_others(vectors, identities)
    for i, person in enumerate(identities):
        means = {}
        for name in set(identities):
            rows = [
                vectors[j] for j in range(len(identities)) if identities[j] == name and not (name == person and j == i)
            ]
            if rows:
                mean = np.sum(rows, axis=0, dtype=np.float64)
                means[name] = float(vectors[i] @ (mean / np.linalg.norm(mean)))
        assert abs(own[i] - means.pop(person, -1)) < 1e-5
        assert abs(other[i] - max(means.values())) < 1e-5
        assert abs(means[names[i]] - max(means.values())) < 1e-5


def test_a_swapped_crop_is_nearer_to_the_other_person() -> None:
    rng = np.random.default_rng(0)
    people = np.repeat(rng.standard_normal((20, 64)), 6, axis=0)
    vectors = unit(people + 0.5 * rng.standard_normal(people.shape))
    identities = [f"p{i // 6}" for i in range(120)]
    identities[3], identities[80] = identities[80], identities[3]
    own, other, names = nearer_to_others(vectors, identities)
    assert np.flatnonzero(other > own).tolist() == [3, 80]
    assert (names[3], names[80]) == ("p0", "p13")


def test_names_are_the_same_however_they_are_spelt() -> None:
    assert len({spelling(name) for name in ("Zoë_Ball", "zoë ball", "ZOE\u0308-BALL", " Zoë  Ball")}) == 1
    assert spelling("Ann Bo") != spelling("Anne Bo")
