"""What is required of a model, held against the bound that decides: lower for a least, upper for a most."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from facekd.core.types import Rate
from facekd.errors import UserError
from facekd.evaluation.results import CROSS, FEW, FixedRate, GroupRates, Interval, ModelRates, RequirementCheck, rate_of
from facekd.evaluation.search_results import SearchRates
from facekd.evaluation.text import BOUND, far_name
from facekd.rates.rates import support_of
from facekd.settings.requirements import Requirement

NAMES = {"eer": "EER", "auc": "AUC", "accuracy": "accuracy"}
Found = tuple[Interval | None, str]  # the rate with its interval, or why there is none


def check_groups(requirements: Iterable[Requirement], groups: Mapping[str, Collection[str]]) -> None:
    """Pass where each group that is required is there.

    Args:
        groups: the values of each column.

    Raises:
        UserError: a column or a value that is not, or a column without any.
    """
    for one in requirements:
        if one.column is None:
            continue
        if one.column not in groups:
            has = ", ".join(groups) or "none"
            raise UserError(f"--require {one.text!r}: there is no group column {one.column!r}, but these: {has}")
        if not groups[one.column]:
            raise UserError(f"--require {one.text!r}: no pair has a value of {one.column}; fill that column in")
        if one.value not in ("*", *groups[one.column]):
            has = ", ".join(sorted(groups[one.column]))
            raise UserError(f"--require {one.text!r}: {one.column} has no value {one.value!r}, but these: {has}")


def checks(requirement: Requirement, rates: ModelRates | SearchRates) -> list[RequirementCheck]:
    """Whether a model holds what is required; of all groups of a column, one answer for each."""
    bounded = _bounded(requirement, rates)
    if requirement.column is None or isinstance(rates, SearchRates):
        found = _searched(requirement, rates) if isinstance(rates, SearchRates) else _of_pairs(requirement, rates)
        return [_checked(requirement, rates.model, "", found, bounded)]
    groups = rates.groups[requirement.column]
    alone = {name: group for name, group in groups.items() if CROSS not in name}
    chosen = alone if requirement.value == "*" else {str(requirement.value): groups[str(requirement.value)]}
    return [
        _checked(
            requirement,
            rates.model,
            f", {requirement.column} {name}",
            _of_group(requirement, group),
            _few(group) + bounded,
        )
        for name, group in chosen.items()
    ]


def check(requirement: Requirement, rates: ModelRates | SearchRates) -> RequirementCheck:
    """`checks` of a requirement that is not of all groups of a column."""
    (found,) = checks(requirement, rates)
    return found


def _bounded(requirement: Requirement, rates: ModelRates | SearchRates) -> str:
    """How a rate is marked whose FAR or FPIR the list only bounds, as its tables mark it."""
    rate = rate_of(rates.tpir if isinstance(rates, SearchRates) else rates.tar, requirement.far)
    if rate is None or support_of(rate) != "bound":
        return ""
    asked = "FPIR" if isinstance(rates, SearchRates) else "FAR"
    return f" (marked {BOUND}: the list bounds this {asked} and does not estimate it)"


def _few(group: GroupRates) -> str:
    """How a group is marked, which a bound that holds should not hide."""
    if not group.few:
        return ""
    n, of = (group.pairs.genuine, "genuine pairs") if group.people is None else (group.people, "people")
    return f" (marked: {n} {of}, fewer than {FEW})"


def _checked(requirement: Requirement, model: str, group: str, found: Found, mark: str = "") -> RequirementCheck:
    interval, name = found
    least = requirement.sense == ">="
    bound = None if interval is None else interval[1 if least else 2]
    met = requirement.held_by(bound)
    if interval is None or bound is None:
        shown = f"not shown: {name}"
    else:
        # Rounded away from the limit: a bound that misses must not be shown as the bound required.
        rounded = (math.floor if least else math.ceil)(bound * 1e6) / 1e6
        side = "lower" if least else "upper"
        shown = f"{'holds' if met else 'missed'}: {name} {interval[0]:.4f}, {side} bound {rounded:.6f}{mark}"
    line = f"{model}: {requirement.text}{group} {shown}"
    low, high = (bound, None) if least else (None, bound)
    return RequirementCheck(requirement.text, model, met, low, line, high, group.removeprefix(", ") or None)


def _of_pairs(requirement: Requirement, rates: ModelRates) -> Found:
    if requirement.rate in NAMES:
        interval = rates.intervals.get(requirement.rate)
        accuracy = None if rates.accuracy is None else rates.accuracy.mean
        value = {"eer": rates.eer, "auc": rates.auc, "accuracy": accuracy}[requirement.rate]
        if value is None or interval is None:
            why = "the list has no folds" if requirement.rate == "accuracy" else "it has no interval here"
            return None, why
        return (value, *interval), NAMES[requirement.rate]
    if requirement.fixed is not None:
        return _at_fixed(requirement, rates.fixed)
    return _of_rate(requirement, rate_of(rates.tar, requirement.far), rates.pairs.impostor, "impostor pairs", "FAR")


def _of_rate(requirement: Requirement, rate: Rate | None, n: int, of: str, asked: str) -> Found:
    if rate is None or rate.tar is None or rate.low is None or rate.high is None:
        return None, f"{n} {of} are too few for {asked} {requirement.far:g}"
    found = rate.tar, rate.low, rate.high
    return (found if requirement.sense == ">=" else _complement(found)), requirement.rate.upper()


def _at_fixed(requirement: Requirement, fixed: Sequence[FixedRate]) -> Found:
    chosen = [one for one in fixed if requirement.fixed == "" or _same(requirement.fixed, one)]
    if len(chosen) != 1:
        names = ", ".join(f"T{one.name}" for one in fixed)
        wanted = f"T{requirement.fixed}"
        raise UserError(
            f"--require {requirement.text!r}: {wanted} names no single one of the thresholds given: {names}"
        )
    (one,) = chosen
    false = requirement.rate in ("fmr", "fpir")
    rate = one.false if false else one.missed
    if rate is None:
        return None, "there is no such pair"
    return (rate if requirement.sense == "<=" else _complement(rate)), requirement.rate.upper()


def _same(name: str | None, one: FixedRate) -> bool:
    try:
        return math.isclose(float(name or ""), one.threshold if one.asked is None else one.asked, rel_tol=1e-9)
    except ValueError:
        return False


def _of_group(requirement: Requirement, group: GroupRates) -> Found:
    if requirement.fixed is not None:
        return _at_fixed(requirement, group.fixed)
    rate = next(one for one in group.tar if one.far_asked == requirement.far)
    if requirement.rate == "fmr":
        if rate.far is None or rate.far_low is None or rate.far_high is None:
            return None, f"its {group.pairs.impostor} impostor pairs are too few for FAR {far_name(rate.far_asked)}"
        return (rate.far, rate.far_low, rate.far_high), "FMR"
    if rate.tar is None or rate.low is None or rate.high is None:
        return None, f"there is no rate of it at FAR {far_name(rate.far_asked)}"
    found = rate.tar, rate.low, rate.high
    return (found if requirement.rate == "tar" else _complement(found)), requirement.rate.upper()


def _searched(requirement: Requirement, rates: SearchRates) -> Found:
    if requirement.rate == "rank":
        ranks = rates.cmc
        if requirement.rank > len(ranks.found):
            return None, f"ranks are counted up to {len(ranks.found)}"
        place = requirement.rank - 1
        found = tuple(float(values[place]) for values in (ranks.found, ranks.low, ranks.high))
        return (found[0], found[1], found[2]), f"rank {requirement.rank}"
    if requirement.fixed is not None:
        return _at_fixed(requirement, rates.fixed)
    rate = rate_of(rates.tpir, requirement.far)
    return _of_rate(requirement, rate, rates.probes.unknown, "unknown probes", "FPIR")


def _complement(rate: Interval) -> Interval:
    return 1 - rate[0], 1 - rate[2], 1 - rate[1]
