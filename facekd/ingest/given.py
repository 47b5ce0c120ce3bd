"""Photos as a Python caller gives them: paths, what is held in memory, or the embeddings of photos seen before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from facekd.core.choices import Choice
from facekd.core.files import sha256_bytes
from facekd.core.types import Embeddings
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.ingest.alignment import detector_of
from facekd.ingest.photos import EmbeddedPhoto, Item, Settled, embed_photos, embedding_digest, photos_at
from facekd.photos.find import PhotoFile, one_photo
from facekd.photos.memory import Held, held, is_float, is_held
from facekd.settings.photos import FaceSearch

# An embedding is float[D] of unit norm; float[N, D] are several.
Photo: TypeAlias = "str | Path | Held"
Photos: TypeAlias = "Photo | Iterable[Photo] | Embeddings"
NAMED = 16  # hex digits of a digest, by which a photo in memory is called


def embed_given(
    items: Iterable[Item], embedder: CropEmbedder, faces: FaceSearch, choose: Choice = "best"
) -> Iterator[EmbeddedPhoto]:
    """`ingest.photos.embed_photos`, with wrong weights refused before the first photo."""
    detector_of(faces)
    return embed_photos(items, embedder, faces, choose)


def items_of(photos: Photos, model_id: str) -> list[Item]:
    """The photos of a folder or archive, a single one, or each of several; of several each has an answer.

    Args:
        model_id: that ready embeddings have to be of.

    Raises:
        UserError: nothing at a path that was given alone, a single thing that is no photo, or another model's
            embeddings.
        TypeError: among several, what is no photo by its type.
    """
    if isinstance(photos, str | Path):
        return list(photos_at(Path(photos)).photos)
    if isinstance(photos, Embeddings):
        if photos.model_id != model_id:
            raise UserError(
                f"embeddings of model {photos.model_id}, and the embedder is of model {model_id}: the two can't be "
                "compared; embed the photos again"
            )
        return [Settled(name, None, vector) for name, vector in zip(photos.ids, photos.vectors, strict=True)]
    if is_held(photos) or (isinstance(photos, np.ndarray) and photos.ndim == 1):
        return [_one(photos, "photo")]  # type: ignore[arg-type]  # neither is several
    return [item_of(one, place) for place, one in enumerate(photos)]  # type: ignore[arg-type]  # not one, so several


def item_of(photo: Photo, place: int) -> Item:
    """`file_of`, with a photo that can't be read as an answer like the others."""
    try:
        return file_of(photo, place)
    except UserError as error:
        source = str(photo) if isinstance(photo, str | Path) else f"photos[{place}]"
        return Settled(source, None, None, str(error).removeprefix(f"{source}: "))


def file_of(photo: Photo, place: int) -> Item:
    """One photo under the name it was given; in memory it has none but its `place` among several.

    Raises:
        TypeError: what is no photo.
        UserError: no photo at a path, or an array, image or file that is none.
    """
    if not isinstance(photo, str | Path):
        return _one(photo, f"photos[{place}]")
    (found,) = one_photo(Path(photo)).photos
    return PhotoFile(found.root, found.member, str(photo), None)


def people_of(people: Mapping[str, Photos], model_id: str) -> list[Item]:
    """The photos of people, each with the person for its identity.

    A photo in memory is called by its bytes: the same one again is the same photo, and another never takes its place.

    Raises:
        UserError, TypeError: as `items_of`.
    """
    return [_of_person(item, person) for person, own in people.items() for item in items_of(own, model_id)]


def _of_person(item: Item, person: str) -> Item:
    if isinstance(item, PhotoFile):
        data = item.data
        return replace(item, identity=person, source=item.source if data is None else f"photo-{_name(data)}")
    digest = item.source if item.vector is None else f"embedding-{embedding_digest(item.vector)[:NAMED]}"
    return replace(item, identity=person, source=digest)


def _name(data: bytes) -> str:
    return sha256_bytes(data)[:NAMED]


def _one(photo: Held, name: str) -> Item:
    if isinstance(photo, np.ndarray) and photo.ndim == 1 and is_float(photo):
        return Settled(name, None, photo)
    if not is_held(photo):
        raise TypeError(f"{name} is a {type(photo).__name__}: give a path, bytes, an array, an image or an embedding")
    return held(photo, name)
