"""A crop store against the photos it is made from: which are done, which are the same, what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.console import say
from facekd.core.choices import DETECTOR, DetectorName, IdentityFrom
from facekd.core.files import sha256_bytes
from facekd.core.printable import printable_line
from facekd.crops.records import PhotoRecord
from facekd.crops.store import CropStore
from facekd.errors import UserError
from facekd.photos.find import FoundPhotos, NoPhoto, PhotoFile, deep_photos, named_by, read_bytes


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


def identity_of_store(out: Path) -> IdentityFrom | None:
    """What the identities of the store in `out` were taken from; None of the parent folder, or where there is none."""
    if not (out / "store.json").is_file():
        return None
    found: IdentityFrom | None = CropStore.open(out).settings.get("identity_from")
    return found


def people_of(
    found: FoundPhotos, photos: Path, out: Path, identity_from: IdentityFrom | None, quiet: bool = False
) -> FoundPhotos:
    """The photos with whom they show, as asked, or as the store in `out` was begun, else by the folder they lie in.

    Raises:
        UserError: most photos lie in folders within folders, which leaves open who people are.
    """
    told = identity_from or identity_of_store(out)
    deep = deep_photos(found) if told is None and not (out / "store.json").is_file() else ()
    if 2 * len(deep) > len(found.photos):
        raise UserError(
            f"{photos}: folders lie within folders ({printable_line(deep[0])}), so which of them names the person is "
            "not plain; say it with --identity-from: parent, the folder a photo lies in, top, the first one, or name, "
            "its own name as LFW and CFP write it"
        )
    if deep:
        one = "a photo lies" if len(deep) == 1 else f"{len(deep)} photos lie"
        say(
            f"{one} in folders within folders (first: {printable_line(deep[0])}), taken for people of their own; "
            "--identity-from top names them by the first folder",
            quiet,
        )
    return found if told is None else named_by(found, told)


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
