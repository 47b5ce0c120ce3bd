"""No person is on both sides of a split, and the split is the same everywhere."""

from __future__ import annotations

import subprocess
import sys
import time
import unicodedata
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.crops.splits import classes, frequent, refuse_twins, split_identities
from facekd.errors import UserError

names = st.lists(st.sampled_from([None, *"abcdefghijkl"]), min_size=1, max_size=60)


@given(names, st.sampled_from([0.0, 0.2, 0.5]), st.integers(0, 20))
def test_a_split_parts_people(identities: list[str | None], share: float, seed: int) -> None:
    people = set(identities) - {None}
    count = round(len(people) * share)
    if share and (count < 2 or len(people) - count < 2):
        with pytest.raises(UserError, match="too few to hold out"):
            split_identities(identities, share, seed)
        return
    train, held = split_identities(identities, share, seed)
    assert sorted([*train, *held]) == list(range(len(identities)))
    assert (np.diff(train) > 0).all()
    on_train, on_held = {identities[i] for i in train}, {identities[i] for i in held}
    assert not on_train & on_held
    assert None not in on_held
    assert len(on_held) == count
    shuffled = np.random.default_rng(seed).permutation(len(identities))
    _, again = split_identities([identities[i] for i in shuffled], share, seed)
    assert {identities[shuffled[i]] for i in again} == on_held  # the order of the crops does not matter


def test_another_seed_holds_out_others_on_every_machine() -> None:
    people = [f"p{i:02d}" for i in range(40)]
    first = split_identities(people, 0.25, 0)[1].tolist()
    assert len(first) == 10
    assert split_identities(people, 0.25, 1)[1].tolist() != first
    code = """
from facekd.crops.splits import split_identities
print(split_identities([f"p{i:02d}" for i in range(40)], 0.25, 0)[1].tolist())
"""
    for salt in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": salt}
        )
        assert done.stdout.strip() == str(first)


@pytest.mark.parametrize("share", [-0.2, 1.0, 1.5, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="held out share"):
        split_identities([*"abcdefgh"], share, 0)


def test_classes_and_frequent() -> None:
    identities = ["b", None, "a", "b", "c", "b", None]
    found, labels = classes(identities)
    assert found == ("a", "b", "c")
    assert labels.tolist() == [1, -1, 0, 1, 2, 1, -1]
    assert labels.dtype == np.int64
    assert frequent(identities, 2).tolist() == [0, 3, 5]
    assert frequent(identities, 1).tolist() == [0, 2, 3, 4, 5]
    assert frequent([None, None], 1).tolist() == []
    assert classes([])[0] == ()


@pytest.mark.parametrize(
    ("one", "two", "words"),
    [
        ("Anna", "anna", "'Anna' in a and 'anna' in b differ only by case: give both one name"),
        ("ÉVA", "Éva", "'ÉVA' in a and 'Éva' in b differ only by case"),
        # Printed, the two are the same letters; so they are shown by their code points.
        ("Jose\u0301", "Jos\u00e9", r"'Jose\\u0301' in a and 'Jos\\xe9' in b differ only by Unicode form"),
        ("JOSE\u0301", "jos\u00e9", "differ only by case"),
    ],
)
def test_names_that_differ_only_by_case_or_form_are_refused(one: str, two: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse_twins({Path("a"): {one, "x"}, Path("b"): {two, "y"}})
    with pytest.raises(UserError, match="differ only by"):
        refuse_twins({Path("a"): {one, two}})
    refuse_twins({Path("a"): {one, "x"}, Path("b"): {one}})  # the same name in two sets is one person


def test_names_that_are_others_pass_and_twins_are_counted() -> None:
    refuse_twins(
        {Path("a"): {"Weiss", "Weiß", "Anna", "Anna ", "Anne", "Jose", "José", "1", "01", ""}, Path("b"): set()}
    )
    refuse_twins({})
    with pytest.raises(UserError, match=r"'A' in a and 'a' in b differ only by case \(and 2 more like them\)"):
        refuse_twins({Path("a"): {"A", "B", "C"}, Path("b"): {"a", "b", "c", "d"}})


@given(st.sets(st.text("aAeEé\u0301ÉsSß", max_size=4), max_size=8))
def test_refused_are_exactly_the_pairs_with_one_caseless_form(names: set[str]) -> None:
    def alike(one: str, two: str) -> bool:
        forms = ["".join(unicodedata.normalize("NFD", letter) for letter in name.lower()) for name in (one, two)]
        return forms[0] == forms[1]

    if any(alike(one, two) for one, two in combinations(sorted(names), 2)):
        with pytest.raises(UserError, match="differ only by"):
            refuse_twins({Path("a"): names})
    else:
        refuse_twins({Path("a"): names})


def test_a_hundred_thousand_names_take_no_time() -> None:
    names = {f"Person_{i}" for i in range(100_000)} | {f"Jörg_{i}" for i in range(20_000)}
    start = time.process_time()
    refuse_twins({Path("a"): names})
    assert time.process_time() - start < 2  # seen: a tenth of it
