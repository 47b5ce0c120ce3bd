"""The Flower app of a training across real sites: what its SuperLink and SuperNodes run, and how they are told to."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from facekd.console import say
from facekd.core.files import write_text
from facekd.core.process import left_as_it_was
from facekd.core.types import Array
from facekd.engines.flower import asker_of, site_app, wait_for_sites
from facekd.errors import UserError
from facekd.recipes.federate import federate_rounds
from facekd.recipes.plan import hold_run
from facekd.recipes.site import Assignment, SiteFiles, do
from facekd.settings.federation import Sites

NAME = 'name = "facekd-federated"'
PROJECT = f"""[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
{NAME}
version = "1.0.0"
description = "One student of several sites' crops, which stay there"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "facekd"

[tool.flwr.app.components]
serverapp = "facekd_sites:server"
clientapp = "facekd_sites:client"

[tool.flwr.app.config]
"""
MODULE = """from facekd.recipes.federated_app import coordinator, sites

server = coordinator()
client = sites({secure})
"""


def write_app(folder: Path, assignment: Assignment, asked: Sites, out: Path) -> list[str]:
    """Write the app, and say what each side runs.

    Args:
        out: where the coordinator leaves the student; on the machine of the SuperLink.

    Raises:
        UserError: the folder holds another project, or can't be written.
    """
    values = {
        "assignment": assignment.to_json(),
        "out": str(out.absolute()),
        "sites": asked.sites,
        "least": asked.needed,
        "patience": asked.patience,
        "secure": asked.secure,
    }
    # TOML writes these as JSON does, but for DEL, which it wants escaped.
    texts = {key: json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f") for key, value in values.items()}
    project = folder / "pyproject.toml"
    if project.exists() and NAME not in _text(project):
        raise UserError(
            f"--app {folder}: has a pyproject.toml of another project, which would be written over; choose another"
        )
    write_text(project, PROJECT + "".join(f"{key} = {text}\n" for key, text in texts.items()))
    write_text(folder / "facekd_sites.py", MODULE.format(secure=asked.secure))
    quiet = "FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1"
    site = 'name="CLINIC-A" data="/path/of/crops" teacher="/path/of/teacher"'
    tls = "--ssl-ca-certfile ca.crt --ssl-certfile server.pem --ssl-keyfile server.key"
    return [
        f"{folder}: the Flower app; with facekd[federated] installed on all sides:",
        f"  here:          {quiet} flower-superlink --host 0.0.0.0 {tls}",
        f"  at each site:  {quiet} flower-supernode --superlink HOST:8000 --root-certificates ca.crt "
        f"--node-config '{site}'",
        '  here, into ~/.flwr/config.toml: [superlink.sites], address = "HOST:8000", '
        'root-certificates = "/full/path/ca.crt"',
        f"  here, to begin: {quiet} flwr run {shlex.quote(str(folder))} sites --stream",
        f"the student comes to be in {out.absolute()}",
    ]


def _text(path: Path) -> str:
    """What a file says; nothing where it can't be read as text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def coordinator() -> ServerApp:
    """What runs beside the SuperLink."""
    app = ServerApp()

    def main(grid: Grid, context: Context) -> None:
        try:
            with left_as_it_was():
                _coordinate(grid, context)
        except UserError as error:
            say(str(error))
            raise  # Flower puts the sentence into the run's status; of an exit it would wait for a sign of life

    logging.getLogger("flwr").addFilter(_without_traceback)
    app.main()(main)
    return app


def _without_traceback(record: logging.LogRecord) -> bool:
    """A user's mistake is no fault of the program: its sentence is enough."""
    if record.exc_info and isinstance(record.exc_info[1], UserError):
        record.exc_info = None
    return True


def _coordinate(grid: Grid, context: Context) -> None:
    """Wait for the sites, and go through the rounds.

    Raises:
        UserError: settings that can't be, as ``flwr run --run-config`` may change them; an app of another facekd;
            another run in the same folder; or too few sites.
    """
    asked: Mapping[str, Any] = context.run_config
    least, patience = int(asked["least"]), float(asked["patience"])
    count, secure = int(asked["sites"]), bool(asked["secure"])
    Sites(app=Path(), sites=count, least=least, patience=patience, secure=secure)  # refuses what can't be
    text = str(asked["assignment"])
    assignment = Assignment.from_json(text)
    out = Path(str(asked["out"]))
    hold_run(out)
    wait_for_sites(grid, count, patience, say)
    ask = asker_of(grid, context, text, patience, secure)
    about = {"assignment": text, "sites": "real"}
    federate_rounds(ask, assignment, lambda net: {}, out, about, least, quiet=False)


def sites(secure: bool) -> ClientApp:
    """What runs at a site."""
    return site_app(_at_a_site, secure)


def _at_a_site(
    asked: str, text: str, step: int, arrays: dict[str, Array], node: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, float]]:
    """`recipes.site.do` with the paths that a site's ``--node-config`` names."""
    if "data" not in node or "teacher" not in node:
        raise UserError('its --node-config names no data or no teacher; give data="CROPS" and teacher="FILE"')
    contract, backend = node.get("contract"), node.get("teacher-backend")
    place = SiteFiles(
        tuple(Path(part) for part in str(node["data"]).split(":")), Path(str(node["teacher"])),
        None if contract is None else Path(str(contract)), backend,
        held_out=float(node.get("held-out", 0.15)), minimum=int(node.get("minimum", 2)),
    )  # fmt: skip
    return do(asked, text, step, arrays, place)
