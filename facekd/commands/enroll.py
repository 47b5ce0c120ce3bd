"""facekd enroll: photos of people in, one template per person in a gallery out, and everything that looks wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.settings.door import door
from facekd.settings.photos import EnrollDecision, EnrollReport, FaceSearch, ModelFile, QualityGate

if TYPE_CHECKING:
    from facekd.deploy.embedder import CropEmbedder
    from facekd.enrollment.report import EnrollSummary
    from facekd.enrollment.request import EnrollRequest
    from facekd.enrollment.sources import People

WRITTEN = 256  # people written together


@door
def enroll(
    people: Path,
    gallery: Path,
    *,
    root: Path | None = None,
    network: ModelFile = ModelFile(),
    faces: FaceSearch = FaceSearch(),
    quality: QualityGate = QualityGate(),
    decision: EnrollDecision = EnrollDecision(),
    output: EnrollReport = EnrollReport(),
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
        root: For a CSV, the folder or archive its photos are relative to; without it the folder of the CSV.
        quiet: Print nothing.
    """
    from facekd.enrollment.gate import gate_for
    from facekd.enrollment.request import EnrollRequest, search_of
    from facekd.enrollment.sources import read_people
    from facekd.ingest.photos import load_embedder, own_model

    model = network.model or own_model(quiet)
    search = search_of(gallery, faces)
    request = EnrollRequest(
        people=people,
        gallery=gallery,
        network=replace(network, model=model),
        root=root,
        search=search,
        gate=gate_for(search.detector_name, quality),
        decision=decision,
        output=output,
        quiet=quiet,
    )
    return enroll_people(request, read_people(people, root), load_embedder(model, network.contract))


def enroll_people(request: EnrollRequest, found: People, embedder: CropEmbedder) -> EnrollSummary:
    """`enroll` with an embedder that is loaded already."""
    from facekd.enrollment.photos import NewPhotos
    from facekd.enrollment.plan import make_plan
    from facekd.enrollment.report import print_summary, write_report
    from facekd.enrollment.request import workplace
    from facekd.ingest.alignment import detector_of
    from facekd.ingest.photos import in_batches

    search, decision, output = request.search, request.decision, request.output
    if search.weights is not None:
        detector_of(search)  # wrong weights are the user's mistake: said before anything is written
    meta = request.meta(embedder)
    with workplace(request, meta) as work:
        home, table = work.home, work.table
        if not decision.dry_run:
            home.record("enroll", request.settings(), inputs=(request.people, embedder.network.path))
        embedded = NewPhotos(table, embedder, search, request.gate, work.base).run(found, request.quiet)
        plan = make_plan(home, table, found, decision, meta)
        if not decision.dry_run:
            counts = {name: len(people) for name, people in plan.outcome().items()}
            home.note("enroll", photos=len(found.photos), embedded=embedded, **counts)
            ready = [person for person in plan.changed if person.person_id not in plan.held]
            for person, sources in plan.odd().items() if decision.accept_suspects else ():
                table.accept(person, sources)
            for batch in in_batches(ready, WRITTEN):
                home.upsert(batch)
            home.finish(meta, plan.ledger.table())
            table.tidy()
        summary = plan.summary(request.gallery, decision, found, embedded, len(home))
    if output.report is not None:
        write_report(output.report, summary.suspects)
    print_summary(summary, found, output.private, request.quiet)
    return summary
