"""From photos to embeddings, a few photos at a time, on every core of a machine or a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from facekd.console import say, say_first
from facekd.core.files import sha256_bytes
from facekd.core.pixels import decode_crop
from facekd.core.process import set_torch_threads
from facekd.core.types import Array
from facekd.crops.records import AlignedCrop, PhotoRecord
from facekd.deploy.default import WORTH, default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.engines.mapper import on_cores
from facekd.ingest.alignment import BATCH, align_batch, detector_of
from facekd.photos.find import FoundPhotos, PhotoFile, find_photos, is_photo, one_photo
from facekd.settings.photos import FaceSearch

T = TypeVar("T")
NO_PHOTOS = "neither their names nor their first bytes are those of photos"
LISTED = 20  # folders and links without a photo that are named


@dataclass(frozen=True, slots=True)
class SettledItem:
    """What was given in a photo's place and needs no look: an embedding, or what can't be read as a photo."""

    source: str
    identity: str | None
    vector: Array | None  # float[D]; None where it is no photo either
    reason: str = ""  # why there is none


class FaceSeen(NamedTuple):
    """Which face an embedding is of; a ready embedding is of none that is known."""

    crop_id: str
    box: tuple[float, ...] | None  # x1 y1 x2 y2, px of the upright photo
    quality: float | None  # sharpness of the crop


Item: TypeAlias = "PhotoFile | SettledItem"


@dataclass(frozen=True, slots=True)
class EmbeddedPhoto:
    """A photo, and the embeddings of the faces chosen from it."""

    record: PhotoRecord  # its crops without their images
    vectors: Array  # float32[n, D], unit norm, one row for each crop; n is 0 unless ok, 1 of a ready embedding

    @property
    def source(self) -> str:
        """The photo as it was given; in a folder, zip or tar the path below it."""
        return self.record.source

    @property
    def status(self) -> str:
        """ok, or why there is no embedding: no_face, too_small, unreadable, too_large, low_quality, no_embedding."""
        return self.record.status

    @property
    def reason(self) -> str:
        """One sentence; empty for ok."""
        return "" if self.ok else self.record.reason

    @property
    def ok(self) -> bool:
        """Whether there is an embedding."""
        return self.record.status == "ok"

    @property
    def boxes(self) -> Array:
        """float32[n, 4], x1 y1 x2 y2, px of the upright photo; of a ready embedding there is none."""
        crops = self.record.crops if self.ok else []
        return np.array([crop.box for crop in crops], np.float32).reshape(-1, 4)

    def faces(self) -> list[FaceSeen]:
        """Of each row of `vectors`; a ready embedding is called as its source."""
        if not self.ok or self.record.crops:
            return [FaceSeen(crop.crop_id, crop.box, crop.quality) for crop in self.record.crops if self.ok]
        return [FaceSeen(self.source, None, None)]


def photos_at(path: Path) -> FoundPhotos:
    """The photos in a folder, zip or tar, or the one photo at `path`.

    Raises:
        UserError: there is none.
    """
    return one_photo(path) if is_photo(path) else find_photos(path)


def tell_of_others(found: FoundPhotos, quiet: bool, private: bool = False) -> None:
    """What was passed over on the way to the photos; with `private` only how much."""
    if found.others:
        say(f"{len(found.others)} other files were passed over: {NO_PHOTOS}", quiet)
    if found.without:
        say(f"{len(found.without)} folders or links gave no photo{'' if private else ':'}", quiet)
        lines = [f"{source}: {reason}" for source, _, reason in found.without]
        say_first([] if private else lines, LISTED, quiet)


def embed_photos(
    files: Iterable[Item],
    embedder: CropEmbedder,
    search: FaceSearch,
    choose: str = "best",
    refuses: Callable[[AlignedCrop], str] | None = None,
) -> Iterator[EmbeddedPhoto]:
    """Read, align and embed photos; each comes back in order, none is an exception.

    Each core takes some photos from the file to the embedding, so that no stage waits for another; at most a few
    batches for each core wait for the caller.

    Args:
        files: taken a few batches ahead of the answers.
        choose: which face of several in a photo.
        refuses: why a crop is not to be embedded; empty where it is.
    """
    # One core for each call: the cores are busy with other photos.
    own = type(embedder)(replace(embedder.network, threads=1))
    function = partial(embed_batch, make_embedder=lambda: own, search=search, choose=choose, refuses=refuses)
    for photos in on_cores(function, in_batches(files, BATCH)):
        yield from photos


def embed_batch(
    items: Sequence[Item],
    make_embedder: Callable[[], CropEmbedder],
    search: FaceSearch,
    choose: str,
    refuses: Callable[[AlignedCrop], str] | None = None,
) -> list[EmbeddedPhoto]:
    """Align and embed some photos, and pass on what is settled; the images of the crops are not kept.

    A face for which the network gives no direction is left out; a photo left without any has the status
    ``no_embedding``, one whose faces are all refused ``low_quality``; the refused crops of that one stay in its record.
    """
    embedder = make_embedder()
    size = embedder.contract.size
    make_detector = partial(detector_of, search)
    files = [item for item in items if isinstance(item, PhotoFile)]
    records = align_batch(files, make_detector=make_detector, choose=choose, min_face=search.min_face, size=size)
    wanted: list[list[Array]] = []
    for record in records:
        reasons = ["" if refuses is None else refuses(crop) for crop in record.crops]
        kept = [crop for crop, reason in zip(record.crops, reasons, strict=True) if not reason]
        if record.crops and not kept:
            record.status, record.reason = "low_quality", reasons[0]
        wanted.append([decode_crop(crop.image) for crop in kept])
        record.crops = [replace(crop, image=b"") for crop in kept or record.crops]
    crops = [image for images in wanted for image in images]
    vectors = embedder.embed(np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8))
    results: list[EmbeddedPhoto] = []
    start = 0
    for record, images in zip(records, wanted, strict=True):
        own = vectors[start : start + len(images)]
        start += len(images)
        good = np.abs(np.linalg.norm(own, axis=1) - 1) < 1e-3  # NaN compares false
        if len(images):
            record.crops = [crop for crop, is_good in zip(record.crops, good, strict=True) if is_good]
            if not record.crops:
                record.status, record.reason = "no_embedding", "the model gives zero or no finite numbers for its face"
        results.append(EmbeddedPhoto(record, own[good]))
    looked_at = iter(results)
    dim = embedder.contract.dim
    return [_settled(item, dim) if isinstance(item, SettledItem) else next(looked_at) for item in items]


def _settled(item: SettledItem, dim: int) -> EmbeddedPhoto:
    """The answer to a ready embedding, or to what is none of a photo."""
    record = PhotoRecord(item.source, item.identity, "unreadable", item.reason)
    nothing = np.zeros((0, dim), np.float32)
    if item.vector is None:
        return EmbeddedPhoto(record, nothing)
    record.sha256 = embedding_digest(item.vector)
    if item.vector.shape != (dim,) or not abs(float(np.linalg.norm(item.vector)) - 1) < 1e-3:  # NaN compares false
        record.status = "no_embedding"
        record.reason = f"an embedding of this model is {dim} finite numbers of unit norm, and this one is not"
        return EmbeddedPhoto(record, nothing)
    record.status = "ok"
    return EmbeddedPhoto(record, item.vector[None].astype(np.float32))


def embedding_digest(vector: Array) -> str:
    """SHA-256 of an embedding's numbers in float32, as a photo has one of its bytes."""
    return sha256_bytes(np.ascontiguousarray(vector, "<f4").tobytes())


def own_model(quiet: bool) -> Path:
    """The model that comes with facekd, taken where none is named, which is said.

    Raises:
        UserError: it is not installed along.
    """
    model = default_model()
    say(f"no --model given: takes the one that comes with facekd ({WORTH}), {model}", quiet)
    return model


def load_embedder(model: Path, contract: Path | None = None) -> CropEmbedder:
    """This process's embedder, loaded once; each call of it takes one core, for callers that use all of them.

    Raises:
        UserError: as `CropEmbedder.load`.
    """
    embedder = _loaded(model, contract, tuple(_changed(path) for path in (model, contract) if path))
    if embedder.network.macs is not None:  # torch runs it, and an earlier command's threads ended with that command
        set_torch_threads(1)
    return embedder


@functools.lru_cache(maxsize=2)
def _loaded(model: Path, contract: Path | None, changed: tuple[object, ...]) -> CropEmbedder:
    return CropEmbedder.load(model, contract, threads=1)


def _changed(path: Path) -> tuple[tuple[int, int], ...] | None:
    """Another value when a file, or a file in a run folder, is another one."""
    if not path.exists():
        return None
    found = [path, *sorted(path.glob("*.safetensors"))] if path.is_dir() else [path]
    return tuple((one.stat().st_mtime_ns, one.stat().st_size) for one in found)


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """`items` in runs of `size`, each taken when it is asked for; the last may be shorter."""
    waiting = iter(items)
    while batch := list(islice(waiting, size)):
        yield batch
