"""How verify judges: what a protocol does otherwise than the default."""

from __future__ import annotations

from pathlib import Path

from facekd.errors import UserError
from facekd.settings.group import settings


@settings("Data")
class ProtocolSwitches:
    """What is done otherwise, as a published protocol does it."""

    flip: bool = False
    """The flip test: each crop's embedding and that of its mirror image are added, then normalized."""
    keep_repeats: bool = False
    """Count pairs that a list repeats as often as it does, as CFP's frontal list is published."""
    distractors: Path | None = None
    """With --identification, a store of crops, or with --embeddings a file of embeddings, of people whom no probe
    shows: the gallery grows by them, as in MegaFace."""
    blufr: bool = False
    """BLUFR on the LFW people of the photos: ten trials, the mean less the standard deviation of TAR at FAR 1e-3 and
    of rank 1 at FPIR 1e-2."""
    blufr_config: Path | None = None
    """BLUFR's blufr_lfw_config.mat with the ten trials as published; without it they are dealt by its rule."""
    attributes: Path | None = None
    """A CSV or Parquet, first column photo or identity, the others its groups: rates of each group, and FMR across
    groups; --group chooses among the columns."""

    def __post_init__(self) -> None:
        if self.blufr_config is not None and not self.blufr:
            raise UserError("--blufr-config holds BLUFR's trials; add --blufr")
