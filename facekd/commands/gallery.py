"""facekd gallery …: look into a gallery, erase people, take templates out and in, index it, change its model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from facekd.console import progress, say, say_first, table
from facekd.core.printable import counted
from facekd.errors import UserError
from facekd.settings.door import door

if TYPE_CHECKING:
    from facekd.enrollment.calibration import Promise
    from facekd.gallery.gallery import GalleryTable

LOT = 4096  # people read or written together
SHOWN = 20  # people that are listed


@dataclass(frozen=True, slots=True)
class GalleryInfo:
    """What a gallery holds."""

    people: int
    photos: int  # whose embeddings' means the templates are
    model: str
    model_id: str
    threshold: float | None  # given by the user; None: that of the promise
    promise: Promise | None  # of a search; None where no threshold is known
    bytes: int  # on disk
    indexed: int | None  # people in the index; None: every template is compared
    audit_broken_at: int | None  # the first line of the audit log that was tampered with

    @property
    def exit_code(self) -> int:
        return 1 if self.audit_broken_at else 0


@dataclass(frozen=True, slots=True)
class Erased:
    """Whom a deletion found, and its receipt."""

    enrolled: tuple[str, ...]
    missing: tuple[str, ...]  # were not enrolled
    receipt: str  # stands in the audit log too

    @property
    def exit_code(self) -> int:
        return 1 if self.missing else 0


@dataclass(frozen=True, slots=True)
class Imported:
    """How many people came in."""

    people: int
    changed: int  # new, or different from before


@door
def info(gallery: str, *, people: bool = False, quiet: bool = False) -> GalleryInfo:
    """Say what a gallery holds, which model it is bound to, how it is searched, and whether its audit log is whole.

    Exits with 1 when the audit log was tampered with.

    Example: facekd gallery info staff.gallery --people

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        people: List everybody enrolled, with their number of photos and what else is known.
        quiet: Print nothing.
    """
    import datetime

    from facekd.enrollment.calibration import gallery_thresholds, promise
    from facekd.enrollment.changes import kept_until
    from facekd.gallery import audit
    from facekd.gallery.gallery import GalleryTable

    home = GalleryTable.open(gallery)
    meta, log, indexed = home.meta, audit.read(home.place), home.indexed()
    found = GalleryInfo(
        people=len(home),
        photos=home.photos(),
        model=meta.model,
        model_id=meta.model_id,
        threshold=meta.threshold,
        promise=promise(meta, len(home)),
        bytes=sum(home.place.files().values()),
        indexed=None if indexed is None else indexed.people,
        audit_broken_at=log.broken_at,
    )
    thresholds = sorted(gallery_thresholds(meta).items(), reverse=True)
    figures = {
        "people": str(found.people),
        "photos": str(found.photos),
        "model": f"{found.model} ({found.model_id}, {meta.contract.dim} numbers)",
        "templates mapped from model": meta.mapped or "–",
        "detector": meta.detector + (f", weights {meta.weights_sha256[:12]}…" if meta.weights_sha256 else ""),
        "threshold given": "–" if found.threshold is None else f"{found.threshold:.4f}",
        "promise": "–" if found.promise is None else found.promise.said(),
        "calibrated thresholds": ", ".join(f"{one:.4f} at FAR {far:g}" for far, one in thresholds) or "–",
        "search": "exact: every template is compared"
        if indexed is None
        else f"index of {indexed.people} people, {indexed.bytes / 1e6:.0f} MB; {indexed.outside} more are compared",
        "kept until": kept_until(home, datetime.datetime.now(datetime.UTC).date()),
        "size": f"{found.bytes / 1e6:.1f} MB",
        "last written": f"{home.written():%Y-%m-%d %H:%M:%S} UTC",
        "audit log": f"{len(log.entries)} entries, "
        + ("whole" if log.broken_at is None else f"CHANGED: line {log.broken_at} does not follow from the one before"),
    }
    table(str(home.place), ["what", "value"], [[key, value] for key, value in figures.items()], quiet, figures=False)
    if found.promise is not None and found.promise.warning():
        say(found.promise.warning(), quiet)
    if people:
        table("", ["person", "photos", "quality", "metadata"], sorted(_people(home)), quiet, figures=False)
    return found


def _people(home: GalleryTable) -> Iterator[list[str]]:
    """Everybody enrolled, as they are listed."""
    from facekd.gallery.people import tags

    for lot in home.everyone():
        for person in lot:
            quality = "–" if person.quality is None else f"{person.quality:.3f}"
            yield [person.person_id, str(len(person.sources)), quality, ", ".join(tags(person.metadata))]


@door
def delete(
    gallery: str,
    *person: str,
    from_: Annotated[Path | None, Parameter(name="--from")] = None,
    private: bool = False,
    quiet: bool = False,
) -> Erased:
    """Erase people from a gallery: templates, ids, photo names, index and old versions, to the last byte.

    The whole gallery is written anew, once for all of them. The audit log notes how many were erased, and a random
    receipt to file with the request; nothing of the ids. Copies, backups, exports and what the disk or bucket keeps of
    removed files are beyond it. Of one person under two ids, as it was decided, either id erases both. Exits with 1
    when someone was not enrolled. Killed, it is finished by running it again.

    Example: facekd gallery delete staff.gallery anna boris

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        person: Ids of the people; after -- where one begins with a dash.
        from_: A text file with more ids, one a line, UTF-8.
        private: Print no ids.
        quiet: Print nothing.
    """
    import secrets

    from facekd.gallery.gallery import GalleryTable

    ids = list(dict.fromkeys([*person, *(_lines(from_) if from_ is not None else ())]))
    if not ids:
        raise UserError("nobody to erase: give ids after the gallery, or a file of ids with --from")
    home = GalleryTable.open(gallery)
    receipt = secrets.token_hex(16)
    with home.writing():
        # Noted first: a log that can't be written stops it, and a killed deletion is known.
        home.note("delete", people_asked=len(ids), receipt=receipt, done=False)
        enrolled = home.delete_all(ids)
        home.note("delete", people_asked=len(ids), people_erased=len(enrolled), receipt=receipt, done=True)
    missing = [person_id for person_id in ids if person_id not in set(enrolled)]
    say(
        f"{home.place}: {counted(len(enrolled), 'person', 'people')} erased, {len(home)} remain; receipt {receipt}",
        quiet,
    )
    if missing:
        say(f"{len(missing)} were not enrolled; what an interrupted deletion may have left of them is gone too", quiet)
        say_first(missing, SHOWN, quiet or private)
    return Erased(tuple(enrolled), tuple(missing), receipt)


@door
def export(gallery: str, out: Path, *, encrypt: bool = False, key_file: Path | None = None, quiet: bool = False) -> int:
    """Write everybody's templates to a file: Parquet, for other tools and 'facekd gallery import', or a FAISS index.

    OUT.faiss is an IndexFlatIP, the id of each of its rows stands in OUT.faiss.ids.json. Encrypted Parquet is
    AES-256-GCM: without the key nothing can be read from it, and a changed byte is noticed.

    Example: facekd gallery export staff.gallery templates.parquet --encrypt --key-file gallery.key

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        out: The .parquet or .faiss file to write.
        encrypt: Encrypt the Parquet file, with the key in --key-file or in the environment variable FACEKD_KEY.
        key_file: File with the key, 64 hex digits, readable by its owner only.
        quiet: Print nothing.
    """
    from facekd.gallery.exchange import write_faiss, write_parquet
    from facekd.gallery.gallery import GalleryTable
    from facekd.gallery.protect import read_key

    if out.suffix not in (".parquet", ".faiss"):
        raise UserError(f"{out}: templates are written as .parquet or .faiss; give a name that ends in one of these")
    if encrypt and out.suffix == ".faiss":
        raise UserError(f"{out}: FAISS reads no encrypted index; encrypt a .parquet file, or leave --encrypt out")
    if key_file is not None and not encrypt:
        raise UserError("--key-file says with what to encrypt, but not to do so; add --encrypt, or leave it out")
    key = read_key(key_file) if encrypt else None
    home = GalleryTable.open(gallery)
    home.note("export", people=len(home), form=out.suffix[1:], encrypted=encrypt)  # before: unlogged, it is not done
    if out.suffix == ".faiss":
        people, beside = write_faiss(home, out)
        say(f"{out}: {people} templates of model {home.meta.model_id}; ids in {beside}", quiet)
    else:
        people = write_parquet(home, out, key)
        how = "encrypted" if encrypt else "not encrypted: keep it as safe as the gallery"
        say(f"{out}: {people} templates of model {home.meta.model_id}; {how}", quiet)
    return people


@door
def import_(gallery: str, file: Path, *, key_file: Path | None = None, quiet: bool = False) -> Imported:
    """Enroll the people of an exported file, under their ids; they replace people of the same ids.

    A gallery that does not exist is begun with the file's settings. Templates of another model are refused.

    Example: facekd gallery import other.gallery templates.parquet --key-file gallery.key

    Args:
        gallery: The gallery, new or of the same model: a folder or s3://BUCKET/PREFIX.
        file: A .parquet file of 'facekd gallery export'.
        key_file: File with its key, where it is encrypted; else FACEKD_KEY counts.
        quiet: Print nothing.
    """
    from facekd.enrollment.calibration import kept_scores
    from facekd.enrollment.changes import photo_table
    from facekd.gallery.exchange import needs_key, read_parquet, take_in
    from facekd.gallery.gallery import GalleryTable
    from facekd.gallery.protect import read_key

    meta, people = read_parquet(file, read_key(key_file) if needs_key(file) else None)
    home = GalleryTable.create(gallery, meta)
    with home.writing():
        home.note("import", people=len(people))
        lots = range(0, len(people), LOT)
        changed = sum(progress(take_in(home, people, LOT), len(lots) * LOT, "import", quiet, unit=LOT))
        home.keep(replace(home.meta, own=kept_scores(home, photo_table(home))))
    say(f"{home.place}: {changed} of {len(people)} people new or changed; {len(home)} enrolled", quiet)
    return Imported(len(people), changed)


@door
def index(gallery: str, *, drop: bool = False, quiet: bool = False) -> int:
    """Build a gallery's index anew, whatever its size, or drop it; enrollment builds it by itself where it pays.

    Example: facekd gallery index staff.gallery

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        drop: Remove the index: every template is compared from now on.
        quiet: Print nothing.
    """
    from facekd.gallery.gallery import GalleryTable

    home = GalleryTable.open(gallery)
    with home.writing():
        home.note("index", drop=drop)
        if drop:
            home.drop_index()
        else:
            say(f"{home.place}: indexing {len(home)} people; a million takes minutes", quiet)
            home.build_index()
    found = home.indexed()
    now = "every template is compared" if found is None else f"an index of {found.people} people is searched"
    say(f"{home.place}: {now}", quiet)
    return 0 if found is None else found.people


def _lines(path: Path) -> Iterator[str]:
    """The ids in a text file; an id may hold blanks, its line ends with a line feed."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable list of ids ({error}); give a UTF-8 text file, one id a line") from error
    yield from (line.removesuffix("\r") for line in text.split("\n") if line.strip())
