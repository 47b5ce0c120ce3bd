"""facekd export: a trained network or an ONNX embedder in, one checked ONNX file out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import ExportedFile, NetworkContract

if TYPE_CHECKING:
    from onnx import ModelProto

    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet
    from facekd.deploy.embedder import CropEmbedder
    from facekd.deploy.export import Parity
    from facekd.deploy.targets.table import Target
    from facekd.evaluation.results import ModelDifference

NOISE_CROPS = 16  # checked where no crops are given
CHECKED, CALIBRATED = 64, 256  # crops; those checked are not those calibrated on where there are enough
FARS = (1e-1, 1e-2, 1e-3, 1e-4)
JUDGED_FAR = 1e-3  # or the lowest above it that the list can show
MOST_LOST = 0.003  # of the TAR there
SEED = 0  # of which crops are drawn


@dataclass(frozen=True, slots=True)
class Exported:
    """The file, and how close it is to its source."""

    path: Path
    model_id: str
    least_cosine: float
    median_cosine: float
    bytes: int
    differences: tuple[ModelDifference, ...]  # of TAR at each FAR, exported minus source; none without pairs


@door
def export(
    run: Path,
    model: Path,
    *,
    file: ExportedFile = ExportedFile(),
    foreign: NetworkContract = NetworkContract(),
    quiet: bool = False,
) -> Exported:
    """Write a network as one ONNX file: any batch size, unit embeddings, contract and model card inside.

    PReLU is written in operators that runtimes run at full speed, the same function. The file is handed over only
    after its embeddings agree with the network's: every cosine 0.9999 for fp32 and 0.999 for fp16, their median 0.97
    for int8; and, where pairs are given, after its TAR at FAR 1e-3 is within 0.3 points of the network's.

    An fp32 export is the same model as its source and shares its galleries. fp16 and int8 give other embeddings: they
    are models of their own, to be enrolled anew. fp16 stores weights in half the space and computes in fp32.

    Example: facekd export runs/student student.onnx --precision int8 --crops crops/ --pairs pairs.csv

    Args:
        run: The run folder of a trained network, or anybody's ONNX embedder.
        model: The ONNX file to write.
        quiet: Print nothing.
    """
    from facekd.core.files import write_bytes
    from facekd.core.run import versions
    from facekd.crops.read import read_crops
    from facekd.deploy.card import CARD, TERMS, model_card
    from facekd.deploy.embedder import CropEmbedder
    from facekd.deploy.export import bound, check_parity, prepared, serialized
    from facekd.deploy.targets.table import check_target, target_of
    from facekd.deploy.thresholds import THRESHOLDS, known_thresholds, thresholds_text
    from facekd.nets.files import STANDARD, UINT8

    target = target_of(model)
    if target is not None:
        check_target(target, file.precision, file.uint8_input or file.standard_input)
    source = CropEmbedder.load(run, foreign.contract, quick=False)  # what is written is checked against the file itself
    name, graph = _network(run)
    given = _given_thresholds(run, source, file)
    crops = None if file.crops is None else read_crops(file.crops)
    calibrated, checked = _drawn(source, crops)

    say(f"exporting {name} in {file.precision} …", quiet)
    if target is not None:
        return _for_a_device(run, model, target, source, graph(), calibrated, checked, crops, file, quiet)
    takes = UINT8 if file.uint8_input else STANDARD if file.standard_input else None
    made = prepared(graph(), source.network.fed, file.precision, takes, calibrated)
    own = bound(made, source.contract, file.precision)
    about = {"facekd.net": name, "facekd.versions": json.dumps(versions())}
    if file.terms is not None:
        about[TERMS] = file.terms
    with _as_read(serialized(made, own, source.contract, file.precision, about)) as exported:
        parity = check_parity(source, exported, checked, file.precision)
        differences, measured = _compare(run, source, exported, crops, file, quiet)
    _check_tar(differences, file.precision)

    # The source's own, or those of the pairs given; what facekd carries for the source holds where there are neither.
    kept = given or measured or known_thresholds(own)
    if kept:
        about[THRESHOLDS] = thresholds_text(kept)
    checks = _checks(parity, differences, file)
    about[CARD] = model_card(name, own, source.contract, file.precision, checks, kept, file.terms)
    data = serialized(made, own, source.contract, file.precision, about)
    write_bytes(model, data)
    found = "; ".join(f"{what} {value}" for what, value in checks.items())
    say(f"{model}: {len(data) / 1e6:.2f} MB, model {own.model_id}, its card in the metadata {CARD}; {found}", quiet)
    return Exported(model, own.model_id, parity.least_cosine, parity.median_cosine, len(data), differences)


def _for_a_device(
    run: Path,
    model: Path,
    target: Target,
    source: CropEmbedder,
    graph: ModelProto,
    calibrated: Array | None,
    checked: Array,
    crops: CropSet | None,
    file: ExportedFile,
    quiet: bool,
) -> Exported:
    """Another runtime's file, checked as an ONNX file is, by that runtime."""
    from facekd.deploy.export import check_parity, prepared
    from facekd.deploy.targets.write import LIMITS, converted, put_in_place

    bits = "int8" if file.precision == "int8" else "fp32"  # fp16 is the converter's work
    made = prepared(graph, source.network.fed, bits, None, calibrated)
    with converted(made, source.network, target, file.precision, model) as written:
        parity = check_parity(source, written.embedder, checked, file.precision, LIMITS)
        differences, _ = _compare(run, source, written.embedder, crops, file, quiet)
        _check_tar(differences, file.precision)
        put_in_place(written.path, model)
    checks = {"checked": written.checked_by, **_checks(parity, differences, file)}
    found = "; ".join(f"{what} {value}" for what, value in checks.items())
    own = written.embedder.model_id
    say(f"{model}: {written.bytes / 1e6:.2f} MB, model {own}, {target.fed(source.contract.size)}; {found}", quiet)
    if target.advice:
        say(f"{model}: {target.advice}", quiet)
    return Exported(model, own, parity.least_cosine, parity.median_cosine, written.bytes, differences)


def _network(run: Path) -> tuple[str, Callable[[], ModelProto]]:
    """A network's name, and what gives its graph; torch is loaded only where the network is no ONNX file."""
    if not run.is_dir() and run.suffix != ".safetensors":
        from facekd.deploy.export import read_source

        return run.stem, partial(read_source, run)
    from facekd.deploy.traced import to_onnx
    from facekd.nets.saved import load_model

    saved = load_model(run)
    return saved.name, partial(to_onnx, saved.net, saved.contract)


@contextmanager
def _as_read(data: bytes) -> Iterator[CropEmbedder]:
    """An exported file, read as any user of it reads it: what is checked is the file itself."""
    import tempfile

    from facekd.core.files import write_bytes
    from facekd.deploy.embedder import CropEmbedder

    with tempfile.TemporaryDirectory(prefix="facekd-export-") as folder:
        candidate = Path(folder) / "model.onnx"
        write_bytes(candidate, data)
        yield CropEmbedder.load(candidate, quick=False)


def _given_thresholds(run: Path, source: CropEmbedder, file: ExportedFile) -> dict[float, float]:
    """The source's thresholds, which hold for an export that is the same model."""
    from facekd.deploy.export import PRECISIONS
    from facekd.deploy.thresholds import measured_thresholds, read_thresholds

    if file.thresholds is not None:
        return measured_thresholds(file.thresholds, source.model_id)
    return read_thresholds(run) if PRECISIONS[file.precision].same_model else {}


def _drawn(source: CropEmbedder, crop_set: CropSet | None) -> tuple[Array | None, Array]:
    """The crops to calibrate on and those to check on; noise to check on where there are none."""
    import numpy as np

    rng, size = np.random.default_rng(SEED), source.contract.size
    if crop_set is None:
        return None, rng.integers(0, 256, (NOISE_CROPS, size, size, 3), np.uint8)
    order = rng.permutation(len(crop_set))
    checked = min(CHECKED, -(-len(order) // 2))
    rest = order[checked:] if len(order) > 1 else order
    return crop_set.batch(np.sort(rest[:CALIBRATED])), crop_set.batch(np.sort(order[:checked]))


def _compare(
    run: Path, source: CropEmbedder, exported: CropEmbedder, crops: CropSet | None, file: ExportedFile, quiet: bool
) -> tuple[tuple[ModelDifference, ...], dict[float, float]]:
    """TAR of the export minus that of its source at each FAR, and the export's own thresholds."""
    if file.pairs is None or crops is None:
        return (), {}
    from facekd.evaluation.judged import from_crops
    from facekd.evaluation.model_rates import differences, judge_scores
    from facekd.evaluation.protocols import read_list

    listed = read_list(file.pairs, crops, file.crops)
    both = {f"{run.stem} exported": exported, run.stem: source}
    models = [from_crops(name, run, one, crops, quiet) for name, one in both.items()]
    judged = [judge_scores(one, one.scores(listed), listed, FARS) for one in models]
    found = {rate.far_asked: rate.threshold for rate in judged[0].rates.tar}
    thresholds = {far: value for far, value in found.items() if value is not None and abs(value) <= 1}
    return differences(judged, listed.persons, FARS), thresholds


def _judged(differences: Sequence[ModelDifference]) -> tuple[float, float, str] | None:
    """The difference that counts, its FAR and how it reads: at the lowest FAR, from 1e-3 up, that the list can show."""
    shown = [one for one in differences if one.difference is not None and one.far_asked >= JUDGED_FAR]
    if not shown:
        return None
    one = min(shown, key=lambda one: one.far_asked)
    assert one.difference is not None
    assert one.low is not None
    assert one.high is not None
    low, high = 100 * one.low, 100 * one.high
    points = f"{100 * one.difference:+.2f} points (95 % interval {low:+.2f} to {high:+.2f})"
    return one.difference, one.far_asked, points


def _check_tar(differences: Sequence[ModelDifference], precision: str) -> None:
    found = _judged(differences)
    if found is not None and found[0] < -MOST_LOST:
        raise UserError(
            f"the exported network tells people apart worse than its source: TAR at FAR {found[1]:g} is {found[2]}, "
            f"more than {100 * MOST_LOST:.1f} points lost in {precision}; nothing was written"
        )


def _checks(parity: Parity, differences: Sequence[ModelDifference], file: ExportedFile) -> dict[str, str]:
    what = "noise images" if file.crops is None else "crops"
    checks = {
        "cosine to its source": f"least {parity.least_cosine:.6f}, median {parity.median_cosine:.6f} "
        f"over {parity.crops} {what}"
    }
    found = _judged(differences)
    if found is not None:
        checks[f"TAR at FAR {found[1]:g}"] = found[2]
    elif file.pairs is not None:
        checks["TAR"] = "not shown: the list holds too few pairs"
    return checks
