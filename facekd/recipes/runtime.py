"""Where nobody says in which precision to train: what this machine is quickest in, found out once and kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from facekd.console import say
from facekd.core.files import read_yaml, sha256_bytes
from facekd.core.kept import keep, kept
from facekd.core.system import cores
from facekd.nets.facts import processor
from facekd.settings.training import TrainingRuntime
from facekd.training.forms import PLAIN, Form, Tried, has_bf16, quickest, try_forms
from facekd.training.parallel import num_processes

VERSION = 1  # of what is measured; a higher one is kept under other keys
FEWEST = 200  # steps of a run that is worth a measurement, which takes ten
SHORT = 120.0  # seconds that the whole run would take; below, it trains as it is
COMPILING = 90.0  # seconds that torch.compile is expected to take
GAIN = 0.4  # share of a step that it is expected to save


def settle_runtime(
    asked: TrainingRuntime, out: Path | None, name: str, net: nn.Module, images: Callable[[], Tensor], steps: int,
    device: torch.device, quiet: bool,
) -> TrainingRuntime:  # fmt: skip
    """`asked` with a precision, and with compile or without: what a run's folder is to hold.

    What was asked for stays. A run that goes on keeps what its run.yaml says. Of several processes, and under a
    launcher that names a precision, nothing is measured.

    Args:
        out: the run's folder, where it is known.
        name: of the network and what makes it another to compute.
        net: freshly built.
        images: gives crops float32[B, 3, S, S] of the batch and size that are trained on.
    """
    if asked.precision != "auto":
        return replace(asked, compile=bool(asked.compile))
    before = None if out is None else written(out)
    if before is not None:
        if before[0] is not None:
            say(f"trains in {Form(*before)}, as {out}/run.yaml says", quiet)
        return replace(asked, precision=before[0], compile=before[1] if asked.compile is None else asked.compile)
    if os.environ.get("ACCELERATE_MIXED_PRECISION", "no") != "no" or num_processes() > 1:
        return replace(asked, precision=None, compile=bool(asked.compile))
    form, why = _measured(asked.compile, name, net, images, steps, device, quiet)
    say(f"trains in {form}: {why}", quiet)
    return replace(asked, precision=form.precision, compile=form.compiled)


def written(out: Path) -> tuple[Any, bool] | None:
    """Precision and compile of the run in `out`, as its run.yaml has them; None where no run lies there."""
    path = out / "run.yaml"
    found = read_yaml(path, "choose another --out") if path.exists() else None
    if not isinstance(found, dict):
        return None  # what else it may be is refused where the run begins
    return found.get("precision"), bool(found.get("compile"))


def _measured(
    compile: bool | None, name: str, net: nn.Module, images: Callable[[], Tensor], steps: int, device: torch.device,
    quiet: bool,
) -> tuple[Form, str]:  # fmt: skip
    """The form, and in a clause why it is that one."""
    plain = Form("fp32", bool(compile))
    if steps < FEWEST:
        return plain, f"{steps} steps are too few to try others"
    images_BCHW = images().to(device, memory_format=torch.channels_last)
    net = net.to(device).train()
    key = _key(name, images_BCHW, device)
    about = kept(key)
    if about is None:
        say(
            f"{name}: tries in which precision a few steps are quickest here; --precision fp32 does without",
            quiet,
        )
    tried: dict[Form, Tried] = {}
    for one in [] if about is None else about[0]:
        form = Form(*one["form"])
        tried[form] = Tried(**{**one, "form": form})

    def add(form: Form) -> None:
        """Try this form, if it was not, beside the plain one."""
        if form not in tried:
            tried.update(try_forms(net, images_BCHW, list({PLAIN: 0, form: 0}), lambda line: say(line, quiet)))
            keep(key, [asdict(one) for one in tried.values()], b"")

    add(PLAIN)
    expected = steps * tried[PLAIN].seconds
    if expected < SHORT:
        return plain, f"about {expected:.0f} s are too few to try others"
    low: list[Literal["bf16", "fp32"]] = ["bf16"] if has_bf16(device) else []
    if not compile:
        for precision in low:
            add(Form(precision, False))
    if compile or (compile is None and GAIN * expected > COMPILING):
        say(f"{name}: torch.compile is tried, which takes a minute or more; --no-compile does without", quiet)
        for precision in [*low, "fp32"]:
            form = Form(precision, True)
            add(form)
            if form in tried and tried[form].agrees:
                break  # compiled, fp32 is no quicker than bf16 where the machine has arithmetic for that
    choices = [one for one in tried.values() if one.agrees and (compile is None or one.form.compiled == compile)]
    if not choices:  # it can't be compiled here
        return plain, "nothing else can be had here"
    best = quickest(choices, steps)
    others = ", ".join(f"{one.form} {one.seconds:.3g} s" for one in tried.values() if one.form != best.form)
    apart = f"; its gradient is {100 * best.gradient_apart:.2g} % from that of fp32" if best.form != PLAIN else ""
    return best.form, f"{best.seconds:.3g} s a step here ({others or 'nothing else can be had'}){apart}"


def _key(name: str, images_BCHW: Tensor, device: torch.device) -> str:
    """What the measurements are kept under: all that they depend on."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    parts = (
        "training forms", str(VERSION), torch.__version__, processor(), card, str(cores()),
        str(torch.get_num_threads()), name, str(tuple(images_BCHW.shape)),
    )  # fmt: skip
    return sha256_bytes("\n".join(parts).encode())[:40]
