"""What the model that comes with facekd is worth, beside its rivals.

    python benchmarks/default_model.py [--before FORMER.onnx]  # 25 minutes on two cores; writes its result
    python benchmarks/default_model.py --quick                 # a few pairs, prints only; 2 minutes on one core

LFW by the pair list, crops by both detectors; all pairs of the 1,358 held-out people of CelebA
(`held_out_identities.txt`). facekd chose nothing by either but the thresholds that it carries. What the networks'
makers trained on is theirs to say: Intel names VGGFace2 for the default model. Cost is that of one crop on one core,
all networks in turns. `--before` adds a former default: ``git show 8f2676c:data/models/facekd-student.onnx``.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA, QUICK_HELD, _few_photos, held_out_identities, of_people, read_celeba, write_set
from _record import record

from facekd.commands.align import align
from facekd.commands.verify import verify
from facekd.console import say
from facekd.core.pixels import to_input
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.results import plain
from facekd.nets.onnx_cost import onnx_macs

FARS = [1e-2, 1e-3, 1e-4, 1e-5]
SHOWN = ("accuracy", "eer", "tar")
RIVALS = ("reid_retail_0095", "sface_2021dec", "foamliu_mobilefacenet", "w600k_mbf")
ROUNDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/default_model"))
    parser.add_argument("--before", type=Path, help="a former default model, for cost and rates beside the new one")
    parser.add_argument("--quick", action="store_true", help="a few pairs, prints only")
    asked = parser.parse_args()
    if asked.quick:
        with tempfile.TemporaryDirectory() as folder:
            measure(asked, Path(folder))
    else:
        record("default_model", measure(asked, asked.work))


def measure(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rates on both sets, and cost, of the default model and its rivals."""
    rivals = [asked.data / "weights" / f"{name}.onnx" for name in RIVALS]
    models = [default_model(), *([asked.before] if asked.before else []), *(rivals[1:2] if asked.quick else rivals[1:])]
    photos, pairs = asked.data / "lfw.zip", asked.data / "lfw_pairs.txt"
    people = held_out_identities()
    if asked.quick:
        pairs, people = work / "pairs.txt", people[:QUICK_HELD]
        photos = _few_photos(asked.data, pairs, work / "few.zip")
    result: dict[str, Any] = {"cost of one crop, one core": costs([*models, rivals[0]])}
    for detector in ("yunet", "mtcnn"):
        align(photos, work / f"lfw-{detector}", detector=detector)
        crops, out = work / f"lfw-{detector}", work / detector
        found = verify(model=models, crops=crops, pairs=pairs, far=FARS[:2], out=out)
        result[f"lfw, {detector}"] = shown(plain(found.report))
    held = work / "held_out.parquet"
    write_set(of_people(read_celeba(asked.data), people), held)
    found = verify(model=models, crops=held, all_pairs=True, far=FARS[: 2 if asked.quick else 4], out=work / "held_out")
    result["held-out people of CelebA"] = shown(plain(found.report))
    return result


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """The rates of each model, and the differences between the first and the others."""
    models = {Path(one["file"]).stem: {key: one[key] for key in SHOWN if key in one} for one in result["models"]}
    return {"models": models, "differences": result["differences"]}


def costs(models: list[Path]) -> dict[str, Any]:
    """Size of each network and the CPU time of one crop, in turns; the last model runs as a plain session, too."""
    import onnxruntime

    crop = np.random.default_rng(0).integers(0, 256, (1, 112, 112, 3), np.uint8)
    embedders = {path.stem: CropEmbedder.load(path, threads=1) for path in models}
    calls = {name: (lambda one=one: one.embed(crop)) for name, one in embedders.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    plain = onnxruntime.InferenceSession(str(models[-1]), options, providers=["CPUExecutionProvider"])
    image = to_input(crop, embedders[models[-1].stem].contract)
    calls[f"{models[-1].stem}, plain session"] = lambda: plain.run(None, {plain.get_inputs()[0].name: image})
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(ROUNDS + 3):
        for name, call in calls.items():
            begun = time.process_time()
            call()
            if turn >= 3:
                taken[name].append(1e3 * (time.process_time() - begun))
    found: dict[str, Any] = {}
    for name, times in taken.items():
        found[name] = {"cpu_ms": round(statistics.median(times), 2)}
        if name in embedders:
            network = embedders[name].network
            macs = onnx_macs(network.path, (1, 3, 112, 112))
            found[name] |= {"parameters": network.parameters, "macs": macs, "bytes": network.bytes}
    first = found[models[0].stem]["cpu_ms"]
    for name, one in found.items():
        say(f"{name}: {one['cpu_ms']} ms, the default model takes {first / one['cpu_ms']:.2f} times that")
    return found


if __name__ == "__main__":
    main()
