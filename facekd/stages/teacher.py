"""facekd train-teacher: crops with identities in, an IResNet that tells them apart out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.errors import UserError
from facekd.stages.console import say
from facekd.stages.label_heads import HeadName, check_head, head_loss
from facekd.stages.training_run import OptimizerName, SamplerName

if TYPE_CHECKING:
    from torch import Tensor

    from facekd.training.loop import Batch


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training run."""

    out: Path
    model_id: str


def train_teacher(
    *,
    data: list[Path],
    out: Path | None = None,
    net: str = "iresnet18",
    dim: int = 512,
    head: HeadName = "softmax",
    margin: float | None = None,
    scale: float | None = None,
    epochs: float = 20,
    batch: int = 64,
    lr: float = 0.05,
    optimizer: OptimizerName = "sgd",
    sampler: SamplerName = "shuffled",
    per_person: int = 4,
    ema: float = 0.0,
    weight_decay: float = 5e-4,
    held_out: float = 0.15,
    drop: list[Path] | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a teacher: an IResNet with softmax cross-entropy, or a margin head, over the identities of the crops.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd train-teacher --data crops/ --net iresnet50 --out runs/teacher

    Args:
        data: Crop store, image Parquet or .rec with identities; give it again for more. One name in two is one person.
        out: The run folder.
        net: One of the networks of facekd.nets, such as iresnet18, iresnet50, iresnet100.
        dim: Length of the embedding.
        head: softmax works on W x + b, all others on cosines to class centres; subarcface has three for a person.
        margin: Of the head: radians, for cosface a difference of cosines; the paper's unless given.
        scale: Of the head: the factor on cosines; 64 unless given.
        epochs: Times each crop is seen, each time as another view.
        batch: Crops in a step.
        lr: Highest learning rate.
        weight_decay: On convolutions and linear layers.
        optimizer: sgd with momentum, or adamw, which wants a --lr of about 0.001.
        sampler: shuffled: each crop alike; balanced: each person alike, several crops of one in a batch; sqrt: halfway.
        per_person: Crops of one person in a balanced batch.
        ema: Decay of a running average of the weights, such as 0.999, that is kept in place of the last; 0 is none.
        held_out: Share of the identities that training never sees.
        drop: CSV of crops or people to do without, as leak and audit write; give it again for more.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch
    from accelerate import Accelerator

    from facekd.core.contract import Contract
    from facekd.nets import build
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.heads import Head
    from facekd.stages.training_run import batch_loader, begin, make_plan, make_sampler, one_process, read_training_data
    from facekd.stages.training_walk import embed_crops, held_out_rates, save_trained, train
    from facekd.training.parallel import rank

    check_head(head, margin, scale)
    Accelerator()  # from here on several processes know of each other
    one_process(["--head adaface"] if head == "adaface" else [])
    quiet = quiet or rank() > 0
    crops = read_training_data(data, held_out, seed, drop=drop)
    if not crops.names:
        raise UserError(
            f"{data[0]}: its crops have no identities to learn; align photos that lie in a folder per person"
        )
    plan = make_plan(
        len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, optimizer=optimizer, ema=ema
    )
    sample = make_sampler(sampler, crops, batch, per_person, seed)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    torch.manual_seed(seed)
    backbone = build(net, dim=dim, size=spec.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classes = Head(head, dim, len(crops.names), margin, scale)
    margin, scale = classes.margin, classes.scale

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    config = {k: v for k, v in locals().items() if k in CONFIG}
    out = begin(out, "train-teacher", config, tuple(data))
    say(
        f"{net}: {num_parameters(backbone) / 1e6:.2f} M parameters, "
        f"{num_macs(backbone, spec.size) / 1e6:.0f} M MACs, {head} head; {crops.said()}",
        quiet,
    )

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = backbone(batch.images_BCHW)
        return {"labels": head_loss(classes, classes(embeddings), embeddings, batch.labels_B)}

    def evaluate(judged: torch.nn.Module) -> Mapping[str, float]:
        return held_out_rates(embed_crops(judged, crops.judged, spec), crops.judged.identities)

    about = {
        "net": net,
        "dim": str(dim),
        "head": f"{head} margin={margin} scale={scale}",
        "data": crops.train.digest(),
        "batch": f"{batch} {sampler} {per_person}",
        "seed": str(seed),
    }
    load = batch_loader(crops, spec, sample, seed)
    modules = {"net": backbone, "head": classes}
    trained = train(out, modules, loss, load, plan, about, evaluate, label="teacher", quiet=quiet)
    spec = save_trained(out, net, trained, spec, classes, crops.names)
    say(f"{out}: teacher trained; next: facekd distill --teacher {out} --data {data[0]}", quiet)
    return Trained(out, spec.model_id)


CONFIG = (
    "data", "out", "net", "dim", "head", "margin", "scale", "epochs", "batch", "lr", "weight_decay", "optimizer",
    "sampler", "per_person", "ema", "held_out", "drop", "seed",
)  # fmt: skip
