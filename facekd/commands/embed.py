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
    from facekd.ingest.embedding import EmbedSummary

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

    OUT holds the columns id, identity, source and embedding, int_id and uuid for databases, and says which model made
    them. OUT.failures.parquet lists the photos without an embedding and the reasons. Given again, it embeds only what
    is new or has changed, takes out what is gone, and goes on where a killed run stopped. Exits with 1 when a photo
    gave no embedding.

    Example: facekd embed --model student.onnx photos/ embeddings.parquet

    Args:
        src: A crop store, image Parquet, .rec, or photos: a folder, zip or tar, or one photo.
        out: The .parquet or .npz file to write.
        quiet: Print nothing.
    """
    from facekd.crops.read import crops_at
    from facekd.deploy.embeddings import check_out, write_embeddings
    from facekd.engines.mapper import mapper
    from facekd.ingest.alignment import detector_of
    from facekd.ingest.earlier import (
        FAILURES,
        SETTINGS,
        embedded,
        part_rows,
        parted,
        placed,
        plan_of,
        read_earlier,
        settings_text,
        write_failures,
    )
    from facekd.ingest.embedding import crop_work, part_schema, photo_work, summary_of
    from facekd.ingest.parts import missing_items, part_paths, parts_folder, write_parts
    from facekd.ingest.photos import in_batches, load_embedder, own_model, photos_at, tell_of_others

    check_out(out)
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
        found = photos_at(src)
        tell_of_others(found, quiet)
        work = photo_work(found.photos, embedder, make_embedder, faces)
        config |= flat(faces)
    settings = settings_text(work.settings)
    with parts_folder(out) as folder:
        earlier = read_earlier(out, settings, work.by, quiet)
        plan = plan_of(work.asked, earlier)
        if earlier.rows:
            say(f"{out}: {plan}", quiet)
        left = plan.todo
        if earlier.whole and not left and not plan.gone:
            rows = [row for rows in plan.kept if rows is not None for row in rows]
            return _print(summary_of(out, embedder.model_id, 0, *parted(rows)), quiet)
        if crops is None and left:
            detector_of(faces)  # wrong weights are the user's mistake: said before the first photo
        paths = part_paths(folder, settings, [repr(work.asked[place]) for place in left])
        todo = list(missing_items(paths, len(left)))
        if len(todo) < len(left):
            say(f"{out}: {len(left) - len(todo)} of {len(left)} are embedded already", quiet)
        batches = in_batches((work.items[left[place]] for place in todo), work.batch)
        sizes = (min(work.batch, len(todo) - start) for start in range(0, len(todo), work.batch))
        results = zip(sizes, on_engine(work.function, batches), strict=True)
        done = write_parts(paths, len(left), results, part_schema(embedder.contract.dim))
        for _ in progress(done, len(todo), "embed", quiet, unit=work.batch):
            pass
        kept, without = parted(placed(work.asked, plan, part_rows(paths), work.by))
        made = {SETTINGS: settings, FAILURES: write_failures(out, without)}
        run = {"command": "embed", "config": config, "environment": environment((model, src))}
        write_embeddings(out, embedded(kept, embedder.contract), embedder.contract, json.dumps(run, default=str), made)
    return _print(summary_of(out, embedder.model_id, len(todo), kept, without), quiet)


def _print(summary: EmbedSummary, quiet: bool) -> EmbedSummary:
    say(f"{summary.out}: {summary.embeddings} embeddings of model {summary.model_id}", quiet)
    if summary.duplicates:
        say(f"{summary.duplicates} photos hold the same bytes as another and are not repeated", quiet)
    if summary.failed:
        counts = Counter(one.status for one in summary.failed)
        kinds = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        say(f"{len(summary.failed)} photos gave no embedding ({kinds}):", quiet)
        say_first([f"{one.source}: {one.status}, {one.reason}" for one in summary.failed], SHOWN, quiet)
        say(f"all of them, with the reasons: {summary.failures}", quiet)
    return summary
