"""Rates by groups: of all pairs, and as a matrix of who is taken for whom across groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facekd.core.types import Array, Rate
from facekd.evaluation.fixed import Fixed, fixed_rate
from facekd.evaluation.results import (
    CROSS,
    FEW,
    Across,
    AcrossCell,
    FixedRate,
    GroupRate,
    GroupRates,
    Interval,
    PairCounts,
    lowest_far,
)
from facekd.rates.cross_groups import GroupCell, cells
from facekd.rates.intervals import wilson_by_person
from facekd.rates.rates import support
from facekd.rates.thresholds import far_interval_by_person


def groups_of_all(
    vectors: Array,
    persons: Array,
    failed_persons: Array,
    values: Sequence[str],
    rates: Sequence[Rate],
    fixed: Sequence[Fixed],
) -> dict[str, GroupRates]:
    """Of each group and each two groups the pairs and their rates at the thresholds of all pairs together.

    Args:
        values: of each photo, those without a crop last.
        fixed: further thresholds.
    """
    names, group = np.unique(np.array(values, np.str_), return_inverse=True)
    _, person = np.unique(np.concatenate([persons, failed_persons]), return_inverse=True)
    n = len(vectors)
    at = [np.inf if rate.threshold is None else rate.threshold for rate in rates]
    thresholds = np.array([*at, *(one.threshold for one in fixed)])
    low = thresholds.astype(np.float32)
    low = np.where(low.astype(np.float64) < thresholds, np.nextafter(low, np.float32(np.inf)), low)  # no score less
    found = {}
    for cell in cells(vectors, person[:n], group[:n], low, failed=(person[n:], group[n:])):
        if cell.genuine_pairs.any() or cell.impostor_pairs.any():
            name = str(names[cell.a]) if cell.a == cell.b else f"{names[cell.a]}{CROSS}{names[cell.b]}"
            found[name] = _cell_rates(cell, rates, fixed)
    return found


def across_of(groups: Mapping[str, GroupRates], rates: Sequence[Rate], fixed: Sequence[FixedRate]) -> Across | None:
    """FMR within and across the groups of a column, at the first threshold given, else at that of the lowest FAR.

    None of a column that tells nothing across groups, or where no threshold is there.
    """
    if not any(CROSS in name for name in groups):
        return None
    place = None
    if fixed:
        threshold, asked = fixed[0].threshold, fixed[0].asked
    else:
        far = lowest_far(rates)
        place = next((k for k, rate in enumerate(rates) if rate.far_asked == far), None)
        if place is None or rates[place].threshold is None:
            return None
        threshold, asked = float(rates[place].threshold or 0), far
    rows = []
    for name, group in groups.items():
        a, _, b = name.partition(CROSS)
        fmr: Interval | None = None
        if place is None:
            fmr = group.fixed[0].false if group.fixed else None
        else:
            one = group.tar[place]
            if one.far is not None and one.far_low is not None and one.far_high is not None:
                fmr = one.far, one.far_low, one.far_high
        rows.append(AcrossCell(a, b or a, group.pairs.impostor, fmr))
    return Across(threshold, asked, tuple(rows))


def _cell_rates(cell: GroupCell, rates: Sequence[Rate], fixed: Sequence[Fixed]) -> GroupRates:
    pairs = PairCounts(int(cell.genuine_pairs.sum()), int(cell.impostor_pairs.sum()) // 2)
    people = int((cell.genuine_pairs > 0).sum())
    shown = []
    for k, rate in enumerate(rates):
        one = GroupRate(rate.far_asked, rate.threshold)
        if rate.tar is not None:
            tar, far = _tar(cell, k), _far(cell, k)
            if far is not None and support(rate.far_asked, pairs.impostor) == "none":
                far = None
            one = GroupRate(rate.far_asked, rate.threshold, *(tar or (None,) * 3), *(far or (None,) * 3))
        shown.append(one)
    at = []
    for k, given in enumerate(fixed, len(rates)):
        tar = _tar(cell, k)
        at.append(fixed_rate(given, _far(cell, k), None if tar is None else (1 - tar[0], 1 - tar[2], 1 - tar[1])))
    return GroupRates(pairs, people, people < FEW, tuple(shown), tuple(at))


def _tar(cell: GroupCell, place: int) -> Interval | None:
    if not cell.genuine_pairs.any():
        return None
    hits = cell.accepted[place]
    return (int(hits.sum()) / int(cell.genuine_pairs.sum()), *wilson_by_person(hits, cell.genuine_pairs))


def _far(cell: GroupCell, place: int) -> Interval | None:
    if not cell.impostor_pairs.any():
        return None
    hits = cell.false_accepts[place]
    ends = far_interval_by_person(hits, cell.impostor_pairs)
    return (int(hits.sum()) / int(cell.impostor_pairs.sum()), *ends)
