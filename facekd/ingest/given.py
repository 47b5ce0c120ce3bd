"""Photos as a Python caller gives them: paths, or what is held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from facekd.core.choices import Choice
from facekd.deploy.embedder import CropEmbedder
from facekd.ingest.alignment import detector_of
from facekd.ingest.photos import EmbeddedPhoto, embed_photos, photos_at
from facekd.photos.find import PhotoFile, one_photo
from facekd.photos.memory import Held, held, is_held
from facekd.settings.photos import FaceSearch

Photo: TypeAlias = "str | Path | Held"
Photos: TypeAlias = "Photo | Iterable[Photo]"


def embed_given(
    files: Iterable[PhotoFile], embedder: CropEmbedder, faces: FaceSearch, choose: Choice = "best"
) -> Iterator[EmbeddedPhoto]:
    """`ingest.photos.embed_photos`, with wrong weights refused before the first photo."""
    detector_of(faces)
    return embed_photos(files, embedder, faces, choose)


def files_of(photos: Photos) -> list[PhotoFile]:
    """The photos of a folder or archive, a single one, or each of several.

    Raises:
        UserError: no photo at a path.
    """
    if isinstance(photos, str | Path):
        return list(photos_at(Path(photos)).photos)
    if is_held(photos):
        return [held(photos, "photo")]
    return [file_of(one, place) for place, one in enumerate(photos)]  # type: ignore[arg-type]  # not one, so several


def file_of(photo: Photo, place: int) -> PhotoFile:
    """One photo under the name it was given; in memory it has none but its `place` among several.

    Raises:
        TypeError: what is no photo.
        UserError: no photo at a path.
    """
    if is_held(photo):
        return held(photo, f"photos[{place}]")
    if not isinstance(photo, str | Path):
        raise TypeError(f"photos[{place}] is a {type(photo).__name__}: give a path, bytes, an array or an image")
    (found,) = one_photo(Path(photo)).photos
    return PhotoFile(found.root, found.member, str(photo), None)
