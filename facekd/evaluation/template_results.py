"""What 'facekd verify --templates' finds: fields are named as the keys of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facekd.evaluation.fusion import Fusion
from facekd.evaluation.results import Cost, PairReport, RequirementCheck, plain
from facekd.evaluation.search_results import Searched


@dataclass(frozen=True, slots=True)
class JudgedTemplates:
    """Which templates were judged, and what of them could not be."""

    name: str
    files: Mapping[str, str]  # path -> SHA-256
    fusion: Fusion
    templates: int
    people: int | None  # None where the files don't say it of each template
    photos: int  # a photo in two templates counts twice
    media: int | None  # in each template, as they are fused; None where they don't matter or are not stated
    photos_without_crop: int
    templates_without_photo: int  # no photo of them gave a crop


@dataclass(frozen=True, slots=True)
class GalleryMean:
    """One model over all galleries: ranks are counted over all their mated probes, TPIR is the mean of the galleries'.

    None where a gallery has no such number.
    """

    model: str
    ranks: Mapping[int, float | None]
    tpir: Mapping[float, float | None]  # by the FPIR asked


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """What 'facekd verify --templates' says."""

    templates: JudgedTemplates
    verification: PairReport | None  # None where the files name no pairs
    galleries: Mapping[str, tuple[Searched, ...]]  # each with one entry for each model
    gallery_means: tuple[GalleryMean, ...]  # of two or more galleries
    costs: tuple[Cost, ...]
    environment: Mapping[str, Any]

    @property
    def requirements(self) -> tuple[RequirementCheck, ...]:
        return () if self.verification is None else self.verification.requirements

    def as_json(self) -> dict[str, Any]:
        """As of a pair list, with the templates and galleries beside it."""
        pairs: dict[str, Any] = {"pairs": None, "models": [], "differences": [], "requirements": []}
        if self.verification is not None:
            pairs = plain(self.verification)
        means = [
            {
                "model": one.model,
                "ranks": [{"rank": rank, "found": found} for rank, found in one.ranks.items()],
                "tpir": [{"fpir_asked": fpir, "tpir": tpir} for fpir, tpir in one.tpir.items()],
            }
            for one in self.gallery_means
        ]
        more = {"costs": plain(self.costs), "environment": plain(self.environment)}
        galleries = {"galleries": plain(self.galleries), "gallery_means": means}
        return {"templates": plain(self.templates), **pairs, **galleries, **more}
