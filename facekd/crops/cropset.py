"""Crops that lie encoded on disk or in memory, whatever file they came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.core.contract import Contract
from facekd.core.files import sha256_bytes
from facekd.core.pixels import decode_crop
from facekd.core.types import Array
from facekd.errors import UserError


@dataclass(frozen=True, slots=True)
class CropSet:
    """Crops that lie encoded on disk or in memory and are decoded when asked for."""

    path: Path
    ids: tuple[str, ...]
    identities: tuple[str | None, ...]
    sources: tuple[str, ...]  # the photo each comes from; a crop of unknown photo is its own
    images: pa.ChunkedArray  # binary, encoded crops as they lie there; not all of them need belong to the set
    rows: Array  # int64[N], the place in `images` of each id
    size: int  # pixels
    template: str

    def __len__(self) -> int:
        return len(self.ids)

    def encoded(self, index: int) -> bytes:
        """The bytes of one crop's image."""
        data: bytes = self.images[int(self.rows[index])].as_py()
        return data

    def pixels(self, index: int) -> Array:
        """uint8[S, S, 3] RGB of one crop.

        Raises:
            UserError: a damaged image, or one of another size than the first.
        """
        try:
            pixels = decode_crop(self.encoded(index))
        except UserError as error:
            raise UserError(
                f"{self.path}: crop {self.ids[index]} is no readable image; mend it or align its photos again"
            ) from error
        if pixels.shape != (self.size, self.size, 3):
            raise UserError(
                f"{self.path}: crop {self.ids[index]} is {pixels.shape[1]}x{pixels.shape[0]}, the first is "
                f"{self.size}x{self.size}; align the photos at one size"
            )
        return pixels

    def batch(self, indices: Array) -> Array:
        """uint8[B, S, S, 3] RGB of the crops at `indices`."""
        return np.stack([self.pixels(int(i)) for i in indices])

    def take(self, indices: Array) -> CropSet:
        """The crops at `indices`, in that order."""
        return CropSet(
            self.path,
            tuple(self.ids[i] for i in indices),
            tuple(self.identities[i] for i in indices),
            tuple(self.sources[i] for i in indices),
            self.images,
            self.rows[indices],
            self.size,
            self.template,
        )

    def check_fits(self, contract: Contract) -> None:
        """Whether a network of `contract` takes these crops.

        Raises:
            UserError: crops of another size or template.
        """
        if (self.template, self.size) != (contract.template, contract.size):
            raise UserError(
                f"{self.path}: holds {self.template} crops of {self.size} pixels, the model takes {contract.template} "
                f"crops of {contract.size}; align the photos again with --size {contract.size}"
            )

    def digest(self) -> str:
        """64 hex digits over ids and identities: tells whether two runs saw the same crops."""
        lines = (f"{i}\t{identity}" for i, identity in zip(self.ids, self.identities, strict=True))
        return sha256_bytes("\n".join(lines).encode())

    def image_digest(self) -> str:
        """64 hex digits over ids and encoded images, in their order; reads every image."""
        digest = hashlib.sha256()
        for index, crop_id in enumerate(self.ids):
            image = self.images[int(self.rows[index])].as_buffer()
            digest.update(f"{crop_id}\t{image.size}\n".encode())
            digest.update(image)
        return digest.hexdigest()
