"""What commands are asked about the machine that they run on."""

from __future__ import annotations

from facekd.core.choices import Engine
from facekd.errors import UserError
from facekd.settings.group import settings


@settings("Runtime")
class Cluster:
    """Where the work of one command is shared out."""

    engine: Engine = "local"
    """local: the cores of this machine; ray: a Ray cluster."""
    address: str | None = None
    """The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here."""

    def __post_init__(self) -> None:
        if self.address is not None and self.engine != "ray":
            raise UserError(f"--address {self.address} is of a Ray cluster; add --engine ray or leave it out")
