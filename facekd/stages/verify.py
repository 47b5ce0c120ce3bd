"""facekd verify: models, crops and a pair list in; rates with intervals and a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.core.run import default_out, environment, start_run
from facekd.stages.console import progress, say, table

if TYPE_CHECKING:
    from facekd.core.types import PairList, Rate, Scores
    from facekd.crops.read import CropSet
    from facekd.deploy.embedder import Embedder
    from facekd.rates.counts import Curve
    from facekd.reports.document import Table

FARS = (1e-1, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True, slots=True)
class Judged:
    """One model on one pair list."""

    name: str
    rates: dict[str, Any]  # the model's part of the JSON
    curve: Curve
    scores: Scores


def verify(
    *,
    model: list[Path],
    pairs: Path,
    crops: Path,
    contract: Path | None = None,
    far: list[float] = list(FARS),  # noqa: B006  # read only; the command line shows it
    json: Path | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> list[Judged]:
    """Measure how well models tell people apart on a pair list.

    A pair scores the cosine of its two embeddings; a photo that gave no crop scores below every threshold. Gives
    10-fold accuracy, EER, AUC and the TAR at each FAR with its 95 % interval, and no TAR where the list holds too
    few impostor pairs to show that FAR. Writes report.json and report.html.

    Example: facekd verify --model student.onnx --crops crops/ --pairs pairs.csv --json rates.json

    Args:
        model: Run folder or ONNX file; give it again to compare models.
        pairs: LFW's pairs.txt, or a CSV or Parquet with columns a, b, same and, if wanted, fold and groups.
        crops: The crop store of the photos that the pairs name.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        far: False accept rates asked for.
        json: Write the rates here too.
        out: The folder for report.json and report.html.
        quiet: Print nothing.
    """
    from facekd.core.files import sha256_file, write_json
    from facekd.crops.pairs import read_pairs, resolve
    from facekd.crops.read import photo_names, read_crops
    from facekd.deploy.embedder import Embedder

    listed = read_pairs(pairs)
    crop_set = read_crops(crops)
    names = photo_names(crops) if crops.is_dir() else {name: name for name in crop_set.ids}
    resolved, failed = resolve(listed, names, str(crops))
    embedders = [Embedder.load(path, contract) for path in model]
    out = out or default_out("verify")
    config = {
        "model": model,
        "pairs": pairs,
        "crops": crops,
        "contract": contract,
        "far": far,
        "json": json,
        "out": out,
    }
    start_run(out, "verify", config, inputs=(*model, pairs))
    judged = [
        judge(label, embedder, crop_set, resolved, failed, far, quiet=quiet)
        for label, embedder in zip(labels(model), embedders, strict=True)
    ]
    report = {
        "models": [{"file": str(path), **one.rates} for path, one in zip(model, judged, strict=True)],
        "pairs": {"file": str(pairs), "sha256": sha256_file(pairs)},
        "environment": environment(),
    }
    for path in filter(None, [out / "report.json", json]):
        write_json(path, report)
    _write_report(out / "report.html", judged, far, pairs, out)
    _print(judged, far, quiet)
    say(f"report: {out / 'report.html'}", quiet)
    return judged


def judge(
    name: str,
    embedder: Embedder,
    crops: CropSet,
    pairs: PairList,
    failed: frozenset[str],
    fars: Sequence[float],
    *,
    quiet: bool,
) -> Judged:
    """Embed the crops that `pairs` names with one model and take its rates."""
    import numpy as np

    from facekd.core.types import Embeddings
    from facekd.rates.counts import curve
    from facekd.rates.score import score

    place = {crop_id: i for i, crop_id in enumerate(crops.ids)}
    wanted = sorted({crop_id for crop_id in (*pairs.left, *pairs.right) if crop_id not in failed})
    pieces = [np.zeros((0, embedder.contract.dim), np.float32)]
    starts = range(0, len(wanted), 64)
    for start in progress(starts, len(wanted), f"embed by {name}", quiet, unit=64):
        batch = crops.batch(np.array([place[crop_id] for crop_id in wanted[start : start + 64]]))
        pieces.append(embedder.embed(batch))
    embeddings = Embeddings(np.concatenate(pieces), tuple(wanted), embedder.model_id)
    scores = score(embeddings, pairs, failed)
    rates = {"model": name, "model_id": embedder.model_id, **rates_of(scores, fars, pairs.groups)}
    rates["failures_to_enrol"]["photos"] = len(failed)
    return Judged(name, rates, curve(scores.values, scores.same), scores)


def rates_of(scores: Scores, fars: Sequence[float], groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Every rate of a scored list as plain values for JSON; groups are judged at the whole list's thresholds."""
    import numpy as np

    from facekd.rates.counts import curve
    from facekd.rates.folds import accuracy
    from facekd.rates.rates import auc, d_prime, eer, rate_at
    from facekd.rates.score import without_failures

    counts = curve(scores.values, scores.same)
    folded = accuracy(_in_folds(scores))
    tar = [rate_at(counts, asked) for asked in fars]
    enrolled = without_failures(scores)
    both = bool(enrolled.same.any() and not enrolled.same.all())
    judged = [rate_at(curve(enrolled.values, enrolled.same), asked) for asked in fars] if both else []
    d = d_prime(scores.values, scores.same)
    return {
        "accuracy": None if folded is None else {"mean": folded.mean, "std": folded.std, "folds": list(folded.folds)},
        "eer": eer(counts),
        "auc": auc(counts),
        "d_prime": None if d is None or not np.isfinite(d) else d,
        "tar": [_rate(rate) for rate in tar],
        "tar_without_failures": [_rate(rate) for rate in judged],
        "pairs": {"genuine": counts.n_genuine, "impostor": counts.n_impostor},
        "failures_to_enrol": {"pairs": len(scores.values) - len(enrolled.values)},
        "groups": {column: _by_group(scores, values, tar) for column, values in groups.items()},
    }


def labels(paths: Sequence[Path]) -> list[str]:
    """A short name for each model: its file's or folder's; with its place where two share it."""
    names = [path.stem if path.suffix in (".onnx", ".safetensors") else path.resolve().name for path in paths]
    return [f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def percent(value: float | None, digits: int = 2) -> str:
    """A rate for people: ``98.12 %``, or a dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def far_name(far: float) -> str:
    """A FAR as the field writes it: ``1e-3``."""
    return f"{far:.0e}".replace("e-0", "e-")


def tar_text(rate: Mapping[str, Any]) -> str:
    """A TAR with its interval, or why there is none."""
    if rate["tar"] is None:
        return "too few impostor pairs"
    return f"{percent(rate['tar'])} [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]"


def _rate(rate: Rate) -> dict[str, Any]:
    from facekd.rates.rates import support

    return {
        "far_asked": rate.far_asked,
        "far": rate.far,
        "tar": rate.tar,
        "low": rate.low,
        "high": rate.high,
        "threshold": rate.threshold,
        "support": support(rate.far_asked, rate.n_impostor),
    }


def _in_folds(scores: Scores) -> Scores:
    """Only the pairs that are in a fold; all of them, as one fold, where none is."""
    from dataclasses import replace

    import numpy as np

    kept = np.flatnonzero(scores.fold >= 0)
    if len(kept) == 0:
        return scores
    left, right = (tuple(side[i] for i in kept) for side in (scores.left, scores.right))
    return replace(
        scores, values=scores.values[kept], same=scores.same[kept], left=left, right=right, fold=scores.fold[kept]
    )


def _by_group(scores: Scores, values: Sequence[str], tar: Sequence[Rate]) -> dict[str, Any]:
    """For each value of a group column its pairs, and TAR and FAR at the whole list's thresholds."""
    import numpy as np

    column = np.array(values)
    groups: dict[str, Any] = {}
    for value in sorted(set(values)):
        here = column == value
        genuine, impostor = scores.values[here & scores.same], scores.values[here & ~scores.same]
        rows = []
        for rate in tar:
            accepts = np.inf if rate.threshold is None else rate.threshold
            rows.append(
                {
                    "far_asked": rate.far_asked,
                    "threshold": rate.threshold,
                    "tar": None if rate.tar is None or not len(genuine) else float((genuine >= accepts).mean()),
                    "far": None if rate.tar is None or not len(impostor) else float((impostor >= accepts).mean()),
                }
            )
        groups[value] = {"pairs": {"genuine": len(genuine), "impostor": len(impostor)}, "tar": rows}
    return groups


def _print(judged: Sequence[Judged], fars: Sequence[float], quiet: bool) -> None:
    columns = ["model", "accuracy", "EER", "AUC", *(f"TAR@{far_name(far)}" for far in fars)]
    rows = []
    for one in judged:
        accuracy = one.rates["accuracy"]
        shown = "–" if accuracy is None else f"{100 * accuracy['mean']:.2f} ± {100 * accuracy['std']:.2f} %"
        tars = [percent(rate["tar"]) for rate in one.rates["tar"]]
        rows.append([one.name, shown, percent(one.rates["eer"]), f"{one.rates['auc']:.4f}", *tars])
    pairs, failures = judged[0].rates["pairs"], judged[0].rates["failures_to_enrol"]
    title = f"{pairs['genuine']} genuine and {pairs['impostor']} impostor pairs"
    if failures["photos"]:
        title += f"; {failures['photos']} photos gave no crop: {failures['pairs']} pairs count as non-matches"
    table(title, columns, rows, quiet)


def rates_table(rows_of: Mapping[str, Mapping[str, Any]], fars: Sequence[float], note: str = "") -> Table:
    """The rates of several models, by name, as a table of the report."""
    from facekd.reports.document import Table

    columns = ("model", "10-fold accuracy", "EER", *(f"TAR at FAR {far_name(far)}" for far in fars))
    rows = []
    for name, rates in rows_of.items():
        accuracy = rates["accuracy"]
        shown = "–" if accuracy is None else f"{percent(accuracy['mean'])} ± {100 * accuracy['std']:.2f}"
        rows.append((name, shown, percent(rates["eer"]), *(tar_text(rate) for rate in rates["tar"])))
    note = note or "In brackets the 95 % Wilson interval over genuine pairs taken as independent."
    return Table("Rates", columns, tuple(rows), note)


def _write_report(path: Path, judged: Sequence[Judged], fars: Sequence[float], pairs: Path, out: Path) -> None:
    from facekd.reports import plots
    from facekd.reports.document import Figure, Repeat, Section, write_html

    curves = {one.name: one.curve for one in judged}
    first = judged[0].rates
    best = max(judged, key=lambda one: float(one.rates["auc"]))
    lead = (
        f"{len(judged)} model{'s' if len(judged) > 1 else ''} on {first['pairs']['genuine']} genuine and "
        f"{first['pairs']['impostor']} impostor pairs of {pairs.name}: {best.name} has an EER of "
        f"{percent(best.rates['eer'])}."
    )
    figures = [
        Figure(plots.roc(curves), "ROC with 95 % bands for independent pairs"),
        Figure(plots.det(curves), "DET: both error rates, log axes"),
        *(Figure(plots.histograms(one.scores, _marks(one)), f"Scores of {one.name}") for one in judged),
    ]
    sections = [Section("Rates", (rates_table({one.name: one.rates for one in judged}, fars),)), Section("Curves", tuple(figures))]
    repeat = Repeat((f"facekd verify --config {out}/run.yaml",), environment())
    write_html(path, title="Verification", lead=lead, sections=sections, repeat=repeat)


def _marks(one: Judged) -> dict[str, float]:
    return {
        f"FAR {far_name(rate['far_asked'])}": rate["threshold"]
        for rate in one.rates["tar"]
        if rate["threshold"] is not None
    }
