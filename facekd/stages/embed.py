"""facekd embed: crops or photos in, unit embeddings out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.run import environment
from facekd.errors import UserError
from facekd.stages.align import BATCH, Choice, DetectorName, align_batch, detector_maker
from facekd.stages.console import progress, say

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.store import PhotoRecord
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import Embedded
    from facekd.photos.find import Found, PhotoFile

CROPS = 64  # crops embedded together
SHOWN = 20  # failed photos that are listed


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """The file, and the photos that are not in it."""

    out: Path
    model_id: str
    embeddings: int
    duplicates: int  # photos whose very bytes came before
    failed: tuple[tuple[str, str, str], ...]  # source, status, reason

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def embed(
    src: Path,
    out: Path,
    *,
    model: Path,
    contract: Path | None = None,
    detector: DetectorName = "mtcnn",
    weights: Path | None = None,
    min_face: int = 20,
    choose: Choice = "best",
    quiet: bool = False,
) -> EmbedSummary:
    """Embed crops, or photos that are aligned on the way.

    OUT holds the columns id, identity, source and embedding, and says which model made them. Exits with 1 when a
    photo gave no embedding.

    Example: facekd embed --model student.onnx photos/ embeddings.parquet

    Args:
        src: A crop store, image Parquet, or photos: a folder, zip or tar, or one photo.
        out: The .parquet or .npz file to write.
        model: Run folder or ONNX file.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        detector: For photos: mtcnn, facenet, yunet; none, where each photo already is a crop.
        weights: The ONNX file of yunet.
        min_face: Smallest face looked for in photos, pixels.
        choose: Which face of several in a photo is embedded.
        quiet: Print nothing.
    """
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import write_embeddings

    embedder = Embedder.load(model, contract)
    config: dict[str, object] = {"src": src, "out": out, "model": model, "contract": contract}
    ledger: list[PhotoRecord] = []  # photos that gave no embedding of their own
    if (src / "store.json").exists() or src.suffix == ".parquet":
        pieces = _crop_embeddings(src, embedder, quiet)
    else:
        found = photos_at(src)
        config |= {"detector": detector, "weights": weights, "min_face": min_face, "choose": choose}
        embedded = embed_photos(
            found.photos,
            embedder,
            detector=detector,
            weights=weights,
            min_face=min_face,
            choose=choose,
            label="embed",
            quiet=quiet,
        )
        pieces = _photo_embeddings(embedded, embedder.model_id, ledger)
    run = {"command": "embed", "config": config, "environment": environment((model, src))}
    total = write_embeddings(out, pieces, embedder.contract, json.dumps(run, default=str))
    failed = tuple((r.source, r.status, r.reason) for r in ledger if r.status != "duplicate")
    summary = EmbedSummary(out, embedder.model_id, total, len(ledger) - len(failed), failed)
    _print(summary, quiet)
    return summary


def photos_at(path: Path) -> Found:
    """The photos in a folder, zip or tar, or the one photo at `path`.

    Raises:
        UserError: there is none.
    """
    from facekd.photos.find import SUFFIXES, find_photos, one_photo

    return one_photo(path) if path.is_file() and path.suffix.lower() in SUFFIXES else find_photos(path)


def embed_photos(
    files: Sequence[PhotoFile],
    embedder: Embedder,
    *,
    detector: DetectorName,
    weights: Path | None,
    min_face: int,
    choose: Choice,
    label: str,
    quiet: bool,
) -> Iterator[tuple[PhotoRecord, Array]]:
    """Read, align and embed photos, a few at a time; each comes back in order, none is an exception.

    Detection runs ahead on all cores. A face for which the network gives no direction is left out; a photo
    left without any has the status ``no_embedding``.

    Returns:
        For each photo its record and float32[n, D] of unit norm, one row for each of its ``crops``.

    Raises:
        UserError: an unknown detector, or weights that it lacks.
    """
    from facekd.engines.local import batches, cores, map_ordered

    make_detector = detector_maker(detector, weights, min_face)
    make_detector()  # wrong weights are the user's mistake: say so before the first photo
    size = embedder.contract.size
    function = partial(align_batch, make_detector=make_detector, choose=choose, min_face=min_face, size=size)

    def results() -> Iterator[tuple[PhotoRecord, Array]]:
        aligned = map_ordered(function, batches(files, BATCH), cores())
        for records in progress(aligned, len(files), label, quiet, unit=BATCH):
            yield from _embed_records(records, embedder)

    return results()


def _embed_records(records: Sequence[PhotoRecord], embedder: Embedder) -> Iterator[tuple[PhotoRecord, Array]]:
    import numpy as np

    from facekd.core.pixels import decode_crop

    crops = [decode_crop(crop["image"]) for record in records for crop in record.crops]
    size = embedder.contract.size
    vectors = embedder.embed(np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8))
    start = 0
    for record in records:
        own = vectors[start : start + len(record.crops)]
        start += len(record.crops)
        good = np.abs(np.linalg.norm(own, axis=1) - 1) < 1e-3  # NaN compares false
        if record.crops and not good.any():
            record.status, record.reason = "no_embedding", "the model gives zero or no finite numbers for its face"
        record.crops = [crop for crop, is_good in zip(record.crops, good, strict=True) if is_good]
        yield record, own[good]


def _crop_embeddings(src: Path, embedder: Embedder, quiet: bool) -> Iterator[Embedded]:
    """The embeddings of a crop store or image Parquet, in its order."""
    import numpy as np

    from facekd.core.types import Embeddings
    from facekd.crops.read import read_crops
    from facekd.deploy.embeddings import Embedded

    crops = read_crops(src)
    if (crops.template, crops.size) != (embedder.contract.template, embedder.contract.size):
        raise UserError(
            f"{src}: holds {crops.template} crops of {crops.size} pixels, the model takes {embedder.contract.template} "
            f"crops of {embedder.contract.size}; align the photos again with --size {embedder.contract.size}"
        )

    def results() -> Iterator[Embedded]:
        starts = range(0, len(crops), CROPS)
        for start in progress(starts, len(crops), "embed", quiet, unit=CROPS):
            here = slice(start, start + CROPS)
            vectors = embedder.embed(crops.batch(np.arange(start, min(start + CROPS, len(crops)))))
            embeddings = Embeddings(vectors, crops.ids[here], embedder.model_id)
            yield Embedded(embeddings, crops.identities[here], crops.sources[here])

    return results()


def _photo_embeddings(
    embedded: Iterator[tuple[PhotoRecord, Array]], model_id: str, ledger: list[PhotoRecord]
) -> Iterator[Embedded]:
    """The embeddings of photos; those that give none, and those whose bytes came before, go to `ledger`."""
    from facekd.core.types import Embeddings
    from facekd.deploy.embeddings import Embedded

    seen: set[str | None] = set()
    for record, vectors in embedded:
        if record.status == "ok" and record.sha256 in seen:
            record.status = "duplicate"
        if record.status != "ok":
            record.crops = []
            ledger.append(record)
            continue
        seen.add(record.sha256)
        ids = tuple(crop["crop_id"] for crop in record.crops)
        n = len(ids)
        yield Embedded(Embeddings(vectors, ids, model_id), (record.identity,) * n, (record.source,) * n)


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
