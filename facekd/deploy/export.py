"""A trained network as one ONNX file that says what it expects, checked against its source."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.files import METADATA


@dataclass(frozen=True, slots=True)
class Parity:
    """How far an exported network is from its source, over some crops."""

    crops: int
    least_cosine: float  # between the two embeddings of a crop, the worst crop
    largest_difference: float  # between two numbers of unit embeddings


class UnitNorm(nn.Module):
    """A network whose embeddings leave with unit norm."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.normalize(self.net(input))


def to_onnx(net: nn.Module, contract: Contract, about: dict[str, str]) -> bytes:
    """The network as an ONNX file: dynamic batch, unit embeddings, the contract in its metadata.

    Args:
        net: takes float32[B, 3, S, S] as `contract` says.
        about: further metadata, such as the data's terms.
    """
    net = UnitNorm(net.to(memory_format=torch.contiguous_format)).eval()  # type: ignore[call-overload]
    example = torch.zeros(2, 3, contract.size, contract.size)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        # torch 2.13's exporter meets its own deprecated tree classes; nothing a user could mend
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
        program = torch.onnx.export(
            net,
            (example,),
            input_names=["input"],
            output_names=["embedding"],
            dynamic_shapes={"input": {0: batch}},
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model: Any = program.model_proto
    for key, value in {METADATA: contract.to_json(), **about}.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    data: bytes = model.SerializeToString()
    return data


def check_parity(net: nn.Module, model: bytes, contract: Contract, crops: Array, least: float = 0.9999) -> Parity:
    """Embed `crops` by the source and by the exported file, in batches of 1 and of all, and compare.

    Args:
        crops: uint8[N, S, S, 3], RGB.
        least: the least cosine that may pass.

    Raises:
        UserError: a crop's two embeddings are further apart than that.
    """
    import onnxruntime

    inputs = to_input(crops, contract, template=contract.template)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        source = unit(net.eval()(torch.from_numpy(inputs)).numpy())
    together = session.run(None, {"input": inputs})[0]
    alone = np.concatenate([session.run(None, {"input": inputs[i : i + 1]})[0] for i in range(len(inputs))])
    cosine = min(float((source * other).sum(axis=1).min()) for other in (together, alone))
    difference = max(float(np.abs(source - other).max()) for other in (together, alone))
    if not cosine >= least:
        raise UserError(
            f"the exported network is not its source: on one of {len(crops)} crops their embeddings' cosine is "
            f"{cosine:.6f}, under {least}; nothing was written, report this with the versions from 'facekd doctor'"
        )
    return Parity(len(crops), cosine, difference)
