"""What a training across sites is asked: where the sites are, who teaches, and how they take turns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from facekd.core.choices import Augment, Backend, OptimizerName
from facekd.errors import UserError
from facekd.settings.group import FIRST, settings

HIDDEN_AMONG = 3  # sites: of two, each could take its own weights from the sum and have the other's


@settings("Sites")
class Sites:
    """Where the crops are, and how the sites take turns."""

    simulate: Annotated[int | None, FIRST] = None
    """Play as many sites on this machine: the people of --data are dealt out to them."""
    app: Annotated[Path | None, FIRST] = None
    """Instead, write the Flower app for real sites into this folder, and say what each side runs."""
    data: Annotated[list[Path] | None, FIRST] = None
    """With --simulate, crop store, image Parquet or .rec; give it again for more. A real site names its own."""
    held_out: float = 0.15
    """Share of the identities that no site trains on; a real site holds out of its own."""
    minimum: int = 2
    """Leave people with fewer crops out."""
    rounds: Annotated[int, FIRST] = 10
    """Times the sites' weights are averaged."""
    steps: Annotated[int, FIRST] = 20
    """Steps of each site in a round."""
    least: int | None = None
    """Sites whose weights a round needs; with fewer the run ends, and goes on when it is started again. Unless given 2,
    with --secure 3."""
    sites: int = 2
    """With --app, sites to wait for before the first round."""
    patience: float = 60.0
    """Minutes to wait for the sites, before the first round and in each; who is later is left out of it."""
    secure: bool = False
    """Secure aggregation, Flower's SecAgg+: the coordinator sees the sum of the sites' weights and no site's own. Needs
    three sites."""

    def __post_init__(self) -> None:
        if self.simulate is not None and self.app is not None:
            raise UserError(
                f"--simulate {self.simulate}: plays sites here, --app {self.app} is for real ones; give one"
            )
        if self.simulate is not None and not self.data:
            raise UserError(f"--simulate {self.simulate}: deals out the people of --data; give it too")
        if self.app is not None and self.data:
            raise UserError("--data: real sites name their own crops; leave it out, or use --simulate")
        problems = [
            (not 0 <= self.held_out < 1, f"--held-out {self.held_out}: use a number from 0 up to, but not, 1"),
            (self.minimum < 1, f"--minimum {self.minimum}: use 1 or more photos of a person"),
            (self.rounds < 1, f"--rounds {self.rounds}: use 1 or more"),
            (self.steps < 1, f"--steps {self.steps}: use 1 or more"),
            (self.needed < 1, f"--least {self.needed}: use 1 or more sites"),
            (not 0 < self.patience < math.inf, f"--patience {self.patience}: use a number of minutes above zero"),
            (self.count < 1, f"--{'sites' if self.simulate is None else 'simulate'} {self.count}: use 2 or more sites"),
            (self.secure and self.count < HIDDEN_AMONG, f"--secure: hides a site among others, and {self.count} are "
             "too few; three or more are needed"),
            (self.secure and self.needed < HIDDEN_AMONG, f"--least {self.needed}: of two sites each could take its "
             "own weights from the sum and have the other's; with --secure use 3 or more"),
            (self.count < self.needed, f"--least {self.needed}: is more than the {self.count} sites; lower it"),
        ]  # fmt: skip
        for wrong, sentence in problems:
            if wrong:
                raise UserError(sentence)

    def check_chosen(self) -> None:
        """Pass where there are sites.

        Raises:
            UserError: neither kind is asked for.
        """
        if self.simulate is None and self.app is None:
            raise UserError("give --simulate N, to play sites on this machine, or --app DIR, for real ones")

    @property
    def needed(self) -> int:
        """How many sites a round needs."""
        return self.least if self.least is not None else HIDDEN_AMONG if self.secure else 2

    @property
    def count(self) -> int:
        """How many sites there are to be."""
        return self.sites if self.simulate is None else self.simulate


@settings("Teacher")
class SharedTeacher:
    """A teacher that all sites may have, each its own copy."""

    teacher: Annotated[Path, FIRST]
    """Run folder of a trained teacher or an ONNX embedder."""
    contract: Path | None = None
    """What an ONNX teacher expects of a crop, where facekd does not know it."""
    teacher_backend: Backend | None = None
    """What runs an ONNX teacher; onnxruntime unless given."""


@settings("Student")
class SharedStudent:
    """The student whose weights travel."""

    net: Annotated[str, FIRST] = "mobilefacenet"
    """One of the networks of 'facekd nets'."""
    dim: int | None = None
    """Length of the embedding; the teacher's unless given. With another, a map to the teacher's travels too."""
    activation: Literal["prelu", "relu"] = "prelu"
    """Of MobileFaceNet: prelu is the paper's, relu is quicker on some runtimes."""
    init_from: Annotated[Path | None, FIRST] = None
    """Run folder of a trained network of the same --net, such as 'facekd narrow' leaves: all sites begin at its
    weights, which the coordinator sends them."""


@settings("Optimization")
class SiteOptimization:
    """How a site trains; each round begins without momentum, so that a site needs to remember nothing."""

    batch: Annotated[int, FIRST] = 32
    """Crops in a step."""
    lr: Annotated[float | None, FIRST] = None
    """Highest learning rate, on its way down over all rounds; unless given as of 'facekd distill'."""
    optimizer: OptimizerName = "muon"
    """muon, sgd or adamw."""
    weight_decay: float = 4e-5
    """On convolutions and linear layers."""
    augment: Augment = "plain"
    """Kind of views, as of 'facekd distill'."""
    term: list[str] | None = None
    """NAME=WEIGHT of what is learned from the teacher's embeddings; embedding=10 unless given. Terms on labels are not
    taken: each site has its own people."""

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise UserError(f"--batch {self.batch}: use 2 or more, a norm over one crop is undefined")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise UserError(f"--lr {self.lr}: use a number above zero")
        if not 0 <= self.weight_decay < math.inf:
            raise UserError(f"--weight-decay {self.weight_decay}: use zero or a number above it")
