"""Error versus reject against a twin that drops pairs one level of quality at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.rates.rejects import error_vs_reject


def twin(values, same, quality, threshold, share):
    """Reject whole levels of quality from below while no more than the share is gone."""
    pairs = list(zip(values, same, quality, strict=True))
    for level in sorted(set(quality)):
        rest = [pair for pair in pairs if pair[2] > level]
        if len(values) - len(rest) > int(share * len(values)):
            break
        pairs = rest
    genuine = [v < threshold for v, s, _ in pairs if s]
    impostor = [v >= threshold for v, s, _ in pairs if not s]
    return (
        1 - len(pairs) / len(values),
        sum(genuine) / len(genuine) if genuine else None,
        sum(impostor) / len(impostor) if impostor else None,
    )


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-3, 3), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9]),
)
def test_is_the_twin(pairs, share):
    values = [value / 3 for value, _, _ in pairs]
    same = [True, False, *(is_same for _, is_same, _ in pairs[2:])]
    quality = [float(level) for _, _, level in pairs]
    (found,) = error_vs_reject(np.array(values), np.array(same), np.array(quality), 0.3, [share])
    rejected, fnmr, far = twin(values, same, quality, 0.3, share)
    assert found.rejected == pytest.approx(rejected)
    assert found.fnmr == (None if fnmr is None else pytest.approx(fnmr))
    assert found.far == (None if far is None else pytest.approx(far))
    assert found.rejected <= share + 1e-12


def test_a_quality_that_knows_removes_the_misses_first():
    values = np.array([0.9] * 90 + [0.1] * 10 + [0.0] * 100)
    same = np.arange(200) < 100
    knows = np.where(same & (values < 0.5), 0.0, 1.0 + np.arange(200))
    found = error_vs_reject(values, same, knows, 0.5, [0, 0.05, 0.1])
    assert [one.fnmr for one in found] == [0.1, 0.0, 0.0]  # ten of two hundred are the five per cent
    assert [one.rejected for one in found] == pytest.approx([0, 0.05, 0.1])
    (four,) = error_vs_reject(values, same, knows, 0.5, [0.04])
    assert four.rejected == 0  # the ten tie: eight of them can not be rejected alone


def test_photos_without_a_crop_go_first():
    values = np.array([-np.inf, 0.9, 0.8, 0.1])
    (found,) = error_vs_reject(values, np.array([True, True, True, False]), np.array([-np.inf, 2, 1, 3]), 0.5, [0.25])
    assert (found.rejected, found.fnmr, found.n_genuine) == (0.25, 0.0, 2)
