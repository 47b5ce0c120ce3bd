"""Scores of somebody else's systems, judged as models are, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from facekd.core.files import sha256_file
from facekd.core.types import Embeddings, Scores
from facekd.crops.scores import alongside, read_scores
from facekd.errors import UserError
from facekd.evaluation.fixed import SCORED
from facekd.evaluation.judged import JudgedModel, labels
from facekd.evaluation.protocols import ListedPairs, persons_of_list


def read_score_files(
    paths: Sequence[Path], lower_is_better: bool, groups: Sequence[str]
) -> tuple[ListedPairs, list[JudgedModel]]:
    """The pairs of the first file, and each file as what gave its scores.

    Raises:
        UserError: as `crops.scores.read_scores`, or files of other pairs than the first's.
    """
    first = read_scores(paths[0], lower_is_better, groups)
    rest = [alongside(first, read_scores(path, lower_is_better), paths[0], path) for path in paths[1:]]
    pairs = first.pairs
    persons, people = persons_of_list(pairs, {}, paths[0])
    name = f"{paths[0].name}, distances times -1" if lower_is_better else paths[0].name
    listed = ListedPairs(name, pairs, frozenset(), persons, first.left_out, people)
    judged = [
        JudgedModel(
            label,
            path,
            f"{SCORED}{sha256_file(path)[:12]}",
            partial(_no_embeddings, path),
            None,
            Scores(one.values, pairs.same, pairs.left, pairs.right, pairs.fold),
        )
        for label, path, one in zip(labels(paths), paths, (first, *rest), strict=True)
    ]
    return listed, judged


def _no_embeddings(path: Path, ids: Sequence[str]) -> Embeddings:
    raise UserError(f"{path}: holds scores of {len(ids)} photos and no embeddings; give --embeddings")
