"""The embedder: uint8 crops in, unit embeddings out, whatever file the network came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np

from facekd.core.contract import Contract
from facekd.core.pixels import crops_problem, to_input, unit
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.files import Network, load_network
from facekd.nets.runtimes import pieces, spread


class CropEmbedder:
    """A network ready to embed; any thread and any forked process may use it.

    For example:

        embedder = CropEmbedder.load("model.onnx")
        vectors = embedder.embed(crops)  # uint8[N, 112, 112, 3] RGB -> float32[N, D] of unit norm
    """

    def __init__(self, network: Network) -> None:
        self.network = network

    @classmethod
    def load(
        cls,
        path: str | Path,
        contract: str | Path | None = None,
        threads: int | None = None,
        backend: str | None = None,
        *,
        quick: bool = True,
    ) -> Self:
        """The embedder in a run folder, a ``.safetensors`` or an ``.onnx`` file; see `load_network`.

        Args:
            contract: what an ONNX model expects of a crop, where facekd does not know it.
            threads: cores it may use; None takes all.
            backend: ``onnxruntime`` or ``openvino`` for an ONNX file, ``torch`` for a run. None takes ONNX Runtime and
                torch; which runtime is faster on a machine ``benchmarks/embed.py`` says.
            quick: let ONNX Runtime run the quickest form that gives the same embeddings, not the file as it comes.

        Raises:
            UserError: no such file, no network, no contract, or a contract or backend that does not fit it.
        """
        given = None if contract is None else Path(contract)
        return cls(load_network(Path(path), given, threads, backend, quick=quick))

    @property
    def contract(self) -> Contract:
        return self.network.contract

    @property
    def model_id(self) -> str:
        return self.network.contract.model_id

    def flipping(self) -> CropEmbedder:
        """The same, adding to each crop's embedding that of its mirror image before the norm is taken (flip test).

        Source: insightface, recognition/arcface_torch/eval/verification.py, `test`.
        """
        contract = replace(self.network.contract, flip=True)
        if self.network.takes is None or self.contract.flip:
            return CropEmbedder(replace(self.network, contract=contract))
        step = self.network.step  # its preprocessing is inside, and a flip would be too
        width = 2 if self.network.uint8 else 3

        def both(inputs: Array) -> Array:
            vectors: Array = step(inputs) + step(np.ascontiguousarray(np.flip(inputs, width)))
            return vectors

        return CropEmbedder(replace(self.network, contract=contract, step=both))

    def embed(self, crops: Array | Sequence[Array]) -> Array:
        """Embeddings of crops, in order.

        Args:
            crops: uint8[N, S, S, 3], RGB, aligned to the contract's template; a list of such crops is stacked.

        Returns:
            float32[N, D] of unit norm; a crop for which the network gives zero or no finite numbers has a row
            that Embeddings refuses.

        Raises:
            UserError: no uint8 crops, or of another size than the contract's.
        """
        pixels = self._checked(crops)  # before any thread starts
        threads = self.network.threads
        parts = pieces(len(pixels), threads, self.network.few)
        found = spread(lambda part: self._embed(pixels[part]), parts, threads)
        return np.concatenate([np.zeros((0, self.contract.dim), np.float32), *found])

    def _checked(self, crops: Array | Sequence[Array]) -> Array:
        size = self.contract.size
        if isinstance(crops, list | tuple) and all(isinstance(crop, np.ndarray) for crop in crops):
            shapes = sorted({crop.shape for crop in crops})
            if len(shapes) > 1:
                raise UserError(f"crops of several shapes ({', '.join(map(str, shapes))}): align them all alike")
            crops = np.stack(crops) if crops else np.zeros((0, size, size, 3), np.uint8)
        problem = crops_problem(crops, size)
        if problem:
            raise UserError(problem)
        return np.asarray(crops)

    def _embed(self, crops: Array) -> Array:
        if self.network.uint8:
            return unit(self.network.step(np.ascontiguousarray(crops)))
        fed = self.network.fed
        vectors = self.network.step(to_input(crops, fed))
        if fed.flip:
            vectors = vectors + self.network.step(to_input(crops[:, :, ::-1], fed))
        return unit(vectors)
