"""The rates of one model as plain values for JSON: the whole list, its groups, differences, requirements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from facekd.settings.evaluation import Requirement

if TYPE_CHECKING:
    from facekd.core.types import Array, Embeddings, PairList, Rate, Scores
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.evaluation.protocols import Everybody, Persons
    from facekd.rates.allpairs import Count
    from facekd.rates.counts import Curve

RESAMPLES, SEED = 1000, 0  # of the persons
REJECTED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the pairs, by quality
MOST_INDEPENDENT = 200_000  # pairs of unknown people that are still resampled for a difference
BAND_RESAMPLES = 200  # of the persons, for the bands of the curves,
BAND_PAIRS = 1_000_000  # whose FARs accept no more impostor pairs than these: beyond, a resample would take too long
BAND_POINTS = 4  # in each decade of FAR


@dataclass(frozen=True, slots=True)
class Drawn:
    """A model's line in the ROC and DET plots."""

    curve: Curve
    band: list[Rate]  # intervals at some FARs


@dataclass(frozen=True, slots=True)
class Judged:
    """One model on one pair list."""

    name: str
    rates: dict[str, Any]  # the model's part of the JSON
    drawn: Drawn
    scores: Scores

    @property
    def curve(self) -> Curve:
        return self.drawn.curve


def judge(
    name: str,
    embedder: Embedder,
    crops: CropSet,
    pairs: PairList,
    failed: frozenset[str],
    fars: Sequence[float],
    *,
    quiet: bool,
) -> Judged:
    """Embed the crops that `pairs` names with one model and take its rates; the crops' identities are its people."""
    from facekd.evaluation.protocols import embed_crops

    embeddings = embed_crops(name, embedder, crops, wanted(pairs, failed), quiet)
    return judge_embeddings(name, embeddings, pairs, failed, _persons_of(crops, pairs), fars)


def judge_embeddings(
    name: str,
    embeddings: Embeddings,
    pairs: PairList,
    failed: frozenset[str],
    persons: Persons | None,
    fars: Sequence[float],
) -> Judged:
    """The rates of embeddings on a pair list; pairs with a photo in `failed` count as non-matches."""
    from facekd.rates.counts import curve
    from facekd.rates.score import score

    scores = score(embeddings, pairs, failed)
    band = roc_band(scores, persons)
    rates = {"model": name, "model_id": embeddings.model_id, **rates_of(scores, fars, pairs.groups, persons)}
    rates["failures_to_enrol"]["photos"] = len(failed)
    rates["roc"] = [rate_json(rate) for rate in band]
    return Judged(name, rates, Drawn(curve(scores.values, scores.same), band), scores)


def judge_everybody(
    name: str, embeddings: Embeddings, people: Everybody, fars: Sequence[float], count: Count | None = None
) -> tuple[dict[str, Any], Drawn]:
    """The rates over all pairs, whose scores are never kept: what needs every score is None.

    Args:
        count: counts the tiles elsewhere, see `rates.allpairs.measure_all_pairs`.
    """
    import numpy as np

    from facekd.rates.allpairs import measure_all_pairs

    failed = np.array(people.failed_persons, np.str_)
    persons = np.array(people.persons, np.str_)
    found = measure_all_pairs(embeddings.vectors, persons, fars, failed_persons=failed, count=count)
    photos, n = len(people.ids) + len(failed), len(people.ids)
    rates = {
        "model": name,
        "model_id": embeddings.model_id,
        "accuracy": None,
        "eer": None,
        "eer_bounds": list(found.eer),
        "auc": None,
        "d_prime": found.d_prime,
        "interval": "identities",
        "tar": [rate_json(rate) for rate in found.rates],
        "tar_without_failures": [],
        "pairs": {"genuine": found.curve.n_genuine, "impostor": found.curve.n_impostor},
        "failures_to_enrol": {"pairs": (photos * (photos - 1) - n * (n - 1)) // 2, "photos": len(failed)},
        "groups": {},
        "rejects": None,
        "roc": [rate_json(rate) for rate in found.band],
    }
    return rates, Drawn(found.curve, found.band)


def roc_band(scores: Scores, persons: Persons | None) -> list[Rate]:
    """TAR at FARs that lie evenly on a log axis, from the list's floor upwards, with 95 % intervals.

    Args:
        persons: resampled where they are known; None takes the pairs as independent.
    """
    import numpy as np

    from facekd.rates.counts import curve
    from facekd.rates.persons import person_rates
    from facekd.rates.rates import rate_at

    fars = band_fars(int(np.count_nonzero(~scores.same)))
    if persons is not None and fars:
        return person_rates(scores.values, scores.same, *persons, fars, resamples=BAND_RESAMPLES, seed=SEED)
    counts = curve(scores.values, scores.same)
    return [rate_at(counts, far) for far in fars]


def band_fars(n_impostor: int) -> list[float]:
    """FARs evenly on a log axis, from the lowest that so many impostor pairs show upwards; none of too few pairs."""
    import numpy as np

    low, high = 3.001 / max(n_impostor, 1), min(1.0, BAND_PAIRS / max(n_impostor, 1))
    if low >= high:
        return []
    return [float(f"{far:.6g}") for far in np.geomspace(low, high, 2 + int(BAND_POINTS * np.log10(high / low)))]


def rates_of(
    scores: Scores,
    fars: Sequence[float],
    groups: Mapping[str, Sequence[str]],
    persons: Persons | None = None,
) -> dict[str, Any]:
    """Every rate of a scored list as plain values for JSON; groups are judged at the whole list's thresholds.

    Args:
        persons: who is on either side of each pair; None takes the pairs as independent.
    """
    import numpy as np

    from facekd.evaluation.groups import by_group
    from facekd.rates.counts import curve
    from facekd.rates.folds import accuracy
    from facekd.rates.rates import auc, d_prime, eer
    from facekd.rates.thresholds import threshold_interval

    counts = curve(scores.values, scores.same)
    folded = accuracy(_in_folds(scores))
    rates = _tars(scores.values, scores.same, fars, persons)
    ends = [threshold_interval(scores.values, scores.same, rate, persons) for rate in rates]
    enrolled = scores.values != -np.inf
    d = d_prime(scores.values, scores.same)
    return {
        "accuracy": None if folded is None else {"mean": folded.mean, "std": folded.std, "folds": list(folded.folds)},
        "eer": eer(counts),
        "auc": auc(counts),
        "d_prime": None if d is None or not np.isfinite(d) else d,
        "interval": "pairs" if persons is None else "identities",
        "tar": [
            {**rate_json(rate), "threshold_low": low, "threshold_high": high}
            for rate, (low, high) in zip(rates, ends, strict=True)
        ],
        "tar_without_failures": _without_failures(scores, enrolled, fars, persons, rates),
        "pairs": {"genuine": counts.n_genuine, "impostor": counts.n_impostor},
        "failures_to_enrol": {"pairs": int((~enrolled).sum())},
        "groups": {column: by_group(scores, values, rates, persons) for column, values in groups.items()},
    }


def rate_json(rate: Rate) -> dict[str, Any]:
    """One rate; ``support`` says what the list can show of its FAR, see `rates.rates.support`."""
    from facekd.rates.rates import support

    return {
        "far_asked": rate.far_asked,
        "far": rate.far,
        "tar": rate.tar,
        "low": rate.low,
        "high": rate.high,
        "threshold": rate.threshold,
        "support": support(rate.far_asked, rate.n_impostor),
    }


def rejects(judged: Judged, quality: Mapping[str, float] | None) -> dict[str, Any] | None:
    """FNMR when the pairs with the blurriest crops are rejected, at the threshold of the lowest FAR shown.

    None without qualities, without a threshold, or where the qualities reject no pair.
    """
    import numpy as np

    from facekd.rates.rejects import error_vs_reject

    shown = [rate for rate in judged.rates["tar"] if rate["threshold"] is not None and rate["support"] == "estimate"]
    if quality is None or not shown:
        return None
    scores, rate = judged.scores, shown[-1]
    left, right = (np.array([quality.get(name, -np.inf) for name in side]) for side in (scores.left, scores.right))
    kept = error_vs_reject(scores.values, scores.same, np.minimum(left, right), rate["threshold"], REJECTED)
    if not any(one.rejected for one in kept):
        return None
    return {"far_asked": rate["far_asked"], "threshold": rate["threshold"], "rows": [asdict(one) for one in kept]}


def differences(judged: Sequence[Judged], persons: Persons | None, fars: Sequence[float]) -> list[dict[str, Any]]:
    """TAR of each model minus that of each later one on the same pairs, with interval and p-value.

    Where people are not known the pairs are resampled as independent ones; None of a longer list than that allows.
    """
    import numpy as np

    from facekd.rates.persons import paired_differences

    interval = "pairs" if persons is None else "identities"
    if persons is None and judged:
        same = judged[0].scores.same
        if len(same) > MOST_INDEPENDENT:
            return []
        alone = np.arange(len(same))
        persons = alone, np.where(same, alone, alone + len(same))
    rows = []
    for a, b in combinations(judged, 2):
        assert persons is not None
        found = paired_differences(
            a.scores.values, b.scores.values, a.scores.same, *persons, fars, resamples=RESAMPLES, seed=SEED
        )
        for one in found:
            values = {"difference": one.difference, "low": one.low, "high": one.high, "p_value": one.p_value}
            rows.append({"a": a.name, "b": b.name, "far_asked": one.far_asked, **values, "interval": interval})
    return rows


def check(requirement: Requirement, rates: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a model's lower bound holds what is required, with the line that says so."""
    rate = next(rate for rate in rates["tar"] if rate["far_asked"] == requirement.far)
    met = rate["low"] is not None and rate["low"] >= requirement.least
    if rate["low"] is None:
        n = rates["pairs"]["impostor"]
        shown = f"not shown: {n} impostor pairs are too few for FAR {requirement.far:g}"
    else:
        # Rounded down: a bound that misses must not be shown as the bound required.
        shown = f"{'holds' if met else 'missed'}: TAR {rate['tar']:.4f}, lower bound {int(rate['low'] * 1e6) / 1e6:.6f}"
    line = f"{rates['model']}: {requirement.text} {shown}"
    return {"require": requirement.text, "model": rates["model"], "met": met, "low": rate["low"], "line": line}


def wanted(pairs: PairList, failed: frozenset[str]) -> list[str]:
    """The ids that `pairs` needs embeddings of."""
    return sorted({crop_id for crop_id in (*pairs.left, *pairs.right) if crop_id not in failed})


def _persons_of(crops: CropSet, pairs: PairList) -> Persons | None:
    import numpy as np

    identity = dict(zip(crops.ids, crops.identities, strict=True))
    people = [identity.get(crop_id) for crop_id in (*pairs.left, *pairs.right)]
    if None in people:
        return None
    _, number = np.unique(np.array(people, np.str_), return_inverse=True)
    return number[: len(pairs.left)], number[len(pairs.left) :]


def _tars(values: Array, same: Array, fars: Sequence[float], persons: Persons | None) -> list[Rate]:
    from facekd.rates.counts import curve
    from facekd.rates.persons import person_rates
    from facekd.rates.rates import rate_at

    if persons is not None:
        return person_rates(values, same, *persons, fars, resamples=RESAMPLES, seed=SEED)
    counts = curve(values, same)
    return [rate_at(counts, asked) for asked in fars]


def _without_failures(
    scores: Scores, enrolled: Array, fars: Sequence[float], persons: Persons | None, rates: Sequence[Rate]
) -> list[dict[str, Any]]:
    """The rates of the pairs of which both photos gave an embedding, for the comparison; none where a class is gone."""
    if enrolled.all():
        return [rate_json(rate) for rate in rates]
    values, same = scores.values[enrolled], scores.same[enrolled]
    if not same.any() or same.all():
        return []
    who = None if persons is None else (persons[0][enrolled], persons[1][enrolled])
    return [rate_json(rate) for rate in _tars(values, same, fars, who)]


def _in_folds(scores: Scores) -> Scores:
    """Only the pairs that are in a fold; all of them, as one fold, where none is."""
    import numpy as np

    kept = np.flatnonzero(scores.fold >= 0)
    if len(kept) == 0:
        return scores
    left, right = (tuple(side[i] for i in kept) for side in (scores.left, scores.right))
    return replace(
        scores, values=scores.values[kept], same=scores.same[kept], left=left, right=right, fold=scores.fold[kept]
    )
