"""facekd audit: possible label errors in a training set."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from facekd.console import say, table
from facekd.crops.suspects import DoubtfulCrop
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import AuditFile, JudgingNetwork

SHOWN = 20  # crops that are printed
MOST_PICTURED = 200  # on the page


@dataclass(frozen=True, slots=True)
class Audit:
    """The suspects, the clearest first."""

    crops: int
    alone: int  # of them: the only crop of their identity, which nothing can be said of
    suspects: tuple[DoubtfulCrop, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.suspects else 0


@door
def audit(
    data: Path,
    *,
    network: JudgingNetwork,
    file: AuditFile = AuditFile(),
    quiet: bool = False,
) -> Audit:
    """Find the crops that are nearer to another identity's mean embedding than to their own's.

    Some are filed under the wrong person, some are poor photos, some show a person who is there under two names:
    look before you drop, at the page of --show. Exits with 1 when there are any.

    Example: facekd audit crops/ --embedder w600k_mbf.onnx --out suspects.csv

    Args:
        data: Crop store, image Parquet or .rec with identities.
        quiet: Print nothing.
    """
    import numpy as np

    from facekd.crops.leaks import nearer_to_others
    from facekd.crops.read import read_crops
    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.judged import embed_crops

    embedder, crops, out = CropEmbedder.load(network.embedder, network.contract), read_crops(data), file.out
    crops.check_fits(embedder.contract)
    crops = crops.take(np.flatnonzero([identity is not None for identity in crops.identities]))
    if len(set(crops.identities)) < 2:
        raise UserError(f"{data}: has fewer than two identities, so nobody can be mistaken for another")
    vectors = embed_crops("the crops", embedder, crops, crops.ids, quiet).vectors
    own, other, nearest = nearer_to_others(vectors, [str(identity) for identity in crops.identities])
    photos = Counter(crops.identities)
    order = np.argsort(own - other, kind="stable")
    suspects = tuple(
        DoubtfulCrop(
            crops.ids[i], crops.sources[i], str(crops.identities[i]), float(own[i]), nearest[i], float(other[i])
        )
        for i in order
        if photos[crops.identities[i]] > 1 and other[i] > own[i]
    )
    result = Audit(len(crops), sum(count == 1 for count in photos.values()), suspects)
    if out is not None:
        _write(out, result)
    if file.show is not None:
        from facekd.evaluation.suspects_page import write_suspects

        words = ["facekd", "audit", str(data), "--embedder", str(network.embedder), "--show", str(file.show)]
        write_suspects(file.show, suspects, MOST_PICTURED, crops, shlex.join(words))
        say(f"{file.show} shows {min(len(suspects), MOST_PICTURED)} of them with pictures", quiet)
    _print(result, out, quiet)
    return result


def _write(out: Path, result: Audit) -> None:
    from facekd.core.files import write_csv

    rows = (
        [one.crop_id, one.source, one.identity, f"{one.own:.4f}", one.nearest, f"{one.other:.4f}"]
        for one in result.suspects
    )
    # No column identity: --drop would take the whole person away.
    write_csv(out, ["crop", "source", "filed under", "own", "nearest", "other"], rows)


def _print(result: Audit, out: Path | None, quiet: bool) -> None:
    if result.alone:
        say(f"{result.alone} crops are the only one of their identity and were not judged", quiet)
    if not result.suspects:
        say(f"none of {result.crops} crops is nearer to another person than to its own", quiet)
        return
    rows = [
        [one.source, one.identity, f"{one.own:.3f}", one.nearest, f"{one.other:.3f}"] for one in result.suspects[:SHOWN]
    ]
    title = f"{len(result.suspects)} of {result.crops} crops are nearer to another person than to their own"
    table(title, ["crop", "identity", "cosine", "nearest other", "cosine"], rows, quiet)
    if len(result.suspects) > SHOWN:
        say(f"… and {len(result.suspects) - SHOWN} more; " + (f"{out} has all" if out else "--out writes all"), quiet)
