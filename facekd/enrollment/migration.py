"""The people of one gallery in another model: from kept crops, or by a map learned between the two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.console import progress, say
from facekd.core.types import Array, Rate
from facekd.crops.cropset import CropSet
from facekd.crops.store import CropStore
from facekd.deploy.embedder import CropEmbedder
from facekd.enrollment.people import fuse
from facekd.enrollment.photos import FACE, settings_of
from facekd.errors import UserError
from facekd.gallery.gallery import LEDGER, GalleryTable
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.people import Person, template_of
from facekd.gallery.photos import PhotoTable
from facekd.gallery.transfer import apply_map, fit_map
from facekd.rates.counts import curve
from facekd.rates.rates import rate_at

LOT = 64  # people migrated together, and crops embedded together
FARS = (1e-2, 1e-3, 1e-4)
LEARN = 20_000  # crops that a map is learned from, at most
HELD_OUT = 4_000  # crops of other people that it is measured on, at most


@dataclass(frozen=True, slots=True)
class Moved:
    """A person who is to come over."""

    person: Person  # in the new model, unless there is a reason
    whole: bool  # with all photos
    reason: str = ""  # why they could not come over


@dataclass(frozen=True, slots=True)
class MapRates:
    """What a map between models costs, on people it was not learned from; rates at FARS."""

    old: list[Rate]
    new: list[Rate]
    cross: list[Rate]  # old embeddings, mapped, against new ones

    def thresholds(self) -> dict[float, float]:
        """FAR -> threshold of mapped templates against the new model's embeddings."""
        return {rate.far_asked: rate.threshold for rate in self.cross if rate.threshold is not None}


@dataclass(frozen=True, slots=True)
class Migrated:
    """Who came over, and what a map loses."""

    people: int
    missing: tuple[tuple[str, str], ...]  # person, why they did not come over
    partial: tuple[str, ...]  # came over with fewer photos than before
    rates: MapRates | None  # of a map

    @property
    def exit_code(self) -> int:
        return 1 if self.missing else 0


def from_crops(
    old: GalleryTable, home: GalleryTable, kept: CropSet, embedder: CropEmbedder, quiet: bool
) -> Iterator[list[Moved]]:
    """Everybody, some at a time, with the template that the crops of their photos make in the new model.

    What the new gallery has to know of each photo, so that a later enrollment goes on from it, is written on the way.
    A file of crops that does not know it gives the plain mean.
    """
    photos = PhotoTable(home.place, embedder.contract.dim)
    known = _photo_rows(kept, settings_of(home.meta.min_face, home.meta.weights_sha256))
    places: dict[str, list[int]] = {}
    for place, source in enumerate(kept.sources):
        places.setdefault(source, []).append(place)
    lots = range(0, len(old), LOT)
    for people in progress(old.everyone(LOT), len(lots) * LOT, "migrate", quiet, unit=LOT):
        # A photo with several crops does not say which of them was the person.
        found = [[places[s][0] for s in person.sources if len(places.get(s, ())) == 1] for person in people]
        vectors = _embed(kept, [place for own in found for place in own], embedder)
        templates, sources = _plain(kept, found, vectors)
        if known is not None:
            owners = [person.person_id for person, own in zip(people, found, strict=True) for _ in own]
            rows = _photos(known, [place for own in found for place in own], owners, vectors, photos.schema)
            photos.put(rows, new=True)
            ids = [person.person_id for person in people]
            for number, fused in enumerate(fuse(photos, ids, None, accept=True)):
                if fused.person is not None:
                    templates[number], sources[number] = fused.person.template, fused.person.sources
        lot = []
        for person, own, template, names in zip(people, found, templates, sources, strict=True):
            if template is None:
                reason = "no crop of its photos is kept" if not own else "the model gives no direction for its crops"
                lot.append(Moved(person, False, reason))
            else:
                moved = replace(person, template=template, sources=names)
                lot.append(Moved(moved, len(own) == len(person.sources)))
        yield lot


def _plain(
    kept: CropSet, found: Sequence[Sequence[int]], vectors: Array
) -> tuple[list[Array | None], list[tuple[str, ...]]]:
    """Of each person's crops the plain mean, and their photos."""
    templates: list[Array | None] = []
    start = 0
    for own in found:
        total = vectors[start : start + len(own)].astype(np.float64).sum(axis=0)
        start += len(own)
        templates.append(template_of(total) if own else None)
    return templates, [tuple(kept.sources[place] for place in own) for own in found]


def mapped(old: GalleryTable, mapping: Array) -> Iterator[list[Moved]]:
    """Everybody, some at a time, with their template mapped into the new model."""
    for people in old.everyone():
        templates = apply_map(np.stack([person.template for person in people]), mapping)
        yield [Moved(replace(p, template=t), True) for p, t in zip(people, templates, strict=True)]


def learn_map(kept: CropSet, old: CropEmbedder, new: CropEmbedder, seed: int, quiet: bool) -> tuple[Array, MapRates]:
    """The map learned from four fifths of the people of the crops, and the rates on the others.

    Raises:
        UserError: too few people, or nobody with two crops.
    """
    names = sorted({name for name in kept.identities if name is not None})
    if len(names) < 10:
        raise UserError(
            f"{kept.path}: names {len(names)} people, too few to learn a map on some and to measure it on others; give "
            "crops with ten identities or more, hundreds are better"
        )
    rng = np.random.default_rng(seed)
    rng.shuffle(names)
    held_out = set(names[: len(names) // 5])
    judged = [i for i, name in enumerate(kept.identities) if name in held_out][:HELD_OUT]
    learned = [i for i, name in enumerate(kept.identities) if name not in held_out]
    if len(learned) > LEARN:
        learned = sorted(rng.choice(learned, LEARN, replace=False).tolist())
    say(f"embedding {len(learned) + len(judged)} crops with both models", quiet)
    mapping = fit_map(_embed(kept, learned, old), _embed(kept, learned, new))
    a, b = _embed(kept, judged, old), _embed(kept, judged, new)
    persons = np.unique([str(kept.identities[i]) for i in judged], return_inverse=True)[1]
    rates = MapRates(_rates(a, a, persons), _rates(b, b, persons), _rates(apply_map(a, mapping), b, persons))
    return mapping, rates


def _rates(gallery: Array, probes: Array, persons: Array) -> list[Rate]:
    """Rates at FARS over all pairs of different crops, one embedded for the gallery, the other as a probe."""
    scores = gallery @ probes.T
    same = persons[:, None] == persons[None, :]
    pairs = ~np.eye(len(persons), dtype=bool) if gallery is not probes else np.triu(np.ones(same.shape, bool), 1)
    if not same[pairs].any():
        raise UserError("no person of the crops has two of them, so nothing can be measured; give more crops")
    points = curve(scores[pairs], same[pairs])
    return [rate_at(points, far) for far in FARS]


def _embed(kept: CropSet, places: Sequence[int], embedder: CropEmbedder) -> Array:
    """float32[n, D]: embeddings of some of the crops, in that order."""
    lots = (np.array(places[start : start + LOT]) for start in range(0, len(places), LOT))
    none = np.zeros((0, embedder.contract.dim), np.float32)
    return np.concatenate([none, *(embedder.embed(kept.batch(lot)) for lot in lots)])


def aligned_as(meta: GalleryMeta, crops: Path) -> GalleryMeta:
    """`meta` of a gallery whose photos are to be aligned as the crops are, where that is known."""
    if not (crops / "store.json").is_file():
        return meta
    settings = CropStore.open(crops).settings
    names = ("detector", "min_face", "weights_sha256")
    return replace(meta, **{name: settings[name] for name in names if name in settings})


def _photo_rows(kept: CropSet, settings: str) -> pa.Table | None:
    """What a crop store knows of the photo of each crop, as the gallery's table of photos has it."""
    if not (kept.path / "store.json").is_file():
        return None
    lying, rows = CropStore.open(kept.path).mapped()
    known = lying.select(["source", "sha256", *FACE]).take(pa.array(rows))
    fixed = {"stamp": None, "settings": settings, "status": "ok", "reason": "", "accepted": False}
    for name, value in fixed.items():
        known = known.append_column(name, pa.array([value] * len(known), pa.bool_() if value is False else pa.string()))
    return known


def _photos(
    known: pa.Table, places: Sequence[int], owners: Sequence[str], vectors: Array, schema: pa.Schema
) -> pa.Table:
    """Rows of a gallery's table of photos."""
    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    rows = known.take(pa.array(places, pa.int64()))
    rows = rows.append_column("person_id", pa.array(owners, pa.string())).append_column("embedding", embeddings)
    return rows.select(schema.names).cast(schema)


def ledger_without(old: GalleryTable, missing: set[str]) -> pa.Table:
    """The old ledger without the people that did not come over."""
    rows = [row for row in old.ledger().to_pylist() if row["person"] not in missing]
    return pa.Table.from_pylist(rows, LEDGER)
