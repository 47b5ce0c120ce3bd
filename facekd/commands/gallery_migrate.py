"""facekd gallery migrate: the same people in a new gallery of another model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from facekd.console import say, say_first, table
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.photos import NewDecision, NewModel

if TYPE_CHECKING:
    from facekd.core.types import Rate
    from facekd.enrollment.migration import MapRates, Migrated
    from facekd.gallery.gallery import GalleryTable

SHOWN = 20  # people that are listed


@door
def migrate(
    gallery: str,
    new: str,
    *,
    network: NewModel,
    crops: Path,
    map_: Annotated[bool, Parameter(name="--map")] = False,
    old_model: Path | None = None,
    decision: NewDecision = NewDecision(),
    seed: int = 0,
    private: bool = False,
    quiet: bool = False,
) -> Migrated:
    """Make a new gallery of another model with the people of an old one, which stays as it is.

    Without --map everybody is enrolled anew from kept crops: those in CROPS of the photos their templates were made
    from. With --map no crop of them is needed: a linear map from the old model's embeddings to the new one's is
    learned on CROPS of anybody, and what it costs is measured on people of CROPS that it was not learned from. The old
    gallery's --threshold says nothing about the new one. Exits with 1 when someone could not come over.

    Example: facekd gallery migrate staff.gallery new.gallery --model better.onnx --crops crops/

    Args:
        gallery: The old gallery: a folder or s3://BUCKET/PREFIX.
        new: The new gallery.
        crops: A crop store of 'facekd align'; for --map also image Parquet with identities.
        map_: Map the templates instead of enrolling from crops.
        old_model: For --map: the gallery's model, where it has moved since the enrollment.
        seed: Decides which people of CROPS a map is measured on.
        private: Print no ids.
        quiet: Print nothing.
    """
    from facekd.crops.read import read_crops
    from facekd.deploy.embedder import CropEmbedder
    from facekd.deploy.thresholds import model_thresholds
    from facekd.enrollment import migration
    from facekd.enrollment.calibration import own_scores
    from facekd.enrollment.changes import photo_table
    from facekd.enrollment.identification import gallery_embedder
    from facekd.gallery.gallery import GalleryTable
    from facekd.gallery.meta import exists

    if exists(new):
        raise UserError(f"{new}: is a gallery already; give a new place, so that nobody there is replaced")
    old = GalleryTable.open(gallery)
    embedder = CropEmbedder.load(network.model, network.contract)
    if embedder.model_id == old.meta.model_id:
        raise UserError(f"{gallery}: is of model {embedder.model_id} already; give another --model")
    kept = read_crops(crops)
    kept.check_fits(embedder.contract)
    meta = replace(
        old.meta,
        contract=embedder.contract,
        model=str(network.model.resolve()),
        threshold=decision.threshold,
        calibrated=model_thresholds(network.model, embedder.contract),
        mapped=None,
    )
    rates: MapRates | None = None
    if map_:
        before = gallery_embedder(old, old_model, "--old-model", CropEmbedder.load)
        if before.model_id != old.meta.model_id:
            raise UserError(
                f"{before.network.path}: is model {before.model_id}, the gallery's templates are of "
                f"{old.meta.model_id}; give that one with --old-model"
            )
        mapping, rates = migration.learn_map(kept, before, embedder, seed, quiet)
        # A mapped template scores otherwise than one of the new model's own: its thresholds are those measured.
        home = GalleryTable.create(new, replace(meta, calibrated=rates.thresholds(), mapped=old.meta.model_id))
        source = migration.mapped(old, mapping)
    else:
        home = GalleryTable.create(new, migration.aligned_as(meta, crops))
        source = migration.from_crops(old, home, kept, embedder, quiet)
    missing: list[tuple[str, str]] = []
    partial: list[str] = []
    total = 0
    with home.writing():
        old.note("migrate", people=len(old), to_model=embedder.model_id, mapped=map_)
        home.note("migrate", people=len(old), from_model=old.meta.model_id, mapped=map_)
        for lot in source:
            moved = [one for one in lot if not one.reason]
            home.upsert([one.person for one in moved])
            total += len(moved)
            missing += [(one.person.person_id, one.reason) for one in lot if one.reason]
            partial += [one.person.person_id for one in moved if not one.whole]
        home.remember(old.decisions())
        own = own_scores(home, photo_table(home))
        home.finish(replace(home.meta, own=own), migration.ledger_without(old, {person_id for person_id, _ in missing}))
    result = migration.Migrated(total, tuple(missing), tuple(partial), rates)
    _print(result, home, quiet, private)
    return result


def _print(result: Migrated, home: GalleryTable, quiet: bool, private: bool) -> None:
    say(f"{home.place}: {result.people} people, model {home.meta.model_id}", quiet)
    if result.rates is not None:
        found = result.rates
        by = {"old against old": found.old, "new against new": found.new, "old, mapped, against new": found.cross}
        columns = ["embeddings", *(f"at FAR {rate.far_asked:g}" for rate in found.cross)]
        rows = [[what, *map(_shown, rates)] for what, rates in by.items()]
        table("What the map loses: TAR on people it was not learned from", columns, rows, quiet)
    if result.partial:
        say(f"{len(result.partial)} came over with fewer photos than before", quiet)
    if result.missing:
        say(f"{len(result.missing)} could not come over; enroll them with photos:", quiet)
        lines = [reason if private else f"{person_id}: {reason}" for person_id, reason in result.missing]
        say_first(lines, SHOWN, quiet)


def _shown(rate: Rate) -> str:
    if rate.tar is None:
        return "too few pairs"
    return f"{100 * rate.tar:.2f} % [{100 * (rate.low or 0):.2f}, {100 * (rate.high or 0):.2f}]"
