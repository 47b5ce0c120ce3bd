"""The numbers of 'facekd verify' as people read them, at the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from facekd.evaluation.model_rates import RESAMPLES, SEED

BOUND = "†"
BOUND_NOTE = f"{BOUND} Fewer than 30 / FAR impostor pairs: the list bounds this FAR but does not estimate it."
INTERVALS = {
    "identities": f"In brackets the 95 % interval for pairs that share people ({RESAMPLES} resamples, seed {SEED}).",
    "pairs": "In brackets the 95 % Wilson interval over genuine pairs taken as independent.",
    "all pairs": "In brackets the 95 % interval with the person as the unit, at the threshold as given.",
}
BANDS = {
    "identities": "with 95 % bands that take the person as the unit",
    "pairs": "with 95 % bands for pairs taken as independent",
    "all pairs": "with 95 % bands that take the person as the unit, at the threshold as given",
}


def percent(value: float | None, digits: int = 2) -> str:
    """A rate for people: ``98.12 %``, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def far_name(far: float) -> str:
    """A FAR as the field writes it: ``1e-3``."""
    mantissa, exponent = f"{far:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def p_text(value: float | None) -> str:
    """A p-value as papers print it."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def tar_text(rate: Mapping[str, Any]) -> str:
    """A TAR with its interval, marked where the list only bounds its FAR, or why there is none."""
    if rate["tar"] is None:
        return "too few impostor pairs"
    return f"{percent(rate['tar'])} [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]{mark(rate)}"


def mark(rate: Mapping[str, Any]) -> str:
    """The sign of `BOUND_NOTE`, where it holds."""
    return f" {BOUND}" if rate["tar"] is not None and rate["support"] == "bound" else ""


def interval_text(rates: Mapping[str, Any]) -> str:
    """What the brackets behind a TAR hold; where no score was kept the threshold is taken as given."""
    return INTERVALS[unit_of(rates)]


def unit_of(rates: Mapping[str, Any]) -> str:
    """The key of `INTERVALS` and `BANDS`."""
    return "all pairs" if rates["eer"] is None else str(rates["interval"])


def eer_text(rates: Mapping[str, Any]) -> str:
    """The EER, or the two bounds between which it lies where no score was kept."""
    if rates["eer"] is not None or rates.get("eer_bounds") is None:
        return percent(rates["eer"])
    low, high = (percent(bound) for bound in rates["eer_bounds"])
    return low if low == high else f"{low.removesuffix(' %')}–{high}"


def accuracy_text(rates: Mapping[str, Any]) -> str:
    """Mean and standard deviation over the folds, or a dash."""
    accuracy = rates["accuracy"]
    return "–" if accuracy is None else f"{percent(accuracy['mean'])} ± {100 * accuracy['std']:.2f}"
