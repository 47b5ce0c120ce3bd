"""facekd cluster: faces that nobody has named in, people out, to be looked at, named, enrolled and trained on."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import progress, say
from facekd.core.process import hold_folder
from facekd.core.run import start_run
from facekd.errors import UserError
from facekd.settings.clustering import ClusterFiles, OnePerson
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.photos import ModelFile, UnnamedFaces

if TYPE_CHECKING:
    from facekd.enrollment.unnamed import Gathered


@dataclass(frozen=True, slots=True)
class ClusterSummary:
    """What was found."""

    out: Path
    faces: int
    clusters: int  # of two faces or more
    alone: int  # faces
    unsure: int  # faces in clusters whose mean cosine with the others is under the threshold
    threshold: float  # cosine from which two faces that are alone show one person


@dataclass(frozen=True, slots=True)
class NamedSummary:
    """What became of the names."""

    out: Path
    people: int
    faces: int  # of them
    listed: int | None  # in named.csv; None where there are no photos to enroll
    trained: int | None  # in named.parquet; None where there are no crops


@door
def cluster(
    src: Path,
    *,
    files: ClusterFiles,
    embeddings: Path | None = None,
    network: ModelFile = ModelFile(),
    faces: UnnamedFaces = UnnamedFaces(),
    decision: OnePerson = OnePerson(),
    quiet: bool = False,
) -> ClusterSummary | NamedSummary:
    """Sort faces of unnamed photos into people.

    OUT/people.csv has a line for each face, cluster by cluster, with an empty name to fill in: one name in a cluster is
    everybody's there, the same name in two makes one person of them, and - leaves a face out. OUT/clusters.html shows
    them, the unsure ones marked. The same command with --names OUT/people.csv then writes OUT/named.csv for 'facekd
    enroll' and OUT/named.parquet for --data. Photos are aligned into OUT/crops first.

    Every face is compared with every other: 100,000 take minutes once they are embedded.

    Example: facekd cluster crops/ --out people/

    Example: facekd cluster crops/ --out people/ --names people/people.csv

    Args:
        src: A crop store, image Parquet or .rec; a file of 'facekd embed', without faces to show; or photos: a folder,
            zip or tar.
        embeddings: What 'facekd embed' made of these crops, in place of embedding them now.
        quiet: Print nothing.
    """
    from facekd.enrollment import clustered

    clustered.open_folder(files.out)
    if files.names is not None:
        return _name(src, files, quiet)
    clustered.refuse_names(files.out)
    found = _faces(src, files.out, embeddings, network, faces, decision, quiet)
    if len(found.sources) < 2:
        count = "one" if found.sources else "no"
        raise UserError(f"{src}: holds {count} face; it takes two or more to sort them into people")
    settings = flat(files, network, faces, decision, src=src, embeddings=embeddings)
    hold_folder(files.out)
    start_run(files.out, "cluster", settings, tuple(filter(None, (src, network.model))))
    return _cluster(found, src, files, decision, quiet)


def _faces(
    src: Path,
    out: Path,
    embeddings: Path | None,
    network: ModelFile,
    search: UnnamedFaces,
    decision: OnePerson,
    quiet: bool,
) -> Gathered:
    """The faces at `src`; of photos, of their crops in OUT/crops."""
    from facekd.enrollment.clustered import ALIGNED
    from facekd.enrollment.unnamed import faces_of_crops, faces_of_embeddings, holds_embeddings, is_photos

    if holds_embeddings(src):
        if embeddings is not None:
            raise UserError(f"{src}: is a file of embeddings itself; leave --embeddings out")
        return faces_of_embeddings(src, network, decision)
    if is_photos(src):
        from facekd.commands.align import align
        from facekd.ingest.photos import load_embedder, own_model

        if embeddings is not None:
            raise UserError(f"{src}: holds photos; --embeddings is of crops, so give the crops, or leave it out")
        network = replace(network, model=network.model or own_model(quiet))
        size = load_embedder(network.model, network.contract).contract.size  # type: ignore[arg-type]  # not None
        align(src, out / ALIGNED, **flat(search), size=size, identity_from="parent", quiet=quiet)
        src = out / ALIGNED
    return faces_of_crops(src, network, embeddings, decision, quiet)


def _cluster(found: Gathered, src: Path, files: ClusterFiles, decision: OnePerson, quiet: bool) -> ClusterSummary:
    import numpy as np

    from facekd.enrollment.cluster_sheet import write_sheet
    from facekd.enrollment.clustered import PEOPLE, SHEET, write_people
    from facekd.enrollment.clusters import cluster_faces

    result = cluster_faces(found.embeddings.vectors, found.thresholds, decision.threshold, quiet)
    out = files.out
    write_people(out / PEOPLE, found, result)
    again = f"facekd cluster {shlex.quote(str(src))} --out {shlex.quote(str(out))}"
    write_sheet(out / SHEET, found, result, files.show, not files.no_faces, again)
    sizes = np.bincount(result.clusters)[1:]
    summary = ClusterSummary(
        out,
        len(result.clusters),
        int((sizes > 1).sum()),
        int((sizes == 1).sum()),
        int(result.unsure.sum()),
        result.threshold,
    )
    whence = "given" if decision.threshold is not None else "from the network's thresholds and the pairs found"
    say(
        f"{summary.faces} faces: {summary.clusters} clusters of two or more (the largest of {sizes.max()}), "
        f"{summary.alone} alone, {summary.unsure} unsure; threshold {summary.threshold:.4f}, {whence}",
        quiet,
    )
    say(f"to look at: {out / SHEET}; to fill names into: {out / PEOPLE}; then: {again} --names {out / PEOPLE}", quiet)
    return summary


def _name(src: Path, files: ClusterFiles, quiet: bool) -> NamedSummary:
    """Write what the names make of the clusters."""
    from facekd.crops.read import read_crops
    from facekd.enrollment import clustered as by
    from facekd.enrollment.unnamed import holds_embeddings, is_photos

    assert files.names is not None
    out, photos = files.out, is_photos(src)
    rows = by.read_rows(files.names)
    named = by.named_faces(files.names, rows, files.unnamed)
    listed = trained = None
    if not holds_embeddings(src):
        crops = read_crops(out / by.ALIGNED if photos else src)
        trained = len(named)
        steps = by.write_training_set(out / by.TRAIN, named, crops)
        for _ in progress(steps, trained, "write", quiet, unit=by.ROWS):
            pass
    if photos or src.is_dir() or trained is None:
        listed = len(named) - by.write_list(out / by.LIST, named, rows)
    people = len({one.person for one in named})
    say(f"{len(named)} faces of {people} people", quiet)
    if listed is not None:
        root = str(src) if photos else "PHOTOS"
        several = len(named) - listed
        why = f" ({several} are in photos of several faces, which enroll can't tell apart)" if several else ""
        say(f"to enroll {listed} of them{why}: facekd enroll {out / by.LIST} GALLERY --root {root}", quiet)
    if trained is not None:
        say(f"to train on: --data {out / by.TRAIN}", quiet)
    return NamedSummary(out, people, len(named), listed, trained)
