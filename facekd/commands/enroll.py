"""facekd enroll: photos of people in, one template per person in a gallery out, and everything that looks wrong."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.core.choices import DetectorName
from facekd.enrollment.asked import Enrolment, search_of
from facekd.enrollment.gate import make_gate
from facekd.enrollment.photos import NewPhotos
from facekd.enrollment.plan import make_plan
from facekd.enrollment.report import EnrollSummary, print_summary, write_report
from facekd.enrollment.sources import People, read_people
from facekd.ingest.photos import in_batches, load_embedder, own_model
from facekd.settings.door import door

if TYPE_CHECKING:
    from facekd.deploy.embedder import Embedder
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import GalleryMeta
    from facekd.gallery.photos import PhotoTable

WRITTEN = 256  # people written together


@door
def enroll(
    people: Path,
    gallery: Path,
    *,
    model: Path | None = None,
    root: Path | None = None,
    contract: Path | None = None,
    detector: DetectorName | None = None,
    weights: Path | None = None,
    min_face: int = 20,
    min_eyes: float | None = None,
    min_score: float | None = None,
    max_yaw: float | None = None,
    min_sharpness: float | None = None,
    threshold: float | None = None,
    suspect_threshold: float | None = None,
    accept_suspects: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    report: Path | None = None,
    private: bool = False,
    quiet: bool = False,
) -> EnrollSummary:
    """Enroll people: align, judge and embed their photos, keep their mean, by sharpness, as each person's template.

    Made to run every night: photos that have not changed are not embedded again, a killed run goes on where it
    stopped, and people who are not in PEOPLE stay as they are. What looks like a mix-up, one person under two ids or
    two people under one, is reported and not written. GALLERY/ledger.parquet says what became of each photo; of the
    photos only digests and embeddings are kept. Exits with 1 when a photo or a person was not taken.

    Example: facekd enroll people/ staff.gallery --model student.onnx --threshold 0.42

    Args:
        people: A folder, zip or tar with a folder of photos for each person, or a CSV with the columns person and
            photo, whose further columns become the person's metadata; of several faces in a photo the large one near
            the middle counts.
        gallery: The gallery's folder or s3:// prefix, new or of the same model.
        model: Run folder or ONNX file; the one that comes with facekd unless given.
        root: For a CSV, the folder or archive its photos are relative to; without it the folder of the CSV.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        detector: The one of the gallery, yunet for a new one, unless given; mtcnn, facenet; none, where each photo
            already is a crop.
        weights: Another ONNX file of yunet's than the one that comes with facekd.
        min_face: Smallest face looked for, pixels.
        min_eyes: Photos with fewer pixels between the eyes are not taken; 16 unless told otherwise, no limit for crops.
        min_score: Photos of which the detector is less sure, from 0 to 1, are not taken; 0.8, no limit for crops.
        max_yaw: Photos with the head turned further, degrees, are not taken; 60, no limit for crops.
        min_sharpness: Photos whose crop is less sharp (standard deviation of its Laplacian) are not taken; no limit.
        threshold: Cosine from which identify names a person; kept with the gallery.
        suspect_threshold: Cosine from which two ids look like one person, and under which a photo does not match the
            rest of its person; without it the threshold that identify would use, and for a photo the network's at FAR
            0.001.
        accept_suspects: Write what looks like a mix-up too.
        replace: Make templates of exactly the photos that PEOPLE has now; without it earlier photos keep counting.
        dry_run: Say what would change and write nothing.
        report: Write the suspected mix-ups here too: .csv or .parquet.
        private: Print no name of a person or photo, only their numbers.
        quiet: Print nothing.
    """
    model = model or own_model(quiet)
    search = search_of(gallery, detector, weights, min_face)
    asked = Enrolment(
        people=people,
        gallery=gallery,
        model=model,
        root=root,
        search=search,
        gate=make_gate(search.detector, min_eyes, min_score, max_yaw, min_sharpness),
        threshold=threshold,
        suspect_threshold=suspect_threshold,
        accept_suspects=accept_suspects,
        replace=replace,
        dry_run=dry_run,
        report=report,
        private=private,
        quiet=quiet,
    )
    found = read_people(people, root)
    config = {**_flat(asked), "contract": contract}
    return enroll_people(asked, found, load_embedder(model, contract), config)


def enroll_people(
    asked: Enrolment, found: People, embedder: Embedder, config: Mapping[str, Any] | None = None
) -> EnrollSummary:
    """`enroll` with an embedder that is loaded already.

    Args:
        config: what GALLERY/run.yaml says of the flags.
    """
    asked.search.check_weights()
    meta = _meta(asked, embedder)
    with _opened(asked, meta) as (home, table, base):
        if not asked.dry_run:
            home.record("enroll", config or _flat(asked), inputs=(asked.people, asked.model))
        embedded = NewPhotos(table, embedder, asked.search, asked.gate, base).run(found, asked.quiet)
        plan = make_plan(home, table, found, asked, meta)
        if not asked.dry_run:
            counts = {name: len(people) for name, people in plan.outcome().items()}
            home.note("enroll", photos=len(found.photos), embedded=embedded, **counts)
            ready = [person for person in plan.changed if person.person_id not in plan.held]
            for person, sources in plan.odd().items() if asked.accept_suspects else ():
                table.accept(person, sources)
            for batch in in_batches(ready, WRITTEN):
                home.upsert(batch)
            home.finish(meta, plan.ledger.table())
            table.tidy()
        summary = plan.summary(asked, found, embedded, len(home))
    if asked.report is not None:
        write_report(asked.report, summary.suspects)
    print_summary(summary, found, asked.private, asked.quiet)
    return summary


@contextlib.contextmanager
def _opened(asked: Enrolment, meta: GalleryMeta) -> Iterator[tuple[Gallery, PhotoTable, PhotoTable | None]]:
    """The gallery, the table that photos are written to, and the one that it starts from where it is not the same.

    A dry run writes into a temporary folder, and begins a gallery there where there is none yet.
    """
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import exists
    from facekd.gallery.photos import PhotoTable
    from facekd.gallery.place import Place

    dim = meta.contract.dim
    if not asked.dry_run:
        home = Gallery.create(asked.gallery, meta)
        with home.writing():
            yield home, PhotoTable(home.place, dim), None
        return
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        there = exists(asked.gallery)
        home = Gallery.create(asked.gallery if there else Path(folder) / "gallery", meta)
        aside = Place.of(Path(folder) / "photos")
        yield home, PhotoTable(aside, dim), PhotoTable(home.place, dim) if PhotoTable.exists(home.place) else None


def _meta(asked: Enrolment, embedder: Embedder) -> GalleryMeta:
    from facekd.deploy.thresholds import model_thresholds
    from facekd.gallery.meta import GalleryMeta

    search = asked.search
    return GalleryMeta(
        contract=embedder.contract,
        model=str(asked.model.resolve()),
        detector=search.detector,
        min_face=search.min_face,
        weights=None if search.weights is None else str(search.weights.resolve()),
        weights_sha256=search.weights_digest(),
        threshold=asked.threshold,
        calibrated=model_thresholds(asked.model, embedder.contract),
    )


def _flat(asked: Enrolment) -> dict[str, Any]:
    """The settings as the command line has them."""
    values = {name: getattr(asked, name) for name in Enrolment.__slots__ if name not in ("search", "gate")}
    search = asdict(asked.search)
    del search["choose"]  # one photo stands for one person
    return {**values, **search, **asdict(asked.gate)}
