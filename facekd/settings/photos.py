"""Photos and the people in them: which faces are looked for, which are good enough, and who is taken for whom."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token, convert

from facekd.core.choices import DETECTOR, SPELLED_BEFORE, Choice, DetectorName, IdentityFrom
from facekd.errors import UserError
from facekd.settings.group import FIRST, panel, settings


def _respelled(kind: type, tokens: Sequence[Token]) -> Any:
    return convert(kind, [one.evolve(value=SPELLED_BEFORE.get(one.value, one.value)) for one in tokens])


AS_SPELLED = Parameter(show_choices=False, converter=_respelled)


@settings("Data")
class Population:
    """People who do not exist, and their photos."""

    people: int = 100
    """How many people."""
    photos: int = 10
    """How many photos of each."""
    seed: int = 0
    """Another seed draws other people."""

    def __post_init__(self) -> None:
        for name, least in (("people", 1), ("photos", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name} is {getattr(self, name)}: give {least} or more")


@settings("Model")
class ModelContract:
    """What a network's file may not say itself."""

    contract: Path | None = None
    """What an ONNX model expects of a crop, where facekd does not know it."""


@settings("Model")
class ModelFile(ModelContract):
    """The network that embeds."""

    model: Annotated[Path | None, FIRST] = None
    """Run folder or ONNX file. Unless given, the model of the gallery, where there is one already; else the one that
    comes with facekd."""


@settings("Model")
class NewModel(ModelContract):
    """The network that a gallery goes over to."""

    model: Annotated[Path, FIRST]
    """Run folder or ONNX file of the new model."""


@settings("Faces")
class FaceSearch:
    """How faces are looked for in photos."""

    detector: DetectorName | None = None
    """yunet; mtcnn, slower; facenet, facenet-pytorch's own driver of the same networks, slower still; none, where each
    photo already is a crop. Unless given, the one that the gallery or the crop store was begun with, else yunet."""
    weights: Path | None = None
    """Another ONNX file of yunet's than the one that comes with facekd."""
    min_face: int = 20
    """Smallest face looked for, pixels."""

    @property
    def detector_name(self) -> DetectorName:
        """The detector asked for, else the usual one."""
        return self.detector or DETECTOR


@settings("Faces")
class EnrolledFaces(FaceSearch):
    """Of an enrollment: a gallery keeps to what it was begun with."""

    min_face: int | None = None  # type: ignore[assignment]  # where it is not given, a gallery has its own
    """Smallest face looked for, pixels. Unless given, that of the gallery, where there is one already; else 20."""


@settings("Faces")
class FaceChoice(FaceSearch):
    """Which faces are looked for, and which of several in a photo count."""

    choose: Annotated[Choice, AS_SPELLED] = "best"
    """Which face of several in a photo: largest; center, nearest to the middle; best, a large one near the middle; or
    all, where more than one can be used."""


@settings("Faces")
class Alignment(FaceChoice):
    """How photos become crops."""

    turn: bool = False
    """Where no face is found, look again in the photo turned by 90, 180 and 270 degrees."""
    size: int = 112
    """Side of a crop, pixels."""
    identity_from: IdentityFrom | None = None
    """What says whom a photo shows: parent, the folder it lies in; top, the first folder below PHOTOS; name, LFW's
    Name_0001.jpg or CFP's 001/frontal/01.jpg. Needed where folders lie within folders; else parent."""
    show: Annotated[int, Parameter(group=panel("Output"))] = 0
    """Write OUT/show.html, to look at: as many of the first photos, the failures and the least certain."""

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise UserError(f"--size {self.size}: a crop is from 16 to 4096 pixels wide, most often 112")
        if self.show < 0:
            raise UserError(f"--show {self.show}: give how many photos to show, such as 20")


@settings("Faces")
class EmbeddedFaces(FaceChoice):
    """Of embed, which has nothing from before to go by."""

    detector: DetectorName = DETECTOR
    """yunet; mtcnn, slower; facenet, facenet-pytorch's own driver of the same networks, slower still; none, where each
    photo already is a crop."""


@settings("Faces")
class OneFace(FaceChoice):
    """Of a comparison: one face of each photo."""

    min_face: int | None = None  # type: ignore[assignment]  # where it is not given, a gallery has its own
    """Smallest face looked for, pixels; 20 unless given."""
    choose: Annotated[Literal["largest", "center", "best"], AS_SPELLED] = "best"
    """Which face of several in a photo: largest; center, nearest to the middle; or best, a large one near the
    middle."""


@settings("Faces")
class UnnamedFaces(FaceChoice):
    """Of photos of whoever is in them."""

    choose: Annotated[Choice, AS_SPELLED] = "all"
    """Which face of several in a photo: largest; center, nearest to the middle; best, a large one near the middle; or
    all."""


@settings("Quality")
class QualityGate:
    """The least quality of a photo that stands for a person; None: the gallery's, else `enrollment.gate.gate_for`."""

    min_eyes: float | None = None
    """Photos with fewer pixels between the eyes are not taken; 16 unless told otherwise, no limit for crops."""
    min_score: float | None = None
    """Photos of which the detector is less sure, from 0 to 1, are not taken; 0.8, no limit for crops."""
    max_yaw: float | None = None
    """Photos with the head turned further, degrees, are not taken; 60, no limit for crops."""
    min_sharpness: float | None = None
    """Photos whose crop is less sharp (standard deviation of its Laplacian) are not taken; no limit."""
    min_detail: float | None = None
    """Photos whose face has less detail, percent, are not taken: blown up, smeared, out of focus or blank; 4 unless
    told otherwise, no limit for crops."""

    def __post_init__(self) -> None:
        for name in ("min_eyes", "min_score", "max_yaw", "min_sharpness", "min_detail"):
            value = getattr(self, name)
            if value is not None and not (0 <= value < math.inf):
                raise UserError(f"--{name.replace('_', '-')} {value}: give a number from 0 up")
        if self.min_score is not None and self.min_score > 1:
            raise UserError(f"--min-score {self.min_score}: a detector's confidence is from 0 to 1")


@settings("Decision")
class Decision:
    """From which score a face shows a person."""

    threshold: Annotated[float | None, FIRST] = None
    """Cosine from which a face shows a person. A gallery keeps the one it was enrolled with; unless one is given, same
    takes one that the model is calibrated to, and a search through a gallery the one that keeps its --fpir."""

    def __post_init__(self) -> None:
        check_threshold(self.threshold)


@settings("Decision")
class SearchDecision(Decision):
    """From which score a face shows a person, where it is looked for among many."""

    fpir: Annotated[float | None, FIRST] = None
    """Promise: the share of searches for a stranger that end with a name (FPIR), however many people are enrolled. The
    threshold follows from it. A gallery keeps it; 0.01 unless told otherwise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fpir is not None and not 0 < self.fpir < 1:
            raise UserError(f"--fpir {self.fpir}: give a share of searches between 0 and 1, such as 0.01")
        if self.fpir is not None and self.threshold is not None:
            raise UserError("--threshold and --fpir both say from which score a face is named; give one of them")


@settings("Decision")
class NewDecision(Decision):
    """Of a gallery that is made of another."""

    threshold: Annotated[float | None, FIRST] = None
    """Cosine from which identify names a person in the new gallery; the old one's says nothing about it."""


@settings("Decision")
class PairDecision(Decision):
    """From which score two photos show one person."""

    far: float | None = None
    """Which of the network's calibrated thresholds: the share of pairs of strangers that pass for one person. Not
    given: 0.001, or what the network has that is strictest where it has none so strict."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threshold is not None and self.far is not None:
            raise UserError("--threshold and --far both say where the same person begins; give one of them")


@settings("Decision")
class EnrollDecision(SearchDecision):
    """Who is written into a gallery, and who is held back."""

    false_alarms: float = 1.0
    """How many pairs of different people may be suspected of being one person by chance, among all in the gallery: two
    ids are suspected when they are more alike than that many of all its pairs would be."""
    suspect_threshold: float | None = None
    """Cosine from which two ids look like one person, and under which a photo does not match the rest of its person or
    a new template the old; in place of --false-alarms, and of the network's threshold at FAR 0.01 for the latter."""
    decisions: Path | None = None
    """What was decided about suspected mix-ups: the decisions.csv that the page of --review saved. The gallery
    remembers it, so that nothing is asked twice."""
    accept_suspects: bool = False
    """Write what looks like a mix-up too."""
    replace: bool = False
    """Make templates of exactly the photos that PEOPLE has now; without it earlier photos keep counting."""
    missing: Literal["list", "delete", "keep"] = "list"
    """What becomes of enrolled people whom PEOPLE no longer has: list, they stay and are told of; delete, they are
    erased, with a receipt; keep, they stay."""
    keep_until: str | None = None
    """Day until which the people of PEOPLE are kept, as 2027-01-31; 'facekd gallery purge' erases them afterwards. A
    column keep_until of a CSV goes first."""
    change: bool = False
    """Let the flags given here replace those that the gallery keeps: --threshold, --fpir, --min-face and the limits of
    quality."""
    dry_run: bool = False
    """Say what would change and write nothing."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.suspect_threshold, "--suspect-threshold")
        if not 0 < self.false_alarms < math.inf:
            raise UserError(f"--false-alarms {self.false_alarms}: give how many to expect by chance, such as 1")
        if self.keep_until is not None:
            read_date(self.keep_until, "--keep-until")


@settings("Output")
class EnrollReport:
    """Where suspected mix-ups are told of, and how people are called."""

    report: Path | None = None
    """Write the suspected mix-ups here too: .csv or .parquet."""
    review: Path | None = None
    """Write a page here to decide about the suspected mix-ups, .html: it works from disk, shows faces where the photos
    are at hand, and saves a file for --decisions."""
    json: Path | None = None
    """Write what became of everybody here too, for scripts: one JSON object with the counts, the people (new, changed,
    held_back, not_enrolled …), the suspects and, as rows, each photo: source, person, status, reason, verdict
    (enrolled, or the status), quality (sharpness), detector_score, eyes (pixels between them)."""
    private: bool = False
    """Print no name of a person or photo, only their numbers: the page of --review has neither names nor faces, the
    other files have the names."""

    def __post_init__(self) -> None:
        if self.review is not None and self.review.suffix not in (".html", ".htm"):
            raise UserError(f"--review {self.review}: a page is written as .html; give such a name")
        if self.report is not None and self.report.suffix not in (".csv", ".parquet"):
            raise UserError(f"--report {self.report}: a report is written as .csv or .parquet; give such a name")


@settings("Output")
class Answers:
    """Whom identify looks for, and how it answers."""

    top: int = 1
    """Show as many of the most alike people for each face, whatever their score."""
    where: list[str] | None = None
    """Only people with this metadata, as key=value; several have to hold together."""
    out: Path | None = None
    """Write the answers here too: .json, .csv or .parquet, a row for each photo and face, with --top one for each
    candidate. Columns: source; status (ok, no_face, unreadable …) and reason of the photo; verdict (known, unknown, or
    the status where there is no face); crop_id; x1 y1 x2 y2, pixels; quality, the sharpness of the face; person, where
    known; candidate; rank, 1 in the first row of each photo and face; score, a cosine; threshold. JSON is one object
    with model_id, threshold and these as rows."""
    private: bool = False
    """Print no name of a person or photo, only numbers; the file of --out has the names."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UserError(f"--top {self.top}: give how many people to show for each face, at least 1")
        if self.out is not None and self.out.suffix not in (".json", ".parquet", ".csv"):
            raise UserError(
                f"{self.out}: answers are written as .json, .parquet or .csv; give a name that ends in one of these"
            )
        self.metadata()

    def metadata(self) -> dict[str, str]:
        """What the people looked for have, by key."""
        found: dict[str, str] = {}
        for condition in self.where or ():
            key, equals, value = condition.partition("=")
            if not key or not equals or key in found:
                raise UserError(f"--where {condition!r}: give key=value, each key once, such as --where office=Basel")
            found[key] = value
        return found


def read_date(text: str, where: str) -> datetime.date:
    """An ISO 8601 date.

    Raises:
        UserError: another text; `where` is in the sentence.
    """
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{where} {text!r}: no date; write it as 2027-01-31") from error


def check_threshold(threshold: float | None, flag: str = "--threshold") -> None:
    """Refuse what is no cosine.

    Raises:
        UserError: a threshold outside [-1, 1].
    """
    if threshold is not None and not -1 <= threshold <= 1:
        raise UserError(f"{flag} {threshold}: is no cosine; give a number from -1 to 1")
