"""The embedder: uint8 crops in, unit embeddings out, whatever file the network came from."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.nets.files import Network, load_network
from facekd.nets.runtimes import pieces, spread


class Embedder:
    """A network ready to embed; any thread and any forked process may use it.

    Example::

        embedder = Embedder.load("model.onnx")
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
    ) -> Self:
        """The embedder in a run folder, a ``.safetensors`` or an ``.onnx`` file; see `load_network`.

        Args:
            contract: what an ONNX model expects of a crop, where facekd does not know it.
            threads: cores it may use; None takes all.
            backend: ``onnxruntime`` or ``openvino`` for an ONNX file, ``torch`` for a run. None takes ONNX Runtime and
                torch; which runtime is faster on a machine ``benchmarks/embed.py`` says.

        Raises:
            UserError: no such file, no network, no contract, or a contract or backend that does not fit it.
        """
        return cls(load_network(Path(path), None if contract is None else Path(contract), threads, backend))

    @property
    def contract(self) -> Contract:
        return self.network.contract

    @property
    def model_id(self) -> str:
        return self.network.contract.model_id

    def embed(self, crops: Array) -> Array:
        """Embeddings of crops, in order.

        Args:
            crops: uint8[N, S, S, 3], RGB, aligned to the contract's template.

        Returns:
            float32[N, D] of unit norm; a crop for which the network gives zero or no finite numbers has a row
            that Embeddings refuses.

        Raises:
            UserError: crops of another size than the contract's.
        """
        to_input(crops[:0], self.contract)  # refuses crops of another form before any thread starts
        threads = self.network.threads
        parts = pieces(len(crops), threads, self.network.few)
        found = spread(lambda part: self._embed(crops[part]), parts, threads)
        return np.concatenate([np.zeros((0, self.contract.dim), np.float32), *found])

    def _embed(self, crops: Array) -> Array:
        if self.network.uint8:
            return unit(self.network.step(np.ascontiguousarray(crops)))
        vectors = self.network.step(to_input(crops, self.contract))
        if self.contract.flip:
            vectors = vectors + self.network.step(to_input(crops[:, :, ::-1], self.contract))
        return unit(vectors)
