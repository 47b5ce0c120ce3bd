"""Where the work is done."""

from __future__ import annotations

from facekd.core.choices import Engine
from facekd.settings.group import settings


@settings("Runtime")
class Cluster:
    """This machine or a Ray cluster; see `engines.mapper`, which refuses what can't be."""

    engine: Engine = "local"
    """local, on the cores of this machine; ray, on a Ray cluster, with the same result."""
    address: str | None = None
    """The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines need facekd,
    and the photos, models and weights at the same paths."""
