"""A crop store against the photos it is made from: which are done, which are the same, what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.choices import DETECTOR, DetectorName
from facekd.core.files import sha256_bytes
from facekd.crops.records import PhotoRecord
from facekd.crops.store import CropStore
from facekd.photos.find import FoundPhotos, NoPhoto, PhotoFile, read_bytes


@dataclass(frozen=True, slots=True)
class AlignSummary:
    """What became of the photos."""

    out: Path
    photos: int
    new: int  # aligned by this run; the others were done before
    statuses: dict[str, int]
    others: int  # files that are no photos, by their suffix and by their first bytes
    without: tuple[NoPhoto, ...]  # folders without a photo, links that are not followed

    @property
    def failed(self) -> int:
        """Photos that gave no crop, duplicates aside."""
        return sum(count for status, count in self.statuses.items() if status not in ("ok", "duplicate"))

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def detector_of_store(out: Path) -> DetectorName:
    """The detector of the store in `out`, the default where there is none yet."""
    if not (out / "store.json").is_file():
        return DETECTOR
    found: DetectorName = CropStore.open(out).settings.get("detector", DETECTOR)
    return found


def unfinished(files: Sequence[PhotoFile], store: CropStore) -> tuple[list[PhotoFile], dict[str, PhotoRecord]]:
    """The photos that the ledger lacks or that have changed since, and the first photo with each digest."""
    rows = {row["source"]: row for row in store.ledger().to_pylist()}
    todo = []
    for file in files:
        row = rows.get(file.source)
        if row is not None:
            if digest_of(file) == row["sha256"]:
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


def digest_of(file: PhotoFile) -> str | None:
    """SHA-256 of a photo's bytes; None where it can't be read."""
    try:
        return sha256_bytes(read_bytes(file))
    except OSError:
        return None


def as_duplicate(record: PhotoRecord, known: dict[str, PhotoRecord]) -> PhotoRecord:
    """The record itself, or, for bytes seen before, a record that points to the first photo's crops."""
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


def summarize(out: Path, found: FoundPhotos, new: int, store: CropStore) -> AlignSummary:
    """What became of the photos found, by the ledger."""
    sources = {file.source for file in found.photos}
    ledger = store.ledger().select(["source", "status"]).to_pylist()
    statuses = Counter(row["status"] for row in ledger if row["source"] in sources)
    assert sum(statuses.values()) == len(sources), "a photo has no ledger row"
    return AlignSummary(out, len(sources), new, dict(statuses), len(found.others), found.without)
