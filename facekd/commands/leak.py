"""facekd leak: who of a training set is also among the people that a network will be judged on."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say, table
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import JudgingNetwork, LeakSearch

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet

FAR = 1e-6  # at which two photos count as one person, where no threshold is given
SHOWN = 20  # leaks that are printed
MOST_PICTURED = 200  # on the page


@dataclass(frozen=True, slots=True)
class Leak:
    """A crop of the training set that shows somebody of the list."""

    crop_id: str
    identity: str | None
    by: str  # name or embedding
    photo: str  # of the list
    person: str | None  # of that photo
    score: float  # cosine of the two; NaN where only the name is the same


@dataclass(frozen=True, slots=True)
class LeakSummary:
    """What was found."""

    leaks: tuple[Leak, ...]  # at most one for each crop, the most alike first, those by name last
    threshold: float
    false_alarms: float  # pairs expected at or over the threshold if nobody were in both; NaN where it was given

    @property
    def exit_code(self) -> int:
        return 1 if self.leaks else 0


@door
def leak(
    train: Path,
    pairs: Path,
    *,
    network: JudgingNetwork = JudgingNetwork(),
    search: LeakSearch = LeakSearch(),
    quiet: bool = False,
) -> LeakSummary:
    """Find the people of a training set who are also in a pair list, by name and by embedding.

    Every crop of the training set is compared with every photo of the list. Without --threshold two photos count as
    one person from the cosine on that one in a million pairs of different people of the list reaches. Exits with 1
    when somebody was found.

    Example: facekd leak crops/ pairs.txt --crops lfw-crops/ --out leaks.csv --show leaks.html

    Args:
        train: The training set: crop store, image Parquet or .rec.
        pairs: What a network will be judged on: a pair list together with --crops, a crop store, image Parquet or .bin.
        quiet: Print nothing.
    """
    import numpy as np

    from facekd.crops.leaks import most_alike, spelling
    from facekd.crops.read import read_crops
    from facekd.deploy.default import default_model
    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.judged import embed_crops

    path, out, threshold = network.embedder or default_model(), search.out, search.threshold
    embedder = CropEmbedder.load(path, network.contract)
    learned, judged = read_crops(train), _judged(pairs, search.crops)
    learned.check_fits(embedder.contract)
    judged.check_fits(embedder.contract)
    theirs = embed_crops("embed the list", embedder, judged, judged.ids, quiet).vectors
    false_alarms = np.nan
    if threshold is None:
        threshold = _threshold(theirs, judged, pairs)
        false_alarms = FAR * len(learned) * len(judged)
    ours = embed_crops("embed the training set", embedder, learned, learned.ids, quiet).vectors
    score, place = most_alike(ours, theirs)

    found = [
        Leak(
            learned.ids[i],
            learned.identities[i],
            "embedding",
            judged.sources[place[i]],
            judged.identities[place[i]],
            float(score[i]),
        )
        for i in np.argsort(-score, kind="stable")
        if score[i] >= threshold
    ]
    known = {one.crop_id for one in found}
    people = {spelling(name): (name, judged.sources[i]) for i, name in enumerate(judged.identities) if name is not None}
    for crop_id, identity in zip(learned.ids, learned.identities, strict=True):
        if crop_id not in known and identity is not None and spelling(identity) in people:
            name, source = people[spelling(identity)]
            found.append(Leak(crop_id, identity, "name", source, name, float("nan")))
    summary = LeakSummary(tuple(found), threshold, false_alarms)
    if out is not None:
        _write(out, summary)
    if search.show is not None:
        from facekd.evaluation.suspects_page import write_leaks

        at = {crop_id: i for i, crop_id in enumerate(learned.ids)}
        beside = {source: i for i, source in enumerate(judged.sources)}
        shown = [(at[one.crop_id], beside[one.photo], _how(one)) for one in found[:MOST_PICTURED]]
        words = ["facekd", "leak", str(train), str(pairs), "--embedder", str(path), "--show", str(search.show)]
        words += [] if search.crops is None else ["--crops", str(search.crops)]
        words += [] if search.threshold is None else ["--threshold", f"{search.threshold:g}"]
        write_leaks(search.show, shown, len(found), learned, judged, shlex.join(words))
        say(f"{search.show} shows {len(shown)} of them with pictures", quiet)
    _print(summary, len(learned), len(judged), out, quiet)
    return summary


def _how(leak: Leak) -> str:
    return "the same name" if leak.by == "name" else f"cosine {leak.score:.3f}"


def _judged(pairs: Path, crops: Path | None) -> CropSet:
    """The crops of the photos that a pair list names, or of a whole set."""
    import numpy as np

    from facekd.crops.bins import read_bin
    from facekd.crops.pairs import read_pairs, resolve
    from facekd.crops.read import photo_names, read_crops

    if crops is None:
        if pairs.suffix == ".bin":
            return read_bin(pairs)[0]
        if pairs.is_file() and pairs.suffix in (".txt", ".csv", ".tsv"):
            raise UserError(f"{pairs}: names photos and holds none; give their crop store with --crops")
        return read_crops(pairs)
    listed, failed = resolve(read_pairs(pairs), photo_names(crops), str(crops))
    crop_set = read_crops(crops)
    wanted = set(listed.photos()) - failed
    return crop_set.take(np.flatnonzero([crop_id in wanted for crop_id in crop_set.ids]))


def _threshold(vectors: Array, crops: CropSet, path: Path) -> float:
    """The cosine that FAR of the impostor pairs of a labeled set reach.

    Raises:
        UserError: a set without labels, or with too few pairs.
    """
    import numpy as np

    from facekd.rates.allpairs import all_pairs

    ask = "give --threshold, such as the one that 'facekd verify' finds at a FAR you accept"
    if any(identity is None for identity in crops.identities):
        raise UserError(f"{path}: does not say who its people are, so no threshold can be taken from it; {ask}")
    (rate,) = all_pairs(vectors, np.array(crops.identities), [FAR])
    if rate.threshold is None:
        raise UserError(f"{path}: its {rate.n_impostor} pairs of different people can't show a FAR of {FAR:g}; {ask}")
    return rate.threshold


def _write(out: Path, summary: LeakSummary) -> None:
    from facekd.core.files import write_csv

    rows = (
        [
            one.identity or "",
            one.crop_id,
            one.by,
            one.photo,
            one.person or "",
            "" if one.by == "name" else f"{one.score:.4f}",
        ]
        for one in summary.leaks
    )
    write_csv(out, ["identity", "crop", "by", "photo", "person", "score"], rows)


def _print(summary: LeakSummary, learned: int, judged: int, out: Path | None, quiet: bool) -> None:
    by = Counter(one.by for one in summary.leaks)
    people = len({one.identity for one in summary.leaks if one.identity is not None})
    say(f"{learned} crops compared with {judged} photos, one person from a cosine of {summary.threshold:.4f}", quiet)
    if not summary.leaks:
        say("nobody is in both", quiet)
        return
    rows = [
        [one.identity or "–", one.crop_id, one.by, one.photo, "–" if one.by == "name" else f"{one.score:.4f}"]
        for one in summary.leaks[:SHOWN]
    ]
    title = f"{len(summary.leaks)} crops of {people} identities ({by['embedding']} by embedding, {by['name']} by name)"
    table(title, ["identity", "crop", "by", "photo of the list", "cosine"], rows, quiet)
    if len(summary.leaks) > SHOWN:
        say(f"… and {len(summary.leaks) - SHOWN} more; " + (f"{out} has all" if out else "--out writes all"), quiet)
    if summary.false_alarms == summary.false_alarms:
        say(f"by chance {summary.false_alarms:.1f} pairs would be that alike if nobody were in both", quiet)
