"""facekd train-teacher: crops with identities in, an IResNet that tells them apart out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.run import default_out, refuse_other_run, start_run
from facekd.errors import UserError
from facekd.stages.console import say

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
    epochs: float = 20,
    batch: int = 64,
    lr: float = 0.05,
    weight_decay: float = 5e-4,
    held_out: float = 0.15,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a teacher: an IResNet with softmax cross-entropy over the identities of the crops.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd train-teacher --data crops/ --net iresnet50 --out runs/teacher

    Args:
        data: Crop store or image Parquet with identities; give it again for more.
        out: The run folder.
        net: One of the networks of facekd.nets, such as iresnet18, iresnet50, iresnet100.
        dim: Length of the embedding.
        epochs: Times each crop is seen, each time as another view.
        batch: Crops in a step.
        lr: Highest learning rate.
        weight_decay: On convolutions and linear layers.
        held_out: Share of the identities that training never sees.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch

    from facekd.core.contract import Contract
    from facekd.losses.softmax import softmax_cross_entropy
    from facekd.nets import build
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.saved import MODEL, save_model
    from facekd.stages.training_run import (
        batch_loader,
        embed_crops,
        held_out_rates,
        make_plan,
        read_training_data,
        train,
    )

    crops = read_training_data(data, held_out, seed)
    if not crops.names:
        raise UserError(
            f"{data[0]}: its crops have no identities to learn; align photos that lie in a folder per person"
        )
    plan = make_plan(len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    torch.manual_seed(seed)
    backbone = build(net, dim=dim, size=spec.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    head = torch.nn.Linear(dim, len(crops.names))

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    out = out or default_out("train-teacher")
    config = {k: v for k, v in locals().items() if k in CONFIG}
    refuse_other_run(out, config)
    start_run(out, "train-teacher", config, inputs=tuple(data))
    say(
        f"{net}: {num_parameters(backbone) / 1e6:.2f} M parameters, "
        f"{num_macs(backbone, spec.size) / 1e6:.0f} M MACs; {len(crops.train)} crops of {len(crops.names)} "
        f"identities, {len(crops.held)} held out",
        quiet,
    )

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        return {"labels": softmax_cross_entropy(head(backbone(batch.images_BCHW)), batch.labels_B)}

    def evaluate() -> Mapping[str, float]:
        return held_out_rates(embed_crops(backbone, crops.judged, spec), crops.judged.identities)

    about = {"net": net, "dim": str(dim), "data": crops.train.digest(), "batch": str(batch), "seed": str(seed)}
    load = batch_loader(crops, spec, None, batch, seed)
    train(out, {"net": backbone, "head": head}, loss, load, plan, about, evaluate, label="teacher", quiet=quiet)
    spec = save_model(out / MODEL, net, backbone, spec, head, crops.names)
    say(f"{out}: teacher trained; next: facekd distill --teacher {out} --data {data[0]}", quiet)
    return Trained(out, spec.model_id)


CONFIG = ("data", "out", "net", "dim", "epochs", "batch", "lr", "weight_decay", "held_out", "seed")
