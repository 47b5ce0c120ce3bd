"""The model card that travels inside an exported file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from facekd.core.contract import Contract
from facekd.nets.files import is_exported, read_onnx

CARD = "facekd.card"  # key in an ONNX file's metadata; Markdown
TERMS = "facekd.terms"  # another; plain text
NOT_STATED = "not stated; ask who trained it before you use it"
KNOWN_TERMS = {  # of the weights whose contracts facekd carries, by their digests
    "5b7cf2e71189b7095cc1b64fed65356d1316dc07d85e79a5ef2892eb93b0391b": (
        "Apache-2.0 (Intel, Open Model Zoo 2023.0); its training repository names VGGFace2"
    ),
    "8edd49816d8b9f5acdd76503fec37acb9129422883ac591e301ed8c3ddf722b0": (
        "Apache-2.0 (OpenCV Zoo); what it was trained on is not stated there"
    ),
    "9cc6e4a75f0e2bf0b1aed94578f144d15175f357bdc05e815e5c4a02b319eb4f": (
        "non-commercial research only (insightface); trained on WebFace600K"
    ),
    "ada25a2c0241171ce1637ae32e318e92325849f7f73125bdea00a3dc58fd9c7c": (
        "Apache-2.0 (foamliu/MobileFaceNet); trained on MS-Celeb-1M"
    ),
}
LIMITS = (  # of any face embedder; the card of a training says them too
    "It measures likeness, not identity: accept only above a threshold calibrated on people like yours, and let a "
    "person decide where a mistake does harm.",
    "Two people of one sex and one origin match more often than any two, and children far more, with every network "
    "that facekd measured: don't rely on a match between children.",
    "Embeddings are biometric data; whoever has them can compare them.",
)


def stated_terms(model: Path) -> str | None:
    """The terms that an ONNX file carries; None for any other model and where it has none."""
    if not is_exported(model):
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
