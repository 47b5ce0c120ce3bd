"""facekd embed: crops or photos in, unit embeddings out."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import progress, say
from facekd.core.choices import DETECTOR, Choice, DetectorName, Engine
from facekd.core.run import environment
from facekd.engines.mapper import mapper
from facekd.ingest.alignment import BATCH
from facekd.ingest.parts import missing_items, part_paths, parts_folder, write_parts
from facekd.ingest.photos import (
    Search,
    absolute,
    embed_batch,
    in_batches,
    load_embedder,
    own_model,
    photos_at,
)
from facekd.settings.door import door

if TYPE_CHECKING:
    import pyarrow as pa

    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import Embedded
    from facekd.ingest.photos import Embedded as EmbeddedPhoto
    from facekd.photos.find import PhotoFile

CROPS = 64  # crops embedded together
SHOWN = 20  # failed photos that are listed


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """The file, and the photos that are not in it."""

    out: Path
    model_id: str
    embeddings: int
    new: int  # photos or crops embedded by this run; a killed one had done the others
    duplicates: int  # photos whose very bytes came before
    failed: tuple[tuple[str, str, str], ...]  # source, status, reason

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be embedded, and how."""

    function: Callable[[Sequence[Any]], pa.Table]  # items to rows of `part_schema`
    items: Sequence[Any]  # photos, or places of crops
    stamps: Sequence[str]  # of the items
    settings: dict[str, object]  # that the embeddings depend on
    batch: int  # items embedded together


@door
def embed(
    src: Path,
    out: Path,
    *,
    model: Path | None = None,
    contract: Path | None = None,
    detector: DetectorName = DETECTOR,
    weights: Path | None = None,
    min_face: int = 20,
    choose: Choice = "best",
    engine: Engine = "local",
    address: str | None = None,
    quiet: bool = False,
) -> EmbedSummary:
    """Embed crops, or photos that are aligned on the way.

    OUT holds the columns id, identity, source and embedding, and says which model made them. A killed run goes on
    where it stopped when it is given again. Exits with 1 when a photo gave no embedding.

    Example: facekd embed --model student.onnx photos/ embeddings.parquet

    Args:
        src: A crop store, image Parquet, .rec, or photos: a folder, zip or tar, or one photo.
        out: The .parquet or .npz file to write.
        model: Run folder or ONNX file; the one that comes with facekd unless given.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        detector: For photos: yunet, mtcnn, facenet; none, where each photo already is a crop.
        weights: Another ONNX file of yunet's than the one that comes with facekd.
        min_face: Smallest face looked for in photos, pixels.
        choose: Which face of several in a photo is embedded.
        engine: local, on the cores of this machine; ray, on a Ray cluster.
        address: The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines
            need facekd, and the photos, model and weights at the same paths.
        quiet: Print nothing.
    """
    from facekd.crops.read import crops_at
    from facekd.deploy.embeddings import check_suffix, write_embeddings

    check_suffix(out)
    model = model or own_model(quiet)
    on_engine = mapper(engine, address)
    if engine == "ray":  # its workers run in other folders
        src, model = src.absolute(), model.absolute()
        contract, weights = (path and path.absolute() for path in (contract, weights))
    embedder = load_embedder(model, contract)
    config: dict[str, object] = {"src": src, "out": out, "model": model, "contract": contract, "engine": engine}
    make_embedder = partial(load_embedder, model, contract)
    crops = crops_at(src)
    if crops is not None:
        work = _crop_work(crops, embedder, make_embedder)
    else:
        search = Search(detector, weights, min_face, choose)
        search.check()
        work = _photo_work(photos_at(src).photos, embedder, make_embedder, search)
        config |= asdict(search)
    ledger: list[tuple[str, str, str]] = []  # photos that gave no embedding of their own
    run = {"command": "embed", "config": config, "environment": environment((model, src))}
    with parts_folder(out) as folder:
        paths = part_paths(folder, json.dumps(work.settings, default=str), work.stamps)
        todo = list(missing_items(paths, len(work.items)))
        if len(todo) < len(work.items):
            say(f"{out}: {len(work.items) - len(todo)} of {len(work.items)} are embedded already", quiet)
        batches = in_batches((work.items[place] for place in todo), work.batch)
        results = on_engine(partial(_counted, work.function), batches)
        done = write_parts(paths, len(work.items), results, part_schema(embedder.contract.dim))
        for _ in progress(done, len(todo), "embed", quiet, unit=work.batch):
            pass
        pieces = _joined(paths, embedder.model_id, ledger)
        total = write_embeddings(out, pieces, embedder.contract, json.dumps(run, default=str))
    failed = tuple(row for row in ledger if row[1] != "duplicate")
    summary = EmbedSummary(out, embedder.model_id, total, len(todo), len(ledger) - len(failed), failed)
    _print(summary, quiet)
    return summary


def part_schema(dim: int) -> pa.Schema:
    """Of a part: a row for each face, and one without id for a photo that gave none."""
    import pyarrow as pa

    names = ("source", "identity", "sha256", "status", "reason", "id")
    return pa.schema([*((name, pa.string()) for name in names), ("embedding", pa.list_(pa.float32(), dim))])


def _counted(function: Callable[[Sequence[Any]], pa.Table], items: Sequence[Any]) -> tuple[int, pa.Table]:
    return len(items), function(items)


def _photo_work(
    files: Sequence[PhotoFile], embedder: Embedder, make_embedder: Callable[[], Embedder], search: Search
) -> _Work:
    from facekd.photos.find import stamp

    function = partial(_embed_files, make_embedder=make_embedder, search=search)
    settings = {**asdict(search), "weights": search.weights_digest(), "model_id": embedder.model_id}
    stamps = [f"{file.source}\t{file.identity}\t{stamp(file)}" for file in files]
    return _Work(function, absolute(files), stamps, settings, BATCH)


def _embed_files(files: Sequence[PhotoFile], *, make_embedder: Callable[[], Embedder], search: Search) -> pa.Table:
    """The rows of some photos."""
    embedded = embed_batch(
        files,
        make_embedder=make_embedder,
        make_detector=search.maker(),
        choose=search.choose,
        min_face=search.min_face,
    )
    return photo_rows(embedded, make_embedder().contract.dim)


def photo_rows(embedded: Iterable[EmbeddedPhoto], dim: int) -> pa.Table:
    """Photos as rows of `part_schema`."""
    import numpy as np

    rows: list[dict[str, str | None]] = []
    vectors = [np.zeros((0, dim), np.float32)]
    for record, own in embedded:
        common = {name: getattr(record, name) for name in ("source", "identity", "sha256", "status", "reason")}
        if record.status != "ok":
            rows.append({**common, "id": None})
            vectors.append(np.zeros((1, dim), np.float32))
            continue
        rows += [{**common, "id": crop["crop_id"]} for crop in record.crops]
        vectors.append(own)
    return _table(rows, np.concatenate(vectors), part_schema(dim))


def _table(rows: list[dict[str, str | None]], vectors: Any, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = [pa.array([row[name] for row in rows], pa.string()) for name in schema.names[:-1]]
    without = pa.array([row["id"] is None for row in rows])
    dim = schema.field("embedding").type.list_size
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim, mask=without))
    return pa.Table.from_arrays(columns, schema=schema)


def _crop_work(src: Path, embedder: Embedder, make_embedder: Callable[[], Embedder]) -> _Work:
    crops = _crops(src)
    crops.check_fits(embedder.contract)
    function = partial(_embed_crops, src=src, make_embedder=make_embedder)
    made = (src / "store.json").read_text(encoding="utf-8") if src.is_dir() else src.stat().st_mtime_ns
    settings: dict[str, object] = {"made": made, "model_id": embedder.model_id}
    stamps = [f"{one}\t{who}\t{of}" for one, who, of in zip(crops.ids, crops.identities, crops.sources, strict=True)]
    return _Work(function, range(len(crops)), stamps, settings, CROPS)


@functools.lru_cache(maxsize=1)
def _opened(src: Path, changed: int) -> CropSet:
    from facekd.crops.read import read_crops

    return read_crops(src)


def _crops(src: Path) -> CropSet:
    """The crops at `src`, opened once in each process."""
    path = src / "ledger" if src.is_dir() else src
    return _opened(src, path.stat().st_mtime_ns if path.exists() else 0)


def _embed_crops(places: Sequence[int], *, src: Path, make_embedder: Callable[[], Embedder]) -> pa.Table:
    """The rows of the crops at some places of a crop store or image Parquet."""
    import numpy as np

    from facekd.core.types import Embeddings

    crops, embedder = _crops(src), make_embedder()
    ids = tuple(crops.ids[place] for place in places)
    made = Embeddings(embedder.embed(crops.batch(np.asarray(places))), ids, embedder.model_id)
    fixed = {"sha256": None, "status": "ok", "reason": ""}
    rows = [
        {"source": crops.sources[place], "identity": crops.identities[place], "id": crops.ids[place], **fixed}
        for place in places
    ]
    return _table(rows, made.vectors, part_schema(embedder.contract.dim))


def _joined(paths: Sequence[Path], model_id: str, ledger: list[tuple[str, str, str]]) -> Iterator[Embedded]:
    """The embeddings in the parts; photos that give none, and those whose bytes came before, go to `ledger`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from facekd.core.types import Embeddings
    from facekd.deploy.embeddings import Embedded, vectors_of

    first: dict[str, str] = {}  # the photo that each digest was seen at first
    for path in paths:
        rows = pq.read_table(path)
        kept = []
        for place, row in enumerate(rows.select(["source", "sha256", "status", "reason", "id"]).to_pylist()):
            source = row["source"]
            if row["status"] != "ok":
                ledger.append((source, row["status"], row["reason"]))
            elif row["sha256"] is None or first.setdefault(row["sha256"], source) == source:
                kept.append(place)
            elif not ledger or ledger[-1][0] != source:  # once for all faces of the photo
                ledger.append((source, "duplicate", f"the same bytes as {first[row['sha256']]}"))
        rows = rows.take(pa.array(kept, pa.int64()))  # typed: an empty list has no type of its own
        embeddings = Embeddings(vectors_of(rows), tuple(rows["id"].to_pylist()), model_id)
        yield Embedded(embeddings, tuple(rows["identity"].to_pylist()), tuple(rows["source"].to_pylist()))


def list_failed(failed: Sequence[tuple[str, str, str]], quiet: bool) -> None:
    """Say which photos failed and why, the first of them where they are many."""
    for source, status, reason in failed[:SHOWN]:
        say(f"  {source}: {status}, {reason}", quiet)
    if len(failed) > SHOWN:
        say(f"  … and {len(failed) - SHOWN} more", quiet)


def _print(summary: EmbedSummary, quiet: bool) -> None:
    say(f"{summary.out}: {summary.embeddings} embeddings of model {summary.model_id}", quiet)
    if summary.duplicates:
        say(f"{summary.duplicates} photos hold the same bytes as another and are not repeated", quiet)
    if summary.failed:
        counts = Counter(status for _, status, _ in summary.failed)
        kinds = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        say(f"{len(summary.failed)} photos gave no embedding ({kinds}):", quiet)
        list_failed(summary.failed, quiet)
