"""card.md of a training: what the network is, what it learned from, how, what it cost, how well it does, its limits."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from facekd.core.contract import Contract
from facekd.core.files import read_json
from facekd.core.run import read_metrics
from facekd.crops.training import TrainingCrops
from facekd.deploy.card import LIMITS
from facekd.errors import UserError
from facekd.reports.document import Repeat, Section, Table, Text, to_markdown
from facekd.training.loop import Plan

TIME = "time.json"  # in a run folder: what its steps took
TAR = "held_out_tar@"  # begins the name of a metric; the FAR follows
NOT_RECORDED = (
    "Not recorded: facekd reads crops, not their license. Ask whoever gave you the photos before you use this network "
    "or hand it on, and write what they say into the exported file with 'facekd export --terms'. A student keeps the "
    "terms of its teachers too."
)
COMPARED = (
    "Two faces score the cosine of their embeddings, higher is more alike. No threshold was calibrated: measure it on "
    "pairs of your own people with 'facekd verify'."
)
CURVES = "Each judgment and each logged step are in metrics.jsonl, their curves in plots/."
NOT_SHOWN = (
    "It was judged on other people of the same sets: expect less of it on other cameras, light, ages and groups of "
    "people, and measure that with 'facekd verify', by group with its --group."
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is trained, on what."""

    name: str  # in nets.NETS
    contract: Contract  # its weights' digest is not known yet
    crops: TrainingCrops


def training_card(
    out: Path,
    subject: Subject,
    model_id: str | None,
    best: tuple[int, str] | None,
    about: Mapping[str, str],
    plan: Plan,
    step: int,
    cost: tuple[int, int],
) -> str:
    """The card of the run in `out`, as Markdown; what the folder's other files say is read there.

    Args:
        model_id: of the trained network, None before the last step.
        best: the step and the model_id of the network kept as the best.
        about: what makes the run this run; ``data`` is the digest of the training crops, ``teacher`` its model_id.
        step: steps done, of `plan.steps`.
        cost: parameters and multiply-adds.
    """
    config = yaml.safe_load((out / "run.yaml").read_text(encoding="utf-8"))
    environment = read_json(out / "environment.json")
    rows = read_metrics(out)
    command, crops = config["command"], subject.crops
    judged = [row for row in rows if any(key.startswith("held_out") for key in row)]
    found = _told(judged[-1]) if judged else "nobody was held out, so nothing is known of how well it does"
    unfinished = "" if step == plan.steps else f"; not finished, 'facekd {command} --resume {out}' goes on"
    kept = f"the running average of the weights (--ema {plan.ema:g})" if plan.ema else "the weights of the last step"
    files = [] if model_id is None else [f"model.safetensors, model {model_id}: {kept}"]
    files += [f"checkpoints/best.safetensors, model {best[1]}: the weights of step {best[0]}"] if best else []
    settings = {
        **{f"--{key.replace('_', '-')}": value for key, value in config.items() if key not in NO_SETTING},
        "steps": plan.steps,
        "of which warm up": plan.warmup,
        "gradient clipped to": plan.clip,
        **({"momentum": plan.momentum} if plan.optimizer == "sgd" else {}),
    }
    sections = (
        Section(
            "What it is",
            (
                Table("Network", ("What", "Value"), _rows(_network(subject, cost))),
                Text(COMPARED),
                Text(f"Networks here: {'; '.join(files) or 'none yet'}."),
            ),
        ),
        Section("What it was trained on", (_sets(config, environment, about), _counts(crops, about))),
        Section("Terms of that data", (Text(NOT_RECORDED),)),
        Section("How it was trained", (Table("Settings", ("What", "Value"), _rows(settings)),)),
        Section("What it cost", (_time(out, int(config["batch"]), step),)),
        Section("How well it tells strangers apart", (*_rates(judged, best, crops), Text(CURVES))),
        Section("Limits", tuple(Text(limit) for limit in (*LIMITS, NOT_SHOWN))),
    )  # fmt: skip
    return to_markdown(
        title=f"{subject.name}, trained by facekd {command}",
        lead=f"A face embedder after {step} of {plan.steps} steps: {found}{unfinished}.",
        sections=sections,
        repeat=Repeat((f"facekd {command} --config {shlex.quote(str(out / 'run.yaml'))} --out ANOTHER",), environment),
    )


NO_SETTING = (
    "command",
    "format",
    "data",
    "out",
    "teacher",
    "contract",
    "cache",
    "drop",
    "init_from",
)  # places, most of them said elsewhere


def _network(subject: Subject, cost: tuple[int, int]) -> dict[str, Any]:
    spec: Contract = subject.contract
    return {
        "network": subject.name,
        "parameters": f"{cost[0] / 1e6:.3f} M",
        "multiply-adds of one crop": f"{cost[1] / 1e6:.0f} M",
        "gives": f"float32[N, {spec.dim}]",
        "expects": f"{spec.template} crops of {spec.size}×{spec.size} pixels, {spec.channels}",
        "as": f"(pixels - {_list(spec.mean)}) / {_list(spec.std)}, {spec.layout}",
    }


def _sets(config: Mapping[str, Any], environment: Mapping[str, Any], about: Mapping[str, str]) -> Table:
    def places(key: str) -> list[str]:
        found = config.get(key) or []
        return [found] if isinstance(found, str) else found

    inputs = environment["inputs"]
    digests = {path: "a folder" if digest is None else f"SHA-256 {digest}" for path, digest in inputs.items()}
    teachers, taught = places("teacher"), f"model {about.get('teacher')}"
    rows = [("crops", path, digests.get(path, "–")) for path in places("data")]
    rows += [("without those of", path, digests.get(path, "–")) for path in places("drop")]
    rows += [("begun from", path, about.get("init", "–")) for path in places("init_from")]
    rows += [("taught by", path, taught if len(teachers) == 1 else digests.get(path, "–")) for path in teachers]
    rows += [("taught by", "all of them as one", taught)] if len(teachers) > 1 else []
    rows += [("taught by", name, "learns beside it in this run") for name in places("joint")]
    return Table("Sets", ("As", "Place", "What it is known by"), tuple(rows))


def _counts(crops: TrainingCrops, about: Mapping[str, str]) -> Table:
    rows = {
        "crops": f"{len(crops.train):,}",
        "identities": f"{len(crops.names):,}",
        "crops without identity": f"{int((crops.labels < 0).sum()):,}",
        "crops held out": f"{len(crops.held):,}",
        "identities held out": f"{len(set(crops.held.identities) - {None}):,}",
        "crops dropped by a list": f"{crops.dropped:,}",
        "digest of the crops' ids and identities": about["data"],
    }
    return Table("Counts", ("What", "Value"), _rows(rows))


def times(out: Path) -> list[dict[str, Any]]:
    """The pieces of a run that ``time.json`` knows: from and to which step, seconds, device and processes of each.

    Raises:
        UserError: the file is damaged.
    """
    path = out / TIME
    remedy = "delete it: what the steps so far took is then not in the card, and the run goes on"
    try:
        pieces = read_json(path) if path.exists() else []
    except UserError as error:
        raise UserError(f"{error}; {remedy}") from error
    kinds = {"from": int, "to": int, "seconds": float, "device": str, "processes": int}
    for piece in pieces if isinstance(pieces, list) else [None]:
        if not isinstance(piece, dict) or any(type(piece.get(key)) is not kind for key, kind in kinds.items()):
            raise UserError(f"{path}: holds something else than the times of steps; {remedy}")
    return list(pieces)


def _time(out: Path, batch: int, step: int) -> Table:
    """Steps, time and crops a second, on each machine that took part."""
    pieces = [piece for piece in times(out) if piece["to"] <= step]
    steps, seconds = Counter[str](), Counter[str]()
    for piece in pieces:
        machine = f"{piece['device']}, {piece['processes']} process{'es' * (piece['processes'] > 1)}"
        steps[machine] += piece["to"] - piece["from"]
        seconds[machine] += piece["seconds"]
    rows = [
        (
            machine,
            f"{steps[machine]:,}",
            _duration(seconds[machine]),
            f"{batch * steps[machine] / seconds[machine]:.4g}",
        )
        for machine in steps
    ]
    note = "Judging and checkpoints are in it; steps that a kill made to be done again count once."
    return Table("Time", ("On", "Steps", "Time", "Crops a second"), tuple(rows), note)


def _rates(
    judged: Sequence[Mapping[str, Any]], best: tuple[int, str] | None, crops: TrainingCrops
) -> tuple[Table | Text]:
    """The last judgment and that of the best, and how many pairs they rest on."""
    if not judged:
        return (Text("No crop was held out."),)
    by_step = {row["step"]: row for row in judged}
    shown = [(f"after step {judged[-1]['step']}", judged[-1])]
    if best is not None:
        shown.append((f"best.safetensors, step {best[0]}", by_step[best[0]]))
    keys = list(dict.fromkeys(key for _, row in shown for key in row if key.startswith("held_out")))
    rows = tuple((what, *(_number(key, row.get(key)) for key in keys)) for what, row in shown)
    return (Table("On held-out crops", ("Network", *map(_called, keys)), rows, _pairs(crops, best is not None)),)


def _pairs(crops: TrainingCrops, chosen: bool) -> str:
    """How many pairs there were, and which FAR they can show at all."""
    names = [name for name in crops.judged.identities if name is not None]
    of_person = Counter(names)
    genuine = sum(count * (count - 1) // 2 for count in of_person.values())
    impostor = len(names) * (len(names) - 1) // 2 - genuine
    if len(names) < len(crops.judged) or not genuine or not impostor:
        return f"{len(crops.judged):,} crops that no training saw; they make no pairs of known people to tell apart."
    text = (
        f"{len(names):,} crops of {len(of_person):,} people whom no training saw: {genuine:,} genuine and {impostor:,} "
        f"impostor pairs, all against all. So many show no FAR below {3 / impostor:.1g} (rule of 3) and estimate none "
        f"below {30 / impostor:.1g} (rule of 30). Pairs that share people are not independent: no interval is given."
    )
    return text + (" The best was chosen on these very people: judge it on others." if chosen else "")


def _told(row: Mapping[str, Any]) -> str:
    """What a judgment says first."""
    key = next(key for start in (TAR, "held_out") for key in row if key.startswith(start))
    return f"{_called(key)} {_number(key, row[key])} on held-out crops at step {row['step']}"


def _called(key: str) -> str:
    if key.startswith(TAR):
        return f"TAR at FAR {key.removeprefix(TAR)}"
    return {"held_out_eer": "EER", "held_out_cosine": "mean cosine to the teacher"}.get(key, key)


def _number(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if key.endswith("cosine") else f"{100 * value:.2f} %"


def _rows(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _list(value) if isinstance(value, list) else _plain(value))
                 for name, value in values.items() if value is not None)  # fmt: skip


def _list(values: Sequence[object]) -> str:
    """Several values, or the one that they all are."""
    return ", ".join(map(_plain, values[:1] if len(set(values)) == 1 else values))


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds:.1f} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
