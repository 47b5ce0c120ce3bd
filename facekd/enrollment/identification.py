"""Who the faces in photos show, by a gallery."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from facekd.console import progress, say
from facekd.core.files import sha256_file, write_text
from facekd.core.types import Embeddings
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.enrollment.answers import Box, Identification, IdentifiedFace, answer_table, without_face
from facekd.enrollment.calibration import NamedFrom, promise
from facekd.enrollment.request import search_in
from facekd.errors import UserError
from facekd.faces.detect import weights_digest
from facekd.gallery.gallery import GalleryTable, Match
from facekd.gallery.meta import check_model, exists, other_weights
from facekd.ingest.alignment import detector_of
from facekd.ingest.embedding import Outcome
from facekd.ingest.photos import EmbeddedPhoto, Item, embed_photos, in_batches, load_embedder, own_model
from facekd.nets.files import is_exported
from facekd.rates.open_set import COHORT
from facekd.settings.photos import ModelFile, check_threshold

PHOTOS = 64  # photos whose faces are searched together


def known_threshold(
    given: float | None, home: GalleryTable, gallery: Path, quiet: bool, fpir: float | None = None
) -> NamedFrom:
    """The threshold given; else the one that keeps `fpir`; else the one the gallery was enrolled with; else the one
    that keeps the gallery's promise of an FPIR.

    A network's thresholds are of one comparison and never taken for a search, which makes one with each person.

    Raises:
        UserError: none is known.
    """
    check_threshold(given)
    if given is not None:
        return NamedFrom(given)
    if home.meta.threshold is not None and fpir is None:
        return NamedFrom(home.meta.threshold)
    promised = promise(home.meta, max(1, len(home)), fpir)
    if promised is not None:
        say(promised.said(), quiet)
        return promised.named_from
    raise UserError(
        f"{gallery}: no threshold is known, so nobody can be told from a stranger: the network brings none, and the "
        "gallery is too small to measure one; take one at a FAR you accept from 'facekd verify' on a pair list and "
        "give it with --threshold, here or to 'facekd enroll'"
    )


def embedder_for(gallery: Path, network: ModelFile, quiet: bool) -> CropEmbedder:
    """The network that is asked for, else that of the gallery that is there already, else facekd's own.

    Raises:
        UserError: no such network, or a damaged gallery.
    """
    if network.model is None and network.contract is None and exists(gallery):
        home = GalleryTable.open(gallery)
        if Path(home.meta.model).exists():  # else it may be facekd's own, which is elsewhere after another install
            return gallery_embedder(home, None)
    return load_embedder(network.model or own_model(quiet), network.contract)


def gallery_embedder(
    home: GalleryTable,
    given: Path | None,
    flag: str = "--model",
    load: Callable[[Path, Path | None], CropEmbedder] = load_embedder,
) -> CropEmbedder:
    """The gallery's model, from where it was at the enrollment or from where it is `given`.

    Args:
        flag: what gives it, for the sentence.
        load: of a network's file and its contract.

    Raises:
        UserError: it is not there any more. Whether it is the gallery's is for the caller to ask.
    """
    path = given or Path(home.meta.model)
    if given is None and not path.exists():
        raise UserError(f"{home.place}: its model is no longer at {path}; say where it is with {flag}")
    # A foreign ONNX file knows nothing of its contract: the gallery kept the one it was enrolled with.
    foreign = is_exported(path) and sha256_file(path) == home.meta.contract.weights_sha256
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        contract = Path(folder) / "contract.json" if foreign else None
        if contract is not None:
            write_text(contract, home.meta.contract.to_json())
        return load(path, contract)


def changed_weights(home: GalleryTable) -> str:
    """A sentence where the detector's weights are no longer those of the enrollment, or empty.

    Raises:
        UserError: they are gone.
    """
    meta, search = home.meta, search_in(home.meta)
    if search.weights is not None and not search.weights.is_file():
        raise UserError(
            f"{home.place}: the weights of {meta.detector} that its people were enrolled with are no longer at "
            f"{search.weights}; put them back there"
        )
    if not other_weights(meta, weights_digest(search.detector_name, search.weights)):
        return ""
    return (
        f"{home.place}: its people were enrolled with other weights of {meta.detector} than those at hand (sha256 "
        f"{str(meta.weights_sha256)[:12]}…), which can lower every score; enroll everybody into a new gallery"
    )


def identify_embeddings(
    home: GalleryTable, path: Path, named_from: NamedFrom, top: int = 1, where: Mapping[str, str] | None = None
) -> Identification:
    """Who the embeddings in a file of 'facekd embed' show.

    Raises:
        UserError: no such file, another model's embeddings, or nobody to be named.
    """
    embedded = read_embeddings(path)
    return identify_vectors(home, embedded.embeddings, embedded.sources, named_from, top, where)


def identify_vectors(
    home: GalleryTable,
    faces: Embeddings,
    sources: Sequence[str],
    named_from: NamedFrom,
    top: int = 1,
    where: Mapping[str, str] | None = None,
) -> Identification:
    """Who some embeddings show; noted in the audit log.

    Args:
        sources: the photo of each.

    Raises:
        UserError: another model's embeddings, or nobody to be named.
    """
    answers = _answers(home, faces, [(source, None, None) for source in sources], named_from, top, where)
    rows = ([row for face in some for row in face.rows()] for some in in_batches(answers, PHOTOS))
    return _noted(home, named_from, answer_table(rows), len(set(sources)))


def identify_photos(
    home: GalleryTable,
    photos: Sequence[Item],
    embedder: CropEmbedder,
    named_from: NamedFrom,
    top: int = 1,
    where: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> Identification:
    """Who the faces in photos show; each face is looked for as it was at the enrollment.

    Raises:
        UserError: an embedder of another model than the gallery's, or nobody to be named.
    """
    check_model(home.place, home.meta, embedder.model_id)
    search = search_in(home.meta)
    detector_of(search)  # once, before the cores want it all together
    embedded = progress(embed_photos(photos, embedder, search, "all"), len(photos), "identify", quiet)
    return identify_embedded(home, embedded, named_from, top, where)


def identify_embedded(
    home: GalleryTable,
    embedded: Iterable[EmbeddedPhoto],
    named_from: NamedFrom,
    top: int = 1,
    where: Mapping[str, str] | None = None,
) -> Identification:
    """Who the faces show that were found in photos; noted in the audit log.

    Args:
        embedded: by the gallery's model.

    Raises:
        UserError: nobody to be named.
    """
    photos = 0
    rows = []
    for batch in in_batches(embedded, PHOTOS):
        photos += len(batch)
        rows.append(answer_table([_rows(home, batch, named_from, top, where)]))
    return _noted(home, named_from, pa.concat_tables([answer_table([]), *rows]), photos)


def _rows(
    home: GalleryTable,
    photos: Sequence[EmbeddedPhoto],
    named_from: NamedFrom,
    top: int,
    where: Mapping[str, str] | None,
) -> list[dict[str, Any]]:
    """Rows of `answers.SCHEMA` of some photos, in their order."""
    found = [(photo.source, face) for photo in photos for face in photo.faces()]
    faces: Iterator[IdentifiedFace] = iter(())
    if found:
        vectors = np.concatenate([photo.vectors for photo in photos])
        probes = Embeddings(vectors, tuple(face.crop_id for _, face in found), home.meta.model_id)
        places = [(source, face.box, face.quality) for source, face in found]
        faces = _answers(home, probes, places, named_from, top, where)
    rows = []
    for photo in photos:
        if not photo.ok:
            rows.append(without_face(Outcome(photo.source, photo.status, photo.reason), named_from.threshold))
        for face in islice(faces, len(photo.vectors) if photo.ok else 0):
            rows += face.rows()
    return rows


def _answers(
    home: GalleryTable,
    probes: Embeddings,
    places: Sequence[tuple[str, Box | None, float | None]],
    named_from: NamedFrom,
    top: int,
    where: Mapping[str, str] | None,
) -> Iterator[IdentifiedFace]:
    """Who some probes show, in their order."""
    needed = top if named_from.level is None else max(top, COHORT + 1)
    # Whoever is asked for, the cohort is of everybody, as it was measured.
    near = home.search(probes, needed)
    found = home.search(probes, top, where=where) if where else near
    if not all(found) and len(home):
        home.identify(probes, named_from.threshold, where=where or None)  # says why nobody can be named
    for (source, box, quality), crop_id, matches, alike in zip(places, probes.ids, found, near, strict=True):
        if not matches:  # a gallery whose last person was erased, or refused, still answers
            yield IdentifiedFace(source, crop_id, box, None, None, named_from.threshold, (), quality)
            continue
        best = matches[0]
        threshold = named_from.of([match.score for match in alike if match.person_id != best.person_id])
        person = best.person_id if best.score >= threshold else None
        shown: list[Match] = matches[:top] if top > 1 or person is not None else []
        candidates = tuple((match.person_id, match.score) for match in shown)
        yield IdentifiedFace(source, crop_id, box, person, best.score, threshold, candidates, quality)


def _noted(home: GalleryTable, named_from: NamedFrom, table: pa.Table, photos: int) -> Identification:
    """The answers, noted in the gallery's audit log."""
    first = table.filter(pc.and_(pc.equal(table["rank"], 1), pc.is_valid(table["crop_id"])))
    named = len(first) - first["person"].null_count
    home.note("identify", photos=photos, faces=len(first), named=named, threshold=named_from.threshold)
    return Identification(named_from.threshold, home.meta.model_id, table)
