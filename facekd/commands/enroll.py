"""facekd enroll: photos of people in, one template per person in a gallery out, and everything that looks wrong."""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.printable import counted
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import EnrollDecision, EnrolledFaces, EnrollReport, ModelFile, QualityGate

if TYPE_CHECKING:
    from facekd.deploy.embedder import CropEmbedder
    from facekd.enrollment.report import EnrollSummary
    from facekd.enrollment.sources import People

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
    two people under one, is reported and not written: --review writes a page to decide about it, --decisions takes
    what was decided there, and the gallery remembers it. GALLERY/ledger.parquet says what became of each photo and how
    much detail its face has; of the photos only digests and embeddings are kept. Exits with 1 when a photo or a person
    was not taken.

    Example: facekd enroll people/ staff.gallery --review review.html

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
    people: Path | People,
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
    from facekd.core.memory import give_back_memory, lean_memory
    from facekd.enrollment.answers import write_enrollment
    from facekd.enrollment.calibration import kept_scores, promise
    from facekd.enrollment.decisions import as_remembered, asked_answers, settle
    from facekd.enrollment.names import alike_enrolled
    from facekd.enrollment.photos import NewPhotos, forget_untaken
    from facekd.enrollment.report import print_summary, write_report
    from facekd.enrollment.request import agree, workplace
    from facekd.enrollment.review import write_review
    from facekd.enrollment.sources import People, read_people
    from facekd.gallery.photos import PhotoTable
    from facekd.ingest.photos import in_batches

    agreed = agree(gallery, embedder, faces, quality, decision)
    meta, search, gate = agreed.meta, agreed.search, agreed.gate
    answers = asked_answers(decision, output, meta)
    found = people if isinstance(people, People) else read_people(people, root)
    model = embedder.network.path
    with lean_memory(), workplace(gallery, meta, decision.dry_run) as work:
        home, table = work.home, work.table
        if not decision.dry_run and not isinstance(people, People):  # what is in memory no later command could repeat
            groups = flat(network, search, gate, decision, output, quiet=quiet)
            home.record("enroll", {"people": people, "gallery": gallery, "root": root, **groups}, (people, model))
        found = as_remembered(work, found, decision.dry_run)
        embedded = NewPhotos(table, embedder, search, gate, work.base).run(found, quiet)
        settled = settle(work, found, decision, meta, answers, output.review is not None)
        plan, found = settled.plan, settled.found
        found = replace(found, notes=(*found.notes, *alike_enrolled(home, plan.outcome()["new"])))
        if not decision.dry_run:
            counts = {name: len(ids) for name, ids in plan.outcome().items()}
            home.note("enroll", photos=len(found.photos), embedded=embedded, **counts)
            ready = [person for person in plan.changed if person.person_id not in plan.held]
            table.accept(plan.odd() if decision.accept_suspects else {})
            for batch in in_batches([*ready, *plan.dated], WRITTEN):
                home.upsert(batch)
                give_back_memory()
            if found.in_memory:
                forget_untaken(table, found, home)
            if decision.missing == "delete" and plan.missing:
                home.note("delete", people_asked=len(plan.missing), receipt=(receipt := secrets.token_hex(16)))
                home.delete_all(plan.missing)
                gone = counted(len(plan.missing), "person was", "people were")
                plan.notes.append(f"{gone} erased, not being in PEOPLE; receipt {receipt}")
                table = PhotoTable(home.place, meta.contract.dim)  # opened anew: erasing left no old file
            meta = replace(meta, own=kept_scores(home, table))
            give_back_memory()
            home.finish(meta, plan.ledger.table())
            table.tidy()
        summary = plan.summary(gallery, decision, found, embedded, len(home), promise(meta, len(home)))
        mark = home.meta.gallery_id
        if output.json is not None:  # while a dry run has its table
            write_enrollment(output.json, summary, home.meta, plan.ledger.table(), table)
    if output.report is not None:
        write_report(output.report, summary.suspects)
    if output.review is not None:
        write_review(output.review, settled.cases, found, search, mark, output.private, quiet)
    print_summary(summary, found, output.private, quiet)
    return summary
