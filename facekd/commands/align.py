"""facekd align: photos in, crops and a ledger out; no photo is lost on the way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import progress, say, say_first, table
from facekd.core.run import default_out, start_run
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import Alignment
from facekd.settings.runtime import Cluster

if TYPE_CHECKING:
    from facekd.crops.records import PhotoRecord
    from facekd.crops.store import CropStore
    from facekd.ingest.corpus import AlignSummary
    from facekd.photos.find import FoundPhotos

PART = 512  # photos in a part of the store: what a kill can cost


@door
def align(
    photos: Path,
    out: Path | None = None,
    *,
    faces: Alignment = Alignment(),
    cluster: Cluster = Cluster(),
    quiet: bool = False,
) -> AlignSummary:
    """Find the faces in photos, warp each to a crop, and account for every photo.

    Running it again aligns only what is new or has changed. Exits with 1 when a photo gave no crop; the
    ledger says which and why.

    Example: facekd align photos/ crops/ --choose all

    Args:
        photos: A folder, zip or tar of photos; a folder per person names the identities, else LFW's
            Name_0001.jpg does. See --identity-from.
        out: The crop store to write or to go on with.
        quiet: Print nothing.
    """
    from facekd.crops.store import CropStore
    from facekd.engines.local import batches
    from facekd.engines.mapper import mapper
    from facekd.faces.detect import weights_digest
    from facekd.ingest.alignment import BATCH, align_batch, detector_of
    from facekd.ingest.corpus import (
        as_duplicate,
        detector_of_store,
        identity_of_store,
        people_of,
        summarize,
        unfinished,
    )
    from facekd.photos.find import find_photos

    map_batches = mapper(cluster.engine, cluster.address)
    if cluster.engine == "ray":  # its workers run in other folders
        photos, faces = photos.absolute(), replace(faces, weights=faces.weights and faces.weights.absolute())
    out = out or default_out("align")
    found = people_of(find_photos(photos), photos, out, faces.identity_from, quiet)
    faces = replace(faces, detector=faces.detector or detector_of_store(out))
    detector_of(faces)  # wrong weights are the user's mistake: say so before the store is touched
    made: dict[str, Any] = {
        "detector": faces.detector_name,
        "min_face": faces.min_face,
        "choose": faces.choose,
        "turn": faces.turn,
        "size": faces.size,
    }
    told = faces.identity_from or identity_of_store(out)
    if told in ("top", "name"):  # stores of before, which have no such key, are by parent
        made["identity_from"] = told
    digest = weights_digest(faces.detector_name, faces.weights)
    with CropStore.writing(out, {**made, "weights_sha256": digest, "template": "arcface"}) as store:
        start_run(out, "align", {"photos": photos, "out": out, **flat(faces, cluster)}, inputs=(photos,))
        todo, known = unfinished(found.photos, store)
        if len(todo) < len(found.photos):
            say(f"{out}: {len(found.photos) - len(todo)} of {len(found.photos)} photos are done already", quiet)
        function = partial(
            align_batch,
            make_detector=partial(detector_of, faces),
            choose=faces.choose,
            min_face=faces.min_face,
            size=faces.size,
            turn=faces.turn,
        )
        part: list[PhotoRecord] = []
        for records in progress(map_batches(function, batches(todo, BATCH)), len(todo), "align", quiet, unit=BATCH):
            part += [as_duplicate(record, known) for record in records]
            if len(part) >= PART:
                store.append(part)
                part = []
        if part:
            store.append(part)
        summary = summarize(out, found, len(todo), store)
        if faces.show:
            from facekd.ingest.contact_sheet import write_sheet

            write_sheet(found.photos, store, faces.show)
    _print(summary, found, store, quiet)
    if faces.show:
        say(f"to look at: {out / 'show.html'}", quiet)
    return summary


def _print(summary: AlignSummary, found: FoundPhotos, store: CropStore, quiet: bool) -> None:
    from facekd.ingest.photos import tell_of_others

    rows = [[status, str(count)] for status, count in sorted(summary.statuses.items(), key=lambda item: -item[1])]
    table(f"{summary.photos} photos, {summary.new} aligned now → {summary.out}", ["status", "photos"], rows, quiet)
    tell_of_others(found, quiet)
    if summary.failed:
        bad = [row for row in store.ledger().to_pylist() if row["status"] not in ("ok", "duplicate")]
        lines = [f"{row['source']}: {row['status']}, {row['reason']}" for row in bad]
        say_first(lines, 5, quiet, f" in {summary.out}/ledger")
