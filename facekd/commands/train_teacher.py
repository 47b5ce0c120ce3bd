"""facekd train-teacher: crops with identities in, an IResNet that tells them apart out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.core.choices import Augment, HeadName, OptimizerName, Precision, SamplerName, ScheduleName
from facekd.errors import UserError
from facekd.recipes.artifacts import Trained
from facekd.recipes.card import Subject
from facekd.recipes.label_heads import balance_classes, check_head, head_loss
from facekd.settings.door import door

if TYPE_CHECKING:
    from torch import Tensor

    from facekd.training.loop import Batch


@door
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
    lr: float | None = None,
    schedule: ScheduleName = "cosine",
    optimizer: OptimizerName = "muon",
    sampler: SamplerName = "shuffled",
    per_person: int = 4,
    class_balance: float = 0.0,
    augment: Augment = "plain",
    ema: float = 0.0,
    compile: bool = False,
    precision: Precision | None = None,
    accumulate: int = 1,
    weight_decay: float = 5e-4,
    init_from: Path | None = None,
    held_out: float = 0.15,
    minimum: int = 2,
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
        lr: Highest learning rate; unless given 0.02 with muon, 0.05 with sgd, 0.001 with adamw. Where --init-from
            begins at a trained network, less.
        schedule: The learning rate's way down to zero, after a warm-up: half a cosine, or poly, the square of what is
            left.
        weight_decay: On convolutions and linear layers.
        optimizer: muon, which takes orthogonal steps and gets further in few of them; sgd with momentum; or adamw.
        sampler: shuffled: each crop alike; balanced: each person alike, several crops of one in a batch; sqrt: halfway.
        per_person: Crops of one person in a balanced batch.
        class_balance: Above 0, such as 0.999, crops of rare people count more: one of a person with n of them
            (1 - beta) / (1 - beta^n) times, divided by the mean over all crops. 0 is all alike.
        augment: Kind of views: plain; occluded, most of which have a rectangle masked or taken from another crop; or
            flip, the crop and its mirror image alone.
        ema: Decay of a running average of the weights, such as 0.999, that is kept in place of the last; 0 is none.
        compile: Train through torch.compile: a minute of waiting, then quicker steps. Needs a C++ compiler.
        precision: fp32 unless given, or bf16 or, on a GPU, fp16 where that is safe; the weights stay in fp32.
        accumulate: Parts of a batch that go through the network one after another, where memory is short.
        init_from: Run folder of a trained network of the same --net and --dim, or its model.safetensors: begin at its
            weights, and at its head's where that is for the same people. Going on with a run is --resume.
        held_out: Share of the identities that training never sees.
        minimum: Leave people with fewer crops out.
        drop: CSV of crops or people to do without, as leak and audit write; give it again for more.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch

    from facekd.core.contract import Contract
    from facekd.crops.training import read_training_crops
    from facekd.nets import build
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.heads import Head
    from facekd.recipes.begin import begin_from, read_source
    from facekd.recipes.plan import accelerate, batch_loader, begin, make_plan, make_sampler, one_process, stepper
    from facekd.recipes.train import embed_crops, held_out_rates, save_trained, train
    from facekd.training.parallel import num_processes, rank

    check_head(head, margin, scale)
    accelerator = accelerate(precision)  # from here on several processes know of each other
    one_process([*(["--head adaface"] if head == "adaface" else []), *(["--compile"] if compile else [])])
    quiet = quiet or rank() > 0
    crops = read_training_crops(data, held_out, seed, minimum, drop)
    if not crops.names:
        raise UserError(
            f"{data[0]}: its crops have no identities to learn; align photos that lie in a folder per person"
        )
    plan = make_plan(
        len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
        schedule=schedule, ema=ema, accumulate=accumulate, begun=init_from is not None,
    )  # fmt: skip
    lr = plan.peak_lr  # run.yaml keeps the rate that was used
    sample = make_sampler(sampler, crops, batch, per_person, seed)
    balance = balance_classes(class_balance, crops.labels, sampler)
    class_weights = None if balance is None else balance.to(accelerator.device)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    source = None if init_from is None else read_source(init_from, out)
    if source is not None:
        spec = source.spec(spec)
    torch.manual_seed(seed)
    backbone = build(net, dim=dim, size=spec.size, folded=source is not None and source.folded)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classes = Head(head, dim, len(crops.names), margin, scale)
    margin, scale = classes.margin, classes.scale
    start = None if source is None else begin_from(source, net, backbone, spec, classes, crops)

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    config = {k: v for k, v in locals().items() if k in CONFIG}
    out = begin(out, "train-teacher", config, (*data, *(() if start is None else start.files)))
    say(
        f"{net}: {num_parameters(backbone) / 1e6:.2f} M parameters, "
        f"{num_macs(backbone, spec.size) / 1e6:.0f} M MACs, {head} head; {crops.said()}"
        + ("" if start is None else f"; {start.said}"),
        quiet,
    )

    shape = (batch // accumulate // num_processes(), 3, spec.size, spec.size)
    forward = stepper(backbone, compile, shape, accelerator, quiet)

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = forward(batch.images_BCHW).float()
        with torch.autocast(accelerator.device.type, enabled=False):  # margins are small differences
            outputs = classes(embeddings)
            return {"labels": head_loss(classes, outputs, embeddings, batch.labels_B, class_weights)}

    def evaluate(judged: torch.nn.Module) -> Mapping[str, float]:
        return held_out_rates(embed_crops(judged, crops.judged, spec), crops.judged.identities)

    about = {
        "net": net,
        "dim": str(dim),
        "head": f"{head} margin={margin} scale={scale} class_balance={class_balance:g}",
        "init": "none" if start is None else start.digest,
        "data": crops.train.digest(),
        "batch": f"{batch} {sampler} {per_person} {augment}",
        "precision": accelerator.mixed_precision,
        "crops": f"{spec.size} px {spec.template}",
        "seed": str(seed),
    }
    load = batch_loader(crops, spec, sample, seed, augment=augment)
    modules = {"net": backbone, "head": classes}
    subject = Subject(net, spec, crops)
    trained = train(out, modules, loss, load, plan, about, evaluate, subject=subject, label="teacher", quiet=quiet)
    spec = save_trained(out, net, trained, spec, classes, crops.names)
    say(f"{out}: teacher trained; next: facekd distill --teacher {out} --data {data[0]}", quiet)
    return Trained(out, spec.model_id)


CONFIG = (
    "data", "out", "net", "dim", "head", "margin", "scale", "epochs", "batch", "lr", "schedule", "weight_decay",
    "optimizer", "sampler", "per_person", "class_balance", "augment", "ema", "compile", "precision",
    "accumulate", "init_from", "held_out", "minimum", "drop", "seed",
)  # fmt: skip
