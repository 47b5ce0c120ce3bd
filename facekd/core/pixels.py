"""From crops to network input: the only place in the house that subtracts a mean."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.errors import UserError


def to_input(crops: Array, contract: Contract, *, template: str = "arcface") -> Array:
    """Network input for uint8[B, S, S, 3] RGB crops: ``(pixels - mean) / std``.

    Returns:
        float32[B, 3, S, S], or float32[B, S, S, 3] where the contract's layout is NHWC.

    Raises:
        UserError: no uint8 RGB crops, or of another size or template than the contract's.
    """
    problem = crops_problem(crops, contract.size)
    if problem:
        raise UserError(problem)
    if template != contract.template:
        raise UserError(f"crops aligned to {template!r} for a model that takes {contract.template!r}: align them again")
    values = crops if contract.channels == "RGB" else crops[..., ::-1]
    mean, std = mean_and_std(contract)
    if contract.layout == "NCHW":
        # Moved while a pixel is one byte, and counted with row by row: six times as quick as in the order of the crops.
        values = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        mean, std = mean[:, None, None], std[:, None, None]
    made: Array = values - mean
    made /= std
    return made


def mean_and_std(contract: Contract) -> tuple[Array, Array]:
    """What is subtracted from each channel of the input, in its order, and what it is then divided by: float32[3]."""
    return np.array(contract.mean, np.float32), np.array(contract.std, np.float32)


def to_standard_input(inputs: Array, contract: Contract) -> Array:
    """What `to_input` makes by `contract`, as it makes it by ``contract.standard()``; float32[B, 3, S, S]."""
    values = inputs if contract.layout == "NHWC" else inputs.transpose(0, 2, 3, 1)
    mean, std = mean_and_std(contract)
    pixels = values * std + mean
    pixels = pixels if contract.channels == "RGB" else pixels[..., ::-1]
    usual = contract.standard()
    usual_mean, usual_std = np.float32(usual.mean[0]), np.float32(usual.std[0])
    made: Array = np.ascontiguousarray((pixels.transpose(0, 3, 1, 2) - usual_mean) / usual_std)
    return made


def channel_scale(contract: Contract) -> tuple[Array, Array, Array]:
    """`to_input` channel by channel, for pixels that are on a GPU: ``pixels[order] * factor + summand``.

    Returns:
        int64[3], the RGB channel that each channel of the input is; float32[3]; float32[3].
    """
    mean, std = mean_and_std(contract)
    order = np.arange(3) if contract.channels == "RGB" else np.arange(3)[::-1]
    return order, 1 / std, -mean / std


def crops_problem(crops: Any, size: int) -> str:
    """A sentence where `crops` is not uint8[N, S, S, 3], with what to do; nothing where it is."""
    wanted = f"uint8 RGB crops of shape [N, {size}, {size}, 3] are needed"
    if not isinstance(crops, np.ndarray):
        return f"crops of type {type(crops).__name__}: {wanted}, a NumPy array; numpy.asarray or numpy.stack makes one"
    shape = crops.shape
    remedy = ""
    if crops.ndim == 3 and shape[2] == 3 and shape[0] == shape[1]:
        remedy = "for one crop give crop[None]"
    elif crops.ndim == 3 and shape[0] == 3 and shape[1] == shape[2]:
        remedy = "give crop.transpose(1, 2, 0)[None]"
    elif crops.ndim == 4 and shape[1] == 3 and shape[2] == shape[3] > 3:
        remedy = "channels come last: give crops.transpose(0, 2, 3, 1)"
    elif crops.ndim == 4 and shape[3] == 4:
        remedy = "leave the fourth channel out: give crops[..., :3]"
    elif (crops.ndim == 4 and shape[3] == 1) or crops.ndim in (2, 3):
        remedy = "gray crops have to have three equal channels"
    elif crops.ndim != 4 or shape[3] != 3:
        remedy = "align the photos, or reshape the array"
    if remedy:
        return f"crops of shape {list(shape)}: {wanted}; {remedy}"
    if crops.dtype != np.uint8:
        return (
            f"crops of type {crops.dtype}: {wanted}, pixels 0 to 255 as a photo has them, not normalized; round them "
            "and give crops.astype(numpy.uint8)"
        )
    if shape[1:] != (size, size, 3):
        return f"crops of shape {shape[1:]} for a model that takes {(size, size, 3)}: align them at {size} pixels"
    return ""


def unit(vectors: Array) -> Array:
    """float32[N, D] vectors scaled to unit norm; a zero row stays zero and is refused by Embeddings."""
    with np.errstate(all="ignore"):  # numbers that are not finite are refused with a sentence, as a zero row is
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors / np.where(norms > 0, norms, 1)).astype(np.float32)


JPEG = (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def encode_crop(pixels: Array) -> bytes:
    """A uint8[S, S, 3] RGB crop as JPEG, quality 95, without chroma subsampling."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), JPEG)
    assert ok
    return data.tobytes()


def decode_crop(data: bytes) -> Array:
    """The uint8[S, S, 3] RGB pixels of an encoded crop (JPEG, PNG or WebP).

    Raises:
        UserError: bytes that are no image.
    """
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB) if data else None
    if image is None:
        raise UserError("a stored crop is no readable image: the store is damaged; align its photos again")
    return image
