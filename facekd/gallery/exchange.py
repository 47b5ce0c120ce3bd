"""Templates as files: Parquet, plain or encrypted, which another gallery takes in; and an index for FAISS."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.contract import Contract
from facekd.core.files import atomic_write, write_bytes, write_json
from facekd.core.formats import KEY, check_format
from facekd.core.tables import sound
from facekd.core.types import Embeddings
from facekd.errors import UserError
from facekd.gallery.gallery import LEDGER, GalleryTable, Person
from facekd.gallery.meta import GalleryMeta, from_values, to_values
from facekd.gallery.people import people_schema, to_people, to_table
from facekd.gallery.protect import Sealing, is_encrypted, open_sealed

CONTRACT, SETTINGS = b"facekd.contract", b"facekd.gallery"  # keys in the schema's metadata


def write_parquet(gallery: GalleryTable, out: Path, key: bytes | None = None) -> int:
    """Write everybody's id, template, photo names, quality and metadata to `out`; encrypted where a key is given.

    Returns:
        How many people there are.
    """
    with atomic_write(out) as file:
        if key is None:
            return _write(gallery, file)
        with Sealing(file, key) as sealing:
            return _write(gallery, sealing)


def needs_key(path: Path) -> bool:
    """Whether an export is encrypted.

    Raises:
        UserError: it can't be read.
    """
    try:
        with open(path, "rb") as file:
            return is_encrypted(file.read(64))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error


def read_parquet(path: Path, key: bytes | None = None) -> tuple[GalleryMeta, list[Person]]:
    """The people that `write_parquet` wrote, and what their gallery was bound to.

    Raises:
        UserError: no such file, another kind of file, a key missing or wrong, or a changed file.
    """
    if needs_key(path) and key is None:
        raise UserError(f"{path}: is encrypted; give its key with --key-file or in FACEKD_KEY")
    try:
        table = sound(pq.read_table(path if key is None else pa.BufferReader(open_sealed(path, key))))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: no readable export of a gallery ({str(error).splitlines()[0]})") from error
    metadata = table.schema.metadata or {}
    if CONTRACT not in metadata or SETTINGS not in metadata:
        raise UserError(f"{path}: no export of a gallery, though a Parquet file; make one with 'facekd gallery export'")
    settings = json.loads(metadata[SETTINGS])
    check_format("gallery", settings.get(KEY), path)
    contract = Contract.from_mapping(json.loads(metadata[CONTRACT]), str(path))
    meta = from_values(settings, contract, str(path))
    if not table.schema.remove_metadata().equals(people_schema(contract.dim)):
        raise UserError(f"{path}: its columns are not those of an export; export the gallery again")
    people = to_people(table)
    ids = [person.person_id for person in people]
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: names a person twice; export the gallery again")
    if people:
        Embeddings(np.stack([person.template for person in people]), tuple(ids), contract.model_id)  # unit norm
    return meta, people


def take_in(gallery: GalleryTable, people: list[Person], size: int = 4096) -> Iterator[int]:
    """Enroll exported people, some at a time; inside `writing`.

    Returns:
        For each of these lots how many of them were new or different.
    """
    for start in range(0, len(people), size):
        yield gallery.upsert(people[start : start + size])
    rows = [
        {"source": source, "person": person.person_id, "status": "ok", "reason": "imported"}
        for person in people
        for source in person.sources
    ]
    strays = [row for row in gallery.ledger().to_pylist() if row["person"] is None]
    gallery.finish(gallery.meta, pa.Table.from_pylist([*strays, *rows], LEDGER))


def write_faiss(gallery: GalleryTable, out: Path) -> tuple[int, Path]:
    """Write an ``IndexFlatIP`` of everybody's templates to `out`; the id of each row as a JSON list beside it.

    Returns:
        How many people there are, and the file of their ids.

    Raises:
        UserError: faiss is not installed, or a file can't be written.
    """
    try:
        import faiss
    except ImportError as error:
        raise UserError(f"{out}: needs the package faiss-cpu; run: pip install 'facekd[gallery]'") from error
    flat = faiss.IndexFlatIP(gallery.meta.contract.dim)
    ids: list[str] = []
    for people in gallery.everyone():
        flat.add(np.stack([person.template for person in people]))
        ids += [person.person_id for person in people]
    beside = out.with_name(out.name + ".ids.json")
    write_bytes(out, faiss.serialize_index(flat).tobytes())
    write_json(beside, {"model_id": gallery.meta.model_id, "metric": "inner product of unit vectors", "ids": ids})
    return len(ids), beside


def _write(gallery: GalleryTable, file: IO[bytes] | Sealing) -> int:
    contract = gallery.meta.contract
    metadata = {CONTRACT: contract.to_json(), SETTINGS: json.dumps(to_values(gallery.meta))}
    schema = people_schema(contract.dim).with_metadata(metadata)
    now = datetime.datetime.now(datetime.UTC)
    total = 0
    with pq.ParquetWriter(file, schema) as writer:
        for people in gallery.everyone():
            writer.write_table(to_table(people, contract.dim, now).cast(schema))
            total += len(people)
    return total
