"""BLUFR: ten trials on LFW's people, each a development set and a test set; verification and open-set identification.

Source: S. Liao, Z. Lei, D. Yi, S. Z. Li, "A benchmark study of large-scale unconstrained face recognition", IJCB 2014.
Of LFW's 5,749 people 1,500 develop and 4,249 test; of these 1,000 with two photos or more are enrolled by one each,
their other photos are the genuine probes, the photos of the others the impostor probes. Reported are the mean less
the standard deviation over the trials of TAR at FAR 1e-3 over all pairs of the test set, and of the share found at
rank 1 at a FPIR of 1e-2 (their DIR at FAR 1 %). Nothing is trained here, so the development sets only leave people out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.files import no_stream
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.matlab import SETS, read_config
from facekd.evaluation.protocols import Everybody
from facekd.evaluation.results import Cost, JudgedPairs, RequirementCheck, fields_of
from facekd.rates.allpairs import all_pairs
from facekd.rates.identification import search, tpir_at_fpir

TRIALS, SEED = 10, 0
FAR, FPIR = 1e-3, 1e-2
DEVELOP, TEST, ENROLLED = 1500, 4249, 1000  # people of LFW


@dataclass(frozen=True, slots=True)
class Trial:
    """Who is judged: places among the photos, those without a crop behind the others."""

    gallery: Array  # int64[G], one photo of each enrolled person
    probes: Array  # int64[P], all other photos of the test set


@dataclass(frozen=True, slots=True)
class TrialRates:
    """One model in one trial; None where the test set is too small to show it."""

    tar: float | None  # at FAR
    dir: float | None  # found at rank 1, at FPIR
    people: int
    photos: int
    enrolled: int
    genuine_probes: int
    impostor_probes: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A rate over the trials."""

    mean: float
    std: float  # n - 1

    @property
    def reported(self) -> float:
        """What BLUFR reports: the mean less the standard deviation."""
        return self.mean - self.std


@dataclass(frozen=True, slots=True)
class BlufrRates:
    """One model over the trials."""

    model: str
    model_id: str
    file: str
    tar: Spread | None  # None where a trial could not show it
    dir: Spread | None
    trials: tuple[TrialRates, ...]

    def as_json(self) -> dict[str, Any]:
        def spread(one: Spread | None) -> Any:
            return None if one is None else {"mean": one.mean, "std": one.std, "mean_less_std": one.reported}

        return fields_of(self) | {"tar": spread(self.tar), "dir": spread(self.dir)}


@dataclass(frozen=True, slots=True)
class BlufrReport:
    """What 'facekd verify --blufr' says."""

    photos: JudgedPairs
    rule: str  # where the trials come from
    far: float
    fpir: float
    models: tuple[BlufrRates, ...]
    costs: tuple[Cost, ...]
    requirements: tuple[RequirementCheck, ...]
    environment: Mapping[str, Any]


def deal_trials(persons: Sequence[str], seed: int = SEED, trials: int = TRIALS) -> list[Trial]:
    """Trials by BLUFR's rule, in its proportions where there are fewer people than LFW's 5,749.

    Args:
        persons: of each photo.

    Raises:
        UserError: too few people, or none with two photos.
    """
    names = np.array(persons, np.str_)
    people, number, times = np.unique(names, return_inverse=True, return_counts=True)
    n_test = len(people) - round(len(people) * DEVELOP / (DEVELOP + TEST))
    found = []
    for trial in range(trials):
        rng = np.random.default_rng([seed, trial])
        tested = np.sort(rng.permutation(len(people))[:n_test])
        several = tested[times[tested] > 1]
        enrolled = rng.permutation(several)[: round(n_test * ENROLLED / TEST)]
        if len(enrolled) == 0 or len(enrolled) == len(tested):
            pairs = int((times > 1).sum())
            raise UserError(
                f"{len(people)} people, {pairs} of them with two photos, are too few for BLUFR; give LFW's photos"
            )
        chosen = {int(rng.choice(np.flatnonzero(number == person))) for person in np.sort(enrolled)}
        gallery = np.array(sorted(chosen))
        test = np.flatnonzero(np.isin(number, tested))
        found.append(Trial(gallery, np.setdiff1d(test, gallery)))
    return found


def read_trials(path: Path, photos: Sequence[str]) -> tuple[list[Trial], int]:
    """The trials of BLUFR's ``blufr_lfw_config.mat`` among our photos, and how many of its photos we lack.

    Args:
        photos: their names; the file's are LFW's, as ``Aaron_Eckhart_0001.jpg``.

    Raises:
        UserError: another kind of file, or a trial of which too little is left.
    """
    no_stream(path)
    try:
        values = read_config(path)
        listed = [_photo(name) for name in values["imageList"]]
        sets = {key: [np.array(one, np.int64) - 1 for one in values[key]] for key in SETS}
        if any(len(of) == 0 or of.min() < 0 or of.max() >= len(listed) for key in sets for of in sets[key]):
            raise ValueError("an index lies outside imageList")
    except ValueError as error:
        raise UserError(f"{path}: not BLUFR's blufr_lfw_config.mat ({error}); give that file") from error
    place = {_photo(photo): k for k, photo in enumerate(photos)}
    ours = np.array([place.get(photo, -1) for photo in listed])
    found = []
    for gallery, probes in zip(sets["galIndex"], sets["probIndex"], strict=True):
        here = [ours[of][ours[of] >= 0] for of in (gallery, probes)]
        if not all(map(len, here)):
            raise UserError(f"{path}: a trial has no photo among those given; give LFW's photos")
        found.append(Trial(*here))
    return found, int((ours < 0).sum())


def _photo(name: str) -> str:
    """LFW's own name of a photo, whatever folder and suffix it has."""
    return re.sub(r"\.\w+$", "", name.replace("\\", "/").rsplit("/", 1)[-1])


@dataclass(frozen=True, slots=True)
class Trials:
    """The trials among some photos."""

    trials: list[Trial]
    rule: str  # where they come from
    left_out: dict[str, int]  # photos by why


def blufr_trials(people: Everybody, config: Path | None) -> Trials:
    """The trials of BLUFR's own file, or dealt by its rule.

    Raises:
        UserError: as `deal_trials` or `read_trials`.
    """
    if config is None:
        rule = f"dealt by BLUFR's rule (seed {SEED}), in its proportions of people"
        return Trials(deal_trials((*people.persons, *people.failed_persons)), rule, people.left_out)
    trials, lacking = read_trials(config, (*people.photos, *people.failed_photos))
    more = {f"photos of {config.name} that are not here": lacking} if lacking else {}
    return Trials(trials, f"as published, in {config.name}", {**people.left_out, **more})


def blufr_rates(model: JudgedModel, people: Everybody, trials: Sequence[Trial]) -> BlufrRates:
    """One model in each trial.

    A person whose gallery photo gave no crop can't be found; probes without a crop are found nowhere, raise no alarm,
    and their pairs count as non-matches.
    """
    vectors = model.embed(people.ids).vectors
    persons = np.array((*people.persons, *people.failed_persons), np.str_)
    rows = tuple(_rates_in(trial, vectors, persons) for trial in trials)
    tar, found = _spread([row.tar for row in rows]), _spread([row.dir for row in rows])
    return BlufrRates(model.name, model.model_id, str(model.file), tar, found, rows)


def _rates_in(trial: Trial, vectors: Array, persons: Array) -> TrialRates:
    n = len(vectors)
    test = np.concatenate([trial.gallery, trial.probes])
    there, failed = test[test < n], test[test >= n]
    (rate,) = all_pairs(vectors[there], persons[there], [FAR], failed_persons=persons[failed])
    enrolled = set(persons[trial.gallery].tolist())
    gallery = trial.gallery[trial.gallery < n]
    reachable = set(persons[gallery].tolist())
    genuine = np.array([persons[k] in enrolled for k in trial.probes])
    able = np.array([k < n and (persons[k] in reachable or persons[k] not in enrolled) for k in trial.probes])
    probes = trial.probes[able]
    searches = search(vectors[gallery], persons[gallery], vectors[probes], persons[probes])
    lost, gone = int((genuine & ~able).sum()), int((~genuine & ~able).sum())
    found = tpir_at_fpir(searches, FPIR, lost, gone) if (~genuine).any() and genuine.any() else None
    return TrialRates(
        tar=rate.tar,
        dir=None if found is None else found.tar,
        people=len(set(persons[test].tolist())),
        photos=len(test),
        enrolled=len(enrolled),
        genuine_probes=int(genuine.sum()),
        impostor_probes=int((~genuine).sum()),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values) or len(known) < 2:
        return None
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)))


def trials_csv(trials: Sequence[Trial], people: Everybody) -> str:
    """The trials as CSV: trial, photo, set."""
    photos = (*people.photos, *people.failed_photos)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("trial", "photo", "set"))
    for number, trial in enumerate(trials, 1):
        writer.writerows((number, photos[k], "gallery") for k in trial.gallery)
        writer.writerows((number, photos[k], "probe") for k in trial.probes)
    return text.getvalue()
