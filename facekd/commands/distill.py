"""facekd distill: a teacher and crops in, a MobileFaceNet student out."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from facekd.console import say
from facekd.core.run import Trained
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.training import (
    KeptViews,
    Objective,
    Student,
    StudentOptimization,
    Teaching,
    TrainingData,
    TrainingRuntime,
)


@door
def distill(
    *,
    data: TrainingData,
    teacher: Teaching = Teaching(),
    objective: Objective = Objective(),
    student: Student = Student(),
    optimization: StudentOptimization = StudentOptimization(),
    views: KeptViews = KeptViews(),
    runtime: TrainingRuntime = TrainingRuntime(),
    out: Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a student on what a teacher says of each view, on labels, or on both: a weighted sum of terms.

    On labels: labels. On the teacher's logits, which a facekd teacher has whose identities are those of the data:
    logits, hard, sigmoid, dkd, gkd. On its embeddings, which any teacher has: embedding, embedding_raw, cosine, huber.
    On how embeddings stand to each other, under torchrun within each process's part of a batch: rkd_distance,
    rkd_angle, similarity, ekd. On class centers: proxyless, adadistill. On the teacher's weights: weights.

    Without --term it is labels=1, logits=1, embedding=10, or those of them that data and teacher can carry. Crops
    without identities count for the terms that need none. Without a teacher the labels alone train the student: the
    control.

    A teacher is a run of facekd, of a student too, or somebody else's network: an ONNX embedder, or the weights of
    facenet-pytorch's InceptionResnetV1 (a .pt, of which only tensors are read; it knows crops cut in another way).
    Several teach as one, by their embeddings. With --joint a teacher learns the labels beside the student, who follows
    it as it is at each step; it is left in RUN/teacher, to teach others.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd distill --teacher runs/teacher --data crops/ --term embedding=128 --out runs/student

    Args:
        out: The run folder.
        seed: Of the split, the initialization, the order and the views.
        quiet: Print nothing.
    """
    from facekd.crops.training import read_training_crops
    from facekd.recipes.begin import about_run, plan_learner
    from facekd.recipes.card import Subject
    from facekd.recipes.goal import judged_by, set_goal
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
    from facekd.recipes.step import step_loss
    from facekd.recipes.teachers import check_views, kept_rows, save_joint
    from facekd.recipes.terms import check_terms
    from facekd.recipes.train import SETTLING, save_trained, train
    from facekd.recipes.watch import Watched, data_warnings
    from facekd.training.parallel import num_processes, rank
    from facekd.training.schedule import side_at

    check_terms(objective.term, objective.ramp)  # crops take longer to read than a user waits for this
    check_views(teacher, views.views)
    state = join(runtime.precision)
    quiet = quiet or rank() > 0
    crops = read_training_crops(data.data, data.held_out, seed, data.minimum, data.drop)
    learner = plan_learner(student, crops.train, out)
    plan = make_plan(len(crops.train), optimization, begun=learner.source is not None)
    sample = make_sampler(optimization, crops, seed, views.views)
    phases = read_resolution(optimization.resolution, crops.train.size)
    goal = set_goal(objective, teacher, optimization, learner, crops, out, seed, state.device, quiet)
    joint = [] if teacher.joint is None else [f"--joint {teacher.joint}"]
    judge = judged_by(goal, crops, learner, quiet)
    side_of = partial(side_at, steps=plan.steps, phases=phases, full=learner.contract.size)
    shape = (optimization.batch // optimization.accumulate // num_processes(), 3, side_of(0), side_of(0))
    inputs = partial(first_crops, crops, learner.contract, shape)
    runtime = settle_runtime(runtime, out, learner.kind, goal.tools.net, inputs, plan.steps, state.device, quiet)
    accelerator = accelerate(runtime.precision)
    one_process([*goal.alone, *joint, *(["--compile"] if runtime.compile else [])])

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    used = replace(student, dim=learner.contract.dim), replace(optimization, lr=plan.peak_lr)
    config = flat(data, teacher, goal.objective, *used, views, runtime, out=out, seed=seed)
    out = begin(out, "distill", config, (*data.data, *teacher.teachers, *teacher.contracts, *goal.start.files))
    say(f"{learner.said(goal.tools.net)}; {crops.said()}; {goal.said()}{goal.start.clause}", quiet)
    for sentence in data_warnings(crops, sample, alone=set(goal.terms) == {"labels"}):
        say(f"warning: {sentence}", quiet)

    kept = taught = None
    if goal.teachers is not None:
        taught = goal.teachers.teacher.contract
        if views.views:
            with accelerator.main_process_first():  # the others find it filled
                kept = kept_rows(goal.teachers, crops.train, seed, views, quiet)
    load = batch_loader(crops, learner.contract, sample, seed, augment=views.augment, teacher=taught, kept=kept)
    forward = stepper(goal.tools.net, runtime.compile, shape, accelerator, quiet)
    loss = step_loss(goal.terms, goal.rises(plan.steps), goal.tools, goal.projection, forward, side_of)
    about = {
        "net": f"{learner.name} {learner.activation}" + (" without norms" if learner.folded else ""),
        "resolution": f"{phases}",
        **goal.about(optimization.class_balance),
        "batch": f"{optimization.batch} {optimization.sampler} {optimization.per_person} {views.views}"
        + ("" if views.augment == "plain" else f" {views.augment}"),
        **about_run(learner, goal.start, crops, accelerator.mixed_precision, seed),
    }
    watched = Watched(optimization.batch, goal.terms, max(goal.rises(plan.steps).values()), side_of if phases else None)
    trained = train(
        out, goal.modules, loss, load, plan, about, judge,
        subject=Subject(learner.name, learner.contract, crops), watched=watched, label="student", quiet=quiet,
    )  # fmt: skip
    if teacher.joint is not None:
        ahead = range(plan.steps, plan.steps + SETTLING)
        save_joint(out, teacher.joint, goal.teacher, load, ahead, accelerator.device)
    contract = save_trained(out, learner.name, trained, learner.contract)  # last: a run that has it is done
    say(f"{out}: student trained; next: facekd export {out} model.onnx", quiet)
    return Trained(out, contract.model_id)
