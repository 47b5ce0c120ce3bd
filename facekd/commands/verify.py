"""facekd verify: models and a pair list, an insightface set or all pairs in; rates with intervals and a report out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import say
from facekd.core.choices import Engine
from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.evaluation.model_rates import Drawn, Judged, judge, rates_of
from facekd.evaluation.report import rates_table
from facekd.evaluation.text import far_name, percent, tar_text
from facekd.settings.door import door

if TYPE_CHECKING:
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import Embedded
    from facekd.evaluation.protocols import Everybody, Listed, Subject

__all__ = ["Judged", "Verification", "far_name", "judge", "percent", "rates_of", "rates_table", "tar_text", "verify"]

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
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
    model: list[Path] | None = None,
    pairs: Path | None = None,
    bin: Path | None = None,
    all_pairs: bool = False,
    identification: bool = False,
    split: Path | None = None,
    crops: Path | None = None,
    embeddings: list[Path] | None = None,
    contract: Path | None = None,
    far: list[float] = list(FARS),  # noqa: B006  # read only; the command line shows it
    group: list[str] | None = None,
    require: list[str] | None = None,
    engine: Engine = "local",
    address: str | None = None,
    json: Path | None = None,
    report: Path | None = None,
    out: Path | None = None,
    no_faces: bool = False,
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
        model: Run folder or ONNX file; give it again to compare models. The one that comes with
            facekd unless given.
        pairs: LFW's pairs.txt, CFP's Split/FP, or a CSV or Parquet with columns a, b, same, if wanted fold and groups.
        bin: An insightface set such as lfw.bin, crops and pairs in one file; its pickle is not executed.
        all_pairs: Compare every photo whose person is known with every other; no score is kept.
        identification: Enroll one photo of half of the people and look for all other photos in that gallery.
        split: With --identification, who is enrolled: a CSV or Parquet with columns photo and set (gallery or probe).
        crops: The crop store of the photos.
        embeddings: Instead of crops: a file of 'facekd embed'; give one for each model.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        far: False accept rates asked for; of a gallery, false positive identification rates.
        group: A further column of the pair list: rates for each of its values at the one threshold.
        require: The least TAR at a FAR, as tar@1e-3>=0.95; its lower bound has to hold it.
        engine: Where all pairs are counted: local, on the cores of this machine; ray, on a Ray cluster.
        address: The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here.
        json: Write the rates here too.
        report: Write the HTML report here too.
        out: The folder for report.json and the other files.
        no_faces: Show no pictures of the hardest pairs.
        quiet: Print nothing.
    """
    from facekd.core.files import write_json
    from facekd.crops.cropset import CropSet
    from facekd.crops.gallery_split import write_gallery_split
    from facekd.deploy.embedder import Embedder
    from facekd.engines.mapper import check_ray
    from facekd.evaluation.cost import cost_of
    from facekd.evaluation.identification import planned, print_searches, search_lead, search_of, search_sections
    from facekd.evaluation.model_rates import check, differences, parse_requirement
    from facekd.evaluation.protocols import everybody, read_bin_set, read_list, with_groups
    from facekd.evaluation.report import print_rates, write_pages, write_report
    from facekd.ingest.photos import own_model

    if model is None and embeddings is None:
        model = [own_model(quiet)]
    config = {key: value for key, value in locals().items() if key in verify.__annotations__ and key != "quiet"}
    _check_flags(config)
    if engine == "ray":
        check_ray(address)
    requirements = [parse_requirement(text) for text in require or []]
    fars = _fars([*far, *(requirement.far for requirement in requirements)])
    models, files = model or [], embeddings or []

    source: CropSet | Embedded
    listed: Listed | None = None
    if bin is not None:
        source, listed = read_bin_set(bin)
    else:
        source = _source(crops, files)
    if pairs is not None:
        listed = read_list(pairs, source, crops)
    if listed is not None:
        listed = with_groups(listed, group or [], pairs or bin)
    place = bin or crops or files[0]
    about = pairs or split or place
    people = everybody(source, place) if all_pairs else None
    plan = planned(source, crops, place, split) if identification else None
    subjects = _subjects(models, files, source, [Embedder.load(path, contract) for path in models], quiet)
    out = out or default_out("verify")
    start_run(out, "verify", {**config, "out": out}, inputs=(*models, *files, about))
    pages = [out / "report.html", *filter(None, [report])]
    repeat = f"facekd verify --config {out}/run.yaml"

    result: dict[str, Any]
    if plan is not None:
        searched = [search_of(subject, plan, fars) for subject in subjects]
        measured = _Measured([one.rates for one in searched])
        result = {"split": {**_file(about), **plan.rule, "name": plan.name, "left_out": plan.left_out}}
    elif people is not None:
        measured = _measure_everybody(subjects, people, fars, engine, address)
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
    for path in filter(None, [out / "report.json", json]):
        write_json(path, result)
    if plan is not None:
        write_gallery_split(out / "split.csv", plan.split)
        sections = search_sections(result, searched)
        write_pages(pages, out / "report.md", search_lead(result), sections, repeat, result)
        print_searches(result, quiet)
    else:
        write_json(out / "thresholds.json", thresholds_json(result))
        shown = source if isinstance(source, CropSet) and not no_faces else None
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
    subjects: Sequence[Subject], people: Everybody, fars: Sequence[float], engine: Engine, address: str | None
) -> _Measured:
    from facekd.evaluation.model_rates import judge_everybody
    from facekd.evaluation.ray_pairs import counting_on_ray

    rates, drawn = [], {}
    with counting_on_ray(address) if engine == "ray" else nullcontext(None) as count:
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


def _check_flags(given: dict[str, Any]) -> None:
    """Refuse flags that say two things at once, or too little."""
    protocols = [flag for flag, key in _PROTOCOLS.items() if given[key]]
    if len(protocols) != 1:
        said = " and ".join(protocols) or "none of them"
        raise UserError(f"give one of --pairs LIST, --bin SET, --all-pairs and --identification, not {said}")
    sources = [flag for flag, key in (("--crops", "crops"), ("--embeddings", "embeddings")) if given[key]]
    if given["bin"] and sources:
        raise UserError(f"a .bin set holds its own crops; leave {' and '.join(sources)} out")
    if not given["bin"] and len(sources) != 1:
        raise UserError(f"give --crops STORE or --embeddings FILE, not {' and '.join(sources) or 'neither'}")
    if given["embeddings"] and given["model"] and len(given["embeddings"]) != len(given["model"]):
        raise UserError(
            f"{len(given['model'])} models for {len(given['embeddings'])} files of embeddings: give one file for each, "
            "in the same order, or leave --model out"
        )
    if given["group"] and not given["pairs"]:
        raise UserError("--group names a column of a pair list; give one with --pairs")
    if given["split"] and not given["identification"]:
        raise UserError("--split says who is enrolled; add --identification")
    if given["require"] and given["identification"]:
        raise UserError("--require names a TAR, which --identification does not measure; leave one of them out")
    if given["engine"] == "ray" and not given["all_pairs"]:
        raise UserError("--engine ray counts all pairs; add --all-pairs or leave it out")
    if given["address"] and given["engine"] != "ray":
        raise UserError(f"--address {given['address']} is of a Ray cluster; add --engine ray or leave it out")


_PROTOCOLS = {
    "--pairs": "pairs",
    "--bin": "bin",
    "--all-pairs": "all_pairs",
    "--identification": "identification",
}


def _fars(asked: Sequence[float]) -> list[float]:
    """The FARs asked for, each once; refused before any work where one is no rate."""
    from facekd.rates.rates import far_budget

    for far in asked:
        far_budget(far, 1)
    return list(dict.fromkeys(asked))


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
