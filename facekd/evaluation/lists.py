"""What 'facekd compare' and 'facekd sweep' judge networks on: all pairs of held-out people, or a pair list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from facekd.core.formats import KEY, check_format
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.errors import UserError
from facekd.evaluation.model_rates import as_strangers
from facekd.evaluation.protocols import Persons, read_list
from facekd.evaluation.results import ListRates, PairCounts, Unit
from facekd.rates.counts import curve
from facekd.rates.persons import person_rates
from facekd.rates.rates import eer
from facekd.settings.evaluation import ComparedData

TRAINED_BY = ("train-teacher", "distill")  # commands whose run.yaml says which people a network has seen
MOST_PAIRS = 10_000_000  # judged at once; of more held-out crops some people are drawn
MOST_UNKNOWN = 200_000  # pairs of unknown people, each taken as if alone


@dataclass(frozen=True, slots=True)
class Training:
    """What a run folder says its network was trained on."""

    run: Path
    data: tuple[Path, ...]
    held_out: float
    seed: int
    drop: tuple[Path, ...]
    minimum: int = 2  # crops of a person
    init_from: Path | None = None  # the run at whose weights it began


@dataclass(frozen=True, slots=True)
class Compared:
    """Pairs of crops, the same for every network."""

    heading: str
    about: str  # who is judged, in a clause
    crops: CropSet
    ids: tuple[str, ...]  # of `crops`, those that are embedded
    left: Array  # int64[P], the place in `ids` of each side; -1 where a photo gave no crop
    right: Array
    same: Array  # bool[P]
    persons: Persons
    unit: Unit  # pairs where the people are not known
    left_out: dict[str, int]  # what does not count, by why


def training_of(run: Path) -> Training | None:
    """What the network in a run folder was trained on; None where no run.yaml says so, as of an ONNX file.

    Raises:
        UserError: a run.yaml that can't be read.
    """

    path = run / "run.yaml"
    if not path.is_file():
        return None
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("command") not in TRAINED_BY:
            return None
        check_format("run folder", values.get(KEY), path)
        data, drop = ([Path(p) for p in values.get(key) or []] for key in ("data", "drop"))
        minimum, begun = int(values.get("minimum") or 2), values.get("init_from")
        source = None if begun is None else _run_of(Path(begun))
        return Training(run, tuple(data), float(values["held_out"]), int(values["seed"]), tuple(drop), minimum, source)
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a run's settings ({error}); copy the run again, or give its exported file") from (
            error
        )


def compared_lists(runs: Sequence[Path], records: Sequence[Training], data: ComparedData) -> list[Compared]:
    """The held-out people first, then the pair list.

    Args:
        runs: as they are called in a refusal.
        records: of those that say what they were trained on; see `held_out_people`.

    Raises:
        UserError: nothing says who was held out, or where the list's photos are.
    """
    lists = []
    if not data.no_held_out:
        if not records and data.held is None:
            raise UserError(
                f"{', '.join(map(str, runs))}: none is the folder of a training, so nothing says who was held out; "
                "give --held CROPS, or --pairs LIST, --crops STORE and --no-held-out"
            )
        lists.append(held_out_people(records, held=None if data.held is None else read_crops(data.held)))
    if data.pairs is not None:
        if data.crops is None and not records:
            raise UserError(f"{data.pairs}: give --crops, the store of its photos")
        lists.append(listed(data.pairs, data.crops or records[0].data[0]))
    return lists


def held_out_people(runs: Sequence[Training], most_pairs: int = MOST_PAIRS, *, held: CropSet | None = None) -> Compared:
    """All pairs of the people whom none of the runs trained on.

    Args:
        runs: the first one's held-out people are judged, less those that another trained on, or a run at whose weights
            one of them began.
        held: crops that are judged in place of the first one's; with them there may be no run that says whom it saw.

    Raises:
        UserError: the runs' data is not where it was, or fewer than two people are left.
    """

    runs = _with_sources(runs)
    missing = [(run.run, path) for run in runs for path in (*run.data, *run.drop) if not path.exists()]
    if missing:
        run, path = missing[0]
        raise UserError(
            f"{run}: was trained on {path}, which is not there, so who was held out is not known; run this where it "
            "is, or give the network's exported file and --held, or --pairs, --crops and --no-held-out"
        )
    sets = {(s.data, s.held_out, s.seed, s.minimum, s.drop): s for s in runs}
    read = {k: read_training_crops(list(s.data), s.held_out, s.seed, s.minimum, list(s.drop)) for k, s in sets.items()}
    crops = next(iter(read.values())).held if held is None else held
    trained = {name for data in read.values() for name in data.names}
    kept = np.flatnonzero([name is not None and name not in trained for name in crops.identities])
    known = sum(name is not None for name in crops.identities)
    other = "another run" if held is None else "a run"
    left_out = {f"crops of people whom {other} trained on": known - len(kept)} if known > len(kept) else {}
    if held is not None and known < len(held):
        left_out["crops of nobody named"] = len(held) - known
    if len({crops.identities[i] for i in kept}) < 2:
        if held is not None:
            raise UserError(
                f"{held.path}: of its {len(set(held.identities) - {None})} people fewer than two are known to be new "
                "to all networks; give crops with names of people whom none trained on"
            )
        raise UserError(
            f"{', '.join(str(run.run) for run in runs)}: held no two people out in common; train them with the same "
            "--data, --held-out and --seed, or give --pairs, --crops and --no-held-out"
        )
    return everyone(crops.take(kept), most_pairs, left_out)


def _run_of(source: Path) -> Path:
    """The run folder that a network's file lies in, as RUN/model.safetensors or RUN/checkpoints/best.safetensors."""
    folders = [source, *source.parents[:2]]
    return next((folder for folder in folders if (folder / "run.yaml").is_file()), source)


def _with_sources(runs: Sequence[Training]) -> list[Training]:
    """The runs, and behind them those at whose weights they began, as far as they are there to say whom they saw."""
    found = list(runs)
    known = {run.run.resolve() for run in found}
    for run in found:  # grows while it is walked
        source = None if run.init_from is None or run.init_from.resolve() in known else training_of(run.init_from)
        if source is not None:
            known.add(source.run.resolve())
            found.append(source)
    return found


def everyone(crops: CropSet, most_pairs: int, left_out: dict[str, int] | None = None) -> Compared:
    """All pairs of crops, all of known people; of too many, those of as many people as `most_pairs` allows.

    Who is drawn depends on names alone.
    """

    left_out = dict(left_out or {})
    names = np.array([str(name) for name in crops.identities])
    people, number, times = np.unique(names, return_inverse=True, return_counts=True)
    order = sorted(range(len(people)), key=lambda k: hashlib.sha256(str(people[k]).encode()).digest())
    total = np.cumsum(times[order])
    fit = max(2, int(np.searchsorted(total * (total - 1) // 2, most_pairs, side="right")))
    about = f"{len(people)} people whom no run trained on"
    if fit < len(people):
        kept = np.flatnonzero(np.isin(number, order[:fit]))
        about = f"{fit} of {about}"
        left_out[f"crops, for more than {most_pairs} pairs"] = len(crops) - len(kept)
        crops, number = crops.take(kept), number[kept]
    left, right = np.triu_indices(len(crops), 1)
    persons = number[left], number[right]
    same = persons[0] == persons[1]
    heading = "People whom no run trained on"
    return Compared(heading, about, crops, crops.ids, left, right, same, persons, "identities", left_out)


def listed(path: Path, store: Path) -> Compared:
    """The pairs of a list among the crops of a store.

    Raises:
        UserError: as `protocols.read_list`, or too many pairs of people who are not known.
    """

    crops = read_crops(store)
    found = read_list(path, crops, store)
    ids = tuple(found.needed())
    place = {crop_id: k for k, crop_id in enumerate(ids)}
    left, right = (
        np.array([place.get(name, -1) for name in side.distinct], np.int64)[side.codes]
        for side in (found.pairs.left, found.pairs.right)
    )
    persons, same = found.persons, found.pairs.same
    unit: Unit = "identities"
    if persons is None:
        if len(same) > MOST_UNKNOWN:
            raise UserError(
                f"{path}: {len(same)} pairs of people who are not known; give a list of at most {MOST_UNKNOWN}, or "
                "crops that say who they show"
            )
        persons, unit = as_strangers(same), "pairs"
    about = f"{len(same)} pairs of {found.name}"
    if found.people == "photo names":
        about += ", whose people are known by their photos' names only"
    return Compared(f"Pairs of {found.name}", about, crops, ids, left, right, same, persons, unit, found.left_out)


def pair_scores(probe: Array, gallery: Array, compared: Compared) -> Array:
    """float32[P]: the cosine of each pair, its left side embedded by one network and its right side by the other.

    Args:
        probe, gallery: float32[N, D], unit embeddings of `compared.ids`; twice the same for one network.
    """

    left, right = compared.left, compared.right
    values: Array
    if 4 * len(left) >= len(probe) * len(gallery):
        values = (probe @ gallery.T)[left, right]
    else:
        pieces = [
            np.einsum("pd,pd->p", probe[left[k : k + 65536]], gallery[right[k : k + 65536]])
            for k in range(0, len(left), 65536)
        ]
        values = np.concatenate(pieces)
    values[(left < 0) | (right < 0)] = -np.inf
    return values


def list_rates(values: Array, compared: Compared, fars: Sequence[float]) -> ListRates:
    """EER and the TAR at each FAR with its interval."""
    counts = curve(values, compared.same)
    found = person_rates(values, compared.same, *compared.persons, fars)
    pairs = PairCounts(counts.n_genuine, counts.n_impostor)
    return ListRates(None, eer(counts), compared.unit, tuple(found), pairs)


def fit_network(name: str, size: int, template: str, compared: Compared) -> None:
    """Pass where a network takes crops as they are here.

    Raises:
        UserError: it takes others.
    """
    crops = compared.crops
    if (crops.template, crops.size) != (template, size):
        raise UserError(
            f"{crops.path}: holds {crops.template} crops of {crops.size} pixels, {name} takes {template} crops of "
            f"{size}; align the photos for it"
        )
