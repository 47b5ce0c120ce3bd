"""Faces as a step of a scikit-learn pipeline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from facekd.core.choices import DETECTOR, Choice, DetectorName
from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.ingest.alignment import detector_of
from facekd.ingest.photos import embed_photos, load_embedder
from facekd.photos.find import one_photo
from facekd.settings.photos import FaceChoice


class FaceTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Crops or photos in, embeddings out; nothing is learned from the data.

    A photo that gives no embedding has a row of NaN, which the next step refuses or imputes; ``statuses_`` says why.

    For example:

        make_pipeline(FaceTransformer("model.onnx"), KNeighborsClassifier()).fit(paths, names)

    Args:
        model: run folder or ONNX file.
        contract: what an ONNX model expects of a crop, where facekd does not know it.
        detector: how faces are looked for in photos; see ``facekd embed``.
        weights: another ONNX file of yunet's than the one that comes with facekd.
        min_face: smallest face looked for, pixels.
        choose: largest, center or best: the one face of a photo.
    """

    def __init__(
        self,
        model: str | Path = "model.onnx",
        contract: str | Path | None = None,
        detector: DetectorName = DETECTOR,
        weights: str | Path | None = None,
        min_face: int = 20,
        choose: Choice = "best",
    ) -> None:
        self.model = model
        self.contract = contract
        self.detector = detector
        self.weights = weights
        self.min_face = min_face
        self.choose = choose

    def fit(self, X: Any, y: Any = None) -> FaceTransformer:
        """Load the model.

        Raises:
            UserError: no such model.
        """
        contract = self._embedder().contract
        self.model_id_, self._n_features_out = contract.model_id, contract.dim
        return self

    def transform(self, X: Array | Iterable[str | Path]) -> Array:
        """Embeddings, one row for each crop or photo.

        Args:
            X: uint8[N, S, S, 3] RGB crops, or N paths of photos.

        Returns:
            float32[N, D] of unit norm, or NaN.

        Raises:
            UserError: crops of another size than the model's, or no photo at a path.
        """
        check_is_fitted(self)
        if isinstance(X, np.ndarray) and X.dtype == np.uint8:
            vectors = self._embedder().embed(X)
            good = np.abs(np.linalg.norm(vectors, axis=1) - 1) < 1e-3
            self.statuses_ = ["ok" if is_good else "no_embedding" for is_good in good]
            return np.where(good[:, None], vectors, np.float32(np.nan))
        weights = None if self.weights is None else Path(self.weights)
        faces = FaceChoice(detector=self.detector, weights=weights, min_face=self.min_face, choose=self.choose)
        detector_of(faces)  # wrong weights are the caller's mistake: said before the first photo
        files = [one_photo(Path(str(path))).photos[0] for path in np.ravel(np.asarray(X, object))]
        rows = np.full((len(files), self._n_features_out), np.nan, np.float32)
        self.statuses_ = []
        photos = embed_photos(files, self._embedder(), faces, faces.choose)
        for row, photo in zip(rows, photos, strict=True):
            self.statuses_.append(photo.status)
            if photo.ok:
                row[:] = photo.vectors[0]
        return rows

    def _embedder(self) -> CropEmbedder:
        # Kept by the module and not here, so that the step can be copied and sent to other processes.
        return load_embedder(Path(self.model), None if self.contract is None else Path(self.contract))
