"""The tables of a report of pairs: rates, operating points, requirements, differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facekd.core.printable import percent, percent_small
from facekd.core.types import Rate
from facekd.evaluation.results import (
    FixedRate,
    Interval,
    ListRates,
    ModelDifference,
    ModelRates,
    RequirementCheck,
    ThresholdRate,
)
from facekd.evaluation.text import (
    BOUND_NOTE,
    INTERVALS,
    accuracy_text,
    auc_text,
    d_text,
    eer_text,
    far_name,
    mark,
    marked,
    p_text,
    points_text,
    range_text,
    small_text,
    tar_label,
    tar_text,
)
from facekd.reports.document import Table


def rates_table(
    rows_of: Mapping[str, ListRates] | Mapping[str, ModelRates],
    fars: Sequence[float],
    note: str = "",
    *,
    apart: bool = False,
) -> Table:
    """The rates of several models, by name, as a table of the report.

    A column that would say nothing of any model is left out; of a FAR the note says why.

    Args:
        apart: TAR alone, what is of no one threshold stands in `overall_table`.
    """
    found: list[ListRates | ModelRates] = [*rows_of.values()]
    first = found[0]
    shown = [k for k in range(len(fars)) if any(rates.tar[k].tar is not None for rates in found)]
    folds = len(first.accuracy.folds) if first.accuracy and not apart else 0
    columns = ["model", *(tar_label(fars[k]) for k in shown), *([f"{folds}-fold accuracy"] if folds else [])]
    columns += [] if apart else ["EER"]
    rows = []
    for name, rates in zip(rows_of, found, strict=True):
        cells = [name, *(tar_text(rates.tar[k]) for k in shown), *([accuracy_text(rates)] if folds else [])]
        rows.append((*cells, *([] if apart else [eer_text(rates)])))
    notes = [note] if note else []
    notes.append(INTERVALS[first.interval])
    if marked(found):
        notes.append(BOUND_NOTE)
    if len(shown) < len(fars):
        missing = ", ".join(far_name(far) for k, far in enumerate(fars) if k not in shown)
        notes.append(f"Of FAR {missing} there is no number: too few impostor pairs.")
    return Table("Rates", tuple(columns), tuple(rows), " ".join(notes))


def overall_table(models: Sequence[ModelRates]) -> Table:
    """What is of no one threshold: accuracy over the list's folds, EER, AUC and d'."""
    folds = len(models[0].accuracy.folds) if models[0].accuracy else 0
    columns = ("model", *((f"{folds}-fold accuracy",) if folds else ()), "EER", "AUC", "d′")
    rows = [
        (one.model, *((accuracy_text(one),) if folds else ()), eer_text(one), auc_text(one), d_text(one))
        for one in models
    ]
    note = "Accuracy ± the standard deviation over the folds. " if folds else ""
    return Table("Over all thresholds", columns, tuple(rows), f"{note}In brackets the 95 % interval.")


def requirements_table(requirements: Sequence[RequirementCheck]) -> Table:
    """What was required, and the bound that decided."""
    rows = []
    for one in requirements:
        side, bound = ("upper", one.high) if one.high is not None else ("lower", one.low)
        shown = "–" if bound is None else f"{side} {100 * bound:.4g} %"
        required = one.require if one.group is None else f"{one.require} ({one.group})"
        result = "holds" if one.met else "not shown" if bound is None else "missed"
        rows.append((one.model, required, shown, result))
    note = (
        "What can't be shown is not met." if any(one.low is None and one.high is None for one in requirements) else ""
    )
    return Table("Requirements", ("model", "required", "bound that decides", "result"), tuple(rows), note)


def completed_table(models: Sequence[ModelRates]) -> Table:
    """The rates of the pairs that could be compared, for a report in ISO/IEC 19795-1's terms.

    Source: ISO/IEC 19795-1: FMR and FNMR are of completed comparisons; with failures to acquire or enroll in them they
    are generalized rates.
    """
    rows = []
    for one in models:
        for rate in one.tar_without_failures:
            if rate.threshold is None or rate.tar is None:
                continue
            cells = (far_name(rate.far_asked) + mark(rate), f"{rate.threshold:.4f}", percent_small(rate.far))
            rows.append((one.model, *cells, range_text(*_complement(rate)), percent(rate.tar)))
    note = (
        "The other tables count a pair that could not be compared as a non-match, so their rates are generalized ones; "
        "here such pairs are left out."
    )
    columns = ("model", "FAR asked", "threshold", "FMR reached", "FNMR", "TAR")
    return Table("Completed comparisons alone", columns, tuple(rows), note)


def differences_table(differences: Sequence[ModelDifference]) -> Table:
    """TAR of each model less that of each other."""
    rows = [
        (
            f"{one.a} − {one.b}",
            far_name(one.far_asked),
            points_text(one.difference, one.low, one.high),
            p_text(one.p_value),
        )
        for one in differences
    ]
    unit = "person" if differences[0].interval == "identities" else "pair"
    note = (
        f"Percentage points with 95 % interval, each model at its own threshold; what a {unit} adds to the error of "
        "both cancels."
    )
    return Table("Differences in TAR on the same pairs", ("models", "FAR", "difference", "p"), tuple(rows), note)


def points_table(models: Sequence[ModelRates]) -> Table:
    """Each model's operating points: the threshold for a FAR, and both error rates there."""
    rows = []
    for one in models:
        for rate in one.tar:
            if rate.threshold is None or rate.tar is None:
                continue
            ends, reached = "", percent_small(rate.far)
            if isinstance(rate, ThresholdRate):
                if rate.threshold_low is not None and rate.threshold_high is not None:
                    ends = f" [{rate.threshold_low:.4f}, {rate.threshold_high:.4f}]"
                if rate.far_low is not None and rate.far_high is not None:
                    reached = small_text(rate.far, rate.far_low, rate.far_high)
            missed = _complement(rate)
            cells = (far_name(rate.far_asked) + mark(rate), f"{rate.threshold:.4f}{ends}", reached)
            rows.append((one.model, *cells, range_text(*missed), percent(rate.tar)))
    note = "A score is accepted from the threshold on; thresholds.json holds the same for other commands."
    columns = ("model", "FAR asked", "threshold", "FMR reached", "FNMR", "TAR")
    return Table("Operating points", columns, tuple(rows), note)


def fixed_table(rows_of: Mapping[str, Sequence[FixedRate]], false: str, missed: str) -> Table:
    """Rates at thresholds that were fixed before, by model, and their drift.

    Args:
        false, missed: what the two error rates are called.
    """
    rows = []
    for name, fixed in rows_of.items():
        for one in fixed:
            asked = "–" if one.asked is None else one.name
            there = "–" if one.calibrated is None else percent_small(one.calibrated[0])
            moved = {"agrees": "as calibrated", "higher": "higher than calibrated", "lower": "lower than calibrated"}
            drift = "–" if one.drift is None else moved[one.drift]
            rows.append((name, f"{one.threshold:.4f}", asked, there, _known(one.false), drift, _known(one.missed)))
    columns = ("model", "threshold", f"{false} asked", f"{false} there", f"{false} here", "drift", f"{missed} here")
    note = (
        "Thresholds that were fixed before. There: on the data that they were calibrated on. Drift: higher or lower "
        "here where the two rates differ by more than their intervals explain, else they agree."
    )
    return Table("At fixed thresholds", columns, tuple(rows), note)


def _known(rate: Interval | None) -> str:
    return "–" if rate is None else small_text(*rate)


def _complement(rate: Rate) -> tuple[float | None, float | None, float | None]:
    if rate.tar is None or rate.low is None or rate.high is None:
        return None, None, None
    found: Interval = (1 - rate.tar, 1 - rate.high, 1 - rate.low)
    return found
