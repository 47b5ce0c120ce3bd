"""The gallery: one template for each enrolled person, in a LanceDB folder bound to one model.

On disk::

    GALLERY/gallery.json     model_id, the model's path, threshold, how photos were aligned (see meta.py)
    GALLERY/contract.json    the model's contract
    GALLERY/people.lance     one row for each person
    GALLERY/ledger.parquet   what became of each photo that was to be enrolled
    GALLERY/lock             held by the one command that writes

No photo and no crop is kept. The folder is for its owner only (0700).
"""

from __future__ import annotations

import contextlib
import datetime
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facekd.core.files import atomic_write, exclusive
from facekd.core.types import Array, Embeddings
from facekd.errors import UserError
from facekd.gallery.meta import GalleryMeta, exists, read_meta, write_meta

TABLE = "people"
QUERIES = 64  # probes searched together: one pass over the templates for all of them
KEPT = datetime.timedelta(days=1)  # readers may go on using a replaced version for so long

LEDGER = pa.schema([("source", pa.string()), ("person", pa.string()), ("status", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True, slots=True)
class Person:
    """An enrolled person."""

    person_id: str
    template: Array  # float32[D], unit norm
    sources: tuple[str, ...]  # the photos whose embeddings' mean it is

    def same(self, other: Person) -> bool:
        """Whether both hold the same template from the same photos."""
        return self.sources == other.sources and np.array_equal(self.template, other.template)


@dataclass(frozen=True, slots=True)
class Match:
    """A person of the gallery, and how alike a probe is."""

    person_id: str
    score: float  # cosine


@dataclass(frozen=True, slots=True)
class Answer:
    """Who a probe shows: a person whose score is at least the threshold, else None."""

    person_id: str | None
    score: float  # of the nearest person, named or not


def template_of(total: Array) -> Array | None:
    """A person's template: the mean of unit embeddings, scaled to unit norm.

    Args:
        total: float64[D], their sum.

    Returns:
        float32[D], or None where they cancel out, so that no direction is theirs.
    """
    norm = np.linalg.norm(total)
    return None if norm < 1e-6 else (total / norm).astype(np.float32)


class Gallery:
    """The gallery in a folder, made by `create` or `open`."""

    def __init__(self, folder: Path, meta: GalleryMeta) -> None:
        self.folder = folder
        self.meta = meta
        self._writing = False
        schema = pa.schema(
            [
                pa.field("person_id", pa.string(), nullable=False),
                pa.field("template", pa.list_(pa.float32(), meta.contract.dim), nullable=False),
                ("photos", pa.int32()),
                ("sources", pa.list_(pa.string())),
                ("updated", pa.timestamp("us", "UTC")),
            ]
        )
        try:
            # A first enrolment killed before this line left a gallery without its table.
            self.table: Any = lancedb.connect(folder).create_table(TABLE, schema=schema, exist_ok=True)
            found = self.table.schema
        except (OSError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise UserError(f"{folder}: its table can't be read ({first}); copy the gallery again") from error
        if found != schema:
            raise UserError(f"{folder}: its table is not one of facekd's galleries; copy the gallery again")

    @classmethod
    def create(cls, folder: Path, meta: GalleryMeta) -> Gallery:
        """Open the gallery in `folder` to enrol people; begin it where there is none.

        Raises:
            UserError: a gallery of another model or detector, or a folder that holds something else.
        """
        if exists(folder):
            gallery = cls.open(folder, meta.model_id)
            if gallery.meta.detector != meta.detector:
                raise UserError(
                    f"{folder}: its people were enrolled with --detector {gallery.meta.detector}, not {meta.detector}; "
                    "use that one, or enroll everybody into a new gallery"
                )
            return gallery
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UserError(f"{folder}: holds something that is no gallery; choose a new or empty folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        except OSError as error:
            raise UserError(f"{folder}: can't be made ({error.strerror}); choose another folder") from error
        write_meta(folder, meta)
        return cls(folder, meta)

    @classmethod
    def open(cls, folder: Path, model_id: str | None = None) -> Gallery:
        """Open the gallery in `folder`.

        Args:
            model_id: of the model to be used with it, where that is known already.

        Raises:
            UserError: no gallery there, a damaged one, or one of another model.
        """
        meta = read_meta(folder)
        if model_id is not None:
            _check_model(folder, meta, model_id)
        return cls(folder, meta)

    def __len__(self) -> int:
        """How many people are enrolled."""
        return int(self.table.count_rows())

    def people(self, ids: Sequence[str]) -> dict[str, Person]:
        """Those of the people `ids` that are enrolled."""
        if not ids:
            return {}
        rows = self.table.search().where(f"person_id IN ({', '.join(map(_quoted, ids))})").limit(len(ids)).to_arrow()
        templates = rows["template"].combine_chunks().flatten().to_numpy().reshape(len(rows), self.meta.contract.dim)
        named = zip(rows["person_id"].to_pylist(), templates, rows["sources"].to_pylist(), strict=True)
        return {person_id: Person(person_id, template, tuple(sources)) for person_id, template, sources in named}

    def search(self, probes: Embeddings, k: int = 1) -> list[list[Match]]:
        """The `k` people most alike to each probe, the most alike first; exact: every template is compared.

        Raises:
            UserError: embeddings of another model.
        """
        _check_model(self.folder, self.meta, probes.model_id)
        found: list[list[Match]] = [[] for _ in probes.ids]
        for start in range(0, len(probes.ids), QUERIES):
            vectors = probes.vectors[start : start + QUERIES]
            # Of unit vectors the dot product is the cosine; LanceDB gives 1 minus it.
            query = self.table.search(vectors, vector_column_name="template").distance_type("dot")
            rows = query.bypass_vector_index().limit(k).select(["person_id", "_distance"]).to_arrow()
            places = rows["query_index"].to_pylist() if "query_index" in rows.column_names else [0] * len(rows)
            scores = 1 - rows["_distance"].to_numpy().astype(np.float64)
            for place, person_id, score in zip(places, rows["person_id"].to_pylist(), scores, strict=True):
                found[start + place].append(Match(person_id, float(score)))
        for matches in found:
            matches.sort(key=lambda match: (-match.score, match.person_id))
        return found

    def identify(self, probes: Embeddings, threshold: float) -> list[Answer]:
        """Who each probe shows: the most alike person if the score is at least `threshold`, else nobody known.

        Raises:
            UserError: embeddings of another model, or a gallery without people.
        """
        if len(self) == 0:
            raise UserError(f"{self.folder}: nobody is enrolled; run 'facekd enroll PEOPLE {self.folder}' first")
        best = [matches[0] for matches in self.search(probes)]
        return [Answer(match.person_id if match.score >= threshold else None, match.score) for match in best]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write, which one command has at a time.

        Raises:
            UserError: another command has it, or the folder can't be written.
        """
        with exclusive(self.folder):
            try:
                self.table.checkout_latest()
                self._writing = True
                yield
            finally:
                self._writing = False

    def upsert(self, people: Sequence[Person]) -> int:
        """Enrol people, each replacing an earlier template of the same id; inside `writing`.

        Returns:
            How many were new or different; the others were left untouched.
        """
        assert self._writing
        known = self.people([person.person_id for person in people])
        changed = [p for p in people if p.person_id not in known or not p.same(known[p.person_id])]
        if changed:
            vectors = np.stack([person.template for person in changed]).astype(np.float32)
            Embeddings(vectors, tuple(person.person_id for person in changed), self.meta.model_id)  # finite, unit norm
            now = datetime.datetime.now(datetime.UTC)
            rows = pa.table(
                [
                    pa.array([person.person_id for person in changed], pa.string()),
                    pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
                    pa.array([len(person.sources) for person in changed], pa.int32()),
                    pa.array([list(person.sources) for person in changed], pa.list_(pa.string())),
                    pa.array([now] * len(changed), pa.timestamp("us", "UTC")),
                ],
                schema=self.table.schema,
            )
            merge = self.table.merge_insert("person_id").when_matched_update_all().when_not_matched_insert_all()
            merge.execute(rows)
        return len(changed)

    def finish(self, meta: GalleryMeta, ledger: pa.Table) -> None:
        """End an enrolment: remember its settings, take its ledger in, join small files; inside `writing`.

        Args:
            ledger: columns of LEDGER; replaces the earlier rows of its people and of photos without a person.
        """
        assert self._writing
        if meta.threshold is None:
            meta = replace(meta, threshold=self.meta.threshold)
        self.meta = meta
        write_meta(self.folder, meta)
        before = self.ledger()
        others = pc.and_(
            pc.is_valid(before["person"]), pc.invert(pc.is_in(before["person"], ledger["person"].combine_chunks()))
        )
        self._write_ledger(pa.concat_tables([before.filter(others), ledger]))
        self.table.optimize(cleanup_older_than=KEPT)

    def ledger(self) -> pa.Table:
        """What became of each photo in its person's latest enrolment; columns of LEDGER."""
        path = self.folder / "ledger.parquet"
        if not path.exists():
            return LEDGER.empty_table()
        try:
            return pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{path}: damaged ({error}); remove it and enroll again") from error

    def delete(self, person_id: str) -> bool:
        """Erase a person: no byte of template, id or photo names stays in the folder; inside `writing`.

        The cost is that of rewriting the gallery. Readers that still use an earlier version fail. What the
        file system itself keeps of removed files is not touched.

        Returns:
            Whether the person was enrolled.
        """
        assert self._writing
        enrolled = bool(self.table.delete(f"person_id = {_quoted(person_id)}").num_deleted_rows)
        # LanceDB hides deleted rows, compacts them away only where they are many, and notes the condition above in
        # its newest transaction. An update that changes nothing writes every file and that note anew.
        self.table.update(where="true", values_sql={"photos": "photos"})
        with warnings.catch_warnings():
            # It warns that earlier versions go at once: that is what is asked for.
            warnings.filterwarnings("ignore", message="optimize.cleanup_older_than=0", category=UserWarning)
            self.table.optimize(cleanup_older_than=datetime.timedelta(0), delete_unverified=True)
        ledger = self.ledger()
        self._write_ledger(ledger.filter(pc.fill_null(pc.not_equal(ledger["person"], person_id), True)))
        return enrolled

    def _write_ledger(self, ledger: pa.Table) -> None:
        with atomic_write(self.folder / "ledger.parquet") as file:
            pq.write_table(ledger, file)


def _check_model(folder: Path, meta: GalleryMeta, model_id: str) -> None:
    if model_id != meta.model_id:
        raise UserError(
            f"{folder}: its templates are of model {meta.model_id}, these embeddings of model {model_id}, and the two "
            f"can't be compared; embed the photos again with 'facekd embed --model {meta.model}', or enroll everybody "
            "into a new gallery with the other model"
        )


def _quoted(text: str) -> str:
    """`text` as a literal of LanceDB's SQL."""
    return "'" + text.replace("'", "''") + "'"
