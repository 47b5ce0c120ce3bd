"""facekd verify: models and a pair list, an insightface set or all pairs in; rates with intervals and a report out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.stages.console import say
from facekd.stages.verify_rates import Judged, judge, rates_of
from facekd.stages.verify_report import far_name, percent, rates_table, tar_text

if TYPE_CHECKING:
    from facekd.crops.read import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.deploy.embeddings import Embedded
    from facekd.stages.verify_protocols import Listed, Subject

__all__ = ["Judged", "Verification", "far_name", "judge", "percent", "rates_of", "rates_table", "tar_text", "verify"]

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
FILES = (".onnx", ".safetensors", ".parquet", ".npz")  # of models and embeddings; what else is there is a folder


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out."""

    out: Path
    judged: list[Judged]  # none where all pairs were counted
    result: dict[str, Any]  # as in report.json

    @property
    def exit_code(self) -> int:
        return 0 if all(one["met"] for one in self.result["requirements"]) else 1


def verify(
    *,
    model: list[Path] | None = None,
    pairs: Path | None = None,
    bin: Path | None = None,
    all_pairs: bool = False,
    crops: Path | None = None,
    embeddings: list[Path] | None = None,
    contract: Path | None = None,
    far: list[float] = list(FARS),  # noqa: B006  # read only; the command line shows it
    group: list[str] | None = None,
    require: list[str] | None = None,
    json: Path | None = None,
    report: Path | None = None,
    out: Path | None = None,
    no_faces: bool = False,
    quiet: bool = False,
) -> Verification:
    """Measure how well models tell people apart, on a pair list, an insightface .bin set or all pairs.

    A pair scores the cosine of its two embeddings; a photo that gave no crop scores below every threshold. Gives
    10-fold accuracy, EER, AUC and the TAR at each FAR with its 95 % interval, and no TAR where the list holds too
    few impostor pairs to show that FAR. Where all people are known the intervals allow for pairs that share people.
    Several models are compared on the same pairs. Writes report.json, report.md, report.html and thresholds.json.
    Exits with 1 when a requirement is missed.

    Example: facekd verify --model student.onnx --crops crops/ --pairs pairs.csv --require "tar@1e-3>=0.95"

    Args:
        model: Run folder or ONNX file; give it again to compare models.
        pairs: LFW's pairs.txt, CFP's Split/FP, or a CSV or Parquet with columns a, b, same, if wanted fold and groups.
        bin: An insightface set such as lfw.bin, crops and pairs in one file; its pickle is not executed.
        all_pairs: Compare every photo whose person is known with every other; no score is kept.
        crops: The crop store of the photos.
        embeddings: Instead of crops: a file of 'facekd embed'; give one for each model.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        far: False accept rates asked for.
        group: A further column of the pair list: rates for each of its values at the one threshold.
        require: The least TAR at a FAR, as tar@1e-3>=0.95; its lower bound has to hold it.
        json: Write the rates here too.
        report: Write the HTML report here too.
        out: The folder for report.json and the other files.
        no_faces: Show no pictures of the hardest pairs.
        quiet: Print nothing.
    """
    from facekd.core.files import sha256_file, write_json
    from facekd.crops.read import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.stages.verify_groups import group_ratios
    from facekd.stages.verify_protocols import everybody, qualities, read_bin_set, read_list, with_groups
    from facekd.stages.verify_rates import (
        check,
        cost_of,
        differences,
        judge_embeddings,
        judge_everybody,
        parse_requirement,
        rejects,
        wanted,
    )
    from facekd.stages.verify_report import print_rates, write_report

    config = {key: value for key, value in locals().items() if key in verify.__annotations__ and key != "quiet"}
    _check_flags(config)
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
    subjects = _subjects(models, files, source, [Embedder.load(path, contract) for path in models], quiet)
    about = bin or pairs or crops or files[0]
    out = out or default_out("verify")
    start_run(out, "verify", {**config, "out": out}, inputs=(*models, *files, about))

    judged: list[Judged] = []
    if listed is not None:
        ids = wanted(listed.pairs, listed.failed)
        for one in subjects:
            judged.append(judge_embeddings(one.name, one.embed(ids), listed.pairs, listed.failed, listed.persons, fars))
        quality = qualities(crops)
        rates = [{**one.rates, "rejects": rejects(one, quality)} for one in judged]
        name, left_out = listed.name, listed.left_out
    else:
        people = everybody(source, about)
        rates = [judge_everybody(one.name, one.embed(people.ids), people, fars) for one in subjects]
        name, left_out = f"all pairs of {people.name}", people.left_out

    result: dict[str, Any] = {
        "models": [
            {
                "file": str(subject.file),
                **values,
                "group_ratios": {column: group_ratios(groups, fars) for column, groups in values["groups"].items()},
            }
            for subject, values in zip(subjects, rates, strict=True)
        ],
        "differences": differences(judged, listed.persons if listed else None, fars),
        "costs": [
            {"model": subject.name, **cost_of(subject.embedder)} for subject in subjects if subject.embedder is not None
        ],
        "requirements": [check(requirement, values) for values in rates for requirement in requirements],
        "pairs": {
            "file": str(about),
            "sha256": sha256_file(about) if about.is_file() else None,
            "name": name,
            "left_out": left_out,
        },
        "environment": environment(),
    }
    for path in filter(None, [out / "report.json", json]):
        write_json(path, result)
    write_json(out / "thresholds.json", thresholds_json(result))
    pages = [out / "report.html", *filter(None, [report])]
    shown = source if isinstance(source, CropSet) and not no_faces else None
    write_report(pages, out / "report.md", result, judged, shown, f"facekd verify --config {out}/run.yaml")
    print_rates(result, quiet)
    for line in result["requirements"]:
        say(line["line"], quiet)
    say(f"report: {pages[-1]}", quiet)
    return Verification(out, judged, result)


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
    """A short name for each model: its file's or folder's; with its place where two share it."""
    names = [path.stem if path.suffix in FILES else path.resolve().name for path in paths]
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def _check_flags(given: dict[str, Any]) -> None:
    """Refuse flags that say two things at once, or too little."""
    protocols = [flag for flag, key in _PROTOCOLS.items() if given[key]]
    if len(protocols) != 1:
        said = " and ".join(protocols) or "none of them"
        raise UserError(f"give one of --pairs LIST, --bin SET and --all-pairs, not {said}")
    sources = [flag for flag, key in (("--crops", "crops"), ("--embeddings", "embeddings")) if given[key]]
    if given["bin"] and sources:
        raise UserError(f"a .bin set holds its own crops; leave {' and '.join(sources)} out")
    if not given["bin"] and len(sources) != 1:
        raise UserError(f"give --crops STORE or --embeddings FILE, not {' and '.join(sources) or 'neither'}")
    if not given["embeddings"] and not given["model"]:
        raise UserError("give --model FILE: a run folder or an .onnx file; only --embeddings does without")
    if given["embeddings"] and given["model"] and len(given["embeddings"]) != len(given["model"]):
        raise UserError(
            f"{len(given['model'])} models for {len(given['embeddings'])} files of embeddings: give one file for each, "
            "in the same order, or leave --model out"
        )
    if given["group"] and not given["pairs"]:
        raise UserError("--group names a column of a pair list; give one with --pairs")


_PROTOCOLS = {"--pairs": "pairs", "--bin": "bin", "--all-pairs": "all_pairs"}


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
    from facekd.crops.read import CropSet
    from facekd.deploy.embeddings import read_embeddings
    from facekd.stages.verify_protocols import from_crops, from_embeddings

    if isinstance(source, CropSet):
        rows = zip(labels(models), models, embedders, strict=True)
        return [from_crops(name, path, embedder, source, quiet) for name, path, embedder in rows]
    given: Sequence[Embedder | None] = embedders or [None] * len(files)
    return [
        from_embeddings(name, path, read_embeddings(path, embedder.model_id if embedder else None), embedder)
        for name, path, embedder in zip(labels(list(models) or list(files)), files, given, strict=True)
    ]
