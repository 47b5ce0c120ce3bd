"""facekd verify: models and a pair list, an insightface set or all pairs in; rates with intervals and a report out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import say
from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.evaluation.model_rates import Drawn, Judged, judge, rates_of
from facekd.evaluation.report import rates_table
from facekd.evaluation.text import far_name, percent, tar_text
from facekd.settings.door import door
from facekd.settings.evaluation import AskedRates, NetworkContract, PairData, PairReportFiles
from facekd.settings.group import flat
from facekd.settings.runtime import Cluster

if TYPE_CHECKING:
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import Embedded
    from facekd.evaluation.protocols import Everybody, Listed, Subject

__all__ = ["Judged", "Verification", "far_name", "judge", "percent", "rates_of", "rates_table", "tar_text", "verify"]

FILES = (".onnx", ".safetensors", ".parquet", ".npz")  # of models and embeddings; what else is there is a folder


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out."""

    out: Path
    judged: list[Judged]  # of pair lists and .bin sets, whose scores are kept
    result: dict[str, Any]  # as in report.json

    @property
    def exit_code(self) -> int:
        return 0 if all(one["met"] for one in self.result["requirements"]) else 1


@door
def verify(
    *,
    data: PairData = PairData(),
    foreign: NetworkContract = NetworkContract(),
    asked: AskedRates = AskedRates(),
    cluster: Cluster = Cluster(),
    files: PairReportFiles = PairReportFiles(),
    quiet: bool = False,
) -> Verification:
    """Measure how well models tell people apart: on a pair list, an insightface .bin set, all pairs, or a gallery.

    A pair scores the cosine of its two embeddings; a photo that gave no crop scores below every threshold. Gives the
    accuracy over the list's folds, EER, AUC and the TAR at each FAR with its 95 % interval, and no TAR where the list
    holds too few impostor pairs to show that FAR; of a gallery the rank at which probes find their person, and TPIR
    at FPIR. Where all people are known the intervals allow for pairs that share people. Several models are compared
    on the same pairs. Writes report.json, report.md, report.html and, of pairs, thresholds.json. Exits with 1 when a
    requirement is missed.

    Example: facekd verify --model student.onnx --crops crops/ --pairs pairs.csv --require "tar@1e-3>=0.95"

    Args:
        quiet: Print nothing.
    """
    from facekd.core.files import write_json
    from facekd.crops.cropset import CropSet
    from facekd.crops.gallery_split import write_gallery_split
    from facekd.deploy.embedder import Embedder
    from facekd.engines.mapper import check_ray
    from facekd.evaluation.cost import cost_of
    from facekd.evaluation.identification import planned, print_searches, search_lead, search_of, search_sections
    from facekd.evaluation.model_rates import check, differences
    from facekd.evaluation.protocols import everybody, read_bin_set, read_list, with_groups
    from facekd.evaluation.report import print_rates, write_pages, write_report
    from facekd.ingest.photos import own_model

    _check(data, asked, cluster)
    if cluster.engine == "ray":
        check_ray(cluster.address)
    model = [own_model(quiet)] if data.model is None and data.embeddings is None else data.model
    config = flat(data, foreign, asked, cluster, files, model=model)
    requirements, fars = asked.requirements, asked.fars
    models, embedded = model or [], data.embeddings or []
    pairs, bin, crops = data.pairs, data.bin, data.crops

    source: CropSet | Embedded
    listed: Listed | None = None
    if bin is not None:
        source, listed = read_bin_set(bin)
    else:
        source = _source(crops, embedded)
    if pairs is not None:
        listed = read_list(pairs, source, crops)
    if listed is not None:
        listed = with_groups(listed, data.group or [], pairs or bin)
    place = bin or crops or embedded[0]
    about = pairs or data.split or place
    people = everybody(source, place) if data.all_pairs else None
    plan = planned(source, crops, place, data.split) if data.identification else None
    subjects = _subjects(models, embedded, source, [Embedder.load(path, foreign.contract) for path in models], quiet)
    out = files.out or default_out("verify")
    start_run(out, "verify", {**config, "out": out}, inputs=(*models, *embedded, about))
    pages = [out / "report.html", *filter(None, [files.report])]
    repeat = f"facekd verify --config {out}/run.yaml"

    result: dict[str, Any]
    if plan is not None:
        searched = [search_of(subject, plan, fars) for subject in subjects]
        measured = _Measured([one.rates for one in searched])
        result = {"split": {**_file(about), **plan.rule, "name": plan.name, "left_out": plan.left_out}}
    elif people is not None:
        measured = _measure_everybody(subjects, people, fars, cluster)
        result = {"pairs": {**_file(about), "name": f"all pairs of {people.name}", "left_out": people.left_out}}
    else:
        assert listed is not None
        measured = _measure_list(subjects, listed, crops, fars)
        result = {"pairs": {**_file(about), "name": listed.name, "left_out": listed.left_out}}
    judged = measured.judged
    result |= {
        "models": [{"file": str(one.file), **rates} for one, rates in zip(subjects, measured.rates, strict=True)],
        "differences": differences(judged, listed.persons if listed else None, fars),
        "costs": [{"model": one.name, **cost_of(one.embedder)} for one in subjects if one.embedder is not None],
        "requirements": [check(requirement, rates) for rates in measured.rates for requirement in requirements],
        "environment": environment(),
    }
    for path in filter(None, [out / "report.json", files.json]):
        write_json(path, result)
    if plan is not None:
        write_gallery_split(out / "split.csv", plan.split)
        sections = search_sections(result, searched)
        write_pages(pages, out / "report.md", search_lead(result), sections, repeat, result)
        print_searches(result, quiet)
    else:
        write_json(out / "thresholds.json", thresholds_json(result))
        shown = source if isinstance(source, CropSet) and not files.no_faces else None
        write_report(pages, out / "report.md", result, measured.drawn, judged, shown, repeat)
        print_rates(result, quiet)
    for line in result["requirements"]:
        say(line["line"], quiet)
    say(f"report: {pages[-1]}", quiet)
    return Verification(out, judged, result)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a protocol gave, in the order of the models."""

    rates: list[dict[str, Any]]  # each model's part of the JSON
    drawn: dict[str, Drawn] = field(default_factory=dict)  # by the model's name
    judged: list[Judged] = field(default_factory=list)


def _measure_list(subjects: Sequence[Subject], listed: Listed, crops: Path | None, fars: Sequence[float]) -> _Measured:
    from facekd.evaluation.groups import group_ratios
    from facekd.evaluation.model_rates import judge_embeddings, rejects, wanted
    from facekd.evaluation.protocols import qualities

    ids = wanted(listed.pairs, listed.failed)
    judged = [
        judge_embeddings(one.name, one.embed(ids), listed.pairs, listed.failed, listed.persons, fars)
        for one in subjects
    ]
    quality = qualities(crops)
    rates = []
    for one in judged:
        ratios = {column: group_ratios(groups, fars) for column, groups in one.rates["groups"].items()}
        rates.append({**one.rates, "rejects": rejects(one, quality), "group_ratios": ratios})
    return _Measured(rates, {one.name: one.drawn for one in judged}, judged)


def _measure_everybody(
    subjects: Sequence[Subject], people: Everybody, fars: Sequence[float], cluster: Cluster
) -> _Measured:
    from facekd.evaluation.model_rates import judge_everybody
    from facekd.evaluation.ray_pairs import counting_on_ray

    rates, drawn = [], {}
    with counting_on_ray(cluster.address) if cluster.engine == "ray" else nullcontext(None) as count:
        for one in subjects:
            found, drawn[one.name] = judge_everybody(one.name, one.embed(people.ids), people, fars, count)
            rates.append({**found, "group_ratios": {}})
    return _Measured(rates, drawn)


def _file(path: Path) -> dict[str, str | None]:
    from facekd.core.files import sha256_file

    return {"file": str(path), "sha256": sha256_file(path) if path.is_file() else None}


def thresholds_json(result: dict[str, Any]) -> dict[str, Any]:
    """``{"pairs": …, "models": {model_id: {"name": …, "thresholds": {far: {threshold, low, high, …}}}}}``."""
    keys = {
        "threshold": "threshold",
        "threshold_low": "low",
        "threshold_high": "high",
        "far": "far",
        "support": "support",
    }
    models = {
        one["model_id"]: {
            "name": one["model"],
            "thresholds": {
                far_name(rate["far_asked"]): {new: rate.get(old) for old, new in keys.items()}
                for rate in one["tar"]
                if rate["threshold"] is not None
            },
        }
        for one in result["models"]
    }
    return {"pairs": result["pairs"], "models": models}


def labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each model: its file's or folder's; with the folder around it where two share it, as
    ``alone/run``; and with its place where two share that.
    """
    names = [path.stem if path.suffix in FILES else path.resolve().name for path in paths]
    around = [path.resolve().parent.name for path in paths]
    names = [f"{around[i]}/{name}" if names.count(name) > 1 else name for i, name in enumerate(names)]
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def _check(data: PairData, asked: AskedRates, cluster: Cluster) -> None:
    """Refuse too little, and what contradicts between groups of settings."""
    data.check_given()
    if asked.require and data.identification:
        raise UserError("--require names a TAR, which --identification does not measure; leave one of them out")
    if cluster.engine == "ray" and not data.all_pairs:
        raise UserError("--engine ray counts all pairs; add --all-pairs or leave it out")


def _source(crops: Path | None, files: Sequence[Path]) -> CropSet | Embedded:
    from facekd.crops.read import read_crops
    from facekd.deploy.embeddings import read_embeddings

    if crops is not None:
        return read_crops(crops)
    return read_embeddings(files[0])


def _subjects(
    models: Sequence[Path],
    files: Sequence[Path],
    source: CropSet | Embedded,
    embedders: Sequence[Embedder],
    quiet: bool,
) -> list[Subject]:
    """The models by what gives their embeddings; a file of embeddings has to be its model's."""
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embeddings import read_embeddings
    from facekd.evaluation.protocols import from_crops, from_embeddings

    if isinstance(source, CropSet):
        rows = zip(labels(models), models, embedders, strict=True)
        return [from_crops(name, path, embedder, source, quiet) for name, path, embedder in rows]
    given: Sequence[Embedder | None] = embedders or [None] * len(files)
    return [
        from_embeddings(name, path, read_embeddings(path, embedder.model_id if embedder else None), embedder)
        for name, path, embedder in zip(labels(list(models) or list(files)), files, given, strict=True)
    ]
