"""Where the work is done."""

from __future__ import annotations

from facekd.core.choices import Engine
from facekd.errors import UserError
from facekd.settings.group import settings


@settings("Runtime")
class Cluster:
    """This machine or a Ray cluster."""

    engine: Engine = "local"
    """local, on this machine; ray, on a Ray cluster, with the same result; verify takes it for --all-pairs."""
    address: str | None = None
    """The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines need facekd,
    and the photos, models and weights at the same paths."""

    def __post_init__(self) -> None:
        if self.address is not None and self.engine != "ray":
            raise UserError(f"--address {self.address} is of a Ray cluster; add --engine ray or leave it out")
