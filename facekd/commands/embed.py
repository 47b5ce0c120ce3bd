"""facekd embed: crops or photos in, unit embeddings out."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import progress, say, say_first
from facekd.core.run import environment
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import EmbeddedFaces, ModelFile
from facekd.settings.runtime import Cluster

if TYPE_CHECKING:
    from facekd.ingest.embedding import EmbedSummary, Outcome

SHOWN = 20  # failed photos that are listed


@door
def embed(
    src: Path,
    out: Path,
    *,
    network: ModelFile = ModelFile(),
    faces: EmbeddedFaces = EmbeddedFaces(),
    cluster: Cluster = Cluster(),
    quiet: bool = False,
) -> EmbedSummary:
    """Embed crops, or photos that are aligned on the way.

    OUT holds the columns id, identity, source and embedding, and says which model made them. A killed run goes on
    where it stopped when it is given again. Exits with 1 when a photo gave no embedding.

    Example: facekd embed --model student.onnx photos/ embeddings.parquet

    Args:
        src: A crop store, image Parquet, .rec, or photos: a folder, zip or tar, or one photo.
        out: The .parquet or .npz file to write.
        quiet: Print nothing.
    """
    from facekd.crops.read import crops_at
    from facekd.deploy.embeddings import check_suffix, write_embeddings
    from facekd.engines.mapper import mapper
    from facekd.ingest.alignment import detector_of
    from facekd.ingest.embedding import EmbedSummary, crop_work, part_schema, photo_work, read_parts
    from facekd.ingest.parts import missing_items, part_paths, parts_folder, write_parts
    from facekd.ingest.photos import in_batches, load_embedder, own_model, photos_at, tell_of_others

    check_suffix(out)
    model, contract = network.model or own_model(quiet), network.contract
    on_engine = mapper(cluster.engine, cluster.address)
    if cluster.engine == "ray":  # its workers run in other folders
        src, model, contract = src.absolute(), model.absolute(), contract and contract.absolute()
        faces = replace(faces, weights=faces.weights and faces.weights.absolute())
    embedder = load_embedder(model, contract)
    make_embedder = partial(load_embedder, model, contract)
    config = {"src": src, "out": out, "model": model, "contract": contract, "engine": cluster.engine}
    crops = crops_at(src)
    if crops is not None:
        work = crop_work(crops, embedder, make_embedder)
    else:
        detector_of(faces)  # wrong weights are the user's mistake: said before the first photo
        found = photos_at(src)
        tell_of_others(found, quiet)
        work = photo_work(found.photos, embedder, make_embedder, faces)
        config |= flat(faces)
    ledger: list[Outcome] = []  # photos that gave no embedding of their own
    run = {"command": "embed", "config": config, "environment": environment((model, src))}
    with parts_folder(out) as folder:
        paths = part_paths(folder, json.dumps(work.settings, default=str), work.stamps)
        todo = list(missing_items(paths, len(work.items)))
        if len(todo) < len(work.items):
            say(f"{out}: {len(work.items) - len(todo)} of {len(work.items)} are embedded already", quiet)
        batches = in_batches((work.items[place] for place in todo), work.batch)
        sizes = (min(work.batch, len(todo) - start) for start in range(0, len(todo), work.batch))
        results = zip(sizes, on_engine(work.function, batches), strict=True)
        done = write_parts(paths, len(work.items), results, part_schema(embedder.contract.dim))
        for _ in progress(done, len(todo), "embed", quiet, unit=work.batch):
            pass
        pieces = read_parts(paths, embedder.model_id, ledger)
        total = write_embeddings(out, pieces, embedder.contract, json.dumps(run, default=str))
    failed = tuple(outcome for outcome in ledger if outcome.status != "duplicate")
    summary = EmbedSummary(out, embedder.model_id, total, len(todo), len(ledger) - len(failed), failed)
    _print(summary, quiet)
    return summary


def _print(summary: EmbedSummary, quiet: bool) -> None:
    say(f"{summary.out}: {summary.embeddings} embeddings of model {summary.model_id}", quiet)
    if summary.duplicates:
        say(f"{summary.duplicates} photos hold the same bytes as another and are not repeated", quiet)
    if summary.failed:
        counts = Counter(one.status for one in summary.failed)
        kinds = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        say(f"{len(summary.failed)} photos gave no embedding ({kinds}):", quiet)
        say_first([f"{one.source}: {one.status}, {one.reason}" for one in summary.failed], SHOWN, quiet)
