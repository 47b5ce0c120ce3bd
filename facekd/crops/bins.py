"""insightface's ``.bin`` verification sets (lfw, cfp_fp, agedb_30, calfw, cplfw), read without running their pickle.

Such a file is the pickle of ``([image, image, …], [same, …])``: two encoded 112x112 crops for each pair, in the order
of the pairs; `crops.plain_pickle` reads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from facekd.core.files import sha256_bytes
from facekd.core.names import NameColumn
from facekd.core.pixels import decode_crop
from facekd.core.types import PairList
from facekd.crops.cropset import CropSet
from facekd.crops.plain_pickle import RefusedPickle, unpickle
from facekd.errors import UserError

FOLDS = 10  # insightface judges these sets by sklearn's KFold(10) without shuffling: contiguous tenths


def read_bin(path: Path) -> tuple[CropSet, PairList]:
    """The crops and the pairs of a ``.bin`` set; folds are contiguous tenths of the list.

    A crop's id is the digest of its bytes, so a crop that many pairs use is there once. Who the people are is not in
    the file.

    Raises:
        UserError: no such file, one cut short, one whose pickle wants to do more than hold crops, or whose numbers
            of crops and pairs do not agree.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such .bin set; check the path")
    try:
        # In memory: a length written in the file can then ask for no more than the file has.
        value = unpickle(path.read_bytes())
    except RefusedPickle as error:
        raise UserError(
            f"{path}: {error}, which no verification set needs, so it was not followed; get the file from where you "
            "trust it"
        ) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a whole .bin set ({error}); copy it again") from error
    images, same = _checked(path, value)
    ids = [sha256_bytes(image)[:16] for image in images]
    encoded = dict(zip(ids, images, strict=True))
    crops = CropSet(
        path=path,
        ids=tuple(encoded),
        identities=(None,) * len(encoded),
        sources=tuple(encoded),
        images=pa.chunked_array([pa.array(list(encoded.values()), pa.large_binary())]),
        rows=np.arange(len(encoded)),
        size=decode_crop(images[0]).shape[0],
        template="arcface",
    )
    fold = np.full(len(same), -1, np.int16)
    if len(same) >= FOLDS:
        for number, part in enumerate(np.array_split(np.arange(len(same)), FOLDS)):
            fold[part] = number
    return crops, PairList(NameColumn.of(ids[::2]), NameColumn.of(ids[1::2]), np.array(same, bool), fold)


def _checked(path: Path, value: Any) -> tuple[list[bytes], list[bool]]:
    if isinstance(value, tuple | list):
        value = [part.tolist() if isinstance(part, np.ndarray) and part.ndim == 1 else part for part in value]
    if not (isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(part, list) for part in value)):
        raise UserError(f"{path}: holds no list of images and list of labels; give an insightface .bin set")
    images, same = value
    if not same:
        raise UserError(f"{path}: holds no pair")
    if any(isinstance(image, np.ndarray) and image.ndim > 1 for image in images):
        raise UserError(
            f"{path}: one of its images is an array of pixels, which does not say the order of its channels; put "
            "encoded images into it, as PNG or JPEG"
        )
    if not all(isinstance(image, bytes) or _is_encoded(image) for image in images):
        raise UserError(f"{path}: one of its images is not bytes; give an insightface .bin set")
    if not all(isinstance(label, bool | int | float) and label in (0, 1) for label in same):
        raise UserError(f"{path}: one of its labels is not True or False; give an insightface .bin set")
    if len(images) != 2 * len(same):
        raise UserError(f"{path}: holds {len(images)} images for {len(same)} pairs, not two for each; copy it again")
    return [bytes(image) for image in images], [bool(label) for label in same]


def _is_encoded(image: Any) -> bool:
    """Whether it is an image's file as an array of bytes."""
    return isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 1
