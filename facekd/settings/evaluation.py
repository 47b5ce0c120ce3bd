"""What verify, compare, export, leak, audit and quickstart are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from facekd.errors import UserError
from facekd.settings.group import FIRST, panel, settings
from facekd.settings.requirements import Requirement

DECISION, OUTPUT = Parameter(group=panel("Decision")), Parameter(group=panel("Output"))


@settings("Model")
class NetworkContract:
    """How a network of somebody else's is fed."""

    contract: Path | None = None
    """What an ONNX model expects of a crop, where facekd does not know it."""


@settings("Model")
class TeacherContract:
    """The same of a teacher."""

    contract: Path | None = None
    """What an ONNX teacher expects of a crop, where facekd does not know it."""


@settings("Data")
class PairData:
    """What is judged, and on which pairs."""

    model: Annotated[list[Path] | None, FIRST] = None
    """Run folder or ONNX file; give it again to compare models. The one that comes with facekd unless given."""
    crops: Annotated[Path | None, FIRST] = None
    """The crop store of the photos."""
    embeddings: Annotated[list[Path] | None, FIRST] = None
    """Instead of crops: a file of 'facekd embed'; give one for each model."""
    pairs: Annotated[Path | None, FIRST] = None
    """LFW's or CALFW's list, CFP's Split/FP, lines 'a b 1', or columns a, b, same, if wanted fold, left_person,
    right_person and groups, as Parquet or text."""
    templates: Annotated[Path | None, FIRST] = None
    """Several photos a side: the folder of IJB-B or IJB-C, or a CSV or Parquet with columns template and photo, if
    wanted media, person and quality, and --pairs of its templates."""
    scores: Annotated[list[Path] | None, FIRST] = None
    """Scores of somebody else's system, as CSV, TSV or Parquet with columns score and label, if wanted a, b,
    left_person, right_person, fold and groups; give it again to compare systems on the same pairs."""
    lower_is_better: bool = False
    """The scores are distances; they are judged times -1."""
    bin: Annotated[Path | None, FIRST] = None
    """An insightface set such as lfw.bin, crops and pairs in one file; its pickle is not executed."""
    all_pairs: Annotated[bool, FIRST] = False
    """Compare every photo whose person is known with every other; no score is kept."""
    identification: Annotated[bool, FIRST] = False
    """Enroll one photo of half of the people and look for all other photos in that gallery."""
    split: Path | None = None
    """With --identification, who is enrolled: a CSV or Parquet with columns photo and set (gallery or probe)."""
    fuse: Literal["mean", "media", "quality"] | None = None
    """How the photos of a template become one: their mean, unless given; media, the photos of one video as one photo;
    quality, as that, each photo by its quality or detector's score."""
    group: list[str] | None = None
    """A further column of the pair list or scores, or of --attributes: rates for each of its values at the one
    threshold."""

    def __post_init__(self) -> None:
        if len(self._protocols) > 1:
            self._refuse_protocols()
        if self.scores and (self._sources or self.model):
            given = " and ".join([*self._sources, *(["--model"] if self.model else [])])
            raise UserError(f"--scores are judged as they are; leave {given} out")
        if self.lower_is_better and not self.scores:
            raise UserError("--lower-is-better is said of scores; give them with --scores, or leave it out")
        if self.bin and self._sources:
            raise UserError(f"a .bin set holds its own crops; leave {' and '.join(self._sources)} out")
        if len(self._sources) > 1:
            self._refuse_sources()
        if self.embeddings and self.model and len(self.embeddings) != len(self.model):
            raise UserError(
                f"{len(self.model)} models for {len(self.embeddings)} files of embeddings: give one file for each, in "
                "the same order, or leave --model out"
            )
        if self.fuse and not self.templates:
            raise UserError("--fuse says how the photos of a template become one; give some with --templates")
        if self.group and not (self.pairs or self.scores or self.all_pairs):
            raise UserError("--group names a column of a pair list or of --attributes; give --pairs or --all-pairs")
        if self.split and not self.identification:
            raise UserError("--split says who is enrolled; add --identification")

    def check_given(self) -> None:
        """Pass where something is judged on something. Said when a command begins: a group may be empty before.

        Raises:
            UserError: no protocol, or no photos.
        """
        if not self._protocols:
            self._refuse_protocols()
        if not self.bin and not self.scores and not self._sources:
            self._refuse_sources()

    def check_alone(self, protocol: str) -> None:
        """Pass where photos are given and no protocol, for one that another group names.

        Raises:
            UserError: another protocol too, or no photos.
        """
        if self._protocols:
            raise UserError(f"{protocol} is a protocol of its own; leave {' and '.join(self._protocols)} out")
        if not self._sources:
            self._refuse_sources()

    @property
    def _protocols(self) -> list[str]:
        pairs = None if self.templates else self.pairs  # of templates, where there are any
        flags = ("--pairs", pairs), ("--templates", self.templates), ("--scores", self.scores), ("--bin", self.bin)
        more = ("--all-pairs", self.all_pairs), ("--identification", self.identification)
        return [flag for flag, given in (*flags, *more) if given]

    @property
    def _sources(self) -> list[str]:
        return [flag for flag, given in (("--crops", self.crops), ("--embeddings", self.embeddings)) if given]

    def _refuse_protocols(self) -> None:
        said = " and ".join(self._protocols) or "none of them"
        raise UserError(
            "give one of --pairs LIST, --templates SET, --scores FILE, --bin SET, --all-pairs and --identification, "
            f"not {said}"
        )

    def _refuse_sources(self) -> None:
        raise UserError(f"give --crops STORE or --embeddings FILE, not {' and '.join(self._sources) or 'neither'}")


@settings("Decision")
class AskedRates:
    """Where rates are read, and what they have to be."""

    far: Annotated[list[float], FIRST] = field(default_factory=lambda: [1e-1, 1e-2, 1e-3, 1e-4])
    """False accept rates asked for; of a gallery, false positive identification rates."""
    require: Annotated[list[str] | None, FIRST] = None
    """What a rate has to be, as tar@1e-3>=0.95, fnmr@1e-4<=0.05, eer<=0.02, fmr@T<=1e-3 (T: at --threshold),
    tar@1e-3:sex=female>=0.9; its lower or upper bound has to hold it."""
    threshold: float | Path | None = None
    """Judge at a threshold that was fixed before: a cosine, or the thresholds.json of a run on other pairs, whose FARs
    are then compared with those reached here."""

    def __post_init__(self) -> None:
        check_fars(self.far)
        assert self.requirements is not None  # each is read once, so that a wrong one is refused
        if isinstance(self.threshold, float | int) and not -1e9 < self.threshold < 1e9:
            raise UserError(f"--threshold {self.threshold}: is no score; give a number, or a thresholds.json")
        fixed = [one.text for one in self.requirements if one.fixed is not None]
        if fixed and self.threshold is None:
            raise UserError(f"--require {fixed[0]!r}: is read at a fixed threshold; give it with --threshold")

    @property
    def requirements(self) -> list[Requirement]:
        """The requirements as they are read."""
        return [Requirement.parse(text) for text in self.require or []]

    @property
    def fars(self) -> list[float]:
        """The FARs asked for, those of the requirements too, each once."""
        return list(dict.fromkeys([*self.far, *(one.far for one in self.requirements if one.far is not None)]))

    @property
    def columns(self) -> list[str]:
        """The group columns of the requirements, each once."""
        return list(dict.fromkeys(one.column for one in self.requirements if one.column is not None))


@settings("Output")
class ReportFiles:
    """Where a report goes."""

    out: Annotated[Path | None, FIRST] = None
    """The folder for report.json and the other files."""
    json: Path | None = None
    """Write report.json here too."""
    report: Path | None = None
    """Write the HTML report here too."""


@settings("Output")
class PairReportFiles(ReportFiles):
    """The same of a report that may show faces."""

    no_faces: bool = False
    """Show no pictures of the hardest pairs."""
    save_thresholds: Path | None = None
    """Write thresholds.json here too; in a file that is there, thresholds of the other kind (FAR or FPIR) stay."""


@settings("Data")
class ComparedData:
    """On whom networks are compared."""

    pairs: Annotated[Path | None, FIRST] = None
    """A pair list to judge too: LFW's pairs.txt, CFP's Split/FP, or a CSV or Parquet with a, b, same."""
    crops: Annotated[Path | None, FIRST] = None
    """The crop store of the list's photos; without it the first data of the students' run."""
    held: Annotated[Path | None, FIRST] = None
    """Crops of people whom no network trained on, judged in place of those that the run folders held out; whom a run
    folder says it trained on is left out."""
    no_held_out: bool = False
    """Judge the pair list alone."""

    def __post_init__(self) -> None:
        if self.no_held_out and self.pairs is None:
            raise UserError("--no-held-out leaves the pair list alone; give --pairs LIST")
        if self.crops is not None and self.pairs is None:
            raise UserError("--crops is the store of a pair list's photos; give --pairs LIST, or leave it out")
        if self.no_held_out and self.held is not None:
            raise UserError(f"--held {self.held}: is not judged with --no-held-out; leave one of them out")


@settings("Decision")
class ComparedRates:
    """Where networks are compared."""

    far: Annotated[list[float], FIRST] = field(default_factory=lambda: [1e-2, 1e-3, 1e-4, 1e-5])
    """False accept rates asked for."""

    def __post_init__(self) -> None:
        check_fars(self.far)

    @property
    def fars(self) -> list[float]:
        """Each once, the highest first."""
        return sorted(set(self.far), reverse=True)


@settings("Model")
class ExportedFile:
    """What an exported file is like."""

    precision: Annotated[Literal["fp32", "fp16", "int8", "int8-weights", "int4-weights"], FIRST] = "fp32"
    """Of the weights; int8 is also computed in int8, its ranges taken from --crops, the others in fp32."""
    uint8_input: bool = False
    """The file takes uint8 RGB crops as they are; all preprocessing is done inside."""
    standard_input: bool = False
    """The file takes what most other software feeds: RGB, NCHW, (pixels - 127.5) / 127.5; what else the network
    expects is done inside."""
    crops: Annotated[Path | None, FIRST] = None
    """A crop store to check on, and to calibrate fewer bits on; without it noise images are used."""
    pairs: Annotated[Path | None, FIRST] = None
    """A pair list on those crops: the TAR of both is compared on it, and thresholds are taken from it. Without it all
    pairs of the crops judge int8 and fewer bits, where it is known whom they show."""
    thresholds: Path | None = None
    """The thresholds.json of 'facekd verify' for this network; enroll takes them over with the model."""
    terms: str | None = None
    """The terms of the data it was trained on, in a sentence, for the model card."""

    @property
    def few_bits(self) -> bool:
        """Whether it has fewer bits than 16 anywhere."""
        return self.precision not in ("fp32", "fp16")

    def __post_init__(self) -> None:
        if self.few_bits and self.crops is None:
            raise UserError(
                f"--precision {self.precision} takes its ranges from real faces, and is written only where its TAR is "
                "seen to hold: give some hundred with --crops STORE, and --pairs LIST where it names nobody"
            )
        if self.uint8_input and self.standard_input:
            raise UserError("--uint8-input and --standard-input: a file takes one of the two; leave one out")
        if self.pairs is not None and self.crops is None:
            raise UserError(f"--pairs {self.pairs}: names photos; give the store of their crops with --crops")
        if self.thresholds is not None and self.precision != "fp32":
            raise UserError(
                f"--thresholds {self.thresholds}: are the source's, and {self.precision} scores otherwise; leave them "
                "out and give --pairs: thresholds are taken from them"
            )


@settings("Model")
class JudgingNetwork(NetworkContract):
    """The network by which people are told apart."""

    embedder: Annotated[Path | None, FIRST] = None
    """Run folder or ONNX file of a network that tells people apart well; the model that comes with facekd unless
    given."""


@settings("Data")
class LeakSearch:
    """Whom to look for, and how alike is the same."""

    crops: Annotated[Path | None, FIRST] = None
    """The crop store of a pair list's photos."""
    threshold: Annotated[float | None, DECISION] = None
    """Cosine from which two photos show one person."""
    out: Annotated[Path | None, FIRST] = None
    """A CSV to write: identity, crop, how it was found. train-teacher and distill take it as --drop."""
    show: Annotated[Path | None, OUTPUT] = None
    """An HTML page to write: the most alike ones beside the photo of the list, the pictures inside."""

    def __post_init__(self) -> None:
        if self.threshold is not None and not -1 <= self.threshold <= 1:
            raise UserError(f"--threshold {self.threshold}: is no cosine; give a number from -1 to 1")
        _check_csv(self.out, "leaks")
        _check_page(self.show)


@settings("Output")
class AuditFile:
    """Where possible label errors are listed."""

    out: Annotated[Path | None, FIRST] = None
    """A CSV to write: crop, whose it should be, whose it seems, both cosines; of a copy, what it repeats. train-teacher
    and distill take it as --drop."""
    show: Path | None = None
    """An HTML page to write: the clearest ones beside crops of both people, and copies, the pictures inside."""

    def __post_init__(self) -> None:
        _check_csv(self.out, "suspects")
        _check_page(self.show)


@settings("Most used")
class WholeLine:
    """What the quickstart begins with, and how long it trains."""

    photos: Path | None = None
    """A folder, zip or tar with a folder of photos for each person."""
    out: Path | None = None
    """The folder for everything it makes."""
    teacher_views: int = 3200
    """Crops the teacher sees in its training, each time as another view."""
    student_views: int = 1400
    """Crops each student sees."""
    seed: int = 0
    """Of the people drawn, the split, the initializations, the order and the views."""

    def __post_init__(self) -> None:
        for name in ("teacher_views", "student_views"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: nothing would be learned; give how many crops "
                    "it sees, such as 2000"
                )


def check_fars(asked: Sequence[float]) -> None:
    """Pass where each is a rate that can be asked.

    Raises:
        UserError: none, or one outside (0, 1].
    """
    if not asked:
        raise UserError("--far: names no rate; give one such as 1e-3")
    for far in asked:
        if not 0 < far <= 1:  # NaN too
            raise UserError(f"FAR {far} can't be asked of a list: give a rate above 0 and at most 1, such as 1e-3")


def _check_csv(out: Path | None, what: str) -> None:
    if out is not None and out.suffix != ".csv":
        raise UserError(f"{out}: {what} are written as .csv; give a name that ends so")


def _check_page(path: Path | None) -> None:
    if path is not None and path.suffix != ".html":
        raise UserError(f"{path}: is to be a page; give a name that ends in .html")
