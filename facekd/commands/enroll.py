"""facekd enroll: photos of people in, one template per person in a gallery out, and everything that looks wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import EnrollDecision, EnrolledFaces, EnrollReport, ModelFile, QualityGate

if TYPE_CHECKING:
    from facekd.deploy.embedder import CropEmbedder
    from facekd.enrollment.report import EnrollSummary

WRITTEN = 256  # people written together


@door
def enroll(
    people: Path,
    gallery: Path,
    *,
    root: Path | None = None,
    network: ModelFile = ModelFile(),
    faces: EnrolledFaces = EnrolledFaces(),
    quality: QualityGate = QualityGate(),
    decision: EnrollDecision = EnrollDecision(),
    output: EnrollReport = EnrollReport(),
    quiet: bool = False,
) -> EnrollSummary:
    """Enroll people: align, judge and embed their photos, keep their mean, by sharpness, as each person's template.

    Made to run every night: photos that have not changed are not embedded again, a killed run goes on where it
    stopped, and people who are not in PEOPLE stay as they are. What looks like a mix-up, one person under two ids or
    two people under one, is reported and not written. GALLERY/ledger.parquet says what became of each photo and how
    much detail its face has; of the photos only digests and embeddings are kept. Exits with 1 when a photo or a person
    was not taken.

    Example: facekd enroll people/ staff.gallery --model student.onnx --threshold 0.42

    Args:
        people: A folder, zip or tar with a folder of photos for each person, or a CSV with the columns person and
            photo, whose further columns become the person's metadata; of several faces in a photo the large one near
            the middle counts.
        gallery: The gallery's folder or s3:// prefix, new or of the same model.
        root: For a CSV, the folder or archive its photos are relative to; without it the folder of the CSV.
        quiet: Print nothing.
    """
    from facekd.enrollment.identification import embedder_for

    embedder = embedder_for(gallery, network, quiet)
    return enroll_people(
        people,
        gallery,
        embedder,
        root=root,
        network=replace(network, model=embedder.network.path),
        faces=faces,
        quality=quality,
        decision=decision,
        output=output,
        quiet=quiet,
    )


def enroll_people(
    people: Path,
    gallery: Path,
    embedder: CropEmbedder,
    *,
    root: Path | None,
    network: ModelFile,
    faces: EnrolledFaces,
    quality: QualityGate,
    decision: EnrollDecision,
    output: EnrollReport,
    quiet: bool,
) -> EnrollSummary:
    """`enroll` with an embedder that is loaded already, from the `network`'s model."""
    from facekd.enrollment.calibration import own_scores, promise
    from facekd.enrollment.photos import NewPhotos
    from facekd.enrollment.plan import make_plan
    from facekd.enrollment.report import print_summary, write_report
    from facekd.enrollment.request import agree, workplace
    from facekd.enrollment.sources import read_people
    from facekd.ingest.photos import in_batches

    agreed = agree(gallery, embedder, faces, quality, decision)
    meta, search, gate = agreed.meta, agreed.search, agreed.gate
    found = read_people(people, root)
    model = embedder.network.path
    with workplace(gallery, meta, decision.dry_run) as work:
        home, table = work.home, work.table
        if not decision.dry_run:
            groups = flat(network, search, gate, decision, output, quiet=quiet)
            home.record("enroll", {"people": people, "gallery": gallery, "root": root, **groups}, (people, model))
        embedded = NewPhotos(table, embedder, search, gate, work.base).run(found, quiet)
        plan = make_plan(home, table, found, decision, meta)
        if not decision.dry_run:
            counts = {name: len(ids) for name, ids in plan.outcome().items()}
            home.note("enroll", photos=len(found.photos), embedded=embedded, **counts)
            ready = [person for person in plan.changed if person.person_id not in plan.held]
            for person, sources in plan.odd().items() if decision.accept_suspects else ():
                table.accept(person, sources)
            for batch in in_batches(ready, WRITTEN):
                home.upsert(batch)
            meta = replace(meta, own=home.meta.own or own_scores(home, table))
            home.finish(meta, plan.ledger.table())
            table.tidy()
        summary = plan.summary(gallery, decision, found, embedded, len(home), promise(meta, len(home)))
    if output.report is not None:
        write_report(output.report, summary.suspects)
    print_summary(summary, found, output.private, quiet)
    return summary
