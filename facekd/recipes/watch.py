"""What a person sees while a network trains: where it is, how quick it is, and what looks wrong, with its cure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import numpy as np

from facekd.core.printable import percent
from facekd.core.types import Array
from facekd.crops.copies import ALIKE, hashes_apart, picture_hash
from facekd.crops.cropset import CropSet
from facekd.crops.training import TrainingCrops
from facekd.recipes.card import TAR
from facekd.reports.training_plots import is_term

AROUND = 30.0  # seconds over which the pace is taken
WINDOW = 50  # steps whose mean is held against that of the first ones
SINCE = 250  # steps after which a term is to have moved
MOVED = 0.01  # share of a term's first value; less than this, or than its own noise, is no movement
NOISE = 3.0  # standard errors of the difference of two means
FEW_PEOPLE = 100
CHANCE = 0.4  # EER; knowing nothing is 0.5
LOOKED_AT = 4  # batches whose crops are compared


@dataclass(frozen=True, slots=True)
class Watched:
    """What is to be known of a training to speak of its steps."""

    batch: int = 0  # crops of a step; 0 is not known
    weights: Mapping[str, float] = field(default_factory=dict)  # of the terms, where they can be given
    rising: int = 0  # steps until every term has its whole weight
    side_of: Callable[[int], int] | None = None  # step from 0 -> side in pixels of the images that are learned from

    @property
    def cost(self) -> Callable[[int], float] | None:
        """Of a step, by its images' pixels, where they are not all of one size."""
        side_of = self.side_of
        return None if side_of is None else lambda step: float(side_of(step)) ** 2

    def grown(self, step: int) -> str:
        """Words where the step after `step` steps is the first on images of another size; else empty."""
        if self.side_of is None or step == 0 or self.side_of(step) == self.side_of(step - 1):
            return ""
        side = self.side_of(step)
        return f"from here on images of {side}×{side} pixels; the loss may jump, the pace changes"


class Shown:
    """The words beside a training's progress: ``loss 12.3 (labels 8.9, embedding 3.4), lr 0.02, 31 crops/s``.

    Args:
        batch: crops of a step.
        clock: seconds.
    """

    def __init__(self, batch: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._batch, self._clock = batch, clock
        self._times: deque[tuple[float, int]] = deque()
        self._judged = ""

    def see(self, row: Mapping[str, float]) -> None:
        """Note a step, right after it."""
        now = self._clock()
        self._times.append((now, int(row["step"])))
        while len(self._times) > 2 and now - self._times[1][0] >= AROUND:
            self._times.popleft()
        self._judged = judged(row) or self._judged

    def words(self, row: Mapping[str, float]) -> str:
        """Of a row of metrics."""
        parts = [losses(row), f"lr {row['lr']:.3g}"]
        if self._batch and len(self._times) > 1:
            (began, first), (ended, last) = self._times[0], self._times[-1]
            parts.append(f"{self._batch * (last - first) / max(ended - began, 1e-9):.3g} crops/s")
        return ", ".join([*parts, *([self._judged] if self._judged else [])])


def losses(row: Mapping[str, float]) -> str:
    """The loss, and its weighted terms where they are several."""
    terms = {key: value for key, value in row.items() if is_term(key)}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in terms.items())
    return f"loss {row['loss']:.4g}" + (f" ({shown})" if len(terms) > 1 else "")


def judged(row: Mapping[str, float]) -> str:
    """The rates on held-out people, and the step that they are of; empty of a row without."""
    return f"held out at step {int(row['step'])}: {found}" if (found := held_out(row)) else ""


def held_out(row: Mapping[str, float]) -> str:
    """The rates on held-out people; empty of a row without."""
    parts = [f"TAR {percent(value, 1)} at FAR {key.removeprefix(TAR)}" for key, value in row.items() if TAR in key]
    if "held_out_eer" in row:
        parts.append(f"EER {percent(row['held_out_eer'], 1)}")
    if "held_out_cosine" in row:
        parts.append(f"cosine to the teacher {row['held_out_cosine']:.3f}")
    return ", ".join(parts)


class Movement:
    """Notices terms of the loss that stay where they began.

    Args:
        begin: the first step that counts: warmed up, and every weight risen.
        weights: of the terms; those that are not named have none that could be raised.
    """

    def __init__(self, begin: int, weights: Mapping[str, float]) -> None:
        self._begin, self._weights = begin, weights
        self._values: dict[str, list[float]] = {}
        self._done: set[str] = set()  # what has moved, or was told of

    def see(self, row: Mapping[str, float]) -> list[str]:
        """A sentence for each term that is seen to stand still at this step, once."""
        step = int(row["step"])
        if step <= self._begin:
            return []
        found = []
        for name in filter(is_term, row):
            values = self._values.setdefault(name, [])
            values.append(row[name])
            if name in self._done or len(values) < SINCE or len(values) % WINDOW:
                continue
            first, last = values[:WINDOW], values[-WINDOW:]
            noise = NOISE * ((stdev(first) ** 2 + stdev(last) ** 2) / WINDOW) ** 0.5
            self._done.add(name)
            if abs(fmean(last) - fmean(first)) <= max(MOVED * abs(fmean(first)), noise):
                found.append(self._sentence(name, fmean(first), fmean(last), step, len(values)))
        return found

    def _sentence(self, name: str, first: float, last: float, step: int, count: int) -> str:
        cures = ["a higher --lr", "more --epochs"]
        if name in self._weights and len(self._weights) > 1:
            cures.insert(0, f"more weight, such as --term {name}={4 * self._weights[name]:g}")
        if name == "labels":
            cures.append("fewer people by --minimum")
        return (
            f"{name} does not move: {first:.4g} and {last:.4g} in the first and the last {WINDOW} of {count} steps up "
            f"to {step}; what may help: {', '.join(cures)}"
        )


def data_warnings(crops: TrainingCrops, sample: Callable[[int], tuple[Array, Array]], alone: bool) -> list[str]:
    """What is wrong with crops to learn from, a sentence each.

    Args:
        sample: step -> places of the crops in the batch, and view numbers.
        alone: labels are all that is learned from.
    """
    found = []
    if alone and len(crops.names) < FEW_PEOPLE:
        found.append(
            f"{len(crops.names)} people are few to learn from: what sets them apart need not tell others apart; give "
            "more --data, distill from a --teacher, or begin at a trained network with --init-from"
        )
    share = copies(crops.train, [sample(step)[0] for step in range(LOOKED_AT)])
    if share > 0.5:
        found.append(
            f"{percent(share, 0)} of the crops in a batch show a picture that is in it once more: leave copies out "
            "(facekd audit --out lists them for --drop), or lower --per-person and --batch"
        )
    return found


def teacher_warning(path: str, rates: Mapping[str, float]) -> str:
    """A sentence where a teacher's rates on held-out people are those of chance; else empty."""
    if rates.get("held_out_eer", 0.0) < CHANCE:
        return ""
    return (
        f"{path} tells held-out people apart hardly better than chance (EER {percent(rates['held_out_eer'], 0)}): what "
        "it says of these crops is not worth learning; check its --contract and how the crops were aligned, or take "
        "another teacher"
    )


def chance_warning(rates: Mapping[str, float]) -> str:
    """A sentence where a training ends no better than chance on held-out people; else empty."""
    if rates.get("held_out_eer", 0.0) < CHANCE:
        return ""
    return (
        f"held-out people are told apart hardly better than by chance (EER {percent(rates['held_out_eer'], 0)}); what "
        "may help: more --epochs, more people in --data, distilling from a --teacher, or --init-from a trained network"
    )


def copies(crops: CropSet, batches: Sequence[Array]) -> float:
    """Share of the crops whose picture lies in the same batch once more, by hashes of how brightness changes."""
    twice = total = 0
    for places in batches:
        hashes = np.stack([picture_hash(pixels) for pixels in crops.batch(places)])
        apart = hashes_apart(hashes, hashes)
        np.fill_diagonal(apart, hashes.shape[1])
        twice += int((apart.min(axis=1) <= ALIKE).sum())
        total += len(places)
    return twice / total
