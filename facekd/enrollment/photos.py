"""The photos of an enrollment: what is known of them already, and the embeddings of the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby

import numpy as np
import pyarrow as pa

from facekd.console import progress
from facekd.core.files import sha256_bytes
from facekd.core.memory import give_back_memory
from facekd.deploy.embedder import CropEmbedder
from facekd.enrollment.gate import refusal
from facekd.enrollment.sources import People
from facekd.faces.detect import weights_digest
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import EXCLUDED, KnownPhoto, PhotoTable
from facekd.ingest.alignment import detector_of
from facekd.ingest.corpus import digest_of
from facekd.ingest.photos import EmbeddedPhoto, Item, SettledItem, embed_photos, embedding_digest, in_batches
from facekd.photos.find import stamp
from facekd.settings.photos import FaceSearch, QualityGate

PART = 512  # photos written together: what a kill can cost
GROUP = 4096  # photos whose people are looked up together
FACE = ("score", "quality", "eyes", "yaw", "pitch", "detail")


def settings_of(min_face: int, weights_sha256: str | None) -> str:
    """What the crop of a photo depends on beside the photo and the gallery's detector."""
    return f"min_face={min_face}" + ("" if weights_sha256 is None else f" weights={weights_sha256[:12]}")


class NewPhotos:
    """Embeds the photos that a table lacks or that have changed, and writes them into it, a part at a time.

    Args:
        base: the table of the gallery, where `table` is a dry run's own: what is known of each person is taken from it.
    """

    def __init__(
        self, table: PhotoTable, embedder: CropEmbedder, search: FaceSearch, gate: QualityGate, base: PhotoTable | None
    ) -> None:
        self.table, self.embedder, self.search, self.gate, self.base = table, embedder, search, gate, base
        self.settings = settings_of(search.min_face, weights_digest(search.detector_name, search.weights))
        self.embedded = 0
        self._stamps: dict[tuple[str, str], str | None] = {}  # of the photos that are on their way
        self._replaced: set[tuple[str, str]] = set()  # those of them that the table holds in another form

    def run(self, people: People, quiet: bool) -> int:
        """Bring the table up to date; returns how many photos were embedded."""
        refuses = partial(refusal, self.gate)
        embedded = embed_photos(self._unknown(people.photos), self.embedder, self.search, refuses=refuses)
        for part in in_batches(progress(embedded, len(people.photos), "enroll", quiet), PART):
            self._write(part)
        return self.embedded

    def _unknown(self, photos: Sequence[Item]) -> Iterator[Item]:
        """The photos to embed; read ahead of the embedding, some people at a time."""
        for group in groups(photos):
            known = self._known([person for person, _ in group])
            moved: dict[tuple[str, str], str | None] = {}  # photos whose bytes are the same, with another stamp
            for person, own in group:
                for photo in own:
                    key, now = (person, photo.source), None if isinstance(photo, SettledItem) else stamp(photo)
                    before = known.get(key)
                    if before is not None and self._holds(before):
                        if now is not None and before.stamp == now:
                            continue
                        if _digest(photo) == before.sha256:
                            moved[key] = now
                            continue
                    if before is not None:
                        self._replaced.add(key)
                    if not self._stamps:
                        detector_of(self.search)  # once, before the cores want the detector all together
                    self._stamps[key] = now  # taken before the file is read, so that a later change shows
                    yield photo
            self._restamp(moved)

    def _known(self, person_ids: list[str]) -> dict[tuple[str, str], KnownPhoto]:
        if self.base is not None:
            self.table.put(self.base.of(person_ids), new=True)
        return {(photo.person_id, photo.source): photo for photo in self.table.known(person_ids)}

    def _holds(self, photo: KnownPhoto) -> bool:
        """Whether what is known of a photo is what would come out now, if the photo is the same."""
        if photo.status == EXCLUDED:
            return True  # whatever the settings
        if photo.settings != self.settings or photo.sha256 is None:
            return False
        refused = photo.status == "low_quality"
        return photo.status not in ("ok", "low_quality") or bool(refusal(self.gate, photo)) == refused

    def _restamp(self, moved: dict[tuple[str, str], str | None]) -> None:
        photos: dict[str, list[str]] = {}
        for person, source in moved:
            photos.setdefault(person, []).append(source)
        rows = self.table.rows(photos)
        keys = zip(rows["person_id"].to_pylist(), rows["source"].to_pylist(), strict=True)
        stamps = pa.array([moved[key] for key in keys], pa.string())
        self.table.put(rows.set_column(rows.schema.get_field_index("stamp"), "stamp", stamps), new=False)

    def _write(self, part: Sequence[EmbeddedPhoto]) -> None:
        keys = [(photo.record.identity or "", photo.source) for photo in part]
        self.table.put(self._rows(part, keys), new=self._replaced.isdisjoint(keys))
        give_back_memory()
        self._replaced.difference_update(keys)
        self.embedded += len(part)

    def _rows(self, part: Sequence[EmbeddedPhoto], keys: Sequence[tuple[str, str]]) -> pa.Table:
        dim = self.embedder.contract.dim
        rows = []
        vectors = np.zeros((len(part), dim), np.float32)
        for place, (photo, key) in enumerate(zip(part, keys, strict=True)):
            face = photo.record.crops[0] if photo.record.crops else None
            rows.append(
                {
                    "person_id": key[0],
                    "source": photo.source,
                    "sha256": photo.record.sha256,
                    "stamp": self._stamps.pop(key),
                    "settings": self.settings,
                    "status": photo.status,
                    "reason": photo.reason,
                    "accepted": False,
                    **{name: getattr(face, name, None) for name in FACE},
                }
            )
            if photo.ok:
                vectors[place] = photo.vectors[0]
        without = pa.array([row["status"] != "ok" for row in rows])
        table = pa.Table.from_pylist(rows, self.table.schema.remove(self.table.schema.get_field_index("embedding")))
        embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim, mask=without)
        return table.append_column(self.table.schema.field("embedding"), embeddings).select(self.table.schema.names)


def forget_untaken(table: PhotoTable, found: People, home: GalleryTable) -> None:
    """Leave nothing of photos in memory that no template is made of: no later run could see them, or take them back.

    Args:
        home: as it is after the enrollment.
    """
    for group in groups(found.photos):
        enrolled = home.people([person for person, _ in group])
        untaken = {}
        for person, own in group:
            used = set(enrolled[person].sources) if person in enrolled else set()
            untaken[person] = [photo.source for photo in own if photo.source not in used]
        table.forget(untaken)


def _digest(photo: Item) -> str | None:
    if isinstance(photo, SettledItem):
        return None if photo.vector is None else embedding_digest(photo.vector)
    return digest_of(photo)


def groups(photos: Sequence[Item], without: Sequence[str] = ()) -> Iterator[list[tuple[str, list[Item]]]]:
    """Some people at a time, each with their photos: as many as have GROUP photos together, and at least one.

    Args:
        without: people who have no photo, and come last.
    """
    waiting: list[tuple[str, list[Item]]] = []
    count = 0
    people = ((person, list(own)) for person, own in groupby(photos, key=lambda photo: photo.identity or ""))
    for person, own in chain(people, ((person, []) for person in without)):
        waiting.append((person, own))
        count += max(1, len(own))
        if count >= GROUP:
            yield waiting
            waiting, count = [], 0
    if waiting:
        yield waiting


def digests_now(table: PhotoTable, found: People, person_ids: Sequence[str]) -> dict[str, str]:
    """SHA-256 over the digests of each person's photos of a face that PEOPLE has; of people without any none.

    Photos that were decided never to count are among them, so that one decision does not undo another.
    """
    wanted = set(person_ids)
    listed = {(photo.identity, photo.source) for photo in found.photos if photo.identity in wanted} if wanted else set()
    own: dict[str, set[str]] = {}
    for photo in table.known(list(person_ids)) if listed else ():
        if photo.status in ("ok", EXCLUDED) and photo.sha256 is not None and (photo.person_id, photo.source) in listed:
            own.setdefault(photo.person_id, set()).add(photo.sha256)
    return {person: sha256_bytes("".join(sorted(digests)).encode()) for person, digests in own.items()}
