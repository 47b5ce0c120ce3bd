"""facekd audit: possible label errors and copies in a training set."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from facekd.console import say, table
from facekd.crops.suspects import CopiedCrop, DoubtfulCrop
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
    copies: tuple[CopiedCrop, ...] = ()  # all but the first of each picture that a person has more than once

    @property
    def exit_code(self) -> int:
        return 1 if self.suspects or self.copies else 0


@door
def audit(
    data: Path,
    *,
    network: JudgingNetwork = JudgingNetwork(),
    file: AuditFile = AuditFile(),
    quiet: bool = False,
) -> Audit:
    """Find the crops that are nearer to another identity's mean embedding than to their own's, and copies.

    Some are filed under the wrong person, some are poor photos, some show a person who is there under two names:
    look before you drop, at the page of --show. A copy is a picture that its person has already. Exits with 1 when
    there are any.

    Example: facekd audit crops/ --out suspects.csv --show suspects.html

    Args:
        data: Crop store, image Parquet or .rec with identities.
        quiet: Print nothing.
    """
    import numpy as np

    from facekd.crops.copies import copies_within
    from facekd.crops.leaks import nearer_to_others
    from facekd.crops.read import read_crops
    from facekd.deploy.default import default_model
    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.judged import embed_crops

    path, out = network.embedder or default_model(), file.out
    embedder, crops = CropEmbedder.load(path, network.contract), read_crops(data)
    crops.check_fits(embedder.contract)
    crops = crops.take(np.flatnonzero([identity is not None for identity in crops.identities]))
    if len(set(crops.identities)) < 2:
        raise UserError(f"{data}: has fewer than two identities, so nobody can be mistaken for another")
    vectors = embed_crops("embed the crops", embedder, crops, crops.ids, quiet).vectors
    people = [str(identity) for identity in crops.identities]
    own, other, nearest = nearer_to_others(vectors, people)
    photos = Counter(crops.identities)
    order = np.argsort(own - other, kind="stable")
    suspects = tuple(
        DoubtfulCrop(
            crops.ids[i], crops.sources[i], str(crops.identities[i]), float(own[i]), nearest[i], float(other[i])
        )
        for i in order
        if photos[crops.identities[i]] > 1 and other[i] > own[i]
    )
    first = copies_within(crops, vectors, people)
    copies = tuple(
        CopiedCrop(crops.ids[i], crops.sources[i], people[i], crops.sources[first[i]]) for i in sorted(first)
    )
    result = Audit(len(crops), sum(count == 1 for count in photos.values()), suspects, copies)
    if out is not None:
        _write(out, result)
    if file.show is not None:
        from facekd.evaluation.suspects_page import write_suspects

        words = ["facekd", "audit", str(data), "--embedder", str(path), "--show", str(file.show)]
        write_suspects(file.show, suspects, MOST_PICTURED, crops, first, shlex.join(words))
        say(f"{file.show} shows {min(len(suspects), MOST_PICTURED)} of them with pictures", quiet)
    _print(result, out, quiet)
    return result


def _write(out: Path, result: Audit) -> None:
    from facekd.core.files import write_csv

    doubted = {one.crop_id for one in result.suspects}
    rows = [
        [one.crop_id, one.source, one.identity, f"{one.own:.4f}", one.nearest, f"{one.other:.4f}", ""]
        for one in result.suspects
    ]
    rows += [
        [one.crop_id, one.source, one.identity, "", "", "", one.first]
        for one in result.copies
        if one.crop_id not in doubted
    ]
    # No column identity: --drop would take the whole person away.
    write_csv(out, ["crop", "source", "filed under", "own", "nearest", "other", "copy of"], rows)


def _print(result: Audit, out: Path | None, quiet: bool) -> None:
    if result.alone:
        say(f"{result.alone} crops are the only one of their identity and were not judged", quiet)
    if result.copies:
        one = result.copies[0]
        where = f"{out} lists them" if out else "--out lists them"
        say(
            f"{len(result.copies)} crops show a picture that their person has already, such as {one.source} that of "
            f"{one.first}; {where}",
            quiet,
        )
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
