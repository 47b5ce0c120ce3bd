"""The models that 'facekd verify' judges: by crops that they embed, or by stored embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from facekd.console import progress, say
from facekd.core.types import Embeddings, Scores
from facekd.crops.cropset import CropSet
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import Embedded, read_embeddings
from facekd.errors import UserError
from facekd.evaluation.protocols import ListedPairs
from facekd.rates.score import score

CROPS = 64  # embedded together
FILES = (".onnx", ".safetensors", ".parquet", ".npz", ".npy", ".csv", ".tsv", ".txt")  # what else is there is a folder


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """A model that is judged: where its embeddings come from."""

    name: str
    file: Path
    model_id: str
    embed: Callable[[Sequence[str]], Embeddings]  # ids -> their embeddings, in that order
    embedder: CropEmbedder | None  # None where only its embeddings are there
    given: Scores | None = None  # where only its scores are there
    has: frozenset[str] | None = None  # the ids it has embeddings of; None where it can embed

    @property
    def ids(self) -> tuple[str, ...]:
        """Its model_id, and that of the same network without the flip test."""
        if self.embedder is None or not self.embedder.contract.flip:
            return (self.model_id,)
        return self.model_id, replace(self.embedder.contract, flip=False).model_id

    def scores(self, listed: ListedPairs) -> Scores:
        """Its scores of a list's pairs; a pair with a photo that gave no crop or embedding is a non-match.

        Raises:
            UserError: it has no embedding of half of the list's photos or more.
        """
        if self.given is not None:
            return self.given
        lost = self.lost(listed)
        needed = listed.needed()
        if lost and 2 * len(lost) >= len(needed):
            raise UserError(
                f"{self.file}: lacks {len(lost)} of the {len(needed)} photos of the list that other files have (first: "
                f"{min(lost)}); embed the same photos with each model"
            )
        return score(self.embed([i for i in needed if i not in lost]), listed.pairs, listed.failed | lost)

    def lost(self, listed: ListedPairs) -> frozenset[str]:
        """The ids of a list that its file lacks, where others have them."""
        return frozenset() if self.has is None else frozenset(listed.needed()) - self.has


def judged_models(
    files: Sequence[Path], embedders: Sequence[CropEmbedder], source: CropSet | Sequence[Path], quiet: bool
) -> list[JudgedModel]:
    """The models by what gives their embeddings, each under a short name of its own.

    Args:
        files: of the models; none where only their embeddings are there.
        embedders: of `files`, in their order.
        source: crops to embed, or for each model the file of its embeddings.

    Raises:
        UserError: a file of embeddings that is another model's, or that has two for one id.
    """
    if isinstance(source, CropSet):
        return [
            from_crops(name, path, embedder, source, quiet)
            for name, path, embedder in zip(labels(files), files, embedders, strict=True)
        ]
    given: Sequence[CropEmbedder | None] = embedders or [None] * len(source)
    return [
        from_embeddings(name, path, _read(path, embedder, quiet), embedder, quiet)
        for name, path, embedder in zip(labels(files or source), source, given, strict=True)
    ]


def _read(path: Path, embedder: CropEmbedder | None, quiet: bool) -> Embedded:
    return read_embeddings(path, None if embedder is None else embedder.model_id, quiet)


def labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each model: its file's or folder's; with the folder around it where two share it, as
    ``alone/run``; and with its place where two share that.
    """
    names = [path.stem if path.suffix in FILES else path.resolve().name for path in paths]
    around = [path.resolve().parent.name for path in paths]
    names = [f"{around[i]}/{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def from_crops(name: str, file: Path, embedder: CropEmbedder, crops: CropSet, quiet: bool) -> JudgedModel:
    """A model that embeds crops when it is asked for them."""
    embed = partial(embed_crops, name, embedder, crops, quiet=quiet)
    return JudgedModel(name, file, embedder.model_id, embed, embedder)


def from_embeddings(
    name: str, file: Path, embedded: Embedded, embedder: CropEmbedder | None, quiet: bool = False
) -> JudgedModel:
    """A model whose embeddings were written by 'facekd embed'."""

    stored = embedded.embeddings
    row: dict[str, int] = {}
    for place, crop_id in enumerate(stored.ids):
        first = row.setdefault(crop_id, place)
        if first != place and not np.array_equal(stored.vectors[first], stored.vectors[place]):
            raise UserError(
                f"{file}: {len(stored.ids) - len(set(stored.ids))} ids are embedded more than once, not all alike "
                f"(first: {crop_id}); keep one embedding for each id"
            )
    if len(row) < len(stored.ids):
        say(f"{file}: {len(stored.ids) - len(row)} rows repeat an id with the same embedding; counted once", quiet)

    def pick(ids: Sequence[str]) -> Embeddings:
        missing = [crop_id for crop_id in ids if crop_id not in row]
        if missing:
            raise UserError(
                f"{file}: lacks {len(missing)} embeddings that another file has (first: {missing[0]}); embed the same "
                "photos with each model"
            )
        return Embeddings(stored.vectors[[row[crop_id] for crop_id in ids]], tuple(ids), stored.model_id)

    return JudgedModel(name, file, stored.model_id, pick, embedder, has=frozenset(row))


def embed_crops(label: str, embedder: CropEmbedder, crops: CropSet, ids: Sequence[str], quiet: bool) -> Embeddings:
    """The embeddings of the crops called `ids`, by one model, in their order.

    Args:
        label: what its progress is called.

    Raises:
        UserError: crops of another size than the model's, or a crop for which it gives no direction.
    """

    place = {crop_id: i for i, crop_id in enumerate(crops.ids)}
    pieces = [np.zeros((0, embedder.contract.dim), np.float32)]
    starts = range(0, len(ids), CROPS)
    for start in progress(starts, len(ids), label, quiet, unit=CROPS):
        batch = crops.batch(np.array([place[crop_id] for crop_id in ids[start : start + CROPS]]))
        pieces.append(embedder.embed(batch))
    return Embeddings(np.concatenate(pieces), tuple(ids), embedder.model_id)
