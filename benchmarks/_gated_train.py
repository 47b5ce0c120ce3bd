"""The training behind `gated_student.py`: crops stay on the device, views are made there, teachers run there.

Alone it needs PyTorch, OpenCV, Arrow, onnx2torch and nothing of facekd's train extra, so that a machine that has a GPU
and no more can do it:

    python benchmarks/_gated_train.py --work DIR [--minutes 20] [--device cuda]

DIR is what `gated_student.py --only prepare` wrote: ``crops-*.parquet`` (image, person, part), ``start.pt`` (the
student's folded weights at its start) and the teachers' ONNX files. It leaves DIR/runs/NAME.pt and NAME.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from _gated_views import easy_view, mixed, strong_view
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.nets import build
from facekd.nets.files import load_network
from facekd.teachers.onnx_torch import onnx_module
from facekd.teachers.several import procrustes

NET, DIM, START = "mobilefacenet-se", 256, "start"
LABELED, WATCHED, PLAIN = 0, 1, 2  # parts: people to learn from, people to choose by, crops without a person
SOMEBODY = 10**6  # crops without a person are numbered from here on
FARS = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5)
TEACHERS = {"w600k_mbf": 3.0, START: 1.0, "sface_2021dec": 1.0}  # cosines are to be the weighted mean of theirs
RATES = {"slow": 3e-3, "quick": 1e-2}  # a run each: the largest step, in units of each channel's weights
BATCH, OF_PEOPLE, TWICE = 512, 0.66, 0.5  # share of people with labels, two crops each; of others, in two views
STRONG, MIXED, KEPT = 0.5, 0.3, 0.5  # share of strong views; of them mixed; weight of what was said of the plain crop
CENTER = 0.3  # share of the mean of a person's other crops that is added to what the teachers say of one
RELATION, TAIL, GENUINE, LABELS, SCALE, MARGIN = 10.0, 10.0, 3.0, 0.1, 40.0, 0.1
WARMUP, CLIP, EMA, BETAS, LOOK = 0.03, 5.0, 0.995, (0.9, 0.98), 30.0
SAMPLE = 20_000  # crops to which the map from the teachers' space to the student's is fitted

Call = Callable[[Tensor], Tensor]  # pixels float32[B, 3, 112, 112], 0 to 255 -> unit embeddings float32[B, D]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20, help="of each of the runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    asked = parser.parse_args()
    train_all(asked.work, asked.minutes, torch.device(asked.device), BATCH)


def train_all(work: Path, minutes: float, device: torch.device, batch: int) -> None:
    """The runs of RATES, one after another."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    for seed, (name, rate) in enumerate(RATES.items()):
        train(work, name, rate, minutes, device, batch, seed)


class Crops:
    """uint8[N, 3, 112, 112] on the device, with person and part of each."""

    def __init__(self, work: Path, device: torch.device, parts: Sequence[int] = (LABELED, WATCHED, PLAIN)) -> None:
        wanted = [("part", "in", parts)]
        tables = [pq.read_table(path, filters=wanted) for path in sorted(work.glob("crops-*.parquet"))]
        images = [image for table in tables for image in table["image"].to_pylist()]
        pixels = np.empty((len(images), 112, 112, 3), np.uint8)

        def decode(at: int) -> None:
            pixels[at] = cv2.imdecode(np.frombuffer(images[at], np.uint8), cv2.IMREAD_COLOR_RGB)

        with ThreadPoolExecutor() as pool:
            list(pool.map(decode, range(len(images)), chunksize=256))
        pieces = [torch.from_numpy(pixels[at : at + 8192]).to(device) for at in range(0, len(pixels), 8192)]
        self.pixels = torch.cat([one.permute(0, 3, 1, 2).contiguous() for one in pieces])
        self.person, self.part = (
            torch.from_numpy(np.concatenate([table[key].to_numpy() for table in tables]).astype(np.int64)).to(device)
            for key in ("person", "part")
        )
        alone = self.part == PLAIN
        self.person[alone] = SOMEBODY + torch.arange(int(alone.sum()), device=device)

    def places(self, *parts: int) -> Tensor:
        return torch.nonzero(torch.isin(self.part, torch.tensor(parts, device=self.part.device))).flatten()


def begun(work: Path, device: torch.device) -> nn.Module:
    """The student at its start."""
    net = build(NET, dim=DIM, folded=True)
    net.load_state_dict(torch.load(work / f"{START}.pt", weights_only=True))
    return net.to(device, memory_format=torch.channels_last)


def load_teacher(work: Path, name: str, device: torch.device) -> Call:
    """A network in half precision (bfloat16) on a GPU, compiled there."""
    mean, std = (127.5,) * 3, (127.5,) * 3
    if name == START:
        net = begun(work, device)
    else:
        network = load_network(work / f"{name}.onnx")
        net, mean, std = onnx_module(network), network.contract.mean, network.contract.std
        net = net.to(device, memory_format=torch.channels_last)
    net.eval().requires_grad_(False)
    shift, factor = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (mean, std))

    def call(pixels: Tensor) -> Tensor:
        return F.normalize(net((pixels - shift) / factor).flatten(1).float())

    quick = compiled(call, device)

    def half(pixels: Tensor) -> Tensor:
        with torch.no_grad(), autocast(device):
            found: Tensor = quick(pixels.contiguous(memory_format=torch.channels_last)).clone()
        return found

    return half


def autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False)


def compiled(call: Any, device: torch.device) -> Any:
    return torch.compile(call, dynamic=False) if device.type == "cuda" else call


def said_of(work: Path, name: str, call: Call, crops: Crops, batch: int) -> Tensor:
    """float32[N, D], of unit norm: the mean of what a teacher says of each crop and of its mirror image; kept."""
    kept = work / f"said-{name}.pt"
    if not kept.exists():
        parts = []
        for some in crops.pixels.split(batch):
            filled = F.pad(some.float(), (0, 0, 0, 0, 0, 0, 0, batch - len(some)))  # compiled for this size
            parts.append(F.normalize(call(filled) + call(filled.flip(-1)))[: len(some)].half())
        torch.save(torch.cat(parts), kept)
    found: Tensor = torch.load(kept, map_location=crops.pixels.device)
    return found.float()


def centered(said: Tensor, crops: Crops) -> Tensor:
    """The same, where a person's other crops are known moved toward their mean."""
    of = crops.places(LABELED)
    person = crops.person[of]
    sums = torch.zeros(int(person.max()) + 1, said.shape[1], device=said.device).index_add_(0, person, said[of])
    others = F.normalize(sums[person] - said[of]) * (torch.bincount(person)[person] > 1)[:, None]
    made = said.clone()
    made[of] = F.normalize(said[of] + CENTER * others)
    return made


def main_components(said: Tensor, own: Tensor) -> Tensor:
    """float32[D, 256]: to the main components of what is said, turned to lie best on the student's own embeddings."""
    _, vectors = torch.linalg.eigh(said.T.double() @ said.double())
    main = vectors[:, -DIM:].float()
    return main @ procrustes(said @ main, own).to(main)


class ScaledAdam:
    """Adam with steps in units of each channel's weights: in a network with folded norms they differ a hundredfold."""

    def __init__(self, params: Sequence[Tensor], scales: Sequence[Tensor]) -> None:
        self.params, self.scales, self.taken = list(params), list(scales), 0
        self.mean, self.square = ([torch.zeros_like(one) for one in params] for _ in range(2))

    @torch.no_grad()
    def step(self, rate: float) -> None:
        grads = [one.grad for one in self.params]
        first, second = BETAS
        self.taken += 1
        torch._foreach_lerp_(self.mean, grads, 1 - first)
        torch._foreach_mul_(self.square, second)
        torch._foreach_addcmul_(self.square, grads, grads, 1 - second)
        size = torch._foreach_sqrt(self.square)
        torch._foreach_mul_(size, 1 / math.sqrt(1 - second**self.taken))
        torch._foreach_add_(size, 1e-12)
        change = torch._foreach_div(self.mean, size)
        torch._foreach_mul_(change, self.scales)
        torch._foreach_add_(self.params, change, alpha=-rate / (1 - first**self.taken))
        for one in self.params:
            one.grad = None


@torch.no_grad()
def scales_of(net: nn.Module, images: Tensor) -> list[Tensor]:
    """The size of each parameter, as `parameters()` gives them: of weights by output channel, of summands that of what
    they are added to."""
    spread: dict[nn.Module, Tensor] = {}

    def note(layer: nn.Module, _: Any, out: Tensor) -> None:
        spread[layer] = out.float().std((0, 2, 3)) if out.ndim == 4 else out.float().std(0)

    handles = [one.register_forward_hook(note) for one in net.modules() if not list(one.children())]
    net(images)
    for handle in handles:
        handle.remove()
    found = []
    for layer in net.modules():
        for key, value in layer.named_parameters(recurse=False):
            if value.ndim > 1:
                each = value.square().mean(tuple(range(1, value.ndim)), keepdim=True).sqrt()
                found.append(each.clamp_min(0.1 * float(value.square().mean().sqrt())).expand_as(value).clone())
            elif key in ("weight", "scale"):  # a slope, or a factor
                found.append(value.abs().clamp_min(0.1).clone())
            else:
                found.append(spread[layer].clamp_min(0.1 * float(spread[layer].mean())))
    return found


class Batches:
    """Places in random order: people with two crops each, and crops without a person, some of them twice."""

    def __init__(self, crops: Crops, batch: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.plain = crops.places(PLAIN).cpu().numpy()
        labeled = crops.places(LABELED).cpu().numpy()
        person = crops.person.cpu().numpy()[labeled]
        order = np.argsort(person, kind="stable")
        self.people = np.split(labeled[order], np.flatnonzero(np.diff(person[order])) + 1)
        self.num_people = round(batch * OF_PEOPLE / 2)
        self.num_plain = batch - 2 * self.num_people
        self.left = {"plain": np.empty(0, np.int64), "people": np.empty(0, np.int64)}

    def _next(self, which: str, count: int, among: int) -> np.ndarray:
        while len(self.left[which]) < count:
            self.left[which] = np.concatenate([self.left[which], self.rng.permutation(among)])
        some, self.left[which] = self.left[which][:count], self.left[which][count:]
        return some

    def next(self) -> np.ndarray:
        """int64[batch]."""
        found = []
        for one in self._next("people", self.num_people, len(self.people)):
            crops = self.people[one]
            found.append(self.rng.choice(crops, 2, replace=len(crops) < 2))
        twice = round(self.num_plain * TWICE / 2)
        plain = self.plain[self._next("plain", self.num_plain - twice, len(self.plain))]
        return self.rng.permutation(np.concatenate([*found, plain, plain[:twice]]))


@torch.no_grad()
def rates_on(net: nn.Module, crops: Crops) -> dict[str, float]:
    """TAR at FARS over all pairs of the crops of the people watched, in float32, and their mean."""
    places = crops.places(WATCHED)
    with torch.backends.cudnn.flags(benchmark=False):  # the last piece is of another size
        parts = [net((crops.pixels[some].float() - 127.5) / 127.5) for some in places.split(256)]
    vectors, person = F.normalize(torch.cat(parts).float().flatten(1)), crops.person[places]
    left, right = torch.triu_indices(len(person), len(person), 1, device=person.device)
    scores, same = (vectors @ vectors.T)[left, right], person[left] == person[right]
    impostor = scores[~same]
    top = impostor.topk(max(1, round(FARS[0] * len(impostor)))).values
    thresholds = {far: top[max(1, round(far * len(impostor))) - 1] for far in FARS}
    found = {f"{far:g}": float((scores[same] >= limit).float().mean()) for far, limit in thresholds.items()}
    return found | {"mean": sum(found.values()) / len(found)}


def loss_terms(embeddings: Tensor, said: Tensor, turn: Tensor, person: Tensor, prototypes: Tensor) -> dict[str, Tensor]:
    """What is to become small, each with its weight.

    Args:
        embeddings: float32[B, 256], the student's, of unit norm.
        said: float32[B, D], the teachers', of unit norm; `turn` brings them into the student's space.
        person: int64[B]; of crops without a name each is somebody, of mixed ones -1.
        prototypes: float32[C, 256], of any norm, of the people with a name.
    """
    wanted, alike = F.normalize(said @ turn), said @ said.T
    ours = embeddings @ embeddings.T
    apart = (ours - alike).square()
    oneself = torch.eye(len(person), dtype=torch.bool, device=person.device)
    same = (person[:, None] == person) & (person >= 0)[:, None]
    others = (1 + TAIL * (torch.maximum(ours.detach(), alike) > 0.25)) * ~(same | oneself)
    again = (same & ~oneself).float()
    named = ((person >= 0) & (person < len(prototypes))).float()
    at = (person * named.long()).clamp_min(0)[:, None]
    cosines = embeddings @ F.normalize(prototypes).T
    cosines = cosines.scatter_add(1, at, torch.full_like(cosines[:, :1], -MARGIN))
    by_name = F.cross_entropy(SCALE * cosines, at[:, 0], reduction="none")
    return {
        "cosine": (1 - (embeddings * wanted).sum(1)).mean(),
        "relation": RELATION * (apart * others).sum() / others.sum(),
        "genuine": GENUINE * (apart * again).sum() / again.sum().clamp_min(1),
        "labels": LABELS * (by_name * named).sum() / named.sum().clamp_min(1),
    }


def train(work: Path, name: str, peak: float, minutes: float, device: torch.device, batch: int, seed: int) -> None:
    """One run: RUNS/NAME.pt is the moving average of its weights, NAME.json how it went."""
    torch.manual_seed(seed)
    crops = Crops(work, device)
    strong = round(batch * STRONG)
    teachers = {one: load_teacher(work, one, device) for one in TEACHERS}
    shares = {one: math.sqrt(weight / sum(TEACHERS.values())) for one, weight in TEACHERS.items()}
    by_each = {one: said_of(work, one, call, crops, strong) for one, call in teachers.items()}
    said = centered(torch.cat([shares[one] * rows for one, rows in by_each.items()], 1), crops)
    used = crops.places(LABELED, PLAIN)
    sample = used[torch.randperm(len(used), device=device)[:SAMPLE]]
    turn = main_components(said[sample], by_each[START][sample])
    student = begun(work, device)
    scales = scales_of(student.eval(), (crops.pixels[sample[:256]].float() - 127.5) / 127.5)
    of = crops.places(LABELED)
    sums = torch.zeros(int(crops.person[of].max()) + 1, said.shape[1], device=device)
    prototypes = nn.Parameter(F.normalize(sums.index_add_(0, crops.person[of], said[of]) @ turn))
    params = [*student.parameters(), prototypes]
    optimizer = ScaledAdam(params, [*scales, torch.full_like(prototypes, DIM**-0.5)])
    call, batches = compiled(student.train(), device), Batches(crops, batch, seed + 1)
    mean, judge = {key: value.clone() for key, value in student.state_dict().items()}, begun(work, device).eval()
    curve, losses, step, looked, started = list[dict[str, float]](), list[Tensor](), 0, time.monotonic(), 0.0

    def look(share: float) -> None:
        judge.load_state_dict(mean)
        loss = float(torch.stack(losses).mean()) if losses else 0.0
        losses.clear()
        curve.append({"share": round(share, 3), "step": step, "loss": loss, **rates_on(judge, crops)})
        print(f"{name}: {curve[-1]}", flush=True)

    look(0.0)
    started = time.monotonic()
    while (share := (time.monotonic() - started) / 60 / minutes) < 1:
        places = torch.from_numpy(batches.next()).to(device)
        with torch.no_grad():
            pixels, person, target = crops.pixels[places], crops.person[places].clone(), said[places]
            count = round(strong * MIXED)
            views, blend = mixed(strong_view(pixels[:strong]), target[:strong], count)
            person[:count] = -1
            heard = torch.cat([shares[one] * teach(views) for one, teach in teachers.items()], 1)
            target = torch.cat([F.normalize(heard + KEPT * blend), target[strong:]])
            images = (torch.cat([views, easy_view(pixels[strong:])]) - 127.5) / 127.5
        with autocast(device):
            embeddings = call(images.contiguous(memory_format=torch.channels_last))
        terms = loss_terms(F.normalize(embeddings.float().flatten(1)), target, turn, person, prototypes)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, CLIP)
        optimizer.step(peak * max(0.01, 0.5 + 0.5 * math.cos(math.pi * share)) * min(1, share / WARMUP + 0.01))
        step += 1
        now = student.state_dict()
        torch._foreach_lerp_(list(mean.values()), [now[key] for key in mean], 1 - min(EMA, (1 + step) / (10 + step)))
        losses.append(loss.detach())
        if time.monotonic() - looked > LOOK:
            look(share)
            looked = time.monotonic()
    look(1.0)
    (work / "runs").mkdir(exist_ok=True)
    torch.save({key: value.cpu() for key, value in mean.items()}, work / "runs" / f"{name}.pt")
    about = {"peak": peak, "minutes": minutes, "steps": step, "batch": batch, "curve": curve}
    (work / "runs" / f"{name}.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
