"""Crops per second of every form of the exported MobileFaceNet, and what each form costs in accuracy.

    python benchmarks/embed.py [--crops STORE] [--pairs LIST]   # 12 minutes; writes results/embed.json
    python benchmarks/embed.py --quick                          # one round of each and no accuracy, prints only

Speed: MobileFaceNet of 512 dimensions with random weights (they do not change the speed), and the public w600k_mbf.
The baseline is what a user had before: the plain export with its PReLU in one default ONNX Runtime session on all
cores, 64 crops at a time, input already normalized. All forms take turns in one process; a ratio is the median of
the ratios in each round. The machine's peak is a float32 matrix product in turns with them; the share reached is the
multiply-adds of the network times its rate over that peak.

Accuracy: the public weights through the same exporter on the crops and pairs given (LFW's), in fp32, fp16 and int8: TAR
at FAR 1e-3 with its interval and the paired difference to the source with the interval that resampled people give.
What is measured is written after each model, so a run that is stopped leaves what it has.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from _nets import WEIGHTS, pictures, settled_run
from _record import record

from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.export import bound, prepared, read_source, serialized
from facekd.deploy.graph import with_unit_norm
from facekd.deploy.quantize import to_int8
from facekd.deploy.traced import to_onnx
from facekd.nets.files import UINT8
from facekd.nets.graph import Graph, folded
from facekd.nets.onnx_cost import onnx_macs
from facekd.nets.saved import load_model

COUNT = 64  # crops in a call
ROUNDS, SECONDS = 9, 0.8
FARS = (1e-2, 1e-3)
BASELINE = "PReLU fp32, plain session"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=Path, help="a store of LFW crops; without it no accuracy is measured")
    parser.add_argument("--pairs", type=Path, default=WEIGHTS.parent / "lfw_pairs.txt")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    result: dict[str, Any] = {"cores": cores(), "crops_in_a_call": COUNT}
    with tempfile.TemporaryDirectory() as folder:
        result["speed"] = speed(Path(folder), 1 if args.quick else ROUNDS, 0.2 if args.quick else SECONDS)
    show(result["speed"])
    if args.quick:
        return
    record("embed", result)
    if args.crops is None or not args.pairs.exists():
        result["accuracy"] = "left out: no --crops STORE of LFW, or no pair list"
        print(result["accuracy"])
        return
    result["accuracy"] = {}
    for name in ("foamliu_mobilefacenet", "w600k_mbf"):
        if not (WEIGHTS / f"{name}.onnx").exists():
            result["accuracy"][name] = "left out: the weights are not here"
            continue
        result["accuracy"][name] = accuracy(WEIGHTS / f"{name}.onnx", args.crops, args.pairs)
        record("embed", result)


def speed(home: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Rates of every form in turns, ratios to the baseline, cosines to the source and the share of the peak."""
    crops = pictures(COUNT, seed=99)
    forms: dict[str, Callable[[], Any]] = {}
    cosines: dict[str, float] = {}
    macs: dict[str, int] = {}
    for label, source, contract in sources(home):
        wanted = unit(default_session(source, contract, crops)())
        plain_macs = counted(home, source, contract)
        for name, form in forms_of(home, label, source, contract, crops).items():
            full = f"{label} {name}"
            forms[full], macs[full] = form, plain_macs
            cosines[full] = float(np.median((unit(form()) * wanted).sum(axis=1)))
    peak = matrix_product()
    operations = {"peak": peak}
    taken: dict[str, list[float]] = {name: [] for name in (*forms, "peak")}
    for _ in range(rounds):
        for name, form in {**forms, **operations}.items():
            taken[name].append(rate(form, seconds))
    flops = statistics.median(taken.pop("peak")) * PRODUCT_FLOPS
    rows = {}
    for name, rates in taken.items():
        base = taken[f"w600k_mbf {PLAIN}" if name.startswith("w600k") else BASELINE]
        crops_each = statistics.median(rates) * COUNT
        rows[name] = {
            "crops_per_second": round(crops_each, 1),
            "times_plain": round(statistics.median(r / b for r, b in zip(rates, base, strict=True)), 2),
            "median_cosine_to_source": round(cosines[name], 6),
            "share_of_peak": round(2 * macs[name] * crops_each / flops, 3),
            "rounds": [round(COUNT * r, 1) for r in rates],
        }
    return {"peak_gflops": round(flops / 1e9, 1), "forms": rows}


PLAIN = "fp32, plain session"


def sources(home: Path) -> list[tuple[str, Any, Contract]]:
    """Label, plain ModelProto and contract of each network."""
    found = []
    for activation, label in (("prelu", "PReLU"), ("relu", "ReLU")):
        saved = load_model(settled_run(home / activation, activation))
        found.append((label, to_onnx(saved.net, saved.contract), saved.contract))
    public = WEIGHTS / "w600k_mbf.onnx"
    if public.exists():
        found.append(("w600k_mbf", read_source(public), CropEmbedder.load(public).contract))
    return found


def forms_of(home: Path, label: str, source: Any, contract: Contract, crops: Array) -> dict[str, Callable[[], Any]]:
    """What embeds `crops` in each form."""
    calibration = pictures(64, seed=7)
    files = {}
    for precision in ("fp32", "int8"):
        for uint8 in (False, True):
            made = prepared(
                source, contract, precision, UINT8 if uint8 else None, calibration if precision == "int8" else None
            )
            path = home / f"{label}-{precision}-{uint8}.onnx"
            path.write_bytes(serialized(made, bound(made, contract, precision), contract, precision, {}))
            files[precision, uint8] = path
    plain = home / f"{label}-plain.onnx"
    made = with_unit_norm(source, contract.dim)
    plain.write_bytes(serialized(made, contract, contract, "fp32", {}))
    naive = home / f"{label}-naive.onnx"
    made = to_int8(folded(source), [to_input(calibration, contract)])
    naive.write_bytes(serialized(with_unit_norm(made, contract.dim), contract, contract, "int8", {}))

    inputs = to_input(crops, contract)
    forms: dict[str, Callable[[], Any]] = {
        PLAIN: default_session(source, contract, crops),
        "fp32, plain, a thread on each core": ready(CropEmbedder.load(plain), inputs),
        "fp32 export, default session": default_session(onnx.load(str(files["fp32", False])), contract, crops),
        "fp32 export": ready(CropEmbedder.load(files["fp32", False]), inputs),
        "fp32 export, from uint8 crops": from_crops(CropEmbedder.load(files["fp32", False]), crops),
        "fp32 export, uint8 inside": from_crops(CropEmbedder.load(files["fp32", True]), crops),
        "int8 naive, default session": default_session(onnx.load(str(naive)), contract, crops),
        "int8 export": ready(CropEmbedder.load(files["int8", False]), inputs),
        "int8 export, uint8 inside": from_crops(CropEmbedder.load(files["int8", True]), crops),
    }
    try:
        import openvino  # noqa: F401  # the extra 'export'
    except ImportError:
        return forms
    for name, path in (("plain", plain), ("export", files["fp32", False])):
        forms[f"fp32 {name}, OpenVINO"] = ready(CropEmbedder.load(path, backend="openvino"), inputs)
    forms["int8 export, OpenVINO"] = ready(CropEmbedder.load(files["int8", False], backend="openvino"), inputs)
    return forms


def default_session(model: Any, contract: Contract, crops: Array) -> Callable[[], Any]:
    """One session as it comes, all crops at once, the input ready."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: to_input(crops, contract)}
    return lambda: session.run(None, feed)[0]


def ready(embedder: CropEmbedder, inputs: Array) -> Callable[[], Any]:
    return lambda: embedder.network.run(inputs)


def from_crops(embedder: CropEmbedder, crops: Array) -> Callable[[], Any]:
    return lambda: embedder.embed(crops)


def counted(home: Path, source: Any, contract: Contract) -> int:
    path = home / "counted.onnx"
    path.write_bytes(Graph(source).model().SerializeToString())
    macs = onnx_macs(path, (1, 3, contract.size, contract.size))
    assert macs is not None
    return macs


SIDE = 2048
PRODUCT_FLOPS = 2 * SIDE**3


def matrix_product() -> Callable[[], Any]:
    """The machine's float32 peak, as its own libraries reach it."""
    torch.set_num_threads(cores())
    a, b = (torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    return lambda: a @ b


def rate(call: Callable[[], Any], seconds: float) -> float:
    """Calls per second."""
    call()
    done, start = 0, time.perf_counter()
    while (passed := time.perf_counter() - start) < seconds:
        call()
        done += 1
    return done / passed


def accuracy(path: Path, crops: Path, pairs: Path) -> dict[str, Any]:
    """TAR of the source and of each form of it on the same pairs, and the differences."""
    from facekd.evaluation.judged import from_crops
    from facekd.evaluation.model_rates import differences, judge_scores
    from facekd.evaluation.protocols import read_list
    from facekd.evaluation.results import plain

    crop_set = read_crops(crops)
    listed = read_list(pairs, crop_set, crops)
    source = CropEmbedder.load(path)
    order = np.random.default_rng(0).permutation(len(crop_set))[:256]
    calibration = crop_set.batch(np.sort(order))
    embedders = {"source": source}
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "fp16", "int8"):
            made = prepared(read_source(path), source.contract, precision, None, calibration)
            file = Path(folder) / f"{precision}.onnx"
            own = bound(made, source.contract, precision)
            file.write_bytes(serialized(made, own, source.contract, precision, {}))
            embedders[precision] = CropEmbedder.load(file)
        judged, vectors = {}, {}
        for name, embedder in embedders.items():
            model = from_crops(name, path, embedder, crop_set, quiet=False)
            vectors[name] = model.embed(listed.needed()).vectors
            judged[name] = judge_scores(model, model.scores(listed), listed, FARS)
    rows: dict[str, Any] = {}
    for name, one in judged.items():
        cosine = (vectors[name] * vectors["source"]).sum(axis=1)
        rows[name] = {
            "tar": [{key: getattr(rate, key) for key in ("far_asked", "tar", "low", "high")} for rate in one.rates.tar],
            "accuracy": plain(one.rates.accuracy),
            "least_cosine": round(float(cosine.min()), 6),
            "median_cosine": round(float(np.median(cosine)), 6),
        }
        if name != "source":
            found = differences([one, judged["source"]], listed.persons, FARS)
            rows[name]["difference"] = [
                {k: getattr(row, k) for k in ("far_asked", "difference", "low", "high")} for row in found
            ]
        print(path.stem, name, rows[name])
    return rows


def show(result: dict[str, Any]) -> None:
    print(f"peak {result['peak_gflops']} GFLOP/s")
    for name, row in result["forms"].items():
        print(
            f"{name:48} {row['crops_per_second']:8.1f} crops/s {row['times_plain']:6.2f} x plain "
            f"cosine {row['median_cosine_to_source']:.6f} {100 * row['share_of_peak']:5.1f} % of peak"
        )


if __name__ == "__main__":
    main()
