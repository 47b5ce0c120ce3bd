"""The gated MobileFaceNet begun at Intel's layers: the best student that research terms allow.

    python benchmarks/gated_student.py --work DIR           # 45 minutes on a GPU; writes results/gated_student.json
    python benchmarks/gated_student.py --work DIR --quick   # minutes on one core, a few people, prints only

The student is `mobilefacenet-se` with Intel's weights (facekd's default model). Its teachers are w600k_mbf, that very
network and SFace, their embeddings one after another with weights 3, 1 and 1, reduced to the student's 256 numbers by
their main components and turned into the student's own space (Procrustes), so that no map has to be learned. It learns
on CelebA less the held-out people, less LFW's (who has a crop that w600k_mbf takes for one of LFW's people at a FAR of
1e-6) and less 500 people on whom it is chosen; and on FairFace. Two runs, one of smaller and one of larger steps, give
two students that lie near each other; what is judged is their average, weight by weight, averaged with the start by
the share that is best on those 500 people (M. Wortsman et al., "Model soups", ICML 2022; "Robust fine-tuning of
zero-shot models", CVPR 2022). w600k_mbf's weights and CelebA are for non-commercial research: nothing of this ships.

The figures kept are of two runs side by side on an H200 that were cut off at 61 % of their 20 minutes, and the rates of
share 1 are those seen there.

Where the GPU is on another machine: ``--only prepare`` here, `_gated_train.py` there, ``--only judge`` here.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _celeba import DATA, held_out_identities, of_people, read_celeba, write_set
from _gated_train import BATCH, DIM, LABELED, NET, PLAIN, RATES, START, TEACHERS, WATCHED, begun, rates_on, train_all
from _gated_train import Crops as WatchedCrops
from _record import record

from facekd.commands.align import align
from facekd.commands.export import export
from facekd.commands.verify import verify
from facekd.console import progress, say
from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.evaluation.results import plain
from facekd.nets import build
from facekd.nets.files import load_network
from facekd.nets.saved import MODEL, save_model
from facekd.teachers.onnx_layers import take_layers

INTEL, RESEARCH = "reid_retail_0095", "w600k_mbf"  # whose layers the student begins at, and who tells people of LFW
CHOOSING = 500
LEAK_FAR = 1e-6  # of LFW's pairs of strangers by w600k_mbf
SHARES = (0.7, 0.85, 1.0)  # of the trained student in the average with its start
FEW, QUICK_BATCH, QUICK_MINUTES = 120, 16, 0.1
MOST_BYTES = 48 * 2**20  # of the images in a file, so that each travels alone where 64 MiB do


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, required=True, help="where crops, teachers' embeddings and students are")
    parser.add_argument("--minutes", type=float, default=20, help="of each of the two runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("prepare", "train", "judge"), help="one part; else all three")
    parser.add_argument("--quick", action="store_true", help="a few people and steps, prints only")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.only in (None, "prepare"):
        prepare(asked)
    if asked.only in (None, "train"):
        minutes, batch = (QUICK_MINUTES, QUICK_BATCH) if asked.quick else (asked.minutes, BATCH)
        train_all(asked.work, minutes, torch.device(asked.device), batch)
    if asked.only in (None, "judge"):
        result = judge(asked)
        if not asked.quick:
            record("gated_student", result)


def prepare(asked: argparse.Namespace) -> None:
    """Write what `_gated_train` needs: crops by their part, the start and the teachers."""
    few = FEW if asked.quick else None
    celeba, fairface = (
        Crops(asked.data / "crops" / f"{name}.parquet", asked.work, few) for name in ("celeba", "fairface")
    )
    people = sorted(set(celeba.identities) - set(held_out_identities()))
    choosing = set(np.random.default_rng(7).choice(people, 10 if asked.quick else CHOOSING, replace=False))
    leaked: set[str] = set()
    if not asked.quick:
        align(asked.data / "lfw.zip", asked.work / "lfw", quiet=True)
        leaked = leaks(celeba, asked.work / "lfw", asked)
    number = {who: place for place, who in enumerate(sorted(set(people) - choosing - leaked))}
    counts = {"learned from": len(number), "of LFW, left out": len(leaked), "chosen by": len(choosing)}
    number |= {who: len(number) + place for place, who in enumerate(sorted(choosing))}
    rows = [
        (image, number[who], WATCHED if who in choosing else LABELED)
        for image, who in zip(celeba.images, celeba.identities, strict=True)
        if who in number
    ]
    write_crops(rows + [(image, -1, PLAIN) for image in fairface.images], asked.work)
    (asked.work / "people.json").write_text(json.dumps(counts))
    net = build(NET, dim=DIM, folded=True).eval()
    take_layers(net, load_network(asked.data / "weights" / f"{INTEL}.onnx"))
    torch.save(net.state_dict(), asked.work / f"{START}.pt")
    for name in TEACHERS:
        if name != START:
            shutil.copyfile(asked.data / "weights" / f"{name}.onnx", asked.work / f"{name}.onnx")


def write_crops(rows: list[tuple[bytes, int, int]], work: Path) -> None:
    """``crops-N.parquet``: image, person, part."""
    ends = np.cumsum([len(image) for image, _, _ in rows]) // MOST_BYTES
    for piece in range(int(ends[-1]) + 1):
        images, persons, parts = zip(*(rows[at] for at in np.flatnonzero(ends == piece)), strict=True)
        columns = {"image": pa.array(images, pa.binary()), "person": pa.array(persons), "part": pa.array(parts)}
        pq.write_table(pa.table(columns), work / f"crops-{piece}.parquet", compression="none")


def judge(asked: argparse.Namespace) -> dict[str, Any]:
    """Average the runs, choose the share of the start, and measure; `default_model.py` measures start and teachers."""
    chosen = choose(asked.work, torch.device(asked.device))
    runs = {name: json.loads((asked.work / "runs" / f"{name}.json").read_text()) for name in RATES}
    people = json.loads((asked.work / "people.json").read_text())
    result: dict[str, Any] = {"runs": runs, "chosen": chosen, "people": people}
    if asked.quick:
        return result
    export(asked.work / "student", asked.work / "student.onnx", quiet=True)
    held = write_set(of_people(read_celeba(asked.data), held_out_identities()), asked.work / "held_out.parquet")
    sets: dict[str, dict[str, Any]] = {
        "held-out people of CelebA": {"crops": held, "all_pairs": True, "far": [1e-3, 1e-4, 1e-5]},
        "lfw, yunet": {"crops": asked.work / "lfw", "pairs": asked.data / "lfw_pairs.txt", "far": [1e-2, 1e-3]},
    }
    for name, flags in sets.items():
        found = plain(
            verify(model=[asked.work / "student.onnx"], out=asked.work / name.split()[0].strip(","), **flags).report
        )
        result[name] = {key: found["models"][0][key] for key in ("accuracy", "tar") if key in found["models"][0]}
    return result


def choose(work: Path, device: torch.device) -> dict[str, Any]:
    """Leave WORK/student, the average with the start that is best on the people watched; the rates of each share."""
    net, crops = begun(work, device).eval(), WatchedCrops(work, device, (WATCHED,))
    start = {key: value.clone() for key, value in net.state_dict().items()}
    runs = [torch.load(work / "runs" / f"{name}.pt", map_location=device) for name in RATES]
    trained = {key: torch.stack([run[key] for run in runs]).mean(0) for key in start}
    rows: dict[float, dict[str, float]] = {}
    for share in (0.0, *SHARES):
        net.load_state_dict({name: value.lerp(trained[name], share) for name, value in start.items()})
        rows[share] = rates_on(net, crops)
        say(f"{share:g} of the trained student: " + ", ".join(f"{far} {tar:.4f}" for far, tar in rows[share].items()))
    best = max(rows, key=lambda share: rows[share]["mean"])
    net.load_state_dict({name: value.lerp(trained[name], best) for name, value in start.items()})
    save_model(work / "student" / MODEL, NET, net.cpu(), Contract(dim=DIM))
    return {"share": best, "tar_on_the_choosing_people": {f"{share:g}": row for share, row in rows.items()}}


class Crops:
    """The crops of a Parquet file, and what a network says of them."""

    def __init__(self, path: Path, work: Path, few: int | None) -> None:
        table = pq.read_table(path, columns=["image", "identity"]).slice(0, few)
        self.name, self.work, self.identities = path.stem, work, table["identity"].to_pylist()
        self.images: list[bytes] = table["image"].combine_chunks().field("bytes").to_pylist()

    def pixels(self) -> Array:
        """uint8[N, 112, 112, 3], decoded once into a file of the work folder."""
        kept = self.work / f"{self.name}.npy"
        if not kept.exists():
            made = np.lib.format.open_memmap(self.work / "decoding.npy", "w+", np.uint8, (len(self), 112, 112, 3))
            for place, image in enumerate(self.images):
                made[place] = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR_RGB)
            made.flush()
            (self.work / "decoding.npy").rename(kept)
        found: Array = np.load(kept, mmap_mode="r")
        return found

    def __len__(self) -> int:
        return len(self.identities)

    def said_by(self, name: str, data: Path) -> Array:
        """float32[N, D] unit embeddings by a network of the weights folder, computed once, in bfloat16."""
        kept = self.work / f"{self.name}.{name}{len(self)}.npy"
        if not kept.exists():
            np.save(kept, embedded(self.pixels(), data / "weights" / f"{name}.onnx").astype(np.float16))
        return unit(np.load(kept).astype(np.float32))


def openvino_call(path: Path) -> Callable[[Array], Array]:
    """The graph in OpenVINO on one core, in bfloat16 where the processor has it: 3e-3 from float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()

    def call(inputs: Array) -> Array:
        request.infer([inputs])
        return np.array(request.get_output_tensor(0).data, np.float32)

    return call


def embedded(pixels: Array, path: Path) -> Array:
    """float32[N, D] of uint8[N, 112, 112, 3]."""
    call, contract = openvino_call(path), load_network(path).contract
    starts = progress(range(0, len(pixels), 64), len(pixels), f"embed by {path.stem}", False, unit=64)
    parts = [call(to_input(np.array(pixels[start : start + 64]), contract)) for start in starts]
    return np.concatenate([part.reshape(len(part), -1) for part in parts])


def leaks(celeba: Crops, lfw: Path, asked: argparse.Namespace) -> set[str]:
    """People of CelebA with a crop that the teacher takes for somebody of LFW."""
    from facekd.crops.read import read_crops

    found = read_crops(lfw)
    theirs = unit(embedded(found.batch(np.arange(len(found))), asked.data / "weights" / f"{RESEARCH}.onnx"))
    names = np.array([source.rsplit("/", 1)[-1].rsplit("_", 1)[0] for source in found.sources])
    strangers = np.concatenate(
        [(one @ theirs.T)[names != name] for one, name in zip(theirs[::4], names[::4], strict=True)]
    )
    limit = np.quantile(strangers, 1 - LEAK_FAR)
    ours = celeba.said_by(RESEARCH, asked.data)
    nearest = np.concatenate([(ours[start : start + 2000] @ theirs.T).max(1) for start in range(0, len(ours), 2000)])
    return {celeba.identities[place] for place in np.flatnonzero(nearest >= limit)}


if __name__ == "__main__":
    main()
