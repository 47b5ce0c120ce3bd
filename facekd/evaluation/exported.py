"""Whether an exported network tells people apart as well as its source: on a pair list, or on all pairs of crops whose
people are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.export import Worse
from facekd.errors import UserError
from facekd.evaluation.judged import from_crops
from facekd.evaluation.model_rates import differences, judge_everybody, judge_scores
from facekd.evaluation.protocols import Everybody, ListedPairs, read_list
from facekd.evaluation.results import Judged, ModelDifference

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
JUDGED_FAR = 1e-3  # or the lowest above it that the pairs can show
MOST_LOST = 0.003  # of the TAR there
CALIBRATED = 256  # crops
CALIBRATING = 0.25  # of the people, at most, where the others are judged
MOST_JUDGED = 10_000  # crops, of all pairs


@dataclass(frozen=True, slots=True)
class ExportTrial:
    """What an export is judged on, and the crops that are left to calibrate it on."""

    what: str
    crops: CropSet
    judged_on: ListedPairs | Everybody
    calibrating: Array  # int64[K], of `crops`; of nobody who is judged, where there are others
    apart: bool  # whether there were

    def judge(self, name: str, file: Path, embedder: CropEmbedder, quiet: bool) -> Judged:
        """A model's rates on these pairs."""
        model = from_crops(name, file, embedder, self.crops, quiet)
        on = self.judged_on
        if isinstance(on, Everybody):
            return judge_everybody(model, on, FARS)
        return judge_scores(model, model.scores(on), on, FARS)

    def compare(self, exported: Judged, source: Judged) -> ExportComparison:
        """TAR of an export minus that of its source."""
        persons = None if isinstance(self.judged_on, Everybody) else self.judged_on.persons
        return ExportComparison(self.what, self.apart, exported, differences([exported, source], persons, FARS))


@dataclass(frozen=True, slots=True)
class ExportComparison:
    """An export beside its source, on the same pairs."""

    what: str
    apart: bool  # whether nobody who is judged calibrates
    exported: Judged
    differences: tuple[ModelDifference, ...]  # of TAR at each FAR, exported minus source

    @property
    def counts(self) -> ModelDifference | None:
        """The difference that counts: at the lowest FAR, from 1e-3 up, that the pairs can show."""
        shown = [one for one in self.differences if one.difference is not None and one.far_asked >= JUDGED_FAR]
        return min(shown, key=lambda one: one.far_asked, default=None)

    @property
    def holds(self) -> bool:
        """Whether it can be shown, and no more than MOST_LOST is lost."""
        found = self.counts
        return found is not None and found.difference is not None and found.difference >= -MOST_LOST

    def thresholds(self) -> dict[float, float]:
        """FAR -> cosine, of the export's own."""
        found = {rate.far_asked: rate.threshold for rate in self.exported.rates.tar}
        return {far: value for far, value in found.items() if value is not None and abs(value) <= 1}

    def values(self) -> dict[str, object]:
        """As JSON: TAR of the export, and its difference to the source, with 95 % intervals."""
        tar = [
            {"far": one.far_asked, "tar": one.tar, "low": one.low, "high": one.high, "threshold": one.threshold}
            for one in self.exported.rates.tar
            if one.tar is not None
        ]
        rows = [
            {"far": one.far_asked, "difference": one.difference, "low": one.low, "high": one.high}
            for one in self.differences
            if one.difference is not None
        ]
        return {"on": self.what, "tar": tar, "difference_to_source": rows}


def points(found: ModelDifference) -> str:
    """A difference of TAR as it reads."""
    assert found.difference is not None
    if found.low is None or found.high is None:
        return f"{100 * found.difference:+.2f} points"
    low, high = 100 * found.low, 100 * found.high
    return f"{100 * found.difference:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"


def on_pairs(path: Path, crops: CropSet, store: Path, seed: int) -> ExportTrial:
    """The trial on a pair list; calibrated on crops of people whom it does not name, where there are enough.

    Raises:
        UserError: as `read_list`.
    """
    listed = read_list(path, crops, store)
    needed = set(listed.needed())
    in_list = np.array([crop_id in needed for crop_id in crops.ids])
    people = {who for who, judged in zip(crops.identities, in_list, strict=True) if judged and who is not None}
    known = np.array([who in people for who in crops.identities])
    free = np.flatnonzero(~in_list & ~known)
    apart = len(free) >= CALIBRATED // 4
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(free if apart else np.arange(len(crops)))[:CALIBRATED]
    return ExportTrial(path.name, crops, listed, np.sort(drawn), apart)


def on_everybody(crops: CropSet, seed: int) -> ExportTrial | None:
    """The trial on all pairs of crops whose people are known, a part of whom calibrate and are not judged.

    None where too few people are known: fewer than four, or none of whom there are two crops.
    """
    places: dict[str, list[int]] = {}
    for place, who in enumerate(crops.identities):
        if who is not None:
            places.setdefault(who, []).append(place)
    people = sorted(places)
    order = np.random.default_rng(seed).permutation(len(people))
    calibrating: list[int] = []
    taken = 0
    while taken < int(CALIBRATING * len(people)) and len(calibrating) < CALIBRATED:
        calibrating += places[people[order[taken]]]
        taken += 1
    judged: list[str] = []
    total = 0
    for i in order[taken:]:
        total += len(places[people[i]])
        if total > MOST_JUDGED and judged:
            break
        judged.append(people[i])
    if taken == 0 or len(judged) < 3 or not any(len(places[who]) > 1 for who in judged):
        return None
    rows = [place for who in sorted(judged) for place in places[who]]
    ids = tuple(crops.ids[i] for i in rows)
    whose = tuple(str(crops.identities[i]) for i in rows)
    on = Everybody(crops.path.name, ids, whose, tuple(crops.sources[i] for i in rows), (), (), {})
    what = f"all pairs of {len(rows)} crops of {len(judged)} people"
    return ExportTrial(what, crops, on, np.sort(np.array(calibrating[:CALIBRATED], np.int64)), True)


def refuse_lost(comparison: ExportComparison, precision: str, *, must_show: bool) -> None:
    """Refuse an export that tells people apart worse than its source.

    Args:
        must_show: refuse it too where the pairs can't show it.

    Raises:
        Worse: more than MOST_LOST is lost.
        UserError: the pairs show nothing, and they have to.
    """
    found = comparison.counts
    if found is None:
        if must_show:
            raise UserError(
                f"{comparison.what}: too few to show a TAR at any FAR, so nothing tells whether {precision} loses "
                "people; give pairs of more people"
            )
        return
    if not comparison.holds:
        raise Worse(
            f"the exported network tells people apart worse than its source: TAR at FAR {found.far_asked:g} is "
            f"{points(found)} on {comparison.what}, more than {100 * MOST_LOST:.1f} points lost in {precision}; "
            "nothing was written"
        )
