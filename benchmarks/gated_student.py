"""The gated MobileFaceNet begun at Intel's layers, taught by w600k_mbf: what a short training on research terms adds.

    python benchmarks/gated_student.py --work DIR [--minutes 20]   # writes results/gated_student.json
    python benchmarks/gated_student.py --work DIR --quick          # a minute, a few people, prints only

The student is `mobilefacenet-se` with Intel's weights (facekd's default model). Its teacher is w600k_mbf beside that
very network, both embeddings one after another with equal weights, reduced to the student's 256 numbers by their main
components and turned into the student's own space (Procrustes), so that no map has to be learned. The first third
of the layers stays as it is and runs in OpenVINO: a step takes half the time. It learns on CelebA less the held-out
people, less LFW's (who has a crop that w600k_mbf takes for one of LFW's people at a FAR of 1e-6) and less 500 people on
whom it is chosen; and on FairFace. What is judged is the average of the student and its start, weight by weight,
by the share that is best on those 500 people (M. Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022).
w600k_mbf's weights and CelebA are for non-commercial research: nothing of this ships.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnx.utils
import pyarrow.parquet as pq
import torch
from _celeba import DATA, held_out_identities, of_people, read_celeba, write_set
from _record import record
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.commands.align import align
from facekd.commands.export import export
from facekd.commands.verify import verify
from facekd.console import progress, say
from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.nets import build
from facekd.nets.files import load_network
from facekd.nets.forward import forward
from facekd.nets.saved import MODEL, save_model
from facekd.rates.counts import curve
from facekd.rates.rates import rate_at
from facekd.teachers.onnx_layers import take_layers
from facekd.teachers.several import procrustes
from facekd.training.loop import Plan, make_optimizer
from facekd.training.schedule import learning_rate
from facekd.training.speed import keep_memory

NET, START, TEACHER = "mobilefacenet-se", "reid_retail_0095", "w600k_mbf"
FROZEN, FROZEN_END = 7, "add_67"  # layers that stay, and the name in Intel's graph of what they give
DIM, CHOOSING, FARS = 256, 500, (1e-3, 1e-4, 1e-5)
LEAK_FAR = 1e-6  # of LFW's pairs of strangers by w600k_mbf
BATCH, PEAK, WARMUP, DECAY, RELATION, EMA = 64, 1.5e-4, 100, 0.01, 10.0, 0.999
CENTER = 0.3  # share of the mean of a person's other crops that is added to what the teacher says of one
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the trained student in the average with its start
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, required=True, help="where teachers' embeddings and the student are kept")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--quick", action="store_true", help="a few people and steps, prints only")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    keep_memory()
    result = run(asked)
    if not asked.quick:
        record("gated_student", result)


def run(asked: argparse.Namespace) -> dict[str, Any]:
    """Prepare, train for the minutes asked, choose, judge."""
    few = 2000 if asked.quick else None
    celeba, fairface = (
        Crops(asked.data / "crops" / f"{name}.parquet", asked.work, few) for name in ("celeba", "fairface")
    )
    crops = asked.work / "lfw"
    align(asked.data / "lfw.zip", crops, quiet=True) if not asked.quick else None
    people = sorted(set(celeba.identities) - set(held_out_identities()))
    choosing = set(np.random.default_rng(7).choice(people, 20 if asked.quick else CHOOSING, replace=False))
    leaked = set() if asked.quick else leaks(celeba, crops, asked)
    learn = np.flatnonzero([one in set(people) - choosing - leaked for one in celeba.identities])
    watch = np.flatnonzero([one in choosing for one in celeba.identities])
    student, early = begun(asked.data, asked.work)
    start = {key: value.clone() for key, value in student.state_dict().items()}
    targets = taught([(celeba, learn), (fairface, np.arange(len(fairface)))], student, asked)
    # CelebA's crops come twice as often.
    places = np.concatenate([learn, learn, len(celeba) + np.arange(len(fairface))])
    pixels = lambda place: celeba.pixels[place] if place < len(celeba) else fairface.pixels[place - len(celeba)]  # noqa: E731
    spread = np.full(len(celeba) + len(fairface), -1)
    spread[learn], spread[len(celeba) :] = np.arange(len(learn)), len(learn) + np.arange(len(fairface))
    done = train(student, early, places, pixels, lambda some: targets[spread[some]], asked)
    chosen = choose(student, start, celeba, watch)
    save_model(asked.work / "student" / MODEL, NET, student, Contract(dim=DIM))
    counts = {"learned from": len(set(people) - choosing - leaked), "of LFW, left out": len(leaked)}
    result: dict[str, Any] = {"trained": done, "chosen": chosen, "people": counts}
    if asked.quick:
        return result
    export(asked.work / "student", asked.work / "student.onnx", quiet=True)
    models = [asked.work / "student.onnx", *(asked.data / "weights" / f"{name}.onnx" for name in (START, TEACHER))]
    held = write_set(of_people(read_celeba(asked.data), held_out_identities()), asked.work / "held_out.parquet")
    sets: dict[str, dict[str, Any]] = {
        "held-out people of CelebA": {"crops": held, "all_pairs": True, "far": list(FARS)},
        "lfw, yunet": {"crops": crops, "pairs": asked.data / "lfw_pairs.txt", "far": [1e-2, 1e-3]},
    }
    for name, flags in sets.items():
        found = verify(model=models, out=asked.work / name.split()[0], **flags).result
        rates = {Path(one["file"]).stem: one for one in found["models"]}
        result[name] = {who: {key: one[key] for key in ("accuracy", "tar") if key in one} for who, one in rates.items()}
    return result


class Crops:
    """The crops of a Parquet file, decoded once into a file of the work folder, and what networks say of them."""

    def __init__(self, path: Path, work: Path, few: int | None) -> None:
        table = pq.read_table(path, columns=["image", "identity"]).slice(0, few)
        self.name, self.work, self.identities = path.stem, work, table["identity"].to_pylist()
        kept = work / f"{path.stem}{few or ''}.npy"
        if not kept.exists():
            data = table["image"].combine_chunks().field("bytes")
            made = np.lib.format.open_memmap(work / "decoding.npy", "w+", np.uint8, (len(table), 112, 112, 3))
            for place in range(len(table)):
                made[place] = cv2.imdecode(np.frombuffer(data[place].as_py(), np.uint8), cv2.IMREAD_COLOR_RGB)
            made.flush()
            (work / "decoding.npy").rename(kept)
        self.pixels: Array = np.load(kept, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.identities)

    def said_by(self, name: str, data: Path) -> Array:
        """float32[N, D] unit embeddings by a network of the weights folder, computed once, in bfloat16."""
        kept = self.work / f"{self.name}.{name}{len(self)}.npy"
        if not kept.exists():
            np.save(kept, embedded(self.pixels, data / "weights" / f"{name}.onnx").astype(np.float16))
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
    theirs = unit(embedded(found.batch(np.arange(len(found))), asked.data / "weights" / f"{TEACHER}.onnx"))
    names = np.array([source.rsplit("/", 1)[-1].rsplit("_", 1)[0] for source in found.sources])
    strangers = np.concatenate(
        [(one @ theirs.T)[names != name] for one, name in zip(theirs[::4], names[::4], strict=True)]
    )
    limit = np.quantile(strangers, 1 - LEAK_FAR)
    ours = celeba.said_by(TEACHER, asked.data)
    nearest = np.concatenate([(ours[start : start + 2000] @ theirs.T).max(1) for start in range(0, len(ours), 2000)])
    return {celeba.identities[place] for place in np.flatnonzero(nearest >= limit)}


def begun(data: Path, work: Path) -> tuple[nn.Module, Callable[[Array], Array]]:
    """The student with Intel's weights, and its first layers as a call in OpenVINO."""
    path = data / "weights" / f"{START}.onnx"
    net = build(NET, dim=DIM, folded=True).eval()
    take_layers(net, load_network(path))
    onnx.save(onnx.load(str(path)), str(work / "start.onnx"))
    onnx.utils.extract_model(str(work / "start.onnx"), str(work / "early.onnx"), ["input"], [FROZEN_END])
    for module in (net.input_norm, *net.layers[:FROZEN]):
        module.requires_grad_(False)
    return net.to(memory_format=torch.channels_last), openvino_call(work / "early.onnx")


def taught(sets: list[tuple[Crops, Array]], student: nn.Module, asked: argparse.Namespace) -> Tensor:
    """float32[N, 256] unit vectors in the student's space: what it is to say of each crop."""
    both, names = [], []
    for crops, places in sets:
        said = [crops.said_by(name, asked.data)[places] for name in (TEACHER, START)]
        both.append(np.concatenate(said, axis=1) / np.sqrt(2, dtype=np.float32))
        names += [crops.identities[place] for place in places]
    wanted, own = np.concatenate(both), np.concatenate([one.said_by(START, asked.data)[at] for one, at in sets])
    order = np.argsort([name or "" for name in names], kind="stable")
    ordered = np.array([names[place] or "" for place in order])
    for rows in np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1):  # person by person
        if names[rows[0]] is not None and len(rows) > 1:
            wanted[rows] = wanted[rows] + CENTER * unit(wanted[rows].sum(0) - wanted[rows])
    wanted = unit(wanted)
    _, vectors = np.linalg.eigh(wanted.T.astype(np.float64) @ wanted)
    reduced = unit(wanted @ vectors[:, ::-1][:, :DIM].astype(np.float32))
    turned = torch.from_numpy(reduced) @ procrustes(torch.from_numpy(reduced), torch.from_numpy(own))
    say(f"the start is at a mean cosine of {float((turned * torch.from_numpy(own)).sum(1).mean()):.3f} to its teacher")
    return F.normalize(turned)


def train(
    student: nn.Module, early: Callable[[Array], Array], places: Array, pixels: Callable[[int], Array],
    wanted: Callable[[Array], Tensor], asked: argparse.Namespace,
) -> dict[str, Any]:  # fmt: skip
    """Train the later layers for the minutes asked; the student ends as the average over its steps."""
    minutes = 0.3 if asked.quick else asked.minutes
    late = nn.Sequential(*student.layers[FROZEN:])
    forward_late = (
        late if asked.quick else torch.compile(late, dynamic=False, options={"force_layout_optimization": True})
    )
    plan = Plan(steps=10_000, warmup=WARMUP, peak_lr=PEAK, weight_decay=DECAY, optimizer="adamw")
    optimizer = make_optimizer({"net": student}, plan)
    mean = {key: value.clone() for key, value in student.state_dict().items()}
    rng = np.random.default_rng(SEED)
    begun_at, step, order, losses = time.monotonic(), 0, rng.permutation(len(places)), [0.0]
    student.train()
    while (share := (time.monotonic() - begun_at) / 60 / minutes) < 1:
        if len(order) < BATCH:
            order = rng.permutation(len(places))
        some, order = places[order[:BATCH]], order[BATCH:]
        # The way down is over the minutes, whatever the machine makes of them.
        rate = learning_rate(round(share * plan.steps), plan.steps, 0, PEAK) * min(1, (step + 1) / WARMUP)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images = np.stack([view(pixels(int(place)), rng) for place in some]).transpose(0, 3, 1, 2)
        features = torch.from_numpy(early(np.ascontiguousarray(images))).to(memory_format=torch.channels_last)
        embeddings, target = F.normalize(forward_late(features).flatten(1)), wanted(some)
        apart = embeddings @ embeddings.T - target @ target.T
        loss = (1 - (embeddings * target).sum(1)).mean() + RELATION * apart.square().sum() / (BATCH * (BATCH - 1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), plan.clip)
        optimizer.step()
        step += 1
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for key, value in student.state_dict().items():
                mean[key].lerp_(value, 1 - min(EMA, (1 + step) / (10 + step)))
        if step % 100 == 0:
            say(f"step {step}, {100 * share:.0f} % of the time: loss {np.mean(losses[-100:]):.4f}")
    student.load_state_dict(mean)
    return {"steps": step, "batch": BATCH, "minutes": minutes, "loss": round(float(np.mean(losses[-100:])), 4)}


def view(pixels: Array, rng: np.random.Generator) -> Array:
    """float32[112, 112, 3] from -1 to 1: mirrored, moved a little, sometimes small, blurred or of another light."""
    pixels = np.ascontiguousarray(pixels[:, :: rng.choice((-1, 1))])
    if rng.random() < 0.3:
        matrix = cv2.getRotationMatrix2D((55.5, 55.5), rng.normal(0, 3), 1 + rng.normal(0, 0.03))
        matrix[:, 2] += rng.normal(0, 1.5, 2)
        pixels = cv2.warpAffine(pixels, matrix, (112, 112), borderMode=cv2.BORDER_REPLICATE)
    kind = rng.random()
    if kind < 0.075:
        side = int(rng.integers(28, 96))
        pixels = cv2.resize(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA), (112, 112))
    elif kind < 0.125:
        pixels = cv2.GaussianBlur(pixels, (0, 0), float(rng.uniform(0.5, 1.5)))
    values = pixels.astype(np.float32)
    if rng.random() < 0.15:
        values = (values - 127) * rng.uniform(0.7, 1.2) + 127 + rng.uniform(-25, 25)
    return np.clip((values - 127.5) / 127.5, -1, 1).astype(np.float32)


def choose(student: nn.Module, start: dict[str, Tensor], crops: Crops, watch: Array) -> dict[str, Any]:
    """Make the student the average with its start that is best on the people watched; the rates of each share."""
    trained = {key: value.clone() for key, value in student.state_dict().items()}
    # The last layer may have turned as a whole: cosines don't see it, an average does.
    key = "layers.19.0.weight"
    turn = procrustes(trained[key].flatten(1).T, start[key].flatten(1).T)
    trained[key] = (trained[key].flatten(1).T @ turn).T.reshape(trained[key].shape).contiguous()
    rows: dict[float, dict[str, float]] = {}
    for share in (0.0, *SHARES):
        student.load_state_dict({name: value.lerp(trained[name], share) for name, value in start.items()})
        rows[share] = rates_on(student.eval(), crops, watch)
        shown = ", ".join(f"{far} {100 * tar:.2f} %" for far, tar in rows[share].items())
        say(f"{share:g} of the trained student: {shown}")
    best = max(rows, key=lambda share: sum(rows[share].values()))
    student.load_state_dict({name: value.lerp(trained[name], best) for name, value in start.items()})
    return {"share": best, "tar_on_the_choosing_people": {f"{share:g}": row for share, row in rows.items()}}


def rates_on(net: nn.Module, crops: Crops, places: Array) -> dict[str, float]:
    """TAR at FARS over all pairs of some crops."""
    contract = Contract(dim=DIM)
    images = (to_input(np.array(crops.pixels[places[at : at + 64]]), contract) for at in range(0, len(places), 64))
    vectors = unit(np.concatenate([forward(net, torch.from_numpy(one)).numpy() for one in images]))
    names = np.array([crops.identities[place] for place in places])
    left, right = np.triu_indices(len(names), 1)
    counts = curve((vectors @ vectors.T)[left, right], names[left] == names[right])
    rates = {f"{far:g}": rate_at(counts, far).tar for far in FARS}
    return {far: tar for far, tar in rates.items() if tar is not None}


if __name__ == "__main__":
    main()
