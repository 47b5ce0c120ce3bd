"""Reading crops, whichever form they lie in: a crop store, Hugging Face image Parquet or insightface's train.rec."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facekd.core.files import no_stream
from facekd.core.pixels import decode_crop
from facekd.core.tables import sound
from facekd.crops.cropset import CropSet
from facekd.crops.rec import read_rec
from facekd.crops.records import FAILED
from facekd.crops.store import CropStore
from facekd.errors import UserError

T = TypeVar("T")


def read_crops(path: Path) -> CropSet:
    """The crops in a store's folder, a Parquet file with ``image: {bytes, path}`` and ``identity``, or a ``.rec``.

    A folder with a ``train.rec``, as insightface's sets are, stands for that file.

    Raises:
        UserError: nothing there, another kind of file, no crop in it, or an unreadable first crop.
    """
    if not path.exists():
        raise UserError(f"{path}: no such crop store or Parquet file; check the path")
    no_stream(path)
    path = crops_at(path) or path
    if path.suffix == ".rec":
        return read_rec(path)
    if path.is_dir():
        store = CropStore.open(path)
        lying, rows = store.mapped()
        images = lying["image"]
        table = lying.drop_columns(["image"]).take(pa.array(rows))
        ids, template = table["crop_id"].to_pylist(), store.settings["template"]
        sources = table["source"].to_pylist()
    elif path.suffix == ".parquet":
        table = _read_hub_parquet(path)
        images = pc.struct_field(table["image"], "bytes")
        if images.null_count:
            raise UserError(f"{path}: {images.null_count} of {len(images)} images have no bytes; put them into it")
        rows = np.arange(len(images))
        # Rows of such a file have no id of their own: the file's name and the row's number are one.
        ids, template = [f"{path.stem}-{row}" for row in range(len(table))], "arcface"
        has_paths = table.schema.field("image").type.get_field_index("path") >= 0
        paths = pc.struct_field(table["image"], "path").to_pylist() if has_paths else [None] * len(ids)
        sources = [source or crop_id for source, crop_id in zip(paths, ids, strict=True)]
    else:
        raise UserError(
            f"{path}: neither a crop store's folder nor a .parquet or .rec file; run 'facekd align {path} CROPS' first"
        )
    if len(ids) == 0:
        raise UserError(f"{path}: holds no crop; align photos that show faces")
    size = decode_crop(images[int(rows[0])].as_py()).shape[0]
    identities: list[str | None] = [None] * len(ids)
    if "identity" in table.column_names:
        identities = [None if name is None else str(name) for name in table["identity"].to_pylist()]
    return CropSet(path, tuple(ids), tuple(identities), tuple(sources), images, rows, size, template)


def crops_at(path: Path) -> Path | None:
    """The crop store, image Parquet or ``.rec`` that `path` is, or as a folder holds; None where it is none of them."""
    if (path / "train.rec").is_file():
        return path / "train.rec"
    return path if (path / "store.json").exists() or path.suffix in (".parquet", ".rec") else None


def merge(sets: Sequence[CropSet]) -> CropSet:
    """Several sets as one, in one label space: the same identity name is the same person.

    Raises:
        UserError: sets of different size or template.
    """
    first = sets[0]
    for other in sets[1:]:
        if (other.size, other.template) != (first.size, first.template):
            raise UserError(
                f"{other.path} holds {other.template} crops of {other.size} pixels, "
                f"{first.path} {first.template} crops of {first.size}: align both alike"
            )
    starts = np.cumsum([0, *(len(part.images) for part in sets)])
    return CropSet(
        first.path,
        tuple(crop_id for part in sets for crop_id in part.ids),
        tuple(identity for part in sets for identity in part.identities),
        tuple(source for part in sets for source in part.sources),
        pa.chunked_array([chunk.cast(pa.large_binary()) for part in sets for chunk in part.images.chunks]),
        np.concatenate([part.rows + start for part, start in zip(sets, starts[:-1], strict=True)]),
        first.size,
        first.template,
    )


def photo_names(path: Path) -> dict[str, str | None]:
    """What a pair list may call each photo of a crop store, and the crop that stands for it.

    A photo answers to its crop's id and to every name of `by_name`. A photo that gave no crop maps to None.
    """
    rows = CropStore.open(path).ledger().select(["source", "status", "crop_ids"]).to_pylist()
    names = by_name((row["source"], None if row["status"] in FAILED else row["crop_ids"][0]) for row in rows)
    return names | {crop_id: crop_id for row in rows for crop_id in row["crop_ids"]}


def photo_persons(path: Path) -> dict[str, str | None]:
    """Who is in each photo of a crop store, by the same names as `photo_names`; None where its folder did not say."""
    rows = CropStore.open(path).ledger().select(["source", "status", "identity", "crop_ids"]).to_pylist()
    persons = by_name((row["source"], row["identity"]) for row in rows)
    # The crop of a duplicate is the first photo's, and so is its person.
    return persons | {crop: row["identity"] for row in rows if row["status"] == "ok" for crop in row["crop_ids"]}


def by_name(photos: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Something known of photos, by all the names that a pair list may give them.

    A photo answers to its source, its source without suffix, ``FOLDER/NAME`` of that (so LFW's
    ``Abel_Pacheco/Abel_Pacheco_0001`` is found wherever the archive puts it), one folder more of it (CFP's
    ``001/frontal/01``), and its file's name with and without suffix. A short name that photos of different values
    share is left out.
    """
    names: dict[str, T] = {}
    short: dict[str, T] = {}
    shared: set[str] = set()
    for source, value in photos:
        names[source] = value
        path = PurePosixPath(source)
        bare = path.with_suffix("")
        parts = bare.parts
        for name in {str(bare), path.name, *("/".join(parts[-length:]) for length in (1, 2, 3))}:
            if short.setdefault(name, value) != value:
                shared.add(name)
    for name in shared:
        del short[name]
    return short | names


def _read_hub_parquet(path: Path) -> pa.Table:
    try:
        table = sound(pq.read_table(path))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); copy it again") from error
    kind = table.schema.field("image").type if "image" in table.column_names else None
    if not (isinstance(kind, pa.StructType) and kind.get_field_index("bytes") >= 0):
        raise UserError(
            f"{path}: has no column image with bytes and path, as Hugging Face image files have; convert it"
        )
    return table
