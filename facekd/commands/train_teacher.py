"""facekd train-teacher: crops with identities in, an IResNet that tells them apart out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from facekd.console import say
from facekd.core.run import Trained
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.training import Optimization, TeacherHead, TeacherNetwork, TrainingData, TrainingRuntime, Views


@door
def train_teacher(
    *,
    data: TrainingData,
    network: TeacherNetwork = TeacherNetwork(),
    head: TeacherHead = TeacherHead(),
    optimization: Optimization = Optimization(),
    views: Views = Views(),
    runtime: TrainingRuntime = TrainingRuntime(),
    out: Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a teacher: an IResNet with softmax cross-entropy, or a margin head, over the identities of the crops.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd train-teacher --data crops/ --net iresnet50 --out runs/teacher

    Args:
        out: The run folder.
        seed: Of the split, the initialization, the order and the views.
        quiet: Print nothing.
    """
    from facekd.crops.training import read_training_crops
    from facekd.nets.heads import Head
    from facekd.recipes.begin import about_run, plan_learner
    from facekd.recipes.card import Subject
    from facekd.recipes.label_heads import balance_classes
    from facekd.recipes.plan import (
        accelerate,
        batch_loader,
        begin,
        first_crops,
        join,
        make_plan,
        make_sampler,
        one_process,
        read_resolution,
        stepper,
    )
    from facekd.recipes.runtime import settle_runtime
    from facekd.recipes.step import label_loss
    from facekd.recipes.train import judge_crops, save_trained, train
    from facekd.recipes.watch import Watched, data_warnings
    from facekd.training.parallel import num_processes, rank
    from facekd.training.schedule import side_at

    device = join(runtime.precision).device
    quiet = quiet or rank() > 0
    one_process([*(["--head adaface"] if head.head == "adaface" else []), *(["--compile"] if runtime.compile else [])])
    crops = read_training_crops(data.data, data.held_out, seed, data.minimum, data.drop)
    if not crops.names:
        raise UserError(
            f"{data.data[0]}: its crops have no identities to learn; align photos that lie in a folder per person"
        )
    learner = plan_learner(network, crops.train, out)
    contract = learner.contract
    plan = make_plan(len(crops.train), optimization, begun=learner.source is not None)
    sample = make_sampler(optimization, crops, seed)
    phases = read_resolution(optimization.resolution, crops.train.size)
    backbone = learner.build(seed)
    classes = Head(head.head, contract.dim, len(crops.names), head.margin, head.scale)
    start = learner.begin(backbone, classes, crops)
    side_of = partial(side_at, steps=plan.steps, phases=phases, full=contract.size)
    shape = (optimization.batch // optimization.accumulate // num_processes(), 3, side_of(0), side_of(0))
    runtime = settle_runtime(
        runtime, out, learner.kind, backbone, partial(first_crops, crops, contract, shape), plan.steps, device, quiet
    )
    accelerator = accelerate(runtime.precision)

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    used = replace(head, margin=classes.margin, scale=classes.scale), replace(optimization, lr=plan.peak_lr)
    config = flat(data, network, *used, views, runtime, out=out, seed=seed)
    out = begin(out, "train-teacher", config, (*data.data, *start.files))
    say(f"{learner.said(backbone)}, {head.head} head; {crops.said()}{start.clause}", quiet)
    for sentence in data_warnings(crops, sample, alone=True):
        say(f"warning: {sentence}", quiet)

    load = batch_loader(crops, contract, sample, seed, augment=views.augment)
    forward = stepper(backbone, runtime.compile, shape, accelerator, quiet)
    balance = balance_classes(optimization.class_balance, crops.labels)
    balance = None if balance is None else balance.to(accelerator.device)
    loss = label_loss(forward, classes, balance, side_of)
    numbers = f"margin={classes.margin} scale={classes.scale} class_balance={optimization.class_balance:g}"
    about = {
        "net": learner.name,
        "head": f"{head.head} {numbers}",
        **({"resolution": f"{phases}"} if phases else {}),  # a checkpoint of before knows no such key
        "batch": f"{optimization.batch} {optimization.sampler} {optimization.per_person} {views.augment}",
        **about_run(learner, start, crops, accelerator.mixed_precision, seed),
    }
    trained = train(
        out, {"net": backbone, "head": classes}, loss, load, plan, about, judge_crops(crops.judged, contract),
        subject=Subject(learner.name, contract, crops),
        watched=Watched(optimization.batch, side_of=side_of if phases else None), label="teacher", quiet=quiet,
    )  # fmt: skip
    contract = save_trained(out, learner.name, trained, contract, classes, crops.names)
    say(f"{out}: teacher trained; next: facekd distill --teacher {out} --data {data.data[0]}", quiet)
    return Trained(out, contract.model_id)
