"""facekd align: photos in, crops and a ledger out; no photo is lost on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import progress, say, table
from facekd.core.choices import DETECTOR, Choice, DetectorName, Engine
from facekd.core.run import default_out, start_run
from facekd.engines.local import batches
from facekd.engines.mapper import mapper
from facekd.errors import UserError
from facekd.ingest.alignment import BATCH, align_batch, detector_maker
from facekd.settings.door import door

if TYPE_CHECKING:
    from facekd.crops.store import CropStore, PhotoRecord
    from facekd.photos.find import PhotoFile


PART = 512  # photos in a part of the store: what a kill can cost


@dataclass(frozen=True, slots=True)
class AlignSummary:
    """What became of the photos."""

    out: Path
    photos: int
    new: int  # aligned by this run; the others were done before
    statuses: dict[str, int]
    others: int  # files that are no photos by their name

    @property
    def failed(self) -> int:
        """Photos that gave no crop, duplicates aside."""
        return sum(count for status, count in self.statuses.items() if status not in ("ok", "duplicate"))

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


@door
def align(
    photos: Path,
    out: Path | None = None,
    *,
    detector: DetectorName | None = None,
    weights: Path | None = None,
    min_face: int = 20,
    choose: Choice = "best",
    turn: bool = False,
    size: int = 112,
    engine: Engine = "local",
    address: str | None = None,
    show: int = 0,
    quiet: bool = False,
) -> AlignSummary:
    """Find the faces in photos, warp each to a crop, and account for every photo.

    Running it again aligns only what is new or has changed. Exits with 1 when a photo gave no crop; the
    ledger says which and why.

    Example: facekd align photos/ crops/ --choose all

    Args:
        photos: A folder, zip or tar of photos; a folder per person names the identities, else LFW's
            Name_0001.jpg does.
        out: The crop store to write or to go on with.
        detector: yunet, unless OUT was begun with another; mtcnn, slower; facenet, facenet-pytorch's own driver of the
            same networks, slower still; none, where each photo already is a crop.
        weights: Another ONNX file of yunet's than the one that comes with facekd.
        min_face: Smallest face looked for, pixels.
        choose: Which face of several becomes the crop: the largest, the one nearest to the middle (centre), the one
            that best combines both, or all.
        turn: Where no face is found, look again in the photo turned by 90, 180 and 270 degrees.
        size: Side of a crop, pixels.
        engine: local, on the cores of this machine; ray, on a Ray cluster, with the same result.
        address: The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines
            need facekd, and the photos and weights at the same paths.
        show: Write OUT/show.html, to look at: as many of the first photos, the failures and the least certain.
        quiet: Print nothing.
    """
    from facekd.crops.store import CropStore
    from facekd.faces.detect import weights_digest
    from facekd.photos.find import find_photos

    if not 16 <= size <= 4096:
        raise UserError(f"--size {size}: a crop is from 16 to 4096 pixels wide, most often 112")
    if show < 0:
        raise UserError(f"--show {show}: give how many photos to show, such as 20")
    map_batches = mapper(engine, address)
    if engine == "ray":  # its workers run in other folders
        photos, weights = photos.absolute(), weights and weights.absolute()
    found = find_photos(photos)
    out = out or default_out("align")
    detector = detector or _detector_of(out)
    make_detector = detector_maker(detector, weights, min_face)
    make_detector()  # wrong weights are the user's mistake: say so before the store is touched
    made = {"detector": detector, "min_face": min_face, "choose": choose, "turn": turn, "size": size}
    digest = weights_digest(detector, weights)
    with CropStore.writing(out, {**made, "weights_sha256": digest, "template": "arcface"}) as store:
        how = {"engine": engine, "address": address, "show": show}
        start_run(out, "align", {"photos": photos, "out": out, "weights": weights, **made, **how}, inputs=(photos,))
        todo, known = _unfinished(found.photos, store)
        if len(todo) < len(found.photos):
            say(f"{out}: {len(found.photos) - len(todo)} of {len(found.photos)} photos are done already", quiet)
        function = partial(
            align_batch, make_detector=make_detector, choose=choose, min_face=min_face, size=size, turn=turn
        )
        part: list[PhotoRecord] = []
        for records in progress(map_batches(function, batches(todo, BATCH)), len(todo), "align", quiet, unit=BATCH):
            part += [_as_duplicate(record, known) for record in records]
            if len(part) >= PART:
                store.append(part)
                part = []
        if part:
            store.append(part)
        summary = _summary(out, found.photos, len(todo), len(found.others), store)
        if show:
            from facekd.ingest.contact_sheet import write_sheet

            write_sheet(found.photos, store, show)
    _print(summary, store, quiet)
    if show:
        say(f"to look at: {out / 'show.html'}", quiet)
    return summary


def _detector_of(out: Path) -> DetectorName:
    """The detector of the store in `out`, the default where there is none yet."""
    from facekd.crops.store import CropStore

    if not (out / "store.json").is_file():
        return DETECTOR
    found: DetectorName = CropStore.open(out).settings.get("detector", DETECTOR)
    return found


def _unfinished(files: Sequence[PhotoFile], store: CropStore) -> tuple[list[PhotoFile], dict[str, PhotoRecord]]:
    """The photos that the ledger lacks or that have changed since, and the first photo with each digest."""
    from facekd.core.files import sha256_bytes
    from facekd.crops.store import PhotoRecord
    from facekd.photos.find import read_bytes

    rows = {row["source"]: row for row in store.ledger().to_pylist()}
    todo = []
    for file in files:
        row = rows.get(file.source)
        if row is not None:
            try:
                digest = sha256_bytes(read_bytes(file))
            except OSError:
                digest = None
            if digest == row["sha256"]:
                continue
            del rows[file.source]
        todo.append(file)
    kept = {row["sha256"]: row for row in rows.values() if row["status"] == "ok"}
    # A duplicate whose first photo has changed has to be aligned itself.
    orphans = {s for s, row in rows.items() if row["status"] == "duplicate" and row["sha256"] not in kept}
    todo += [file for file in files if file.source in orphans]
    known = {
        digest: PhotoRecord(row["source"], row["identity"], "ok", crop_ids=row["crop_ids"])
        for digest, row in kept.items()
    }
    return todo, known


def _as_duplicate(record: PhotoRecord, known: dict[str, PhotoRecord]) -> PhotoRecord:
    """The record itself, or, for bytes seen before, a record that points to the first photo's crops."""
    from facekd.crops.store import PhotoRecord

    if record.status != "ok" or record.sha256 is None:
        return record
    first = known.get(record.sha256)
    if first is None:
        # Without its crops: these may go once they are written, however many photos there are.
        known[record.sha256] = PhotoRecord(record.source, record.identity, "ok", crop_ids=record.crop_ids)
        return record
    record.status, record.reason = "duplicate", f"the same bytes as {first.source}"
    record.crop_ids, record.crops = first.crop_ids, []
    return record


def _summary(out: Path, files: Sequence[PhotoFile], new: int, others: int, store: CropStore) -> AlignSummary:
    sources = {file.source for file in files}
    ledger = store.ledger().select(["source", "status"]).to_pylist()
    statuses = Counter(row["status"] for row in ledger if row["source"] in sources)
    assert sum(statuses.values()) == len(sources), "a photo has no ledger row"
    return AlignSummary(out, len(sources), new, dict(statuses), others)


def _print(summary: AlignSummary, store: CropStore, quiet: bool) -> None:
    rows = [[status, str(count)] for status, count in sorted(summary.statuses.items(), key=lambda item: -item[1])]
    table(f"{summary.photos} photos, {summary.new} aligned now → {summary.out}", ["status", "photos"], rows, quiet)
    if summary.others:
        say(f"{summary.others} other files were passed over: their names are no photos'", quiet)
    if summary.failed:
        bad = [r for r in store.ledger().to_pylist() if r["status"] not in ("ok", "duplicate")]
        for row in bad[:5]:
            say(f"  {row['source']}: {row['status']}, {row['reason']}", quiet)
        if len(bad) > 5:
            say(f"  … and {len(bad) - 5} more in {summary.out}/ledger", quiet)
