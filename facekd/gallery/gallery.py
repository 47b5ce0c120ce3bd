"""The gallery: one template for each enrolled person, in LanceDB, bound to one model.

In a folder or under an ``s3://`` prefix::

    GALLERY/gallery.json     model_id, the model's path, threshold, how photos were aligned (see meta.py)
    GALLERY/contract.json    the model's contract
    GALLERY/people.lance     one row for each person, and in a large gallery its index
    GALLERY/photos.lance     the digest, quality and embedding of each photo (see photos.py)
    GALLERY/ledger.parquet   what became of each photo that was to be enrolled
    GALLERY/decisions.parquet  what was decided about suspected mix-ups (see decisions.py)
    GALLERY/audit.jsonl      what was done, when and by whom, without names (see audit.py)
    GALLERY/lock             held by the one command that writes; on object storage writer.lance (see lease.py)

No photo and no crop is kept. The folder and all in it is for its owner only (0700, 0600).
"""

from __future__ import annotations

import contextlib
import datetime
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facekd.core.files import exclusive
from facekd.core.run import start_run
from facekd.core.types import Embeddings
from facekd.errors import UserError
from facekd.gallery import audit, index
from facekd.gallery.decisions import Decisions, read_decisions, write_decisions
from facekd.gallery.erase import erase
from facekd.gallery.lease import lease
from facekd.gallery.ledger import LEDGER as LEDGER
from facekd.gallery.ledger import add_to_ledger, erase_from_ledger, read_ledger
from facekd.gallery.lookup import Loaded, among, by_index
from facekd.gallery.meta import GalleryMeta, check_detector, check_model, exists, read_meta, write_meta
from facekd.gallery.people import NAMED, one_of, people_schema, tags, to_people, to_table
from facekd.gallery.people import Answer as Answer
from facekd.gallery.people import Match as Match
from facekd.gallery.people import Person as Person
from facekd.gallery.people import template_of as template_of
from facekd.gallery.place import Place, check_fork, private, storage_options, told

TABLE = "people"
QUERIES = 64  # probes searched together: one pass over the templates for all of them
ERASED = 8  # erasures by others during one search, each of which makes it begin again
KEPT = datetime.timedelta(days=1)  # readers may go on using a replaced version for so long


class GalleryTable:
    """The gallery in a folder or under an ``s3://`` prefix, made by `create` or `open`."""

    def __init__(self, where: Place | Path | str, meta: GalleryMeta) -> None:
        self.place = Place.of(where)
        self.folder = Path(self.place.uri)  # of a local gallery
        self.meta = meta
        self._may_write: Callable[[], None] | None = None  # raises where the right to write was lost
        self._fresh = 0  # people written since the indices were last looked after
        schema = people_schema(meta.contract.dim)
        options = storage_options() if self.place.remote else None
        check_fork(self.place)
        try:
            self._connection: Any = lancedb.connect(self.place.uri, storage_options=options)
            # A first enrollment killed before this line left a gallery without its table.
            with private():
                self.table: Any = self._connection.create_table(TABLE, schema=schema, exist_ok=True)
            found = self.table.schema
        except (OSError, RuntimeError, ValueError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise UserError(f"{self.place}: its table can't be read ({first}); copy the gallery again") from error
        if not found.equals(schema):
            raise UserError(
                f"{self.place}: its table is damaged or another facekd's; copy the gallery again, or enroll anew"
            )
        self._templates = Loaded(self.place, self.table, meta.contract.dim)

    @classmethod
    def create(cls, where: Place | Path | str, meta: GalleryMeta) -> GalleryTable:
        """Open the gallery at `where` to enroll people; begin it where there is none.

        Raises:
            UserError: a gallery of another model, detector or detector's weights, or a folder of something else.
        """
        place = Place.of(where)
        if exists(place):
            gallery = cls.open(place, meta.model_id)
            check_detector(place, gallery.meta, meta)
            return gallery
        place.begin()
        meta = replace(meta, gallery_id=_new_id())
        write_meta(place, meta)
        return cls(place, meta)

    @classmethod
    def open(cls, where: Place | Path | str, model_id: str | None = None) -> GalleryTable:
        """Open the gallery at `where`.

        Args:
            model_id: of the model to be used with it, where that is known already.

        Raises:
            UserError: no gallery there, a damaged one, or one of another model.
        """
        place = Place.of(where)
        meta = read_meta(place)
        if model_id is not None:
            check_model(place, meta, model_id)
        return cls(place, meta)

    def __len__(self) -> int:
        """How many people are enrolled."""
        return int(self.table.count_rows())

    def refresh(self) -> None:
        """See what other processes have written since."""
        with told(self.place, "read"):
            self.table.checkout_latest()

    def people(self, ids: Sequence[str]) -> dict[str, Person]:
        """Those of the people `ids` that are enrolled."""
        found: dict[str, Person] = {}
        for start in range(0, len(ids), NAMED):
            some = ids[start : start + NAMED]
            with told(self.place, "read"):
                rows = self.table.search().where(one_of(some)).limit(len(some)).to_arrow()
            found |= {person.person_id: person for person in to_people(rows)}
        return found

    def everyone(self, size: int = 4096) -> Iterator[list[Person]]:
        """Everybody enrolled, some at a time."""
        with told(self.place, "read"):
            for batch in self.table.search().limit(len(self)).to_batches(size):
                yield to_people(pa.Table.from_batches([batch]))

    def metadata(self) -> Iterator[list[str]]:
        """Everybody's metadata, as `people.tags`."""
        with told(self.place, "read"):
            for batch in self.table.search().select(["metadata"]).limit(len(self)).to_batches():
                yield from batch["metadata"].to_pylist()

    def ids(self) -> list[str]:
        """Everybody's id, sorted."""
        with told(self.place, "read"):
            found = self.table.search().select(["person_id"]).limit(len(self)).to_arrow()["person_id"].to_pylist()
        return sorted(found)

    def photos(self) -> int:
        """Of how many photos the templates are made."""
        with told(self.place, "read"):
            counts = self.table.search().select(["photos"]).limit(len(self)).to_arrow()["photos"]
        return int(pc.sum(counts).as_py() or 0)

    def indexed(self) -> index.IndexState | None:
        """The index that `search` uses; None where it compares every template."""
        with told(self.place, "read"):
            return index.state(self.table)

    def written(self) -> datetime.datetime:
        """When people were last written, UTC."""
        with told(self.place, "read"):
            stamp: datetime.datetime = self.table.list_versions()[-1]["timestamp"]
        return stamp.astimezone(datetime.UTC)

    def search(
        self, probes: Embeddings, k: int = 1, *, where: Mapping[str, str] | None = None, exact: bool = False
    ) -> list[list[Match]]:
        """The `k` people most alike to each probe, the most alike first.

        Every template is compared, unless the gallery is large enough for an index; see `indexed`.

        Args:
            where: only people with this metadata, all of it; each of those is compared.
            exact: compare every template though there is an index.

        Raises:
            UserError: embeddings of another model, or a damaged index.
        """
        check_model(self.place, self.meta, probes.model_id)
        for _ in range(ERASED):
            read = self.table.version
            try:
                return self._search(probes, k, where, exact)
            except UserError:
                self.refresh()
                if self.table.version == read:  # else an erasure took the files away that were read
                    raise
        return self._search(probes, k, where, exact)

    def _search(self, probes: Embeddings, k: int, where: Mapping[str, str] | None, exact: bool) -> list[list[Match]]:
        use_index = not where and not exact and self.indexed() is not None
        found: list[list[Match]] = []
        for start in range(0, len(probes.ids), QUERIES):
            vectors = np.ascontiguousarray(probes.vectors[start : start + QUERIES])
            if use_index:
                found += by_index(self.place, self.table, vectors, k)
            elif where:
                found += among(self.place, self.table, vectors, k, where)
            else:
                found += self._templates.search(vectors, k)
        for matches in found:
            matches.sort(key=lambda match: (-match.score, match.person_id))
        return found

    def identify(self, probes: Embeddings, threshold: float, *, where: Mapping[str, str] | None = None) -> list[Answer]:
        """Who each probe shows: the most alike person if the score is at least `threshold`, else nobody known.

        Args:
            where: only people with this metadata are thought of.

        Raises:
            UserError: embeddings of another model, a gallery without people, or none with that metadata.
        """
        if len(self) == 0:
            raise UserError(f"{self.place}: nobody is enrolled; run 'facekd enroll PEOPLE {self.place}' first")
        best = self.search(probes, where=where)
        if where and best and not best[0]:
            wanted = ", ".join(tags(where))
            raise UserError(
                f"{self.place}: nobody enrolled has the metadata {wanted}; 'facekd gallery info --people' lists it"
            )
        return [Answer(one.person_id if one.score >= threshold else None, one.score) for (one, *_) in best]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write, which one command has at a time.

        Raises:
            UserError: another command has it, or the place can't be written.
        """
        held = lease(self._connection, self.place) if self.place.remote else _locked(self.place)
        with private(), held as self._may_write:
            try:
                self.place.clear_torn()
                with told(self.place, "read"):
                    self.table.checkout_latest()
                yield
            finally:
                self._may_write = None

    def upsert(self, people: Sequence[Person]) -> int:
        """Enroll people, each replacing an earlier template of the same id; inside `writing`. All of them or none.

        Returns:
            How many were new or different; the others were left untouched.
        """
        self._check_right()
        known = self.people([person.person_id for person in people])
        changed = [p for p in people if p.person_id not in known or not p.same(known[p.person_id])]
        if changed:
            ids = [person.person_id for person in changed]
            assert len(set(ids)) == len(ids), "one person twice"
            vectors = np.stack([person.template for person in changed]).astype(np.float32)
            Embeddings(vectors, tuple(ids), self.meta.model_id)  # finite, unit norm
            rows = to_table(changed, self.meta.contract.dim, datetime.datetime.now(datetime.UTC))
            merge = self.table.merge_insert("person_id").when_matched_update_all().when_not_matched_insert_all()
            before = self.table.version
            if self.meta.own is not None:  # first: what was measured on others is not believed of these after a kill
                aged = replace(self.meta.own, written=self.meta.own.written + len(changed))
                self.keep(replace(self.meta, own=aged))
            with told(self.place, "written"):
                merge.execute(rows)
                self._fresh += len(ids)
                if self._fresh >= index.IDS_EVERY:
                    index.keep_pace(self.table, KEPT)
                    self._fresh = 0
            self._templates.put(ids, vectors, before)
        return len(changed)

    def keep(self, meta: GalleryMeta) -> None:
        """Remember other settings, where they are others; the gallery's id stays; inside `writing`."""
        self._check_right()
        meta = replace(meta, gallery_id=self.meta.gallery_id or _new_id())
        if meta != self.meta:
            write_meta(self.place, meta)
            self.meta = meta

    def finish(self, meta: GalleryMeta, ledger: pa.Table) -> None:
        """End an enrollment: remember its settings, take its ledger in, tidy up; inside `writing`.

        Args:
            ledger: columns of LEDGER; replaces the earlier rows of its people and of photos without a person.
        """
        self.keep(meta)
        add_to_ledger(self.place, ledger)
        with told(self.place, "written"):
            index.keep_up(self.table, KEPT)

    def ledger(self) -> pa.Table:
        """What became of each photo in its person's latest enrollment; columns of LEDGER."""
        return read_ledger(self.place)

    def decisions(self) -> Decisions:
        """What was decided about suspected mix-ups."""
        return read_decisions(self.place)

    def remember(self, decisions: Decisions) -> None:
        """Keep what was decided, where it is something else than before; inside `writing`."""
        self._check_right()
        if decisions != self.decisions():
            write_decisions(self.place, decisions)

    def delete(self, person_id: str) -> bool:
        """Erase a person: no byte of template, id or photo names stays in the gallery; inside `writing`.

        Returns:
            Whether the person was enrolled.
        """
        return bool(self.delete_all([person_id]))

    def delete_all(self, ids: Sequence[str]) -> list[str]:
        """Erase people: no byte of their templates, ids or photo names stays in the gallery; inside `writing`.

        The cost is that of rewriting the gallery, once for all of them, and of building its index anew. Readers that
        still use an earlier version fail. What the file system or the bucket itself keeps of removed files is not
        touched. After a kill, the same call finishes what was begun. Where it was decided that several ids are one
        person, all of them go, and what was decided about them.

        Returns:
            Those of `ids` whose person was enrolled.
        """
        decisions = self.decisions()
        every = decisions.ids_of(ids)
        aliases = decisions.aliases()
        enrolled = {aliases.get(one, one) for one in self.erase_all(every)}
        self.remember(decisions.without(every))
        return [one for one in ids if aliases.get(one, one) in enrolled]

    def erase_all(self, ids: Sequence[str]) -> list[str]:
        """`delete_all` of these very ids, which leaves what was decided about them.

        Returns:
            Those that were enrolled.
        """
        self._check_right()
        enrolled = list(self.people(ids))
        with told(self.place, "written"):
            had_index = index.state(self.table) is not None
            index.drop(self.table)  # it holds templates and ids too
            for name in self._connection.list_tables().tables:
                table = self.table if name == TABLE else self._connection.open_table(name)
                if "person_id" in table.schema.names:
                    erase(table, ids)
        erase_from_ledger(self.place, ids)
        with told(self.place, "written"):
            index.keep_up(self.table, KEPT, rebuild=had_index)
        return enrolled

    def build_index(self) -> None:
        """Index the templates, whatever their number; replaces a damaged index too; inside `writing`."""
        self._check_right()
        with told(self.place, "written"):
            index.drop(self.table)
            index.keep_up(self.table, KEPT, rebuild=True)

    def drop_index(self) -> None:
        """Compare every template from now on; inside `writing`."""
        self._check_right()
        with told(self.place, "written"):
            index.drop(self.table)

    def record(self, command: str, config: Mapping[str, Any], inputs: tuple[Path, ...] = ()) -> None:
        """Keep a command's settings and surroundings with the gallery; see `core.run.start_run`."""
        if not self.place.remote:
            start_run(self.place.folder, command, config, inputs)
            return
        with tempfile.TemporaryDirectory() as folder:
            start_run(Path(folder), command, config, inputs)
            for path in Path(folder).iterdir():
                self.place.write(path.name, path.read_bytes())

    def note(self, event: str, **facts: int | float | bool | str | None) -> None:
        """Append to the audit log; see `audit.note`."""
        audit.note(self.place, event, facts)

    def _check_right(self) -> None:
        assert self._may_write is not None, "write inside `writing`"
        self._may_write()


Gallery = GalleryTable  # as it was called before facekd.Gallery was there


@contextlib.contextmanager
def _locked(place: Place) -> Iterator[Callable[[], None]]:
    with exclusive(place.folder):
        yield lambda: None


def _new_id() -> str:
    return secrets.token_hex(16)
