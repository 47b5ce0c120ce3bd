"""What a training leaves in its folder beside the network: events, the best network so far, time, plots and a card."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from facekd.console import say
from facekd.core.files import PRIVATE, read_json, write_json, write_text
from facekd.core.run import append_metrics, read_metrics
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.cost import num_macs, num_parameters
from facekd.nets.saved import digest, load_model, save_model
from facekd.recipes.card import TAR, TIME, Subject, times, training_card
from facekd.reports.training_plots import training_plots
from facekd.training.loop import Plan
from facekd.training.parallel import num_processes, rank

EVENTS, PLOTS, CARD = "tensorboard", "plots", "card.md"  # in a run folder
EVENT_FILES = "events.out.tfevents.*"
BEST = Path("checkpoints") / "best.safetensors"
WAITING = "best-*.safetensors"  # beside it, by step: no checkpoint of that step lies there yet


@contextlib.contextmanager
def recording(out: Path, quiet: bool) -> Iterator[Callable[[Mapping[str, float]], None]]:
    """A function that adds a row to ``metrics.jsonl`` and, where tensorboard is installed, to its events.

    The events are written anew from what ``metrics.jsonl`` holds: so no step is there twice after a kill, and none is
    missing where tensorboard came later. TensorBoard forgets what it read of the old ones.
    """
    if rank() > 0:  # the first process says it all
        yield lambda row: None
        return
    if find_spec("tensorboard") is None:
        say("no TensorBoard events: they want another package, pip install 'facekd[tensorboard]'", quiet)
        yield partial(append_metrics, out)
        return
    from torch.utils.tensorboard import SummaryWriter

    folder = out / EVENTS
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for old in folder.glob(EVENT_FILES):
            old.unlink()
        writer = SummaryWriter(folder, purge_step=0)
        for new in folder.glob(EVENT_FILES):  # TensorBoard would let others read it
            new.chmod(PRIVATE)
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror}); remove it and go on") from error

    def tell(row: Mapping[str, float]) -> None:
        for key, value in row.items():
            if key != "step":
                group, name = (
                    ("held_out", key.removeprefix("held_out_")) if key.startswith("held_out") else ("train", key)
                )
                writer.add_scalar(f"{group}/{name}", value, int(row["step"]))

    def record(row: Mapping[str, float]) -> None:
        append_metrics(out, row)
        try:
            tell(row)
            writer.flush()
        except OSError as error:
            raise UserError(f"{folder}: can't be written ({error.strerror}); free space and go on") from error

    try:
        for row in read_metrics(out):
            tell(row)
        yield record
    finally:
        writer.close()


def score(row: Mapping[str, float]) -> tuple[float, ...] | None:
    """How well a judged network tells held-out people apart, larger is better; None of a row that judges none.

    The TAR at the FAR that is judged, and where it is equal, or the pairs are too few to show it, the lower EER. Where
    no held-out crop has an identity, the mean cosine to the teacher.
    """
    if "held_out_eer" in row:
        return next((value for key, value in row.items() if key.startswith(TAR)), 0.0), -row["held_out_eer"]
    return (row["held_out_cosine"],) if "held_out_cosine" in row else None


def best_row(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float] | None:
    """The row with the best `score` of a network that was trained at all; of equal ones the last."""
    scored = [(found, row["step"], row) for row in rows if row["step"] > 0 and (found := score(row)) is not None]
    return max(scored, key=lambda one: one[:2])[2] if scored else None


def keep_if_best(out: Path, row: Mapping[str, float], subject: Subject, net: nn.Module) -> None:
    """Lay a judged network aside if none that ``metrics.jsonl`` knows of was better, until `settle_best`."""
    if best_row([*read_metrics(out), row]) is row:
        path = out / BEST.parent / WAITING.replace("*", str(int(row["step"])))
        save_model(path, subject.name, net, subject.contract)


def settle_best(out: Path, step: int) -> None:
    """Make the network laid aside last up to `step`, of which there is a checkpoint, ``best.safetensors``.

    Those of later steps go: a run that goes on from `step` judges them again. So the best is always the best of what
    ``metrics.jsonl`` holds, whenever the run was killed.
    """
    found = {path: path.stem.partition("-")[2] for path in (out / BEST.parent).glob(WAITING)}
    waiting = {int(number): path for path, number in found.items() if number.isdecimal()}
    try:
        if step == 0:
            (out / BEST).unlink(missing_ok=True)
        for number, path in sorted(waiting.items()):
            if number <= step:
                os.replace(path, out / BEST)
            else:
                path.unlink()
    except OSError as error:
        raise UserError(f"{out / BEST}: can't be replaced ({error.strerror}); remove it and go on") from error


def kept_best(out: Path) -> str | None:
    """The model_id of the best network of a run; None where there is none.

    Raises:
        UserError: the file is damaged.
    """
    if not (out / BEST).exists():
        return None
    try:
        with torch.random.fork_rng(devices=[]):  # to build a network draws numbers, and the run's own go on
            return load_model(out / BEST).contract.model_id
    except UserError as error:
        raise UserError(f"{error}; without that file the run goes on, and keeps the best from there on") from error


def note_time(out: Path, start: int, step: int, seconds: float, device: torch.device) -> None:
    """Write into ``time.json`` what the steps from `start` to `step` took, in place of what it says of later ones."""
    environment = read_json(out / "environment.json")
    cores = environment["cores"]
    processor = f"{environment['processor']}, {cores} core{'s' * (cores > 1)}"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    known = [piece for piece in times(out) if piece["to"] <= start]
    piece = {"from": start, "to": step, "seconds": round(seconds, 3), "device": name, "processes": num_processes()}
    write_json(out / TIME, [*known, piece])


def leave(out: Path, subject: Subject, about: Mapping[str, str], plan: Plan, step: int, net: nn.Module) -> None:
    """Draw the plots and write the card of a run that ends, or stops, after `step`.

    Args:
        about: what makes this run this run.
        net: the network to keep.
    """
    rows = read_metrics(out)
    best_id = kept_best(out)
    best = None if best_id is None else best_row(rows)
    for name, svg in training_plots(rows, None if best is None else int(best["step"])).items():
        write_text(out / PLOTS / f"{name}.svg", svg)
    spec, model_id = subject.contract, None
    if step == plan.steps:
        weights_sha256 = digest({f"net.{key}": value for key, value in net.state_dict().items()})
        model_id = dataclasses.replace(spec, weights_sha256=weights_sha256).model_id
    with torch.device("meta"):  # shapes are all that counts, and no random number is drawn
        activation = getattr(net, "activation", "prelu")
        plain = build(subject.name, dim=spec.dim, size=spec.size, activation=activation)
        cost = num_parameters(plain), num_macs(plain, spec.size)
    kept = None if best is None or best_id is None else (int(best["step"]), best_id)
    write_text(out / CARD, training_card(out, subject, model_id, kept, about, plan, step, cost))
