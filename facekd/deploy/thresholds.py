"""The thresholds that a model was calibrated to: as verify measured them, and as an export carries them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from facekd.core.calibration import known_calibration
from facekd.core.contract import Contract
from facekd.core.files import read_json
from facekd.errors import UserError
from facekd.nets.files import is_exported, read_onnx

THRESHOLDS = "facekd.thresholds"  # key in an ONNX file's metadata; its value is JSON, {far: threshold}
USUAL_FAR = 1e-3  # of a comparison of two, where none is asked for


def model_thresholds(model: Path, contract: Contract) -> dict[float, float]:
    """FAR -> cosine threshold of one comparison, of a network: the one place that says which thresholds it has.

    An ONNX file's own, from its metadata, go first: whoever wrote it may have measured on people of their own. Else
    those that facekd carries for the network's model_id, which an fp32 export keeps. Empty where neither has any.

    Args:
        model: the network's file or run folder.
        contract: the network's.

    Raises:
        UserError: as `read_thresholds`.
    """
    return read_thresholds(model) or known_thresholds(contract)


def known_thresholds(contract: Contract) -> dict[float, float]:
    """FAR -> cosine threshold that facekd carries for the network of this contract; empty for any other."""
    found = known_calibration(contract)
    return {} if found is None else found.by_far()


def read_thresholds(model: Path) -> dict[float, float]:
    """FAR -> cosine threshold from the metadata of an ONNX file; empty for any model that carries none.

    Raises:
        UserError: no ONNX file, or metadata of another form.
    """
    if not is_exported(model):
        return {}
    entries = read_onnx(model).metadata_props
    text = next((entry.value for entry in entries if entry.key == THRESHOLDS), "{}")
    try:
        thresholds = {float(far): float(threshold) for far, threshold in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{model}: its metadata {THRESHOLDS} is not {{far: threshold}} ({error}); export it again"
        ) from error
    bad = [far for far, threshold in thresholds.items() if not (0 < far < 1 and -1 <= threshold <= 1)]
    if bad:
        raise UserError(f"{model}: its metadata {THRESHOLDS} has no cosine for FAR {bad[0]:g}; export it again")
    return thresholds


def usual_far(known: Mapping[float, float]) -> float:
    """The FAR of one comparison where none is asked for: USUAL_FAR, else the nearest stricter, else the strictest.

    Args:
        known: FAR -> cosine; not empty.
    """
    return max((one for one in known if one <= USUAL_FAR), default=min(known))


def threshold_at(known: Mapping[float, float], far: float | None, whose: Path, flag: str) -> tuple[float, float]:
    """The threshold for a comparison of two faces, and the FAR that it is calibrated to.

    Args:
        known: FAR -> cosine.
        far: one of these; None takes `usual_far`.
        whose: the network or gallery, for the sentence.
        flag: what gives a threshold instead, for the sentence.

    Raises:
        UserError: `far` is no rate, none is known there, or none at all.
    """
    if far is not None and not 0 < far < 1:
        raise UserError(f"FAR {far:g}: is no share of pairs; give one between 0 and 1, such as {USUAL_FAR:g}")
    if far is None and known:
        far = usual_far(known)
    if far is None or far not in known:
        has = f"thresholds at FAR {', '.join(f'{one:g}' for one in sorted(known))}" if known else "no threshold"
        raise UserError(
            f"{whose}: carries {has}, so the same person can't be told from another"
            f"{'' if far is None else f' at FAR {far:g}'}; measure with 'facekd verify' and give its thresholds.json "
            f"to 'facekd export --thresholds', or give {flag} here"
        )
    return known[far], far


def thresholds_text(thresholds: Mapping[float, float]) -> str:
    """Thresholds as `read_thresholds` finds them in an ONNX file's metadata."""
    return json.dumps({f"{far:g}": threshold for far, threshold in thresholds.items()})


def measured_thresholds(path: Path, model_id: str) -> dict[float, float]:
    """FAR -> cosine threshold of one model from the ``thresholds.json`` that 'facekd verify' wrote.

    Raises:
        UserError: no such file, another kind of file, or none of this model's thresholds in it.
    """
    values = read_json(path)
    try:
        models = dict(values["models"])
        measured = models[model_id]["thresholds"] if model_id in models else {}
        thresholds = {float(far): float(entry["threshold"]) for far, entry in measured.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{path}: not a thresholds.json of 'facekd verify' ({type(error).__name__}: {error}); give one"
        ) from error
    if not thresholds:
        raise UserError(
            f"{path}: holds no threshold of model {model_id}; measure that model with 'facekd verify', on pairs enough "
            "for the FAR you want"
        )
    return thresholds
