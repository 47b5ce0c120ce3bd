"""From photos to embeddings, a few photos at a time, on every core of a machine or a cluster."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from facekd.console import say
from facekd.core.choices import DETECTOR, Choice, DetectorName
from facekd.core.process import set_torch_threads
from facekd.engines.mapper import on_cores
from facekd.ingest.alignment import BATCH, align_batch, detector_maker

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.store import PhotoRecord
    from facekd.deploy.embedder import Embedder
    from facekd.ingest.alignment import Detector
    from facekd.photos.find import Found, PhotoFile

T = TypeVar("T")
R = TypeVar("R")
Embedded = tuple["PhotoRecord", "Array"]  # a photo, and float32[n, D] of unit norm, one row for each of its crops


@dataclass(frozen=True, slots=True)
class Search:
    """How faces are looked for in photos; picklable.

    Raises:
        UserError: on `check`, an unknown detector, or weights that it can't use.
    """

    detector: DetectorName = DETECTOR
    weights: Path | None = None
    min_face: int = 20  # px
    choose: Choice = "best"

    def maker(self) -> Callable[[], Detector]:
        """A function that gives this process's detector."""
        return detector_maker(self.detector, self.weights, self.min_face)

    def check_weights(self) -> None:
        """Refuse weights that are wrong, which is the user's mistake; detectors without any are not loaded for this."""
        if self.weights is not None:
            self.check()

    def weights_digest(self) -> str | None:
        """Of the files that the detector runs with, see `faces.detect.weights_digest`."""
        from facekd.faces.detect import weights_digest

        return weights_digest(self.detector, self.weights)

    def check(self) -> None:
        """Load the detector: wrong weights are the user's mistake, said before the first photo."""
        self.maker()()


def photos_at(path: Path) -> Found:
    """The photos in a folder, zip or tar, or the one photo at `path`.

    Raises:
        UserError: there is none.
    """
    from facekd.photos.find import SUFFIXES, find_photos, one_photo

    return one_photo(path) if path.is_file() and path.suffix.lower() in SUFFIXES else find_photos(path)


def embed_photos(
    files: Iterable[PhotoFile],
    embedder: Embedder,
    search: Search,
    *,
    refuses: Callable[[dict[str, Any]], str] | None = None,
) -> Iterator[Embedded]:
    """Read, align and embed photos; each comes back in order, none is an exception.

    Each core takes some photos from the file to the embedding, so that no stage waits for another; at most a few
    batches for each core wait for the caller.

    Args:
        files: taken a few batches ahead of the answers.
        refuses: why a crop is not to be embedded, from its row; empty where it is.
    """
    # One core for each call: the cores are busy with other photos.
    own = type(embedder)(replace(embedder.network, threads=1))
    function = partial(
        embed_batch,
        make_embedder=lambda: own,
        make_detector=search.maker(),
        choose=search.choose,
        min_face=search.min_face,
        refuses=refuses,
    )
    for records in on_cores(function, in_batches(files, BATCH)):
        yield from records


def embed_batch(
    files: Sequence[PhotoFile],
    *,
    make_embedder: Callable[[], Embedder],
    make_detector: Callable[[], Detector],
    choose: str,
    min_face: int,
    refuses: Callable[[dict[str, Any]], str] | None = None,
) -> list[Embedded]:
    """Align and embed some photos; the images of the crops are not kept.

    A face for which the network gives no direction is left out; a photo left without any has the status
    ``no_embedding``, one whose faces are all refused ``low_quality``; the refused crops of that one stay in its record.
    """
    import numpy as np

    from facekd.core.pixels import decode_crop

    embedder = make_embedder()
    size = embedder.contract.size
    records = align_batch(files, make_detector=make_detector, choose=choose, min_face=min_face, size=size)
    wanted = []
    for record in records:
        images = [decode_crop(crop.pop("image")) for crop in record.crops]
        reasons = ["" if refuses is None else refuses(crop) for crop in record.crops]
        kept = [not reason for reason in reasons]
        if record.crops and not any(kept):
            record.status, record.reason = "low_quality", reasons[0]
        else:
            record.crops = [crop for crop, keep in zip(record.crops, kept, strict=True) if keep]
        wanted.append([image for image, keep in zip(images, kept, strict=True) if keep])
    crops = [image for images in wanted for image in images]
    vectors = embedder.embed(np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8))
    results, start = [], 0
    for record, images in zip(records, wanted, strict=True):
        own = vectors[start : start + len(images)]
        start += len(images)
        good = np.abs(np.linalg.norm(own, axis=1) - 1) < 1e-3  # NaN compares false
        if len(images) and not good.any():
            record.status, record.reason = "no_embedding", "the model gives zero or no finite numbers for its face"
        if len(images):
            record.crops = [crop for crop, is_good in zip(record.crops, good, strict=True) if is_good]
        results.append((record, own[good]))
    return results


def own_model(quiet: bool) -> Path:
    """The model that comes with facekd, taken where none is named, which is said.

    Raises:
        UserError: it is not installed along.
    """
    from facekd.deploy.default import WORTH, default_model

    model = default_model()
    say(f"no --model given: takes the one that comes with facekd ({WORTH}), {model}", quiet)
    return model


def load_embedder(model: Path, contract: Path | None = None) -> Embedder:
    """This process's embedder, loaded once; each call of it takes one core, for callers that use all of them.

    Raises:
        UserError: as `Embedder.load`.
    """
    embedder = _loaded(model, contract, tuple(_changed(path) for path in (model, contract) if path))
    if embedder.network.macs is not None:  # torch runs it, and an earlier command's threads ended with that command
        set_torch_threads(1)
    return embedder


@functools.lru_cache(maxsize=2)
def _loaded(model: Path, contract: Path | None, changed: tuple[object, ...]) -> Embedder:
    from facekd.deploy.embedder import Embedder

    return Embedder.load(model, contract, threads=1)


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


def absolute(files: Iterable[PhotoFile]) -> list[PhotoFile]:
    """The same photos by absolute paths, for workers that run in other folders."""
    roots: dict[Path, Path] = {}
    return [replace(file, root=roots.setdefault(file.root, file.root.absolute())) for file in files]
