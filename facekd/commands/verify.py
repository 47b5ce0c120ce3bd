"""facekd verify: models and a pair list, an insightface set or all pairs in; rates with intervals and a report out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.core.run import default_out, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import AskedRates, NetworkContract, PairData, PairReportFiles
from facekd.settings.group import flat
from facekd.settings.runtime import Cluster

if TYPE_CHECKING:
    from facekd.evaluation.identification import SearchReport
    from facekd.evaluation.protocols import ListedPairs
    from facekd.evaluation.results import PairReport
    from facekd.rates.allpairs import Count


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out."""

    out: Path
    report: PairReport | SearchReport

    @property
    def result(self) -> dict[str, Any]:
        """As in report.json."""
        from facekd.evaluation.results import plain

        result: dict[str, Any] = plain(self.report)
        return result

    @property
    def exit_code(self) -> int:
        return 0 if all(one.met for one in self.report.requirements) else 1


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

    Or how well somebody else's system does, by its --scores alone.

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
    from facekd.deploy.embedder import CropEmbedder
    from facekd.engines.mapper import check_ray
    from facekd.evaluation.identification import planned
    from facekd.evaluation.identification_report import search_page
    from facekd.evaluation.protocols import everybody, judged_models, read_bin_set, read_list, read_source
    from facekd.evaluation.report import pair_page
    from facekd.evaluation.scored import read_score_files
    from facekd.evaluation.verification import everybody_report, list_report, search_report, thresholds_json
    from facekd.ingest.photos import own_model

    _check(data, asked, cluster)
    if cluster.engine == "ray":
        check_ray(cluster.address)
    stored = data.embeddings or []
    scored = data.scores or []
    models = data.model or ([] if stored or scored else [own_model(quiet)])
    place = data.bin or data.crops or (*stored, *scored)[0]
    about = data.pairs or data.split or place
    people, plan, crops = None, None, None
    listed: ListedPairs | None
    if scored:
        listed, judged = read_score_files(scored, data.lower_is_better, data.group or ())
    else:
        source, listed = read_bin_set(data.bin) if data.bin else (read_source(data.crops, stored), None)
        if data.pairs is not None:
            listed = read_list(data.pairs, source, data.crops, data.group or (), stored[1:], quiet)
        people = everybody(source, place) if data.all_pairs else None
        plan = planned(source, data.crops, place, data.split) if data.identification else None
        crops = source if isinstance(source, CropSet) else None
        embedders = [CropEmbedder.load(path, foreign.contract) for path in models]
        judged = judged_models(models, embedders, stored if crops is None else crops, quiet)

    out = files.out or default_out("verify")
    config = flat(data, foreign, asked, cluster, files, out=out, model=models or None)
    start_run(out, "verify", config, inputs=(*models, *stored, *scored, about))
    report: PairReport | SearchReport
    repeat = f"facekd verify --config {out}/run.yaml"
    if plan is not None:
        report = search_report(plan, judged, asked.fars, about)
        write_gallery_split(out / "split.csv", plan.split)
        page = search_page(report, repeat)
    else:
        if people is not None:
            report = everybody_report(people, judged, asked, about, _counting(cluster))
        else:
            assert listed is not None
            report = list_report(listed, judged, asked, data.crops, about)
        write_json(out / "thresholds.json", thresholds_json(report))
        page = pair_page(report, None if files.no_faces else crops, repeat)
    page.publish(report, out, files.json, files.report, quiet)
    return Verification(out, report)


def _check(data: PairData, asked: AskedRates, cluster: Cluster) -> None:
    """Refuse too little, and what contradicts between groups of settings."""
    data.check_given()
    if asked.require and data.identification:
        raise UserError("--require names a TAR, which --identification does not measure; leave one of them out")
    if cluster.engine == "ray" and not data.all_pairs:
        raise UserError("--engine ray counts all pairs; add --all-pairs or leave it out")


def _counting(cluster: Cluster) -> AbstractContextManager[Count | None]:
    if cluster.engine == "local":
        return nullcontext(None)
    from facekd.evaluation.ray_pairs import counting_on_ray

    return counting_on_ray(cluster.address)
