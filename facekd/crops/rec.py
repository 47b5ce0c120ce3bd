"""insightface's ``train.rec`` with its ``train.idx``, read in place and without mxnet.

The format is dmlc's RecordIO: for each record the word 0xced7230a, a word of its length and kind, the payload, and
zeros up to the next multiple of four. A payload begins with mxnet's IRHeader: flag uint32, label float32, two ids of
uint64; then ``flag`` further float32 labels, which replace the first; then the encoded crop.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.core.files import sha256_file
from facekd.core.pixels import decode_crop
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.errors import UserError

MAGIC = 0xCED7230A
HEADER = 32  # bytes before the further labels: two words and the IRHeader
WHOLE, FIRST, LAST = 0, 1, 3  # kinds: a record in one piece; the first and the last part of one that holds MAGIC
BLOCK = 1 << 20  # headers read together
UNKNOWN = -1  # the label of a crop of nobody known
EXACT = 2**24  # float32 holds each whole number up to here


def read_rec(path: Path) -> CropSet:
    """The crops of a ``.rec`` file; their identities are ``DIGEST-LABEL``, None for the label -1.

    Each such set counts its people from 0. The first eight digits of the index' digest keep the people of two sets
    apart, wherever the files lie.

    Nothing is copied: the file stays on disk, memory-mapped. Where the first record says, as insightface's does, which
    keys are images, only these are taken.

    Raises:
        UserError: no ``.idx`` beside it, one that does not fit, a ``.rec`` cut short or damaged, no crop in it, or
            labels that float32 can't tell apart.
    """
    index = path.with_suffix(".idx")
    for needed in (path, index):
        if not needed.is_file():
            raise UserError(f"{needed}: no such file; a .rec set is a .rec and an .idx of the same name, side by side")
    if path.stat().st_size < HEADER:
        raise UserError(f"{path}: {path.stat().st_size} bytes hold no record; copy it again")
    keys, offsets = _read_index(index)
    data = np.memmap(path, np.uint8, "r")
    start, end, label, kind = _headers(path, data, offsets)
    is_image = end > start
    if not is_image[0] and keys[0] == 0:
        first = int(label[0])  # insightface: images have the keys 1 … first - 1, what follows describes identities
        # From EXACT on, as Glint360K has it, `first` is rounded; what follows the images holds none.
        is_image &= (keys >= 1) & ((keys < first) | (first >= EXACT))
        rounded = int(np.spacing(label[0])) if first >= EXACT else 0
        if abs(int(is_image.sum()) - (first - 1)) > rounded:
            raise UserError(
                f"{index}: names {int(is_image.sum())} of {first - 1} images of {path.name}; copy both again"
            )
    elif not is_image.all():
        raise UserError(
            f"{path}: the record of key {keys[~is_image][0]} holds no image; leave it out, or copy it again"
        )
    if not is_image.any():
        raise UserError(f"{path}: holds no crop; give an insightface training set")
    keys, label, kind = keys[is_image], label[is_image], kind[is_image]
    unfit = np.flatnonzero((label >= EXACT) | (label < UNKNOWN) | (label != np.trunc(label)))
    if len(unfit):
        raise UserError(
            f"{path}: crop {keys[unfit[0]]} has the label {label[unfit[0]]:.10g}; they are whole numbers under 2**24, "
            "since float32, which holds them, can't tell larger ones apart, or -1 for nobody known; number the people "
            "from 0"
        )
    images, rows = _images(path, data, start[is_image], end[is_image], kind)
    ids = tuple(f"{path.stem}-{key}" for key in keys.tolist())
    try:
        first_crop = decode_crop(images[int(rows[0])].as_py())
    except UserError as error:
        raise UserError(f"{path}: crop {ids[0]} is no readable image; copy the set again") from error
    digest = sha256_file(index)[:8]
    return CropSet(
        path=path,
        ids=ids,
        identities=tuple(None if value == UNKNOWN else f"{digest}-{int(value)}" for value in label),
        sources=ids,
        images=images,
        rows=rows,
        size=first_crop.shape[0],
        template="arcface",
    )


def _read_index(path: Path) -> tuple[Array, Array]:
    """int64 keys and int64 offsets, in order of the offsets."""
    if path.stat().st_size == 0:
        raise UserError(f"{path}: is empty; copy it again")
    try:
        table = np.loadtxt(path, np.int64, delimiter="\t", ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not an index of lines 'key TAB offset' ({error}); copy it again") from error
    if table.size == 0 or table.shape[1] != 2:
        raise UserError(f"{path}: not an index of lines 'key TAB offset'; copy it again")
    keys, times = np.unique(table[:, 0], return_counts=True)
    if (times > 1).any():
        raise UserError(f"{path}: names the key {keys[times > 1][0]} for several records; copy it again")
    table = table[np.argsort(table[:, 1], kind="stable")]
    return table[:, 0], table[:, 1]


def _headers(path: Path, data: Array, offsets: Array) -> tuple[Array, Array, Array, Array]:
    """For each record int64 start and end of its image in the file, float32 label and uint32 kind."""
    past = np.flatnonzero((offsets < 0) | (offsets > len(data) - HEADER))
    if len(past):
        raise UserError(
            f"{path}: is {len(data)} bytes long and its index names a record at {offsets[past[0]]}: one of the two is "
            "cut short or of another set; copy both again"
        )
    starts, ends, labels, kinds = [], [], [], []
    for block in range(0, len(offsets), BLOCK):
        at = offsets[block : block + BLOCK]
        head = np.ascontiguousarray(data[at[:, None] + np.arange(HEADER)])
        words = head.view("<u4")
        elsewhere = (words[:, 0] != MAGIC) | (words[:, 1] >> 29 > FIRST)
        if elsewhere.any():
            wrong = at[elsewhere][0]
            raise UserError(f"{path}: no record begins at byte {wrong}, where its index names one; copy both again")
        length = (words[:, 1] & (2**29 - 1)).astype(np.int64)
        flag, label = words[:, 2].astype(np.int64), head[:, 12:16].copy().view("<f4")[:, 0].copy()
        start, end = at + HEADER + 4 * flag, at + 8 + length
        if (end > len(data)).any():
            raise UserError(f"{path}: ends in the middle of the record at byte {at[end > len(data)][0]}; copy it again")
        if (start > end).any():
            raise UserError(
                f"{path}: the record at byte {at[start > end][0]} holds fewer labels than it says; copy it again"
            )
        more = np.flatnonzero(flag)
        label[more] = np.ascontiguousarray(data[at[more, None] + HEADER + np.arange(4)]).view("<f4")[:, 0]
        if not np.isfinite(label).all():
            wrong = at[~np.isfinite(label)][0]
            raise UserError(f"{path}: the record at byte {wrong} has a label that is no number; copy it again")
        starts.append(start)
        ends.append(end)
        labels.append(label)
        kinds.append(words[:, 1] >> 29)
    return np.concatenate(starts), np.concatenate(ends), np.concatenate(labels), np.concatenate(kinds)


def _images(path: Path, data: Array, start: Array, end: Array, kind: Array) -> tuple[pa.ChunkedArray, Array]:
    """The images where they lie in the file, as every second value of one array, and the place of each in it."""
    if (start[1:] < end[:-1]).any():
        raise UserError(f"{path}: its index names overlapping records; copy both again")
    bounds = np.stack([start, end], axis=1).ravel()  # image, gap, image, gap, …, image
    lying = pa.Array.from_buffers(pa.large_binary(), len(bounds) - 1, [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    rows = 2 * np.arange(len(start))
    split = np.flatnonzero(kind != WHOLE)
    if len(split) == 0:
        return pa.chunked_array([lying]), rows
    joined = [_joined(path, data, int(start[i]), int(end[i])) for i in split]
    rows[split] = len(lying) + np.arange(len(split))
    return pa.chunked_array([lying, pa.array(joined, pa.large_binary())]), rows


def _joined(path: Path, data: Array, start: int, end: int) -> bytes:
    """The image of a record whose payload holds MAGIC: the parts of the record with MAGIC between them."""
    pieces = [data[start:end].tobytes()]
    while True:
        at = end + -end % 4
        words = data[at : at + 8].tobytes()
        if len(words) < 8 or int.from_bytes(words[:4], "little") != MAGIC:
            raise UserError(f"{path}: the record before byte {at} lacks its other parts; copy it again")
        word = int.from_bytes(words[4:], "little")
        end = at + 8 + (word & (2**29 - 1))
        if end > len(data):
            raise UserError(f"{path}: ends in the middle of the record at byte {at}; copy it again")
        pieces.append(data[at + 8 : end].tobytes())
        if word >> 29 == LAST:
            return MAGIC.to_bytes(4, "little").join(pieces)
