"""facekd verify: models and a pair list, an insightface set or all pairs in; rates with intervals and a report out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.process import hold_folder
from facekd.core.run import default_out, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import AskedRates, NetworkContract, PairData, PairReportFiles
from facekd.settings.group import flat
from facekd.settings.protocol import ProtocolSwitches
from facekd.settings.runtime import Cluster

if TYPE_CHECKING:
    from facekd.deploy.embeddings import Embedded
    from facekd.evaluation.blufr import BlufrReport
    from facekd.evaluation.protocols import ListedPairs
    from facekd.evaluation.results import PairReport
    from facekd.evaluation.search_results import SearchReport
    from facekd.evaluation.template_results import TemplateReport
    from facekd.rates.tiles import Count


@dataclass(frozen=True, slots=True)
class Verification:
    """What came out."""

    out: Path
    report: PairReport | SearchReport | TemplateReport | BlufrReport

    @property
    def exit_code(self) -> int:
        return 0 if all(one.met for one in self.report.requirements) else 1


@door
def verify(
    *,
    data: PairData = PairData(),
    foreign: NetworkContract = NetworkContract(),
    asked: AskedRates = AskedRates(),
    switches: ProtocolSwitches = ProtocolSwitches(),
    cluster: Cluster = Cluster(),
    files: PairReportFiles = PairReportFiles(),
    quiet: bool = False,
) -> Verification:
    """Measure how well models tell people apart: on a pair list, templates, an insightface .bin set, all pairs, or a
    gallery.

    Or how well somebody else's system does, by its --scores alone.

    A pair scores the cosine of its two embeddings; a photo that gave no crop scores below every threshold. Gives the
    accuracy over the list's folds, EER, AUC and the TAR at each FAR with its 95 % interval, and no TAR where the list
    holds too few impostor pairs to show that FAR; of a gallery the rank at which probes find their person, and TPIR
    at FPIR. A template is several photos or frames compared as one; IJB-B's and IJB-C's files are read as they are
    published, 1:1 and 1:N. Where all people are known the intervals allow for pairs that share people. Several models
    are compared on the same pairs. Writes report.json, report.md, report.html and thresholds.json. Exits with 1 when a
    requirement is missed.

    Example: facekd verify --model student.onnx --crops crops/ --pairs pairs.csv --require "tar@1e-3>=0.95"

    Example: facekd verify --model student.onnx --templates ijb/ --crops crops/ --fuse media

    Args:
        quiet: Print nothing.
    """
    from facekd.core.files import write_json, write_text
    from facekd.crops.cropset import CropSet
    from facekd.crops.gallery_split import write_gallery_split
    from facekd.deploy.embedder import CropEmbedder
    from facekd.engines.mapper import check_ray
    from facekd.evaluation.attributes import of_everybody, of_pairs, read_attributes
    from facekd.evaluation.blufr import BlufrReport, blufr_trials, trials_csv
    from facekd.evaluation.blufr_report import blufr_page
    from facekd.evaluation.distractors import read_distractors
    from facekd.evaluation.identification import planned
    from facekd.evaluation.identification_report import search_page
    from facekd.evaluation.judged import judged_models
    from facekd.evaluation.protocols import everybody, read_bin_set, read_list, read_source
    from facekd.evaluation.report import pair_page
    from facekd.evaluation.scored import read_score_files
    from facekd.evaluation.template_report import template_page
    from facekd.evaluation.template_results import TemplateReport
    from facekd.evaluation.templates import photo_templates, read_templates, template_report
    from facekd.evaluation.thresholds_file import save_thresholds, thresholds_json
    from facekd.evaluation.verification import blufr_report, everybody_report, list_report, search_report
    from facekd.ingest.photos import own_model

    _check(data, asked, switches, cluster)
    if cluster.engine == "ray":
        check_ray(cluster.address)
    stored = data.embeddings or []
    scored = data.scores or []
    models = data.model or ([] if stored or scored else [own_model(quiet)])
    place = data.bin or data.crops or (*stored, *scored)[0]
    about = data.templates or data.pairs or data.split or place
    columns = tuple(dict.fromkeys([*(data.group or ()), *asked.columns]))
    people, groups, plan, others, trials, crops, templates = None, None, None, None, None, None, None
    listed: ListedPairs | None = None
    source: CropSet | Embedded
    if scored:
        listed, judged = read_score_files(scored, data.lower_is_better, columns)
    else:
        if data.bin:
            source, listed = read_bin_set(data.bin, keep_repeats=switches.keep_repeats)
        else:
            source = read_source(data.crops, stored)
        attributes = None
        if switches.attributes is not None:
            attributes = read_attributes(switches.attributes, columns if data.group else ())
        if data.templates is not None:
            found = read_templates(data.templates, data.pairs)
            templates = photo_templates(found, source, data.crops, data.fuse or "mean", columns, stored[1:])
            if templates.pairs is None and (asked.require or files.save_thresholds):
                raise UserError(f"{data.templates}: names no pairs; leave --require and --save-thresholds out")
        elif data.pairs is not None:
            own = [name for name in columns if attributes is None or name not in attributes.columns]
            listed = read_list(
                data.pairs, source, data.crops, own, stored[1:], quiet, keep_repeats=switches.keep_repeats
            )
            if attributes is not None:
                listed = of_pairs(attributes, listed, source, data.crops)
        people = everybody(source, place) if data.all_pairs or switches.blufr else None
        groups = of_everybody(attributes, people, source, data.crops) if attributes and people else None
        plan = planned(source, data.crops, place, data.split) if data.identification else None
        if switches.distractors is not None and plan is not None:
            others = read_distractors(switches.distractors, plan, bool(stored))
        trials = blufr_trials(people, switches.blufr_config) if switches.blufr and people else None
        crops = source if isinstance(source, CropSet) else None
        embedders = [CropEmbedder.load(path, foreign.contract) for path in models]
        if switches.flip:
            embedders = [embedder.flipping() for embedder in embedders]
        judged = judged_models(models, embedders, stored if crops is None else crops, quiet or templates is not None)

    out = files.out or default_out("verify")
    config = flat(data, foreign, asked, switches, cluster, files, out=out, model=models or None)
    hold_folder(out)
    start_run(out, "verify", config, inputs=(*models, *stored, *scored, about))
    report: PairReport | SearchReport | TemplateReport | BlufrReport
    repeat = f"facekd verify --config {out}/run.yaml"
    if plan is not None:
        report = search_report(plan, judged, asked, about, others, quiet)
        write_gallery_split(out / "split.csv", plan.split)
        page = search_page(report, repeat)
    elif templates is not None:
        report = template_report(templates, judged, asked, quiet)
        if report.verification is not None:
            write_json(out / "thresholds.json", thresholds_json(report.verification))
        page = template_page(report, repeat)
    elif trials is not None and people is not None:
        report = blufr_report(trials, people, judged, about)
        write_text(out / "trials.csv", trials_csv(trials.trials, people))
        page = blufr_page(report, repeat)
    else:
        if people is not None:
            report = everybody_report(people, judged, asked, about, _counting(cluster), groups)
        else:
            assert listed is not None
            report = list_report(listed, judged, asked, data.crops, about)
        page = pair_page(report, None if files.no_faces else crops, repeat)
        # Of a search there is none by itself: an export would take its thresholds for those of pairs.
        write_json(out / "thresholds.json", thresholds_json(report))
    measured = report.verification if isinstance(report, TemplateReport) else report
    if files.save_thresholds is not None and measured is not None and not isinstance(measured, BlufrReport):
        save_thresholds(measured, files.save_thresholds)
    page.publish(report, out, files.json, files.report, quiet)
    return Verification(out, report)


def _check(data: PairData, asked: AskedRates, switches: ProtocolSwitches, cluster: Cluster) -> None:
    """Refuse too little, and what contradicts between groups of settings."""
    if switches.blufr:
        data.check_alone("--blufr")
    else:
        data.check_given()
    given = [("--require", asked.require), ("--threshold", asked.threshold), ("--attributes", switches.attributes)]
    for flag, value in given:
        if value is not None and switches.blufr:
            raise UserError(f"{flag}: BLUFR judges at its own FAR and FPIR; leave it or --blufr out")
    for one in asked.requirements:
        if one.searched != data.identification:
            measures = "only --identification measures" if one.searched else "--identification does not measure"
            raise UserError(f"--require {one.text!r}: names a rate that {measures}; leave one of them out")
        if one.column is not None and data.bin:
            raise UserError(f"--require {one.text!r}: names a group, and a .bin set has none; leave it out")
    if (data.group or asked.columns) and data.all_pairs and switches.attributes is None:
        raise UserError("--group names a column of a pair list or of --attributes; give --attributes for all pairs")
    if switches.flip and not (data.crops or data.bin):
        raise UserError("--flip embeds mirrored crops, which stored embeddings or scores don't have; give --crops")
    listed = data.pairs is not None and data.templates is None
    if switches.keep_repeats and not (listed or data.bin):
        raise UserError("--keep-repeats counts the pairs of a list as often as it has them; give --pairs or --bin")
    if switches.distractors is not None and not data.identification:
        raise UserError("--distractors grow a gallery; add --identification")
    if switches.attributes is not None and not (listed or data.all_pairs):
        raise UserError("--attributes groups pairs; give --pairs LIST or --all-pairs")
    if cluster.engine == "ray" and not data.all_pairs:
        raise UserError("--engine ray counts all pairs; add --all-pairs or leave it out")


def _counting(cluster: Cluster) -> AbstractContextManager[Count | None]:
    if cluster.engine == "local":
        return nullcontext(None)
    from facekd.evaluation.ray_pairs import counting_on_ray

    return counting_on_ray(cluster.address)
