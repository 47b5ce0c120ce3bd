"""What an enrolment is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from facekd.core.choices import DETECTOR, DetectorName
from facekd.enrollment.gate import Gate
from facekd.errors import UserError
from facekd.ingest.photos import Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What is asked for, whoever asks; the fields are explained at `enroll.enroll`."""

    people: Path
    gallery: Path
    model: Path
    root: Path | None = None
    search: Search = field(default_factory=Search)
    gate: Gate = field(default_factory=Gate)
    threshold: float | None = None
    suspect_threshold: float | None = None
    accept_suspects: bool = False
    replace: bool = False
    dry_run: bool = False
    report: Path | None = None
    private: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_threshold(self.suspect_threshold, "--suspect-threshold")
        if self.report is not None and self.report.suffix not in (".csv", ".parquet"):
            raise UserError(f"--report {self.report}: a report is written as .csv or .parquet; give such a name")


def search_of(
    gallery: Path, detector: DetectorName | None = None, weights: Path | None = None, min_face: int = 20
) -> Search:
    """How faces are looked for: as asked, else as for the people who are in the gallery, else by the default.

    Raises:
        UserError: a damaged gallery.
    """
    from facekd.gallery.meta import exists, read_meta

    if detector is None and exists(gallery):
        meta = read_meta(gallery)
        detector = cast(DetectorName, meta.detector)
        weights = weights or (None if meta.weights is None else Path(meta.weights))
    return Search(detector or DETECTOR, weights, min_face)


def check_threshold(threshold: float | None, flag: str = "--threshold") -> None:
    """Refuse what is no cosine.

    Raises:
        UserError: a threshold outside [-1, 1].
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"{flag} {threshold}: is no cosine; give a number from -1 to 1")
