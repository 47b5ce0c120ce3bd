"""The rates of one model as plain values for JSON: the whole list, its groups, differences, requirements, cost."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

from facekd.errors import UserError

if TYPE_CHECKING:
    from facekd.core.types import Array, Embeddings, PairList, Rate, Scores
    from facekd.crops.read import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.rates.counts import Curve
    from facekd.stages.verify_protocols import Everybody, Persons

RESAMPLES, SEED = 1000, 0  # of the persons
REJECTED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the pairs, by quality
MOST_INDEPENDENT = 200_000  # pairs of unknown people that are still resampled for a difference
TIMED_RUNS, TIMED_SECONDS = 30, 0.5


@dataclass(frozen=True, slots=True)
class Judged:
    """One model on one pair list."""

    name: str
    rates: dict[str, Any]  # the model's part of the JSON
    curve: Curve
    scores: Scores


@dataclass(frozen=True, slots=True)
class Requirement:
    """The least TAR at a FAR that a model has to show."""

    text: str
    far: float
    least: float


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
    from facekd.stages.verify_protocols import embed_crops

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
    rates = {"model": name, "model_id": embeddings.model_id, **rates_of(scores, fars, pairs.groups, persons)}
    rates["failures_to_enrol"]["photos"] = len(failed)
    return Judged(name, rates, curve(scores.values, scores.same), scores)


def judge_everybody(name: str, embeddings: Embeddings, people: Everybody, fars: Sequence[float]) -> dict[str, Any]:
    """The rates over all pairs, whose scores are never kept: what needs every score is None."""
    import numpy as np

    from facekd.rates.allpairs import all_pairs

    failed = np.array(people.failed_persons, np.str_)
    rates = all_pairs(embeddings.vectors, np.array(people.persons, np.str_), fars, failed_persons=failed)
    photos, n = len(people.ids) + len(failed), len(people.ids)
    return {
        "model": name,
        "model_id": embeddings.model_id,
        "accuracy": None,
        "eer": None,
        "auc": None,
        "d_prime": None,
        "interval": "identities",
        "tar": [rate_json(rate) for rate in rates],
        "tar_without_failures": [],
        "pairs": {"genuine": rates[0].n_genuine, "impostor": rates[0].n_impostor},
        "failures_to_enrol": {"pairs": (photos * (photos - 1) - n * (n - 1)) // 2, "photos": len(failed)},
        "groups": {},
        "rejects": None,
    }


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

    from facekd.rates.counts import curve
    from facekd.rates.folds import accuracy
    from facekd.rates.rates import auc, d_prime, eer
    from facekd.rates.thresholds import threshold_interval
    from facekd.stages.verify_groups import by_group

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


def parse_requirement(text: str) -> Requirement:
    """The requirement in ``tar@1e-3>=0.95``.

    Raises:
        UserError: another form, or rates outside (0, 1].
    """
    found = re.fullmatch(r"\s*tar\s*@\s*([0-9.eE+-]+)\s*>=\s*([0-9.eE+-]+)\s*", text, re.IGNORECASE)
    try:
        far, least = (float(value) for value in found.groups()) if found else (0.0, 0.0)
    except ValueError:
        far, least = 0.0, 0.0
    if not (0 < far <= 1 and 0 < least <= 1):
        raise UserError(f"--require {text!r}: not a requirement; write the least TAR at a FAR as 'tar@1e-3>=0.95'")
    return Requirement(text.strip(), far, least)


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


def cost_of(embedder: Embedder) -> dict[str, Any]:
    """What a model costs on this machine: size, and the time from uint8 crops to unit embeddings (medians)."""
    import numpy as np

    from facekd.nets.onnx_cost import onnx_macs

    network = embedder.network
    size = embedder.contract.size
    macs = network.macs
    if macs is None:
        macs = onnx_macs(network.path, (1, 3, size, size) if embedder.contract.layout == "NCHW" else (1, size, size, 3))
    crops = np.random.default_rng(SEED).integers(0, 256, (32, size, size, 3), np.uint8)
    return {
        "parameters": network.parameters,
        "macs": macs,
        "bytes": network.bytes,
        "latency_ms": 1e3 * _seconds(embedder, crops[:1]),
        "crops_per_second": 32 / _seconds(embedder, crops),
    }


def wanted(pairs: PairList, failed: frozenset[str]) -> list[str]:
    """The ids that `pairs` needs embeddings of."""
    return sorted({crop_id for crop_id in (*pairs.left, *pairs.right) if crop_id not in failed})


def _seconds(embedder: Embedder, crops: Array) -> float:
    """The median of some runs, after one that warms up."""
    embedder.embed(crops)
    taken: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(taken) < 3 or (len(taken) < TIMED_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        embedder.embed(crops)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


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
