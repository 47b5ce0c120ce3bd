"""What a gallery is bound to: the model of its templates, and how its people's photos were aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from facekd.core.contract import Contract, read_contract
from facekd.core.files import read_json, write_json, write_text
from facekd.errors import UserError

META = "gallery.json"
CONTRACT = "contract.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryMeta:
    """One model's contract and the settings of the latest enrolment."""

    contract: Contract  # of the network that made the templates; never changes
    model: str  # absolute path of that network when people were last enrolled
    detector: str  # a name of faces.detect, or none where photos were crops; never changes
    min_face: int  # px
    weights: str | None = None  # absolute path of the detector's file, where it needs one
    threshold: float | None = None  # cosine, given by the user
    calibrated: Mapping[float, float] = field(default_factory=dict)  # FAR -> cosine, written by the model's export

    @property
    def model_id(self) -> str:
        return self.contract.model_id


def exists(folder: Path) -> bool:
    """Whether `folder` is a gallery."""
    return (folder / META).is_file()


def write_meta(folder: Path, meta: GalleryMeta) -> None:
    """Write ``contract.json`` and then ``gallery.json``, each whole or not at all."""
    write_text(folder / CONTRACT, meta.contract.to_json() + "\n")
    write_json(
        folder / META,
        {
            "facekd": version("facekd"),
            "model_id": meta.model_id,
            "model": meta.model,
            "detector": meta.detector,
            "min_face": meta.min_face,
            "weights": meta.weights,
            "threshold": meta.threshold,
            "calibrated": {str(far): threshold for far, threshold in meta.calibrated.items()},
        },
    )


def read_meta(folder: Path) -> GalleryMeta:
    """What the gallery in `folder` is bound to.

    Raises:
        UserError: no gallery there, or its files contradict each other.
    """
    if not exists(folder):
        raise UserError(f"{folder}: no gallery; make one with 'facekd enroll PEOPLE {folder} --model MODEL'")
    values = read_json(folder / META)
    contract = read_contract(folder / CONTRACT)
    try:
        meta = GalleryMeta(
            contract=contract,
            model=values["model"],
            detector=values["detector"],
            min_face=values["min_face"],
            weights=values["weights"],
            threshold=values["threshold"],
            calibrated={float(far): float(threshold) for far, threshold in values["calibrated"].items()},
        )
        model_id = values["model_id"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / META}: damaged ({error!r}); copy the gallery again or enroll anew") from error
    if model_id != meta.model_id:
        raise UserError(
            f"{folder}: {META} is of model {model_id}, {CONTRACT} of {meta.model_id}; copy the gallery again"
        )
    return meta
