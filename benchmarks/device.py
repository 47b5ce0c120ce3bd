"""What an embedder needs on a small device: one core, a fresh process each, one face at a time.

    python benchmarks/device.py            # about 4 minutes; writes results/device.json
    python benchmarks/device.py --quick    # fewer faces, prints only

For each model a new Python process on one core, all thread counts 1: the time from the process's start to its first
embedding (imports and loading included), resident memory then and at its peak, the time of a face from uint8 crop to
unit embedding (median and 99th percentile), and the size of its file. facekd's exports are MobileFaceNets of 512
dimensions with random weights, which do not change these figures; beside them stand the public embedders, and
facenet-pytorch's InceptionResnetV1 with random weights, in torch. The processes take turns; each figure is the
median of several.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROCESSES, FACES = 5, 300
PUBLIC = ("foamliu_mobilefacenet", "w600k_mbf", "sface_2021dec")
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "FACES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]))
        return
    from _record import record

    with tempfile.TemporaryDirectory() as folder:
        models = exported(Path(folder)) | public()
        rounds, faces = (1, 30) if args.quick else (PROCESSES, FACES)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                found[name].append(measure(model, faces))
        sizes = {name: Path(model).stat().st_size if Path(model).exists() else None for name, model in models.items()}
    result = {
        name: {key: round(statistics.median(one[key] for one in each), 3) for key in each[0]}
        | {"file_mb": None if sizes[name] is None else round(sizes[name] / 1e6, 2)}  # type: ignore[operator]
        for name, each in found.items()
    }
    for name, row in result.items():
        print(name, row)
    if not args.quick:
        record("device", {"processes": PROCESSES, "faces": FACES, "models": result})


def exported(home: Path) -> dict[str, str]:
    """MobileFaceNets as facekd exports them, from uint8 crops."""
    from _nets import pictures, settled_run

    from facekd.deploy.export import bound, prepared, serialized
    from facekd.deploy.traced import to_onnx
    from facekd.nets.files import UINT8
    from facekd.nets.saved import load_model

    models = {}
    for activation, label in (("prelu", "PReLU"), ("relu", "ReLU")):
        saved = load_model(settled_run(home / activation, activation))
        source = to_onnx(saved.net, saved.contract)
        for precision in ("fp32", "int8"):
            crops = pictures(64, seed=7) if precision == "int8" else None
            made = prepared(source, saved.contract, precision, UINT8, crops)
            path = home / f"{activation}-{precision}.onnx"
            own = bound(made, saved.contract, precision)
            path.write_bytes(serialized(made, own, saved.contract, precision, {}))
            models[f"MobileFaceNet 512-d {label} {precision}"] = str(path)
    return models


def public() -> dict[str, str]:
    from _nets import WEIGHTS

    found = {name: str(WEIGHTS / f"{name}.onnx") for name in PUBLIC if (WEIGHTS / f"{name}.onnx").exists()}
    return found | {"InceptionResnetV1 (torch, random weights)": "InceptionResnetV1"}


def measure(model: str, faces: int) -> dict[str, float]:
    """One fresh process."""
    core = min(os.sched_getaffinity(0))
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, __file__, "--child", model, str(faces)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ONE_CORE,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "first"
        cold = time.perf_counter() - start
        found: dict[str, float] = json.loads(process.stdout.readline())
    return {"cold_start_s": cold, **found}


def child(model: str, faces: int) -> None:
    """Says "first" at the first embedding, then the rest as JSON."""
    import numpy as np

    if model == "InceptionResnetV1":
        import torch

        from facekd.faces.torchvision_cpu import repair

        repair()
        from facenet_pytorch import InceptionResnetV1

        torch.set_num_threads(1)
        net = InceptionResnetV1(pretrained=None).eval()
        size = 160

        def embed(crops: Any) -> Any:
            with torch.inference_mode():
                values = (torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 128  # facenet-pytorch's own
                return net(values).numpy()
    else:
        from facekd.deploy.embedder import CropEmbedder

        embedder = CropEmbedder.load(model, threads=1)
        size, embed = embedder.contract.size, embedder.embed
    crops = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    embed(crops[:1])
    print("first", flush=True)
    first = memory("VmRSS")
    taken = []
    for i in range(faces):
        start = time.perf_counter()
        embed(crops[i % 8][None])
        taken.append(time.perf_counter() - start)
    p50, p99 = (1e3 * float(np.percentile(taken, q)) for q in (50, 99))
    figures = {"resident_mb": first, "peak_mb": memory("VmHWM"), "p50_ms": p50, "p99_ms": p99}
    print(json.dumps(figures), flush=True)


def memory(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status: memory is measured on Linux only")


if __name__ == "__main__":
    main()
