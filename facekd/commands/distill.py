"""facekd distill: a teacher and crops in, a MobileFaceNet student out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from facekd.console import say
from facekd.core.choices import Augment, Backend, Combine, HeadName, OptimizerName, Precision, SamplerName, ScheduleName
from facekd.errors import UserError
from facekd.recipes.artifacts import Trained
from facekd.recipes.cache import HOME
from facekd.recipes.card import Subject
from facekd.recipes.label_heads import balance_classes, check_head
from facekd.recipes.teachers import (
    check_ways,
    embed_by,
    fit_map,
    joint_teacher,
    kept_rows,
    learners,
    load_teachers,
    save_joint,
    several,
)
from facekd.recipes.terms import (
    Tools,
    check_weights,
    fit_terms,
    make_state,
    needs_of,
    read_ramps,
    read_resolution,
    read_terms,
)
from facekd.settings.door import door


@door
def distill(
    *,
    data: list[Path],
    teacher: Path | list[Path] | None = None,
    contract: Path | list[Path] | None = None,
    combine: Combine | None = None,
    teacher_backend: Backend | None = None,
    joint: str | None = None,
    out: Path | None = None,
    net: str = "mobilefacenet",
    dim: int | None = None,
    activation: Literal["prelu", "relu"] = "prelu",
    term: list[str] | None = None,
    ramp: list[str] | None = None,
    temperature: float = 4.0,
    top_k: int = 0,
    weights_decay: float = 0.0,
    label_head: HeadName = "softmax",
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
    views: int = 0,
    augment: Augment = "plain",
    cache: Path = HOME,
    ema: float = 0.0,
    resolution: list[str] | None = None,
    compile: bool = False,
    precision: Precision | None = None,
    accumulate: int = 1,
    weight_decay: float = 4e-5,
    init_from: Path | None = None,
    fold_norms: bool = False,
    held_out: float = 0.15,
    minimum: int = 2,
    drop: list[Path] | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a student on what a teacher says of each view, on labels, or on both: a weighted sum of terms.

    On labels: labels. On the teacher's logits, which a facekd teacher has whose identities are those of the data:
    logits, hard, sigmoid, dkd, gkd. On its embeddings, which any teacher has: embedding, embedding_raw, cosine, huber.
    On how embeddings stand to each other, under torchrun within each process's part of a batch: rkd_distance,
    rkd_angle, similarity, ekd. On class centres: proxyless, adadistill. On the teacher's weights: weights.

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
        data: Crop store, image Parquet or .rec; give it again for more. One name in two of them is one person.
        teacher: Run folder of a trained teacher, an ONNX embedder or a .pt; give it again for more.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it; of several such teachers one
            each, in their order.
        combine: Of several teachers. concat, unless given: their embeddings one after another, so that cosines are the
            mean of theirs. average: turned into the first one's space and averaged.
        teacher_backend: What runs ONNX teachers; onnxruntime unless given. openvino can be much quicker.
        joint: Instead of --teacher, the network of one that learns in this run, such as iresnet18.
        out: The run folder.
        net: One of the networks of 'facekd nets'.
        dim: Length of the embedding; unless given that of --init-from, else the paper's, 128 or 256. 512 stays under
            1.2 M parameters.
        activation: Of MobileFaceNet: prelu is the paper's, relu is quicker on some runtimes.
        term: NAME=WEIGHT of a term, such as embedding=128; give it again for more.
        ramp: NAME=SHARE of the run over which a term's weight rises from zero; give it again for more.
        temperature: T that softens both sides' logits in logits, dkd and gkd.
        top_k: Logits are compared on the teacher's likeliest K classes, dkd excepted; 0 is all.
        weights_decay: Of the term weights: it adds this half times the square of the shared weights.
        label_head: What labels are learnt by; all but softmax work on cosines, see 'facekd train-teacher'.
        margin: Of the label head: radians, for cosface a difference of cosines; the paper's unless given.
        scale: Of the label head: the factor on cosines; 64 unless given.
        epochs: Times each crop is seen, each time as another view.
        batch: Crops in a step.
        lr: Highest learning rate; unless given 0.02 with muon, 0.05 with sgd, 0.001 with adamw, and a twentieth of
            that where --init-from begins at a trained network.
        schedule: The learning rate's way down to zero, after a warm-up: half a cosine, or poly, the square of what is
            left.
        weight_decay: On convolutions and linear layers.
        optimizer: muon, which takes orthogonal steps and gets further in few of them; sgd with momentum; or adamw.
        sampler: shuffled: each crop alike; balanced: each person alike, several crops of one in a batch; sqrt: halfway.
        per_person: Crops of one person in a balanced batch.
        class_balance: Of the term labels: above 0, such as 0.999, crops of rare people count more, see
            'facekd train-teacher'. 0 is all alike.
        views: Views of a crop, shown in turn, of which the teacher's embeddings are kept; 0 is a new one each time.
        augment: Kind of views: plain; occluded, most of which have a rectangle masked or taken from another crop; or
            flip, the crop and its mirror image alone.
        cache: Where 'facekd cache build' and --views keep them.
        ema: Decay of a running average of the weights, such as 0.999, that is kept in place of the last; 0 is none.
        resolution: SIDE=SHARE of the run in which the student sees images of fewer pixels, such as 64=0.6; give it
            again for a next part. MobileFaceNet only; the rest of the run is of full size.
        compile: Train through torch.compile: a minute of waiting, then quicker steps. Needs a C++ compiler.
        precision: fp32 unless given, or bf16 or, on a GPU, fp16 where that is safe; the weights stay in fp32.
        accumulate: Parts of a batch that go through the networks one after another, where memory is short.
        init_from: Run folder of a trained network of the same --net and --dim, its model.safetensors, or an ONNX file
            that is built like --net: begin at its weights. Going on with a run is --resume.
        fold_norms: Where --init-from begins at a trained network, train with its norms folded into the convolutions:
            quicker steps. Always so where it begins at an ONNX file.
        held_out: Share of the identities (of the crops, where they have none) that training never sees.
        minimum: Leave people with fewer crops out.
        drop: CSV of crops or people to do without, as leak and audit write; give it again for more.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch

    from facekd.core.contract import Contract
    from facekd.crops.training import read_training_crops
    from facekd.nets import DIMS, build
    from facekd.nets import fold as folding
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.heads import Head
    from facekd.recipes.begin import begin_from, read_source
    from facekd.recipes.plan import accelerate, batch_loader, begin, make_plan, make_sampler, one_process, stepper
    from facekd.recipes.step import step_loss
    from facekd.recipes.train import SETTLING, embed_crops, held_out_rates, save_trained, train
    from facekd.training.checkpoint import LAST
    from facekd.training.parallel import num_processes, rank
    from facekd.training.schedule import side_at

    paths, contracts = several(teacher), several(contract)
    check_ways(paths, contracts, combine, joint, views, teacher_backend)
    asked = read_terms(term)
    check_head(label_head, margin, scale)
    _check_numbers(temperature, top_k, weights_decay)
    accelerator = accelerate(precision)
    device = accelerator.device
    quiet = quiet or rank() > 0
    crops = read_training_crops(data, held_out, seed, minimum, drop)
    plan = make_plan(
        len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, optimizer=optimizer,
        schedule=schedule, ema=ema, accumulate=accumulate, begun=init_from is not None,
    )  # fmt: skip
    lr = plan.peak_lr  # run.yaml keeps the rate that was used
    balance = balance_classes(class_balance, crops.labels, sampler)
    sample = make_sampler(sampler, crops, batch, per_person, seed, views)
    source = None if init_from is None else read_source(init_from, out)
    if fold_norms and source is None:
        raise UserError("--fold-norms: wants a network that is trained already; give --init-from, or leave it out")
    dim = dim or (DIMS.get(net, 128) if source is None else source.contract.dim)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    if source is not None:
        spec = source.spec(spec)
    masters = load_teachers(paths, contracts, combine or "concat", crops, seed, device, quiet, teacher_backend)
    master = None if masters is None else masters.teacher
    if joint is not None:
        master = joint_teacher(joint, spec, label_head, margin, scale, crops, seed)
    terms = fit_terms(asked, master, crops.names, data[0])
    ramps = read_ramps(ramp, terms)
    phases = read_resolution(resolution, net, crops.train.size)
    judged_taught = None if masters is None else embed_by(masters.teacher, crops.judged, quiet, ON_HELD_OUT)
    torch.manual_seed(seed)
    folded = source is not None and source.folded
    student = build(net, dim=dim, size=spec.size, activation=activation, folded=folded)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    needs = needs_of(terms)
    rises = {name: round(ramps.get(name, 0) * plan.steps) for name in terms}
    _refuse_unused(needs, top_k, weights_decay, label_head, joint)
    if class_balance and "labels" not in terms:
        raise UserError(
            f"--class-balance {class_balance:g}: is of the labels' loss; add --term labels=1, or leave it out"
        )
    names = crops.names or (() if master is None else master.identities)  # the classes, also of crops without people
    modules: dict[str, torch.nn.Module] = {"net": student}
    head = Head(label_head, dim, len(names), margin, scale) if "head" in needs else None
    if head is not None:
        modules["head"] = head
        margin, scale = head.margin, head.scale
    start = None if source is None else begin_from(source, net, student, spec, head, crops)
    if fold_norms:
        folding.fold_norms(student)
    # Where the dimensions differ, the student learns to be mapped onto the teacher; the map is never exported.
    projection: torch.nn.Module = torch.nn.Identity()
    if "map" in needs and master is not None and master.contract.dim != dim:
        projection = torch.nn.Linear(dim, master.contract.dim, bias=False)
        if start is not None and not master.learns and not (out is not None and (out / LAST).exists()):
            fit_map(projection, student, spec, master, crops.train, seed, quiet)
        modules["projection"] = projection
    if "net" in needs and master is not None:
        check_weights(student, head, master)
    state = {name: module.to(device) for name, module in make_state(terms, len(names), master).items()}
    modules |= state
    modules |= learners(master)
    own_states = [*(f"--term {name}" for name in state), *(["--label-head adaface"] if label_head == "adaface" else [])]
    alone = {f"--joint {joint}": joint is not None, "--compile": compile}
    one_process([*own_states, *(flag for flag, given in alone.items() if given)])

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    term = [f"{name}={weight:.12g}" for name, weight in terms.items()]
    ramp = [f"{name}={share:.12g}" for name, share in ramps.items()] or None
    config = {k: v for k, v in locals().items() if k in CONFIG}
    out = begin(out, "distill", config, (*data, *paths, *contracts, *(() if start is None else start.files)))
    say(
        f"{net}: {num_parameters(student) / 1e6:.2f} M parameters, {num_macs(student, spec.size) / 1e6:.0f} M MACs; "
        f"{crops.said()}; learns from {', '.join(f'{weight:g} {name}' for name, weight in terms.items())}"
        + ("" if start is None else f"; {start.said}"),
        quiet,
    )

    def evaluate(judged: torch.nn.Module) -> Mapping[str, float]:
        vectors = embed_crops(judged, crops.judged, spec)
        rates = held_out_rates(vectors, crops.judged.identities)
        if judged_taught is not None and "map" in needs and len(vectors):
            with torch.no_grad():
                mapped = projection(torch.from_numpy(vectors).to(device)).cpu()
            cosine = torch.nn.functional.cosine_similarity(mapped, torch.from_numpy(judged_taught))
            rates["held_out_cosine"] = float(cosine.mean())
        return rates

    about = {
        "net": f"{net} {activation}" + (" without norms" if folded or fold_norms else ""),
        "dim": str(dim),
        "data": crops.train.digest(),
        "teacher": "none" if master is None else str(master.path) if master.learns else master.contract.model_id,
        "resolution": f"{phases}",
        "precision": accelerator.mixed_precision,
        "crops": f"{spec.size} px {spec.template}",
        "terms": f"{terms} {ramps} T={temperature:g} top_k={top_k} weights_decay={weights_decay:g}",
        "head": "none" if head is None else f"{label_head} margin={margin} scale={scale} balance={class_balance:g}",
        "init": "none" if start is None else start.digest,
        "batch": f"{batch} {sampler} {per_person} {views}" + ("" if augment == "plain" else f" {augment}"),
        "seed": str(seed),
    }
    kept = None
    if masters is not None and views:
        with accelerator.main_process_first():  # the others find it filled
            kept = kept_rows(masters, crops.train, seed, views, cache, quiet, augment)
    seen_by = None if masters is None else masters.teacher.contract
    load = batch_loader(crops, spec, sample, seed, augment=augment, teacher=seen_by, kept=kept)
    class_weights = None if balance is None else balance.to(device)
    tools = Tools(student, head, master, temperature, top_k, weights_decay, state, class_weights)

    def side_of(step: int) -> int:
        return side_at(step, plan.steps, phases, spec.size)

    shape = (batch // accumulate // num_processes(), 3, side_of(0), side_of(0))
    loss = step_loss(terms, rises, tools, projection, stepper(student, compile, shape, accelerator, quiet), side_of)
    subject = Subject(net, spec, crops)
    trained = train(out, modules, loss, load, plan, about, evaluate, subject=subject, label="student", quiet=quiet)
    if joint is not None and master is not None:
        save_joint(out, joint, master, load, range(plan.steps, plan.steps + SETTLING), device)
    spec = save_trained(out, net, trained, spec)  # last: a run that has it is done
    say(f"{out}: student trained; next: facekd export {out} model.onnx", quiet)
    return Trained(out, spec.model_id)


ON_HELD_OUT = "teacher on held-out crops"  # beside its bar
CONFIG = (
    "data", "teacher", "contract", "combine", "joint", "out", "net", "dim", "activation", "term", "ramp",
    "temperature", "top_k", "weights_decay", "label_head", "margin", "scale", "epochs", "batch", "lr", "schedule",
    "weight_decay", "class_balance", "init_from", "minimum", "resolution", "compile", "precision", "accumulate",
    "teacher_backend", "fold_norms",
    "optimizer", "sampler", "per_person", "views", "augment", "cache", "ema", "held_out", "drop", "seed",
)  # fmt: skip


def _check_numbers(temperature: float, top_k: int, weights_decay: float) -> None:
    if not 0 < temperature < math.inf:
        raise UserError(f"--temperature {temperature}: use a number above zero, such as 4")
    if top_k < 0 or top_k == 1:
        raise UserError(f"--top-k {top_k}: use 2 classes or more, or 0 for all of them")
    if not 0 <= weights_decay < math.inf:
        raise UserError(f"--weights-decay {weights_decay}: use zero or a number above it")


def _refuse_unused(
    needs: frozenset[str], top_k: int, weights_decay: float, label_head: HeadName, joint: str | None
) -> None:
    unused = [
        (top_k > 0 and not {"logits", "head"} <= needs, f"--top-k {top_k}", "logits=1"),
        (weights_decay > 0 and "net" not in needs, f"--weights-decay {weights_decay:g}", "weights=0.001"),
        (label_head != "softmax" and "head" not in needs and joint is None, f"--label-head {label_head}", "labels=1"),
    ]
    for wrong, flag, example in unused:
        if wrong:
            raise UserError(f"{flag}: no term of this run uses it; add --term {example}, or leave it out")
