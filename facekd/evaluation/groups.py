"""The rates of groups of pairs, such as age bands or cameras, at the threshold of the whole list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facekd.core.types import Array, Rate, Scores
    from facekd.evaluation.protocols import Persons

FEW = 30  # a group of fewer people, or genuine pairs where people are not known, is marked: the rule of 30


def by_group(
    scores: Scores, values: Sequence[str], rates: Sequence[Rate], persons: Persons | None
) -> dict[str, dict[str, Any]]:
    """For each value of a group column its pairs, and TAR and FAR at the whole list's thresholds with intervals."""
    import numpy as np

    column = np.array(values)
    groups: dict[str, Any] = {}
    for value in sorted(set(values)):
        here = column == value
        genuine, impostor = here & scores.same, here & ~scores.same
        people = None if persons is None else len(np.unique(np.concatenate([side[here] for side in persons])))
        groups[value] = {
            "pairs": {"genuine": int(genuine.sum()), "impostor": int(impostor.sum())},
            "people": people,
            "few": min(int(genuine.sum()), FEW if people is None else people) < FEW,
            "tar": [
                {"far_asked": rate.far_asked, "threshold": rate.threshold}
                | _group_rates(scores, rate, genuine, impostor, persons)
                for rate in rates
            ],
        }
    return groups


def _group_rates(
    scores: Scores, rate: Rate, genuine: Array, impostor: Array, persons: Persons | None
) -> dict[str, float | None]:
    """TAR and FAR of one group; None where the list, or for FAR the group, has too few pairs."""
    import numpy as np

    from facekd.rates.intervals import wilson, wilson_by_person
    from facekd.rates.rates import support
    from facekd.rates.thresholds import far_interval

    empty = dict.fromkeys(("tar", "low", "high", "far", "far_low", "far_high"))
    if rate.tar is None:
        return empty
    accepted = scores.values >= (np.inf if rate.threshold is None else rate.threshold)
    found: dict[str, float | None] = {}
    n = int(genuine.sum())
    if n:
        hits = int((accepted & genuine).sum())
        low, high = wilson(hits, n)
        if persons is not None:
            _, who = np.unique(persons[0][genuine], return_inverse=True)
            low, high = wilson_by_person(np.bincount(who, accepted[genuine]), np.bincount(who))
        found |= {"tar": hits / n, "low": low, "high": high}
    n = int(impostor.sum())
    if n and support(rate.far_asked, n) != "none":
        hits = int((accepted & impostor).sum())
        low, high = far_interval(
            accepted[impostor], None if persons is None else (persons[0][impostor], persons[1][impostor])
        )
        found |= {"far": hits / n, "far_low": low, "far_high": high}
    return empty | found


def group_ratios(groups: Mapping[str, Mapping[str, Any]], fars: Sequence[float]) -> list[dict[str, Any]]:
    """How much worse the worst group errs than the best, at each FAR; marked groups are left out.

    A ratio is None where fewer than two groups are left, or the best of them makes no error.
    """
    solid = {name: group["tar"] for name, group in groups.items() if not group["few"]}
    rows = []
    for place, far in enumerate(fars):
        here = {name: rates[place] for name, rates in solid.items()}
        missed = {name: 1 - rate["tar"] for name, rate in here.items() if rate["tar"] is not None}
        accepted = {name: rate["far"] for name, rate in here.items() if rate["far"] is not None}
        rows.append({"far_asked": far, "fnmr": _worst_to_best(missed), "far": _worst_to_best(accepted)})
    return rows


def _worst_to_best(errors: Mapping[str, float]) -> dict[str, Any]:
    if len(errors) < 2:
        return {"ratio": None, "worst": None, "best": None}
    worst, best = (pick(errors, key=errors.__getitem__) for pick in (max, min))
    return {"ratio": errors[worst] / errors[best] if errors[best] > 0 else None, "worst": worst, "best": best}
