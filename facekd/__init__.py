"""From photos of people to a small network that tells them apart, and the proof of how well it does.

    import facekd

    facekd.align("photos", "crops")
    embedder = facekd.Embedder.load("model.onnx")

Every command of the command line is a function here: ``facekd train-teacher`` is `train_teacher`, ``facekd gallery
info`` is `gallery_info`. Only `facekd.nets` is the package of the networks; its command is `facekd.commands.nets.nets`.
All of them are loaded when they are asked for: ``import facekd`` itself takes no time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Libraries look at these when they are loaded, which nothing in here does before; processes started later inherit them.
for _switch, _silent in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "FLWR_TELEMETRY_ENABLED": "0",  # Flower
    "FLWR_DISABLE_UPDATE_CHECK": "1",
}.items():
    os.environ.setdefault(_switch, _silent)

if TYPE_CHECKING:  # for type checkers and editors, which run nothing
    from facekd.api import Embedder as Embedder
    from facekd.api import Gallery as Gallery
    from facekd.commands.align import align as align
    from facekd.commands.audit import audit as audit
    from facekd.commands.cache import build as cache_build
    from facekd.commands.cache import gc as cache_gc
    from facekd.commands.cache import verify as cache_verify
    from facekd.commands.cluster import cluster as cluster
    from facekd.commands.compare import compare as compare
    from facekd.commands.distill import distill as distill
    from facekd.commands.doctor import doctor as doctor
    from facekd.commands.embed import embed as embed
    from facekd.commands.enroll import enroll as enroll
    from facekd.commands.export import export as export
    from facekd.commands.federate import federate as federate
    from facekd.commands.gallery import delete as gallery_delete
    from facekd.commands.gallery import export as gallery_export
    from facekd.commands.gallery import import_ as gallery_import
    from facekd.commands.gallery import index as gallery_index
    from facekd.commands.gallery import info as gallery_info
    from facekd.commands.gallery_migrate import migrate as gallery_migrate
    from facekd.commands.gallery_people import merge as gallery_merge
    from facekd.commands.gallery_people import purge as gallery_purge
    from facekd.commands.gallery_people import rename as gallery_rename
    from facekd.commands.identify import identify as identify
    from facekd.commands.leak import leak as leak
    from facekd.commands.narrow import narrow as narrow
    from facekd.commands.quickstart import quickstart as quickstart
    from facekd.commands.same import same as same
    from facekd.commands.serve import serve as serve
    from facekd.commands.sweep import sweep as sweep
    from facekd.commands.synth import synth as synth
    from facekd.commands.train_teacher import train_teacher as train_teacher
    from facekd.commands.verify import verify as verify
    from facekd.transformer import FaceTransformer as FaceTransformer

    __version__: str

__all__ = ["Embedder", "FaceTransformer", "Gallery"]  # what is loaded later; of commands see __dir__
_HOMES = {
    "Embedder": "facekd.api:Embedder",
    "Gallery": "facekd.api:Gallery",
    "FaceTransformer": "facekd.transformer:FaceTransformer",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("facekd")
    if name.startswith("_"):  # what Python and its tools ask any module for
        raise AttributeError(f"module 'facekd' has no attribute {name!r}")
    import importlib

    from facekd.core.extras import told_of_missing
    from facekd.core.suggest import nearest

    homes = _HOMES if name in _HOMES else _HOMES | _commands()
    if name not in homes:
        raise AttributeError(f"module 'facekd' has no attribute {name!r}{nearest(name, homes)}")
    module, _, own = homes[name].partition(":")
    with told_of_missing(f"facekd.{name}"):
        found = importlib.import_module(module)
        return getattr(found, own) if own else found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES, *_commands(), "__version__"])


def _commands() -> dict[str, str]:
    """Where each command's function is, by its name in Python; from the one table of commands."""
    from importlib.util import find_spec

    from facekd.cli import COMMANDS, GROUPS

    table = {name: target for name, (target, _) in COMMANDS.items()}
    for first, (_, commands) in GROUPS.items():
        table |= {f"{first}-{name}": target for name, (target, _) in commands.items()}
    named = {name.replace("-", "_"): target for name, target in table.items()}
    # A package's name stays the package's: once imported it would stand in the function's place.
    return {name: f"facekd.{name}" if find_spec(f"facekd.{name}") else target for name, target in named.items()}
