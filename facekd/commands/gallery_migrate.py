"""facekd gallery migrate: the same people in a new gallery of another model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from facekd.console import progress, say, table
from facekd.enrollment.asked import check_threshold
from facekd.errors import UserError
from facekd.settings.door import door

if TYPE_CHECKING:
    import pyarrow as pa

    from facekd.core.types import Array, Rate
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.gallery.gallery import Gallery, Person

LOT = 64  # people migrated together, and crops embedded together
SHOWN = 20  # people that are listed
FARS = (1e-2, 1e-3, 1e-4)
LEARN = 20_000  # crops that a map is learnt from, at most
HELD_OUT = 4_000  # crops of other people that it is measured on, at most


@dataclass(frozen=True, slots=True)
class Migrated:
    """Who came over, and what a map loses."""

    people: int
    missing: tuple[tuple[str, str], ...]  # person, why they did not come over
    partial: tuple[str, ...]  # came over with fewer photos than before
    rates: dict[str, list[Rate]]  # of a map: old, new and cross -> their rates at FARS

    @property
    def exit_code(self) -> int:
        return 1 if self.missing else 0


@door
def migrate(
    gallery: str,
    new: str,
    *,
    model: Path,
    crops: Path,
    contract: Path | None = None,
    map_: Annotated[bool, Parameter(name="--map")] = False,
    old_model: Path | None = None,
    threshold: float | None = None,
    seed: int = 0,
    private: bool = False,
    quiet: bool = False,
) -> Migrated:
    """Make a new gallery of another model with the people of an old one, which stays as it is.

    Without --map everybody is enrolled anew from kept crops: those in CROPS of the photos their templates were made
    from. With --map no crop of them is needed: a linear map from the old model's embeddings to the new one's is learnt
    on CROPS of anybody, and what it costs is measured on people of CROPS that it was not learnt from. Exits with 1
    when someone could not come over.

    Example: facekd gallery migrate staff.gallery new.gallery --model better.onnx --crops crops/

    Args:
        gallery: The old gallery: a folder or s3://BUCKET/PREFIX.
        new: The new gallery.
        model: Run folder or ONNX file of the new model.
        crops: A crop store of 'facekd align'; for --map also image Parquet with identities.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        map_: Map the templates instead of enrolling from crops.
        old_model: For --map: the gallery's model, where it has moved since the enrolment.
        threshold: Cosine from which identify names a person in the new gallery; the old one's says nothing about it.
        seed: Decides which people of CROPS a map is measured on.
        private: Print no ids.
        quiet: Print nothing.
    """
    from facekd.crops.read import read_crops
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.thresholds import model_thresholds
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import exists

    check_threshold(threshold)
    if exists(new):
        raise UserError(f"{new}: is a gallery already; give a new place, so that nobody there is replaced")
    old = Gallery.open(gallery)
    embedder = Embedder.load(model, contract)
    if embedder.model_id == old.meta.model_id:
        raise UserError(f"{gallery}: is of model {embedder.model_id} already; give another --model")
    kept = read_crops(crops)
    kept.check_fits(embedder.contract)
    meta = replace(
        old.meta,
        contract=embedder.contract,
        model=str(model.resolve()),
        threshold=threshold,
        calibrated=model_thresholds(model, embedder.contract),
        mapped=None,
    )
    rates: dict[str, list[Rate]] = {}
    if map_:
        mapping, rates = _learn(kept, _old_embedder(old, old_model), embedder, seed, quiet)
        # A mapped template scores otherwise than one of the new model's own: its thresholds are those measured.
        measured = {rate.far_asked: rate.threshold for rate in rates["cross"] if rate.threshold is not None}
        meta = replace(meta, calibrated=measured, mapped=old.meta.model_id)
        home = Gallery.create(new, meta)
        source = _mapped(old, mapping)
    else:
        settings = _settings(crops)
        home = Gallery.create(new, replace(meta, **settings))
        source = _from_crops(old, home, kept, embedder, quiet)
    missing: list[tuple[str, str]] = []
    partial: list[str] = []
    total = 0
    with home.writing():
        old.note("migrate", people=len(old), to_model=embedder.model_id, mapped=map_)
        home.note("migrate", people=len(old), from_model=old.meta.model_id, mapped=map_)
        for lot in source:
            people = [person for person, _, reason in lot if not reason]
            home.upsert(people)
            total += len(people)
            missing += [(person.person_id, reason) for person, _, reason in lot if reason]
            partial += [person.person_id for person, whole, reason in lot if not (whole or reason)]
        home.finish(home.meta, _ledger(old, {person_id for person_id, _ in missing}))
    result = Migrated(total, tuple(missing), tuple(partial), rates)
    _print(result, home, quiet, private)
    return result


Moved = tuple["Person", bool, str]  # in the new model; with all photos; why they could not come over


def _from_crops(old: Gallery, home: Gallery, kept: CropSet, embedder: Embedder, quiet: bool) -> Iterator[list[Moved]]:
    """Everybody, some at a time, with the template that the crops of their photos make in the new model.

    What the new gallery has to know of each photo, so that a later enrolment goes on from it, is written on the way.
    A file of crops that does not know it gives the plain mean.
    """
    import numpy as np

    from facekd.enrollment.people import fuse
    from facekd.enrollment.photos import settings_of
    from facekd.gallery.gallery import template_of
    from facekd.gallery.photos import PhotoTable

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
        owners = [person.person_id for person, own in zip(people, found, strict=True) for _ in own]
        if known is not None:
            photos.put(
                _photos(known, [place for own in found for place in own], owners, vectors, photos.schema), new=True
            )
        ids = [person.person_id for person in people]
        fused = {} if known is None else {one.person_id: one.person for one in fuse(photos, ids, None, accept=True)}
        start = 0
        lot: list[Moved] = []
        for person, own in zip(people, found, strict=True):
            total = vectors[start : start + len(own)].astype(np.float64).sum(axis=0)
            start += len(own)
            template = template_of(total) if own else None
            made = fused.get(person.person_id)
            if made is not None:
                template = made.template
            if template is None:
                reason = "no crop of its photos is kept" if not own else "the model gives no direction for its crops"
                lot.append((person, False, reason))
                continue
            sources = tuple(kept.sources[place] for place in own) if made is None else made.sources
            moved = replace(person, template=template, sources=sources)
            lot.append((moved, len(own) == len(person.sources), ""))
        yield lot


def _mapped(old: Gallery, mapping: Array) -> Iterator[list[Moved]]:
    import numpy as np

    from facekd.gallery.transfer import apply_map

    for people in old.everyone():
        templates = apply_map(np.stack([person.template for person in people]), mapping)
        yield [(replace(p, template=t), True, "") for p, t in zip(people, templates, strict=True)]


def _embed(kept: CropSet, places: Sequence[int], embedder: Embedder) -> Array:
    """float32[n, D]: embeddings of some of the crops, in that order."""
    import numpy as np

    lots = (np.array(places[start : start + LOT]) for start in range(0, len(places), LOT))
    none = np.zeros((0, embedder.contract.dim), np.float32)
    return np.concatenate([none, *(embedder.embed(kept.batch(lot)) for lot in lots)])


def _learn(kept: CropSet, old: Embedder, new: Embedder, seed: int, quiet: bool) -> tuple[Array, dict[str, list[Rate]]]:
    """The map learnt from four fifths of the people of the crops, and the rates on the others."""
    import numpy as np

    from facekd.gallery.transfer import apply_map, fit_map

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
    learnt = [i for i, name in enumerate(kept.identities) if name not in held_out]
    if len(learnt) > LEARN:
        learnt = sorted(rng.choice(learnt, LEARN, replace=False).tolist())
    say(f"embedding {len(learnt) + len(judged)} crops with both models", quiet)
    mapping = fit_map(_embed(kept, learnt, old), _embed(kept, learnt, new))
    a, b = _embed(kept, judged, old), _embed(kept, judged, new)
    persons = np.unique([str(kept.identities[i]) for i in judged], return_inverse=True)[1]
    return mapping, {
        "old": _rates(a, a, persons),
        "new": _rates(b, b, persons),
        "cross": _rates(apply_map(a, mapping), b, persons),
    }


def _rates(gallery: Array, probes: Array, persons: Array) -> list[Rate]:
    """Rates at FARS over all pairs of different crops, one embedded for the gallery, the other as a probe."""
    import numpy as np

    from facekd.rates.counts import curve
    from facekd.rates.rates import rate_at

    scores = gallery @ probes.T
    same = persons[:, None] == persons[None, :]
    pairs = ~np.eye(len(persons), dtype=bool) if gallery is not probes else np.triu(np.ones(same.shape, bool), 1)
    if not same[pairs].any():
        raise UserError("no person of the crops has two of them, so nothing can be measured; give more crops")
    points = curve(scores[pairs], same[pairs])
    return [rate_at(points, far) for far in FARS]


def _old_embedder(old: Gallery, given: Path | None) -> Embedder:
    import tempfile

    from facekd.core.files import sha256_file
    from facekd.deploy.embedder import Embedder

    path = given or Path(old.meta.model)
    if not path.exists():
        raise UserError(f"{old.place}: its model is not at {path}; say where it is with --old-model")
    # A foreign ONNX file knows nothing of its contract: the gallery kept the one it was enrolled with.
    if path.suffix == ".onnx" and sha256_file(path) == old.meta.contract.weights_sha256:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            file.write(old.meta.contract.to_json())
            file.flush()
            embedder = Embedder.load(path, file.name)
    else:
        embedder = Embedder.load(path)
    if embedder.model_id != old.meta.model_id:
        raise UserError(
            f"{path}: is model {embedder.model_id}, the gallery's templates are of {old.meta.model_id}; give that "
            "one with --old-model"
        )
    return embedder


def _settings(crops: Path) -> dict[str, Any]:
    """How photos to identify have to be aligned, so that they are as the crops; empty where that is not known."""
    from facekd.crops.store import CropStore

    if not (crops / "store.json").is_file():
        return {}
    settings = CropStore.open(crops).settings
    return {name: settings[name] for name in ("detector", "min_face", "weights_sha256") if name in settings}


def _photo_rows(kept: CropSet, settings: str) -> pa.Table | None:
    """What a crop store knows of the photo of each crop, as the gallery's table of photos has it."""
    import pyarrow as pa

    from facekd.crops.store import CropStore

    if not (kept.path / "store.json").is_file():
        return None
    lying, rows = CropStore.open(kept.path).mapped()
    known = lying.select(["source", "sha256", "score", "quality", "eyes", "yaw", "pitch"]).take(pa.array(rows))
    fixed = {"stamp": None, "settings": settings, "status": "ok", "reason": "", "accepted": False}
    for name, value in fixed.items():
        known = known.append_column(name, pa.array([value] * len(known), pa.bool_() if value is False else pa.string()))
    return known


def _photos(
    known: pa.Table, places: Sequence[int], owners: Sequence[str], vectors: Array, schema: pa.Schema
) -> pa.Table:
    """Rows of a gallery's table of photos."""
    import pyarrow as pa

    embeddings = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    rows = known.take(pa.array(places, pa.int64()))
    rows = rows.append_column("person_id", pa.array(owners, pa.string())).append_column("embedding", embeddings)
    return rows.select(schema.names).cast(schema)


def _ledger(old: Gallery, missing: set[str]) -> pa.Table:
    """The old ledger without the people that did not come over."""
    import pyarrow as pa

    from facekd.gallery.gallery import LEDGER

    rows = [row for row in old.ledger().to_pylist() if row["person"] not in missing]
    return pa.Table.from_pylist(rows, LEDGER)


def _print(result: Migrated, home: Gallery, quiet: bool, private: bool) -> None:
    say(f"{home.place}: {result.people} people, model {home.meta.model_id}", quiet)
    if result.rates:
        names = {"old": "old against old", "new": "new against new", "cross": "old, mapped, against new"}
        rows = [[names[what], *map(_shown, rates)] for what, rates in result.rates.items()]
        title = "What the map loses: TAR on people it was not learnt from"
        table(title, ["embeddings", *(f"at FAR {far:g}" for far in FARS)], rows, quiet)
    if result.partial:
        say(f"{len(result.partial)} came over with fewer photos than before", quiet)
    if result.missing:
        say(f"{len(result.missing)} could not come over; enroll them with photos:", quiet)
        for person_id, reason in result.missing[:SHOWN]:
            say(f"  {reason}" if private else f"  {person_id}: {reason}", quiet)
        if len(result.missing) > SHOWN:
            say(f"  … and {len(result.missing) - SHOWN} more", quiet)


def _shown(rate: Rate) -> str:
    if rate.tar is None:
        return "too few pairs"
    return f"{100 * rate.tar:.2f} % [{100 * (rate.low or 0):.2f}, {100 * (rate.high or 0):.2f}]"
