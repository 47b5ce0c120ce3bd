"""What a pair list says twice, and whom its names give away."""

from __future__ import annotations

from collections import Counter

import numpy as np

from facekd.core.types import PairList
from facekd.crops.pairs import person_in_name, without_repeats


def test_repeats_by_a_slow_twin() -> None:
    rng = np.random.default_rng(0)
    names = [f"n{i}" for i in range(12)]
    label = rng.random((12, 12)) < 0.5
    left, right = rng.integers(0, 12, (2, 200))
    same = np.array([a == b or label[min(a, b), max(a, b)] for a, b in zip(left, right, strict=True)])
    pairs = PairList(
        tuple(names[i] for i in left), tuple(names[i] for i in right), same, np.arange(200).astype(np.int16),
        {"g": tuple(map(str, range(200)))},
    )  # fmt: skip
    kept, counts = without_repeats(pairs, "list")
    seen: set[frozenset[str]] = set()
    expected, found = [], Counter()
    for place, pair in enumerate(map(frozenset, zip(pairs.left, pairs.right, strict=True))):
        kind = "itself" if len(pair) == 1 else "repeated" if pair in seen else ""
        seen.add(pair)
        found[kind] += 1
        if not kind:
            expected.append(place)
    assert kept.fold.tolist() == expected
    assert kept.groups["g"] == tuple(map(str, expected))
    assert counts == {"itself": found["itself"], "repeated": found["repeated"]}
    assert min(counts.values()) > 0


def test_who_is_in_a_photo() -> None:
    assert person_in_name("Abel_Pacheco/Abel_Pacheco_0001") == "Abel_Pacheco"
    assert person_in_name("lfw/Abel_Pacheco/Abel_Pacheco_0001.jpg") == "Abel_Pacheco"
    assert person_in_name("Abel_Pacheco/Bob_0001") is None
    assert person_in_name("photo_0001") is None
    assert person_in_name("001/frontal/01") == person_in_name("Images/001/profile/04.jpg") == "001"
    assert person_in_name("001/side/01") is None
