"""The numbers of an evaluation as people read them, at the terminal and in the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from facekd.core.printable import percent, percent_small
from facekd.core.types import Rate
from facekd.evaluation.results import ListRates, ModelRates, PairCounts
from facekd.rates.rates import support_of

BOUND = "†"
BOUND_NOTE = (
    f"{BOUND} Fewer than 30 / FAR independent impostor pairs (pairs of the same two people count as ten at most): the "
    "list bounds this FAR but does not estimate it."
)
INTERVALS = {
    "identities": "In brackets the 95 % interval with the person as the unit: each counts as three pairs at most, so "
    "the rate over all pairs need not lie in its middle. The threshold's own error is in it.",
    "pairs": "In brackets the 95 % Wilson interval over genuine pairs taken as independent, at the threshold as given.",
}
BANDS = {
    "identities": "with 95 % bands that take the person as the unit",
    "pairs": "with 95 % bands for pairs taken as independent",
}


def far_name(far: float) -> str:
    """A FAR as the field writes it: ``1e-3``."""
    mantissa, exponent = f"{far:e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def tar_label(far: float | None) -> str:
    """What a TAR is called; at a FAR where there is one."""
    return "TAR" if far is None else f"TAR at FAR {far_name(far)}"


def p_text(value: float | None) -> str:
    """A p-value as papers print it."""
    return "–" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def range_text(value: float | None, low: float | None, high: float | None) -> str:
    """A rate with its interval: ``98.12 % [97.50, 98.70]``, or a dash where there is none."""
    if value is None or low is None or high is None:
        return "–"
    return f"{percent(value)} [{100 * low:.2f}, {100 * high:.2f}]"


def points_text(value: float | None, low: float | None, high: float | None) -> str:
    """A difference of rates in percentage points, with its interval."""
    if value is None or low is None or high is None:
        return "–"
    return f"{100 * value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def tar_text(rate: Rate) -> str:
    """A TAR with its interval, marked where the list only bounds its FAR, or why there is none."""
    if rate.tar is None:
        return "too few impostor pairs"
    return range_text(rate.tar, rate.low, rate.high) + mark(rate)


def mark(rate: Rate) -> str:
    """The sign of `BOUND_NOTE`, where it holds."""
    return f" {BOUND}" if rate.tar is not None and support_of(rate) == "bound" else ""


def marked(rates: Iterable[ListRates | ModelRates]) -> bool:
    """Whether `BOUND_NOTE` holds of a rate among them."""
    return any(mark(rate) for one in rates for rate in one.tar)


def eer_text(rates: ListRates | ModelRates) -> str:
    """The EER, with its interval where it has one."""
    ends = rates.intervals.get("eer") if isinstance(rates, ModelRates) else None
    return percent(rates.eer) if rates.eer is None or ends is None else range_text(rates.eer, *ends)


def auc_text(rates: ListRates | ModelRates) -> str:
    """The AUC with its interval, or a dash."""
    if not isinstance(rates, ModelRates) or rates.auc is None:
        return "–"
    ends = rates.intervals.get("auc")
    return f"{rates.auc:.5f}" + ("" if ends is None else f" [{ends[0]:.5f}, {ends[1]:.5f}]")


def d_text(rates: ListRates | ModelRates) -> str:
    """d', or a dash."""
    return f"{rates.d_prime:.2f}" if isinstance(rates, ModelRates) and rates.d_prime is not None else "–"


def small_text(value: float, low: float, high: float) -> str:
    """A rate that may be small, with its interval: ``0.0123 % [0.0100, 0.0152]``."""
    low_text, high_text = (percent_small(end).removesuffix(" %") for end in (low, high))
    return f"{percent_small(value)} [{low_text}, {high_text}]"


def accuracy_text(rates: ListRates | ModelRates) -> str:
    """Mean and standard deviation over the folds, with its interval where it has one, or a dash."""
    accuracy = rates.accuracy
    if accuracy is None:
        return "–"
    ends = rates.intervals.get("accuracy") if isinstance(rates, ModelRates) else None
    text = f"{percent(accuracy.mean)} ± {100 * accuracy.std:.2f}"
    return text if ends is None else f"{text} [{100 * ends[0]:.2f}, {100 * ends[1]:.2f}]"


def counts_text(pairs: PairCounts) -> str:
    """How many pairs there are."""
    return f"{pairs.genuine} genuine and {pairs.impostor} impostor pairs"


def said(parts: Sequence[str], left_out: Mapping[str, int]) -> str:
    """What was counted, and what was left out, in one line."""
    why = ["left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items())] if left_out else []
    return "; ".join([*parts, *why])
