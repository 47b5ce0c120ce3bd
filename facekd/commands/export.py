"""facekd export: a trained network or an ONNX embedder in, one checked file out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
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
    from facekd.deploy.export import Parity, Precision
    from facekd.deploy.targets.table import Target
    from facekd.deploy.targets.write import Written
    from facekd.evaluation.exported import ExportComparison, ExportTrial
    from facekd.evaluation.results import ModelDifference

NOISE_CROPS = 16  # checked where no crops are given
CHECKED = 64  # crops
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
    """Write a network as a file for other software, its ending chooses which: unit embeddings, checked against its own.

    .onnx takes any batch size and holds contract and model card; .tflite, .ncnn.zip, .mlpackage, .xml (OpenVINO) and
    .pte (ExecuTorch) are for devices, and take a crop's pixels.

    PReLU is written in operators that runtimes run at full speed, the same function. The file is handed over only
    after its embeddings agree with the network's: every cosine 0.9999 for fp32 and 0.999 for fp16, their median 0.97
    for int8; and, where pairs are given, after its TAR at FAR 1e-3 is within 0.3 points of the network's. Fewer bits
    than 16 are always judged so: on --pairs, or on all pairs of crops whose people are known. Layers that cost too
    much accuracy in int8 stay float; where that does not help either, nothing is written.

    An fp32 export is the same model as its source and shares its galleries. Others give other embeddings: they are
    models of their own, to be enrolled anew. fp16 stores weights in half the space and computes in fp32; int8-weights
    and int4-weights store blocks of weights in a quarter and an eighth of it, and compute in fp32 too.

    What the model is, what it takes and its thresholds lie beside it as JSON: student.onnx.json.

    Example: facekd export runs/student student.onnx --precision int8 --crops crops/ --pairs pairs.csv

    Args:
        run: The run folder of a trained network, or anybody's ONNX embedder.
        model: The file to write.
        quiet: Print nothing.
    """
    from facekd.core.run import versions
    from facekd.crops.read import read_crops
    from facekd.deploy.card import CARD, KNOWN_TERMS, TERMS, model_card, stated_terms
    from facekd.deploy.embedder import CropEmbedder
    from facekd.deploy.export import PRECISIONS, bound, forms, serialized
    from facekd.deploy.model_json import MODEL, about_model, describe, input_of, output_of
    from facekd.deploy.place import aside, check_place, put_in_place
    from facekd.deploy.quantize import from_fp16
    from facekd.deploy.targets.table import check_target, target_of
    from facekd.deploy.targets.write import LIMITS, converted
    from facekd.deploy.thresholds import THRESHOLDS, known_thresholds, thresholds_text
    from facekd.nets.files import STANDARD, UINT8

    target = target_of(model)
    if target is not None:
        check_target(target, file.precision, file.uint8_input or file.standard_input)
    check_place(model, run)
    source = CropEmbedder.load(run, foreign.contract, quick=False)  # what is written is checked against the file itself
    name, graph = _network(run)
    given = _given_thresholds(run, source, file)
    crops = None if file.crops is None else read_crops(file.crops)
    trial = None if crops is None else _trial(file, crops)
    calibrated, checked = _drawn(source, crops, trial)

    waits = "" if target is None else f" for {target.name}, whose converter takes a minute or more each time"
    say(f"exporting {name} in {file.precision}{waits} …", quiet)
    asked = UINT8 if file.uint8_input else STANDARD if file.standard_input else None
    bits = "fp32" if target is not None and file.precision == "fp16" else file.precision  # fp16 is its converter's work
    terms = file.terms or stated_terms(run) or KNOWN_TERMS.get(source.contract.weights_sha256)
    about = {"facekd.net": name, "facekd.versions": json.dumps(versions())}
    if terms is not None:
        about[TERMS] = terms

    def opened(made: ModelProto) -> AbstractContextManager[Written]:
        if target is not None:
            return converted(from_fp16(made), source.network, target, file.precision, model)
        own = bound(made, source.contract, file.precision)
        return _as_read(serialized(made, own, source.contract, file.precision, about))

    tries = forms(graph(), source.network.fed, bits, asked, calibrated)
    limits = PRECISIONS if target is None else LIMITS
    with _first_that_holds(run, source, tries, opened, checked, trial, limits, file, quiet) as chosen:
        own, comparison = chosen.written.embedder.contract, chosen.comparison
        # The source's own, or those of the pairs; what facekd carries for the source holds where there are neither.
        kept = given or ({} if comparison is None else comparison.thresholds()) or known_thresholds(own)
        takes = asked or source.network.takes
        values = about_model(
            name=name,
            contract=own,
            source=source.contract,
            precision=file.precision,
            fed=input_of(own, takes) if target is None else target.input_of(own.size),
            made=output_of(own.dim) if target is None else output_of(own.dim, target.made, target.free_batch),
            parity={"of": _checked_on(file), **asdict(chosen.parity)},
            rates={} if comparison is None else comparison.values(),
            thresholds=kept,
            terms=terms,
            versions=versions(),
        )
        checks = _checks(chosen, target, file)
        if target is not None:
            describe(chosen.written.path, values)
            put_in_place(chosen.written.path, model)
            size, words = chosen.written.bytes, target.fed(own.size)
        else:
            card = model_card(name, own, source.contract, file.precision, checks, kept, terms)
            about |= {THRESHOLDS: thresholds_text(kept)} if kept else {}
            about |= {CARD: card, MODEL: json.dumps(values)}
            data = serialized(chosen.model, own, source.contract, file.precision, about)
            with aside(model) as folder:
                made = folder / model.name
                made.write_bytes(data)
                describe(made, values)
                put_in_place(made, model)
            size, words = len(data), f"its card in the metadata {CARD}"
    found = "; ".join(f"{what} {value}" for what, value in checks.items())
    say(f"{model}: {size / 1e6:.2f} MB, model {own.model_id}, {words}; {found}", quiet)
    if target is not None and file.few_bits and size > 2 * source.network.parameters:  # what is not int8 is fp32 there
        say(f"{model}: is larger than fp16; judged on crops of more people, more layers may stay int8", quiet)
    if target is not None and target.advice:
        say(f"{model}: {target.advice}", quiet)
    differences = () if comparison is None else comparison.differences
    return Exported(model, own.model_id, chosen.parity.least_cosine, chosen.parity.median_cosine, size, differences)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A file, not in its place yet, that is close enough to its source."""

    model: ModelProto
    written: Written
    parity: Parity
    comparison: ExportComparison | None  # None where nobody was told apart


@contextmanager
def _first_that_holds(
    run: Path,
    source: CropEmbedder,
    tries: Iterator[ModelProto],
    opened: Callable[[ModelProto], AbstractContextManager[Written]],
    checked: Array,
    trial: ExportTrial | None,
    limits: Mapping[str, Precision],
    file: ExportedFile,
    quiet: bool,
) -> Iterator[_Chosen]:
    """The first of `tries`, each of more bits than the one before, that is close enough to the source.

    Raises:
        Worse: none is; the sentence is of the last.
    """
    from facekd.deploy.export import Worse, check_parity
    from facekd.evaluation.exported import refuse_lost

    wanted = None if trial is None else trial.judge(run.stem, run, source, quiet)
    fault = None
    for made in tries:
        if fault is not None:
            said = str(fault).removesuffix("; nothing was written")
            say(f"{said}; trying again, with more bits where they count …", quiet)
        with ExitStack() as stack:
            written = stack.enter_context(opened(made))
            comparison = None
            try:
                parity = check_parity(source, written.embedder, checked, file.precision, limits)
                if trial is not None and wanted is not None:
                    found = trial.judge(f"{run.stem} exported", run, written.embedder, quiet)
                    comparison = trial.compare(found, wanted)
                    refuse_lost(comparison, file.precision, must_show=file.few_bits)
            except Worse as error:
                fault = error
                continue
            yield _Chosen(made, written, parity, comparison)
            return
    assert fault is not None
    raise fault


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
def _as_read(data: bytes) -> Iterator[Written]:
    """An exported file, read as any user of it reads it: what is checked is the file itself."""
    import tempfile

    from facekd.core.files import write_bytes
    from facekd.deploy.embedder import CropEmbedder
    from facekd.deploy.targets.write import Written

    with tempfile.TemporaryDirectory(prefix="facekd-export-") as folder:
        candidate = Path(folder) / "model.onnx"
        write_bytes(candidate, data)
        yield Written(candidate, CropEmbedder.load(candidate, quick=False), len(data), "")


def _given_thresholds(run: Path, source: CropEmbedder, file: ExportedFile) -> dict[float, float]:
    """The source's thresholds, which hold for an export that is the same model."""
    from facekd.deploy.export import PRECISIONS
    from facekd.deploy.thresholds import measured_thresholds, read_thresholds

    if file.thresholds is not None:
        return measured_thresholds(file.thresholds, source.model_id)
    return read_thresholds(run) if PRECISIONS[file.precision].same_model else {}


def _trial(file: ExportedFile, crops: CropSet) -> ExportTrial | None:
    """What the export is judged on: the pairs given, or for few bits all pairs of crops whose people are known.

    Raises:
        UserError: few bits, and neither.
    """
    from facekd.evaluation.exported import on_everybody, on_pairs

    if file.pairs is not None and file.crops is not None:
        return on_pairs(file.pairs, crops, file.crops, SEED)
    if not file.few_bits:
        return None
    found = on_everybody(crops, SEED)
    if found is None:
        raise UserError(
            f"{file.crops}: does not say whom its crops show, or shows under four people or nobody twice, so nothing "
            f"tells whether {file.precision} loses people; give --pairs LIST, or crops that carry identities"
        )
    return found


def _drawn(source: CropEmbedder, crop_set: CropSet | None, trial: ExportTrial | None) -> tuple[Array | None, Array]:
    """The crops to calibrate on and those to check on; noise to check on where there are none."""
    import numpy as np

    rng, size = np.random.default_rng(SEED), source.contract.size
    if crop_set is None:
        return None, rng.integers(0, 256, (NOISE_CROPS, size, size, 3), np.uint8)
    calibrating = np.zeros(0, np.int64) if trial is None else trial.calibrating
    others = np.setdiff1d(np.arange(len(crop_set)), calibrating)
    drawn = rng.permutation(others if len(others) else np.arange(len(crop_set)))[:CHECKED]
    return crop_set.batch(calibrating) if len(calibrating) else None, crop_set.batch(np.sort(drawn))


def _checks(chosen: _Chosen, target: Target | None, file: ExportedFile) -> dict[str, str]:
    from facekd.deploy.mixed import int8_layers
    from facekd.evaluation.exported import points

    parity = chosen.parity
    checks = {} if target is None else {"checked": chosen.written.checked_by}
    checks |= {
        "cosine to its source": f"least {parity.least_cosine:.6f}, median {parity.median_cosine:.6f} "
        f"over {parity.crops} {_checked_on(file)}"
    }
    if file.precision == "int8":
        checks["layers in int8"] = "{} of {}, the others float".format(*int8_layers(chosen.model))
    found = None if chosen.comparison is None else chosen.comparison.counts
    if chosen.comparison is not None and found is not None:
        also = "" if chosen.comparison.apart or not file.few_bits else ", some of whose people calibrated it"
        checks[f"TAR at FAR {found.far_asked:g}"] = f"{points(found)} on {chosen.comparison.what}{also}"
    elif file.pairs is not None:
        checks["TAR"] = "not shown: the list holds too few pairs"
    return checks


def _checked_on(file: ExportedFile) -> str:
    return "noise images" if file.crops is None else "crops"
