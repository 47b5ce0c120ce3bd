"""thresholds.json: what a run measured, by FAR of one comparison or by FPIR of one search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from facekd.core.files import read_json, write_json
from facekd.core.types import Rate
from facekd.errors import UserError
from facekd.evaluation.results import PairReport, ThresholdRate, plain
from facekd.evaluation.search_results import SearchReport
from facekd.evaluation.text import far_name
from facekd.rates.rates import support_of

KINDS = ("thresholds", "fpir")


def thresholds_json(report: PairReport | SearchReport) -> dict[str, Any]:
    """``{"pairs": …, "models": {model_id: {"name": …, "thresholds": {far: {threshold, low, high, far, …}}}}}``.

    Of a gallery ``{"split": …, "models": {model_id: {"name": …, "fpir": {fpir: {threshold, fpir, people, …}}}}}``.
    """
    if isinstance(report, SearchReport):
        models = {
            one.model_id: {
                "name": one.model,
                "fpir": {
                    far_name(rate.far_asked): _by_fpir(rate, one.gallery.people)
                    for rate in one.tpir
                    if rate.threshold is not None
                },
            }
            for one in (searched.rates for searched in report.models)
        }
        return {"split": plain(report.split), "models": models}
    models = {
        one.model_id: {
            "name": one.model,
            "thresholds": {far_name(rate.far_asked): _by_far(rate) for rate in one.tar if rate.threshold is not None},
        }
        for one in (judged.rates for judged in report.models)
    }
    return {"pairs": plain(report.pairs), "models": models}


def save_thresholds(report: PairReport | SearchReport, path: Path) -> None:
    """Write `thresholds_json`; what a file that is there says of other models, and by the other rate, stays.

    Raises:
        UserError: a file of another kind.
    """
    new = thresholds_json(report)
    if path.exists():
        old = read_json(path)
        if not isinstance(old, dict) or not isinstance(old.get("models"), dict):
            raise UserError(f"{path}: is there and no thresholds.json; give --save-thresholds another name")
        models: dict[str, Any] = dict(old["models"])
        for model_id, found in new["models"].items():
            models[model_id] = (dict(models[model_id]) if isinstance(models.get(model_id), dict) else {}) | found
        new = {**old, **new, "models": models}
    write_json(path, new)


def _by_far(rate: Rate) -> dict[str, Any]:
    ends = (rate.threshold_low, rate.threshold_high) if isinstance(rate, ThresholdRate) else (None, None)
    found = {
        "threshold": rate.threshold,
        "low": ends[0],
        "high": ends[1],
        "far": rate.far,
        "support": support_of(rate),
    }
    return found | ({"far_low": rate.far_low, "far_high": rate.far_high} if isinstance(rate, ThresholdRate) else {})


def _by_fpir(rate: Rate, people: int) -> dict[str, Any]:
    return {
        "threshold": rate.threshold,
        "fpir": rate.far,
        "people": people,
        "support": support_of(rate),
    }
