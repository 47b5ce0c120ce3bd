"""The model card that travels inside an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from facekd.core.contract import Contract
from facekd.nets.files import read_onnx

CARD = "facekd.card"  # key in an ONNX file's metadata; Markdown
TERMS = "facekd.terms"  # another; plain text
NOT_STATED = "not stated; ask who trained it before you use it"
LIMITS = (  # of any face embedder; the card of a training says them too
    "It measures likeness, not identity: accept only above a threshold calibrated on people like yours, and let a "
    "person decide where a mistake does harm.",
    "Embeddings are biometric data; whoever has them can compare them.",
)


def stated_terms(model: Path) -> str | None:
    """The terms that an ONNX file carries; None for any other model and where it has none."""
    if model.suffix != ".onnx":
        return None
    return next((entry.value for entry in read_onnx(model).metadata_props if entry.key == TERMS), None)


def model_card(
    name: str,
    contract: Contract,
    source: Contract,
    precision: str,
    checks: Mapping[str, str],
    thresholds: Mapping[float, float],
    terms: str | None,
) -> str:
    """What a file is, what it takes and gives, how it was checked and what its data's terms are, as Markdown.

    Args:
        contract: the exported network's; `source` that of the network it was made from.
        checks: what was measured before the file was handed over, as text by what it is.
        thresholds: FAR -> cosine.
    """
    expects = ", ".join(f"{key} {value}" for key, value in asdict(contract).items() if key != "weights_sha256")
    origin = (
        "" if contract == source else f" Made from model `{source.model_id}`; their embeddings are not exchangeable."
    )
    lines = [
        f"# {name}",
        "",
        f"A face embedder, exported by facekd in {precision}. Model `{contract.model_id}`.{origin}",
        "",
        "## Use",
        f"- Expects: {expects}.",
        f"- Gives: float32[N, {contract.dim}]; two faces score the cosine of their embeddings, higher is more alike.",
        *(f"- Threshold for FAR {far:g}: {value:.4f}." for far, value in sorted(thresholds.items(), reverse=True)),
        *([] if thresholds else ["- Thresholds: none were calibrated; measure them on pairs of your own people."]),
        "",
        "## Checked before it was handed over",
        *(f"- {what}: {value}" for what, value in checks.items()),
        "",
        "## Limits",
        *(f"- {limit}" for limit in LIMITS),
        "",
        "## Terms of the data it was trained on",
        terms or NOT_STATED,
        "",
    ]
    return "\n".join(lines)
