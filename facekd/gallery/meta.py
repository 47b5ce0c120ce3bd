"""What a gallery is bound to: the model of its templates, and how its people's photos were aligned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from facekd.core.contract import Contract
from facekd.core.formats import FORMATS, KEY, check_format
from facekd.errors import UserError
from facekd.gallery.place import Place

META = "gallery.json"
CONTRACT = "contract.json"
STALE = 0.05  # share of the people
TABLES = ("tail", "alike", "genuine")  # of OwnScores, whose keys JSON makes text


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnScores:
    """What the scores between the gallery's own people say of a search through it; never who they are."""

    people: int  # enrolled when they were taken
    compared: int  # of them; fewer in a large gallery
    tail: Mapping[float, float]  # FAR -> score of one comparison, a photo with the template of somebody else
    sd: float  # of these cosines, over people drawn anew
    alike: Mapping[float, float]  # the same between two templates
    genuine: Mapping[float, float]  # share of the people's own photos -> score with the others under which they are
    genuine_people: int  # with two photos or more, of whom these are
    written: int = 0  # people since
    # The usual level of a search's cohort (rates.open_set). `tail` and `genuine` are of cosine - WEIGHT * (level of the
    # search - this one). None in galleries of before it was kept, whose scores are plain cosines.
    level: float | None = None

    @property
    def stale(self) -> bool:
        """Whether so many were written since that it says too little of those who are enrolled now."""
        return self.written > STALE * self.people


@dataclass(frozen=True, slots=True, kw_only=True)
class GalleryMeta:
    """One model's contract and the settings of the latest enrollment."""

    contract: Contract  # of the network that made the templates; never changes
    model: str  # absolute path of that network when people were last enrolled
    detector: str  # a name of faces.detect, or none where photos were crops; never changes
    min_face: int  # px
    weights: str | None = None  # absolute path of the detector's file, where it is not the one that comes with facekd
    weights_sha256: str | None = None  # of faces.detect.weights_digest; None where the detector has no file, or in
    # galleries of before this was kept
    threshold: float | None = None  # cosine, given by the user
    calibrated: Mapping[float, float] = field(default_factory=dict)  # FAR -> cosine, written by the model's export
    mapped: str | None = None  # model_id from which templates were mapped, where not all were made by the model itself
    fpir: float | None = None  # promised of one search, (0, 1); None in galleries of before it was kept
    own: OwnScores | None = None  # None where it was not measured, as where people are too few
    gallery_id: str | None = None  # by chance, of this gallery alone; None in galleries of before it was kept
    gate: Mapping[str, float] | None = None  # the least quality of a photo, by the fields of QualityGate that are set

    @property
    def model_id(self) -> str:
        return self.contract.model_id


def other_weights(meta: GalleryMeta, weights_sha256: str | None) -> bool:
    """Whether the gallery's people were enrolled with other weights of its detector; False where it does not know."""
    return meta.weights_sha256 is not None and weights_sha256 != meta.weights_sha256


def check_detector(place: Place, enrolled: GalleryMeta, asked: GalleryMeta) -> None:
    """Pass where faces are to be found as those of the gallery's people were.

    Raises:
        UserError: another detector, or other weights of it.
    """
    if enrolled.detector != asked.detector:
        raise UserError(
            f"{place}: its people were enrolled with --detector {enrolled.detector}, not {asked.detector}; "
            "use that one, or enroll everybody into a new gallery"
        )
    if asked.weights_sha256 is not None and other_weights(enrolled, asked.weights_sha256):
        raise UserError(
            f"{place}: its people were enrolled with other weights of {asked.detector} (sha256 "
            f"{str(enrolled.weights_sha256)[:12]}…, these are {asked.weights_sha256[:12]}…); give those "
            "with --weights, or enroll everybody into a new gallery"
        )


def check_model(place: Place, meta: GalleryMeta, model_id: str) -> None:
    """Pass where embeddings of that model can be compared with the gallery's templates.

    Raises:
        UserError: they are of another model.
    """
    if model_id != meta.model_id:
        raise UserError(
            f"{place}: its templates are of model {meta.model_id}, these embeddings of model {model_id}, and the two "
            f"can't be compared; embed the photos again with 'facekd embed --model {meta.model}', or enroll everybody "
            "into a new gallery with the other model"
        )


def exists(where: Place | Path | str) -> bool:
    """Whether there is a gallery."""
    return Place.of(where).read(META) is not None


def write_meta(where: Place | Path | str, meta: GalleryMeta) -> None:
    """Write ``contract.json`` and then ``gallery.json``, each whole or not at all."""
    place = Place.of(where)
    place.write(CONTRACT, meta.contract.to_json().encode() + b"\n")
    place.write(META, json.dumps(to_values(meta), indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n")


def to_values(meta: GalleryMeta) -> dict[str, Any]:
    """All but the contract, as it is written down."""
    return {
        KEY: FORMATS["gallery"],
        "facekd": version("facekd"),
        "model_id": meta.model_id,
        "model": meta.model,
        "detector": meta.detector,
        "min_face": meta.min_face,
        "weights": meta.weights,
        "weights_sha256": meta.weights_sha256,
        "threshold": meta.threshold,
        "calibrated": {str(far): threshold for far, threshold in meta.calibrated.items()},
        "mapped": meta.mapped,
        "fpir": meta.fpir,
        "own": None if meta.own is None else asdict(meta.own),
        "gallery_id": meta.gallery_id,
        "gate": None if meta.gate is None else dict(meta.gate),
    }


def from_values(values: Mapping[str, Any], contract: Contract, where: str) -> GalleryMeta:
    """What `to_values` gave of a gallery with that contract.

    Raises:
        UserError: values of another form, or of another model than the contract's; `where` is in the sentence.
    """
    try:
        meta = GalleryMeta(
            contract=contract,
            model=values["model"],
            detector=values["detector"],
            min_face=values["min_face"],
            weights=values["weights"],
            weights_sha256=values.get("weights_sha256"),
            threshold=values["threshold"],
            calibrated={float(far): float(threshold) for far, threshold in values["calibrated"].items()},
            mapped=values.get("mapped"),
            fpir=values.get("fpir"),
            own=_own(values.get("own")),
            gallery_id=values.get("gallery_id"),
            gate=values.get("gate"),
        )
        model_id = values["model_id"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: damaged ({error!r}); copy the gallery again or enroll anew") from error
    if model_id != meta.model_id:
        raise UserError(f"{where}: is of model {model_id}, its contract of {meta.model_id}; copy the gallery again")
    return meta


def _own(values: Mapping[str, Any] | None) -> OwnScores | None:
    if values is None:
        return None
    tables = {name: {float(key): float(one) for key, one in values[name].items()} for name in TABLES}
    return OwnScores(**{**values, **tables})


def read_meta(where: Place | Path | str) -> GalleryMeta:
    """What the gallery is bound to.

    Raises:
        UserError: no gallery there, or its files contradict each other.
    """
    place = Place.of(where)
    if not exists(place):
        raise UserError(f"{place}: no gallery; make one with 'facekd enroll PEOPLE {place}'")
    values = _json(place, META)
    check_format("gallery", values.get(KEY), f"{place}/{META}")
    contract = Contract.from_mapping(_json(place, CONTRACT), f"{place}/{CONTRACT}")
    return from_values(values, contract, f"{place}/{META}")


def _json(place: Place, name: str) -> dict[str, Any]:
    data = place.read(name)
    try:
        values = json.loads(data or b"")
    except ValueError as error:
        raise UserError(f"{place}/{name}: not readable as JSON ({error}); copy the gallery again") from error
    if not isinstance(values, dict):
        raise UserError(f"{place}/{name}: not a mapping; copy the gallery again")
    return values
