"""What the trainings are asked: the data, the networks, what to learn from, how, and on what machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from facekd.core.choices import (
    HEADS,
    Augment,
    Backend,
    Combine,
    HeadName,
    OptimizerName,
    Precision,
    SamplerName,
    ScheduleName,
)
from facekd.errors import UserError
from facekd.settings.group import FIRST, settings

CACHES = Path("runs/teacher-cache")

PEAK_LR: dict[OptimizerName, float] = {"muon": 0.02, "sgd": 0.05, "adamw": 0.001}  # unless one is asked for


@settings("Data")
class TrainingData:
    """The crops to learn from, and those that training never sees."""

    data: Annotated[list[Path], FIRST]
    """Crop store, image Parquet or .rec; give it again for more. One name in two of them is one person."""
    held_out: float = 0.15
    """Share of the identities (of the crops, where they have none) that training never sees."""
    minimum: int = 2
    """Leave people with fewer crops out."""
    drop: list[Path] | None = None
    """CSV of crops or people to do without, as leak and audit write; give it again for more."""

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("--data: names no crops; give a crop store, an image Parquet or a .rec")
        if not 0 <= self.held_out < 1:
            raise UserError(f"held out share {self.held_out}: use a number from 0 up to, but not, 1")
        if self.minimum < 1:
            raise UserError(f"--minimum {self.minimum}: use 1 or more photos of a person")


@settings("Data")
class FittingData(TrainingData):
    """The crops that layers are fitted to."""

    data: Annotated[list[Path], FIRST]
    """Crop store, image Parquet or .rec; give it again for more. Identities are not used."""
    held_out: float = 0.15
    """Share of the identities (of the crops, where they have none) that is not looked at."""


@settings("Optimization")
class Optimization:
    """How the weights find their way."""

    epochs: Annotated[float, FIRST] = 20
    """Times each crop is seen, each time as another view."""
    batch: Annotated[int, FIRST] = 64
    """Crops in a step."""
    lr: Annotated[float | None, FIRST] = None
    """Highest learning rate; unless given 0.02 with muon, 0.05 with sgd, 0.001 with adamw, and a twentieth of that
    where --init-from begins at a trained network."""
    schedule: ScheduleName = "cosine"
    """The learning rate's way down to zero, after a warm-up: half a cosine, or poly, the square of what is left."""
    weight_decay: float = 5e-4
    """On convolutions and linear layers."""
    optimizer: OptimizerName = "muon"
    """muon, which takes orthogonal steps and gets further in few of them; sgd with momentum; or adamw."""
    sampler: SamplerName = "shuffled"
    """shuffled: each crop alike; balanced: each person alike, several crops of one in a batch; sqrt: halfway."""
    per_person: int = 4
    """Crops of one person in a balanced batch."""
    class_balance: float = 0.0
    """Of the loss on labels: above 0, such as 0.999, crops of rare people count more: one of a person with n of them
    (1 - beta) / (1 - beta^n) times, divided by the mean over all crops. 0 is all alike."""
    ema: float = 0.0
    """Decay of a running average of the weights, such as 0.999, that is kept in place of the last; 0 is none."""
    accumulate: int = 1
    """Parts of a batch that go through the networks one after another, where memory is short."""
    resolution: list[str] | None = None
    """SIDE=SHARE of the run in which the network sees images of fewer pixels, such as 64=0.6, SIDE a multiple of 16; a
    step on 64 costs about a third of one on 112. Give it again for a next part. The rest of the run is of full size."""

    def __post_init__(self) -> None:
        problems = [
            (not 0 < self.epochs < math.inf, f"--epochs {self.epochs}: use a number above zero"),
            (self.batch < 2, f"--batch {self.batch}: use 2 or more, a norm over one crop is undefined"),
            (
                self.lr is not None and not 0 < self.lr < math.inf,
                f"--lr {self.lr}: use a number above zero, such as {PEAK_LR[self.optimizer]:g}",
            ),
            (not 0 <= self.ema < 1, f"--ema {self.ema:g}: use a number from 0 up to, but not, 1, such as 0.999"),
            (
                not 0 <= self.weight_decay < math.inf,
                f"--weight-decay {self.weight_decay}: use zero or a number above it",
            ),
            (
                not 0 <= self.class_balance < 1,
                f"--class-balance {self.class_balance:g}: use a number from 0 up to, but not, 1, such as 0.999",
            ),
            (
                self.class_balance != 0 and self.sampler != "shuffled",
                f"--class-balance {self.class_balance:g}: --sampler {self.sampler} shows rare people oftener already, "
                "and both together would make them count more than the others; leave one of the two out",
            ),
        ]
        for wrong, sentence in problems:
            if wrong:
                raise UserError(sentence)


@settings("Optimization")
class StudentOptimization(Optimization):
    """The same of a student."""

    weight_decay: float = 4e-5
    """On convolutions and linear layers."""


@settings("Network")
class TeacherNetwork:
    """The network that becomes a teacher, and where it begins."""

    net: Annotated[str, FIRST] = "iresnet18"
    """One of the networks of 'facekd nets', such as iresnet18, iresnet50, iresnet100."""
    dim: int = 512
    """Length of the embedding."""
    init_from: Annotated[Path | None, FIRST] = None
    """Run folder of a trained network of the same --net and --dim, or its model.safetensors: begin at its weights, and
    at its head's where that is for the same people. Going on with a run is --resume."""


@settings("Student")
class Student:
    """The network that becomes a student, and where it begins."""

    net: Annotated[str, FIRST] = "mobilefacenet"
    """One of the networks of 'facekd nets'."""
    dim: int | None = None
    """Length of the embedding; unless given that of --init-from, else the paper's, 128 or 256. 512 stays under 1.2 M
    parameters."""
    activation: Literal["prelu", "relu"] = "prelu"
    """Of MobileFaceNet: prelu is the paper's, relu is quicker on some runtimes."""
    init_from: Annotated[Path | None, FIRST] = None
    """Run folder of a trained network of the same --net and --dim, its model.safetensors, or an ONNX file that is built
    like --net: begin at its weights. Going on with a run is --resume."""
    fold_norms: bool = False
    """Where --init-from begins at a trained network, train with its norms folded into the convolutions: quicker steps.
    Always so where it begins at an ONNX file."""

    def __post_init__(self) -> None:
        if self.fold_norms and self.init_from is None:
            raise UserError("--fold-norms: wants a network that is trained already; give --init-from, or leave it out")


@settings("Objective")
class TeacherHead:
    """What a teacher learns labels by."""

    head: Annotated[HeadName, FIRST] = "softmax"
    """softmax works on W x + b, all others on cosines to class centers; subarcface has three for a person."""
    margin: float | None = None
    """Of the head: radians, for cosface a difference of cosines; the paper's unless given."""
    scale: float | None = None
    """Of the head: the factor on cosines; 64 unless given."""

    def __post_init__(self) -> None:
        check_head(self.head, self.margin, self.scale)


@settings("Objective")
class Objective:
    """What a student minimizes."""

    term: Annotated[list[str] | None, FIRST] = None
    """NAME=WEIGHT of a term, such as embedding=128; give it again for more."""
    ramp: list[str] | None = None
    """NAME=SHARE of the run over which a term's weight rises from zero; give it again for more."""
    temperature: float = 4.0
    """T that softens both sides' logits in logits, dkd and gkd."""
    top_k: int = 0
    """Logits are compared on the teacher's likeliest K classes, dkd excepted; 0 is all."""
    weights_decay: float = 0.0
    """Of the term weights: it adds this half times the square of the shared weights."""
    label_head: HeadName = "softmax"
    """What labels are learned by; all but softmax work on cosines, see 'facekd train-teacher'."""
    margin: float | None = None
    """Of the label head: radians, for cosface a difference of cosines; the paper's unless given."""
    scale: float | None = None
    """Of the label head: the factor on cosines; 64 unless given."""

    def __post_init__(self) -> None:
        check_head(self.label_head, self.margin, self.scale)
        if not 0 < self.temperature < math.inf:
            raise UserError(f"--temperature {self.temperature}: use a number above zero, such as 4")
        if self.top_k < 0 or self.top_k == 1:
            raise UserError(f"--top-k {self.top_k}: use 2 classes or more, or 0 for all of them")
        if not 0 <= self.weights_decay < math.inf:
            raise UserError(f"--weights-decay {self.weights_decay}: use zero or a number above it")


@settings("Teacher")
class Teaching:
    """Who teaches."""

    teacher: Annotated[Path | list[Path] | None, FIRST] = None
    """Run folder of a trained teacher, an ONNX embedder or a .pt; give it again for more."""
    contract: Path | list[Path] | None = None
    """What an ONNX teacher expects of a crop, where facekd does not know it; of several such teachers one each, in
    their order."""
    combine: Combine | None = None
    """Of several teachers. concat, unless given: their embeddings one after another, so that cosines are the mean of
    theirs. average: turned into the first one's space and averaged."""
    teacher_backend: Backend | None = None
    """What runs ONNX teachers; onnxruntime unless given, or torch where the training runs on a GPU and onnx2torch is
    installed. openvino can be much quicker on a CPU."""
    joint: str | None = None
    """Instead of --teacher, the network of one that learns in this run, such as iresnet18."""

    def __post_init__(self) -> None:
        teachers, contracts = self.teachers, self.contracts
        if self.joint is not None and teachers:
            raise UserError(
                f"--joint {self.joint}: trains its own teacher, and --teacher {teachers[0]} is a finished one; give "
                "one of them"
            )
        if contracts and not teachers:
            raise UserError(f"--contract {contracts[0]}: is for a teacher; give --teacher too, or leave it out")
        if self.teacher_backend is not None and not any(path.suffix == ".onnx" for path in teachers):
            raise UserError(
                f"--teacher-backend {self.teacher_backend}: runs ONNX teachers, and there is none; leave it out"
            )
        if self.combine is not None and len(teachers) < 2:
            raise UserError(f"--combine {self.combine}: is for several teachers; give --teacher twice, or leave it out")

    @property
    def teachers(self) -> list[Path]:
        return _several(self.teacher)

    @property
    def contracts(self) -> list[Path]:
        return _several(self.contract)


@settings("Views")
class Views:
    """The views in which training sees the crops."""

    augment: Augment = "plain"
    """Kind of views: plain; occluded, most of which have a rectangle masked or taken from another crop; or flip, the
    crop and its mirror image alone."""


@settings("Views")
class KeptViews(Views):
    """The same, where what the teacher says of them can be kept."""

    views: int = 0
    """Views of a crop, shown in turn, of which the teacher's embeddings are kept; 0 is a new one each time."""
    cache: Path = CACHES
    """Where 'facekd cache build' and --views keep them."""


@settings("Data")
class TeacherViews(TrainingData, KeptViews):
    """What a teacher is asked, as a distillation with the same settings asks it."""

    teacher: Annotated[Path, FIRST]
    """Run folder of a trained teacher, or an ONNX embedder."""
    contract: Path | None = None
    """What an ONNX teacher expects of a crop, where facekd does not know it."""
    teacher_backend: Backend | None = None
    """What runs an ONNX teacher; onnxruntime unless given, or torch where the training runs on a GPU and onnx2torch is
    installed. openvino can be much quicker on a CPU."""
    views: int = 8
    """Views of each crop; training shows them in turn."""
    seed: int = 0
    """Of the split and the views, as in the distillation."""


@settings("Runtime")
class TrainingRuntime:
    """On what a training runs."""

    compile: bool | None = None
    """Train through torch.compile: a minute of waiting, then quicker steps. Needs a C++ compiler. Unless given, as auto
    finds it worth it."""
    precision: Precision | None = "auto"
    """auto, which tries on this machine what is quickest and agrees with fp32; fp32; or bf16 or, on a GPU, fp16 where
    that is safe. The weights stay in fp32. RUN/run.yaml holds what was chosen."""


def check_head(name: HeadName, margin: float | None, scale: float | None) -> None:
    """Pass where the head takes these numbers.

    Raises:
        UserError: a margin or a scale that this head has not, or out of its range.
    """
    own = HEADS[name]
    if margin is not None and own.margin is None:
        raise UserError(f"--margin {margin:g}: {name} has no margin; leave it out, or choose cosface or arcface")
    if scale is not None and own.scale is None:
        raise UserError(f"--scale {scale:g}: {name} has no scale; leave it out, or choose normsoftmax or arcface")
    largest = 1.0 if name == "cosface" else math.pi / 2
    if margin is not None and not 0 <= margin <= largest:
        unit = "a difference of cosines" if name == "cosface" else "radians"
        raise UserError(f"--margin {margin:g}: is {unit} for {name}; use a number from 0 to {largest:.3g}")
    if scale is not None and not 0 < scale < math.inf:
        raise UserError(f"--scale {scale:g}: use a number above zero, such as 64")


def _several(one_or_more: Path | list[Path] | None) -> list[Path]:
    if one_or_more is None:
        return []
    return [one_or_more] if isinstance(one_or_more, Path) else list(one_or_more)
