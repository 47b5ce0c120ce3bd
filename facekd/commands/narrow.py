"""facekd narrow: a MobileFaceNet student that begins with its teacher's own layers, made narrower."""

from __future__ import annotations

from pathlib import Path

from facekd.console import progress, say
from facekd.core.run import Trained
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.group import flat
from facekd.settings.training import FittingData


@door
def narrow(
    teacher: Path,
    *,
    data: FittingData,
    contract: Path | None = None,
    net: str = "mobilefacenet",
    out: Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Fit a MobileFaceNet layer by layer to a wider one, so that distilling it begins with what its teacher sees.

    Each layer is computed by least squares on a few thousand crops; nothing is trained. The teacher is built like the
    student, only wider: insightface's w600k_mbf, or a MobileFaceNet of facekd for mobilefacenet-half.

    The run folder is for --init-from of 'facekd distill', with a low --lr and with the same --data, --held-out and
    --seed: then no crop that is held out there was looked at here.

    Example: facekd narrow w600k_mbf.onnx --data crops/ --out runs/narrow

    Args:
        teacher: An ONNX embedder or a run folder.
        contract: What the teacher expects of a crop, where facekd does not know it.
        net: mobilefacenet or mobilefacenet-half.
        out: The run folder.
        seed: Of the split and of the crops that are looked at.
        quiet: Print nothing.
    """
    import numpy as np
    import torch

    from facekd.core.contract import Contract
    from facekd.core.pixels import to_input, unit
    from facekd.crops.training import read_training_crops
    from facekd.nets import build
    from facekd.nets.mobilefacenet import MobileFaceNet
    from facekd.recipes.plan import begin
    from facekd.recipes.teachers import embed_by
    from facekd.recipes.train import save_trained
    from facekd.teachers.narrow import CROPS, fit_layers, wider_layers
    from facekd.teachers.teacher import load_teacher

    crops = read_training_crops(data.data, data.held_out, seed, data.minimum, data.drop).train
    master = load_teacher(teacher, contract, torch.device("cpu"))
    spec = Contract(dim=master.contract.dim, size=crops.size, template=crops.template)
    for what in ("size", "template", "channels", "mean", "std", "layout"):
        here, there = getattr(spec, what), getattr(master.contract, what)
        if here != there:
            raise UserError(
                f"{teacher}: takes crops of {what} {there}, a student here of {here}, so its layers can't be taken "
                "over; distill from it without 'facekd narrow'"
            )
    torch.manual_seed(seed)
    student = build(net, dim=spec.dim, size=spec.size)
    if not isinstance(student, MobileFaceNet):
        raise UserError(f"--net {net}: is no MobileFaceNet; use mobilefacenet or mobilefacenet-half")
    layers = wider_layers(teacher, student)
    config = flat(data, teacher=teacher, contract=contract, net=net, out=out, seed=seed)
    out = begin(out, "narrow", config, (*data.data, teacher, *([] if contract is None else [contract])))
    some = crops.take(np.random.default_rng(seed).permutation(len(crops))[:CROPS])
    if len(some) < 2 * spec.dim:  # least squares then fits these crops and not faces
        say(
            f"warning: {len(some)} crops are few to fit {spec.dim} dimensions on: other faces come out far from the "
            f"teacher's; give more --data, {CROPS} are used",
            quiet,
        )
    images = to_input(some.batch(np.arange(len(some))), spec, template=some.template)
    embeddings = unit(embed_by(master, some, quiet, "teacher"))
    blocks = (len(layers) - 3) // 3 + 1
    fitting = fit_layers(student, layers, torch.from_numpy(images), torch.from_numpy(embeddings))
    explained = list(progress(fitting, blocks, "blocks", quiet))[-1]
    spec = save_trained(out, net, student, spec)
    say(
        f"{out}: explains {100 * explained:.0f} % of the variance of the teacher's last features on these {len(some)} "
        f"crops; next: facekd distill --init-from {out} --lr 0.001",
        quiet,
    )
    return Trained(out, spec.model_id)
