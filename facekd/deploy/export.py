"""A trained network as one ONNX file that says what it expects, checked against its source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from facekd.core import formats
from facekd.core.contract import Contract
from facekd.core.files import sha256_bytes
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.deploy.blocks import block_forms
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.equalize import equalize
from facekd.deploy.graph import (
    CROPS,
    FED,
    at_older_opset,
    at_opset,
    with_names,
    with_standard_input,
    with_uint8_input,
    with_unit_norm,
)
from facekd.deploy.mixed import int8_forms
from facekd.deploy.quantize import holds_fp16, large_images, to_fp16, with_node_names
from facekd.errors import UserError
from facekd.nets.activation import restore_prelu, rewrite_prelu, split_prelu, tame_prelu
from facekd.nets.facts import digest_of_weights
from facekd.nets.files import INPUT, METADATA, STANDARD, UINT8, WEIGHTS, read_onnx
from facekd.nets.graph import Graph, folded, set_metadata
from facekd.nets.grouped import widen_groups

PRECISION = "facekd.precision"  # key in an ONNX file's metadata
SOURCE = "facekd.source_model_id"  # another: the model that an export of fewer bits was made from
CALIBRATION_BATCH = 16


@dataclass(frozen=True, slots=True)
class Precision:
    """What an export in a precision has to keep of its source."""

    name: str
    least: float  # cosine of the worst crop
    median: float  # and of the middle one
    same_model: bool  # its embeddings may meet the source's


# Fewer bits give other embeddings: close, but a gallery of one is not searched with the other unless it is migrated.
PRECISIONS = {
    "fp32": Precision("fp32", 0.9999, 0.9999, True),
    "fp16": Precision("fp16", 0.999, 0.999, False),
    "int8": Precision("int8", 0.0, 0.97, False),
    "int8-weights": Precision("int8-weights", 0.9, 0.99, False),
    "int4-weights": Precision("int4-weights", 0.0, 0.9, False),
}
WEIGHT_BITS = {"int8-weights": 8, "int4-weights": 4}


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported network is from its source, over some crops."""

    crops: int
    least_cosine: float  # between the two embeddings of a crop, the worst crop
    median_cosine: float
    largest_difference: float  # between two numbers of unit embeddings


class Worse(UserError):
    """An export that is further from its source than it may be; one of more bits may do."""


def read_source(path: Path) -> Any:
    """The ModelProto of an ONNX file that is to be exported anew, weights and all.

    Raises:
        UserError: no ONNX network, one that takes uint8 crops, or one that is quantized.
    """
    model = read_onnx(path)
    if any(entry.value == UINT8 for entry in model.metadata_props):
        raise UserError(f"{path}: takes uint8 crops already; export the network it was made from")
    if any(node.op_type in ("QuantizeLinear", "QLinearConv", "DynamicQuantizeLinear") for node in model.graph.node):
        raise UserError(f"{path}: is quantized already; export the network it was made from")
    onnx.load_external_data_for_model(model, str(path.parent))
    return at_opset(model, str(path))


def prepared(source: Any, contract: Contract, precision: str, takes: str | None, crops: Array | None) -> Any:
    """The first of `forms`."""
    return next(forms(source, contract, precision, takes, crops))


def forms(source: Any, contract: Contract, precision: str, takes: str | None, crops: Array | None) -> Iterator[Any]:
    """The network of `source` as it will be written, but for its metadata.

    One, or for int8 and int4-weights several, each keeping more bits than the one before.

    Args:
        source: a ModelProto of dynamic batch, its embeddings of any norm.
        contract: how `source` is fed.
        takes: nets.files.UINT8 or STANDARD, for a file that takes this instead; None leaves it.
        crops: uint8[N, S, S, 3] to calibrate fewer bits on.
    """
    halves = precision == "fp32" and holds_fp16(source)  # then no weight is changed, which fp16 would hold no longer
    model = folded(source, norms=not halves)
    batches: Sequence[Array] = []
    if crops is not None:
        inputs = to_input(crops, contract)
        batches = [inputs[start : start + CALIBRATION_BATCH] for start in range(0, len(inputs), CALIBRATION_BATCH)]
    if precision == "int8":
        assert batches
        model = equalize(tame_prelu(restore_prelu(model)[0])[0], batches)
        model = rewrite_prelu(model, only=large_images(Graph(model)))[0]  # what stays fp32 takes the form of fp32
        made = int8_forms(with_node_names(widen_groups(split_prelu(model)[0])), batches)
    else:
        model = widen_groups(rewrite_prelu(model, weights=not halves)[0])
        bits = WEIGHT_BITS.get(precision)
        made = iter([model]) if bits is None else block_forms(model, bits, batches[:1])
    for one in made:
        yield _finished(one, contract, precision, takes, halves)


def _finished(model: Any, contract: Contract, precision: str, takes: str | None, halves: bool) -> Any:
    """The network with its input, its unit norm, its names and its opset."""
    if takes == UINT8:
        model = with_uint8_input(model, contract)
    elif takes == STANDARD:
        model = with_standard_input(model, contract)
    if takes is not None or not contract.flip:  # else the mirrored crop's embedding is added before the norm is taken
        model = with_unit_norm(model, contract.dim)
    if precision == "fp16" or halves:
        model = to_fp16(model, exact=halves)
    model = with_names(model, CROPS if takes == UINT8 else FED)
    model = at_older_opset(model)
    onnx.checker.check_model(model)
    return model


def bound(model: Any, source: Contract, precision: str) -> Contract:
    """The contract of an export.

    fp32 computes the source's own embeddings and keeps its contract and model_id. Fewer bits are another model: its
    weights' digest is that of the graph as written, so that also another calibration is another model.
    """
    if PRECISIONS[precision].same_model:
        return source
    return replace(source, weights_sha256=sha256_bytes(model.SerializeToString(deterministic=True)))


def serialized(model: Any, contract: Contract, source: Contract, precision: str, about: dict[str, str]) -> bytes:
    """The bytes of an export with its metadata."""
    number = {formats.METADATA: str(formats.FORMATS["exported network"])}
    weights = {WEIGHTS: digest_of_weights(model)}
    values = {**number, **weights, METADATA: contract.to_json(), PRECISION: precision, **about}
    if contract != source:
        values[SOURCE] = source.model_id
    kept = {entry.key: entry.value for entry in model.metadata_props if entry.key == INPUT}
    del model.metadata_props[:]
    set_metadata(model, {**kept, **values})
    data: bytes = model.SerializeToString()
    return data


def check_parity(
    source: CropEmbedder,
    exported: CropEmbedder,
    crops: Array,
    precision: str,
    precisions: Mapping[str, Precision] = PRECISIONS,
) -> Parity:
    """Embed `crops` by the source and by the exported file, one by one and together, and compare.

    Args:
        crops: uint8[N, S, S, 3], RGB.
        precision: key of `precisions`, which says how close they have to be.

    Raises:
        Worse: embeddings further apart than that.
    """
    wanted = source.embed(crops)
    together = exported.embed(crops)
    alone = np.concatenate([exported.embed(crops[i : i + 1]) for i in range(len(crops))])
    cosines = np.minimum(*((wanted * other).sum(axis=1) for other in (together, alone)))  # NaN stays NaN
    difference = max(float(np.abs(wanted - other).max()) for other in (together, alone))
    parity = Parity(len(crops), float(cosines.min()), float(np.median(cosines)), difference)
    limits = precisions[precision]
    for what, got, least in (
        ("worst", parity.least_cosine, limits.least),
        ("median", parity.median_cosine, limits.median),
    ):
        if not got >= least:
            raise Worse(
                f"the exported network is not its source: the {what} of {len(crops)} crops has a cosine of {got:.6f} "
                f"between its two embeddings, under {least} for {precision}; nothing was written"
            )
    return parity
